//! Making runs, once, and forgetting them.

use super::desk::*;
use super::every_backend;
use treadle::journal::{JournalError, NewRun, OwnerId, Phase, Reply, Request};

every_backend!(
    the_same_key_gives_the_same_run,
    the_same_id_gives_the_same_run,
    a_key_belongs_to_its_workflow,
    a_deleted_run_is_gone_and_its_key_is_free,
    a_run_that_is_executed_is_not_deleted,
    pruning_forgets_the_oldest_that_are_over,
);

fn keyed(number: u64, workflow: &str, key: &str, input: u8) -> NewRun {
    NewRun { workflow: workflow.into(), key: Some(key.into()), input: [input; 32], ..run(number) }
}

fn create(run: NewRun, owner: Option<OwnerId>) -> Request {
    Request::Create { run, owner, commit: commit(&["a"]) }
}

fn the_same_key_gives_the_same_run(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create(keyed(1, "w", "order-42", 7), Some(A), commit(&["a"]));
    let there = Ok(Reply::Exists { id: id(1), input: [7; 32] });
    assert_eq!(desk.ask(create(keyed(2, "w", "order-42", 8), Some(A))), there);
    assert_eq!(other.ask(create(keyed(3, "w", "order-42", 7), Some(B))), there);
    assert_eq!(desk.load(id(1)).records, texts(&["a"]));
    assert_eq!(desk.ask(Request::Get { run: id(2) }), Err(JournalError::UnknownRun(id(2))));
    desk.append(id(1), 1, 1, ending(Phase::Completed, ""));
    assert_eq!(desk.ask(create(keyed(2, "w", "order-42", 8), Some(A))), there);
}

fn the_same_id_gives_the_same_run(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    let there = Ok(Reply::Exists { id: id(1), input: [1; 32] });
    assert_eq!(desk.ask(create(run(1), Some(A))), there);
    assert_eq!(desk.ask(create(keyed(1, "w", "k", 2), None)), there);
    desk.create(keyed(2, "w", "k", 2), None, commit(&[]));
}

fn a_key_belongs_to_its_workflow(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(keyed(1, "w", "k", 1), None, commit(&[]));
    desk.create(keyed(2, "v", "k", 1), None, commit(&[]));
    desk.create(keyed(3, "w", "", 1), None, commit(&[]));
    desk.create(keyed(4, "w", "k\0", 1), None, commit(&[]));
    assert_eq!(desk.get(id(4)).0.key, Some("k\0".into()));
    assert_eq!(desk.get(id(3)).0.key, Some(String::new()));
}

fn a_deleted_run_is_gone_and_its_key_is_free(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(keyed(1, "w", "k", 1), None, commit(&["a"]));
    desk.send(id(1), 1, "m");
    desk.done(Request::Delete { run: id(1) });
    for request in [Request::Delete { run: id(1) }, Request::Get { run: id(1) }, send(id(1), 1, "m")] {
        assert_eq!(desk.ask(request), Err(JournalError::UnknownRun(id(1))));
    }
    assert_eq!(desk.claim(A, 2000), vec![]);
    desk.create(keyed(2, "w", "k", 1), Some(A), commit(&["b"]));
    assert_eq!(desk.load(id(2)).records, texts(&["b"]));
    assert_eq!(desk.load(id(2)).inbox, vec![]);
}

fn a_run_that_is_executed_is_not_deleted(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    assert_eq!(desk.ask(Request::Delete { run: id(1) }), Err(JournalError::RunActive(id(1))));
    desk.done(Request::Release { owner: A });
    desk.done(Request::Delete { run: id(1) });
}

fn pruning_forgets_the_oldest_that_are_over(store: &dyn Store) {
    let desk = store.open_as(A);
    for number in 1..=6 {
        desk.create(run(number), Some(A), commit(&["a"]));
    }
    for number in [5, 3, 1, 4] {
        let end = treadle::journal::Commit { at: 100 + number, ..ending(Phase::Failed, "x") };
        desk.append(id(number), 1, 1, end);
    }
    let prune = |finished_before, limit| desk.ask(Request::Prune { finished_before, limit });
    assert_eq!(prune(101, 10), Ok(Reply::Pruned { runs: 0 }));
    assert_eq!(prune(105, 2), Ok(Reply::Pruned { runs: 2 }));
    let all = || desk.list(treadle::journal::Filter { limit: 10, ..Default::default() });
    assert_eq!(all(), [6, 5, 4, 2].map(id));
    assert_eq!(prune(105, 10), Ok(Reply::Pruned { runs: 1 }));
    assert_eq!(prune(u64::MAX, 10), Ok(Reply::Pruned { runs: 1 }));
    assert_eq!(all(), [6, 2].map(id));
}

//! Operations whose answers were lost are sent again, through the same handle or another one.

use super::desk::*;
use super::every_backend;
use treadle::journal::{Claim, Commit, JournalError, OpId, Phase, Reply, Request, Status};

every_backend!(
    an_append_is_written_once,
    an_append_without_records_is_known_again,
    an_append_that_is_not_the_last_one_is_a_conflict,
    an_append_is_acknowledged_also_when_its_run_was_taken_over,
    an_end_is_written_once,
    commits_without_a_name_are_never_known_again,
    a_creation_is_known_again_as_long_as_the_run_is_there,
    another_run_of_the_key_is_no_creation_again,
    a_run_is_opened_again_once,
    a_run_is_opened_again_once_though_it_has_gone_on_elsewhere,
    a_run_that_was_opened_again_and_taken_over_is_another_owners,
    a_claim_is_answered_with_what_it_took,
    a_claim_leaves_out_what_got_further_since,
    a_claim_of_another_name_takes_other_runs,
    what_was_sent_again_is_known_again_after_opening_again,
);

const EMPTY: &[&str] = &[];

fn append(name: u8, epoch: u64, after: u64, commit: Commit) -> Request {
    Request::Append { run: id(1), epoch, after, commit: named(name, commit) }
}

fn an_append_is_written_once(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open());
    desk.create(run(1), Some(A), named(1, commit(&["a"])));
    desk.send(id(1), 1, "m");
    let number = desk.load(id(1)).inbox[0].number;
    let published = vec![(1, b"p".to_vec())];
    let request = append(2, 1, 1, Commit { consumed: vec![number], published, ..commit(&["b", "c"]) });
    for desk in [&desk, &desk, &other] {
        assert_eq!(desk.ask(request.clone()), Ok(Reply::appended(3)));
        assert_eq!(desk.load(id(1)).records, texts(&["a", "b", "c"]));
    }
    assert_eq!(desk.ask_all(vec![append(3, 1, 3, commit(&["d"])), append(3, 1, 3, commit(&["d"]))]), {
        [Ok(Reply::appended(4)), Ok(Reply::appended(4))]
    });
    assert_eq!(desk.load(id(1)).run.op, OpId([3; 16]));
}

fn an_append_without_records_is_known_again(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), named(1, commit(&["a"])));
    let status = Status { phase: Phase::Waiting, due: Some(7) };
    let request = append(2, 1, 1, Commit { status, release: true, ..commit(EMPTY) });
    for _ in 0..2 {
        assert_eq!(desk.ask(request.clone()), Ok(Reply::appended(1)));
    }
    let late = append(3, 1, 1, commit(EMPTY));
    assert_eq!(desk.ask(late), Err(JournalError::Conflict(id(1))), "the run was handed back");
}

fn an_append_that_is_not_the_last_one_is_a_conflict(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), named(1, commit(&["a"])));
    desk.append(id(1), 1, 1, named(2, commit(&["b"])));
    desk.append(id(1), 1, 2, named(3, commit(EMPTY)));
    assert_eq!(desk.ask(append(2, 1, 1, commit(&["b"]))), Err(JournalError::Conflict(id(1))));
    assert_eq!(desk.ask(append(4, 1, 1, commit(&["b"]))), Err(JournalError::Conflict(id(1))));
}

fn an_append_is_acknowledged_also_when_its_run_was_taken_over(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create(run(1), Some(A), named(1, commit(&["a"])));
    desk.append(id(1), 1, 1, named(2, commit(&["b"])));
    desk.done(Request::Release { owner: A });
    assert_eq!(desk.ask(append(2, 1, 1, commit(&["b"]))), Ok(Reply::appended(2)));
    assert_eq!(other.claim(B, 0).len(), 1);
    other.append(id(1), 2, 2, named(3, commit(&["c"])));
    assert_eq!(desk.ask(append(2, 1, 1, commit(&["b"]))), Err(JournalError::Conflict(id(1))));
    assert_eq!(desk.load(id(1)).records, texts(&["a", "b", "c"]));
}

fn an_end_is_written_once(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), named(1, commit(&["a"])));
    for _ in 0..2 {
        let end = append(2, 1, 1, ending(Phase::Completed, "result"));
        assert_eq!(desk.ask(end), Ok(Reply::appended(2)));
    }
    assert_eq!(desk.get(id(1)).1, Some(b"result".to_vec()));
}

fn commits_without_a_name_are_never_known_again(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    desk.append(id(1), 1, 1, commit(&["b"]));
    assert_eq!(desk.try_append(id(1), 1, 1, commit(&["b"])), Err(JournalError::Conflict(id(1))));
    let again = Request::Create { run: run(1), owner: Some(A), commit: commit(&["a"]) };
    assert_eq!(desk.ask(again), Ok(Reply::Exists { id: id(1), input: [1; 32] }));
}

fn a_creation_is_known_again_as_long_as_the_run_is_there(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    let keyed = treadle::journal::NewRun { key: Some("k".into()), ..run(1) };
    let create = Request::Create { run: keyed, owner: Some(A), commit: named(1, commit(&["a"])) };
    assert_eq!(desk.ask(create.clone()), Ok(Reply::Created { epoch: 1 }));
    assert_eq!(desk.ask(create.clone()), Ok(Reply::Created { epoch: 1 }));
    let answers = desk.ask_all(vec![create.clone(), append(2, 1, 1, commit(&["b"]))]);
    assert_eq!(answers, [Ok(Reply::Created { epoch: 1 }), Ok(Reply::appended(2))]);
    desk.done(Request::Release { owner: A });
    assert_eq!(other.claim(B, 0).len(), 1);
    other.append(id(1), 2, 2, named(3, commit(&["c"])));
    assert_eq!(desk.ask(create.clone()), Ok(Reply::Created { epoch: 1 }), "the epoch that it was made in");
    assert_eq!(desk.ask(append(4, 1, 1, commit(&["x"]))), Err(JournalError::Conflict(id(1))));
    assert_eq!(desk.load(id(1)).records, texts(&["a", "b", "c"]));
}

fn another_run_of_the_key_is_no_creation_again(store: &dyn Store) {
    let desk = store.open_as(A);
    let keyed = |number| treadle::journal::NewRun { key: Some("k".into()), ..run(number) };
    let create =
        |number, name| Request::Create { run: keyed(number), owner: Some(A), commit: named(name, commit(&["a"])) };
    assert_eq!(desk.ask(create(1, 1)), Ok(Reply::Created { epoch: 1 }));
    for _ in 0..2 {
        assert_eq!(desk.ask(create(2, 2)), Ok(Reply::Exists { id: id(1), input: [1; 32] }));
    }
}

fn a_run_is_opened_again_once(store: &dyn Store) {
    let desk = store.open_as(A);
    let reopen =
        |name, after, owner| Request::Reopen { run: id(1), after, owner, commit: named(name, commit(&["again"])) };
    desk.create(run(1), Some(A), named(1, ending(Phase::Failed, "why")));
    for _ in 0..2 {
        assert_eq!(desk.ask(reopen(2, 1, Some(A))), Ok(Reply::Reopened { epoch: 2, seq: 2 }));
    }
    assert_eq!(desk.ask(reopen(3, 1, Some(A))), Err(JournalError::Conflict(id(1))));
    desk.append(id(1), 2, 2, named(4, ending(Phase::Failed, "why")));
    for _ in 0..2 {
        assert_eq!(desk.ask(reopen(5, 3, None)), Ok(Reply::Reopened { epoch: 2, seq: 4 }));
    }
    assert_eq!(desk.load(id(1)).records, texts(&["ends", "again", "ends", "again"]));
}

fn a_run_is_opened_again_once_though_it_has_gone_on_elsewhere(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create(run(1), Some(A), named(1, ending(Phase::Failed, "why")));
    let reopen = Request::Reopen { run: id(1), after: 1, owner: None, commit: named(2, commit(&["again"])) };
    assert_eq!(desk.ask(reopen.clone()), Ok(Reply::Reopened { epoch: 1, seq: 2 }));
    // The answer is lost, and before it is asked for again the run is claimed, written to and ended.
    assert_eq!(other.claim(B, 0).len(), 1);
    assert_eq!(desk.ask(reopen.clone()), Ok(Reply::Reopened { epoch: 2, seq: 2 }));
    other.append(id(1), 2, 2, named(3, commit(&["more"])));
    assert_eq!(desk.ask(reopen.clone()), Ok(Reply::Reopened { epoch: 2, seq: 3 }));
    other.append(id(1), 2, 3, named(4, ending(Phase::Failed, "why")));
    assert_eq!(desk.ask(reopen), Ok(Reply::Reopened { epoch: 2, seq: 4 }));
    assert_eq!(desk.load(id(1)).records, texts(&["ends", "again", "more", "ends"]));
}

fn a_run_that_was_opened_again_and_taken_over_is_another_owners(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create(run(1), Some(A), named(1, ending(Phase::Failed, "why")));
    let reopen = Request::Reopen { run: id(1), after: 1, owner: Some(A), commit: named(2, commit(&["again"])) };
    assert_eq!(desk.ask(reopen.clone()), Ok(Reply::Reopened { epoch: 2, seq: 2 }));
    desk.done(Request::Release { owner: A });
    assert_eq!(other.claim(B, 0).len(), 1);
    assert_eq!(desk.ask(reopen.clone()), Err(JournalError::LeaseLost(A)));
    desk.done(enlist(A, LEASE));
    assert_eq!(desk.ask(reopen), Err(JournalError::Conflict(id(1))));
}

fn claim(name: u8, limit: usize) -> Claim {
    Claim { op: OpId([name; 16]), ..claim_of(A, 0, limit) }
}

fn taken(desk: &Desk, claim: Claim) -> Vec<(treadle::RunId, u64)> {
    match desk.ask(Request::Claim(claim)) {
        Ok(Reply::Claimed(claimed)) => {
            let mut runs: Vec<_> = claimed.runs.iter().map(|row| (row.id, row.epoch)).collect();
            runs.sort_unstable();
            runs
        }
        other => panic!("{other:?}"),
    }
}

fn a_claim_is_answered_with_what_it_took(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open());
    desk.create_each(1..=3, None);
    let first = taken(&desk, claim(1, 2));
    assert_eq!(first.len(), 2);
    for desk in [&desk, &other] {
        assert_eq!(taken(desk, claim(1, 2)), first, "in the same epochs");
    }
    assert_eq!(taken(&desk, claim(2, 2)).len(), 1);
}

fn a_claim_leaves_out_what_got_further_since(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create_each(1..=3, None);
    assert_eq!(taken(&desk, claim(1, 3)), [1, 2, 3].map(|number| (id(number), 1)));
    desk.append(id(1), 1, 1, named(9, commit(&["b"])));
    desk.append(id(2), 1, 1, named(9, released(commit(&["b"]))));
    assert_eq!(other.claim(B, 0).len(), 1);
    assert_eq!(taken(&desk, claim(1, 3)), [(id(3), 1)]);
    desk.done(Request::Release { owner: A });
    desk.done(enlist(A, LEASE));
    assert_eq!(taken(&desk, claim(1, 3)), [1, 3].map(|number| (id(number), 2)), "a claim of the next lease");
}

fn a_claim_of_another_name_takes_other_runs(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create_each(1..=2, None);
    assert_eq!(taken(&desk, claim(1, 1)).len(), 1);
    assert_eq!(taken(&desk, claim(2, 1)).len(), 1);
    assert_eq!(taken(&desk, claim(3, 1)).len(), 0);
    assert_eq!(taken(&desk, claim(2, 1)).len(), 1, "a claim that took nothing is none to remember");
}

fn what_was_sent_again_is_known_again_after_opening_again(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), named(1, commit(&["a"])));
    desk.append(id(1), 1, 1, named(2, commit(&["b"])));
    desk.create_each(2..=2, None);
    let first = taken(&desk, claim(3, 9));
    desk.journal.close();
    drop(desk);
    let desk = store.open();
    assert_eq!(desk.ask(append(2, 1, 1, commit(&["b"]))), Ok(Reply::appended(2)));
    assert_eq!(taken(&desk, claim(3, 9)), first);
}

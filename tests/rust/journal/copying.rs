//! Runs that move from one journal to another, as either journal sees them.

use super::desk::*;
use super::every_backend;
use treadle::RunId;
use treadle::journal::{
    Arrival, Commit, Copying, JournalError, OpId, OwnerId, Phase, Reply, Request, RunRow, Seen, Status, Traces,
};

every_backend!(
    a_run_is_taken_however_far_it_is_unless_it_is_executed,
    a_run_that_was_taken_is_one_owners_and_counts_no_recovery,
    a_run_that_arrives_is_not_executed_before_it_is_all_there,
    a_run_that_arrives_has_the_numbers_and_the_state_that_it_had,
    a_run_that_arrives_is_written_again_by_the_next_copier,
    only_a_run_that_arrives_is_written_so,
    a_run_leaves_with_every_message_that_it_has,
    a_run_that_has_left_is_kept_until_the_other_journal_was_told,
    the_names_of_consumed_messages_are_told,
);

fn take_as(owner: OwnerId, run: RunId, op: u8) -> Request {
    Request::Take { run, owner, op: OpId([op; 16]) }
}

fn take(desk: &Desk, owner: OwnerId, run: RunId) -> RunRow {
    match desk.ask(take_as(owner, run, 0)) {
        Ok(Reply::Taken(row)) => *row,
        other => panic!("{other:?}"),
    }
}

fn arriving(arrival: Arrival, commit: Commit) -> Commit {
    Commit { arrival: Some(Box::new(arrival)), ..commit }
}

fn seen(inbox: u64, dead_letters: u64) -> Seen {
    Seen { inbox, dead_letters }
}

fn a_run_is_taken_however_far_it_is_unless_it_is_executed(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create_each(1..=3, Some(A));
    desk.append(id(1), 1, 1, released(waiting(None)));
    desk.append(id(2), 1, 1, ending(Phase::Completed, "done"));
    assert_eq!(other.ask(take_as(B, id(3), 1)), Err(JournalError::RunActive(id(3))));
    assert_eq!(other.ask(take_as(B, id(4), 1)), Err(JournalError::UnknownRun(id(4))));
    for number in [1, 2] {
        let row = take(&other, B, id(number));
        assert_eq!((row.owner, row.epoch), (Some(B), 2));
        assert_eq!(desk.ask(Request::Delete { run: id(number) }), Err(JournalError::RunActive(id(number))));
    }
    assert_eq!(other.get(id(2)).1, Some(b"done".to_vec()));
    let Ok(Reply::Taken(first)) = other.ask(take_as(B, id(1), 7)) else { panic!("it is taken") };
    assert_eq!(other.ask(take_as(B, id(1), 7)), Ok(Reply::Taken(first)), "it is sent again");
    other.done(Request::Release { owner: B });
    assert_eq!(other.ask(take_as(B, id(1), 8)), Err(JournalError::LeaseLost(B)));
}

fn a_run_that_was_taken_is_one_owners_and_counts_no_recovery(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create(run(1), None, commit(&["a"]));
    take(&other, B, id(1));
    assert_eq!(desk.claim(A, 100), vec![]);
    other.done(Request::Release { owner: B });
    let claimed = desk.claim(A, 100);
    assert_eq!((claimed[0].epoch, claimed[0].recoveries), (2, 0));
    assert_eq!(other.try_append(id(1), 1, 1, commit(&["b"])), Err(JournalError::Conflict(id(1))));
}

fn a_run_that_arrives_is_not_executed_before_it_is_all_there(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create(run(1), Some(A), arriving(Arrival::default(), commit(&[])));
    assert_eq!(desk.get(id(1)).0.copying, Copying::Arrives);
    desk.send(id(1), 1, "kept");
    desk.done(Request::Release { owner: A });
    assert_eq!(other.claim(B, 1000), vec![]);
    let refused = Err(JournalError::BeingCopied(id(1)));
    let reopen = Request::Reopen { run: id(1), after: 0, owner: None, commit: commit(&[]) };
    assert_eq!(other.ask(reopen), refused);
    let row = take(&other, B, id(1));
    assert_eq!(other.try_append(id(1), row.epoch, 0, commit(&["b"])), refused);
    let last = arriving(Arrival { is_last: true, ..Arrival::default() }, released(waiting(None)));
    other.append(id(1), row.epoch, 0, last);
    let claimed = other.claim(B, 1000);
    assert_eq!((claimed[0].inbox, claimed[0].copying), (1, Copying::No));
}

fn a_run_that_arrives_has_the_numbers_and_the_state_that_it_had(store: &dyn Store) {
    let desk = store.open_as(A);
    for (number, phase) in (1..).zip([Phase::Waiting, Phase::Paused, Phase::Stranded, Phase::Failed]) {
        let first = arriving(Arrival::default(), Commit { published: vec![(3, vec![3])], ..commit(&[]) });
        desk.create(run(number), Some(A), first);
        let behind = Arrival { behind: Some(40), ..Arrival::default() };
        desk.append(id(number), 1, 0, arriving(behind, Commit { checkpoint: Some(vec![9]), ..commit(&[]) }));
        desk.append(id(number), 1, 40, arriving(Arrival::default(), commit(&["x", "y"])));
        let last =
            Arrival { behind: None, is_last: true, recoveries: 2, not_before: Some(77), reason: Some("why".into()) };
        let status = Status { phase, due: (phase == Phase::Waiting).then_some(50) };
        let outcome = phase.is_over().then(|| vec![5]);
        let end = Commit { at: 60, status, outcome: outcome.clone(), release: true, ..commit(&[]) };
        desk.append(id(number), 1, 42, arriving(last, end));
        let (row, kept) = desk.get(id(number));
        assert_eq!((row.status, kept), (status, outcome));
        assert_eq!((row.recoveries, row.not_before, row.reason), (2, Some(77), Some("why".into())));
        assert_eq!((row.owner, row.seq, row.published, row.copying), (None, 42, 3, Copying::No));
        assert_eq!(row.finished, phase.is_over().then_some(60));
        let loaded = desk.load(id(number));
        assert_eq!((loaded.checkpoint, loaded.records), (Some((40, vec![9])), texts(&["x", "y"])));
    }
    assert_eq!(desk.claim(A, 76), vec![]);
    assert_eq!(desk.claim(A, 77).len(), 1);
}

fn a_run_that_arrives_is_written_again_by_the_next_copier(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create(run(1), Some(A), arriving(Arrival::default(), commit(&[])));
    let behind = |number| Arrival { behind: Some(number), ..Arrival::default() };
    desk.append(id(1), 1, 0, arriving(behind(4), Commit { checkpoint: Some(vec![1]), ..commit(&[]) }));
    desk.append(id(1), 1, 4, arriving(Arrival::default(), commit(&["old"])));
    desk.done(Request::Release { owner: A });
    let row = take(&other, B, id(1));
    other.append(id(1), row.epoch, 5, arriving(behind(3), Commit { checkpoint: Some(vec![2]), ..commit(&[]) }));
    other.append(id(1), row.epoch, 3, arriving(Arrival::default(), commit(&["new", "new"])));
    let loaded = other.load(id(1));
    assert_eq!((loaded.checkpoint, loaded.records), (Some((3, vec![2])), texts(&["new", "new"])));
    let late = arriving(Arrival::default(), commit(&["late"]));
    assert_eq!(desk.try_append(id(1), 1, 5, late), Err(JournalError::Conflict(id(1))));
}

fn only_a_run_that_arrives_is_written_so(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    let refused = |answer| assert!(matches!(answer, Err(JournalError::Invalid { .. })), "{answer:?}");
    refused(desk.try_append(id(1), 1, 1, arriving(Arrival::default(), commit(&[]))));
    desk.create(run(2), Some(A), arriving(Arrival::default(), commit(&[])));
    let behind = Arrival { behind: Some(9), ..Arrival::default() };
    refused(desk.try_append(id(2), 1, 0, arriving(behind, commit(&["a"]))));
    assert_eq!(desk.get(id(2)).0.seq, 0);
}

fn a_run_leaves_with_every_message_that_it_has(store: &dyn Store) {
    let (desk, other) = (store.open_as(A), store.open_as(B));
    desk.create(run(1), None, waiting(None));
    desk.send(id(1), 1, "seen");
    let epoch = take(&desk, A, id(1)).epoch;
    let leave = |epoch, seen| Request::Leave { run: id(1), epoch, seen };
    other.send(id(1), 2, "not seen");
    let conflict = Err(JournalError::Conflict(id(1)));
    assert_eq!(desk.ask(leave(epoch, seen(1, 0))), conflict);
    assert_eq!(desk.ask(leave(epoch - 1, seen(2, 0))), conflict);
    desk.done(leave(epoch, seen(2, 0)));
    desk.done(leave(epoch, seen(2, 0)));
    assert_eq!(desk.get(id(1)).0.copying, Copying::Left);
    assert_eq!(other.claim(B, 1000), vec![]);
    assert_eq!(other.ask(take_as(B, id(1), 1)), Err(JournalError::BeingCopied(id(1))));
    other.send(id(1), 3, "late");
    let remove = |seen| Request::Remove { run: id(1), epoch, seen };
    assert_eq!(desk.ask(remove(seen(2, 0))), conflict);
    desk.done(remove(seen(3, 0)));
    assert_eq!(desk.ask(Request::Get { run: id(1) }), Err(JournalError::UnknownRun(id(1))));
}

fn a_run_that_has_left_is_kept_until_the_other_journal_was_told(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), ending(Phase::Failed, "x"));
    let epoch = take(&desk, A, id(1)).epoch;
    let remove = Request::Remove { run: id(1), epoch, seen: seen(0, 0) };
    assert_eq!(desk.ask(remove), Err(JournalError::Conflict(id(1))), "it has not left");
    desk.done(Request::Leave { run: id(1), epoch, seen: seen(0, 0) });
    let refused = Err(JournalError::BeingCopied(id(1)));
    assert_eq!(desk.ask(Request::Delete { run: id(1) }), refused);
    let reopen = Request::Reopen { run: id(1), after: 1, owner: None, commit: commit(&[]) };
    assert_eq!(desk.ask(reopen), refused);
    assert_eq!(desk.ask(Request::Prune { finished_before: 1000, limit: 9 }), Ok(Reply::Pruned { runs: 0 }));
    assert_eq!(desk.get(id(1)).1, Some(b"x".to_vec()));
    let failed = treadle::journal::Filter { phase: Some(Phase::Failed), limit: 9, ..Default::default() };
    assert_eq!(desk.list(failed), vec![]);
}

fn the_names_of_consumed_messages_are_told(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    for name in [3, 1, 2] {
        desk.send(id(1), name, "m");
    }
    let numbers: Vec<_> = desk.load(id(1)).inbox.iter().map(|entry| entry.number).collect();
    desk.append(id(1), 1, 1, Commit { consumed: numbers[..2].to_vec(), ..commit(&["b"]) });
    let told = Traces { consumed: vec![[3; 16], [1; 16]], transactions: 0 };
    assert_eq!(desk.ask(Request::Traces { run: id(1) }), Ok(Reply::Traces(told)));
}

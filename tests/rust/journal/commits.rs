//! What a commit writes, and who may.

use super::desk::*;
use super::every_backend;
use treadle::journal::{Commit, Filter, JournalError, Phase, Reply, Request};

every_backend!(
    a_run_is_loaded_as_it_was_committed,
    a_commit_needs_the_epoch_and_the_last_number,
    a_refused_request_does_not_fail_the_others_of_its_batch,
    requests_see_what_those_before_them_did,
    a_checkpoint_replaces_all_records_up_to_its_commit,
    records_are_numbered_and_come_in_pages,
    what_is_over_takes_no_commit,
    an_outcome_needs_an_end,
    what_is_over_can_be_opened_again,
    records_may_be_empty_or_large,
    what_is_written_is_there_after_opening_again,
    all_that_waits_is_answered_by_close,
    a_closed_journal_takes_nothing,
    the_bytes_that_wait_are_counted,
);

fn a_run_is_loaded_as_it_was_committed(store: &dyn Store) {
    let desk = store.open_as(A);
    assert_eq!(desk.create(run(1), Some(A), commit(&["a", "b"])), 1);
    assert_eq!(desk.append(id(1), 1, 2, Commit { at: 9, ..waiting(Some(77)) }), 3);
    let loaded = desk.load(id(1));
    assert_eq!(loaded.records, texts(&["a", "b", "waits"]));
    assert_eq!((loaded.checkpoint, loaded.inbox), (None, vec![]));
    let row = loaded.run;
    assert_eq!((row.id, row.workflow.as_str(), row.input, row.created), (id(1), "w", [1; 32], 1000));
    assert_eq!((row.owner, row.epoch, row.seq, row.updated, row.finished), (Some(A), 1, 3, 9, None));
    assert_eq!((row.phase(), row.status.due, row.stream_limit), (Phase::Waiting, Some(77), 4));
    assert_eq!(one_loaded(desk.ask(Request::Load { runs: vec![id(2)] })), Err(JournalError::UnknownRun(id(2))));
}

fn a_commit_needs_the_epoch_and_the_last_number(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    for (epoch, after) in [(0, 1), (2, 1), (1, 0), (1, 2), (1, u64::MAX), (u64::MAX, 1)] {
        let refused = desk.try_append(id(1), epoch, after, commit(&["x"]));
        assert_eq!(refused, Err(JournalError::Conflict(id(1))));
    }
    assert_eq!(desk.try_append(id(9), 1, 1, commit(&["x"])), Err(JournalError::UnknownRun(id(9))));
    assert_eq!(desk.append(id(1), 1, 1, commit(&["b"])), 2);
    assert_eq!(desk.load(id(1)).records, texts(&["a", "b"]));
}

fn a_refused_request_does_not_fail_the_others_of_its_batch(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    let append = |after, commit| Request::Append { run: id(1), epoch: 1, after, commit };
    let answers = desk.ask_all(vec![
        append(1, commit(&["b"])),
        append(1, commit(&["twice"])),
        append(2, Commit { consumed: vec![3], published: vec![(1, vec![])], ..commit(&["no such entry"]) }),
        append(2, Commit { published: vec![(2, vec![]), (2, vec![])], ..commit(&["not growing"]) }),
        Request::Create { run: run(2), owner: Some(B), commit: commit(&["no lease"]) },
        Request::Create { run: run(3), owner: Some(A), commit: commit(&["c"]) },
        append(2, commit(&["d"])),
    ]);
    assert_eq!(answers[0], Ok(Reply::appended(2)));
    assert_eq!(answers[1], Err(JournalError::Conflict(id(1))));
    assert!(matches!(answers[2], Err(JournalError::Invalid { .. })));
    assert!(matches!(answers[3], Err(JournalError::Invalid { .. })));
    assert_eq!(answers[4], Err(JournalError::LeaseLost(B)));
    assert_eq!(answers[5], Ok(Reply::Created { epoch: 1 }));
    assert_eq!(answers[6], Ok(Reply::appended(3)));
    assert_eq!(desk.load(id(1)).records, texts(&["a", "b", "d"]));
    assert_eq!(desk.stream(id(1), 0, 9).published, 0);
}

fn requests_see_what_those_before_them_did(store: &dyn Store) {
    let desk = store.open_as(A);
    let answers = desk.ask_all(vec![
        Request::Get { run: id(1) },
        Request::Create { run: run(1), owner: Some(A), commit: commit(&["a"]) },
        Request::Append { run: id(1), epoch: 1, after: 1, commit: commit(&["b"]) },
        Request::Records { run: id(1), after: 0, limit: 9 },
    ]);
    assert_eq!(answers[0], Err(JournalError::UnknownRun(id(1))));
    let records = vec![(1, b"a".to_vec()), (2, b"b".to_vec())];
    assert_eq!(answers[3], Ok(Reply::Records { records, folded: 0 }));
}

fn a_checkpoint_replaces_all_records_up_to_its_commit(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    desk.append(id(1), 1, 1, commit(&["b", "c"]));
    let folded = |state: &str| Commit { checkpoint: Some(state.into()), ..commit(&["d"]) };
    assert_eq!(desk.append(id(1), 1, 3, folded("abcd")), 4);
    let loaded = desk.load(id(1));
    assert_eq!((loaded.checkpoint, loaded.records), (Some((4, b"abcd".to_vec())), vec![]));
    assert_eq!(desk.append(id(1), 1, 4, commit(&["e"])), 5);
    assert_eq!(desk.load(id(1)).records, texts(&["e"]));
    assert_eq!(desk.records(id(1), 0, 9), (vec![(5, b"e".to_vec())], 4));
    assert_eq!(desk.append(id(1), 1, 5, folded("abcded")), 6);
    assert_eq!(desk.load(id(1)).checkpoint, Some((6, b"abcded".to_vec())));
    assert_eq!(desk.records(id(1), 0, 9), (vec![], 6));
}

fn records_are_numbered_and_come_in_pages(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["1", "2", "3"]));
    desk.append(id(1), 1, 3, commit(&[]));
    desk.append(id(1), 1, 3, commit(&["4", "5"]));
    for after in 0..7 {
        for limit in 0..7 {
            let expected = (after + 1..=5).take(limit).map(|n| (n, n.to_string().into_bytes())).collect();
            assert_eq!(desk.records(id(1), after, limit), (expected, 0));
        }
    }
}

fn what_is_over_takes_no_commit(store: &dyn Store) {
    let desk = store.open_as(A);
    for (number, phase) in [(1, Phase::Completed), (2, Phase::Failed), (3, Phase::Cancelled)] {
        desk.create(run(number), Some(A), commit(&["a"]));
        let due = Commit { at: 50, ..ending(phase, "outcome") };
        assert_eq!(desk.append(id(number), 1, 1, due), 2);
        let (row, outcome) = desk.get(id(number));
        assert_eq!((row.phase(), row.finished, row.owner), (phase, Some(50), None));
        assert_eq!(outcome, Some(b"outcome".to_vec()));
        let late = desk.try_append(id(number), 1, 2, commit(&["late"]));
        assert_eq!(late, Err(JournalError::Conflict(id(number))));
    }
    desk.create(run(4), Some(A), ending(Phase::Completed, "at once"));
    assert_eq!(desk.get(id(4)).1, Some(b"at once".to_vec()));
    assert_eq!(desk.claim(A, 2000), vec![]);
}

fn an_outcome_needs_an_end(store: &dyn Store) {
    let desk = store.open_as(A);
    let refused =
        Request::Create { run: run(1), owner: Some(A), commit: Commit { outcome: Some(vec![]), ..commit(&["a"]) } };
    assert!(matches!(desk.ask(refused), Err(JournalError::Invalid { .. })));
    desk.create(run(1), Some(A), commit(&["a"]));
}

fn what_is_over_can_be_opened_again(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    let reopen = |after, owner| Request::Reopen { run: id(1), after, owner, commit: commit(&["again"]) };
    assert_eq!(desk.ask(reopen(1, Some(A))), Err(JournalError::Conflict(id(1))));
    desk.append(id(1), 1, 1, ending(Phase::Failed, "why"));
    assert_eq!(desk.ask(reopen(1, Some(A))), Err(JournalError::Conflict(id(1))));
    assert_eq!(desk.ask(reopen(2, Some(B))), Err(JournalError::LeaseLost(B)));
    assert_eq!(desk.ask(reopen(2, Some(A))), Ok(Reply::Reopened { epoch: 2, seq: 3 }));
    let (row, outcome) = desk.get(id(1));
    assert_eq!((row.phase(), row.finished, row.owner, outcome), (Phase::Ready, None, Some(A), None));
    assert_eq!(desk.try_append(id(1), 1, 3, commit(&["old"])), Err(JournalError::Conflict(id(1))));
    desk.append(id(1), 2, 3, ending(Phase::Cancelled, "stop"));
    assert_eq!(desk.ask(reopen(4, None)), Ok(Reply::Reopened { epoch: 2, seq: 5 }));
    let claimed = desk.claim(A, 10);
    assert_eq!((claimed[0].id, claimed[0].epoch), (id(1), 3));
}

fn records_may_be_empty_or_large(store: &dyn Store) {
    let desk = store.open_as(A);
    let records = vec![vec![], vec![9; 3_000_000], vec![], vec![0; 4096]];
    desk.create(run(1), Some(A), Commit { records: records.clone(), ..Commit::default() });
    let loaded = desk.load(id(1));
    assert_eq!(loaded.run.seq, 4);
    assert!(loaded.records == records);
}

fn what_is_written_is_there_after_opening_again(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), Commit { published: vec![(1, b"p".to_vec())], ..commit(&["a"]) });
    desk.send(id(1), 1, "m");
    let before = desk.load(id(1));
    desk.journal.close();
    drop(desk);
    let desk = store.open();
    assert_eq!(desk.load(id(1)), before);
    assert_eq!(desk.stream(id(1), 0, 9).entries, vec![(1, b"p".to_vec())]);
    assert_eq!(desk.append(id(1), 1, 1, commit(&["b"])), 2);
}

fn all_that_waits_is_answered_by_close(store: &dyn Store) {
    let desk = store.open_as(A);
    let create = |number| (number, Request::Create { run: run(number), owner: Some(A), commit: commit(&["a"]) });
    desk.journal.submit((0..500).map(create).collect()).unwrap();
    desk.journal.close();
    let mut answered = 0;
    while answered < 500 {
        answered += desk.next(PATIENCE).expect("an answer").answers.iter().filter(|(_, answer)| answer.is_ok()).count();
    }
    assert_eq!(store.open().list(Filter { limit: 1000, ..Filter::default() }).len(), 500);
}

fn a_closed_journal_takes_nothing(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.journal.close();
    desk.journal.close();
    assert_eq!(desk.journal.submit(vec![(1, Request::Get { run: id(1) })]), Err(JournalError::Closed));
    assert_eq!(desk.journal.queued_bytes(), 0);
}

fn the_bytes_that_wait_are_counted(store: &dyn Store) {
    let (going, gone) = std::sync::mpsc::channel();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let journal = store.open_with(Box::new(move |batch| {
        let _ = going.send(batch.answers.len());
        let _ = wait.lock().unwrap().recv_timeout(PATIENCE);
    }));
    let create = |number| Request::Create {
        run: run(number),
        owner: None,
        commit: Commit { records: vec![vec![0; 100_000]], ..Commit::default() },
    };
    journal.submit(vec![(1, create(1))]).unwrap();
    assert_eq!(gone.recv_timeout(PATIENCE), Ok(1));
    journal.submit((2..12).map(|number| (number, create(number))).collect()).unwrap();
    assert!((1_000_000..1_100_000).contains(&journal.queued_bytes()), "{}", journal.queued_bytes());
    go_on.send(()).unwrap();
    assert_eq!(gone.recv_timeout(PATIENCE), Ok(10), "what waits is answered at once");
    assert_eq!(journal.queued_bytes(), 0);
    drop(go_on);
}

#[test]
fn a_checkpoint_for_which_a_commit_has_no_room_is_left_out() {
    let mut commit = Commit { records: vec![vec![0; 100]], ..Commit::default() };
    let limit = commit.bytes() + 50;
    commit.add_checkpoint(vec![0; 51], limit);
    assert_eq!(commit.checkpoint, None);
    commit.add_checkpoint(vec![0; 50], limit);
    assert_eq!(commit.checkpoint, Some(vec![0; 50]));
    assert_eq!(commit.bytes(), limit);
}

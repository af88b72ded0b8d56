//! Histories: what checkpoints have replaced, if it is kept.

use super::desk::*;
use super::every_backend;
use treadle::journal::{Commit, JournalError, Phase, Request};

every_backend!(
    a_history_that_is_kept_has_every_record_and_every_checkpoint,
    loading_a_run_reads_nothing_of_its_history,
    a_history_that_is_not_kept_begins_with_the_last_checkpoint,
    who_does_not_keep_the_history_drops_what_was_kept,
    commits_that_are_written_together_are_all_kept,
    a_checkpoint_at_the_same_record_takes_the_place_of_the_last_one,
    a_run_that_goes_on_after_its_end_keeps_its_history,
    deleting_and_pruning_forget_the_history,
    the_history_of_a_run_that_is_not_there_is_unknown,
);

fn folding(state: &str, record: &str) -> Commit {
    Commit { checkpoint: Some(state.into()), keeps_history: true, ..commit(&[record]) }
}

fn parts(desk: &Desk, at: u64) -> (Option<(u64, String)>, Vec<String>, u64) {
    let segment = desk.segment(id(1), at);
    let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
    let checkpoint = segment.checkpoint.as_ref().map(|(seq, state)| (*seq, text(state)));
    (checkpoint, segment.records.iter().map(text).collect(), segment.first)
}

fn part(seq: u64, state: &str, records: &[&str], first: u64) -> (Option<(u64, String)>, Vec<String>, u64) {
    (Some((seq, state.into())), records.iter().map(|&record| record.into()).collect(), first)
}

// A run that begins with a checkpoint, with checkpoints at records 2 and 4, and five records.
fn written(desk: &Desk) {
    desk.create(run(1), Some(A), Commit { checkpoint: Some(b"zero".to_vec()), ..commit(&[]) });
    desk.append(id(1), 1, 0, commit(&["a"]));
    desk.append(id(1), 1, 1, folding("two", "b"));
    desk.append(id(1), 1, 2, commit(&["c"]));
    desk.append(id(1), 1, 3, folding("four", "d"));
    desk.append(id(1), 1, 4, commit(&["e"]));
}

fn a_history_that_is_kept_has_every_record_and_every_checkpoint(store: &dyn Store) {
    written(&store.open_as(A));
    let desk = store.open();
    for at in [0, 1] {
        assert_eq!(parts(&desk, at), part(0, "zero", &["a", "b"], 0));
    }
    for at in [2, 3] {
        assert_eq!(parts(&desk, at), part(2, "two", &["c", "d"], 0));
    }
    for at in [4, 5, 6, u64::MAX] {
        assert_eq!(parts(&desk, at), part(4, "four", &["e"], 0));
    }
    let segment = desk.segment(id(1), 3);
    assert_eq!((segment.end(), segment.run.seq), (4, 5));
    assert_eq!(segment.into_loaded().run.seq, 4);
}

fn loading_a_run_reads_nothing_of_its_history(store: &dyn Store) {
    let desk = store.open_as(A);
    written(&desk);
    let loaded = desk.load(id(1));
    assert_eq!((loaded.checkpoint, loaded.records), (Some((4, b"four".to_vec())), texts(&["e"])));
    assert_eq!(desk.records(id(1), 0, 9), (vec![(5, b"e".to_vec())], 4));
}

fn a_history_that_is_not_kept_begins_with_the_last_checkpoint(store: &dyn Store) {
    let desk = store.open_as(A);
    desk.create(run(1), Some(A), commit(&["a"]));
    assert_eq!(parts(&desk, 0), (None, vec!["a".into()], 0));
    desk.append(id(1), 1, 1, Commit { keeps_history: false, ..folding("two", "b") });
    desk.append(id(1), 1, 2, commit(&["c"]));
    for at in 0..4 {
        assert_eq!(parts(&desk, at), part(2, "two", &["c"], 2));
    }
}

fn who_does_not_keep_the_history_drops_what_was_kept(store: &dyn Store) {
    let desk = store.open_as(A);
    written(&desk);
    desk.append(id(1), 1, 5, Commit { keeps_history: false, ..folding("six", "f") });
    assert_eq!(parts(&desk, 0), part(6, "six", &[], 6));
    desk.append(id(1), 1, 6, folding("seven", "g"));
    assert_eq!(parts(&desk, 0), part(6, "six", &["g"], 6));
}

fn commits_that_are_written_together_are_all_kept(store: &dyn Store) {
    let desk = store.open_as(A);
    let append = |after, commit| Request::Append { run: id(1), epoch: 1, after, commit };
    let first = Commit { checkpoint: Some(b"zero".to_vec()), ..commit(&[]) };
    let answers = desk.ask_all(vec![
        Request::Create { run: run(1), owner: Some(A), commit: first },
        append(0, commit(&["a"])),
        append(1, folding("two", "b")),
        append(2, folding("three", "c")),
        append(3, commit(&["d"])),
    ]);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(parts(&desk, 0), part(0, "zero", &["a", "b"], 0));
    assert_eq!(parts(&desk, 2), part(2, "two", &["c"], 0));
    assert_eq!(parts(&desk, 3), part(3, "three", &["d"], 0));
}

fn a_checkpoint_at_the_same_record_takes_the_place_of_the_last_one(store: &dyn Store) {
    let desk = store.open_as(A);
    written(&desk);
    desk.append(id(1), 1, 5, folding("six", "f"));
    desk.append(id(1), 1, 6, Commit { records: vec![], ..folding("six again", "") });
    assert_eq!(parts(&desk, 6), part(6, "six again", &[], 0));
    assert_eq!(parts(&desk, 5), part(4, "four", &["e", "f"], 0));
}

fn a_run_that_goes_on_after_its_end_keeps_its_history(store: &dyn Store) {
    let desk = store.open_as(A);
    written(&desk);
    desk.append(id(1), 1, 5, ending(Phase::Failed, "no"));
    let again = Commit { records: vec![], ..folding("again", "") };
    desk.ask(Request::Reopen { run: id(1), after: 6, owner: Some(A), commit: again }).unwrap();
    assert_eq!(parts(&desk, 5), part(4, "four", &["e", "ends"], 0));
    assert_eq!(parts(&desk, 6), part(6, "again", &[], 0));
}

fn deleting_and_pruning_forget_the_history(store: &dyn Store) {
    let desk = store.open_as(A);
    for forget in [Request::Delete { run: id(1) }, Request::Prune { finished_before: 999, limit: 9 }] {
        written(&desk);
        desk.append(id(1), 1, 5, ending(Phase::Completed, "done"));
        desk.ask(forget).unwrap();
        // Another run of this name has nothing of it.
        desk.create(run(1), Some(A), Commit { checkpoint: Some(b"new".to_vec()), ..commit(&[]) });
        desk.append(id(1), 1, 0, folding("one", "a"));
        assert_eq!(parts(&desk, 0), part(0, "new", &["a"], 0));
        desk.append(id(1), 1, 1, released(ending(Phase::Completed, "done")));
        desk.ask(Request::Delete { run: id(1) }).unwrap();
    }
}

fn the_history_of_a_run_that_is_not_there_is_unknown(store: &dyn Store) {
    assert_eq!(store.open().ask(Request::Segment { run: id(9), at: 0 }), Err(JournalError::UnknownRun(id(9))));
}

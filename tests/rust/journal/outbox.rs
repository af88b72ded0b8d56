//! Requests on their way to a journal.

use std::collections::BTreeMap;

use proptest::prelude::*;
use treadle::RunId;
use treadle::journal::memory::MemoryStore;
use treadle::journal::{Commit, JournalError, OpId, OpIds, Outbox, Outcome, OwnerId, Phase, Reply, Request, Ticket};

use super::desk::*;

const PATIENCE: u64 = 10_000_000;

fn outbox() -> Outbox {
    Outbox::new(PATIENCE, OpIds::new([5; 8]))
}

fn append(run: u64, after: u64, records: &[&str]) -> Request {
    Request::Append { run: id(run), epoch: 1, after, commit: commit(records) }
}

fn create(run_number: u64) -> Request {
    Request::Create { run: run(run_number), owner: Some(A), commit: commit(&[]) }
}

fn away() -> JournalError {
    JournalError::Unavailable { place: "far away".into(), why: "no route".into() }
}

fn taken(outbox: &mut Outbox) -> Vec<(Ticket, Request)> {
    outbox.take()
}

fn tickets(outbox: &mut Outbox) -> Vec<Ticket> {
    outbox.take().into_iter().map(|(ticket, _)| ticket).collect()
}

fn appended(seq: u64) -> Outcome {
    Ok(Reply::appended(seq))
}

#[test]
fn a_commit_waits_for_the_one_before_it_of_its_run_and_for_no_other() {
    let mut outbox = outbox();
    outbox.put(1, append(1, 0, &["a"]));
    outbox.put(2, append(1, 1, &["b"]));
    outbox.put(3, append(2, 0, &["a"]));
    assert_eq!(tickets(&mut outbox), [1, 3]);
    outbox.answered(3, appended(1));
    assert_eq!(tickets(&mut outbox), [0; 0]);
    outbox.answered(1, appended(1));
    assert_eq!(tickets(&mut outbox), [2]);
    assert_eq!(outbox.answers(), [(3, appended(1)), (1, appended(1))]);
}

#[test]
fn commits_that_wait_together_are_written_as_one() {
    let mut outbox = outbox();
    outbox.put(1, append(1, 0, &["a"]));
    outbox.put(2, append(1, 1, &["b", "c"]));
    outbox.put(3, append(1, 3, &[]));
    outbox.put(4, append(1, 3, &["d"]));
    outbox.take();
    outbox.answered(1, appended(1));
    let sent = taken(&mut outbox);
    let [(ticket, Request::Append { after: 1, commit, .. })] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(commit.records, texts(&["b", "c", "d"]));
    outbox.answers();
    outbox.answered(*ticket, appended(4));
    assert_eq!(outbox.answers(), [(2, appended(3)), (3, appended(3)), (4, appended(4))]);
    outbox.put(5, append(1, 4, &["e"]));
    assert_eq!(tickets(&mut outbox), [5]);
}

#[test]
fn a_checkpoint_stands_for_no_record_behind_it() {
    let with_checkpoint = |after| match append(1, after, &["x"]) {
        Request::Append { run, epoch, after, commit } => {
            Request::Append { run, epoch, after, commit: Commit { checkpoint: Some(vec![]), ..commit } }
        }
        other => other,
    };
    let mut outbox = outbox();
    outbox.put(1, append(1, 0, &["a"]));
    outbox.put(2, append(1, 1, &["b"]));
    outbox.put(3, with_checkpoint(2));
    outbox.put(4, append(1, 3, &["c"]));
    outbox.take();
    outbox.answered(1, appended(1));
    let sent = taken(&mut outbox);
    assert!(matches!(&sent[..], [(2, Request::Append { commit, .. })] if commit.checkpoint.is_some()), "{sent:?}");
    outbox.answered(2, appended(3));
    assert_eq!(tickets(&mut outbox), [4]);
}

#[test]
fn a_run_that_is_handed_back_is_handed_back_by_its_last_commit() {
    let mut outbox = outbox();
    outbox.put(1, append(1, 0, &["a"]));
    outbox.put(2, Request::Append { run: id(1), epoch: 1, after: 1, commit: released(commit(&["b"])) });
    outbox.put(3, Request::Append { run: id(1), epoch: 1, after: 2, commit: ending(Phase::Completed, "c") });
    outbox.take();
    outbox.answered(1, appended(1));
    assert_eq!(tickets(&mut outbox), [2]);
}

#[test]
fn a_creation_and_the_first_commit_behind_it_go_together() {
    let mut outbox = outbox();
    outbox.put(1, create(1));
    outbox.put(2, append(1, 0, &["a"]));
    outbox.put(3, append(1, 1, &["b"]));
    assert_eq!(tickets(&mut outbox), [1, 2]);
    outbox.answered(1, Ok(Reply::Created { epoch: 1 }));
    assert_eq!(tickets(&mut outbox), [0; 0]);
    outbox.answered(2, appended(1));
    assert_eq!(tickets(&mut outbox), [3]);
}

#[test]
fn a_commit_that_comes_later_than_the_creation_waits_for_it() {
    let mut outbox = outbox();
    outbox.put(1, create(1));
    assert_eq!(tickets(&mut outbox), [1]);
    outbox.put(2, append(1, 0, &["a"]));
    assert_eq!(tickets(&mut outbox), [0; 0]);
    outbox.answered(1, Ok(Reply::Created { epoch: 1 }));
    assert_eq!(tickets(&mut outbox), [2]);
}

#[test]
fn what_is_asked_of_a_run_comes_behind_what_waits_of_it() {
    let mut outbox = outbox();
    outbox.put(1, Request::Get { run: id(1) });
    outbox.put(2, append(1, 0, &["a"]));
    outbox.put(3, Request::Get { run: id(1) });
    outbox.put(4, append(1, 1, &["b"]));
    outbox.put(5, Request::Get { run: id(1) });
    assert_eq!(tickets(&mut outbox), [1, 2, 3]);
    outbox.answered(2, appended(1));
    assert_eq!(tickets(&mut outbox), [4, 5]);
}

#[test]
fn a_lease_is_handed_back_behind_every_commit() {
    let mut outbox = outbox();
    outbox.put(1, append(1, 0, &["a"]));
    outbox.put(2, append(1, 1, &["b"]));
    outbox.put(3, Request::Release { owner: A });
    outbox.put(4, enlist(A, 5));
    assert_eq!(tickets(&mut outbox), [1]);
    outbox.answered(1, appended(1));
    assert_eq!(tickets(&mut outbox), [2]);
    outbox.answered(2, Err(JournalError::Conflict(id(1))));
    assert_eq!(tickets(&mut outbox), [3, 4]);
}

#[test]
fn what_is_given_back_is_sent_again_under_its_name_and_in_its_order() {
    let mut outbox = outbox();
    outbox.put(1, create(1));
    outbox.put(2, append(1, 0, &["a"]));
    let sent = taken(&mut outbox);
    outbox.put(3, append(1, 1, &["b"]));
    for (ticket, request) in sent.clone() {
        outbox.returned(ticket, request, away(), 100);
    }
    outbox.put(4, renew(A, 5));
    assert_eq!(tickets(&mut outbox), [0; 0]);
    let at = outbox.next_tick().expect("it is tried again");
    outbox.tick(at);
    assert_eq!(tickets(&mut outbox), [4], "the lease is tried first");
    outbox.answered(4, Ok(Reply::Done));
    assert_eq!(taken(&mut outbox), sent, "and the commit behind them is not merged into one that may be written");
    assert_eq!(outbox.next_tick(), None);
    outbox.answered(1, Ok(Reply::Created { epoch: 1 }));
    outbox.answered(2, appended(1));
    assert_eq!(tickets(&mut outbox), [3]);
}

#[test]
fn a_journal_that_is_away_is_tried_now_and_then_with_one_request() {
    let mut outbox = outbox();
    let mut now = 0;
    for run in 1..=3 {
        outbox.put(run, append(run, 0, &["a"]));
    }
    for (ticket, request) in outbox.take() {
        outbox.returned(ticket, request, away(), now);
    }
    let mut pauses = Vec::new();
    while now < PATIENCE / 2 {
        let next = outbox.next_tick().expect("it is tried again");
        outbox.tick(next - 1);
        assert!(outbox.take().is_empty());
        outbox.tick(next);
        assert_eq!(outbox.next_tick(), None, "one at a time");
        let mut sent = outbox.take();
        assert_eq!(sent.len(), 1);
        pauses.push(next - now);
        now = next;
        let (ticket, request) = sent.remove(0);
        outbox.returned(ticket, request, away(), now);
    }
    assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]) && pauses[0] < *pauses.last().unwrap(), "{pauses:?}");
    assert!(*pauses.last().unwrap() <= 1_000_000, "{pauses:?}");
    outbox.tick(outbox.next_tick().unwrap());
    let (ticket, _) = outbox.take().remove(0);
    outbox.answered(ticket, appended(1));
    assert_eq!(tickets(&mut outbox).len(), 2, "it is back: all go");
}

#[test]
fn what_the_journal_does_not_take_for_too_long_is_given_up() {
    let mut outbox = outbox();
    outbox.put(1, append(1, 0, &["a"]));
    outbox.put(2, append(1, 1, &["b"]));
    let (ticket, request) = outbox.take().remove(0);
    outbox.returned(ticket, request, away(), 0);
    outbox.put(3, Request::Get { run: id(2) });
    assert!(outbox.held_bytes() > 0);
    let (mut now, mut answers) = (0, vec![]);
    while answers.is_empty() {
        now = outbox.next_tick().expect("it is tried again");
        assert!(now < 2 * PATIENCE);
        outbox.tick(now);
        let (ticket, request) = outbox.take().remove(0);
        outbox.returned(ticket, request, away(), now);
        answers = outbox.answers();
    }
    assert!(now > PATIENCE);
    assert_eq!(answers, [(1, Err(away())), (2, Err(away())), (3, Err(away()))]);
    assert_eq!((outbox.held_bytes(), outbox.next_tick()), (0, None));
    outbox.put(4, Request::Get { run: id(2) });
    outbox.tick(outbox.next_tick().expect("what comes later is tried as well"));
    assert_eq!(tickets(&mut outbox), [4]);
}

#[test]
fn a_run_that_was_deleted_by_a_lost_request_was_deleted() {
    let mut outbox = outbox();
    outbox.put(1, Request::Delete { run: id(1) });
    outbox.put(2, Request::Delete { run: id(2) });
    outbox.answered(2, Err(JournalError::UnknownRun(id(2))));
    let (ticket, request) = outbox.take().remove(0);
    outbox.returned(ticket, request, away(), 0);
    outbox.tick(outbox.next_tick().unwrap());
    outbox.answered(1, Err(JournalError::UnknownRun(id(1))));
    assert_eq!(outbox.answers(), [(2, Err(JournalError::UnknownRun(id(2)))), (1, Ok(Reply::Done))]);
}

#[test]
fn each_commit_gets_a_name_of_its_own() {
    let mut outbox = outbox();
    outbox.put(1, append(1, 0, &["a"]));
    outbox.put(2, append(2, 0, &["a"]));
    outbox.put(3, Request::Append { run: id(3), epoch: 1, after: 0, commit: named(9, commit(&["a"])) });
    let ops: Vec<_> = outbox.take().iter().filter_map(|(_, request)| Some(request.commit()?.op)).collect();
    assert!(ops[0] != OpId::NONE && ops[0] != ops[1] && ops[2] == OpId([9; 16]), "{ops:?}");
}

/// What happens on the way of the first of the requests that are under way.
#[derive(Clone, Copy, Debug)]
enum Way {
    Answered,
    // So many are carried out, then all are given back.
    Away(usize),
    Waits,
}

fn ways() -> impl Strategy<Value = Vec<(u64, usize, Way)>> {
    let way = prop_oneof![
        4 => Just(Way::Answered),
        2 => (0..4_usize).prop_map(Way::Away),
        1 => Just(Way::Waits)
    ];
    prop::collection::vec((1..4_u64, 0..3_usize, way), 0..60)
}

struct Far {
    store: MemoryStore,
    outbox: Outbox,
    wire: Vec<(Ticket, Request)>,
    answers: BTreeMap<Ticket, Outcome>,
    now: u64,
}

impl Far {
    fn go(&mut self, way: Way) {
        self.now += 1;
        self.outbox.tick(self.now);
        self.wire.extend(self.outbox.take());
        match way {
            Way::Answered if !self.wire.is_empty() => {
                let (ticket, request) = self.wire.remove(0);
                self.outbox.answered(ticket, self.store.carry_out(request));
            }
            Way::Away(carried_out) => {
                for (at, (ticket, request)) in std::mem::take(&mut self.wire).into_iter().enumerate() {
                    if at < carried_out {
                        let _ = self.store.carry_out(request.clone());
                    }
                    self.outbox.returned(ticket, request, away(), self.now);
                }
            }
            _ => {}
        }
        self.answers.extend(self.outbox.answers());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_commit_is_written_once_and_in_its_order_whatever_gets_lost(ways in ways()) {
        let store = MemoryStore::default();
        store.carry_out(Request::Enlist { owner: OwnerId([0xaa; 16]), lease: std::time::Duration::MAX }).unwrap();
        let outbox = Outbox::new(u64::MAX, OpIds::new([5; 8]));
        let mut far = Far { store, outbox, wire: vec![], answers: BTreeMap::new(), now: 0 };
        let mut expected: BTreeMap<RunId, Vec<Vec<u8>>> = BTreeMap::new();
        let mut ticket = 0;
        for run in 1..4 {
            ticket += 1;
            far.outbox.put(ticket, create(run));
            expected.insert(id(run), vec![]);
        }
        for (run, count, way) in ways {
            ticket += 1;
            let records = expected.get_mut(&id(run)).unwrap();
            let texts: Vec<_> = (0..count).map(|at| format!("{ticket}-{at}")).collect();
            let texts: Vec<_> = texts.iter().map(String::as_str).collect();
            far.outbox.put(ticket, append(run, records.len() as u64, &texts));
            records.extend(texts.iter().map(|text| text.as_bytes().to_vec()));
            far.go(way);
        }
        for _ in 0..1000 {
            far.now += 100_000;
            far.go(Way::Answered);
        }
        prop_assert_eq!(far.answers.len() as u64, ticket);
        prop_assert!(far.answers.values().all(Result::is_ok), "{:?}", far.answers);
        for (run, records) in expected {
            let loaded = one_loaded(far.store.carry_out(Request::Load { runs: vec![run] })).unwrap();
            prop_assert_eq!(loaded.records, records);
        }
    }
}

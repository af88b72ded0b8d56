//! Runs that an engine claims, loads and starts.

use treadle::engine::{AFTER_AN_ERROR, Effect, Engine, Resumed, RunEnd};
use treadle::journal::{
    Claim, Cursor, JournalError, Loaded, News, Next, OwnerId, Phase, Polled, Reply, Request, RunRow, Status,
};

use super::{Host, entry, id, loaded, polled, row};

#[test]
fn what_is_sent_to_a_run_while_it_is_loaded_reaches_it_when_it_has_started() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    host.claimed(&[1], false);
    host.call(|engine, now| engine.heard(News::ALL, now));
    let poll = host.asked.pop().expect("a poll");
    host.call(|engine, now| engine.answer(poll.0, Ok(polled(vec![entry(7, 1)])), now));
    host.loaded(&[1]);
    assert!(matches!(host.effects[..], [Effect::Resume(_)]));
    host.call(|engine, now| engine.resumed(id(1), Resumed::Started, now));
    assert!(matches!(&host.effects[1..], [Effect::Deliver(delivered)] if *delivered == entry(7, 1)));
}

#[test]
fn a_run_that_is_claimed_again_while_its_steps_unwind_goes_on_after_their_end() {
    let mut host = Host::idle(None);
    host.engine.run_started(id(1));
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    host.claimed(&[1], false);
    host.loaded(&[1]);
    assert!(host.effects.is_empty());
    host.answer(Ok(Reply::Next(Next::default())));
    host.call(|engine, now| engine.run_ended(id(1), RunEnd::Over, now));
    host.loaded(&[1]);
    assert!(matches!(host.effects[..], [Effect::Resume(_)]));
}

#[test]
fn a_run_that_another_process_has_by_now_is_left_alone() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    host.claimed(&[1, 2], false);
    let theirs = Loaded { run: RunRow { owner: Some(OwnerId([2; 16])), ..row(1) }, ..loaded(1) };
    let unknown = Err(JournalError::UnknownRun(id(2)));
    host.answer(Ok(Reply::Loaded(vec![(id(1), Ok(Box::new(theirs))), (id(2), unknown)])));
    assert!(host.effects.is_empty());
    assert!(matches!(host.answer(Ok(Reply::Next(Next::default()))), Request::NextDue { .. }));
}

#[test]
fn a_run_that_cannot_go_on_here_is_handed_back_with_the_reason() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    host.claimed(&[1], false);
    host.loaded(&[1]);
    let refused = Resumed::Refused { why: "no step b".into(), is_damaged: false };
    host.call(|engine, now| engine.resumed(id(1), refused, now));
    host.effects.clear();
    let stranded = RunRow { status: Status { phase: Phase::Stranded, due: None }, ..row(1) };
    let request = host.answer(Ok(Reply::Refused(Box::new(stranded.clone()))));
    let Request::Refuse { run, epoch: 1, refusal, .. } = request else { panic!("{request:?}") };
    assert_eq!((run, &*refusal.why, refusal.claimant.max_recoveries), (id(1), "no step b", Some(3)));
    assert!(matches!(&host.effects[..], [Effect::Stranded(row)] if **row == stranded));
}

#[test]
fn a_run_of_which_the_journal_has_only_a_part_is_refused_as_damaged() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    host.claimed(&[1], false);
    let damaged = JournalError::Damaged { run: id(1), what: "records 3 to 5 are missing".into() };
    host.answer(Ok(Reply::Loaded(vec![(id(1), Err(damaged))])));
    let refusal = host.asked.iter().find_map(|(_, request)| match request {
        Request::Refuse { refusal, .. } => Some(refusal),
        _ => None,
    });
    assert!(refusal.is_some_and(|refusal| refusal.is_damaged && refusal.why.contains("3 to 5")));
}

fn limit(request: Request) -> usize {
    match request {
        Request::Claim(Claim { limit, .. }) => limit,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_more_runs_are_claimed_than_there_is_room_for() {
    let mut host = Host::idle(Some(2));
    host.execute(1);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    assert_eq!(limit(host.claimed(&[2], true)), 1);
    host.loaded(&[2]);
    host.call(|engine, now| engine.resumed(id(2), Resumed::Started, now));
    assert!(matches!(host.answer(Ok(Reply::Next(Next::default()))), Request::NextDue { .. }));
    assert!(host.asked.is_empty());
    host.call(|engine, now| engine.run_ended(id(1), RunEnd::Over, now));
    assert_eq!(limit(host.claimed(&[], false)), 1);
}

#[test]
fn a_run_that_only_waits_leaves_room_for_another_one() {
    let mut host = Host::idle(Some(1));
    host.execute(1);
    host.call(|engine, now| engine.run_waits(id(1), true, now));
    assert_eq!(host.engine.claimed(), 0);
    assert_eq!(limit(host.claimed(&[2], true)), 1, "such as the child that it waits for");
    host.loaded(&[2]);
    host.call(|engine, now| engine.resumed(id(2), Resumed::Started, now));
    assert!(matches!(host.answer(Ok(Reply::Next(Next::default()))), Request::NextDue { .. }));
    host.call(|engine, now| engine.run_waits(id(1), false, now));
    assert_eq!(host.engine.claimed(), 2, "one that goes on is not stopped for another one");
    host.call(|engine, now| engine.run_ended(id(2), RunEnd::Over, now));
    assert!(host.asked.iter().all(|(_, request)| !matches!(request, Request::Claim(_))));
    host.call(|engine, now| engine.run_waits(id(1), true, now));
    host.call(|engine, now| engine.run_ended(id(1), RunEnd::Over, now));
    assert_eq!(host.engine.claimed(), 0);
}

#[test]
fn runs_are_loaded_some_at_a_time_and_claimed_until_there_are_no_more() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    let numbers: Vec<u8> = (1..=40).collect();
    host.claimed(&numbers, true);
    for some in [&numbers[..32], &numbers[32..]] {
        host.loaded(some);
        for &number in some {
            host.call(|engine, now| engine.resumed(id(number), Resumed::Started, now));
        }
    }
    assert!(matches!(host.claimed(&[], false), Request::Claim(_)));
}

#[test]
fn the_next_claim_is_when_the_journal_says() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    host.claimed(&[], false);
    let due = host.now.wall + 1_000_000;
    host.answer(Ok(Reply::Next(Next { due: Some(due), lapse: None })));
    assert_eq!(host.engine.next_tick(), Some(host.now.steady + 1_000_000));
    host.pass(1_000_000);
    assert!(matches!(host.claimed(&[], false), Request::Claim(Claim { now, .. }) if now == due));
}

#[test]
fn a_run_that_is_due_long_ago_does_not_make_the_engine_spin() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    host.claimed(&[], false);
    host.answer(Ok(Reply::Next(Next { due: Some(0), lapse: None })));
    assert_eq!(host.engine.next_tick(), Some(host.now.steady + 10_000));
}

#[test]
fn after_an_error_of_the_journal_the_engine_asks_again_some_time_later() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Err(JournalError::Closed));
    host.answer(Err(JournalError::Closed));
    assert_eq!(host.effects.len(), 2);
    host.call(Engine::tick);
    assert!(host.asked.is_empty());
    host.pass(AFTER_AN_ERROR);
    // What could not be read is asked for again, from the same place on.
    let [(_, Request::Poll { after, .. }), (_, Request::Claim(_))] = &host.asked[..] else {
        panic!("{:?}", host.asked)
    };
    assert_eq!(*after, Cursor::default());
}

#[test]
fn a_run_that_could_not_be_loaded_is_loaded_again() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    host.claimed(&[1], false);
    host.answer(Err(JournalError::Closed));
    assert!(host.asked.is_empty());
    host.pass(AFTER_AN_ERROR);
    host.loaded(&[1]);
}

#[test]
fn runs_are_forgotten_some_time_after_their_end() {
    let mut host = Host::new(None, Some(100));
    host.call(Engine::open);
    host.answer(Ok(Reply::Done));
    let before = host.now.wall - 100;
    assert!(host.asked.iter().any(|(_, request)| {
        matches!(request, Request::Prune { finished_before, .. } if *finished_before == before)
    }));
}

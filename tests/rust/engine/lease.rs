//! The lease of an engine: opening, renewing, losing it.

use treadle::engine::{Effect, Engine, RunEnd, Trouble};
use treadle::journal::{Claimed, JournalError, News, Polled, Reply, Request};

use super::{Host, LEASE, LEASE_TIME, OWNER, id, row};

#[test]
fn an_engine_is_open_once_the_journal_knows_its_process() {
    let mut host = Host::new(None, None);
    host.call(Engine::open);
    assert!(!host.engine.is_open());
    assert_eq!(host.answer(Ok(Reply::Done)), Request::Enlist { owner: OWNER, lease: LEASE_TIME });
    assert!(matches!(host.effects[..], [Effect::Opened(Ok(()))]));
    assert!(host.engine.is_open());
}

#[test]
fn an_engine_that_cannot_be_opened_says_why_and_may_be_opened_again() {
    let mut host = Host::new(None, None);
    host.call(Engine::open);
    host.answer(Err(JournalError::Closed));
    assert!(matches!(host.effects[..], [Effect::Opened(Err(JournalError::Closed))]));
    host.call(Engine::open);
    host.answer(Ok(Reply::Done));
    assert!(host.engine.is_open());
}

#[test]
fn an_engine_renews_its_lease_three_times_in_its_length_and_else_does_nothing() {
    let mut host = Host::idle(None);
    assert_eq!(host.engine.next_tick(), Some(host.now.steady + LEASE / 3));
    host.pass(LEASE / 3 - 1);
    assert!(host.asked.is_empty());
    host.pass(1);
    let requests: Vec<_> = host.asked.iter().map(|(_, request)| request.clone()).collect();
    assert!(requests.contains(&Request::Renew { owner: OWNER, lease: LEASE_TIME }));
}

#[test]
fn a_lost_lease_stops_every_run_and_begins_another_one() {
    let mut host = Host::idle(None);
    host.execute(1);
    host.engine.run_started(id(2));
    host.pass(LEASE / 3);
    host.asked.retain(|(_, request)| matches!(request, Request::Renew { .. }));
    host.answer(Err(JournalError::LeaseLost(OWNER)));
    assert!(matches!(host.effects[0], Effect::Report(Trouble::LeaseLost)));
    assert!(matches!(host.effects[1..], [Effect::Lose(one), Effect::Lose(two)] if [one, two] == [id(1), id(2)]));
    assert_eq!(host.answer(Ok(Reply::Done)), Request::Release { owner: OWNER });
    assert_eq!(host.answer(Ok(Reply::Done)), Request::Enlist { owner: OWNER, lease: LEASE_TIME });
    assert!(host.asked.iter().any(|(_, request)| matches!(request, Request::Claim(_))));
}

#[test]
fn what_was_claimed_under_a_lost_lease_is_not_executed() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(Reply::Polled(Polled::default())));
    let claim = host.asked.remove(0);
    host.pass(LEASE / 3);
    host.answer(Err(JournalError::LeaseLost(OWNER)));
    let reply = Reply::Claimed(Claimed { runs: vec![row(1)], stranded: vec![], more: false });
    host.call(|engine, now| engine.answer(claim.0, Ok(reply), now));
    assert!(!host.asked.iter().any(|(_, request)| matches!(request, Request::Load { .. })));
}

#[test]
fn a_run_that_the_journal_took_nothing_more_of_makes_the_engine_renew_at_once() {
    let mut host = Host::idle(None);
    host.execute(1);
    host.call(|engine, now| engine.run_ended(id(1), RunEnd::Lost, now));
    assert_eq!(host.answer(Ok(Reply::Done)), Request::Renew { owner: OWNER, lease: LEASE_TIME });
}

#[test]
fn a_run_for_which_the_journal_was_too_busy_is_loaded_again() {
    let mut host = Host::idle(None);
    host.execute(1);
    host.call(|engine, now| engine.run_ended(id(1), RunEnd::Busy { epoch: 1 }, now));
    host.loaded(&[1]);
    assert!(matches!(host.effects[..], [Effect::Resume(_)]));
}

//! Runs that commits of this process's runs make.

use treadle::engine::{Effect, RunEnd};
use treadle::journal::{JournalError, News, Request};
use treadle::writer::Made;

use super::{Host, LEASE, OWNER, entry, id, polled};

fn made(number: u8) -> Made {
    Made { run: id(number), exists: Some(true), is_for_any: false }
}

impl Host {
    fn child_made(&mut self, made: Made, is_kept: bool) -> bool {
        let mut begins = false;
        self.call(|engine, now| begins = engine.child_made(made, is_kept, now));
        begins
    }

    fn is_loading(&mut self, number: u8) -> bool {
        let loads = self.asked.drain(..).filter(|(_, request)| *request == Request::Load { runs: vec![id(number)] });
        loads.count() == 1
    }
}

#[test]
fn a_child_that_the_host_keeps_begins_when_it_is_made_and_is_not_loaded() {
    let mut host = Host::idle(None);
    host.engine.child_expected(id(1));
    assert!(host.child_made(made(1), true));
    assert!(host.asked.is_empty() && host.effects.is_empty());
    assert_eq!(host.engine.claimed(), 1);
    host.call(|engine, now| engine.run_ended(id(1), RunEnd::Over, now));
    assert_eq!(host.engine.claimed(), 0);
}

#[test]
fn what_is_sent_to_a_child_before_it_is_known_to_be_made_reaches_it() {
    let mut host = Host::idle(None);
    host.engine.child_expected(id(1));
    host.call(|engine, now| engine.heard(News::ALL, now));
    host.answer(Ok(polled(vec![entry(7, 1), entry(8, 2)])));
    assert!(host.child_made(made(1), true));
    assert!(matches!(&host.effects[..], [Effect::Deliver(delivered)] if *delivered == entry(7, 1)));
}

#[test]
fn a_child_that_is_not_kept_or_not_expected_or_may_not_be_there_is_loaded() {
    for (is_expected, is_kept, exists) in [(true, false, Some(true)), (false, true, Some(true)), (true, true, None)] {
        let mut host = Host::idle(None);
        if is_expected {
            host.engine.child_expected(id(1));
        }
        assert!(!host.child_made(Made { exists, ..made(1) }, is_kept));
        assert!(host.is_loading(1));
    }
}

#[test]
fn a_child_that_was_not_made_is_neither_begun_nor_loaded() {
    let mut host = Host::idle(None);
    host.engine.child_expected(id(1));
    assert!(!host.child_made(Made { exists: Some(false), ..made(1) }, true));
    assert!(!host.is_loading(1));
}

#[test]
fn a_child_whose_lease_was_lost_meanwhile_is_not_begun() {
    let mut host = Host::idle(None);
    host.engine.child_expected(id(1));
    host.pass(LEASE / 3);
    host.asked.retain(|(_, request)| matches!(request, Request::Renew { .. }));
    host.answer(Err(JournalError::LeaseLost(OWNER)));
    assert!(!host.child_made(made(1), true));
}

#[test]
fn a_child_that_is_executed_already_is_begun_once() {
    let mut host = Host::idle(None);
    host.engine.child_expected(id(1));
    assert!(host.child_made(made(1), true));
    assert!(!host.child_made(made(1), true));
    assert!(host.asked.is_empty());
}

#[test]
fn a_child_that_any_process_may_execute_is_claimed() {
    let mut host = Host::idle(None);
    assert!(!host.child_made(Made { is_for_any: true, ..made(1) }, false));
    assert!(matches!(&host.asked[..], [(_, Request::Claim(_))]));
}

#[test]
fn a_closing_engine_begins_no_child() {
    let mut host = Host::idle(None);
    host.engine.run_started(id(9));
    host.engine.child_expected(id(1));
    host.call(|engine, now| engine.close(1_000_000, now));
    assert!(!host.child_made(made(1), true));
    assert!(!host.is_loading(1));
}

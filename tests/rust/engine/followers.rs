//! Waiting for the ends of runs.

use treadle::engine::{AFTER_AN_ERROR, Effect, RunEnd};
use treadle::journal::{Cursor, Ends, JournalError, News, Phase, Reply, Request, RunRow, Status};

use super::{Host, LEASE, OWNER, id, row};

pub(super) fn seen(number: u8, phase: Phase) -> Result<Reply, JournalError> {
    let run = Box::new(RunRow { status: Status { phase, due: None }, ..row(number) });
    Ok(Reply::Run { run, outcome: None })
}

pub(super) fn ends(runs: &[u8]) -> Result<Reply, JournalError> {
    let runs = runs.iter().map(|&number| id(number)).collect();
    Ok(Reply::Ends(Ends { runs, cursor: Cursor::from_bytes(vec![2]), ..Ends::default() }))
}

const NEWS_OF_ENDS: News = News { inbox: false, work: false, ends: true, other: false };

#[test]
fn a_run_that_is_followed_is_looked_at_once_it_is_known_where_the_ends_are() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.follow(id(1), now));
    host.call(|engine, now| engine.follow(id(1), now));
    assert_eq!(host.answer(ends(&[])), Request::Ends { after: None, limit: 0 });
    assert_eq!(host.answer(seen(1, Phase::Completed)), Request::Get { run: id(1) });
    assert!(matches!(&host.effects[..], [Effect::Ended { run, end: Ok(_), .. }] if *run == id(1)));
    assert!(host.asked.is_empty());
}

#[test]
fn waiting_costs_what_ends() {
    let mut host = Host::idle(None);
    for number in 1..=50 {
        host.call(|engine, now| engine.follow(id(number), now));
    }
    host.answer(ends(&[]));
    for number in 1..=50 {
        assert_eq!(host.answer(seen(number, Phase::Waiting)), Request::Get { run: id(number) });
    }
    for _ in 0..3 {
        host.call(|engine, now| engine.heard(NEWS_OF_ENDS, now));
    }
    assert_eq!(host.asked.len(), 1, "it is asked for once at a time");
    host.answer(ends(&[7, 99]));
    assert_eq!(host.answer(seen(7, Phase::Failed)), Request::Get { run: id(7) });
    host.answer(ends(&[]));
    assert!(matches!(&host.effects[..], [Effect::Ended { run, .. }] if *run == id(7)));
    assert!(host.asked.is_empty());
}

#[test]
fn an_end_that_comes_while_its_run_is_looked_at_is_not_missed() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.follow(id(1), now));
    host.answer(ends(&[]));
    host.call(|engine, now| engine.heard(NEWS_OF_ENDS, now));
    let look = host.asked.remove(0);
    host.answer(ends(&[1]));
    host.call(|engine, now| engine.answer(look.0, seen(1, Phase::Ready), now));
    assert_eq!(host.answer(seen(1, Phase::Completed)), Request::Get { run: id(1) });
    assert_eq!(host.effects.len(), 1);
}

#[test]
fn a_run_that_is_executed_here_is_looked_at_after_its_end_alone() {
    let mut host = Host::idle(None);
    host.engine.run_started(id(1));
    host.call(|engine, now| engine.follow(id(1), now));
    assert!(host.asked.is_empty());
    host.call(|engine, now| engine.run_ended(id(1), RunEnd::Over, now));
    host.answer(ends(&[]));
    host.answer(seen(1, Phase::Completed));
    assert_eq!(host.effects.len(), 1);
}

#[test]
fn a_run_that_nobody_follows_any_more_is_told_to_nobody() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.follow(id(1), now));
    host.answer(ends(&[]));
    host.engine.unfollow(id(1));
    host.answer(seen(1, Phase::Completed));
    host.call(|engine, now| engine.heard(NEWS_OF_ENDS, now));
    assert!(host.effects.is_empty() && host.asked.is_empty());
}

#[test]
fn ends_that_were_missed_make_every_run_be_looked_at() {
    let mut host = Host::idle(None);
    for number in [1, 2] {
        host.call(|engine, now| engine.follow(id(number), now));
    }
    host.answer(ends(&[]));
    host.answer(seen(1, Phase::Waiting));
    host.answer(seen(2, Phase::Waiting));
    host.call(|engine, now| engine.heard(NEWS_OF_ENDS, now));
    host.answer(Ok(Reply::Ends(Ends { missed: true, ..Ends::default() })));
    host.answer(seen(1, Phase::Waiting));
    assert_eq!(host.answer(seen(2, Phase::Cancelled)), Request::Get { run: id(2) });
    assert_eq!(host.effects.len(), 1);
}

#[test]
fn those_who_follow_a_run_are_told_also_after_the_lease_was_lost() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.follow(id(1), now));
    host.answer(ends(&[]));
    let look = host.asked.remove(0);
    host.pass(LEASE / 3);
    host.asked.retain(|(_, request)| matches!(request, Request::Renew { .. }));
    host.answer(Err(JournalError::LeaseLost(OWNER)));
    host.effects.clear();
    host.call(|engine, now| engine.answer(look.0, seen(1, Phase::Completed), now));
    assert!(matches!(host.effects[..], [Effect::Ended { .. }]));
}

#[test]
fn ends_that_cannot_be_asked_for_are_asked_for_again() {
    let mut host = Host::idle(None);
    host.call(|engine, now| engine.follow(id(1), now));
    host.answer(Err(JournalError::Closed));
    assert!(host.asked.is_empty());
    host.pass(AFTER_AN_ERROR);
    assert!(host.asked.iter().any(|(_, request)| matches!(request, Request::Ends { after: None, .. })));
}

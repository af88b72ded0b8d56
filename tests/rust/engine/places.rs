//! Workflows of which only so many runs execute at once in a process.

use treadle::engine::{Effect, Engine, Replacement, Resumed, RunEnd};
use treadle::journal::{Claim, JournalError, News, Next, Polled, Reply, Request};

use super::{Host, LEASE_TIME, OWNER, id};

/// An engine that is open, and executes so many runs of "orders" at once.
fn limited(most: usize) -> Host {
    let mut options = Host::new(None, None).engine.options().clone();
    options.max_runs.insert("orders".into(), most);
    Host::of(options).opened()
}

fn hear(host: &mut Host) {
    host.call(|engine, now| engine.heard(News { inbox: false, ..News::ALL }, now));
}

fn start(host: &mut Host, number: u8) {
    assert!(host.engine.begin_in_place(id(number), "orders"));
    host.engine.run_started(id(number));
}

fn end(host: &mut Host, number: u8) {
    host.call(|engine, now| engine.run_ended(id(number), RunEnd::Over, now));
    host.call(|engine, now| engine.leave_place(id(number), now));
}

fn limit(request: Request) -> usize {
    match request {
        Request::Claim(Claim { limit, workflows, .. }) if workflows == ["orders"] => limit,
        other => panic!("{other:?}"),
    }
}

fn asks_when(host: &mut Host) -> Vec<String> {
    match host.answer(Ok(Reply::Next(Next::default()))) {
        Request::NextDue { workflows, .. } => workflows,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_more_runs_are_claimed_than_have_a_place() {
    let mut host = limited(3);
    start(&mut host, 1);
    hear(&mut host);
    assert_eq!(limit(host.claimed(&[2], false)), 2);
    host.loaded(&[2]);
    host.call(|engine, now| engine.resumed(id(2), Resumed::Started, now));
    assert_eq!(asks_when(&mut host), ["orders"]);
    hear(&mut host);
    assert_eq!(limit(host.claimed(&[3], false)), 1);
    host.loaded(&[3]);
    host.call(|engine, now| engine.resumed(id(3), Resumed::Started, now));
    assert!(asks_when(&mut host).is_empty(), "what is due is of no use without a place");
    hear(&mut host);
    assert!(host.asked.is_empty(), "nothing is claimed without a place");
    end(&mut host, 1);
    assert_eq!(limit(host.claimed(&[], false)), 1);
}

#[test]
fn a_claimed_run_has_its_place_before_it_is_loaded() {
    let mut host = limited(1);
    hear(&mut host);
    host.claimed(&[1], true);
    assert!(!host.engine.begin_in_place(id(2), "orders"));
    host.loaded(&[1]);
    host.call(|engine, now| engine.resumed(id(1), Resumed::Started, now));
    assert!(host.engine.ask_for_place(id(1), "orders", false));
}

#[test]
fn a_run_that_waits_leaves_its_place_and_is_told_when_it_has_one_again() {
    let mut host = limited(1);
    start(&mut host, 1);
    host.call(|engine, now| engine.leave_place(id(1), now));
    start(&mut host, 2);
    assert!(!host.engine.ask_for_place(id(1), "orders", true));
    host.effects.clear();
    end(&mut host, 2);
    assert!(matches!(host.effects[..], [Effect::GivePlace(run)] if run == id(1)));
}

#[test]
fn a_run_without_a_place_stands_for_itself_until_it_is_claimed() {
    let mut host = limited(1);
    start(&mut host, 1);
    assert!(!host.engine.begin_in_place(id(2), "orders"));
    host.engine.run_started(id(2));
    host.call(|engine, now| engine.run_written(id(2), "orders", false, now));
    let stands = Replacement::StandsFor { run: id(2), cancel: false };
    assert!(matches!(&host.effects[..], [Effect::Replaced { run, by }] if *run == id(2) && *by == stands));
    host.effects.clear();
    host.asked.clear();
    end(&mut host, 1);
    assert!(!host.engine.begin_in_place(id(3), "orders"), "a new run comes behind it");
}

#[test]
fn a_run_that_stands_for_itself_ends_as_that_does_elsewhere() {
    let mut host = limited(1);
    start(&mut host, 1);
    assert!(!host.engine.begin_in_place(id(2), "orders"));
    host.engine.run_started(id(2));
    host.call(|engine, now| engine.run_written(id(2), "orders", false, now));
    host.effects.clear();
    host.asked.retain(|(_, request)| matches!(request, Request::Ends { .. }));
    host.answer(Ok(Reply::Ends(treadle::journal::Ends::default())));
    let asked = host.asked.pop().expect("it is looked at");
    assert_eq!(asked.1, Request::Get { run: id(2) });
    host.call(|engine, now| engine.answer(asked.0, Err(JournalError::UnknownRun(id(2))), now));
    assert!(matches!(&host.effects[..], [Effect::Ended { run, standing, .. }]
        if *run == id(2) && *standing == [id(2)]));
}

#[test]
fn the_place_of_a_run_that_another_process_has_by_now_is_free() {
    let mut host = limited(1);
    hear(&mut host);
    host.claimed(&[1], false);
    host.answer(Ok(Reply::Loaded(vec![(id(1), Err(JournalError::UnknownRun(id(1))))])));
    assert!(host.engine.begin_in_place(id(2), "orders"));
}

#[test]
fn the_places_of_runs_that_were_claimed_are_free_when_the_lease_is_lost() {
    let mut host = limited(1);
    hear(&mut host);
    host.claimed(&[1], false);
    host.engine.run_started(id(2));
    host.call(|engine, now| engine.run_ended(id(2), RunEnd::Lost, now));
    let renew = host.asked.pop().expect("the lease is renewed");
    assert!(matches!(renew.1, Request::Renew { .. }));
    host.call(|engine, now| engine.answer(renew.0, Err(JournalError::LeaseLost(OWNER)), now));
    assert!(host.engine.begin_in_place(id(3), "orders"));
}

#[test]
fn workflows_with_and_without_a_limit_are_claimed_one_after_the_other() {
    let mut options = Host::new(None, None).engine.options().clone();
    options.workflows = vec!["orders".into(), "reports".into(), "letters".into()];
    options.max_runs.insert("reports".into(), 2);
    let mut host = Host::of(options);
    host.call(Engine::open);
    host.answer(Ok(Reply::Done));
    host.answer(Ok(Reply::Polled(Polled::default())));
    let names = |request| match request {
        Request::Claim(Claim { limit, workflows, .. }) => (workflows, limit),
        other => panic!("{other:?}"),
    };
    assert_eq!(names(host.claimed(&[], false)), (vec!["orders".to_owned(), "letters".to_owned()], 256));
    assert_eq!(names(host.claimed(&[], false)), (vec!["reports".to_owned()], 2));
    assert_eq!(asks_when(&mut host), ["orders", "letters", "reports"]);
}

#[test]
fn a_claim_that_failed_is_asked_for_again_under_its_name_and_others_have_their_own() {
    let mut options = Host::new(None, None).engine.options().clone();
    options.workflows = vec!["orders".into(), "reports".into()];
    options.max_runs.insert("reports".into(), 1);
    let mut host = Host::of(options);
    host.call(Engine::open);
    host.answer(Ok(Reply::Done));
    host.answer(Ok(Reply::Polled(Polled::default())));
    let name = |request| match request {
        Request::Claim(Claim { op, workflows, .. }) => (workflows[0].clone(), op),
        other => panic!("{other:?}"),
    };
    name(host.claimed(&[], false));
    let away = JournalError::Unavailable { place: "far away".into(), why: "no answer".into() };
    let (_, failed) = name(host.answer(Err(away)));
    // Its run may have been claimed; meanwhile its place is taken.
    assert!(host.engine.begin_in_place(id(1), "reports"));
    host.pass(LEASE_TIME.as_micros() as u64);
    host.asked.retain(|(_, request)| matches!(request, Request::Claim(_)));
    let (other, op) = name(host.claimed(&[], false));
    assert!(other == "orders" && op != failed);
    assert_eq!(asks_when(&mut host), ["orders"]);
    host.call(|engine, now| engine.leave_place(id(1), now));
    assert_eq!(name(host.claimed(&[2], false)), ("reports".to_owned(), failed));
}

//! The orderly end of an engine.

use treadle::engine::{Effect, Engine, RunEnd};
use treadle::journal::{Reply, Request};

use super::{Host, LEASE, LEASE_TIME, OWNER, id};

#[test]
fn a_closing_engine_lets_go_of_every_run_before_one_ends_and_then_hands_everything_back() {
    let mut host = Host::idle(None);
    host.execute(1);
    host.execute(2);
    host.call(|engine, now| engine.close(1_000_000, now));
    assert!(!host.engine.is_open());
    host.call(|engine, now| engine.drained(id(1), now));
    assert!(matches!(host.effects[..], [Effect::Drain { stop: false, .. }, Effect::Drain { stop: false, .. }]));
    host.call(|engine, now| engine.drained(id(2), now));
    let [.., Effect::LetGo(_), Effect::LetGo(_), Effect::EndHere(_), Effect::EndHere(_)] = host.effects[..] else {
        panic!("{:?}", host.effects);
    };
    host.call(|engine, now| engine.run_ended(id(1), RunEnd::Over, now));
    assert!(host.asked.is_empty());
    host.call(|engine, now| engine.run_ended(id(2), RunEnd::Over, now));
    assert_eq!(host.answer(Ok(Reply::Done)), Request::Release { owner: OWNER });
    assert!(matches!(host.effects.last(), Some(Effect::Closed(Ok(())))));
    assert_eq!(host.engine.next_tick(), None);
}

#[test]
fn a_closing_engine_renews_its_lease_while_steps_finish_and_cancels_them_after_the_grace() {
    let mut host = Host::idle(None);
    host.execute(1);
    host.call(|engine, now| engine.close(2 * LEASE, now));
    host.effects.clear();
    host.pass(LEASE / 3);
    assert_eq!(host.answer(Ok(Reply::Done)), Request::Renew { owner: OWNER, lease: LEASE_TIME });
    host.pass(2 * LEASE);
    assert!(matches!(host.effects[..], [Effect::Drain { stop: true, .. }]));
}

#[test]
fn a_second_call_to_close_hastens_the_end() {
    let mut host = Host::idle(None);
    host.execute(1);
    host.call(|engine, now| engine.close(2 * LEASE, now));
    host.effects.clear();
    host.call(|engine, now| engine.close(0, now));
    assert!(matches!(host.effects[..], [Effect::Drain { stop: true, .. }]));
    host.pass(1_000_000);
    assert!(matches!(host.effects[1..], [Effect::LetGo(_), Effect::EndHere(_)]));
    host.pass(1_000_000);
    assert!(matches!(host.asked.last(), Some((_, Request::Release { .. }))), "a step that does not end is left");
}

#[test]
fn an_engine_that_is_closed_while_it_opens_hands_back_what_there_is() {
    let mut host = Host::new(None, None);
    host.call(Engine::open);
    host.call(|engine, now| engine.close(0, now));
    host.answer(Ok(Reply::Done));
    assert_eq!(host.answer(Ok(Reply::Done)), Request::Release { owner: OWNER });
    assert!(matches!(host.effects[..], [Effect::Closed(Ok(()))]));
}

//! Events to other runs: they go with the end of their step, or not at all.

use std::sync::Arc;

use treadle::journal::IfOver;
use treadle::{
    Changes, Error, EventKind, MOST_SENT, Origin, Plan, Route, Routed, Routes, Routing, Run, RunId, Setbacks, Slot,
    StepId, StepPlan, Tag, Value, message_id,
};

use super::guest::Guest;

type TestRun = Run<Guest>;

const KIND: EventKind = EventKind(0);

fn id(number: u8) -> RunId {
    RunId::new(0, [number; 10])
}

fn new_run() -> TestRun {
    let mut routes = Routes::default();
    routes.add([StepId(0)]);
    let step = StepPlan { name: "one".into(), ..StepPlan::default() };
    let plan = Plan { name: "flow".into(), steps: vec![step], routes, stream_limit: 10, ..Plan::default() };
    Run::new(id(1), Arc::new(plan), 0)
}

fn start(run: &mut TestRun) -> Slot {
    run.deliver(KIND, 1).unwrap();
    run.start_next(|| 0).unwrap().slot
}

/// A body that has sent the events 10 and 11 to other runs.
fn sender() -> (TestRun, Slot) {
    let mut run = new_run();
    let slot = start(&mut run);
    run.send_out(slot, id(7), 10, IfOver::Bury).unwrap();
    run.send_out(slot, id(8), 11, IfOver::Drop).unwrap();
    (run, slot)
}

fn outbound(run: &mut TestRun) -> Vec<(RunId, u64)> {
    run.take_outbound().into_iter().map(|one| (one.to, one.event)).collect()
}

#[test]
fn events_go_once_their_step_is_done_in_their_order() {
    let (mut run, slot) = sender();
    assert!(!run.has_outbound());
    run.finish_step(slot);
    assert!(run.has_outbound());
    assert_eq!(outbound(&mut run), [(id(7), 10), (id(8), 11)]);
    assert_eq!(outbound(&mut run), []);
}

#[test]
fn a_step_sends_no_more_than_a_commit_holds() {
    let mut run = new_run();
    let slot = start(&mut run);
    for _ in 0..MOST_SENT {
        run.send_out(slot, id(7), 10, IfOver::Bury).unwrap();
    }
    let refused = run.send_out(slot, id(7), 11, IfOver::Bury).unwrap_err();
    assert_eq!((refused.error, refused.value), (Error::TooManySent, 11));
    assert!(!run.has_many_outbound());
    run.finish_step(slot);
    assert!(run.has_many_outbound(), "it is written before another step adds to it");
    assert_eq!(outbound(&mut run).len(), MOST_SENT);
    assert!(!run.has_many_outbound());
}

#[test]
fn an_attempt_that_fails_and_a_body_that_is_stopped_send_nothing() {
    let (mut run, slot) = sender();
    run.retry(slot, "it failed".into(), 0).unwrap();
    assert_eq!(run.take_withdrawn(), [10, 11]);
    let (mut other, slot) = sender();
    other.put_back(slot).unwrap();
    assert_eq!(other.take_withdrawn(), [10, 11]);
    let again = other.start_next(|| 0).unwrap().slot;
    other.finish_step(again);
    assert!(!run.has_outbound() && !other.has_outbound());
}

#[test]
fn a_step_whose_failure_is_handed_on_sends_nothing() {
    let (mut run, slot) = sender();
    let setbacks: Setbacks = run.setbacks(slot, 0).unwrap();
    run.hand_on(slot, &[StepId(0)], &2, setbacks);
    assert!(!run.has_outbound());
    assert_eq!(run.take_withdrawn(), [10, 11]);
}

#[test]
fn a_step_that_ends_its_run_sends_and_others_in_flight_do_not() {
    let (mut run, slot) = sender();
    let other = start(&mut run);
    run.send_out(other, id(9), 12, IfOver::Bury).unwrap();
    let mut routing = Routing::<Guest>::new(Origin::Returned(slot), [(5, Route::Stop)]);
    assert!(matches!(routing.advance(&mut run, || 0), Routed::Ends(5)));
    assert!(run.begin_end().unwrap().kept.contains(&12));
    run.finish_step(slot);
    run.finish_step(other);
    assert_eq!(outbound(&mut run), [(id(7), 10), (id(8), 11)]);
}

#[test]
fn a_run_that_fails_gives_back_what_its_steps_would_have_sent() {
    let (mut run, slot) = sender();
    assert_eq!(run.begin_end().unwrap().kept, [10, 11]);
    run.finish_step(slot);
    assert!(!run.has_outbound());
    let refused = run.send_out(slot, id(7), 13, IfOver::Bury).unwrap_err();
    assert_eq!((refused.error, refused.value), (Error::RunEnded, 13));
}

#[test]
fn only_a_body_in_flight_sends() {
    let (mut run, slot) = sender();
    run.finish_step(slot);
    let refused = run.send_out(slot, id(7), 13, IfOver::Bury).unwrap_err();
    assert_eq!((refused.error, refused.value), (Error::StepOver, 13));
}

#[test]
fn runs_that_must_be_there_are_asked_for_once() {
    let (mut run, slot) = sender();
    run.send_out(slot, id(7), 12, IfOver::Bury).unwrap();
    assert_eq!(run.take_unchecked(slot), [id(7)], "each once, and none whose absence is ignored");
    assert_eq!(run.take_unchecked(slot), []);
    run.send_out(slot, id(9), 13, IfOver::Bury).unwrap();
    assert_eq!(run.take_unchecked(slot), [id(9)]);
}

#[test]
fn a_delivery_that_is_done_again_gives_its_messages_the_same_names() {
    let names = |times: usize| {
        let mut run = new_run();
        let mut slot = start(&mut run);
        for _ in 0..times {
            run.send_out(slot, id(7), 1, IfOver::Bury).unwrap();
            run.put_back(slot).unwrap();
            slot = run.start_next(|| 0).unwrap().slot;
        }
        run.send_out(slot, id(7), 10, IfOver::Bury).unwrap();
        run.send_out(slot, id(7), 10, IfOver::Bury).unwrap();
        run.finish_step(slot);
        run.take_outbound().into_iter().map(|one| one.message).collect::<Vec<_>>()
    };
    assert_eq!(names(0), names(2));
    assert_eq!(names(0), [message_id(id(1), 1, 0), message_id(id(1), 1, 1)]);
    let others = [message_id(id(2), 1, 0), message_id(id(1), 2, 0), message_id(id(1), 1, 1)];
    assert!(others.iter().all(|other| *other != message_id(id(1), 1, 0)));
}

#[test]
fn a_change_from_outside_is_made_at_once_and_consumes_its_entry() {
    let value = |byte| Value::new(Tag::Binary, vec![byte]);
    let mut run = new_run();
    run.start_log();
    run.set("a", value(1)).unwrap();
    run.set("b", value(2)).unwrap();
    drop(run.take_log());
    let set = vec![("a".into(), value(3)), ("c".into(), value(4))];
    let changes = Changes { set, removed: vec!["b".into(), "none".into()] };
    let replaced = run.change(6, changes.clone(), 9).unwrap();
    assert_eq!(replaced, [value(1), value(2)]);
    let state: Vec<_> = run.store().iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    assert_eq!(state, [("a".to_owned(), value(3)), ("c".to_owned(), value(4))]);
    assert_eq!(run.take_consumed(), [6]);
    assert_eq!(run.take_log().len(), 4, "one that says so, and one for each key that has changed");
    drop(run.begin_end());
    assert_eq!(run.change(7, changes, 9).unwrap_err().error, Error::RunEnded);
}

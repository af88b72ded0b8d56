//! A run that is held: nothing starts, no deadline passes, what comes is held.

use std::sync::Arc;

use treadle::{Deadline, Error, EventKind, Held, Phase, Plan, Routes, Run, RunId, StepId, StepPlan, Time};

use super::guest::Guest;

type TestRun = Run<Guest<&'static str>>;

fn run_with(timeout: Option<Time>) -> TestRun {
    let mut routes = Routes::default();
    routes.add([StepId(0)]);
    let plan = Plan { steps: vec![StepPlan::default()], routes, timeout, ..Plan::default() };
    Run::new(RunId::new(0, [0; 10]), Arc::new(plan), 0)
}

const KIND: EventKind = EventKind(0);

#[test]
fn a_run_that_is_paused_starts_nothing_until_it_is_resumed() {
    let mut run = run_with(None);
    run.deliver(KIND, 1).unwrap();
    assert_eq!((run.is_paused(), run.pause(), run.is_paused()), (false, Ok(false), true));
    assert_eq!(run.pause(), Ok(true), "it was paused before");
    assert!(run.start_next(|| 0).is_none() && run.ready() == 0);
    run.resume();
    assert!(!run.is_paused() && !run.is_release_due());
    assert_eq!(run.ready(), 1);
    assert!(run.start_next(|| 0).is_some());
}

#[test]
fn a_run_that_is_paused_does_not_stall() {
    let mut run = run_with(None);
    run.pause().unwrap();
    assert!(!run.is_stalled());
    run.resume();
    assert!(run.is_stalled());
}

#[test]
fn a_deadline_that_comes_up_during_a_pause_passes_behind_it() {
    let mut run = run_with(Some(50));
    run.deliver(KIND, 1).unwrap();
    let slot = run.start_next(|| 0).unwrap().slot;
    let wait = run.wait(slot, "a", Some(1), Some(20)).unwrap();
    run.pause().unwrap();
    assert_eq!((run.next_deadline(), run.has_deadline(), run.expire(1_000)), (None, false, None));
    run.resume();
    assert_eq!((run.next_deadline(), run.has_deadline()), (Some(20), true));
    assert_eq!(run.expire(1_000), Some(Deadline::Wait(wait)));
    assert_eq!(run.expire(1_000), Some(Deadline::Run));
}

#[test]
fn a_delivery_that_is_to_be_tried_again_waits_for_the_pause_to_end() {
    let mut run = run_with(None);
    run.deliver(KIND, 1).unwrap();
    let slot = run.start_next(|| 0).unwrap().slot;
    run.retry(slot, "no".into(), 10).unwrap();
    run.pause().unwrap();
    assert_eq!(run.expire(20), None);
    run.resume();
    assert_eq!((run.expire(20), run.ready()), (Some(Deadline::Retry(1)), 1));
    assert_eq!(run.start_next(|| 20).map(|started| started.attempt), Some(2));
}

#[test]
fn what_came_during_a_pause_is_released_one_by_one_oldest_first() {
    let mut run = run_with(None);
    run.pause().unwrap();
    run.hold(1, true).unwrap();
    run.hold(2, false).unwrap();
    assert_eq!(run.events().copied().collect::<Vec<_>>(), [1, 2]);
    assert!(!run.is_release_due(), "the run is paused");
    run.resume();
    assert!(run.is_release_due());
    let (first, held) = run.next_release().unwrap();
    assert_eq!(held, &Held { is_from_outside: true, event: 1 });
    assert_eq!(run.release(first), Some(Held { is_from_outside: true, event: 1 }));
    assert_eq!(run.release(first), None);
    let (second, held) = run.next_release().unwrap();
    assert_eq!(held, &Held { is_from_outside: false, event: 2 });
    run.release(second).unwrap();
    assert!(run.is_release_due(), "what comes now is held behind them");
    assert_eq!(run.next_release(), None);
    assert!(!run.is_release_due() && !run.has_held());
}

#[test]
fn an_event_that_is_given_back_is_held_ahead_of_those_that_came_later() {
    let mut run = run_with(None);
    run.start_log();
    let mut fold = run.image();
    run.pause().unwrap();
    (1..=3).for_each(|event| run.hold(event, true).unwrap());
    run.hold_again(0).unwrap();
    let (first, _) = run.next_held(None).unwrap();
    let (third, _) = run.next_held(Some(first + 1)).unwrap();
    assert_eq!(run.release(third).map(|held| held.event), Some(2));
    run.take_log().into_iter().for_each(|record| fold.apply(record).unwrap());
    assert_eq!(fold.held.iter().map(|held| held.event).collect::<Vec<_>>(), [0, 1, 3]);
    assert_eq!(fold, run.image());
}

#[test]
fn a_run_that_holds_events_neither_stalls_nor_is_idle() {
    let mut run = run_with(None);
    run.pause().unwrap();
    run.hold(1, true).unwrap();
    run.resume();
    assert!(!run.is_stalled() && !run.is_idle());
    let (number, _) = run.next_held(None).unwrap();
    run.release(number);
    assert!(run.is_stalled() && run.is_idle());
}

#[test]
fn steps_in_flight_may_finish_while_nothing_starts_and_then_it_is_quiet() {
    let mut run = run_with(None);
    (1..=3).for_each(|event| run.deliver(KIND, event).unwrap());
    let first = run.start_next(|| 0).unwrap().slot;
    let second = run.start_next(|| 0).unwrap().slot;
    run.pause().unwrap();
    assert!(!run.is_quiet());
    run.finish_step(first).unwrap();
    assert!(!run.is_quiet());
    let wait = run.wait(second, "b", Some(1), None).unwrap();
    assert!(run.is_quiet(), "whoever is in flight waits");
    let other = run.wait(second, "c", None, Some(5)).unwrap();
    run.receive(wait, &9).unwrap();
    assert!(run.is_quiet(), "it still sleeps");
    run.end_wait(other).unwrap();
    assert!(!run.is_quiet(), "it has something to do");
    run.put_back(second).unwrap();
    assert!(run.is_quiet() && run.in_flight() == 0);
}

#[test]
fn a_step_that_was_stopped_starts_first_and_receives_again_what_it_had() {
    let mut run = run_with(None);
    (1..=2).for_each(|event| run.deliver(KIND, event).unwrap());
    let slot = run.start_next(|| 0).unwrap().slot;
    let wait = run.wait(slot, "a", Some(1), None).unwrap();
    run.receive(wait, &7).unwrap();
    run.pause().unwrap();
    run.put_back(slot).unwrap();
    run.resume();
    let again = run.start_next(|| 0).unwrap();
    assert_eq!((again.seq, again.attempt), (1, 1), "the same attempt");
    assert_ne!(again.slot, slot, "another body");
    assert_eq!(run.received_before(slot).count(), 0, "the old body is gone");
    assert_eq!(run.received_before(again.slot).collect::<Vec<_>>(), [(0, &7)]);
    assert!(run.receive_again(again.slot, 0) && !run.receive_again(again.slot, 0));
}

#[test]
fn what_a_body_left_behind_does_not_count_for_the_next_body_of_its_delivery() {
    let mut run = run_with(None);
    run.deliver(KIND, 1).unwrap();
    let first = run.start_next(|| 0).unwrap().slot;
    let wait = run.wait(first, "left behind", Some(1), None).unwrap();
    run.retry(first, "no".into(), 0).unwrap();
    run.expire(0).unwrap();
    let second = run.start_next(|| 0).unwrap().slot;
    assert!(!run.is_quiet());
    assert_eq!(run.receive(wait, &5).map(|over| over.waiter), Some("left behind"));
    assert!(!run.is_quiet() && run.take_back(second, &5).is_none());
    assert!(run.finish_step(first).is_none() && run.finish_step(second).is_some());
}

#[test]
fn a_run_whose_outcome_is_known_is_neither_paused_nor_resumed() {
    let mut run = run_with(None);
    run.pause().unwrap();
    run.hold(1, true).unwrap();
    let remains = run.begin_end().unwrap();
    assert_eq!((remains.kept, run.is_paused()), (vec![1], false));
    assert_eq!(run.pause(), Err(Error::RunEnded));
    run.resume();
    assert!(!run.is_release_due());
    assert_eq!(run.hold(2, true).map_err(|refused| (refused.error, refused.value)), Err((Error::RunEnded, 2)));
    assert!(run.try_end() && run.phase() == Phase::Ended);
}

//! Bodies on their way back to where they waited: what they may be about to wait for is held for them.

use std::num::NonZeroU32;
use std::sync::Arc;

use treadle::{Deadline, EventKind, Plan, Routes, Run, RunId, Slot, StepId, StepPlan};

use super::guest::Guest;

type TestRun = Run<Guest>;

const KIND: EventKind = EventKind(0);
const MINUTE: u64 = 60_000_000;

fn plan(limit: Option<u32>) -> Arc<Plan> {
    let mut routes = Routes::default();
    routes.add([StepId(0)]);
    let step = StepPlan { name: "one".into(), concurrency: limit.and_then(NonZeroU32::new), ..StepPlan::default() };
    Arc::new(Plan { name: "flow".into(), steps: vec![step], routes, timeout: None, deadline: None, stream_limit: 10 })
}

fn start(run: &mut TestRun, event: u64) -> Slot {
    run.deliver(KIND, event).unwrap();
    run.start_next(|| 0).unwrap().slot
}

/// A run whose two bodies wait for events of the classes 1 and 2.
fn run_that_waits() -> TestRun {
    run_and_bodies().0
}

fn run_and_bodies() -> (TestRun, Vec<Slot>) {
    let mut run = Run::new(RunId::new(0, [0; 10]), plan(None), 0);
    run.start_log();
    run.acknowledge(u64::MAX);
    let slots = [1, 2].map(|class| {
        let slot = start(&mut run, class.into());
        run.wait(slot, (), Some(class), None).unwrap();
        slot
    });
    (run, slots.into())
}

fn restored(run: &TestRun, limit: Option<u32>) -> TestRun {
    let mut run = Run::restore(run.image(), plan(limit));
    run.start_log();
    run.acknowledge(u64::MAX);
    run
}

/// The classes of which events are held, in the order of the waits.
fn delayed(run: &TestRun, sender: Option<u64>) -> Vec<u8> {
    let mut after = None;
    let next = || {
        let (wait, &class) = run.next_delaying(after, sender, None)?;
        assert!(run.is_delaying(wait));
        after = Some(wait);
        Some(class)
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn events_are_held_for_a_body_from_its_stop_until_it_waits_again() {
    let mut run = restored(&run_that_waits(), None);
    assert_eq!(delayed(&run, None), [1, 2]);
    assert_eq!(run.next_delaying(None, None, Some(&1)).map(|(_, class)| *class), Some(2), "another class than this");
    assert_eq!(delayed(&run, Some(1)), [2], "nobody waits for what they send themselves");
    let first = run.start_next(|| 0).unwrap().slot;
    run.hold(10, true).unwrap();
    assert!(!run.is_release_due() && !run.is_direct());
    run.wait(first, (), Some(1), None).unwrap();
    assert_eq!(delayed(&run, None), [2]);
    assert!(run.is_release_due());
}

#[test]
fn a_body_that_ends_or_is_tried_again_holds_nothing_any_more() {
    let mut run = restored(&run_that_waits(), None);
    run.hold(10, true).unwrap();
    let first = run.start_next(|| 0).unwrap().slot;
    let second = run.start_next(|| 0).unwrap().slot;
    run.finish_step(first).unwrap();
    assert_eq!(delayed(&run, None), [2]);
    run.retry(second, "no".into(), 5).unwrap();
    assert_eq!(delayed(&run, None), [0; 0]);
    assert!(run.is_release_due() && !run.is_settling());
}

#[test]
fn a_sleep_or_an_event_from_before_is_on_the_way_to_where_a_body_waited() {
    let mut run = run_that_waits();
    let slot = start(&mut run, 3);
    let wait = run.wait(slot, (), Some(3), None).unwrap();
    run.receive(wait, &30).unwrap();
    run.wait(slot, (), Some(4), None).unwrap();
    let mut run = restored(&run, None);
    let slot = std::iter::from_fn(|| run.start_next(|| 0)).find(|started| started.seq == 3).unwrap().slot;
    assert!(run.receive_again(slot, 0));
    run.wait(slot, (), None, Some(100)).unwrap();
    assert_eq!(delayed(&run, None), [1, 2, 4]);
    run.wait(slot, (), Some(4), None).unwrap();
    assert_eq!(delayed(&run, None), [1, 2]);
}

#[test]
fn a_body_that_is_stopped_by_a_pause_will_wait_again_and_its_records_say_so() {
    let (mut run, slots) = run_and_bodies();
    run.take_log();
    let mut fold = run.image();
    let waits: Vec<_> = run.waiters().map(|(id, _)| id).collect();
    assert!(run.end_wait(waits[0]).is_some(), "a wait that is over is over");
    run.pause().unwrap();
    assert!(run.give_up(waits[1]).is_some() && run.give_up(waits[1]).is_none());
    assert!(!run.is_waiting(waits[1]));
    run.put_back(slots[1]).unwrap();
    run.resume();
    assert_eq!(delayed(&run, None), [2]);
    run.take_log().into_iter().for_each(|record| fold.apply(record).unwrap());
    assert_eq!(fold, run.image());
    assert_eq!(fold.waits.values().map(|waiting| waiting.seq).collect::<Vec<_>>(), [2]);
    assert_eq!(delayed(&restored(&run, None), None), [2]);
}

#[test]
fn a_body_that_is_stopped_holds_what_it_waits_for_even_if_the_run_goes_on_before_it_notices() {
    let (mut run, slots) = run_and_bodies();
    let waits: Vec<_> = run.waiters().map(|(id, _)| id).collect();
    assert_eq!(run.delaying(waits[0]), None);
    run.stop(slots[0]);
    let number = run.delaying(waits[0]).unwrap();
    assert!(run.is_delaying(number) && run.delaying(waits[1]).is_none());
    run.give_up(waits[0]).unwrap();
    assert!(run.is_delaying(number) && run.delaying(waits[0]).is_none());
    run.put_back(slots[0]).unwrap();
    assert_eq!(delayed(&run, None), [1]);
    let again = run.start_next(|| 0).unwrap().slot;
    let wait = run.wait(again, (), Some(1), None).unwrap();
    assert!(run.give_up(wait).is_some() && !run.is_settling(), "nothing stops the body that runs now");
}

#[test]
fn a_body_that_gives_an_event_back_when_it_is_stopped_will_wait_for_its_class_again() {
    let (mut run, slots) = run_and_bodies();
    let slot = slots[0];
    let (id, ()) = run.waiters().next().unwrap();
    run.receive(id, &10).unwrap();
    run.wait_again(slot, &1);
    assert!(!run.is_settling(), "nothing stops it");
    run.pause().unwrap();
    run.take_log();
    let mut fold = run.image();
    run.wait_again(slot, &1);
    run.take_back(slot, &10).unwrap();
    run.hold_again(10).unwrap();
    run.put_back(slot).unwrap();
    run.resume();
    assert_eq!(delayed(&run, None), [1]);
    run.take_log().into_iter().for_each(|record| fold.apply(record).unwrap());
    assert_eq!(fold, run.image());
    assert_eq!(delayed(&restored(&run, None), None), [2, 1]);
}

#[test]
fn a_body_that_comes_to_its_wait_takes_what_was_held_for_it() {
    let mut run = restored(&run_that_waits(), None);
    run.take_log();
    let mut fold = run.image();
    (10..13).for_each(|event| run.hold(event, true).unwrap());
    let slot = run.start_next(|| 0).unwrap().slot;
    let (first, _) = run.next_held(None).unwrap();
    assert_eq!(run.take_held(slot, first + 1), Some(11));
    assert_eq!(run.take_held(slot, first + 1), None);
    assert_eq!(delayed(&run, None), [2]);
    run.take_log().into_iter().for_each(|record| fold.apply(record).unwrap());
    assert_eq!(fold, run.image());
    assert_eq!(fold.held.iter().map(|held| held.event).collect::<Vec<_>>(), [10, 12]);
    assert_eq!(fold.pending[&1].replay.received, [11]);
}

#[test]
fn no_event_is_held_for_longer_than_a_minute() {
    let mut run = restored(&run_that_waits(), None);
    run.delay(|| 100);
    run.delay(|| 5_000);
    run.hold(10, true).unwrap();
    assert_eq!(run.expire(MINUTE), None);
    assert_eq!(run.expire(100 + MINUTE), Some(Deadline::Settling));
    assert_eq!(delayed(&run, None), [0; 0]);
    assert!(run.is_release_due() && run.is_settling(), "whoever waits again finds what is kept");
}

#[test]
fn a_run_in_which_all_wait_again_has_no_deadline_left_for_that() {
    let mut run = restored(&run_that_waits(), None);
    run.delay(|| 100);
    for class in [1, 2] {
        let slot = run.start_next(|| 0).unwrap().slot;
        run.wait(slot, (), Some(class), None).unwrap();
    }
    assert_eq!((run.has_deadline(), run.next_deadline()), (false, None));
}

#[test]
fn a_body_that_its_step_has_no_place_for_holds_nothing() {
    let run = restored(&run_that_waits(), Some(1));
    assert_eq!(delayed(&run, None), [1]);
    assert!(run.is_settling());
}

#[test]
fn held_events_are_looked_at_from_the_first_one_on_whenever_a_body_waits_again() {
    let mut run = restored(&run_that_waits(), None);
    (10..12).for_each(|event| run.hold(event, true).unwrap());
    let (first, second) = (run.start_next(|| 0).unwrap().slot, run.start_next(|| 0).unwrap().slot);
    run.wait(first, (), Some(1), None).unwrap();
    assert_eq!(run.next_release().map(|(_, held)| held.event), Some(10));
    run.wait(second, (), Some(2), None).unwrap();
    let looked_at: Vec<_> = std::iter::from_fn(|| run.next_release().map(|(_, held)| held.event)).collect();
    assert_eq!(looked_at, [10, 11]);
    assert!(!run.is_release_due() && run.has_held());
}

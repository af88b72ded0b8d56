//! One run as a state machine: random histories against a model that only counts.

mod collecting;
mod ended;
mod model;
mod time;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use treadle::{Error, EventKind, Host, Plan, Refused, Routes, Run, RunId, Slot, StepId, StepPlan, Tag, Time, Value};

thread_local! {
    static DROPS: Cell<u64> = const { Cell::new(0) };
}

/// An event that knows its name and counts drops: the core must never drop one.
#[derive(Debug, PartialEq, Eq)]
struct Ev(u64);

impl Drop for Ev {
    fn drop(&mut self) {
        DROPS.set(DROPS.get() + 1);
    }
}

/// Calls the core and checks that it drops no event.
fn keeping<T>(call: impl FnOnce() -> T) -> T {
    let before = DROPS.get();
    let answer = call();
    assert_eq!(DROPS.get(), before, "the core gives events back and drops none");
    answer
}

struct Guest;

impl Host for Guest {
    type Event = Ev;
    type Value = Value;
    type Class = u8;
    type Waiter = u64;

    fn copy_event(event: &Ev) -> Ev {
        Ev(event.0)
    }

    fn copy_value(value: &Value) -> Value {
        value.clone()
    }

    fn copy_waiter(waiter: &Self::Waiter) -> Self::Waiter {
        *waiter
    }

    fn is_same_event(one: &Ev, other: &Ev) -> bool {
        one == other
    }
}

type TestRun = Run<Guest>;

fn run_of(plan: Plan, now: Time) -> TestRun {
    Run::new(RunId::new(0, [0; 10]), Arc::new(plan), now)
}

fn step(concurrency: Option<u32>, timeout: Option<Time>) -> StepPlan {
    StepPlan { concurrency: concurrency.and_then(NonZeroU32::new), timeout, ..StepPlan::default() }
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<_> = items.collect();
    items.sort_unstable();
    items
}

/// A plan with one kind of events for each step.
fn plan_of(steps: Vec<StepPlan>) -> Plan {
    let mut routes = Routes::default();
    for at in 0..steps.len() {
        routes.add([StepId(u32::try_from(at).unwrap())]);
    }
    Plan { steps, routes, stream_limit: 1000, ..Plan::default() }
}

fn ended<T>(value: T) -> Refused<T> {
    Refused { error: Error::RunEnded, value }
}

fn json(text: &[u8]) -> Value {
    Value::new(Tag::Json, text.to_vec())
}

/// Names a step that is in flight no more: a task that it left behind may go on.
fn stale_slot() -> Slot {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    (1..=2).for_each(|event| run.deliver(EventKind(0), Ev(event)).unwrap());
    run.start_next(|| 0);
    run.start_next(|| 0).unwrap().slot
}

fn start(run: &mut TestRun) -> Option<(Slot, u64)> {
    let started = run.start_next(|| 0)?;
    Some((started.slot, started.seq))
}

#[test]
fn a_new_run_that_was_given_nothing_is_stalled() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    assert!(run.is_stalled());
    run.deliver(EventKind(0), Ev(1)).unwrap();
    assert!(!run.is_stalled());
}

#[test]
fn a_run_with_a_step_that_takes_events_from_outside_never_stalls() {
    let external = StepPlan { external: true, ..StepPlan::default() };
    assert!(!run_of(plan_of(vec![step(None, None), external]), 0).is_stalled());
}

#[test]
fn what_is_kept_or_collected_does_not_keep_a_run_from_stalling() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.keep(Ev(1)).unwrap();
    assert!(run.is_stalled());
    let wait = run.wait(stale_slot(), 7, Some(1), Some(5)).unwrap();
    assert!(!run.is_stalled());
    run.end_wait(wait);
    assert!(run.is_stalled() && !run.has_deadline());
}

#[test]
fn an_event_goes_to_every_step_of_its_kind_in_their_order() {
    let mut routes = Routes::default();
    let kind = routes.add([StepId(2), StepId(0)]);
    let steps = vec![step(None, None), step(None, None), step(None, None)];
    let mut run = run_of(Plan { steps, routes, ..Plan::default() }, 0);
    run.deliver(kind, Ev(5)).unwrap();
    let started: Vec<_> = std::iter::from_fn(|| run.start_next(|| 0)).collect();
    assert_eq!(started.iter().map(|one| (one.step.0, one.seq)).collect::<Vec<_>>(), [(2, 1), (0, 2)]);
    assert!(started.iter().all(|one| run.event(one.slot) == Some(&Ev(5))));
}

#[test]
fn a_chain_of_a_hundred_thousand_steps_lives_in_one_place() {
    let mut run = run_of(plan_of(vec![step(None, Some(10))]), 0);
    run.deliver(EventKind(0), Ev(0)).unwrap();
    let mut places = BTreeSet::new();
    for number in 1..=100_000 {
        let (slot, seq) = start(&mut run).unwrap();
        assert_eq!(seq, number);
        let shown = format!("{slot:?}");
        places.insert(shown.split_once(", start").expect("a slot shows its place first").0.to_owned());
        let delivery = run.finish_step(slot).unwrap();
        run.deliver(EventKind(0), delivery.event).unwrap();
    }
    assert_eq!(places.len(), 1, "{places:?}");
    assert!(!run.has_deadline());
}

#[test]
fn a_fan_out_of_ten_thousand_runs_eight_at_a_time_and_in_order() {
    let mut run = run_of(plan_of(vec![step(Some(8), None)]), 0);
    for number in 1..=10_000 {
        run.deliver(EventKind(0), Ev(number)).unwrap();
    }
    let mut running = Vec::new();
    let mut done = Vec::new();
    while !run.is_stalled() {
        running.extend(std::iter::from_fn(|| start(&mut run)));
        assert!(running.len() <= 8);
        let (slot, _) = running.remove(running.len() / 2);
        done.push(run.finish_step(slot).unwrap().event.0);
        assert!(running.len() + run.ready() <= 8);
    }
    done.sort_unstable();
    assert_eq!(done, (1..=10_000).collect::<Vec<_>>());
}

#[test]
fn a_delivery_that_is_put_back_keeps_its_number_and_its_event() {
    let mut run = run_of(plan_of(vec![step(Some(1), None)]), 0);
    run.deliver(EventKind(0), Ev(9)).unwrap();
    let (slot, seq) = start(&mut run).unwrap();
    run.put_back(slot).unwrap();
    assert!(!run.is_stalled());
    let (again, same) = start(&mut run).unwrap();
    assert_eq!((same, run.event(again)), (seq, Some(&Ev(9))));
}

#[test]
fn a_delivery_that_is_put_back_starts_before_all_others() {
    let mut run = run_of(plan_of(vec![step(None, None), step(Some(2), None)]), 0);
    for (kind, event) in [(0, 1), (1, 2), (0, 3), (1, 4)] {
        run.deliver(EventKind(kind), Ev(event)).unwrap();
    }
    let (first, _) = start(&mut run).unwrap();
    run.put_back(first).unwrap();
    let order: Vec<_> = std::iter::from_fn(|| start(&mut run)).map(|(_, seq)| seq).collect();
    assert_eq!(order, [1, 2, 3, 4]);
}

#[test]
fn a_delivery_that_is_put_back_starts_before_those_that_wait_for_its_place() {
    let mut run = run_of(plan_of(vec![step(Some(1), None)]), 0);
    run.deliver(EventKind(0), Ev(1)).unwrap();
    run.deliver(EventKind(0), Ev(2)).unwrap();
    let (slot, seq) = start(&mut run).unwrap();
    run.put_back(slot).unwrap();
    assert_eq!(start(&mut run).map(|(_, seq)| seq), Some(seq));
}

#[test]
fn a_slot_names_nothing_once_another_delivery_has_its_place() {
    let mut run = run_of(plan_of(vec![step(None, Some(10))]), 0);
    run.deliver(EventKind(0), Ev(1)).unwrap();
    run.deliver(EventKind(0), Ev(2)).unwrap();
    let (stale, _) = start(&mut run).unwrap();
    run.finish_step(stale).unwrap();
    let (slot, _) = start(&mut run).unwrap();
    assert!(run.event(stale).is_none() && run.finish_step(stale).is_none());
    assert_eq!((run.event(slot), run.in_flight(), run.has_deadline()), (Some(&Ev(2)), 1, true));
    assert_eq!(run.finish_step(slot).map(|delivery| delivery.event), Some(Ev(2)));
    assert_eq!((run.in_flight(), run.has_deadline()), (0, false));
}

fn kept(run: &TestRun) -> Vec<u64> {
    run.kept().map(|(_, event)| event.0).collect()
}

fn take(run: &mut TestRun, event: u64) -> Ev {
    let (number, _) = run.kept().find(|(_, kept)| kept.0 == event).expect("kept");
    let slot = stale_slot();
    run.take_kept(slot, number).expect("by its number")
}

#[test]
fn an_event_that_is_kept_again_is_ahead_of_those_that_are_kept() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.keep_again(Ev(7)).unwrap();
    (8..=10).for_each(|event| run.keep(Ev(event)).unwrap());
    let (first, second) = (take(&mut run, 7), take(&mut run, 8));
    run.keep_again(second).unwrap();
    run.keep_again(first).unwrap();
    assert_eq!(kept(&run), [7, 8, 9, 10]);
    let third = take(&mut run, 9);
    run.keep_again(third).unwrap();
    run.keep(Ev(11)).unwrap();
    assert_eq!(kept(&run), [9, 7, 8, 10, 11]);
    for event in [8, 11, 9, 7, 10] {
        assert_eq!(take(&mut run, event), Ev(event));
    }
    for event in [3, 2, 1] {
        run.keep_again(Ev(event)).unwrap();
    }
    run.keep(Ev(4)).unwrap();
    assert_eq!(kept(&run), [1, 2, 3, 4]);
    let remains = run.begin_end().unwrap();
    assert!(remains.kept.iter().map(|event| event.0).eq(1..=4));
    assert_eq!(run.keep_again(Ev(5)), Err(ended(Ev(5))));
}

#[test]
fn the_number_of_an_event_that_was_taken_names_no_other() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.keep(Ev(1)).unwrap();
    run.keep(Ev(2)).unwrap();
    let (second, _) = run.kept().last().unwrap();
    let (first, _) = (take(&mut run, 1), take(&mut run, 2));
    run.keep_again(first).unwrap();
    assert_eq!(run.take_kept(stale_slot(), second), None);
}

#[test]
fn who_waits_is_asked_in_turn_though_some_come_and_go_meanwhile() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    assert_eq!(run.next_waiter(None), None);
    let ids: Vec<_> = (0..4).map(|waiter| run.wait(stale_slot(), waiter, Some(1), None).unwrap()).collect();
    assert_eq!(run.next_waiter(None), Some((ids[0], &0, &1)));
    run.end_wait(ids[0]);
    run.end_wait(ids[1]);
    assert_eq!(run.next_waiter(Some(ids[0])), Some((ids[2], &2, &1)));
    run.end_wait(ids[3]);
    assert_eq!(run.next_waiter(Some(ids[2])), None);
    let late = run.wait(stale_slot(), 4, Some(1), None).unwrap();
    assert_eq!(run.next_waiter(Some(ids[2])), Some((late, &4, &1)));
    assert_eq!(run.next_waiter(Some(late)), None);
    assert_eq!(run.next_waiter(None), Some((ids[2], &2, &1)));
}

#[test]
fn an_event_that_is_sent_to_one_step_goes_there_alone_also_while_the_run_is_paused() {
    let mut run = run_of(plan_of(vec![step(None, None), step(None, None)]), 0);
    run.deliver(EventKind(0), Ev(1)).unwrap();
    let (slot, _) = start(&mut run).unwrap();
    run.pause().unwrap();
    keeping(|| run.send_to(slot, 7, StepId(1), Ev(2))).unwrap();
    run.resume();
    let started = run.start_next(|| 0).unwrap();
    assert_eq!((started.step, run.event(started.slot)), (StepId(1), Some(&Ev(2))));
    assert!(run.start_next(|| 0).is_none());
    assert!(run.delivery(slot).unwrap().replay.as_ref().unwrap().sent == [7], "a body that runs again knows it");
}

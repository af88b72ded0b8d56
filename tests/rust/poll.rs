//! What the host of a run is told to do next.

use std::sync::Arc;

use treadle::{EventKind, Plan, Progress, Routes, Run, RunId, StepId, StepPlan};

use crate::guest::Guest;

fn run(deadline: Option<u64>) -> Run<Guest<&'static str>> {
    let mut routes = Routes::default();
    routes.add([StepId(0)]);
    let steps = vec![StepPlan { name: "a".into(), ..StepPlan::default() }];
    Run::new(RunId::new(0, [0; 10]), Arc::new(Plan { steps, routes, deadline, ..Plan::default() }), 0)
}

#[test]
fn a_run_says_what_it_needs_from_its_start_to_its_end() {
    let mut run = run(None);
    let never = || -> u64 { panic!("a run without deadlines does not ask for the time") };
    assert_eq!(run.poll(never), Progress::Stalled);
    run.deliver(EventKind(0), 1).expect("it runs");
    assert_eq!(run.poll(never), Progress::Ready);
    let slot = run.start_next(never).expect("it is ready").slot;
    assert_eq!(run.poll(never), Progress::Idle);
    run.finish_step(slot);
    assert_eq!(run.poll(never), Progress::Stalled);
    let _ = run.begin_end();
    assert_eq!(run.poll(never), Progress::Ended);
    run.try_end();
    assert_eq!(run.poll(never), Progress::Ended);
}

#[test]
fn a_deadline_comes_before_what_is_ready_and_not_while_the_run_is_paused() {
    let mut run = run(Some(10));
    run.deliver(EventKind(0), 1).expect("it runs");
    assert_eq!(run.poll(|| 9), Progress::Ready);
    assert_eq!(run.poll(|| 10), Progress::Expired);
    run.pause().expect("it runs");
    assert_eq!(run.poll(|| 10), Progress::Paused);
}

#[test]
fn deferred_events_come_before_deadlines_once_the_run_goes_on() {
    let mut run = run(Some(10));
    run.pause().expect("it runs");
    run.hold(1, true).expect("it runs");
    run.resume();
    assert_eq!(run.poll(|| 10), Progress::Release);
    let (number, _) = run.next_release().expect("one is held");
    run.release(number);
    assert_eq!(run.next_release().map(|(number, _)| number), None);
    assert_eq!(run.poll(|| 10), Progress::Expired);
}

#[test]
fn what_is_queued_is_held_back_until_its_record_is_acknowledged() {
    let mut run = run(None);
    run.start_log();
    run.deliver(EventKind(0), 1).expect("it runs");
    assert_eq!(run.poll(|| 0), Progress::HeldBack);
    run.acknowledge(1);
    assert_eq!(run.poll(|| 0), Progress::Ready);
}

#[test]
fn a_run_that_goes_on_elsewhere_starts_nothing() {
    let mut run = run(None);
    run.deliver(EventKind(0), 1).expect("it runs");
    run.drain();
    assert_eq!(run.poll(|| 0), Progress::Paused);
}

//! Time limits, deadlines, and who reads the clock.

use proptest::prelude::*;
use treadle::{Deadline, EventKind, Limits, Plan, Time, Wanted};

use super::{Ev, plan_of, run_of, start, step};

#[test]
fn a_step_that_finished_in_time_has_no_deadline_left_for_the_next_one_in_its_place() {
    let mut run = run_of(plan_of(vec![step(None, Some(10))]), 0);
    run.deliver(EventKind(0), Ev(1)).unwrap();
    run.deliver(EventKind(0), Ev(2)).unwrap();
    let first = run.start_next(|| 0).unwrap();
    run.finish_step(first.slot).unwrap();
    let second = run.start_next(|| 5).unwrap();
    assert_ne!(first.slot, second.slot);
    assert_eq!((run.expire(14), run.next_deadline()), (None, Some(15)));
    assert_eq!(run.expire(15), Some(Deadline::Step(second.slot)));
}

#[test]
fn a_timeout_beyond_the_end_of_time_is_the_end_of_time() {
    let mut plan = plan_of(vec![step(None, Some(Time::MAX))]);
    plan.timeout = Some(Time::MAX);
    let mut run = run_of(plan, 7);
    run.deliver(EventKind(0), Ev(1)).unwrap();
    run.start_next(|| 7).unwrap();
    assert_eq!((run.expire(Time::MAX - 1), run.next_deadline()), (None, Some(Time::MAX)));
}

fn any_time() -> impl Strategy<Value = Time> {
    prop_oneof![any::<Time>(), 0..10_u64, Time::MAX - 10..=Time::MAX, 1_u64 << 63..=(1 << 63) + 1]
}

proptest! {
    #[test]
    fn no_time_is_too_long_for_the_arithmetic(
        now in any_time(),
        later in any_time(),
        limits in prop::array::uniform4(any_time()),
        delay in any_time(),
    ) {
        let [of_run, deadline, of_step, of_wait] = limits;
        let mut plan = plan_of(vec![step(None, Some(of_step))]);
        plan.timeout = Some(of_run);
        plan.deadline = Some(deadline);
        let mut run = run_of(plan, now);
        run.deliver(EventKind(0), Ev(1)).unwrap();
        let slot = run.start_next(|| later).unwrap().slot;
        let wait = run.ask_deadline(slot, Wanted::Wait(of_wait), || later);
        let sleep = run.ask_deadline(slot, Wanted::Sleep(delay), || later);
        prop_assert_eq!([wait, sleep], [later.saturating_add(of_wait), later.saturating_add(delay)]);
        run.wait(slot, 1, None, Some(sleep)).unwrap();
        // A step that began at the time 0 is one of which it is not known when it began.
        let begun = later.max(1);
        let ends = [begun.saturating_add(of_run), now.saturating_add(deadline)];
        let due = [ends[0], ends[1], later.saturating_add(of_step), sleep];
        prop_assert_eq!(run.next_deadline(), due.into_iter().min());
        // All of it is over at the end of time.
        let mut passed = 0;
        while run.expire(Time::MAX).is_some() {
            passed += 1;
        }
        // A time that is too long to count is no limit of the run.
        prop_assert_eq!(passed, if of_run < Time::MAX { 4 } else { 3 });
    }
}

#[test]
fn a_time_limit_counts_from_the_first_step_and_a_deadline_from_the_beginning() {
    let plan = Plan { timeout: Some(10), deadline: Some(100), ..plan_of(vec![step(None, None)]) };
    let mut run = run_of(plan, 7);
    run.deliver(EventKind(0), Ev(1)).unwrap();
    run.deliver(EventKind(0), Ev(2)).unwrap();
    assert_eq!(run.next_deadline(), Some(107));
    run.start_next(|| 50).unwrap();
    run.start_next(|| 55).unwrap();
    assert_eq!((run.expire(59), run.expire(60)), (None, Some(Deadline::Run)));
    assert_eq!((run.expire(106), run.expire(107)), (None, Some(Deadline::End)));
}

#[test]
fn the_clock_is_read_only_for_a_step_with_a_timeout() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.deliver(EventKind(0), Ev(1)).unwrap();
    assert!(run.start_next(|| unreachable!("no step has a timeout")).is_some());
    assert!(run.start_next(|| unreachable!("nothing is ready")).is_none());
}

#[test]
fn a_run_has_its_own_limits_in_the_place_of_those_of_its_workflow() {
    let plan = || Plan { timeout: Some(10), deadline: Some(1_000), ..plan_of(vec![step(None, None)]) };
    let deadlines = |limits: Limits| {
        let mut run = run_of(plan(), 5);
        run.limit(limits);
        run.deliver(EventKind(0), Ev(1)).unwrap();
        let end = run.next_deadline();
        start(&mut run);
        run.start_next(|| 20);
        (end, run.timeout())
    };
    assert_eq!(deadlines(Limits::default()), (Some(1_005), Some(10)));
    assert_eq!(deadlines(Limits { timeout: Some(50), deadline: Some(2_000) }), (Some(2_005), Some(50)));
    assert_eq!(deadlines(Limits { timeout: Some(Time::MAX), deadline: Some(Time::MAX) }), (None, None));
}

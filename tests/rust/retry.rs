//! When a failed step is tried again.

use proptest::prelude::*;
use treadle::{Backoff, RetryPlan, Time};

fn plan(backoff: Backoff) -> RetryPlan {
    RetryPlan { attempts: 5, backoff, initial: 100, factor: 3.0, max: 5_000, jitter: 0.0, total: None }
}

fn delays(plan: &RetryPlan) -> Vec<Time> {
    (1..=6).map(|attempt| plan.delay(attempt, 0.5)).collect()
}

#[test]
fn a_constant_delay_stays_a_linear_one_grows_by_itself_and_an_exponential_one_by_its_factor() {
    assert_eq!(delays(&plan(Backoff::Constant)), [100; 6]);
    assert_eq!(delays(&plan(Backoff::Linear)), [100, 200, 300, 400, 500, 600]);
    assert_eq!(delays(&plan(Backoff::Exponential)), [100, 300, 900, 2_700, 5_000, 5_000]);
}

#[test]
fn there_are_as_many_attempts_as_were_asked_for() {
    let plan = plan(Backoff::Constant);
    assert_eq!(plan.next(4, None, 1_000, 0.5), Some(1_100));
    assert_eq!(plan.next(5, None, 1_000, 0.5), None);
    assert_eq!(plan.next(u32::MAX, None, 1_000, 0.5), None);
    assert_eq!(RetryPlan { attempts: 0, ..plan }.next(1, None, 0, 0.5), None);
}

#[test]
fn no_attempt_begins_when_the_total_time_is_over() {
    let plan = RetryPlan { total: Some(1_000), ..plan(Backoff::Constant) };
    assert_eq!(plan.next(1, Some(500), 1_400, 0.5), Some(1_500), "just in time");
    assert_eq!(plan.next(1, Some(500), 1_401, 0.5), None);
    assert_eq!(plan.next(1, None, 1_401, 0.5), Some(1_501), "nobody knows when it began");
    let endless = RetryPlan { total: Some(Time::MAX), ..plan };
    assert_eq!(endless.next(1, Some(500), 1_000_000, 0.5), Some(1_000_100));
}

#[test]
fn a_delay_from_outside_is_taken_as_it_is_within_the_attempts_and_the_total_time() {
    let plan = RetryPlan { jitter: 1.0, total: Some(50_000), ..plan(Backoff::Constant) };
    assert_eq!(plan.next_after(1, Some(0), 1_000, 40_000), Some(41_000), "more than the longest delay");
    assert_eq!(plan.next_after(1, Some(0), 20_000, 40_000), None, "the total time is over by then");
    assert_eq!(plan.next_after(5, Some(0), 1_000, 0), None, "that was the last attempt");
    assert_eq!(plan.next_after(1, None, 1_000, Time::MAX), Some(Time::MAX));
}

#[test]
fn an_attempt_beyond_the_end_of_time_is_at_the_end_of_time() {
    assert_eq!(plan(Backoff::Constant).next(1, None, Time::MAX - 3, 0.5), Some(Time::MAX));
}

fn any_backoff() -> impl Strategy<Value = Backoff> {
    prop_oneof![Just(Backoff::Constant), Just(Backoff::Linear), Just(Backoff::Exponential)]
}

fn any_plan() -> impl Strategy<Value = RetryPlan> {
    let factor = prop_oneof![0.0..10.0, Just(1.0), Just(f64::MAX), Just(f64::INFINITY), Just(f64::NAN), Just(-2.0)];
    let time = || prop_oneof![0..100_000_u64, any::<u64>()];
    (any::<u32>(), any_backoff(), time(), factor, time(), 0.0..=1.0, prop::option::of(time())).prop_map(
        |(attempts, backoff, initial, factor, max, jitter, total)| RetryPlan {
            attempts,
            backoff,
            initial,
            factor,
            max,
            jitter,
            total,
        },
    )
}

proptest! {
    #[test]
    fn no_delay_is_longer_than_the_longest_whatever_the_plan(
        plan in any_plan(),
        attempt: u32,
        random in 0.0..1.0,
    ) {
        // The longest delay has as many digits as a float keeps.
        prop_assert!(plan.delay(attempt, random) as f64 <= plan.max as f64);
    }

    #[test]
    fn jitter_moves_a_delay_by_its_part_up_and_down_and_no_further(
        backoff in any_backoff(),
        initial in 1..100_000_u64,
        jitter in 0.0..=1.0,
        attempt in 1..8_u32,
        random in 0.0..1.0,
    ) {
        let plain = RetryPlan { initial, factor: 2.0, max: 1 << 40, ..plan(backoff) };
        let varied = RetryPlan { jitter, ..plain.clone() };
        let (middle, delay) = (plain.delay(attempt, 0.5) as f64, varied.delay(attempt, random) as f64);
        prop_assert!(delay >= (middle * (1.0 - jitter)).floor() && delay <= middle * (1.0 + jitter), "{middle} {delay}");
        prop_assert_eq!(varied.delay(attempt, 0.5), plain.delay(attempt, 0.5), "the middle of the dice is the middle");
    }

    #[test]
    fn the_whole_range_of_the_jitter_is_used(initial in 1_000..100_000_u64) {
        let plan = RetryPlan { initial, jitter: 1.0, max: Time::MAX, ..plan(Backoff::Constant) };
        prop_assert_eq!(plan.delay(1, 0.0), 0);
        prop_assert!(plan.delay(1, 1.0 - f64::EPSILON) >= 2 * initial - 1);
    }

    #[test]
    fn an_attempt_is_due_after_the_failure_and_within_the_total_time(
        plan in any_plan(),
        attempt: u32,
        since in prop::option::of(any::<u64>()),
        now: u64,
        random in 0.0..1.0,
    ) {
        if let Some(due) = plan.next(attempt, since, now, random) {
            prop_assert!(attempt < plan.attempts);
            prop_assert!(due >= now);
            if let (Some(total), Some(since)) = (plan.total, since) {
                prop_assert!(due <= since.saturating_add(total));
            }
        }
    }
}

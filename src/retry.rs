//! When a failed step is tried again. No clock and no dice: both are inputs.

use crate::timers::Time;

/// How the delay grows from one attempt to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// Always the same.
    Constant,
    /// Once the initial delay, twice, three times, …
    Linear,
    /// Times the factor, again and again.
    Exponential,
}

/// How often a step is tried, and with which delays. Times are in microseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPlan {
    /// How many attempts there are, the first one included.
    pub attempts: u32,
    /// How the delay grows.
    pub backoff: Backoff,
    /// The delay after the first attempt.
    pub initial: Time,
    /// What an exponential delay is multiplied by.
    pub factor: f64,
    /// The longest delay.
    pub max: Time,
    /// The part of a delay by which it varies at random, up and down: 0 to 1.
    pub jitter: f64,
    /// No attempt begins later than this after the first one began.
    pub total: Option<Time>,
}

impl RetryPlan {
    /// The delay after an attempt that failed. `random` is from 0 up to 1.
    pub fn delay(&self, attempt: u32, random: f64) -> Time {
        let failed = f64::from(attempt.max(1));
        let growth = match self.backoff {
            Backoff::Constant => 1.0,
            Backoff::Linear => failed,
            Backoff::Exponential => self.factor.powf(failed - 1.0),
        };
        let longest = self.max as f64;
        // A growth without end leaves no delay none: zero times infinity is no number.
        let delay = if self.initial == 0 { 0.0 } else { (self.initial as f64 * growth).min(longest) };
        let spread = 1.0 + self.jitter * (2.0 * random - 1.0);
        (delay * spread).clamp(0.0, longest) as Time
    }

    /// When the next attempt is due, if there is one. `since` is when the first one began.
    pub fn next(&self, attempt: u32, since: Option<Time>, now: Time, random: f64) -> Option<Time> {
        self.next_after(attempt, since, now, self.delay(attempt, random))
    }

    /// As [`RetryPlan::next`], with a delay that the policy does not decide: neither its longest delay nor its jitter
    /// has a part in it.
    pub fn next_after(&self, attempt: u32, since: Option<Time>, now: Time, delay: Time) -> Option<Time> {
        if attempt >= self.attempts {
            return None;
        }
        let due = now.saturating_add(delay);
        let is_in_time = match (self.total, since) {
            (Some(total), Some(since)) => due <= since.saturating_add(total),
            _ => true,
        };
        is_in_time.then_some(due)
    }
}

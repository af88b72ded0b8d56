//! Runs that are taken over again and again: when that is worth while, and when it is no more.
//!
//! A run whose owner was lost is taken over. It has made progress once a commit says so; until then each further
//! take-over waits longer, so that a run which ends its process does not take the others along at once, and after
//! too many of them it is stranded: no process claims it until it is reopened.

use std::time::Duration;

use super::reply::RunRow;
use super::request::{Claim, Phase, Refusal};
use super::rules;
use crate::run_id::RunId;
use crate::timers::Time;

/// What became of a run that was to be claimed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is the claimant's.
    Given,
    /// It is stranded.
    Stranded,
}

/// The second take-over without progress waits so long; each further one twice as long as the one before.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The run's owner was lost while it had the run.
pub(super) fn lose(row: &mut RunRow) {
    row.owner = None;
    row.recoveries = row.recoveries.saturating_add(1);
}

/// Gives a run that no process executes to a process, in a new epoch, unless it was taken over too often.
pub(super) fn take(row: &mut RunRow, claim: &Claim) -> Turn {
    let now = claim.now;
    if claim.claimant.is_too_many(row.recoveries) {
        let times = match row.recoveries - 1 {
            0 => "it was not taken over again".to_owned(),
            1 => "it was taken over once without progress".to_owned(),
            times => format!("it was taken over {times} times without progress"),
        };
        strand(row, now, format!("{times}, and the process that executed it ended each time"));
        return Turn::Stranded;
    }
    rules::give(row, Some(claim.owner));
    row.op = claim.op;
    // In force when this owner is lost as well: nothing is written then, as it may have a million runs.
    row.not_before = wait_before(row.id, row.recoveries + 1).map(|wait| later(now, wait));
    Turn::Given
}

/// A process cannot go on with a run that it has claimed: others may try, or it is stranded.
pub(super) fn refuse(row: &mut RunRow, refusal: &Refusal, now: Time) {
    row.owner = None;
    row.recoveries = row.recoveries.saturating_add(1);
    row.updated = now;
    if refusal.is_damaged {
        return strand(row, now, format!("damaged: {}", refusal.why));
    }
    if refusal.claimant.is_too_many(row.recoveries) {
        let (times, why) = (row.recoveries, &refusal.why);
        return strand(row, now, format!("{times} attempts to go on with it were in vain; the last error: {why}"));
    }
    row.reason = Some(refusal.why.clone());
    row.not_before = wait_before(row.id, row.recoveries.max(2)).map(|wait| later(now, wait));
}

/// The run has got further, or begins anew: what was counted counts no more.
pub(super) fn forget(row: &mut RunRow) {
    row.recoveries = 0;
    row.not_before = None;
    row.reason = None;
}

fn strand(row: &mut RunRow, now: Time, reason: String) {
    row.status.phase = Phase::Stranded;
    row.status.due = None;
    row.owner = None;
    row.not_before = None;
    row.updated = now;
    row.reason = Some(reason);
}

/// How long the take-over of this number waits from the one before on. The first one does not wait. Runs that were
/// lost together are spread over the second half of the time: so one that ends its process leaves time to the others.
fn wait_before(id: RunId, number: u32) -> Option<Duration> {
    let doublings = number.checked_sub(2)?;
    let wait = FIRST_WAIT.saturating_mul(1 << doublings.min(16)).min(LONGEST_WAIT);
    let mut place = u64::from_le_bytes(id.as_bytes()[8..].try_into().unwrap_or_default());
    place = (place ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Some(wait / 2 + (wait / 2).mul_f64((place >> 32) as f64 / f64::from(u32::MAX)))
}

fn later(now: Time, wait: Duration) -> Time {
    now.saturating_add(wait.as_micros() as Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_take_over_waits_longer_than_half_of_the_longest_wait_before() {
        let id = RunId::from_bytes([7; 16]);
        assert_eq!(wait_before(id, 0), None);
        assert_eq!(wait_before(id, 1), None);
        let mut longest = FIRST_WAIT;
        for number in 2..40 {
            let wait = wait_before(id, number).unwrap();
            assert!(longest / 2 <= wait && wait <= longest, "{number}: {wait:?}");
            longest = (longest * 2).min(LONGEST_WAIT);
        }
        assert!(wait_before(id, u32::MAX).unwrap() <= LONGEST_WAIT);
    }

    #[test]
    fn runs_that_were_lost_together_are_not_taken_over_together() {
        let waits: std::collections::HashSet<_> =
            (0..50).map(|byte| wait_before(RunId::from_bytes([byte; 16]), 6)).collect();
        assert!(waits.len() > 40, "{waits:?}");
    }
}

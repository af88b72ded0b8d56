//! The limits of a run's time, and the deadlines that pass.

use super::{Host, Limits, Run, Slot, WaitId};
use crate::record::Record;
use crate::timers::Time;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// The run has taken too long since its first step began.
    Run,
    /// The run had to be over by now.
    End,
    /// A step in flight has taken too long.
    Step(Slot),
    /// A wait has lasted long enough, for an event or for time to pass.
    Wait(WaitId),
    /// A delivery, by its number, is to be tried again; it is queued by now.
    Retry(u64),
    /// Events were held long enough for those who waited and have not come to that point again.
    Settling,
}

impl<H: Host> Run<H> {
    /// Gives a run that has not begun limits of its own, which take the place of the workflow's.
    pub fn limit(&mut self, limits: Limits) {
        self.timeout = limits.timeout.or(self.timeout);
        if let Some(after) = limits.deadline {
            self.timers.clear();
            self.deadline = (after < Time::MAX).then(|| self.created.saturating_add(after));
            if let Some(deadline) = self.deadline {
                self.timers.add(deadline, Deadline::End);
            }
        }
    }

    /// How long the run may take from its first step on, in microseconds.
    #[inline]
    pub fn timeout(&self) -> Option<Time> {
        self.timeout.or(self.plan.timeout).filter(|&timeout| timeout < Time::MAX)
    }

    /// The first step has begun: the time limit counts from then on.
    pub(super) fn begin(&mut self, at: Time) {
        self.begun = Some(at);
        if let Some(timeout) = self.timeout() {
            self.timers.add(at.saturating_add(timeout), Deadline::Run);
        }
    }

    /// How long after it was made the run has to be over, in microseconds.
    pub fn longest(&self) -> Option<Time> {
        self.deadline.map(|deadline| deadline.saturating_sub(self.created))
    }

    /// The next deadline. A run that is paused has none.
    pub fn next_deadline(&mut self) -> Option<Time> {
        if self.is_paused { None } else { self.timers.next_deadline() }
    }

    /// Whether the run has any deadline.
    #[inline]
    pub fn has_deadline(&self) -> bool {
        !self.is_paused && !self.timers.is_empty()
    }

    /// The earliest deadline that has passed, taken out. While the run is paused, none passes.
    pub fn expire(&mut self, now: Time) -> Option<Deadline> {
        if self.is_paused {
            return None;
        }
        let passed = self.timers.expire(now)?;
        if passed == Deadline::Settling {
            self.delay_no_longer();
        }
        if let Deadline::Retry(seq) = passed
            && let Some(delivery) = self.retries.make().remove(&seq)
        {
            self.record(|| Record::Due { seq });
            self.queue.push(delivery);
        }
        Some(passed)
    }
}

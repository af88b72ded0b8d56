//! What the host of a run does next.

use super::{Host, Phase, Run};
use crate::timers::Time;

/// What a run needs of its host, the first that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The outcome is known: nothing starts any more.
    Ended,
    /// Deferred events are to be routed: [`Run::next_release`].
    Release,
    /// Deadlines have passed: [`Run::expire`].
    Expired,
    /// Nothing starts before the run is resumed, or at all if it goes on elsewhere.
    Paused,
    /// The next delivery waits until the run has a place among those of its workflow: [`Run::take_place`].
    NoPlace,
    /// The next delivery waits for its record to be acknowledged.
    HeldBack,
    /// A delivery may start: [`Run::start_next`].
    Ready,
    /// Nothing can ever happen any more.
    Stalled,
    /// Nothing starts before a step in flight does something, an event comes from outside or a deadline passes.
    Idle,
}

impl<H: Host> Run<H> {
    /// Whether the run can go on only when an event comes from outside or a deadline passes. One that can only end does
    /// not wait.
    pub fn only_waits(&self) -> bool {
        self.phase == Phase::Running && self.is_idle() && !self.is_exhausted()
    }

    /// What the host does next. `now` is called only if the run has a deadline.
    #[inline]
    pub fn poll(&mut self, now: impl FnOnce() -> Time) -> Progress {
        if self.phase != Phase::Running {
            return Progress::Ended;
        }
        if self.is_release_due() {
            return Progress::Release;
        }
        if self.has_deadline() && self.next_deadline().is_some_and(|deadline| deadline <= now()) {
            return Progress::Expired;
        }
        if self.is_held() {
            return Progress::Paused;
        }
        if self.lacks_place && self.queue.ready() > 0 {
            return Progress::NoPlace;
        }
        if self.is_held_back() {
            return Progress::HeldBack;
        }
        match self.queue.ready() {
            0 if self.is_stalled() => Progress::Stalled,
            0 => Progress::Idle,
            _ => Progress::Ready,
        }
    }
}

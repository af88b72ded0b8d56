//! Failures that were handed on to other steps, along the events that came of them.
//!
//! A step that deals with a failure may send the failed step its event again, which then fails again: nothing would
//! ever stop that. So what is queued because of a failure knows how many there were in a row, without a success of the
//! step that failed. Failures that are far apart in time are no such row: who waits between them does no harm.
//! This is kept in memory alone; a restart begins to count anew.

use hashbrown::HashMap;

use super::{Host, HostDelivery, Phase, Run, Slot};
use crate::StepId;
use crate::timers::Time;

/// How many failures in a row, each within [`TOO_SOON`] of the one before, are handed on.
pub const MOST_IN_A_ROW: u32 = 100;
/// Microseconds.
const TOO_SOON: Time = 1_000_000;

/// The failures that led to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setbacks {
    /// The step that failed last.
    step: StepId,
    /// How many there were in a row.
    pub in_a_row: u32,
    /// When the last one was.
    at: Time,
}

impl Setbacks {
    /// Whether a failure is not to be handed on any more.
    pub fn are_too_many(self) -> bool {
        self.in_a_row > MOST_IN_A_ROW
    }
}

/// By the number of the delivery.
pub(super) type AllSetbacks = HashMap<u64, Setbacks>;

impl<H: Host> Run<H> {
    /// The failures in a row, with that of a step in flight at this moment.
    pub fn setbacks(&self, slot: Slot, now: Time) -> Option<Setbacks> {
        let step = self.delivery(slot)?.step;
        let before = self.setbacks.get().and_then(|known| known.get(&slot.seq));
        let before = before.filter(|before| now.saturating_sub(before.at) < TOO_SOON);
        let in_a_row = before.map_or(1, |before| before.in_a_row.saturating_add(1));
        Some(Setbacks { step, in_a_row, at: now })
    }

    /// Hands a failure on: queues the event for each of these steps, and is done with the step that failed. Gives back
    /// its delivery; nothing if the run is over or the slot is free.
    pub fn hand_on(
        &mut self,
        slot: Slot,
        takers: &[StepId],
        event: &H::Event,
        setbacks: Setbacks,
    ) -> Option<HostDelivery<H>> {
        self.withdraw(slot);
        if self.phase == Phase::Running {
            for taker in takers {
                self.enqueue(*taker, H::copy_event(event));
                self.setbacks.make().insert(self.delivered, setbacks);
            }
        }
        self.finish_step(slot)
    }

    /// A step in flight has emitted what was queued since there were `before` deliveries. What the step that failed
    /// emits itself begins anew: it has got further.
    #[inline]
    pub(super) fn inherit(&mut self, slot: Slot, before: u64) {
        if self.setbacks.get().is_some() {
            self.pass_setbacks_on(slot, before);
        }
    }

    #[cold]
    fn pass_setbacks_on(&mut self, slot: Slot, before: u64) {
        let step = self.delivery(slot).map(|delivery| delivery.step);
        let known = self.setbacks.make();
        if let Some(setbacks) = known.get(&slot.seq).copied()
            && step.is_some_and(|step| step != setbacks.step)
        {
            known.extend((before + 1..=self.delivered).map(|seq| (seq, setbacks)));
        }
    }

    /// A delivery is done.
    #[inline]
    pub(super) fn forget_setbacks(&mut self, seq: u64) {
        if let Some(known) = self.setbacks.get_mut() {
            known.remove(&seq);
        }
    }
}

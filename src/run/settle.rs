//! Bodies that run again and waited before: until they have come to that point again, events of the classes that they
//! waited for are held.
//!
//! A waiter has precedence over the steps that accept an event, and must not lose it because its body was stopped
//! or its process ended. So such a body delays what it may be waiting for, until it waits again or has ended. It does
//! not delay what it sends itself, nor anything before it has a place in its step, nor anything longer than
//! [`MOST_DELAY`]: it may be waiting, in a way of its own, for what comes of the very event that is held.

use super::{Deadline, Host, HostDelivery, Phase, Run, Slot, WaitId};
use crate::image::Waiting;
use crate::record::Record;
use crate::timers::Time;

/// How long events are held for bodies that run again, in microseconds.
pub const MOST_DELAY: Time = 60_000_000;

/// The waits of bodies that have not come to that point again, by number.
pub struct Settling<H: Host> {
    waits: Vec<One<H::Class>>,
    // When events were held long enough.
    timer: Option<u64>,
}

struct One<C> {
    wait: u64,
    waiting: Waiting<C>,
    // Whether events of its class are held.
    delays: bool,
}

impl<H: Host> Default for Settling<H> {
    fn default() -> Self {
        Self { waits: Vec::new(), timer: None }
    }
}

impl<H: Host> Settling<H> {
    pub(super) fn new(waits: Vec<(u64, Waiting<H::Class>)>) -> Self {
        let waits = waits.into_iter().map(|(wait, waiting)| One { wait, waiting, delays: false });
        Self { waits: waits.collect(), timer: None }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Waiting<H::Class>)> {
        self.waits.iter().map(|one| (one.wait, &one.waiting))
    }

    pub(super) fn classes(&self) -> impl Iterator<Item = &H::Class> {
        self.waits.iter().filter_map(|one| one.waiting.class.as_ref())
    }

    pub(super) fn take_classes(&mut self) -> impl Iterator<Item = H::Class> + use<H> {
        std::mem::take(&mut self.waits).into_iter().filter_map(|one| one.waiting.class)
    }

    /// The body of a delivery can run up to where it waited, whatever else does not.
    pub(super) fn delay_for(&mut self, seq: u64) {
        for one in self.waits.iter_mut().filter(|one| one.waiting.seq == seq) {
            one.delays = true;
        }
    }

    fn place(&self, wait: u64) -> usize {
        self.waits.partition_point(|one| one.wait < wait)
    }
}

impl<H: Host> Run<H> {
    /// Whether a body waited when the run was put down or its body was stopped, and has not come to that point
    /// again: an event that no waiter takes may be for it.
    #[inline]
    pub fn is_settling(&self) -> bool {
        self.settling.get().is_some_and(|settling| !settling.waits.is_empty())
    }

    /// The next wait behind the one numbered `after` for which events are held, with the class. No wait of the
    /// delivery `sender` is meant, and none for the class `other`.
    pub fn next_delaying(
        &self,
        after: Option<u64>,
        sender: Option<u64>,
        other: Option<&H::Class>,
    ) -> Option<(u64, &H::Class)> {
        let settling = self.settling.get()?;
        let from = after.map_or(0, |after| settling.place(after + 1));
        let delaying = settling.waits[from..].iter().filter(|one| one.delays && Some(one.waiting.seq) != sender);
        delaying
            .filter_map(|one| Some((one.wait, one.waiting.class.as_ref()?)))
            .find(|(_, class)| Some(*class) != other)
    }

    /// Whether events are held for this wait.
    pub fn is_delaying(&self, wait: u64) -> bool {
        let settling = self.settling.get().and_then(|settling| settling.waits.get(settling.place(wait)));
        let is_settling = settling.is_some_and(|one| one.wait == wait && one.delays);
        is_settling || self.delaying(WaitId(wait)).is_some()
    }

    /// The number of an open wait if its body was stopped and has not noticed yet.
    pub fn delaying(&self, id: WaitId) -> Option<u64> {
        let at = self.waits.open.binary_search_by_key(&id, |wait| wait.id).ok()?;
        self.flight(self.waits.open[at].slot).filter(|flight| flight.is_stopping).map(|_| id.0)
    }

    /// The body of a step in flight is stopped, to run again.
    pub fn stop(&mut self, slot: Slot) {
        if let Some(flight) = self.flight_mut(slot) {
            flight.is_stopping = true;
        }
    }

    /// Whether the body of a step in flight is stopped, as far as is known.
    pub(super) fn is_to_run_again(&self, slot: Slot) -> bool {
        self.flight(slot).is_some_and(|flight| flight.is_stopping || self.is_held())
    }

    /// An event is held for a body that has to come to its wait again.
    pub fn delay(&mut self, now: impl FnOnce() -> Time) {
        let settling = self.settling.make();
        if settling.timer.is_none() {
            settling.timer = Some(self.timers.add(now().saturating_add(MOST_DELAY), Deadline::Settling));
        }
    }

    /// Those who have not waited again by now have no precedence any more.
    pub(super) fn delay_no_longer(&mut self) {
        let settling = self.settling.make();
        settling.timer = None;
        settling.waits.iter_mut().for_each(|one| one.delays = false);
        self.release_all();
    }

    /// A body in flight was stopped where it waited, and is to come there again.
    pub(super) fn settle_later(&mut self, slot: Slot, wait: u64, waiting: Waiting<H::Class>) {
        if let Some(flight) = self.flight_mut(slot) {
            flight.delivery.is_settling = true;
        }
        let settling = self.settling.make();
        let at = settling.place(wait);
        settling.waits.insert(at, One { wait, waiting, delays: true });
    }

    /// A body in flight that is stopped gives back an event of a class: it is to wait for it again.
    pub fn wait_again(&mut self, slot: Slot, class: &H::Class) {
        if self.phase != Phase::Running || !self.is_to_run_again(slot) {
            return;
        }
        self.waits.begun += 1;
        let wait = self.waits.begun;
        let waiting = Waiting { seq: slot.seq, class: Some(class.clone()), due: None };
        self.record(|| Record::Waiting { wait, waiting: waiting.clone() });
        self.settle_later(slot, wait, waiting);
    }

    /// A step in flight has come to a point where it waits, or at least sleeps: that may be on its way to there.
    pub(super) fn settle_flight(&mut self, slot: Slot, is_sleep: bool) {
        if !self.is_settling() || !self.delivery(slot).is_some_and(|delivery| delivery.is_settling) {
            return;
        }
        self.forget_settling(slot.seq, is_sleep);
        let is_settling = self.settling.get().is_some_and(|it| it.waits.iter().any(|one| one.waiting.seq == slot.seq));
        if let Some(flight) = self.flight_mut(slot) {
            flight.delivery.is_settling = is_settling;
        }
    }

    /// A delivery has come again to where it waited when the run was put down, or past it.
    #[inline]
    pub(super) fn settle(&mut self, delivery: &mut HostDelivery<H>) {
        if std::mem::take(&mut delivery.is_settling) {
            self.forget_settling(delivery.seq, false);
        }
    }

    #[cold]
    fn forget_settling(&mut self, seq: u64, sleeps_alone: bool) {
        let is_settled =
            |one: &mut One<H::Class>| one.waiting.seq == seq && !(sleeps_alone && one.waiting.class.is_some());
        let settled: Vec<_> = self.settling.make().waits.extract_if(.., is_settled).collect();
        for one in settled {
            self.record(|| Record::WaitOver { wait: one.wait });
        }
        if !self.is_settling()
            && let Some(timer) = self.settling.make().timer.take()
        {
            self.timers.cancel(timer);
        }
        self.release_all();
    }
}

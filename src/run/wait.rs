//! Waiting, for an event or for time to pass, and the events that wait to be asked for.

use std::collections::VecDeque;

use super::{Deadline, Host, Phase, Run, Slot};
use crate::image::Waiting;
use crate::record::Record;
use crate::replay::Wanted;
use crate::timers::Time;
use crate::{Error, Refused};

/// Names a waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitId(pub(super) u64);

// Leaves room below, for events that are kept again ahead of others.
pub(super) const KEPT_FROM: u64 = 1 << 62;

pub(super) struct Wait<H: Host> {
    pub id: WaitId,
    waiter: H::Waiter,
    timer: Option<u64>,
    pub slot: Slot,
    // What it waits for; nothing if it sleeps.
    pub class: Option<H::Class>,
    pub due: Option<Time>,
    // Whether the body itself awaits it, and no task that it has started.
    is_of_body: bool,
}

/// Those who wait, in the order of their ids.
pub struct Waits<H: Host> {
    pub(super) open: VecDeque<Wait<H>>,
    pub(super) begun: u64,
}

impl<H: Host> Default for Waits<H> {
    fn default() -> Self {
        Self { open: VecDeque::new(), begun: 0 }
    }
}

impl<H: Host> Waits<H> {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn take(&mut self) -> (Vec<H::Waiter>, Vec<H::Class>) {
        let open = std::mem::take(&mut self.open).into_iter();
        let (waiters, classes): (Vec<_>, Vec<_>) = open.map(|wait| (wait.waiter, wait.class)).unzip();
        (waiters, classes.into_iter().flatten().collect())
    }
}

/// A wait that is over.
pub struct WaitOver<H: Host> {
    /// Who waited.
    pub waiter: H::Waiter,
    /// The body whose wait it was.
    pub slot: Slot,
    /// For which class of events; nothing for a sleep.
    pub class: Option<H::Class>,
}

impl<H: Host> Run<H> {
    /// A step in flight waits for an event of a class, at most until `deadline`, or sleeps until then.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    #[allow(clippy::type_complexity)]
    pub fn wait(
        &mut self,
        slot: Slot,
        waiter: H::Waiter,
        class: Option<H::Class>,
        deadline: Option<Time>,
    ) -> Result<WaitId, Refused<(H::Waiter, Option<H::Class>)>> {
        if self.phase != Phase::Running {
            return Err(Refused::new(Error::RunEnded, (waiter, class)));
        }
        self.waits.begun += 1;
        let id = WaitId(self.waits.begun);
        let timer = deadline.map(|at| self.timers.add(at, Deadline::Wait(id)));
        self.settle_flight(slot, class.is_none());
        if let Some(flight) = self.flight_mut(slot) {
            flight.is_stopping = false;
        }
        self.begin_wait(slot);
        self.record(|| Record::Waiting {
            wait: id.0,
            waiting: Waiting { seq: slot.seq, class: class.clone(), due: deadline },
        });
        if self.waits.open.is_empty() {
            self.waits.open.reserve_exact(1);
        }
        self.waits.open.push_back(Wait { id, waiter, timer, slot, class, due: deadline, is_of_body: false });
        Ok(id)
    }

    /// The body itself awaits what it has begun to wait for: it does not move before the wait is over. Without this a
    /// task that it has started may be the one that waits.
    pub fn body_awaits(&mut self, id: WaitId) {
        let Ok(at) = self.waits.open.binary_search_by_key(&id, |wait| wait.id) else { return };
        let wait = &mut self.waits.open[at];
        if std::mem::replace(&mut wait.is_of_body, true) {
            return;
        }
        let slot = wait.slot;
        if let Some(flight) = self.flight_mut(slot) {
            flight.body_waits += 1;
        }
    }

    /// Those who wait for an event or sleep, in the order in which they came.
    pub fn waiters(&self) -> impl ExactSizeIterator<Item = (WaitId, &H::Waiter)> {
        self.waits.open.iter().map(|wait| (wait.id, &wait.waiter))
    }

    /// The waits that are not over: which step in flight waits, and for what class, if it does not sleep.
    pub fn open_waits(&self) -> impl Iterator<Item = (WaitId, Slot, Option<&H::Class>)> {
        self.waits.open.iter().map(|wait| (wait.id, wait.slot, wait.class.as_ref()))
    }

    /// The classes that are waited for, for a host that has to visit them.
    pub fn waited_classes(&self) -> impl Iterator<Item = &H::Class> {
        self.waits
            .open
            .iter()
            .filter_map(|wait| wait.class.as_ref())
            .chain(self.settling.get().into_iter().flat_map(super::settle::Settling::classes))
    }

    /// The next waiter for an event behind `after`; the first for `None`. Sleeps are not included.
    pub fn next_waiter(&self, after: Option<WaitId>) -> Option<(WaitId, &H::Waiter, &H::Class)> {
        let at = after.map_or(0, |after| self.waits.open.partition_point(|wait| wait.id <= after));
        self.waits.open.range(at..).find_map(|wait| Some((wait.id, &wait.waiter, wait.class.as_ref()?)))
    }

    /// Whether there still is a waiter of this name.
    pub fn is_waiting(&self, id: WaitId) -> bool {
        self.waits.open.binary_search_by_key(&id, |wait| wait.id).is_ok()
    }

    /// Ends a wait: its time is over, or it was given up.
    pub fn end_wait(&mut self, id: WaitId) -> Option<WaitOver<H>> {
        let wait = self.close_wait(id)?;
        self.record(|| Record::WaitOver { wait: id.0 });
        Some(WaitOver { waiter: wait.waiter, slot: wait.slot, class: wait.class })
    }

    /// Ends a wait that its body gave up. One that was stopped is to wait again.
    pub fn give_up(&mut self, id: WaitId) -> Option<WaitOver<H>> {
        let at = self.waits.open.binary_search_by_key(&id, |wait| wait.id).ok()?;
        let slot = self.waits.open[at].slot;
        if !self.is_to_run_again(slot) {
            return self.end_wait(id);
        }
        let wait = self.close_wait(id)?;
        let waiting = Waiting { seq: slot.seq, class: wait.class.clone(), due: wait.due };
        self.settle_later(slot, id.0, waiting);
        Some(WaitOver { waiter: wait.waiter, slot: wait.slot, class: wait.class })
    }

    /// Ends a wait because its event is there: the step in flight has received it, and receives it again if its
    /// body runs again. Returns `None` if there is no waiter of that name any more.
    pub fn receive(&mut self, id: WaitId, event: &H::Event) -> Option<WaitOver<H>> {
        let wait = self.close_wait(id)?;
        self.record(|| Record::WaitOver { wait: id.0 });
        let slot = wait.slot;
        // A task that a step left behind may have waited: nothing of it runs again.
        if let Some(flight) = self.flight_mut(slot) {
            flight.delivery.replay_mut().receive(H::copy_event(event));
            self.record(|| Record::Received { seq: slot.seq, event: H::copy_event(event) });
        }
        Some(WaitOver { waiter: wait.waiter, slot: wait.slot, class: wait.class })
    }

    fn close_wait(&mut self, id: WaitId) -> Option<Wait<H>> {
        let at = self.waits.open.binary_search_by_key(&id, |wait| wait.id).ok()?;
        let wait = self.waits.open.remove(at)?;
        if let Some(timer) = wait.timer {
            self.timers.cancel(timer);
        }
        self.finish_wait(wait.slot, wait.is_of_body);
        Some(wait)
    }

    /// The events that an earlier body of a delivery received, and the running one has not asked for again.
    pub fn received_before(&self, slot: Slot) -> impl Iterator<Item = (usize, &H::Event)> {
        let replay = self.delivery(slot).and_then(|delivery| delivery.replay.as_deref());
        replay.into_iter().flat_map(|replay| replay.unclaimed(0))
    }

    /// The next of them from a place on.
    pub fn next_received_before(&self, slot: Slot, from: usize) -> Option<(usize, &H::Event)> {
        self.delivery(slot)?.replay.as_deref()?.unclaimed(from).next()
    }

    /// The running body gets an event that an earlier one received. Says whether it had not yet.
    pub fn receive_again(&mut self, slot: Slot, place: usize) -> bool {
        let replay = self.flight_mut(slot).and_then(|flight| flight.delivery.replay.as_mut());
        replay.is_some_and(|replay| replay.claim(place))
    }

    /// The step went away before it saw an event that it had received: it is as if it had not.
    pub fn take_back(&mut self, slot: Slot, event: &H::Event) -> Option<H::Event> {
        let replay = self.flight_mut(slot)?.delivery.replay.as_mut()?;
        let place = replay.received.iter().rposition(|received| H::is_same_event(received, event))?;
        let taken = replay.take_back(place);
        self.record(|| Record::Returned { seq: slot.seq, place: place as u64 });
        taken
    }

    /// When something is over that a step in flight asks for now: as an earlier body of this attempt was told.
    pub fn ask_deadline(&mut self, slot: Slot, wanted: Wanted, now: impl FnOnce() -> Time) -> Time {
        let (Wanted::Sleep(micros) | Wanted::Wait(micros)) = wanted;
        let Some(flight) = self.flight_mut(slot) else { return now().saturating_add(micros) };
        let replay = flight.delivery.replay_mut();
        if let Some(at) = replay.deadline_before(wanted) {
            return at;
        }
        let at = now().saturating_add(micros);
        let place = replay.set_deadline(wanted, at) as u64;
        self.record(|| Record::Asked { seq: slot.seq, place, wanted, at });
        at
    }

    /// Keeps an event for which no waiter waits yet.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    pub fn keep(&mut self, event: H::Event) -> Result<(), Refused<H::Event>> {
        if self.phase != Phase::Running {
            return Err(Refused::new(Error::RunEnded, event));
        }
        self.kept_ever += 1;
        let number = self.kept_ever;
        self.record(|| Record::Kept { number, event: H::copy_event(&event) });
        self.kept.make().push_back((number, event));
        Ok(())
    }

    /// Keeps an event ahead of the others: it was taken out, but its waiter went away.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    pub fn keep_again(&mut self, event: H::Event) -> Result<(), Refused<H::Event>> {
        if self.phase != Phase::Running {
            return Err(Refused::new(Error::RunEnded, event));
        }
        self.kept_again += 1;
        let number = KEPT_FROM - self.kept_again;
        self.record(|| Record::Kept { number, event: H::copy_event(&event) });
        self.kept.make().push_front((number, event));
        Ok(())
    }

    /// The events kept for later waiters, oldest first, each with its number.
    pub fn kept(&self) -> impl Iterator<Item = (u64, &H::Event)> {
        self.kept.get().into_iter().flatten().map(|(number, event)| (*number, event))
    }

    /// The next of them behind a number.
    pub fn next_kept(&self, after: u64) -> Option<(u64, &H::Event)> {
        let kept = self.kept.get()?;
        let at = kept.partition_point(|(number, _)| *number <= after);
        kept.get(at).map(|(number, event)| (*number, event))
    }

    /// A step in flight receives a kept event.
    pub fn take_kept(&mut self, slot: Slot, number: u64) -> Option<H::Event> {
        let kept = self.kept.get_mut()?;
        let at = kept.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        let (_, event) = kept.remove(at)?;
        self.settle_flight(slot, false);
        match self.flight_mut(slot) {
            Some(flight) => {
                flight.delivery.replay_mut().receive(H::copy_event(&event));
                self.record(|| Record::ReceivedKept { seq: slot.seq, number });
            }
            None => self.record(|| Record::KeptTaken { number }),
        }
        Some(event)
    }

    /// A step in flight receives a held event.
    pub fn take_held(&mut self, slot: Slot, number: u64) -> Option<H::Event> {
        let event = self.release(number)?.event;
        self.settle_flight(slot, false);
        if let Some(flight) = self.flight_mut(slot) {
            flight.delivery.replay_mut().receive(H::copy_event(&event));
            self.record(|| Record::Received { seq: slot.seq, event: H::copy_event(&event) });
        }
        Some(event)
    }
}

//! Deliveries: from the queue through a step to its end.

use std::num::NonZeroU64;

use hashbrown::HashMap;

use super::flight::{Flight, Place};
use super::{Deadline, Host, HostDelivery, Origin, Phase, Run, Slot, Started, pause};
use crate::event::{Delivery, StepId};
use crate::record::Record;
use crate::replay::Failure;
use crate::timers::Time;
use crate::{Error, EventKind, Refused};

impl<H: Host> Run<H> {
    /// Routes an event: one delivery for each step that takes its kind.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    #[inline]
    pub fn deliver(&mut self, kind: EventKind, event: H::Event) -> Result<(), Refused<H::Event>> {
        if self.phase != Phase::Running {
            return Err(Refused::new(Error::RunEnded, event));
        }
        // Routes have at least one step.
        let last = self.plan.routes.steps(kind).len() - 1;
        for at in 0..last {
            let step = self.plan.routes.steps(kind)[at];
            self.enqueue(step, H::copy_event(&event));
        }
        self.enqueue(self.plan.routes.steps(kind)[last], event);
        Ok(())
    }

    /// Delivers an event to one step, whatever its kind.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    pub fn deliver_to(&mut self, step: StepId, event: H::Event) -> Result<(), Refused<H::Event>> {
        if self.phase != Phase::Running {
            return Err(Refused::new(Error::RunEnded, event));
        }
        self.enqueue(step, event);
        Ok(())
    }

    /// The body of a step in flight sends an event to one step, past the waiters for its class. It is queued at once,
    /// also while the run is paused.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    pub fn send_to(&mut self, slot: Slot, digest: u64, step: StepId, event: H::Event) -> Result<(), Refused<H::Event>> {
        let before = self.delivered;
        self.deliver_to(step, event)?;
        // Nothing is finished by it.
        self.conclude(Origin::Sent { slot, digest }, before, || 0);
        Ok(())
    }

    #[inline]
    pub(super) fn enqueue(&mut self, step: StepId, event: H::Event) {
        self.delivered += 1;
        let seq = self.delivered;
        self.record(|| Record::Queued { seq, step, event: H::copy_event(&event) });
        self.queue.push(Delivery { recorded: self.recorded, ..Delivery::new(seq, step, event) });
    }

    /// How many deliveries could start now.
    #[inline]
    pub fn ready(&self) -> usize {
        if self.is_held() || self.lacks_place || self.is_held_back() { 0 } else { self.queue.ready() }
    }

    /// Takes the next ready delivery to be run; the host reads its event with [`Run::event`]. `now` is called
    /// only if the time is needed.
    #[inline]
    pub fn start_next(&mut self, now: impl FnOnce() -> Time) -> Option<Started> {
        if self.phase != Phase::Running || self.is_held() || self.lacks_place || self.is_held_back() {
            return None;
        }
        let delivery = self.queue.pop()?;
        let (step, seq, attempt) = (delivery.step, delivery.seq, delivery.attempt);
        let plan = &self.plan.steps[step.0 as usize];
        let timeout = plan.timeout;
        let has_total = || plan.retry.as_ref().is_some_and(|retry| retry.total.is_some());
        let is_timed = plan.is_timed || timeout.is_some() || has_total();
        self.starts = self.starts.wrapping_add(1);
        let slot = self.occupy(Flight {
            delivery,
            start: self.starts,
            timer: None,
            waits: 0,
            body_waits: 0,
            has_tasks: false,
            is_stopping: false,
        });
        if is_timed || self.log.is_some() || self.timeout().is_some() {
            self.note_start(slot, timeout, now());
        }
        Some(Started { slot, step, seq, attempt })
    }

    fn note_start(&mut self, slot: Slot, timeout: Option<Time>, now: Time) {
        let since = NonZeroU64::new(now).unwrap_or(NonZeroU64::MIN);
        if self.begun.is_none() && (self.log.is_some() || self.timeout().is_some()) {
            self.begin(since.get());
        }
        let timer = timeout.map(|timeout| self.timers.add(now.saturating_add(timeout), Deadline::Step(slot)));
        if let Some(flight) = self.flight_mut(slot) {
            flight.timer = timer;
            flight.delivery.since = flight.delivery.since.or(Some(since));
        }
        self.record(|| Record::Started { seq: slot.seq, at: since.get() });
    }

    /// A step in flight has finished, one way or another. Gives back its delivery.
    #[inline]
    pub fn finish_step(&mut self, slot: Slot) -> Option<HostDelivery<H>> {
        if self.phase == Phase::Running {
            self.dispatch(slot);
        }
        let mut delivery = self.leave(slot)?;
        self.settle(&mut delivery);
        self.forget_setbacks(slot.seq);
        let at = self.time;
        self.record(|| Record::Finished { seq: slot.seq, at });
        Some(delivery)
    }

    /// The body of a step in flight has failed, and the delivery is to be tried again when it is `due`. Until
    /// then it holds no place in its step.
    ///
    /// # Errors
    /// The delivery, for the caller to drop, with [`Error::RunEnded`] once the outcome is known; nothing if the
    /// slot is free.
    pub fn retry(&mut self, slot: Slot, text: Box<str>, due: Time) -> Result<(), Option<Refused<HostDelivery<H>>>> {
        let Some(mut delivery) = self.leave(slot) else { return Err(None) };
        self.settle(&mut delivery);
        if self.phase != Phase::Running {
            return Err(Some(Refused::new(Error::RunEnded, delivery)));
        }
        let failure = Failure { attempt: delivery.attempt, text };
        let at = self.time;
        self.record(|| Record::Retried { seq: slot.seq, failure: failure.clone(), at, due });
        delivery.attempt = delivery.attempt.saturating_add(1);
        let replay = delivery.replay_mut();
        replay.fail(failure);
        replay.rewind();
        self.timers.add(due, Deadline::Retry(slot.seq));
        self.retries.make().insert(slot.seq, delivery);
        Ok(())
    }

    /// Puts the delivery of a stopped step back, to be run again before all others.
    ///
    /// # Errors
    /// As [`Run::retry`].
    pub fn put_back(&mut self, slot: Slot) -> Result<(), Option<Refused<HostDelivery<H>>>> {
        let Some(mut delivery) = self.leave(slot) else { return Err(None) };
        if self.phase != Phase::Running {
            return Err(Some(Refused::new(Error::RunEnded, delivery)));
        }
        if let Some(replay) = &mut delivery.replay {
            replay.rewind();
        }
        self.queue.put_back(delivery);
        Ok(())
    }

    /// Whether an earlier body of a step in flight has sent what the running one has not come to yet.
    pub fn knows_sends(&mut self, slot: Slot) -> bool {
        let replay = self.flight_mut(slot).and_then(|flight| flight.delivery.replay.as_ref());
        replay.is_some_and(|replay| replay.knows_sends())
    }

    /// The body of a step in flight sends an event, whose digest is the `same` as one that an earlier body may have
    /// sent. Says whether that has sent it already: then it is not to be delivered.
    pub fn sends_again(&mut self, slot: Slot, same: impl Fn(u64) -> bool) -> bool {
        let replay = self.flight_mut(slot).and_then(|flight| flight.delivery.replay.as_mut());
        replay.is_some_and(|replay| replay.sends_again(same))
    }

    /// An event that the body of a step in flight has sent is on its way.
    pub fn note_sent(&mut self, slot: Slot, digest: u64) {
        let Some(flight) = self.flight_mut(slot) else { return };
        flight.delivery.replay_mut().send(digest);
        self.record(|| Record::Sent { seq: slot.seq, digest });
    }

    /// Every event that the run holds but does not publish, for a host that has to visit them.
    pub fn events(&self) -> impl Iterator<Item = &H::Event> {
        let collected = self.groups.iter().flat_map(|group| group.collected.pending());
        let held = self.held.get().into_iter().flat_map(pause::HeldEvents::iter).map(|held| &held.event);
        let kept = self.kept.get().into_iter().flatten().map(|(_, event)| event);
        let recorded = self.log.iter().flatten().filter_map(Record::event);
        let kept = kept.chain(self.sending.get().into_iter().flat_map(super::sending::Sending::events));
        self.deliveries().flat_map(events_of).chain(collected).chain(kept).chain(held).chain(recorded)
    }

    /// Every delivery that is not done.
    pub(super) fn deliveries(&self) -> impl Iterator<Item = &HostDelivery<H>> {
        let in_flight = self.flights.iter().filter_map(|place| match place {
            Place::Taken(flight) => Some(&flight.delivery),
            Place::Free(_) => None,
        });
        in_flight.chain(self.queue.waiting()).chain(self.retries.get().into_iter().flat_map(HashMap::values))
    }
}

fn events_of<E, C, V>(delivery: &Delivery<E, C, V>) -> impl Iterator<Item = &E> {
    std::iter::once(&delivery.event).chain(delivery.replay.iter().flat_map(|replay| replay.events()))
}

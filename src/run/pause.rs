//! Holding a run: nothing starts, no deadline passes, and events that come are held until it is resumed.

use std::collections::VecDeque;

use super::{Host, Phase, Run};
use crate::image::Held;
use crate::record::Record;
use crate::{Error, Refused};

impl<H: Host> Run<H> {
    /// Whether the run starts nothing for now.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Starts nothing from now on, though the run is not paused: it goes on elsewhere. Steps in flight may finish.
    pub fn drain(&mut self) {
        self.is_draining = true;
    }

    /// Whether the run starts nothing, since it is paused or goes on elsewhere.
    pub fn is_held(&self) -> bool {
        self.is_paused || self.is_draining
    }

    /// Starts nothing from now on. Says whether it did so before.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    pub fn pause(&mut self) -> Result<bool, Error> {
        if self.phase != Phase::Running {
            return Err(Error::RunEnded);
        }
        if self.is_paused {
            return Ok(true);
        }
        self.is_paused = true;
        self.record(|| Record::Paused);
        Ok(false)
    }

    /// Goes on. The events that came meanwhile are still held: the host has them go their way, one by one.
    pub fn resume(&mut self) {
        if self.phase == Phase::Running && std::mem::take(&mut self.is_paused) {
            self.record(|| Record::Resumed);
            self.finish_waits_for_ended();
            self.release_all();
        }
    }

    /// Whether every step in flight waits for an event or sleeps: while the run is paused, nothing moves then.
    pub fn is_quiet(&self) -> bool {
        self.in_flight == self.waiting
    }

    /// Holds an event, behind the others.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    pub fn hold(&mut self, event: H::Event, is_from_outside: bool) -> Result<(), Refused<H::Event>> {
        if self.phase != Phase::Running {
            return Err(Refused::new(Error::RunEnded, event));
        }
        self.record(|| Record::Held { is_from_outside, event: H::copy_event(&event) });
        self.held.make().push_back(Held { is_from_outside, event });
        Ok(())
    }

    /// Holds an event ahead of the others: it came before them, but its receiver went away.
    ///
    /// # Errors
    /// As [`Run::hold`].
    pub fn hold_again(&mut self, event: H::Event) -> Result<(), Refused<H::Event>> {
        if self.phase != Phase::Running {
            return Err(Refused::new(Error::RunEnded, event));
        }
        self.record(|| Record::HeldAgain { event: H::copy_event(&event) });
        self.held.make().push_front(Held { is_from_outside: true, event });
        Ok(())
    }

    /// Whether events go to the steps that accept them: there is no waiter, and none is held.
    #[inline]
    pub fn is_direct(&self) -> bool {
        self.phase == Phase::Running
            && !self.is_paused
            && !self.is_release_due
            && self.waits.is_empty()
            && !self.is_settling()
    }

    /// Whether any event is held.
    #[inline]
    pub fn has_held(&self) -> bool {
        self.held.get().is_some_and(|held| !held.is_empty())
    }

    /// Whether the held events are to be looked at, since nothing may hold them any more. Until that is done, what
    /// comes is held behind them, so that events keep their order.
    #[inline]
    pub fn is_release_due(&self) -> bool {
        self.is_release_due && !self.is_paused && self.phase == Phase::Running
    }

    /// The next held event behind the one numbered `after`, with its number; the first for `None`.
    pub fn next_held(&self, after: Option<u64>) -> Option<(u64, &Held<H::Event>)> {
        self.held.get()?.next(after)
    }

    /// The next held event to be looked at, each once. Once there is none, what comes need not be held behind them.
    pub fn next_release(&mut self) -> Option<(u64, &Held<H::Event>)> {
        let after = self.released_up_to;
        let next = self.held.get().and_then(|held| held.next(after)).map(|(number, _)| number);
        self.released_up_to = next;
        self.is_release_due &= next.is_some();
        next.and_then(|_| self.held.get()?.next(after))
    }

    /// All held events are to be looked at, from the first one on.
    pub(super) fn release_all(&mut self) {
        self.released_up_to = None;
        self.is_release_due = self.has_held();
    }

    /// Whether the event of this number is still held.
    pub fn is_holding(&self, number: u64) -> bool {
        self.held.get().is_some_and(|held| held.place(number).is_some())
    }

    /// Holds an event no longer: in the same step the host says where it goes.
    pub fn release(&mut self, number: u64) -> Option<Held<H::Event>> {
        let held = self.held.get_mut()?;
        let place = held.place(number)?;
        let released = held.remove(place)?;
        self.record(|| Record::Released { place: place as u64 });
        Some(released)
    }
}

/// The events that a run holds, in their order. Numbers are given to them for as long as the run is in memory.
pub struct HeldEvents<E> {
    events: VecDeque<(u64, Held<E>)>,
    first: u64,
    next: u64,
}

// There is room on both sides.
const FIRST: u64 = 1 << 62;

impl<E> Default for HeldEvents<E> {
    fn default() -> Self {
        Self { events: VecDeque::new(), first: FIRST, next: FIRST }
    }
}

impl<E> FromIterator<Held<E>> for HeldEvents<E> {
    fn from_iter<I: IntoIterator<Item = Held<E>>>(events: I) -> Self {
        let events: VecDeque<_> = (FIRST..).zip(events).collect();
        Self { first: FIRST, next: FIRST + events.len() as u64, events }
    }
}

impl<E> HeldEvents<E> {
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Held<E>> {
        self.events.iter().map(|(_, held)| held)
    }

    pub(super) fn into_events(self) -> impl Iterator<Item = E> {
        self.events.into_iter().map(|(_, held)| held.event)
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    fn push_back(&mut self, held: Held<E>) {
        self.events.push_back((self.next, held));
        self.next += 1;
    }

    fn push_front(&mut self, held: Held<E>) {
        self.first -= 1;
        self.events.push_front((self.first, held));
    }

    fn next(&self, after: Option<u64>) -> Option<(u64, &Held<E>)> {
        let at = after.map_or(0, |after| self.events.partition_point(|(number, _)| *number <= after));
        self.events.get(at).map(|(number, held)| (*number, held))
    }

    fn place(&self, number: u64) -> Option<usize> {
        self.events.binary_search_by_key(&number, |(number, _)| *number).ok()
    }

    fn remove(&mut self, place: usize) -> Option<Held<E>> {
        self.events.remove(place).map(|(_, held)| held)
    }
}

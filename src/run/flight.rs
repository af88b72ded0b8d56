//! Deliveries in flight: the places of the bodies that run, and the names of those places.

use super::{Host, HostDelivery, Run};
use crate::event::{Delivery, StepId};

/// Names one body in flight: a place, the number of the delivery that has it, and that of the start, since
/// another delivery may have the place next, or the same one with another body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    pub(super) place: u32,
    pub(super) start: u32,
    pub(super) seq: u64,
}

impl Slot {
    /// The number of the delivery.
    pub fn seq(self) -> u64 {
        self.seq
    }
}

/// A delivery that has been taken to be run.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    /// Names it until it completes.
    pub slot: Slot,
    /// The step to run.
    pub step: StepId,
    /// The number of its delivery.
    pub seq: u64,
    /// 1 on the first try.
    pub attempt: u32,
}

pub(super) struct Flight<E, C, V> {
    pub(super) delivery: Delivery<E, C, V>,
    pub(super) start: u32,
    pub(super) timer: Option<u64>,
    // How many waits it has begun that are not over, and how many of them the body itself awaits.
    pub(super) waits: u32,
    pub(super) body_waits: u32,
    // Whether tasks that the body has started have waited or made calls: they may move while the body waits.
    pub(super) has_tasks: bool,
    // Whether its body was stopped, to run again.
    pub(super) is_stopping: bool,
}

impl<E, C, V> Flight<E, C, V> {
    /// Something of it may move although it waits.
    fn may_move(&self) -> bool {
        self.waits > 0 && (self.has_tasks || self.waits != self.body_waits)
    }

    #[inline]
    fn is_at(&self, slot: Slot) -> bool {
        self.start == slot.start && self.delivery.seq == slot.seq
    }
}

type HostFlight<H> = Flight<<H as Host>::Event, <H as Host>::Class, <H as Host>::Value>;

pub(super) enum Place<E, C, V> {
    Free(Option<u32>),
    Taken(Flight<E, C, V>),
}

impl<H: Host> Run<H> {
    /// The event of a step in flight.
    #[inline]
    pub fn event(&self, slot: Slot) -> Option<&H::Event> {
        self.delivery(slot).map(|delivery| &delivery.event)
    }

    /// The delivery of a step in flight.
    #[inline]
    pub fn delivery(&self, slot: Slot) -> Option<&HostDelivery<H>> {
        self.flight(slot).map(|flight| &flight.delivery)
    }

    #[inline]
    pub(super) fn flight(&self, slot: Slot) -> Option<&HostFlight<H>> {
        match self.flights.get(slot.place as usize) {
            Some(Place::Taken(flight)) if flight.is_at(slot) => Some(flight),
            _ => None,
        }
    }

    pub(super) fn flight_mut(&mut self, slot: Slot) -> Option<&mut HostFlight<H>> {
        match self.flights.get_mut(slot.place as usize) {
            Some(Place::Taken(flight)) if flight.is_at(slot) => Some(flight),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn occupy(&mut self, flight: HostFlight<H>) -> Slot {
        let (seq, start) = (flight.delivery.seq, flight.start);
        self.in_flight += 1;
        let Some(place) = self.free else {
            let place = u32::try_from(self.flights.len()).expect("fewer than 2^32 steps in flight");
            if place == 0 {
                // Most runs never have more than one step in flight.
                self.flights.reserve_exact(1);
            }
            self.flights.push(Place::Taken(flight));
            return Slot { place, start, seq };
        };
        if let Place::Free(next) = std::mem::replace(&mut self.flights[place as usize], Place::Taken(flight)) {
            self.free = next;
        }
        Slot { place, start, seq }
    }

    /// A body begins to wait.
    pub(super) fn begin_wait(&mut self, slot: Slot) {
        let is_first = self.flight_mut(slot).is_some_and(|flight| {
            flight.waits += 1;
            flight.waits == 1
        });
        self.waiting += u32::from(is_first);
    }

    /// A wait of a body is over; `is_of_body` if the body itself awaited it.
    pub(super) fn finish_wait(&mut self, slot: Slot, is_of_body: bool) {
        let is_last = self.flight_mut(slot).is_some_and(|flight| {
            flight.waits -= 1;
            flight.body_waits -= u32::from(is_of_body);
            flight.has_tasks |= !is_of_body;
            flight.waits == 0
        });
        self.waiting -= u32::from(is_last);
    }

    /// Whether a step in flight waits, and tasks that it has started may move all the same. The core does not see what
    /// they do: the run must go on if its process is lost, before what is waited for has come.
    pub fn may_move_while_waiting(&self) -> bool {
        self.flights.iter().any(|place| matches!(place, Place::Taken(flight) if flight.may_move()))
    }

    /// Takes the delivery out of its slot.
    #[inline]
    pub(super) fn leave(&mut self, slot: Slot) -> Option<HostDelivery<H>> {
        self.withdraw(slot);
        let place = self.flights.get_mut(slot.place as usize)?;
        if !matches!(place, Place::Taken(flight) if flight.is_at(slot)) {
            return None;
        }
        let Place::Taken(flight) = std::mem::replace(place, Place::Free(self.free)) else { return None };
        self.free = Some(slot.place);
        self.in_flight -= 1;
        self.waiting -= u32::from(flight.waits > 0);
        if let Some(timer) = flight.timer {
            self.timers.cancel(timer);
        }
        self.queue.release(flight.delivery.step);
        Some(flight.delivery)
    }

    /// How many steps are in flight.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// The step in flight, if there is one and no other.
    pub fn only_in_flight(&self) -> Option<Started> {
        let taken = |(place, taken): (usize, &Place<_, _, _>)| match taken {
            Place::Taken(flight) => Some(started::<H>(place, flight)),
            Place::Free(_) => None,
        };
        let mut flights = self.flights.iter().enumerate().filter_map(taken);
        flights.next().filter(|_| self.in_flight == 1)
    }

    /// The steps in flight, one for each body.
    pub fn steps_in_flight(&self) -> impl Iterator<Item = StepId> {
        self.flights.iter().filter_map(|place| match place {
            Place::Taken(flight) => Some(flight.delivery.step),
            Place::Free(_) => None,
        })
    }
}

pub(super) fn started<H: Host>(place: usize, flight: &HostFlight<H>) -> Started {
    let HostDelivery::<H> { seq, step, attempt, .. } = flight.delivery;
    Started { slot: Slot { place: place as u32, start: flight.start, seq }, step, seq, attempt }
}

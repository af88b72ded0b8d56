//! The end of a run: what it still holds is given back.

use std::num::NonZeroU32;

use super::{Host, HostDelivery, HostRecord, Phase, Place, Run};
use crate::queue::Queue;
use crate::record::Record;
use crate::store::Store;
use crate::stream::Stream;

/// What a run held when it ended, for the host to drop where foreign code may run.
pub struct Remains<H: Host> {
    /// Deliveries that never started.
    pub queue: Queue<H::Event, H::Class, H::Value>,
    /// Deliveries that were to be tried again.
    pub retries: Vec<HostDelivery<H>>,
    /// Events that were kept for a later request, held until the run is resumed, or sent to other runs by
    /// steps that are not done.
    pub kept: Vec<H::Event>,
    /// Those who still waited for an event.
    pub waiters: Vec<H::Waiter>,
    _classes: Vec<H::Class>,
    _groups: super::collect::Groups<H>,
}

impl<H: Host> Run<H> {
    /// The outcome is known: nothing starts any more. Gives back what was waiting, once.
    pub fn begin_end(&mut self) -> Option<Remains<H>> {
        if self.phase != Phase::Running {
            return None;
        }
        self.record(|| Record::Ended);
        self.phase = Phase::Ending;
        self.is_paused = false;
        self.timers.clear();
        self.setbacks.take();
        let none: [Option<NonZeroU32>; 0] = [];
        let held = self.held.take().into_events();
        let kept = self.kept.take().into_iter().map(|(_, event)| event);
        let sent = self.withdraw_all();
        let (waiters, mut classes) = self.waits.take();
        classes.extend(self.settling.take().take_classes());
        Some(Remains {
            queue: std::mem::replace(&mut self.queue, Queue::new(none.into_iter())),
            retries: self.retries.take().into_values().collect(),
            kept: kept.chain(held).chain(sent).collect(),
            waiters,
            _classes: classes,
            _groups: self.groups.take(),
        })
    }

    /// The last step in flight has stopped: the run is over. Says whether it was so now.
    pub fn try_end(&mut self) -> bool {
        let now = self.phase == Phase::Ending && self.in_flight == 0;
        if now {
            self.phase = Phase::Ended;
            self.flights = Vec::new();
            self.free = None;
        }
        now
    }

    /// Ends a run whose outcome is known although steps are in flight: nothing can drive them any more.
    /// Gives back their deliveries; nothing happens before the outcome is known.
    pub fn abandon(&mut self) -> Vec<HostDelivery<H>> {
        if self.phase == Phase::Running {
            return Vec::new();
        }
        let flights = std::mem::take(&mut self.flights).into_iter();
        let deliveries = flights.filter_map(|place| match place {
            Place::Taken(flight) => Some(flight.delivery),
            Place::Free(_) => None,
        });
        let deliveries = deliveries.collect();
        self.in_flight = 0;
        self.waiting = 0;
        self.try_end();
        deliveries
    }

    /// Gives back all values, published events and records: the run is not reachable any more.
    #[allow(clippy::type_complexity)]
    pub fn clear(&mut self) -> (Store<H::Value>, Stream<H::Event>, Vec<HostRecord<H>>) {
        let stream = Stream::new(self.plan.stream_limit);
        let log = self.log.take().unwrap_or_default();
        (std::mem::take(&mut self.store), std::mem::replace(&mut self.stream, stream), log)
    }
}

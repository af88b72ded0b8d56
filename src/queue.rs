//! Events of one run that wait: for a step to be free, to be collected, or to be asked for.

use std::collections::VecDeque;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::error::{Error, Refused};
use crate::event::{Delivery, StepId};
use crate::value::Value;

/// Deliveries that wait for their step, first in, first out, within each step's concurrency.
#[derive(Debug)]
pub struct Queue<E, C = (), V = Value> {
    ready: VecDeque<Delivery<E, C, V>>,
    // Only for workflows with a limited step, one entry for each step.
    loads: Box<[Load<E, C, V>]>,
}

#[derive(Debug)]
struct Load<E, C, V> {
    limit: u32,
    // How many deliveries of the step are ready or running: never more than `limit`.
    admitted: u32,
    backlog: VecDeque<Delivery<E, C, V>>,
}

impl<E, C, V> Queue<E, C, V> {
    /// A queue for steps with these concurrency limits (`None`: no limit).
    pub fn new(limits: impl ExactSizeIterator<Item = Option<NonZeroU32>> + Clone) -> Self {
        let loads =
            if limits.clone().any(|limit| limit.is_some()) { limits.map(Load::new).collect() } else { Box::default() };
        Self { ready: VecDeque::new(), loads }
    }

    /// Adds a delivery; it is ready once its step has a place free.
    #[inline]
    pub fn push(&mut self, delivery: Delivery<E, C, V>) {
        match self.load_if_full(delivery.step) {
            Some(load) => load.backlog.push_back(delivery),
            None => {
                if self.ready.capacity() == 0 {
                    self.ready.reserve_exact(1);
                }
                self.ready.push_back(delivery);
            }
        }
    }

    /// Puts a delivery that was taken and released back, ahead of all that wait.
    pub fn put_back(&mut self, delivery: Delivery<E, C, V>) {
        let step = delivery.step;
        if self.load_if_full(step).is_none() {
            return self.ready.push_front(delivery);
        }
        // The place that it had may have gone to the next one of its step, which then gives it up again.
        let taker = self.ready.iter().rposition(|ready| ready.step == step);
        let (ahead, behind) = match taker.and_then(|at| self.ready.remove(at)) {
            Some(taker) => (Some(delivery), taker),
            None => (None, delivery),
        };
        if let Some(load) = self.loads.get_mut(step.0 as usize) {
            load.backlog.push_front(behind);
        }
        if let Some(ahead) = ahead {
            self.ready.push_front(ahead);
        }
    }

    /// Takes a place in a step, unless it has none free.
    #[inline]
    fn load_if_full(&mut self, step: StepId) -> Option<&mut Load<E, C, V>> {
        let load = self.loads.get_mut(step.0 as usize)?;
        if load.admitted == load.limit {
            return Some(load);
        }
        load.admitted += 1;
        None
    }

    /// The next ready delivery.
    #[inline]
    pub fn peek(&self) -> Option<&Delivery<E, C, V>> {
        self.ready.front()
    }

    /// Takes the next ready delivery. Its place in the step is taken until [`Queue::release`].
    #[inline]
    pub fn pop(&mut self) -> Option<Delivery<E, C, V>> {
        self.ready.pop_front()
    }

    /// Frees the place that a delivery had in its step.
    #[inline]
    pub fn release(&mut self, step: StepId) {
        let Some(load) = self.loads.get_mut(step.0 as usize) else { return };
        match load.backlog.pop_front() {
            Some(next) => self.ready.push_back(next),
            None => load.admitted = load.admitted.saturating_sub(1),
        }
    }

    /// How many deliveries could start now.
    #[inline]
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The delivery of this number, if it waits.
    pub fn find_mut(&mut self, seq: u64) -> Option<&mut Delivery<E, C, V>> {
        let waiting = self.ready.iter_mut().chain(self.loads.iter_mut().flat_map(|load| &mut load.backlog));
        waiting.into_iter().find(|delivery| delivery.seq == seq)
    }

    /// All deliveries that wait: the ready ones, then those that wait for a place.
    pub fn waiting(&self) -> impl Iterator<Item = &Delivery<E, C, V>> {
        self.ready.iter().chain(self.loads.iter().flat_map(|load| &load.backlog))
    }
}

impl<E, C, V> Load<E, C, V> {
    fn new(limit: Option<NonZeroU32>) -> Self {
        Self { limit: limit.map_or(u32::MAX, NonZeroU32::get), admitted: 0, backlog: VecDeque::new() }
    }
}

/// Events that a step gathers until one of each expected class is there.
///
/// Adding an event costs the same however many are expected and however many came before.
#[derive(Debug)]
pub struct Collected<C, E> {
    expected: Arc<[C]>,
    needed: HashMap<C, usize>,
    events: HashMap<C, VecDeque<E>>,
    missing: usize,
}

impl<C: Eq + Hash, E: PartialEq> PartialEq for Collected<C, E> {
    fn eq(&self, other: &Self) -> bool {
        let has_same = |class: &C, events: &VecDeque<E>| match other.events.get(class) {
            Some(others) => others == events,
            None => events.is_empty(),
        };
        let count = |events: &HashMap<C, VecDeque<E>>| events.values().map(VecDeque::len).sum::<usize>();
        self.expected == other.expected
            && count(&self.events) == count(&other.events)
            && self.events.iter().all(|(class, events)| has_same(class, events))
    }
}

impl<C: Clone + Eq + Hash, E> Collected<C, E> {
    /// Starts to gather events of these classes; a class may stand in the list several times.
    pub fn new(expected: impl Into<Arc<[C]>>) -> Self {
        let expected = expected.into();
        let mut needed = HashMap::new();
        // Most lists are one class, many times: a run of them is counted at once.
        for run in expected.chunk_by(|one, next| one == next) {
            match needed.get_mut(&run[0]) {
                Some(count) => *count += run.len(),
                None => {
                    needed.insert(run[0].clone(), run.len());
                }
            }
        }
        Self { missing: expected.len(), expected, needed, events: HashMap::new() }
    }

    /// The classes it was made with, in that order.
    pub fn expected(&self) -> &Arc<[C]> {
        &self.expected
    }

    /// How many different classes there are among them.
    pub fn distinct(&self) -> usize {
        self.needed.len()
    }

    /// Whether a class is among the expected ones.
    pub fn expects(&self, class: &C) -> bool {
        self.needed.contains_key(class)
    }

    /// Adds an event. Once all are there, gives them in the order of the expected classes, first
    /// come first, and goes on with those that were too many.
    ///
    /// # Errors
    /// [`Error::NotExpected`] for any other class; nothing is added then.
    pub fn add(&mut self, class: C, event: E) -> Result<Option<Vec<E>>, Refused<E>> {
        let Some(&needed) = self.needed.get(&class) else { return Err(Refused::new(Error::NotExpected, event)) };
        let events = self.events.entry(class).or_default();
        events.push_back(event);
        if events.len() <= needed {
            self.missing -= 1;
        }
        if self.missing > 0 {
            return Ok(None);
        }
        let events = &mut self.events;
        let complete = self.expected.iter().filter_map(|class| events.get_mut(class)?.pop_front()).collect();
        self.missing = self.needed.iter().map(|(class, needed)| needed.saturating_sub(self.events[class].len())).sum();
        Ok(Some(complete))
    }

    /// The events that were added and not yet given, in no particular order of classes.
    pub fn pending(&self) -> impl Iterator<Item = &E> {
        self.events.values().flatten()
    }

    /// The same, each class with its events in the order in which they came.
    pub fn pending_by_class(&self) -> impl Iterator<Item = (&C, &VecDeque<E>)> {
        self.events.iter().filter(|(_, events)| !events.is_empty())
    }

    /// The events that were added and not yet given, each class with its events in the order in which they came.
    pub fn into_pending(self) -> impl Iterator<Item = (C, VecDeque<E>)> {
        self.events.into_iter()
    }

    /// The classes that it refers to beside the list of expected ones, as often as it does.
    pub fn classes(&self) -> impl Iterator<Item = &C> {
        self.needed.keys().chain(self.events.keys())
    }

    /// The references to classes that are left of it.
    pub fn into_classes(self) -> (Arc<[C]>, Vec<C>) {
        (self.expected, self.needed.into_keys().chain(self.events.into_keys()).collect())
    }

    /// Whether no event is waiting to be given.
    pub fn is_empty(&self) -> bool {
        self.pending().next().is_none()
    }
}

//! Deadlines of one run. Time is an input: nothing here reads a clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;

use crate::rare::Rare;

/// A point in time: microseconds since the Unix epoch.
pub type Time = u64;

/// Names one deadline of a run.
pub type TimerId = u64;

/// The deadlines of a run, each with what is to happen then.
#[derive(Debug)]
pub struct Timers<T>(Rare<Pending<T>>);

#[derive(Debug)]
struct Pending<T> {
    due: BinaryHeap<Reverse<(Time, TimerId)>>,
    // A deadline that was cancelled is gone from here and skipped when it comes up in `due`.
    live: HashMap<TimerId, T>,
    next: TimerId,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self(Rare::default())
    }
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self { due: BinaryHeap::new(), live: HashMap::new(), next: 0 }
    }
}

impl<T> Timers<T> {
    /// Adds a deadline.
    pub fn add(&mut self, at: Time, what: T) -> TimerId {
        self.0.make().add(at, what)
    }

    /// Takes a deadline back. Gives nothing if it has passed already.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        self.0.get_mut()?.cancel(id)
    }

    /// The next deadline that passes.
    pub fn next_deadline(&mut self) -> Option<Time> {
        self.0.get_mut()?.next_deadline()
    }

    /// Takes out the earliest deadline that has passed by `now`.
    pub fn expire(&mut self, now: Time) -> Option<T> {
        self.0.get_mut()?.expire(now)
    }

    /// The deadlines, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (Time, &T)> {
        let pending = self.0.get().into_iter();
        pending
            .flat_map(|pending| pending.due.iter().filter_map(|Reverse((at, id))| Some((*at, pending.live.get(id)?))))
    }

    /// Whether there is no deadline.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.get().is_none_or(|pending| pending.live.is_empty())
    }

    /// Takes every deadline back.
    pub fn clear(&mut self) {
        if let Some(pending) = self.0.get_mut() {
            pending.due.clear();
            pending.live.clear();
        }
    }
}

impl<T> Pending<T> {
    fn add(&mut self, at: Time, what: T) -> TimerId {
        self.next += 1;
        self.due.push(Reverse((at, self.next)));
        self.live.insert(self.next, what);
        self.next
    }

    fn cancel(&mut self, id: TimerId) -> Option<T> {
        let cancelled = self.live.remove(&id);
        if self.due.len() > 32 && self.live.len() < self.due.len() / 2 {
            let live = &self.live;
            self.due.retain(|Reverse((_, id))| live.contains_key(id));
        }
        cancelled
    }

    fn next_deadline(&mut self) -> Option<Time> {
        while let Some(&Reverse((at, id))) = self.due.peek() {
            if self.live.contains_key(&id) {
                return Some(at);
            }
            self.due.pop();
        }
        None
    }

    fn expire(&mut self, now: Time) -> Option<T> {
        while let Some(&Reverse((at, id))) = self.due.peek() {
            if at > now {
                return None;
            }
            self.due.pop();
            if let Some(what) = self.live.remove(&id) {
                return Some(what);
            }
        }
        None
    }
}

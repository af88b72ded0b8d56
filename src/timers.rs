//! Deadlines of one run. Time is an input: nothing here reads a clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;

/// A point in time: microseconds since the Unix epoch.
pub type Time = u64;

/// Names one deadline of a run.
pub type TimerId = u64;

/// The deadlines of a run, each with what is to happen then.
#[derive(Debug)]
pub struct Timers<T> {
    due: BinaryHeap<Reverse<(Time, TimerId)>>,
    // A deadline that was cancelled is gone from here and skipped when it comes up in `due`.
    live: HashMap<TimerId, T>,
    next: TimerId,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { due: BinaryHeap::new(), live: HashMap::new(), next: 0 }
    }
}

impl<T> Timers<T> {
    /// Adds a deadline.
    pub fn add(&mut self, at: Time, what: T) -> TimerId {
        self.next += 1;
        self.due.push(Reverse((at, self.next)));
        self.live.insert(self.next, what);
        self.next
    }

    /// Takes a deadline back. Gives nothing if it has passed already.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        let cancelled = self.live.remove(&id);
        if self.due.len() > 32 && self.live.len() < self.due.len() / 2 {
            let live = &self.live;
            self.due.retain(|Reverse((_, id))| live.contains_key(id));
        }
        cancelled
    }

    /// The next deadline that passes.
    pub fn next_deadline(&mut self) -> Option<Time> {
        while let Some(&Reverse((at, id))) = self.due.peek() {
            if self.live.contains_key(&id) {
                return Some(at);
            }
            self.due.pop();
        }
        None
    }

    /// Takes out the earliest deadline that has passed by `now`.
    pub fn expire(&mut self, now: Time) -> Option<T> {
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

    /// Whether there is no deadline.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Takes every deadline back.
    pub fn clear(&mut self) {
        self.due.clear();
        self.live.clear();
    }
}

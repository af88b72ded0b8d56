//! What a run publishes: a numbered sequence of events, of which the last ones are kept.

use std::collections::VecDeque;

/// The published events of one run. The first has the number 1.
#[derive(Debug)]
pub struct Stream<E> {
    kept: VecDeque<E>,
    published: u64,
    // How many were published elsewhere, before this stream began.
    elsewhere: u64,
    limit: usize,
}

/// What a reader gets that has read everything up to some number.
#[derive(Debug, PartialEq, Eq)]
pub enum Read<'a, E> {
    /// The next event.
    Event(&'a E),
    /// The next event is no longer kept; this many were missed, and the reader goes on behind them.
    Lagged(u64),
    /// Nothing newer was published yet.
    Pending,
}

impl<E> Stream<E> {
    /// A stream that keeps the last `limit` events; at least one.
    pub fn new(limit: usize) -> Self {
        Self { kept: VecDeque::new(), published: 0, elsewhere: 0, limit: limit.max(1) }
    }

    /// Goes on behind events that were published elsewhere, and are not kept here.
    pub fn go_on_after(&mut self, published: u64) {
        self.published = published;
        self.elsewhere = published;
    }

    /// How many events were published elsewhere: a reader that begins behind them misses none of those kept here.
    pub fn elsewhere(&self) -> u64 {
        self.elsewhere
    }

    /// Publishes an event. Gives back the one that is no longer kept because of it, if any.
    #[inline]
    pub fn publish(&mut self, event: E) -> Option<E> {
        let oldest = if self.kept.len() == self.limit { self.kept.pop_front() } else { None };
        self.kept.push_back(event);
        self.published += 1;
        oldest
    }

    /// What comes behind the event numbered `after`.
    #[inline]
    pub fn read(&self, after: u64) -> Read<'_, E> {
        let forgotten = self.published - self.kept.len() as u64;
        if after < forgotten {
            return Read::Lagged(forgotten - after);
        }
        match usize::try_from(after - forgotten).ok().and_then(|at| self.kept.get(at)) {
            Some(event) => Read::Event(event),
            None => Read::Pending,
        }
    }

    /// The number of the newest event; 0 before the first.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// The events that are kept, oldest first.
    pub fn kept(&self) -> impl Iterator<Item = &E> {
        self.kept.iter()
    }
}

//! A step asks for an event: one that is there already, or the next one that comes.

use super::{Host, Run, Slot};

/// Looks through the events that are there for a step in flight: those that an earlier body of its delivery received,
/// then those that are kept, then those that are deferred.
///
/// Whether an event is the one is the host's to say, without a lock on the run. Once [`Lookup::next`] gives none, the
/// step waits ([`Run::wait`]) under the same lock: so no event is overlooked that came meanwhile.
#[derive(Debug)]
pub struct Lookup {
    slot: Slot,
    received: usize,
    kept: Seen,
    deferred: Seen,
    at: Option<Place>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Received(usize),
    Kept(u64),
    Deferred(u64),
}

/// Numbers that were looked at: from the first one on, up to the last. Events come in front of them as well.
#[derive(Clone, Copy, Debug, Default)]
struct Seen(Option<(u64, u64)>);

impl Seen {
    /// Behind which number the next one is. All are looked at again if there is one in front.
    fn after(&mut self, first: Option<u64>) -> Option<u64> {
        self.0 = self.0.filter(|(from, _)| first.is_none_or(|first| first >= *from));
        self.0.map(|(_, last)| last)
    }

    fn add(&mut self, number: u64) {
        self.0 = Some((self.0.map_or(number, |(first, _)| first), number));
    }
}

impl Lookup {
    /// Begins to look for an event for a step in flight.
    pub fn new(slot: Slot) -> Self {
        Self { slot, received: 0, kept: Seen::default(), deferred: Seen::default(), at: None }
    }

    /// The next event of which it is not known whether it is the one.
    pub fn next<'r, H: Host>(&mut self, run: &'r Run<H>) -> Option<&'r H::Event> {
        if let Some((place, event)) = run.next_received_before(self.slot, self.received) {
            self.received = place + 1;
            self.at = Some(Place::Received(place));
            return Some(event);
        }
        let after = self.kept.after(run.kept().next().map(|(number, _)| number));
        if let Some((number, event)) = run.next_kept(after.unwrap_or(0)) {
            self.kept.add(number);
            self.at = Some(Place::Kept(number));
            return Some(event);
        }
        // In a paused run every event is deferred, for the first waiter when it continues.
        if run.is_paused() {
            return None;
        }
        let after = self.deferred.after(run.next_held(None).map(|(number, _)| number));
        let (number, held) = run.next_held(after)?;
        self.deferred.add(number);
        self.at = Some(Place::Deferred(number));
        Some(&held.event)
    }

    /// The step receives the event that [`Lookup::next`] gave last; nothing if it is gone meanwhile.
    pub fn receive<H: Host>(&mut self, run: &mut Run<H>) -> Option<H::Event> {
        match self.at.take()? {
            Place::Received(place) => {
                let (at, event) = run.next_received_before(self.slot, place)?;
                let event = (at == place).then(|| H::copy_event(event))?;
                run.receive_again(self.slot, place).then_some(event)
            }
            Place::Kept(number) => run.take_kept(self.slot, number),
            Place::Deferred(number) => run.take_held(self.slot, number),
        }
    }
}

//! Events to other runs: held until the step that sends them is done, and then written with its end. An attempt that
//! fails, or a body that is stopped, sends nothing.

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_128;

use super::{Host, Phase, Run, Slot};
use crate::error::{Error, Refused};
use crate::journal::{EntryId, IfOver};
use crate::run_id::RunId;

/// The most events that one step sends to other runs. With those of steps that are done at the same time they fit into
/// one commit.
pub const MOST_SENT: usize = 10_000;

/// An event for another run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound<E> {
    /// The run.
    pub to: RunId,
    /// The name of the message, the same whenever the delivery is done again.
    pub message: EntryId,
    /// The event.
    pub event: E,
    /// What becomes of it if that run is over. What is dropped need not arrive.
    pub if_over: IfOver,
}

/// What bodies have sent to other runs.
pub(super) struct Sending<E> {
    held: HashMap<Slot, Held<E>>,
    // Of steps that are done, until they are taken to be written or delivered.
    done: Vec<Outbound<E>>,
    // Of bodies that failed or were stopped, for the host to drop.
    withdrawn: Vec<E>,
}

struct Held<E> {
    events: Vec<Outbound<E>>,
    // How many of them were asked about.
    checked: usize,
}

impl<E> Default for Sending<E> {
    fn default() -> Self {
        Self { held: HashMap::new(), done: Vec::new(), withdrawn: Vec::new() }
    }
}

impl<E> Sending<E> {
    pub(super) fn events(&self) -> impl Iterator<Item = &E> {
        let held = self.held.values().flat_map(|held| &held.events).chain(&self.done);
        held.map(|outbound| &outbound.event).chain(&self.withdrawn)
    }
}

impl<H: Host> Run<H> {
    /// The body of a step in flight sends an event to another run, once it is done.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known, [`Error::StepOver`] if the body is not in flight any more,
    /// [`Error::TooManySent`] behind [`MOST_SENT`].
    pub fn send_out(
        &mut self,
        slot: Slot,
        to: RunId,
        event: H::Event,
        if_over: IfOver,
    ) -> Result<(), Refused<H::Event>> {
        if self.phase != Phase::Running {
            return Err(Refused::new(Error::RunEnded, event));
        }
        if self.flight(slot).is_none() {
            return Err(Refused::new(Error::StepOver, event));
        }
        let sender = self.id;
        let held = self.sending.make().held.entry(slot).or_insert_with(|| Held { events: Vec::new(), checked: 0 });
        if held.events.len() >= MOST_SENT {
            return Err(Refused::new(Error::TooManySent, event));
        }
        let message = message_id(sender, slot.seq, held.events.len() as u64);
        held.events.push(Outbound { to, message, event, if_over });
        Ok(())
    }

    /// The runs that must be there and not over before the step in flight is done, each once. The next call gives what
    /// was sent since.
    pub fn take_unchecked(&mut self, slot: Slot) -> Vec<RunId> {
        let Some(held) = self.sending.get_mut().and_then(|sending| sending.held.get_mut(&slot)) else {
            return Vec::new();
        };
        let unchecked = &held.events[held.checked..];
        let mut needed: Vec<_> = unchecked.iter().filter(|one| one.if_over == IfOver::Bury).map(|one| one.to).collect();
        held.checked = held.events.len();
        needed.sort_unstable();
        needed.dedup();
        // A child may be made by the very commit that sends to it.
        needed.retain(|to| !self.has_open_child(*to));
        needed
    }

    /// The step is done: what it has sent goes.
    #[inline]
    pub(super) fn dispatch(&mut self, slot: Slot) {
        if let Some(sending) = self.sending.get_mut()
            && let Some(held) = sending.held.remove(&slot)
        {
            sending.done.extend(held.events);
        }
    }

    /// The body has failed or is stopped: what it has sent does not go.
    #[inline]
    pub(super) fn withdraw(&mut self, slot: Slot) {
        if let Some(sending) = self.sending.get_mut()
            && let Some(held) = sending.held.remove(&slot)
        {
            sending.withdrawn.extend(held.events.into_iter().map(|one| one.event));
        }
    }

    /// The outcome is known: what bodies that are not done have sent does not go. Gives that, for the host to drop.
    pub(super) fn withdraw_all(&mut self) -> Vec<H::Event> {
        let Some(sending) = self.sending.get_mut() else { return Vec::new() };
        let held = std::mem::take(&mut sending.held).into_values().flat_map(|held| held.events);
        let withdrawn = std::mem::take(&mut sending.withdrawn);
        held.map(|one| one.event).chain(withdrawn).collect()
    }

    /// What steps that are done have sent to other runs since the last call, in its order.
    pub fn take_outbound(&mut self) -> Vec<Outbound<H::Event>> {
        self.sending.get_mut().map_or_else(Vec::new, |sending| std::mem::take(&mut sending.done))
    }

    /// Whether there is any of that.
    pub fn has_outbound(&self) -> bool {
        self.sending.get().is_some_and(|sending| !sending.done.is_empty())
    }

    /// Whether there is so much of that that it is to be written before another step adds to it.
    pub fn has_many_outbound(&self) -> bool {
        self.sending.get().is_some_and(|sending| sending.done.len() >= MOST_SENT)
    }

    /// What was sent and does not go, for the host to drop where foreign code may run.
    pub fn take_withdrawn(&mut self) -> Vec<H::Event> {
        self.sending.get_mut().map_or_else(Vec::new, |sending| std::mem::take(&mut sending.withdrawn))
    }
}

/// The name of what the body of a delivery sends: the so-manieth, from 0 on.
pub fn message_id(sender: RunId, delivery: u64, ordinal: u64) -> EntryId {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(sender.as_bytes());
    bytes[16..24].copy_from_slice(&delivery.to_le_bytes());
    bytes[24..].copy_from_slice(&ordinal.to_le_bytes());
    xxh3_128(&bytes).to_be_bytes()
}

//! Events that the runs of a fleet send to each other. Nothing waits for them: a run keeps them to its end.

use treadle::RunId;
use treadle::journal::{EntryId, IfOver, Outgoing, Slot, entry, kind};

use super::bugs::Bug;
use super::children::signer;
use super::encode::{from_bytes, named};
use super::execution::Execution;
use super::steps::Body;
use crate::simulation::random::mix;
use crate::simulation::workflow::{Ev, Named, Workflow};

/// Their class. No step accepts it.
pub const POST: u8 = 103;

/// Whether the step that gets an event sends one to another run.
pub fn is_sent_by(event: Named) -> bool {
    mix(&[event.name, 21]).is_multiple_of(3)
}

/// The name of what a delivery sends.
pub fn name_of(run: RunId, delivery: u64) -> u64 {
    let id = u128::from_be_bytes(*run.as_bytes());
    mix(&[(id >> 64) as u64, id as u64, delivery, 22])
}

/// The events that a commit sends, with the runs that they are for.
pub fn of_commit(outgoing: &[Outgoing]) -> impl Iterator<Item = (RunId, Named)> {
    outgoing.iter().filter_map(|one| match one {
        Outgoing::Send { to, message, .. } if message.kind == kind::EVENT => {
            Some((*to, of_message(*to, message.id, &message.body)))
        }
        Outgoing::Send { .. } | Outgoing::Create { .. } => None,
    })
}

/// The event of a message: of a user, or of a run.
pub fn of_message(to: RunId, id: EntryId, body: &[u8]) -> Named {
    let slot = Slot::Inbox { id, kind: kind::EVENT };
    let event = entry::decode(to, &slot, body.to_vec().into(), &signer().secrets, false);
    event.map_or_else(|_| from_bytes(body), |event| named(&event))
}

impl Execution {
    /// The body of a step sends what it has to.
    pub(super) fn post(&mut self, body: &Body) {
        if !is_sent_by(body.event()) {
            return;
        }
        // A run that the journal does not know yet sends to itself.
        let to = match self.peers.len() {
            0 => self.run.id(),
            count => self.peers[self.random.below(count)],
        };
        let slot = body.slot();
        let event = Named { name: name_of(self.run.id(), slot.seq()), ..Workflow::answer(POST) };
        let times = if self.has(Bug::PostedTwice) { 2 } else { 1 };
        for _ in 0..times {
            let _ = self.run.send_out(slot, to, Ev(event), IfOver::Bury);
        }
    }
}

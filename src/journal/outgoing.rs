//! What a commit writes to other runs: in its transaction, so that there is no time between a commit and what it sends.

use super::error::JournalError;
use super::op::OpId;
use super::reply::RunRow;
use super::request::{Commit, EntryId, Message, NewRun, OwnerId};
use super::{Limits, rules};
use crate::run_id::RunId;

/// What a commit writes to another run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// Makes a run, under the name of the commit that makes it. If there is a run of this id, it is the same one, and
    /// nothing is written.
    Create {
        /// The run; it has no key.
        run: NewRun,
        /// The process that executes it (with epoch 1); without one, the process that claims it.
        owner: Option<OwnerId>,
        /// What is written of it first. It takes nothing out of an inbox and has nothing outgoing.
        commit: Box<Commit>,
    },
    /// Puts a message into the inbox of a run. It is known again by its id, as any message.
    Send {
        /// The run.
        to: RunId,
        /// The message.
        message: Message,
        /// What becomes of it if the run is over.
        if_over: IfOver,
    },
}

/// What becomes of a message to a run that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfOver {
    /// The run keeps it as a dead letter.
    Bury,
    /// Nothing is kept of it.
    Drop,
}

/// A message of a commit that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// The run that it was for.
    pub to: RunId,
    /// Its name.
    pub message: EntryId,
    /// Why.
    pub why: Missing,
    /// What became of it if that run is over.
    pub if_over: IfOver,
}

/// Why a run cannot be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is no such run.
    Unknown,
    /// It is over.
    Ended,
}

/// What a run has of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    No,
    /// It is in the inbox, or was.
    Delivered,
    /// It is a dead letter.
    Dead,
}

/// Why a message that a run which is over was sent is a dead letter.
pub(super) const BURIED: &str = "the run was over when it was sent";

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Inbox,
    DeadLetters,
    Nowhere,
}

impl Outgoing {
    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        const FIXED: usize = size_of::<Outgoing>();
        FIXED
            + match self {
                Self::Create { run, commit, .. } => run.bytes() + commit.bytes(),
                Self::Send { message, .. } => message.body.len(),
            }
    }
}

/// Where a message goes that is sent to the run of this row, and why it is not delivered. The answer to a commit that is
/// sent again says the same as the first one did.
pub(super) fn way(row: Option<&RunRow>, known: Known, if_over: IfOver) -> (Way, Option<Missing>) {
    match (row, known) {
        (None, _) => (Way::Nowhere, Some(Missing::Unknown)),
        (Some(row), Known::No) if row.is_over() => match if_over {
            IfOver::Bury => (Way::DeadLetters, Some(Missing::Ended)),
            IfOver::Drop => (Way::Nowhere, Some(Missing::Ended)),
        },
        (Some(row), Known::Dead) if row.is_over() => (Way::Nowhere, Some(Missing::Ended)),
        (Some(_), Known::No) => (Way::Inbox, None),
        (Some(_), _) => (Way::Nowhere, None),
    }
}

/// Refuses what a commit cannot write to other runs, before anything of it is written.
pub(super) fn check(run: RunId, commit: &Commit, limits: Limits) -> Result<(), JournalError> {
    let invalid = |why| Err(JournalError::Invalid { run, why });
    if commit.outgoing.len() > Commit::MOST_OUTGOING {
        return invalid("a commit writes to too many other runs");
    }
    for outgoing in &commit.outgoing {
        match outgoing {
            Outgoing::Create { run: new, commit: first, .. } => {
                if new.key.is_some() {
                    return invalid("a run that a commit makes has no key");
                }
                if first.arrival.is_some() {
                    return invalid("a run that a commit makes does not come from another journal");
                }
                rules::check_first(new, first, limits)?;
            }
            Outgoing::Send { to, message, .. } => rules::check_message(*to, message, limits)?,
        }
    }
    Ok(())
}

/// What is written first of a run that a commit of this name makes.
pub(super) fn first_commit(first: &Commit, op: OpId) -> Commit {
    Commit { op, ..first.clone() }
}

/// The owners of the runs that the commit makes: each must live.
pub(super) fn owners(commit: &Commit) -> impl Iterator<Item = OwnerId> {
    commit.outgoing.iter().filter_map(|outgoing| match outgoing {
        Outgoing::Create { owner, .. } => *owner,
        Outgoing::Send { .. } => None,
    })
}

/// The messages of the commit.
pub(super) fn messages(commit: &Commit) -> impl Iterator<Item = (RunId, &Message, IfOver)> {
    commit.outgoing.iter().filter_map(|outgoing| match outgoing {
        Outgoing::Send { to, message, if_over } => Some((*to, message, *if_over)),
        Outgoing::Create { .. } => None,
    })
}

//! Why a run stays where it is.

use std::fmt;

use crate::error::Error;
use crate::journal::JournalError;
use crate::run_id::RunId;

/// A run that stays where it is.
#[derive(Debug)]
pub struct Stays {
    /// The run.
    pub run: RunId,
    /// Why.
    pub trouble: Trouble,
}

/// Why a run stays where it is.
#[derive(Debug)]
pub enum Trouble {
    /// A journal refuses it.
    Journal(JournalError),
    /// What is stored of it cannot be verified or read, or not be signed anew.
    Unreadable(Error),
    /// It is on its way into the journal that it is to be copied from.
    Arrives,
    /// The destination has another run of its workflow and key.
    Key {
        /// The key.
        key: String,
        /// The other run.
        other: RunId,
    },
    /// The destination has a run of this name that is no copy under way.
    Exists,
    /// It has left for another journal, or was deleted where it was copied to.
    Elsewhere,
    /// It has results of transactions, which belong to the database that they were made in.
    Transactions,
    /// The copier has lost its lease meanwhile.
    Lost,
    /// Messages come faster than they are copied, or their numbers make no sense.
    Messages,
    /// Another run of its family stays.
    Family(RunId),
}

impl From<JournalError> for Trouble {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Unreadable(error)
    }
}

/// Whether the error is not about one run.
pub(super) fn is_of_journal(error: &JournalError) -> bool {
    !matches!(
        error,
        JournalError::Conflict(_)
            | JournalError::UnknownRun(_)
            | JournalError::RunEnded(_)
            | JournalError::RunActive(_)
            | JournalError::BeingCopied(_)
            | JournalError::Invalid { .. }
            | JournalError::TooLarge { .. }
            | JournalError::Damaged { .. }
    )
}

impl fmt::Display for Stays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {}: {}", self.run, self.trouble)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal(JournalError::RunActive(_)) => f.write_str(
                "a living process executes it: stop that process so that it hands back its runs (SIGTERM, or leave \
                 `async with engine`), or give it time with --wait SECONDS; then run the command again",
            ),
            Self::Journal(error) => error.fmt(f),
            Self::Unreadable(error) => write!(f, "it cannot be signed for the destination: {error}"),
            Self::Arrives => {
                f.write_str("it is being copied into this journal: finish that first, from the journal that it comes from")
            }
            Self::Key { key, other } => write!(
                f,
                "the destination has another run with the key {key:?}, {other}: delete one of the two, or leave this one"
            ),
            Self::Exists => f.write_str(
                "the destination has a run of this name that is no unfinished copy: two journals cannot both execute it; \
                 delete one of the two",
            ),
            Self::Elsewhere => f.write_str(
                "it has left for another journal and is not at this destination: run the command with the one that it \
                 was copied to",
            ),
            Self::Transactions => f.write_str(
                "it is not over, and has results of transactional steps, which belong to the database that they were \
                 committed in: let it end there",
            ),
            Self::Lost => f.write_str("the copier has lost its lease, and the run goes on where it was: run the command again"),
            Self::Messages => f.write_str(
                "messages come faster than they are copied: stop their senders, and run the command again",
            ),
            Self::Family(other) => write!(f, "it goes with its family, and run {other} stays"),
        }
    }
}

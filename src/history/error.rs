//! Why a run cannot go on from its history.

use std::fmt;

use crate::error::Error;
use crate::journal::Phase;

/// Why a run cannot go on from its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryError {
    /// It cannot be read, or what is to be written cannot be made.
    Failed(Error),
    /// Only a run that failed, was cancelled or is stranded is tried again.
    NotOver(Phase),
    /// A fork begins after one of the records from `first` to `last`.
    NoSuchPoint {
        /// The first record after which the state of the run is known.
        first: u64,
        /// The last record before its end.
        last: u64,
    },
    /// The checkpoint, without which the run cannot go on, is larger than a commit may be.
    TooLarge {
        /// How large the commit is, in bytes.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
}

impl From<Error> for HistoryError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for HistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::NotOver(phase) => write!(f, "the run is not tried again: it is {phase:?}"),
            Self::NoSuchPoint { first, last } => {
                write!(f, "a fork begins after one of the records {first} to {last}")
            }
            Self::TooLarge { bytes, limit } => {
                write!(f, "the checkpoint takes {bytes} bytes: a commit has room for {limit}")
            }
        }
    }
}

impl std::error::Error for HistoryError {}

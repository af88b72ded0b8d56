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
    /// A fork has another event for a delivery that is not there, or is done.
    NotPending {
        /// The delivery.
        delivery: u64,
        /// Those that are not done.
        pending: Vec<u64>,
    },
    /// A fork has another value for a field that the event does not have.
    NoSuchField {
        /// The delivery.
        delivery: u64,
        /// The class of the event.
        class: String,
        /// The field.
        field: String,
        /// The fields that it has.
        known: Vec<String>,
    },
    /// A fork has another value for a field of an event that is stored as a whole.
    NotByField {
        /// The delivery.
        delivery: u64,
        /// The class of the event.
        class: String,
    },
    /// A fork has an event of another class for a delivery.
    OtherClass {
        /// The delivery.
        delivery: u64,
        /// The class of the event.
        class: String,
        /// That of the other one.
        given: String,
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
            Self::NotPending { delivery, pending } => {
                write!(f, "no delivery {delivery} is pending there")?;
                match pending.as_slice() {
                    [] => f.write_str(": none is"),
                    pending => {
                        let shown: Vec<_> = pending.iter().take(20).map(u64::to_string).collect();
                        let more = if pending.len() > shown.len() { ", …" } else { "" };
                        write!(f, "; these are: {}{more}", shown.join(", "))
                    }
                }
            }
            Self::NoSuchField { delivery, class, field, known } => {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                write!(f, "the event {class} of delivery {delivery} has no field {field:?}; its fields are: {known}")
            }
            Self::NotByField { delivery, class } => write!(
                f,
                "the event {class} of delivery {delivery} is stored as a whole, so that its fields cannot be changed one \
                 by one: give an event of that class"
            ),
            Self::OtherClass { delivery, class, given } => {
                write!(f, "delivery {delivery} has an event of class {class}, and one of {given} was given")
            }
            Self::TooLarge { bytes, limit } => {
                write!(f, "the checkpoint takes {bytes} bytes: a commit has room for {limit}")
            }
        }
    }
}

impl std::error::Error for HistoryError {}

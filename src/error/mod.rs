//! What can go wrong in the core.

mod format;

use std::fmt;

use crate::run::MOST_SENT;

pub use format::FormatError;

/// Every error of the core. The Python binding maps each to one exception class, in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The text is not a UUID.
    InvalidRunId(String),
    /// The run is over: it takes no events and no changes any more.
    RunEnded,
    /// The body of the step is over: what it left behind makes no more calls that are kept.
    StepOver,
    /// A child would be further from the first run of its family than it may be.
    TooDeep {
        /// How many runs would be above it.
        depth: u32,
    },
    /// A step sends more events to other runs than one commit can hold beside others.
    TooManySent,
    /// A call that its name alone tells from others was made with another input.
    OtherInput,
    /// The key was written since its version was read.
    Outdated,
    /// An event reached `collect` whose class is not among the expected ones.
    NotExpected,
    /// The state of a run is asked for as it was before what its checkpoint has folded.
    Folded {
        /// The first record after which its state is known.
        first: u64,
    },
    /// A record cannot come behind those before it: the log is not one of a run.
    InvalidRecord(&'static str),
    /// No run can have such an image.
    InvalidImage(&'static str),
    /// Bytes that are not a snapshot or a record, or must not be trusted.
    Format(FormatError),
}

impl Error {
    /// Whether what was read is damaged, or was changed: it cannot be read, whatever code and secrets there are.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::InvalidRecord(_) | Self::InvalidImage(_) => true,
            Self::Format(error) => error.is_damage(),
            _ => false,
        }
    }
}

impl From<FormatError> for Error {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

/// A refused call: why, and what it was to take, for the caller to drop where foreign code may run.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused<T> {
    /// Why.
    pub error: Error,
    /// What was not taken.
    pub value: T,
}

impl<T> Refused<T> {
    pub(crate) fn new(error: Error, value: T) -> Self {
        Self { error, value }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidRunId(text) => write!(f, "not a run id (a UUID): {text:?}"),
            Self::RunEnded => f.write_str("the run has ended"),
            Self::InvalidRecord(why) => write!(f, "the records are not those of a run: {why}"),
            Self::Folded { first } => {
                write!(f, "the run's state is known only from record {first} on: earlier ones were folded")
            }
            Self::InvalidImage(why) => write!(f, "this is not the image of a run: {why}"),
            Self::Format(error) => error.fmt(f),
            Self::StepOver => f.write_str("the step is over"),
            Self::TooDeep { depth } => write!(f, "a child would have {depth} runs above it"),
            Self::TooManySent => write!(f, "a step sends at most {MOST_SENT} events to other runs"),
            Self::OtherInput => f.write_str("a call of this name was made with another input"),
            Self::Outdated => f.write_str("the key was written meanwhile"),
            Self::NotExpected => f.write_str("the event's class is not among the expected ones"),
        }
    }
}

impl std::error::Error for Error {}

//! What can go wrong in the core.

use std::fmt;

/// Every error of the core. The Python binding maps each to one exception class, in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The text is not a UUID.
    InvalidRunId(String),
    /// The run is over: it takes no events and no changes any more.
    RunEnded,
    /// An event reached `collect` whose class is not among the expected ones.
    NotExpected,
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
            Self::NotExpected => f.write_str("the event's class is not among the expected ones"),
        }
    }
}

impl std::error::Error for Error {}

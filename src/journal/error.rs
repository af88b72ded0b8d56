//! What can go wrong with a journal.

use std::fmt;
use std::sync::Arc;

use super::request::OwnerId;
use crate::run_id::RunId;

/// Every error of a journal. One that fails a whole batch is given to each of its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JournalError {
    /// The run has another owner, another epoch or another last record: the process that appends must stop it.
    Conflict(RunId),
    /// There is no such run.
    UnknownRun(RunId),
    /// The run is over: it takes no messages.
    RunEnded(RunId),
    /// A living process executes the run.
    RunActive(RunId),
    /// The run is on its way from one journal to another.
    BeingCopied(RunId),
    /// The process has no lease (any more): its runs may be executed by others.
    LeaseLost(OwnerId),
    /// The request contradicts itself or the run; nothing of it was written.
    Invalid {
        /// The run.
        run: RunId,
        /// Why.
        why: &'static str,
    },
    /// The commit or the message is larger than the journal can store; nothing of it was written.
    TooLarge {
        /// The run.
        run: RunId,
        /// Its bytes.
        bytes: usize,
        /// The most bytes that one may have.
        limit: usize,
    },
    /// What is stored of the run is incomplete or makes no sense. Other runs are not concerned.
    Damaged {
        /// The run.
        run: RunId,
        /// What is missing or wrong.
        what: String,
    },
    /// The journal cannot be reached at the moment. Whether the request was carried out is not known; it is sent again,
    /// under the same name, and nothing has failed yet.
    Unavailable {
        /// Where the journal is.
        place: String,
        /// What was found.
        why: String,
    },
    /// The journal cannot be used before its place is mended. What was being written may or may not be there then.
    Unusable {
        /// Where the journal is, or the part of it that is concerned.
        place: String,
        /// What is wrong with it, as it is said of the place.
        why: String,
        /// What helps.
        remedy: String,
    },
    /// The journal is closed.
    Closed,
    /// The journal failed before: nothing is written until it is opened again.
    Failed {
        /// What it failed of.
        cause: Arc<JournalError>,
    },
    /// A bug: the journal's thread panicked.
    Panicked(String),
}

impl JournalError {
    /// Whether the same request may succeed when it is sent again.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict(run) => write!(f, "run {run} was taken over or has gone on elsewhere: nothing was appended"),
            Self::UnknownRun(run) => write!(f, "there is no run {run} in this journal"),
            Self::RunEnded(run) => write!(f, "run {run} is over and takes no messages"),
            Self::RunActive(run) => write!(f, "run {run} is being executed: cancel it first"),
            Self::BeingCopied(run) => write!(
                f,
                "run {run} is being copied from one journal to another: finish that with `python -m treadle copy`"
            ),
            Self::LeaseLost(owner) => {
                write!(f, "the lease of process {owner} has ended: its runs may be executed by others")
            }
            Self::Invalid { run, why } => write!(f, "refused a request for run {run}: {why}"),
            Self::TooLarge { run, bytes, limit } => write!(
                f,
                "refused {bytes} bytes at once for run {run}: at most {limit} can be stored; keep large data \
                 elsewhere and a reference to it in the run"
            ),
            Self::Damaged { run, what } => write!(
                f,
                "run {run} is damaged in the journal: {what}; restore a backup that has all of it, or delete the run"
            ),
            Self::Unavailable { place, why } => write!(f, "{place}: {why}; then try again"),
            Self::Unusable { place, why, remedy } => write!(f, "{place} {why}; {remedy}"),
            Self::Closed => f.write_str("the journal is closed"),
            Self::Failed { cause } => {
                write!(f, "the journal failed and takes nothing until it is opened again; the cause was: {cause}")
            }
            Self::Panicked(message) => write!(f, "the journal's thread panicked (a bug in treadle): {message}"),
        }
    }
}

impl std::error::Error for JournalError {}

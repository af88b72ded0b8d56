//! Which runs to list.

use super::Phase;
use crate::run_id::RunId;
use crate::timers::Time;

/// Which runs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those of this workflow.
    pub workflow: Option<String>,
    /// Only those that are this far.
    pub phase: Option<Phase>,
    /// Only those that were made at this time or later, by the time in their id (milliseconds).
    pub since: Option<Time>,
    /// Only those behind this one: the last of the page before.
    pub after: Option<RunId>,
    /// Only those whose key is this one, or begins so.
    pub key: Option<KeyFilter>,
    /// Only those that ended at this time or later.
    pub finished_since: Option<Time>,
    /// Only those that ended before this time.
    pub finished_before: Option<Time>,
    /// At most so many.
    pub limit: usize,
}

impl Filter {
    /// Whether it selects by a key, or by the end of runs.
    pub fn is_narrow(&self) -> bool {
        self.key.is_some() || self.finished_since.is_some() || self.finished_before.is_some()
    }
}

/// Which keys of runs are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFilter {
    /// This one.
    Is(String),
    /// All that begin so.
    StartsWith(String),
}

impl KeyFilter {
    /// Whether a run of this key is meant.
    pub fn takes(&self, key: Option<&str>) -> bool {
        match self {
            Self::Is(wanted) => key == Some(wanted),
            Self::StartsWith(prefix) => key.is_some_and(|key| key.starts_with(prefix.as_str())),
        }
    }
}

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
    /// Only those that this run started.
    pub parent: Option<RunId>,
    /// Only those that this run led to.
    pub root: Option<RunId>,
    /// At most so many.
    pub limit: usize,
}

impl Filter {
    /// Whether it selects by a key, by the end of runs, or by what led to them.
    pub fn is_narrow(&self) -> bool {
        let is_by_end = self.finished_since.is_some() || self.finished_before.is_some();
        self.key.is_some() || is_by_end || self.is_of_family()
    }

    /// Whether it selects by what led to runs.
    pub fn is_of_family(&self) -> bool {
        self.parent.is_some() || self.root.is_some()
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

//! The last ends of runs, in their order.

use std::collections::VecDeque;

use super::super::super::reply::Ends;
use super::super::super::request::Cursor;
use super::super::super::rules;
use crate::run_id::RunId;

#[derive(Default)]
pub(super) struct EndLog {
    last: u64,
    runs: VecDeque<RunId>,
}

impl EndLog {
    /// How many runs have ended.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn push(&mut self, run: RunId) {
        self.last += 1;
        self.runs.push_back(run);
        if self.runs.len() as u64 > rules::ENDS {
            self.runs.pop_front();
        }
    }

    pub(super) fn after(&self, after: Option<u64>, limit: usize) -> Ends {
        let after = after.unwrap_or(self.last);
        let before_first = self.last - self.runs.len() as u64;
        let skipped = after.saturating_sub(before_first) as usize;
        let runs: Vec<_> = self.runs.iter().skip(skipped).take(limit).copied().collect();
        let cursor = after.max(before_first) + runs.len() as u64;
        Ends { cursor: Cursor::behind(cursor), more: runs.len() == limit, missed: after < before_first, runs }
    }
}

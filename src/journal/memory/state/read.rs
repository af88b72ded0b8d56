//! Requests that only read.

use super::super::super::error::JournalError;
use super::super::super::reply::{Loaded, Reply, RunRow, Segment, StreamRead};
use super::super::super::request::Filter;
use super::super::super::{Outcome, rules};
use super::State;
use crate::run_id::RunId;

impl State {
    pub(super) fn load(&self, id: RunId) -> Result<Box<Loaded>, JournalError> {
        let run = self.run(id)?;
        let folded = run.checkpoint.as_ref().map_or(0, |&(seq, _)| seq);
        rules::check_whole(&run.row, folded, run.records.iter().map(|&(seq, _)| (seq, 1)))?;
        Ok(Box::new(Loaded {
            run: run.row.clone(),
            checkpoint: run.checkpoint.clone(),
            records: run.records.iter().map(|(_, record)| record.clone()).collect(),
            inbox: run.inbox.values().cloned().collect(),
        }))
    }

    pub(super) fn get(&self, id: RunId) -> Outcome {
        let run = self.run(id)?;
        Ok(Reply::Run { run: Box::new(run.row.clone()), outcome: run.outcome.clone() })
    }

    pub(super) fn list(&self, filter: &Filter) -> Vec<RunRow> {
        let end = filter.after.unwrap_or(RunId::from_bytes([255; 16]));
        let start = rules::first_id(filter.since.unwrap_or(0));
        if start >= end {
            return Vec::new();
        }
        let fits = |row: &&RunRow| {
            filter.workflow.as_ref().is_none_or(|name| *name == row.workflow)
                && filter.phase.is_none_or(|phase| phase == row.phase() && !row.copying.is_any())
                && filter.key.as_ref().is_none_or(|key| key.takes(row.key.as_deref()))
                && filter.parent.is_none_or(|parent| row.parent == Some(parent))
                && filter.root.is_none_or(|root| row.root == Some(root))
                && filter.finished_since.is_none_or(|since| row.finished.is_some_and(|at| at >= since))
                && filter.finished_before.is_none_or(|before| row.finished.is_some_and(|at| at < before))
        };
        let newest_first = self.runs.range(start..end).rev().map(|(_, run)| &run.row);
        newest_first.filter(fits).take(filter.limit).cloned().collect()
    }

    pub(super) fn records(&self, id: RunId, after: u64, limit: usize) -> Outcome {
        let run = self.run(id)?;
        let folded = run.checkpoint.as_ref().map_or(0, |&(seq, _)| seq);
        let newer = run.records.iter().filter(|&&(seq, _)| seq > after);
        Ok(Reply::Records { records: newer.take(limit).cloned().collect(), folded })
    }

    pub(super) fn segment(&self, id: RunId, at: u64) -> Outcome {
        let run = self.run(id)?;
        let newest = run.checkpoint.as_ref().map_or(0, |&(seq, _)| seq);
        let first = run.keyframes.keys().next().copied().unwrap_or(newest);
        let at = at.max(first);
        let (checkpoint, end) = match run.keyframes.range(..=at).next_back() {
            Some((&seq, state)) if at < newest => {
                let next = run.keyframes.range(seq + 1..).next().map_or(newest, |(&next, _)| next);
                (Some((seq, state.clone())), next)
            }
            _ => (run.checkpoint.clone(), run.row.seq),
        };
        let start = checkpoint.as_ref().map_or(0, |&(seq, _)| seq);
        let inside = run.folded.iter().chain(&run.records).filter(|&&(seq, _)| seq > start && seq <= end);
        let (numbers, records): (Vec<_>, Vec<_>) = inside.map(|(seq, record)| ((*seq, 1), record.clone())).unzip();
        rules::check_segment(&run.row, start, end, numbers)?;
        Ok(Reply::Segment(Box::new(Segment { run: run.row.clone(), checkpoint, records, first })))
    }

    pub(super) fn read_stream(&self, id: RunId, after: u64, limit: usize) -> Outcome {
        let run = self.run(id)?;
        let from = run.stream.partition_point(|&(number, _)| number <= after);
        let first = run.stream.front().map_or(run.row.published + 1, |&(number, _)| number);
        Ok(Reply::Stream(StreamRead {
            entries: run.stream.range(from..).take(limit).cloned().collect(),
            missed: (first - 1).saturating_sub(after),
            published: run.row.published,
            ended: !run.row.phase().goes_on(),
        }))
    }
}

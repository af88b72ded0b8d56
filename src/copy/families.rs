//! Which runs go together: a parent and its children write to each other by their names, so that none of them goes
//! without the others.

use std::collections::BTreeMap;

use super::{Copier, Desk, End, unexpected};
use crate::journal::{Copying, Filter, JournalError, Reply, Request, RunRow};
use crate::run_id::RunId;

/// Which runs are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of the journal.
    All,
    /// The family of this one.
    FamilyOf(RunId),
}

const PAGE: usize = 1000;

impl<D: Desk> Copier<'_, D> {
    /// The runs, family by family, the oldest first.
    pub(super) fn families(&mut self, which: Which) -> Result<Vec<Vec<RunId>>, JournalError> {
        let mut families: BTreeMap<RunId, Vec<RunId>> = BTreeMap::new();
        let mut root = None;
        if let Which::FamilyOf(run) = which {
            let row = match self.row(End::From, run) {
                Err(JournalError::UnknownRun(_)) if self.is_there(run)? => {
                    self.summary.there += 1;
                    return Ok(Vec::new());
                }
                row => row?,
            };
            root = Some(root_of(&row));
        }
        if let Some(root) = root {
            match self.row(End::From, root) {
                Ok(row) => families.entry(root).or_default().push(row.id),
                Err(JournalError::UnknownRun(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let mut after = None;
        loop {
            let filter = Filter { root, after, limit: PAGE, ..Filter::default() };
            let rows = match self.ask(End::From, Request::List { filter }) {
                Ok(Reply::Listed(rows)) => rows,
                other => return Err(unexpected(other)),
            };
            for row in &rows {
                families.entry(root_of(row)).or_default().push(row.id);
            }
            after = rows.last().map(|row| row.id);
            if rows.len() < PAGE {
                break;
            }
        }
        let mut families: Vec<_> = families.into_values().collect();
        families.iter_mut().for_each(|family| family.sort_unstable());
        Ok(families)
    }

    // Whether it is the destination's already.
    fn is_there(&mut self, run: RunId) -> Result<bool, JournalError> {
        match self.row(End::To, run) {
            Ok(row) => Ok(row.copying == Copying::No),
            Err(JournalError::UnknownRun(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn root_of(row: &RunRow) -> RunId {
    row.root.unwrap_or(row.id)
}

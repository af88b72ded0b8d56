//! Runs that move to another journal.

use super::super::super::error::JournalError;
use super::super::super::op::OpId;
use super::super::super::reply::{Reply, RunRow, Traces};
use super::super::super::request::{OwnerId, Seen};
use super::super::super::{Outcome, copying};
use super::State;
use crate::run_id::RunId;

impl State {
    pub(super) fn take(&mut self, id: RunId, owner: OwnerId, op: OpId) -> Outcome {
        self.check_owner(Some(owner))?;
        self.change_row(id, |row| copying::take(row, owner, op))?;
        Ok(Reply::Taken(Box::new(self.run(id)?.row.clone())))
    }

    pub(super) fn leave(&mut self, id: RunId, epoch: u64, seen: Seen) -> Outcome {
        self.change_row(id, |row| copying::leave(row, epoch, seen))?;
        Ok(Reply::Done)
    }

    pub(super) fn remove(&mut self, id: RunId, epoch: u64, seen: Seen) -> Outcome {
        copying::check_remove(&self.run(id)?.row, epoch, seen)?;
        self.forget(id);
        Ok(Reply::Done)
    }

    pub(super) fn traces(&self, id: RunId) -> Outcome {
        Ok(Reply::Traces(Traces { consumed: self.run(id)?.consumed().collect(), transactions: 0 }))
    }

    fn change_row(
        &mut self,
        id: RunId,
        change: impl FnOnce(&mut RunRow) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let mut row = self.run(id)?.row.clone();
        change(&mut row)?;
        self.change(id, |run| run.row = row);
        Ok(())
    }
}

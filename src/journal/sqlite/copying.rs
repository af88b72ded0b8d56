//! Runs that move to another journal.

use rusqlite::Connection;

use super::batch::Answer;
use super::{ends, owners, runs};
use crate::journal::{OpId, OwnerId, Reply, Seen, Traces, copying, phases, rules};
use crate::run_id::RunId;

pub(super) fn take(db: &Connection, id: RunId, owner: OwnerId, op: OpId) -> Answer {
    let number = owners::living(db, Some(owner))?;
    let mut run = runs::find(db, id)?;
    copying::take(&mut run.row, owner, op)?;
    run.owner = number;
    place(db, &run)?;
    failpoint!("copy.run_taken");
    Ok(Reply::Taken(Box::new(run.row)))
}

pub(super) fn leave(db: &Connection, id: RunId, epoch: u64, seen: Seen) -> Answer {
    let mut run = runs::find(db, id)?;
    copying::leave(&mut run.row, epoch, seen)?;
    run.owner = None;
    place(db, &run)?;
    failpoint!("copy.run_left");
    Ok(Reply::Done)
}

pub(super) fn remove(db: &Connection, id: RunId, epoch: u64, seen: Seen) -> Answer {
    let run = runs::find(db, id)?;
    copying::check_remove(&run.row, epoch, seen)?;
    if run.row.phase().goes_on() {
        ends::push(db, id)?;
    }
    runs::forget(db, run.n)?;
    failpoint!("copy.run_removed");
    Ok(Reply::Done)
}

pub(super) fn traces(db: &Connection, id: RunId) -> Answer {
    let run = runs::find(db, id)?;
    let consumed = db
        .prepare_cached(
            "SELECT id FROM inbox INDEXED BY inbox_consumed WHERE run = ?1 AND body IS NULL ORDER BY number",
        )?
        .query_map([run.n], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Reply::Traces(Traces { consumed, transactions: 0 }))
}

// Whose the run is, and where. Its outcome stays as it is.
fn place(db: &Connection, run: &runs::Stored) -> rusqlite::Result<()> {
    let row = &run.row;
    db.prepare_cached("UPDATE runs SET phase = ?2, wake = ?3, owner = ?4, epoch = ?5, op = ?6 WHERE n = ?1")?
        .execute((
            run.n,
            phases::number(row),
            rules::wake(row).map(runs::sql),
            run.owner,
            runs::sql(row.epoch),
            row.op.0,
        ))
        .map(drop)
}

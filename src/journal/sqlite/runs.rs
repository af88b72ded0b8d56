//! The rows of runs.

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::batch::Answer;
use super::ends;
use super::failure::Failure;
use crate::journal::{JournalError, OpId, Reply, RunRow, Status, copying, phases, rules};
use crate::run_id::RunId;
use crate::timers::Time;

/// Selects what `stored` reads, in its order. An owner without an id has lost its lease.
macro_rules! select {
    ($($rest:literal),+) => {
        concat!(
            "SELECT r.n, r.id, r.workflow, r.key, r.input, r.created, r.stream_limit, r.updated, r.finished, \
             r.phase, r.due, o.id, r.epoch, r.seq, r.inbox, r.published, r.owner, r.wake, r.consumed, \
             r.recoveries, r.not_before, r.reason, r.dead_letters, r.op, r.made_by, r.parent, r.root, r.depth, \
             r.reopened_by ",
            $($rest),+
        )
    };
}
pub(super) use select;

/// A run as it is in the file.
pub(super) struct Stored {
    /// What the other tables call it: shorter than its id.
    pub(super) n: i64,
    pub(super) row: RunRow,
    /// What the table of owners calls its owner, living or not.
    pub(super) owner: Option<i64>,
    pub(super) wake: Option<i64>,
    /// How many of its inbox's entries are kept only to know them again.
    pub(super) consumed: u64,
}

/// A number as SQLite has them. Times and numbers beyond 2^63 stand for "never" and "everything".
pub(super) fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A limit as SQLite has them.
pub(super) fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Reads a run.
pub(super) fn find(db: &Connection, id: RunId) -> Result<Stored, Failure> {
    let sql = select!("FROM runs r LEFT JOIN processes o ON o.n = r.owner WHERE r.id = ?1");
    let found = db.prepare_cached(sql)?.query_row([id.as_bytes()], stored).optional();
    let found = found.map_err(|error| damaged(id, error))?;
    found.ok_or(Failure::Refused(JournalError::UnknownRun(id)))
}

// SQLite could read the row, and it makes no sense: that is the fault of this run alone.
fn damaged(run: RunId, error: rusqlite::Error) -> Failure {
    match error.sqlite_error_code() {
        None => JournalError::Damaged { run, what: error.to_string() }.into(),
        Some(_) => error.into(),
    }
}

/// Reads a run by the number that the other tables call it.
pub(super) fn find_by_number(db: &Connection, n: i64) -> rusqlite::Result<Stored> {
    let sql = select!("FROM runs r LEFT JOIN processes o ON o.n = r.owner WHERE r.n = ?1");
    db.prepare_cached(sql)?.query_row([n], stored)
}

pub(super) fn stored(row: &Row) -> rusqlite::Result<Stored> {
    let phase: i64 = row.get(9)?;
    let (phase, copying) = phases::of_number(phase).ok_or(rusqlite::Error::IntegralValueOutOfRange(9, phase))?;
    Ok(Stored {
        n: row.get(0)?,
        row: RunRow {
            id: RunId::from_bytes(row.get(1)?),
            workflow: row.get(2)?,
            key: row.get(3)?,
            input: row.get(4)?,
            created: row.get(5)?,
            stream_limit: row.get(6)?,
            updated: row.get(7)?,
            finished: row.get(8)?,
            status: Status { phase, due: row.get(10)? },
            owner: row.get::<_, Option<[u8; 16]>>(11)?.map(crate::journal::OwnerId),
            epoch: row.get(12)?,
            seq: row.get(13)?,
            op: OpId(row.get(23)?),
            made_by: OpId(row.get(24)?),
            inbox: row.get(14)?,
            published: row.get(15)?,
            is_cut_short: false,
            recoveries: row.get(19)?,
            not_before: row.get(20)?,
            reason: row.get(21)?,
            dead_letters: row.get(22)?,
            parent: row.get::<_, Option<[u8; 16]>>(25)?.map(RunId::from_bytes),
            root: row.get::<_, Option<[u8; 16]>>(26)?.map(RunId::from_bytes),
            depth: row.get(27)?,
            reopened_by: OpId(row.get(28)?),
            copying,
        },
        owner: row.get(16)?,
        wake: row.get(17)?,
        consumed: row.get(18)?,
    })
}

/// Adds a run; gives the number that the other tables call it.
pub(super) fn insert(
    db: &Connection,
    row: &RunRow,
    owner: Option<i64>,
    outcome: Option<&[u8]>,
) -> rusqlite::Result<i64> {
    db.prepare_cached(
        "INSERT INTO runs (id, workflow, key, input, created, stream_limit, updated, finished, phase, due, wake, \
         owner, epoch, seq, op, made_by, inbox, consumed, published, outcome, parent, root, depth) VALUES (:id, :workflow, \
         :key, :input, :created, :stream_limit, :updated, :finished, :phase, :due, :wake, :owner, :epoch, :seq, :op, \
         :op, 0, 0, :published, :outcome, :parent, :root, :depth)",
    )?
    .insert(named_params! {
        ":id": row.id.as_bytes(),
        ":workflow": row.workflow,
        ":key": row.key,
        ":input": row.input,
        ":created": sql(row.created),
        ":stream_limit": sql(row.stream_limit),
        ":updated": sql(row.updated),
        ":finished": row.finished.map(sql),
        ":phase": phases::number(row),
        ":due": row.status.due.map(sql),
        ":wake": rules::wake(row).map(sql),
        ":owner": owner,
        ":epoch": sql(row.epoch),
        ":seq": sql(row.seq),
        ":op": row.op.0,
        ":published": sql(row.published),
        ":outcome": outcome,
        ":parent": row.parent.as_ref().map(RunId::as_bytes),
        ":root": row.root.as_ref().map(RunId::as_bytes),
        ":depth": row.depth,
    })
}

/// Writes back the parts of a row that every commit changes.
pub(super) fn update(db: &Connection, run: &Stored) -> rusqlite::Result<()> {
    let row = &run.row;
    db.prepare_cached(
        "UPDATE runs SET updated = ?2, due = ?3, seq = ?4, inbox = ?5, consumed = ?6, published = ?7, op = ?8 \
         WHERE n = ?1",
    )?
    .execute((
        run.n,
        sql(row.updated),
        row.status.due.map(sql),
        sql(row.seq),
        sql(row.inbox),
        sql(run.consumed),
        sql(row.published),
        row.op.0,
    ))
    .map(drop)
}

/// Writes back the parts of a row that indexes have. SQLite rewrites an index whenever one of its columns is
/// assigned, changed or not, so this is for rows where one has changed.
pub(super) fn update_place(db: &Connection, run: &Stored, outcome: Option<&[u8]>) -> rusqlite::Result<()> {
    let row = &run.row;
    let wake = rules::wake(row).map(sql);
    db.prepare_cached(
        "UPDATE runs SET phase = ?2, wake = ?3, owner = ?4, finished = ?5, epoch = ?6, outcome = ?7 WHERE n = ?1",
    )?
    .execute((run.n, phases::number(row), wake, run.owner, row.finished.map(sql), sql(row.epoch), outcome))
    .map(drop)
}

/// Writes back which operation made a run go on.
pub(super) fn update_reopening(db: &Connection, run: &Stored) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE runs SET reopened_by = ?2 WHERE n = ?1")?
        .execute((run.n, run.row.reopened_by.0))
        .map(drop)
}

/// Writes back when a run has something to do, if that has changed. A run whose outcome this keeps has none.
pub(super) fn update_wake(db: &Connection, run: &Stored) -> rusqlite::Result<()> {
    let wake = rules::wake(&run.row).map(sql);
    if run.wake == wake {
        return Ok(());
    }
    db.prepare_cached("UPDATE runs SET wake = ?2 WHERE n = ?1")?.execute((run.n, wake)).map(drop)
}

/// Writes back the parts of a row that a claim, a refusal and the first progress after a claim change.
pub(super) fn update_recovery(db: &Connection, run: &Stored) -> rusqlite::Result<()> {
    let row = &run.row;
    db.prepare_cached("UPDATE runs SET recoveries = ?2, not_before = ?3, reason = ?4 WHERE n = ?1")?
        .execute((run.n, row.recoveries, row.not_before.map(sql), &row.reason))
        .map(drop)
}

pub(super) fn delete(db: &Connection, id: RunId) -> Answer {
    let run = find(db, id)?;
    copying::check_delete(&run.row)?;
    if run.row.phase().goes_on() {
        ends::push(db, id)?;
    }
    forget(db, run.n)?;
    failpoint!("journal.run_deleted");
    Ok(Reply::Done)
}

pub(super) fn prune(db: &Connection, finished_before: Time, limit: usize) -> Answer {
    let old: Vec<i64> = db
        .prepare_cached(
            "SELECT n FROM runs INDEXED BY runs_finished WHERE finished < ?1 AND phase < 8 ORDER BY finished LIMIT ?2",
        )?
        .query_map((sql(finished_before), sql_limit(limit)), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for &n in &old {
        forget(db, n)?;
        failpoint!("journal.run_pruned");
    }
    Ok(Reply::Pruned { runs: old.len() })
}

pub(super) fn forget(db: &Connection, n: i64) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM commits WHERE run = ?1",
        "DELETE FROM checkpoints WHERE run = ?1",
        "DELETE FROM folded WHERE run = ?1",
        "DELETE FROM keyframes WHERE run = ?1",
        "DELETE FROM stream WHERE run = ?1",
        "DELETE FROM inbox WHERE run = ?1",
        "DELETE FROM runs WHERE n = ?1",
    ] {
        db.prepare_cached(sql)?.execute([n])?;
        failpoint!("journal.run_forgotten_in_part");
    }
    Ok(())
}

//! Processes, their leases, and the runs that they take over.
//!
//! A process that has lost its lease loses its id: whatever it tries finds no owner. Its row stays as long as
//! runs refer to it, so that losing a lease costs one row, whatever the number of its runs.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::batch::Answer;
use super::ends;
use super::failure::Failure;
use super::machine::Machine;
use super::runs::{self, Stored, sql, sql_limit};
use crate::journal::lease::{Lease, Moment};
use crate::journal::recovery::{self, Turn};
use crate::journal::{Claim, Claimed, JournalError, Next, OpId, OwnerId, Refusal, Reply, RunRow, rules};
use crate::run_id::RunId;
use crate::timers::Time;

/// How many runs of a lost process one claim gives free at most, beyond those that it takes.
const FREED_AT_ONCE: usize = 1000;

/// Its lock is taken by then.
pub(super) fn enlist(db: &Connection, machine: &Machine, owner: OwnerId, lasts: Duration) -> Answer {
    let lease = Lease::new(machine.clock.now(), lasts);
    db.prepare_cached(
        "INSERT INTO processes (id, boot, since, lasts) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (id) DO UPDATE SET boot = ?2, since = ?3, lasts = ?4",
    )?
    .execute((owner.0, lease.since.boot, sql(lease.since.micros), sql(lease.lasts)))?;
    failpoint!("journal.enlisted");
    Ok(Reply::Done)
}

pub(super) fn renew(db: &Connection, machine: &Machine, owner: OwnerId, lasts: Duration) -> Answer {
    let lease = Lease::new(machine.clock.now(), lasts);
    let mut statement = db.prepare_cached("UPDATE processes SET boot = ?2, since = ?3, lasts = ?4 WHERE id = ?1")?;
    match statement.execute((owner.0, lease.since.boot, sql(lease.since.micros), sql(lease.lasts)))? {
        0 => Err(JournalError::LeaseLost(owner).into()),
        _ => {
            failpoint!("journal.lease_renewed");
            Ok(Reply::Done)
        }
    }
}

pub(super) fn release(db: &Connection, owner: OwnerId) -> Answer {
    db.prepare_cached("UPDATE processes SET id = NULL, is_released = TRUE WHERE id = ?1")?.execute([owner.0])?;
    failpoint!("journal.released");
    Ok(Reply::Done)
}

/// The number of a process that has its lease.
pub(super) fn number(db: &Connection, owner: OwnerId) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT n FROM processes WHERE id = ?1")?.query_row([owner.0], |row| row.get(0)).optional()
}

/// The number of a process that must have its lease.
pub(super) fn living(db: &Connection, owner: Option<OwnerId>) -> Result<Option<i64>, Failure> {
    let Some(owner) = owner else { return Ok(None) };
    Ok(Some(number(db, owner)?.ok_or(JournalError::LeaseLost(owner))?))
}

pub(super) fn claim(db: &Connection, machine: &Machine, claim: &Claim) -> Answer {
    let owner = claim.owner;
    let me = number(db, owner)?.ok_or(JournalError::LeaseLost(owner))?;
    if claim.op.is_same(last_claim(db, me)?) {
        return Ok(Reply::Claimed(Claimed { runs: claimed_by(db, me, claim)?, more: true, ..Claimed::default() }));
    }
    for (other, lease) in leases(db)? {
        if other != owner && machine.left(other, &lease).is_none() {
            db.prepare_cached("UPDATE processes SET id = NULL WHERE id = ?1")?.execute([other.0])?;
        }
    }
    failpoint!("journal.leases_lapsed");
    let lost = lost(db)?;
    let mut claimed = Claimed::default();
    for n in claimable(db, &lost, claim)? {
        let mut run = runs::find_by_number(db, n)?;
        if run.owner.is_some_and(|owner| lost.iter().any(|lost| lost.n == owner && !lost.is_released)) {
            recovery::lose(&mut run.row);
        }
        match recovery::take(&mut run.row, claim) {
            Turn::Given => {
                take(db, me, &run)?;
                claimed.runs.push(run.row);
            }
            Turn::Stranded => {
                move_away(db, &mut run)?;
                claimed.stranded.push(run.row);
            }
        }
    }
    free(db, &lost)?;
    if !claimed.runs.is_empty() {
        db.prepare_cached("UPDATE processes SET claim = ?2 WHERE n = ?1")?.execute((me, claim.op.0))?;
    }
    claimed.more = claimed.runs.len() + claimed.stranded.len() == claim.limit;
    Ok(Reply::Claimed(claimed))
}

fn last_claim(db: &Connection, me: i64) -> rusqlite::Result<OpId> {
    db.prepare_cached("SELECT claim FROM processes WHERE n = ?1")?.query_row([me], |row| row.get(0).map(OpId))
}

// The runs that the claim took and that have not got further since.
fn claimed_by(db: &Connection, me: i64, claim: &Claim) -> rusqlite::Result<Vec<RunRow>> {
    let taken: Vec<i64> = db
        .prepare_cached("SELECT n FROM runs INDEXED BY runs_work WHERE phase < 3 AND owner = ?1 AND op = ?2")?
        .query_map((me, claim.op.0), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    taken.into_iter().map(|n| Ok(runs::find_by_number(db, n)?.row)).collect()
}

/// The processes that have not lost their leases yet.
pub(super) fn leases(db: &Connection) -> rusqlite::Result<Vec<(OwnerId, Lease)>> {
    db.prepare_cached("SELECT id, boot, since, lasts FROM processes WHERE id IS NOT NULL")?
        .query_map([], |row| {
            let since = Moment { boot: row.get(1)?, micros: row.get(2)? };
            Ok((OwnerId(row.get(0)?), Lease { since, lasts: row.get(3)? }))
        })?
        .collect()
}

fn take(db: &Connection, me: i64, run: &Stored) -> rusqlite::Result<()> {
    let row = &run.row;
    db.prepare_cached(
        "UPDATE runs SET owner = ?2, epoch = ?3, recoveries = ?4, not_before = ?5, wake = ?6, op = ?7 WHERE n = ?1",
    )?
    .execute((
        run.n,
        me,
        sql(row.epoch),
        row.recoveries,
        row.not_before.map(sql),
        rules::wake(row).map(sql),
        row.op.0,
    ))?;
    failpoint!("journal.run_claimed");
    Ok(())
}

/// A process cannot go on with a run of its own.
pub(super) fn refuse(db: &Connection, id: RunId, epoch: u64, refusal: &Refusal, now: Time) -> Answer {
    let mut run = runs::find(db, id)?;
    rules::check_epoch(&run.row, epoch)?;
    recovery::refuse(&mut run.row, refusal, now);
    move_away(db, &mut run)?;
    Ok(Reply::Refused(Box::new(run.row)))
}

// The run has no owner from now on.
fn move_away(db: &Connection, run: &mut Stored) -> rusqlite::Result<()> {
    run.owner = None;
    runs::update(db, run)?;
    runs::update_place(db, run, None)?;
    runs::update_recovery(db, run)?;
    if !run.row.phase().goes_on() {
        ends::push(db, run.row.id)?;
    }
    Ok(())
}

// A process that lost its runs, or handed them back.
struct Lost {
    n: i64,
    is_released: bool,
}

fn lost(db: &Connection) -> rusqlite::Result<Vec<Lost>> {
    db.prepare_cached("SELECT n, is_released FROM processes WHERE id IS NULL")?
        .query_map([], |row| Ok(Lost { n: row.get(0)?, is_released: row.get(1)? }))?
        .collect()
}

// Those without an owner, and those of the processes that lost them.
fn pools(lost: &[Lost]) -> impl Iterator<Item = Option<i64>> {
    std::iter::once(None).chain(lost.iter().map(|owner| Some(owner.n)))
}

fn claimable(db: &Connection, lost: &[Lost], claim: &Claim) -> rusqlite::Result<Vec<i64>> {
    let mut found = Vec::new();
    let mut statement = db.prepare_cached(CLAIMABLE)?;
    for workflow in rules::distinct(&claim.workflows) {
        for pool in pools(lost) {
            let left = sql_limit(claim.limit - found.len());
            for n in statement.query_map((pool, workflow, sql(claim.now), left), |row| row.get(0))? {
                found.push(n?);
            }
        }
    }
    Ok(found)
}

/// Walks the runs that have something to do, whatever the number of those that wait or are over.
pub(super) const CLAIMABLE: &str = "SELECT n FROM runs INDEXED BY runs_work \
     WHERE phase < 3 AND owner IS ?1 AND workflow = ?2 AND wake <= ?3 ORDER BY wake LIMIT ?4";

/// Finds the first of them.
pub(super) const NEXT: &str = "SELECT wake FROM runs INDEXED BY runs_work \
     WHERE phase < 3 AND owner IS ?1 AND workflow = ?2 AND wake >= 0 ORDER BY wake LIMIT 1";

// A lost process is forgotten when no run refers to it any more. That takes many claims, each a bounded piece.
fn free(db: &Connection, lost: &[Lost]) -> rusqlite::Result<()> {
    let mut left = FREED_AT_ONCE;
    for owner in lost {
        let freed = db
            .prepare_cached(
                "UPDATE runs SET owner = NULL, recoveries = recoveries + ?3 WHERE n IN \
                 (SELECT n FROM runs INDEXED BY runs_work WHERE phase < 3 AND owner = ?1 LIMIT ?2)",
            )?
            .execute((owner.n, sql_limit(left), i64::from(!owner.is_released)))?;
        failpoint!("journal.runs_freed");
        left -= freed;
        if left == 0 {
            break;
        }
        db.prepare_cached("DELETE FROM processes WHERE n = ?1")?.execute([owner.n])?;
    }
    Ok(())
}

pub(super) fn next_due(db: &Connection, machine: &Machine, owner: OwnerId, workflows: &[String]) -> Answer {
    if workflows.is_empty() {
        return Ok(Reply::Next(Next::default()));
    }
    let lost = lost(db)?;
    let mut statement = db.prepare_cached(NEXT)?;
    let mut due: Option<Time> = None;
    for workflow in workflows {
        for pool in pools(&lost) {
            let first: Option<Time> = statement.query_row((pool, workflow), |row| row.get(0)).optional()?;
            due = due.into_iter().chain(first).min();
        }
    }
    let others = leases(db)?.into_iter().filter(|&(other, _)| other != owner);
    let lapse = others.map(|(other, lease)| machine.left(other, &lease).unwrap_or_default()).min();
    Ok(Reply::Next(Next { due, lapse }))
}

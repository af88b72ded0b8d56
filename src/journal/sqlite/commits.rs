//! Commits: what a run appends to its log, and all that changes with it.

use rusqlite::{Connection, OptionalExtension, ToSql};

use super::batch::Answer;
use super::failure::Failure;
use super::runs::{self, Stored, sql};
use super::{LIMITS, ends, history, inbox, outgoing, owners};
use crate::journal::{Commit, Digest, NewRun, OpId, OwnerId, Reply, packed, rules};
use crate::run_id::RunId;

pub(super) fn create(db: &Connection, new: &NewRun, owner: Option<OwnerId>, commit: &Commit) -> Answer {
    if let Some(there) = existing(db, new)? {
        return Ok(if there.made_by.is_same(commit.op) { rules::created_again(owner) } else { there.into() });
    }
    let owner_number = owners::living(db, owner)?;
    rules::check_first(new, commit, LIMITS)?;
    Ok(Reply::Created { epoch: insert(db, new, owner.zip(owner_number), commit)? })
}

/// Adds a run that is not there, with a first commit that was checked; gives its epoch. An owner comes with its number.
pub(super) fn insert(
    db: &Connection,
    new: &NewRun,
    owner: Option<(OwnerId, i64)>,
    commit: &Commit,
) -> rusqlite::Result<u64> {
    let (owner, mut owner_number) = owner.unzip();
    let mut row = rules::new_row(new.clone(), commit);
    rules::give(&mut row, owner);
    rules::apply(&mut row, commit);
    if row.owner.is_none() {
        owner_number = None;
    }
    let n = runs::insert(db, &row, owner_number, commit.outcome.as_deref())?;
    failpoint!("journal.run_inserted");
    write_first_log(db, n, row.seq, commit)?;
    write_stream(db, n, rules::forgotten(&row), commit)?;
    if !row.phase().goes_on() {
        ends::push(db, row.id)?;
    }
    Ok(row.epoch)
}

// The run that has the id or the key of a new one.
struct There {
    id: RunId,
    input: Digest,
    made_by: OpId,
}

impl From<There> for Reply {
    fn from(there: There) -> Self {
        Self::Exists { id: there.id, input: there.input }
    }
}

/// Whether there is a run of this id.
pub(super) fn is_there(db: &Connection, id: RunId) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM runs WHERE id = ?1")?.exists([id.as_bytes()])
}

fn existing(db: &Connection, new: &NewRun) -> rusqlite::Result<Option<There>> {
    let by_id = find(db, "SELECT id, input, made_by FROM runs WHERE id = ?1", &[new.id.as_bytes()])?;
    let Some(key) = new.key.as_ref().filter(|_| by_id.is_none()) else {
        return Ok(by_id);
    };
    find(db, "SELECT id, input, made_by FROM runs WHERE workflow = ?1 AND key = ?2", &[&new.workflow, key])
}

fn find(db: &Connection, sql: &str, parameters: &[&dyn ToSql]) -> rusqlite::Result<Option<There>> {
    let mut statement = db.prepare_cached(sql)?;
    let there = |row: &rusqlite::Row| {
        Ok(There { id: RunId::from_bytes(row.get(0)?), input: row.get(1)?, made_by: OpId(row.get(2)?) })
    };
    statement.query_row(parameters, there).optional()
}

pub(super) fn append(db: &Connection, id: RunId, epoch: u64, after: u64, commit: &Commit) -> Answer {
    let mut run = runs::find(db, id)?;
    if rules::is_written(&run.row, commit) {
        return Ok(Reply::Appended { seq: run.row.seq, undelivered: outgoing::undelivered(db, commit)? });
    }
    rules::check_turn(&run.row, epoch, after)?;
    check(db, &run, commit)?;
    outgoing::check_owners(db, commit)?;
    let was = (run.row.phase(), run.owner);
    let was_counted = run.row.recoveries > 0 || run.row.not_before.is_some() || run.row.reason.is_some();
    write(db, &mut run, commit)?;
    let moved = was != (run.row.phase(), run.owner) || run.wake != rules::wake(&run.row).map(sql);
    if moved || commit.outcome.is_some() || commit.arrival.is_some() {
        runs::update_place(db, &run, commit.outcome.as_deref())?;
        failpoint!("journal.run_moved");
    }
    if was_counted && run.row.recoveries == 0 || commit.arrival.is_some() {
        runs::update_recovery(db, &run)?;
    }
    if !run.row.phase().goes_on() {
        ends::push(db, id)?;
    }
    Ok(Reply::Appended { seq: run.row.seq, undelivered: outgoing::send_out(db, commit)? })
}

pub(super) fn reopen(db: &Connection, id: RunId, after: u64, owner: Option<OwnerId>, commit: &Commit) -> Answer {
    let owner_number = owners::living(db, owner)?;
    let mut run = runs::find(db, id)?;
    if rules::is_reopened(&run.row, commit) {
        return Ok(rules::reopened_again(&run.row, owner)?);
    }
    rules::reopen(&mut run.row, after, owner, commit.op)?;
    rules::check_silent(id, commit)?;
    check(db, &run, commit)?;
    run.owner = owner_number;
    write(db, &mut run, commit)?;
    failpoint!("journal.run_reopened");
    runs::update_place(db, &run, commit.outcome.as_deref())?;
    runs::update_recovery(db, &run)?;
    runs::update_reopening(db, &run)?;
    if !run.row.phase().goes_on() {
        ends::push(db, id)?;
    }
    Ok(Reply::Reopened { epoch: run.row.epoch, seq: run.row.seq })
}

fn check(db: &Connection, run: &Stored, commit: &Commit) -> Result<(), Failure> {
    rules::check(&run.row, commit, LIMITS)?;
    for number in rules::taken_out(commit) {
        if !inbox::has(db, run.n, number)? {
            return Err(rules::not_in_inbox(run.row.id).into());
        }
    }
    Ok(())
}

fn write(db: &Connection, run: &mut Stored, commit: &Commit) -> rusqlite::Result<()> {
    rules::apply(&mut run.row, commit);
    if run.row.owner.is_none() {
        run.owner = None;
    }
    write_log(db, run.n, run.row.seq, commit)?;
    failpoint!("journal.log_written");
    write_stream(db, run.n, rules::forgotten(&run.row), commit)?;
    inbox::consume(db, run, &commit.consumed)?;
    inbox::keep_dead(db, run, &commit.undeliverable)?;
    runs::update(db, run)?;
    failpoint!("journal.run_updated");
    Ok(())
}

// A checkpoint takes the place of the records, those of its own commit included.
fn write_log(db: &Connection, n: i64, seq: u64, commit: &Commit) -> rusqlite::Result<()> {
    let Some(state) = &commit.checkpoint else {
        return write_records(db, LOG, n, seq, commit);
    };
    if commit.keeps_history {
        history::keep(db, n, seq)?;
        write_records(db, FOLDED, n, seq, commit)?;
    } else {
        history::drop(db, n)?;
    }
    db.prepare_cached("DELETE FROM commits WHERE run = ?1")?.execute([n])?;
    failpoint!("journal.log_folded");
    write_checkpoint(db, n, seq, state)
}

// Of a run that is new nothing is replaced: most runs are short, and their creation is most of what they cost.
fn write_first_log(db: &Connection, n: i64, seq: u64, commit: &Commit) -> rusqlite::Result<()> {
    let Some(state) = &commit.checkpoint else { return write_log(db, n, seq, commit) };
    if commit.keeps_history {
        write_records(db, FOLDED, n, seq, commit)?;
    }
    write_checkpoint(db, n, seq, state)
}

fn write_checkpoint(db: &Connection, n: i64, seq: u64, state: &[u8]) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO checkpoints (run, seq, state) VALUES (?1, ?2, ?3)")?
        .execute((n, sql(seq), state))
        .map(drop)
}

const LOG: &str = "INSERT INTO commits (run, seq, records) VALUES (?1, ?2, ?3)";
const FOLDED: &str = "INSERT INTO folded (run, seq, records) VALUES (?1, ?2, ?3)";

fn write_records(db: &Connection, insert: &str, n: i64, seq: u64, commit: &Commit) -> rusqlite::Result<()> {
    if commit.records.is_empty() {
        return Ok(());
    }
    db.prepare_cached(insert)?.execute((n, sql(seq), packed::pack(&commit.records))).map(drop)
}

// In the long run as many entries are deleted as are written.
fn write_stream(db: &Connection, n: i64, forgotten: u64, commit: &Commit) -> rusqlite::Result<()> {
    if commit.published.is_empty() {
        return Ok(());
    }
    let mut insert = db.prepare_cached("INSERT INTO stream (run, number, body) VALUES (?1, ?2, ?3)")?;
    for (number, body) in commit.published.iter().filter(|&&(number, _)| number > forgotten) {
        insert.execute((n, sql(*number), body))?;
        failpoint!("journal.stream_written");
    }
    if forgotten > 0 {
        db.prepare_cached("DELETE FROM stream WHERE run = ?1 AND number <= ?2")?.execute((n, sql(forgotten)))?;
    }
    Ok(())
}

//! Messages to runs. One that was consumed is kept for a while without its body, to be known again.

use rusqlite::{Connection, OptionalExtension, Row};

use super::batch::Answer;
use super::runs::{self, Stored, sql, sql_limit};
use super::{LIMITS, owners};
use crate::journal::outgoing::BURIED;
use crate::journal::{
    Cursor, DeadLetter, Entry, EntryNumber, JournalError, Message, OwnerId, Polled, Reply, Request, rules,
};
use crate::run_id::RunId;
use crate::timers::Time;

pub(super) fn send(db: &Connection, id: RunId, message: &Message, now: Time) -> Answer {
    rules::check_message(id, message, LIMITS)?;
    let mut run = runs::find(db, id)?;
    if db.prepare_cached("SELECT 1 FROM inbox WHERE run = ?1 AND id = ?2")?.exists((run.n, message.id))? {
        return Ok(Reply::Sent { new: false });
    }
    if run.row.is_over() {
        return Err(JournalError::RunEnded(id).into());
    }
    deliver(db, &mut run, message, now)?;
    Ok(Reply::Sent { new: true })
}

/// Puts a message that is new into the inbox of a run that goes on.
pub(super) fn deliver(db: &Connection, run: &mut Stored, message: &Message, at: Time) -> rusqlite::Result<()> {
    insert(db, run.n, &message.id, message.kind, sql(at), &message.body)?;
    failpoint!("journal.message_inserted");
    run.row.inbox += 1;
    runs::update(db, run)?;
    runs::update_wake(db, run)
}

/// Keeps a message that came after the end of its run as a dead letter.
pub(super) fn bury(db: &Connection, run: &mut Stored, message: &Message, at: Time) -> rusqlite::Result<()> {
    let number = insert(db, run.n, &message.id, message.kind, sql(at), &message.body)?;
    db.prepare_cached("UPDATE inbox SET dead = ?2 WHERE number = ?1")?.execute((number, BURIED))?;
    run.row.dead_letters += 1;
    count_dead(db, run)
}

/// Whether the entry is in the inbox of the run.
pub(super) fn has(db: &Connection, n: i64, number: EntryNumber) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM inbox WHERE number = ?2 AND run = ?1 AND body IS NOT NULL AND dead IS NULL")?
        .exists((n, sql(number)))
}

/// Takes entries out of the inbox of a run, and forgets as many old ones as are too many.
pub(super) fn consume(db: &Connection, run: &mut Stored, numbers: &[EntryNumber]) -> rusqlite::Result<()> {
    for &number in numbers {
        db.prepare_cached("UPDATE inbox SET body = NULL WHERE number = ?1")?.execute([sql(number)])?;
        failpoint!("journal.entry_consumed");
    }
    run.consumed += numbers.len() as u64;
    let too_many = run.consumed.saturating_sub(Request::DEDUPE_WINDOW);
    if too_many > 0 {
        db.prepare_cached(
            "DELETE FROM inbox WHERE number IN (SELECT number FROM inbox INDEXED BY inbox_consumed \
             WHERE run = ?1 AND body IS NULL ORDER BY number LIMIT ?2)",
        )?
        .execute((run.n, sql(too_many)))?;
        run.consumed -= too_many;
    }
    Ok(())
}

/// Marks entries of the inbox of a run as dead letters. They are known again by their ids as long as they are kept.
pub(super) fn keep_dead(db: &Connection, run: &Stored, dead: &[(EntryNumber, String)]) -> rusqlite::Result<()> {
    if dead.is_empty() {
        return Ok(());
    }
    for (number, why) in dead {
        db.prepare_cached("UPDATE inbox SET dead = ?2 WHERE number = ?1")?.execute((sql(*number), why))?;
    }
    count_dead(db, run)
}

pub(super) fn dead_letters(db: &Connection, id: RunId) -> Answer {
    let run = runs::find(db, id)?;
    let mut statement = db.prepare_cached(
        "SELECT i.number, r.id, i.id, i.kind, i.at, i.body, i.dead FROM inbox i INDEXED BY inbox_dead JOIN runs r \
         ON r.n = i.run WHERE i.run = ?1 AND i.dead IS NOT NULL ORDER BY i.number",
    )?;
    let letters = statement.query_map([run.n], |row| Ok(DeadLetter { entry: entry(row)?, why: row.get(6)? }))?;
    Ok(Reply::DeadLetters(letters.collect::<rusqlite::Result<_>>()?))
}

/// Puts the dead letters of a run into its inbox again, with new numbers, so that a poll finds them.
pub(super) fn redeliver(db: &Connection, id: RunId) -> Answer {
    let mut run = runs::find(db, id)?;
    if run.row.is_over() {
        return Err(JournalError::RunEnded(id).into());
    }
    let dead: Vec<i64> = db
        .prepare_cached(
            "SELECT number FROM inbox INDEXED BY inbox_dead WHERE run = ?1 AND dead IS NOT NULL ORDER BY number",
        )?
        .query_map([run.n], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for &number in &dead {
        let (message, kind, at, body): ([u8; 16], u8, i64, Vec<u8>) = db
            .prepare_cached("SELECT id, kind, at, body FROM inbox WHERE number = ?1")?
            .query_row([number], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        db.prepare_cached("DELETE FROM inbox WHERE number = ?1")?.execute([number])?;
        insert(db, run.n, &message, kind, at, &body)?;
    }
    run.row.inbox += dead.len() as u64;
    run.row.dead_letters = 0;
    count_dead(db, &run)?;
    runs::update(db, &run)?;
    runs::update_wake(db, &run)?;
    Ok(Reply::Redelivered { messages: dead.len() })
}

// Gives its number.
fn insert(db: &Connection, n: i64, id: &[u8; 16], kind: u8, at: i64, body: &[u8]) -> rusqlite::Result<i64> {
    db.prepare_cached("INSERT INTO inbox (run, id, kind, at, body) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .insert((n, id, kind, at, body))
}

fn count_dead(db: &Connection, run: &Stored) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE runs SET dead_letters = ?2 WHERE n = ?1")?
        .execute((run.n, sql(run.row.dead_letters)))
        .map(drop)
}

pub(super) fn poll(db: &Connection, owner: OwnerId, after: &Cursor, limit: usize) -> Answer {
    let after = after.number();
    let entries: Vec<Entry> = match owners::number(db, owner)? {
        Some(owner) => db
            .prepare_cached(NEWER)?
            .query_map((sql(after), owner, sql_limit(limit)), entry)?
            .collect::<rusqlite::Result<_>>()?,
        None => Vec::new(),
    };
    let more = entries.len() == limit;
    let cursor = match entries.last() {
        Some(last) if more => last.number,
        _ if more => after,
        _ => after.max(last_number(db)?),
    };
    Ok(Reply::Polled(Polled { entries, cursor: Cursor::behind(cursor), more }))
}

/// Walks the entries behind a cursor, each once in the life of the cursor.
pub(super) const NEWER: &str = "SELECT i.number, r.id, i.id, i.kind, i.at, i.body FROM inbox i CROSS JOIN runs r \
     ON r.n = i.run WHERE i.number > ?1 AND i.body IS NOT NULL AND i.dead IS NULL AND r.owner = ?2 ORDER BY i.number LIMIT ?3";

pub(super) fn last_number(db: &Connection) -> rusqlite::Result<EntryNumber> {
    let mut statement = db.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'inbox'")?;
    Ok(statement.query_row([], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// The inbox of one run.
pub(super) fn of(db: &Connection, n: i64) -> rusqlite::Result<Vec<Entry>> {
    db.prepare_cached(
        "SELECT i.number, r.id, i.id, i.kind, i.at, i.body FROM inbox i INDEXED BY inbox_new JOIN runs r \
         ON r.n = i.run WHERE i.run = ?1 AND i.body IS NOT NULL AND i.dead IS NULL ORDER BY i.number",
    )?
    .query_map([n], entry)?
    .collect()
}

fn entry(row: &Row) -> rusqlite::Result<Entry> {
    Ok(Entry {
        number: row.get(0)?,
        run: RunId::from_bytes(row.get(1)?),
        id: row.get(2)?,
        kind: row.get(3)?,
        at: row.get(4)?,
        body: row.get(5)?,
    })
}

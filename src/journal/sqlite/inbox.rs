//! Messages to runs. One that was consumed is kept for a while without its body, to be known again.

use rusqlite::{Connection, OptionalExtension, Row};

use super::batch::Answer;
use super::owners;
use super::runs::{self, Stored, sql, sql_limit};
use crate::journal::{Entry, EntryNumber, JournalError, Message, OwnerId, Polled, Reply, Request, rules};
use crate::run_id::RunId;
use crate::timers::Time;

pub(super) fn send(db: &Connection, id: RunId, message: &Message, now: Time) -> Answer {
    rules::check_message(id, message)?;
    let mut run = runs::find(db, id)?;
    if db.prepare_cached("SELECT 1 FROM inbox WHERE run = ?1 AND id = ?2")?.exists((run.n, message.id))? {
        return Ok(Reply::Sent { new: false });
    }
    if run.row.is_over() {
        return Err(JournalError::RunEnded(id).into());
    }
    db.prepare_cached("INSERT INTO inbox (run, id, kind, at, body) VALUES (?1, ?2, ?3, ?4, ?5)")?.execute((
        run.n,
        message.id,
        message.kind,
        sql(now),
        &message.body,
    ))?;
    failpoint!("journal.message_inserted");
    run.row.inbox += 1;
    runs::update(db, &run)?;
    if run.wake != rules::wake(&run.row).map(sql) {
        runs::update_place(db, &run, None)?;
    }
    Ok(Reply::Sent { new: true })
}

/// Whether the entry is in the inbox of the run.
pub(super) fn has(db: &Connection, n: i64, number: EntryNumber) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM inbox WHERE number = ?2 AND run = ?1 AND body IS NOT NULL")?
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

pub(super) fn poll(db: &Connection, owner: OwnerId, after: EntryNumber, limit: usize) -> Answer {
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
    Ok(Reply::Polled(Polled { entries, cursor, more }))
}

/// Walks the entries behind a cursor, each once in the life of the cursor.
pub(super) const NEWER: &str = "SELECT i.number, r.id, i.id, i.kind, i.at, i.body FROM inbox i CROSS JOIN runs r \
     ON r.n = i.run WHERE i.number > ?1 AND i.body IS NOT NULL AND r.owner = ?2 ORDER BY i.number LIMIT ?3";

fn last_number(db: &Connection) -> rusqlite::Result<EntryNumber> {
    let mut statement = db.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'inbox'")?;
    Ok(statement.query_row([], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// The inbox of one run.
pub(super) fn of(db: &Connection, n: i64) -> rusqlite::Result<Vec<Entry>> {
    db.prepare_cached(
        "SELECT i.number, r.id, i.id, i.kind, i.at, i.body FROM inbox i INDEXED BY inbox_new JOIN runs r \
         ON r.n = i.run WHERE i.run = ?1 AND i.body IS NOT NULL ORDER BY i.number",
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

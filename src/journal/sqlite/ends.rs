//! The last ends of runs, in the order of their commits: who waits for a run asks what has ended since.
//!
//! The row with the largest number is never deleted, so that no number is used twice.

use rusqlite::{Connection, OptionalExtension};

use super::batch::Answer;
use super::runs::{sql, sql_limit};
use crate::journal::{Cursor, Ends, Reply, rules};
use crate::run_id::RunId;

/// After how many ends the oldest are forgotten: in one go, as each takes a page of its own otherwise.
const FORGOTTEN_AT_ONCE: i64 = 1024;

/// Nothing more comes of a run.
pub(super) fn push(db: &Connection, run: RunId) -> rusqlite::Result<()> {
    let number = db.prepare_cached("INSERT INTO ends (run) VALUES (?1)")?.insert([run.as_bytes()])?;
    failpoint!("journal.end_noted");
    if number % FORGOTTEN_AT_ONCE == 0 {
        db.prepare_cached("DELETE FROM ends WHERE number <= ?1")?.execute([number - sql(rules::ENDS)])?;
    }
    Ok(())
}

pub(super) fn after(db: &Connection, after: Option<&Cursor>, limit: usize) -> Answer {
    let (first, last) = bounds(db)?;
    let after = after.map_or(last, Cursor::number);
    let mut cursor = after.max(first.saturating_sub(1));
    let mut ends = Ends { missed: after < cursor, ..Ends::default() };
    let mut statement = db.prepare_cached("SELECT number, run FROM ends WHERE number > ?1 ORDER BY number LIMIT ?2")?;
    let mut rows = statement.query((sql(after), sql_limit(limit)))?;
    while let Some(row) = rows.next()? {
        cursor = row.get(0)?;
        ends.runs.push(RunId::from_bytes(row.get(1)?));
    }
    ends.more = ends.runs.len() == limit;
    ends.cursor = Cursor::behind(cursor);
    Ok(Reply::Ends(ends))
}

/// The number of the last end.
pub(super) fn last_number(db: &Connection) -> rusqlite::Result<u64> {
    Ok(bounds(db)?.1)
}

// The numbers of the first end that is known, and of the last.
fn bounds(db: &Connection) -> rusqlite::Result<(u64, u64)> {
    let bound = |order: &str| -> rusqlite::Result<Option<u64>> {
        let sql = format!("SELECT number FROM ends ORDER BY number {order} LIMIT 1");
        db.prepare_cached(&sql)?.query_row([], |row| row.get(0)).optional()
    };
    Ok((bound("ASC")?.unwrap_or(1), bound("DESC")?.unwrap_or(0)))
}

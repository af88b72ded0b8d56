//! Requests that only read.

use rusqlite::{Connection, OptionalExtension, ToSql};

use super::batch::Answer;
use super::failure::Failure;
use super::inbox;
use super::runs::{self, Stored, select, sql, sql_limit, stored};
use crate::journal::request::{Filter, KeyFilter};
use crate::journal::{JournalError, Loaded, Phase, Reply, StreamRead, packed, rules};
use crate::run_id::RunId;

/// Loads each of the runs; one that cannot be loaded keeps none of the others from it.
pub(super) fn load_all(db: &Connection, ids: &[RunId]) -> Answer {
    let mut loaded = Vec::with_capacity(ids.len());
    for &id in ids {
        loaded.push((id, load(db, id).map_or_else(Failure::into_refusal, |run| Ok(Ok(run)))?));
    }
    Ok(Reply::Loaded(loaded))
}

fn load(db: &Connection, id: RunId) -> Result<Box<Loaded>, Failure> {
    let run = runs::find(db, id)?;
    let checkpoint: Option<(u64, Vec<u8>)> = db
        .prepare_cached("SELECT seq, state FROM checkpoints WHERE run = ?1")?
        .query_row([run.n], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let mut records = Vec::new();
    let mut counts = Vec::new();
    let mut statement = db.prepare_cached("SELECT seq, records FROM commits WHERE run = ?1 ORDER BY seq")?;
    let mut commits = statement.query([run.n])?;
    while let Some(commit) = commits.next()? {
        let unpacked = packed::unpack(id, commit.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
        counts.push((commit.get(0)?, unpacked.len() as u64));
        records.extend(unpacked);
    }
    rules::check_whole(&run.row, checkpoint.as_ref().map_or(0, |&(seq, _)| seq), counts)?;
    let inbox = inbox::of(db, run.n)?;
    Ok(Box::new(Loaded { run: run.row, checkpoint, records, inbox }))
}

pub(super) fn get(db: &Connection, id: RunId) -> Answer {
    let mut run = runs::find(db, id)?;
    run.row.is_cut_short = is_cut_short(db, &run)?;
    let outcome = db.prepare_cached("SELECT outcome FROM runs WHERE n = ?1")?.query_row([run.n], |row| row.get(0))?;
    Ok(Reply::Run { run: Box::new(run.row), outcome })
}

pub(super) fn list(db: &Connection, filter: &Filter) -> Answer {
    let first = rules::first_id(filter.since.unwrap_or(0));
    let end = filter.after.unwrap_or(RunId::from_bytes([255; 16]));
    let phase = filter.phase.map(|phase| phase as i64);
    let (key, prefix) = match &filter.key {
        Some(KeyFilter::Is(key)) => (Some(key), None),
        Some(KeyFilter::StartsWith(prefix)) => (None, Some(prefix)),
        None => (None, None),
    };
    let (since, before) = (filter.finished_since.map(sql), filter.finished_before.map(sql));
    let limit = sql_limit(filter.limit);
    let (parent, root) = (filter.parent.as_ref().map(RunId::as_bytes), filter.root.as_ref().map(RunId::as_bytes));
    let all: [&dyn ToSql; 11] = [
        first.as_bytes(),
        end.as_bytes(),
        &limit,
        &filter.workflow,
        &phase,
        &key,
        &prefix,
        &since,
        &before,
        &parent,
        &root,
    ];
    let (statement, parameters) = match filter.is_narrow() {
        true if filter.is_of_family() => (family_list_sql(filter), &all[..]),
        true => (narrow_list_sql(filter), &all[..9]),
        false => (list_sql(filter), &all[..5]),
    };
    let found: Vec<Stored> =
        db.prepare_cached(statement)?.query_map(parameters, stored)?.collect::<rusqlite::Result<_>>()?;
    let mut rows = Vec::with_capacity(found.len());
    for mut run in found {
        run.row.is_cut_short = is_cut_short(db, &run)?;
        rows.push(run.row);
    }
    Ok(Reply::Listed(rows))
}

// Two look-ups by key, whatever the length of the log.
fn is_cut_short(db: &Connection, run: &Stored) -> rusqlite::Result<bool> {
    let end: u64 = db
        .prepare_cached(
            "SELECT max(ifnull((SELECT max(seq) FROM commits WHERE run = ?1), 0), \
             ifnull((SELECT seq FROM checkpoints WHERE run = ?1), 0))",
        )?
        .query_row([run.n], |row| row.get(0))?;
    Ok(end < run.row.seq)
}

// A page of runs, newest first.
macro_rules! page {
    ($index:literal, $($fits:literal),+) => {
        select!(
            "FROM runs r ",
            $index,
            " LEFT JOIN processes o ON o.n = r.owner WHERE r.id >= ?1 AND r.id < ?2 ",
            $($fits,)+
            " ORDER BY r.id DESC LIMIT ?3"
        )
    };
}

// Nearly all runs are completed, so that the index of phases leaves those out.
pub(super) fn list_sql(filter: &Filter) -> &'static str {
    match (&filter.workflow, filter.phase) {
        (None, None) => page!("", "AND ?4 IS NULL AND ?5 IS NULL"),
        (None, Some(Phase::Completed)) => page!("", "AND ?4 IS NULL AND r.phase = ?5"),
        (Some(_), None) => page!("INDEXED BY runs_workflow", "AND r.workflow = ?4 AND ?5 IS NULL"),
        (Some(_), Some(Phase::Completed)) => {
            page!("INDEXED BY runs_workflow", "AND r.workflow = ?4 AND r.phase = ?5")
        }
        (None, Some(_)) => page!("INDEXED BY runs_phase", "AND ?4 IS NULL AND r.phase = ?5 AND r.phase <> 3"),
        (Some(_), Some(_)) => {
            page!("INDEXED BY runs_phase", "AND r.workflow = ?4 AND r.phase = ?5 AND r.phase <> 3")
        }
    }
}

// By a key it is a look-up; otherwise the runs are gone through, newest first, until there are enough. Prefixes are
// compared as bytes: `length` of a text ends at a NUL.
macro_rules! narrow {
    ($index:literal, $fits:literal) => {
        page!(
            $index,
            $fits,
            " AND (?5 IS NULL OR r.phase = ?5) \
             AND (?7 IS NULL OR r.key IS NOT NULL AND substr(hex(r.key), 1, length(hex(?7))) = hex(?7)) \
             AND (?8 IS NULL OR r.finished >= ?8) AND (?9 IS NULL OR r.finished < ?9)"
        )
    };
}

pub(super) fn narrow_list_sql(filter: &Filter) -> &'static str {
    match (&filter.workflow, &filter.key) {
        (Some(_), Some(KeyFilter::Is(_))) => narrow!("INDEXED BY runs_key", "AND r.workflow = ?4 AND r.key = ?6"),
        (Some(_), _) => narrow!("INDEXED BY runs_workflow", "AND r.workflow = ?4 AND ?6 IS NULL"),
        (None, _) => narrow!("", "AND ?4 IS NULL AND (?6 IS NULL OR r.key = ?6)"),
    }
}

// What a run led to, newest first.
pub(super) fn family_list_sql(filter: &Filter) -> &'static str {
    match filter.parent {
        Some(_) => narrow!(
            "INDEXED BY runs_parent",
            "AND r.parent = ?10 AND (?11 IS NULL OR r.root = ?11) AND (?4 IS NULL OR r.workflow = ?4) \
             AND (?6 IS NULL OR r.key = ?6)"
        ),
        None => narrow!(
            "INDEXED BY runs_root",
            "AND r.root = ?11 AND ?10 IS NULL AND (?4 IS NULL OR r.workflow = ?4) AND (?6 IS NULL OR r.key = ?6)"
        ),
    }
}

pub(super) fn records(db: &Connection, id: RunId, after: u64, limit: usize) -> Answer {
    let run = runs::find(db, id)?;
    let folded = db
        .prepare_cached("SELECT seq FROM checkpoints WHERE run = ?1")?
        .query_row([run.n], |row| row.get(0))
        .optional()?
        .unwrap_or(0);
    let mut records = Vec::new();
    let mut statement =
        db.prepare_cached("SELECT seq, records FROM commits WHERE run = ?1 AND seq > ?2 ORDER BY seq")?;
    let mut commits = statement.query((run.n, sql(after)))?;
    while records.len() < limit
        && let Some(commit) = commits.next()?
    {
        let last: u64 = commit.get(0)?;
        let unpacked = packed::unpack(id, commit.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
        let Some(first) = (last + 1).checked_sub(unpacked.len() as u64) else {
            let what = format!("a commit that ends with record {last} has {} records", unpacked.len());
            return Err(JournalError::Damaged { run: id, what }.into());
        };
        records.extend((first..).zip(unpacked).filter(|&(seq, _)| seq > after));
    }
    records.truncate(limit);
    Ok(Reply::Records { records, folded })
}

pub(super) fn stream(db: &Connection, id: RunId, after: u64, limit: usize) -> Answer {
    let run = runs::find(db, id)?;
    let entries = db
        .prepare_cached("SELECT number, body FROM stream WHERE run = ?1 AND number > ?2 ORDER BY number LIMIT ?3")?
        .query_map((run.n, sql(after), sql_limit(limit)), |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let first: Option<u64> =
        db.prepare_cached("SELECT min(number) FROM stream WHERE run = ?1")?.query_row([run.n], |row| row.get(0))?;
    let first = first.unwrap_or(run.row.published + 1);
    Ok(Reply::Stream(StreamRead {
        entries,
        missed: first.saturating_sub(1).saturating_sub(after),
        published: run.row.published,
        ended: !run.row.phase().goes_on(),
    }))
}

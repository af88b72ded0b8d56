//! What checkpoints have replaced, of runs whose history is kept.

use rusqlite::{Connection, OptionalExtension};

use super::batch::Answer;
use super::runs::{self, sql};
use crate::journal::{Reply, Segment, packed, rules};
use crate::run_id::RunId;

/// Keeps the last checkpoint of a run and the records behind it: another one, at this record, is about to take their
/// place. One at the same record has no records behind it, and says nothing more.
pub(super) fn keep(db: &Connection, n: i64, seq: u64) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT INTO folded (run, seq, records) SELECT run, seq, records FROM commits WHERE run = ?1")?
        .execute([n])?;
    db.prepare_cached(
        "INSERT INTO keyframes (run, seq, state) SELECT run, seq, state FROM checkpoints WHERE run = ?1 AND seq < ?2",
    )?
    .execute((n, sql(seq)))?;
    failpoint!("journal.history_kept");
    Ok(())
}

/// Forgets the history of a run.
pub(super) fn drop(db: &Connection, n: i64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM folded WHERE run = ?1")?.execute([n])?;
    db.prepare_cached("DELETE FROM keyframes WHERE run = ?1")?.execute([n])?;
    Ok(())
}

// Where the part begins that has record ?2, where the next one begins, and where the earliest does.
macro_rules! bounds {
    ($rest:literal) => {
        concat!(
            "WITH a AS (SELECT seq FROM keyframes WHERE run = ?1 UNION ALL SELECT seq FROM checkpoints WHERE run = ?1), \
             s AS (SELECT coalesce((SELECT max(seq) FROM a WHERE seq <= ?2), (SELECT min(seq) FROM a), 0) AS start), \
             b AS (SELECT start, (SELECT min(seq) FROM a WHERE seq > start) AS stop, \
             coalesce((SELECT min(seq) FROM a), 0) AS first FROM s) ",
            $rest
        )
    };
}

pub(super) fn segment(db: &Connection, id: RunId, at: u64) -> Answer {
    let run = runs::find(db, id)?;
    let at = sql(at);
    let (start, stop, first): (u64, Option<u64>, u64) = db
        .prepare_cached(bounds!("SELECT start, stop, first FROM b"))?
        .query_row((run.n, at), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let (checkpoint, log) = match stop {
        Some(_) => (
            "SELECT state FROM keyframes WHERE run = ?1 AND seq = ?2",
            "SELECT seq, records FROM folded WHERE run = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq",
        ),
        None => (
            "SELECT state FROM checkpoints WHERE run = ?1 AND seq = ?2",
            "SELECT seq, records FROM commits WHERE run = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq",
        ),
    };
    let checkpoint = db.prepare_cached(checkpoint)?.query_row((run.n, sql(start)), |row| row.get(0)).optional()?;
    let mut row = run.row;
    let end = stop.unwrap_or(row.seq);
    let (mut records, mut counts) = (Vec::new(), Vec::new());
    let mut statement = db.prepare_cached(log)?;
    let mut commits = statement.query((run.n, sql(start), sql(end)))?;
    while let Some(commit) = commits.next()? {
        let unpacked = packed::unpack(id, commit.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
        counts.push((commit.get(0)?, unpacked.len() as u64));
        records.extend(unpacked);
    }
    rules::check_segment(&row, start, end, counts)?;
    row.is_cut_short = false;
    Ok(Reply::Segment(Box::new(Segment {
        run: row,
        checkpoint: checkpoint.map(|state| (start, state)),
        records,
        first,
    })))
}

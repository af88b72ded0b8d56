//! What checkpoints have replaced, of runs whose history is kept.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::ledger::Draft;
use super::link::{Sql, Step, step};
use super::rows::{Uuid, maybe_number, number, sql};
use crate::journal::{JournalError, RunRow, Segment, packed, rules};
use crate::run_id::RunId;

/// What becomes of what the checkpoints of a group stand for.
#[derive(Default)]
pub(super) struct History {
    /// Whether what the database has is dropped, and not kept.
    pub(super) is_dropped: bool,
    /// The record of the first checkpoint of the group.
    pub(super) first: Option<u64>,
    /// Commits of the group that are kept, by the number of their last record.
    pub(super) folded: Vec<(u64, Vec<Vec<u8>>)>,
    /// Checkpoints of the group that are kept.
    pub(super) keyframes: Vec<(u64, Vec<u8>)>,
}

impl History {
    pub(super) fn fold(
        &mut self,
        keeps: bool,
        seq: u64,
        log: &mut Vec<(u64, Vec<Vec<u8>>)>,
        before: Option<(u64, Vec<u8>)>,
    ) {
        self.first = self.first.or(Some(seq));
        if keeps {
            self.folded.append(log);
            // One at the same record has no records behind it, and says nothing more.
            self.keyframes.extend(before.filter(|&(before, _)| before < seq));
        } else {
            self.is_dropped = true;
            log.clear();
            self.folded.clear();
            self.keyframes.clear();
        }
    }
}

static FOLD: Sql = Sql { text: "DELETE FROM {s}.commits WHERE run = ANY($1)", types: &[Type::UUID_ARRAY] };

static KEEP_RECORDS: Sql = Sql {
    text: "WITH m AS (DELETE FROM {s}.commits WHERE run = ANY($1) RETURNING run, seq, records) \
           INSERT INTO {s}.folded (run, seq, records) SELECT run, seq, records FROM m",
    types: &[Type::UUID_ARRAY],
};

static KEEP_CHECKPOINT: Sql = Sql {
    text: "INSERT INTO {s}.keyframes (run, seq, state) SELECT k.run, k.seq, k.state FROM {s}.checkpoints k \
           JOIN unnest($1, $2) AS c(run, seq) ON k.run = c.run AND k.seq < c.seq",
    types: &[Type::UUID_ARRAY, Type::INT8_ARRAY],
};

static DROP_FOLDED: Sql = Sql { text: "DELETE FROM {s}.folded WHERE run = ANY($1)", types: &[Type::UUID_ARRAY] };

static DROP_KEYFRAMES: Sql = Sql { text: "DELETE FROM {s}.keyframes WHERE run = ANY($1)", types: &[Type::UUID_ARRAY] };

static FOLDED: Sql = Sql {
    text: "INSERT INTO {s}.folded (run, seq, records) SELECT * FROM unnest($1, $2, $3)",
    types: &[Type::UUID_ARRAY, Type::INT8_ARRAY, Type::BYTEA_ARRAY],
};

static KEYFRAMES: Sql = Sql {
    text: "INSERT INTO {s}.keyframes (run, seq, state) SELECT * FROM unnest($1, $2, $3)",
    types: &[Type::UUID_ARRAY, Type::INT8_ARRAY, Type::BYTEA_ARRAY],
};

/// What checkpoints stand for is kept or dropped before they take its place. Of a run that is new there is nothing yet.
pub(super) fn fold<'a>(changed: &[&'a Draft], steps: &mut Vec<Step<'a>>) {
    let (mut dropped, mut kept) = (Vec::new(), (Vec::new(), Vec::new()));
    let mut folded = (Vec::new(), Vec::new(), Vec::new());
    let mut keyframes = (Vec::new(), Vec::new(), Vec::new());
    for draft in changed {
        let id = Uuid::from(draft.stored.row.id);
        match draft.history.first.filter(|_| draft.before.is_some()) {
            Some(_) if draft.history.is_dropped => dropped.push(id),
            Some(first) => {
                kept.0.push(id);
                kept.1.push(sql(first));
            }
            None => {}
        }
        for (seq, records) in &draft.history.folded {
            folded.0.push(id);
            folded.1.push(sql(*seq));
            folded.2.push(packed::pack(records));
        }
        for (seq, state) in &draft.history.keyframes {
            keyframes.0.push(id);
            keyframes.1.push(sql(*seq));
            keyframes.2.push(state.as_slice());
        }
    }
    if !dropped.is_empty() {
        steps.push(step!(FOLD, dropped.clone()));
        steps.push(step!(DROP_FOLDED, dropped.clone()));
        steps.push(step!(DROP_KEYFRAMES, dropped));
    }
    if !kept.0.is_empty() {
        steps.push(step!(KEEP_RECORDS, kept.0.clone()));
        steps.push(step!(KEEP_CHECKPOINT, kept.0, kept.1));
    }
    if !folded.0.is_empty() {
        steps.push(step!(FOLDED, folded.0, folded.1, folded.2));
    }
    if !keyframes.0.is_empty() {
        steps.push(step!(KEYFRAMES, keyframes.0, keyframes.1, keyframes.2));
    }
}

// Where the part begins that has record $2, where the next one begins, and where the earliest does.
macro_rules! of_segment {
    ($rest:literal) => {
        Sql {
            text: concat!(
                "WITH a AS (SELECT seq FROM {s}.keyframes WHERE run = $1 \
                 UNION ALL SELECT seq FROM {s}.checkpoints WHERE run = $1), \
                 s AS (SELECT coalesce((SELECT max(seq) FROM a WHERE seq <= $2), (SELECT min(seq) FROM a), 0) AS start), \
                 b AS (SELECT start, (SELECT min(seq) FROM a WHERE seq > start) AS stop, \
                 coalesce((SELECT min(seq) FROM a), 0) AS first FROM s) ",
                $rest
            ),
            types: &[Type::UUID, Type::INT8],
        }
    };
}
static BOUNDS: Sql = of_segment!("SELECT start, stop, first FROM b");
static SEGMENT_CHECKPOINT: Sql = of_segment!(
    "SELECT k.state FROM b, {s}.keyframes k WHERE k.run = $1 AND k.seq = b.start AND b.stop IS NOT NULL \
     UNION ALL SELECT k.state FROM b, {s}.checkpoints k WHERE k.run = $1 AND k.seq = b.start AND b.stop IS NULL"
);
static SEGMENT_RECORDS: Sql = of_segment!(
    "SELECT seq, records FROM (SELECT f.seq, f.records FROM b, {s}.folded f \
     WHERE f.run = $1 AND f.seq > b.start AND f.seq <= b.stop \
     UNION ALL SELECT c.seq, c.records FROM b, {s}.commits c \
     WHERE c.run = $1 AND c.seq > b.start AND b.stop IS NULL) x ORDER BY seq"
);

/// The steps that read a part of a history.
pub(super) fn segment_steps(run: RunId, at: u64) -> Vec<Step<'static>> {
    let of = |statement| Step { sql: statement, given: vec![Box::new(Uuid::from(run)), Box::new(sql(at))] };
    [&BOUNDS, &SEGMENT_CHECKPOINT, &SEGMENT_RECORDS].map(of).into()
}

/// The part of a history that those have read.
pub(super) fn segment(run: &RunRow, own: &[Vec<Row>]) -> Result<Segment, JournalError> {
    let bounds = own[0].first();
    let (start, first) = bounds.map_or((0, 0), |row| (number(row, 0), number(row, 2)));
    let end = bounds.and_then(|row| maybe_number(row, 1)).unwrap_or(run.seq);
    let checkpoint = own[1].first().map(|row| (start, row.get(0)));
    let (mut records, mut counts) = (Vec::new(), Vec::new());
    for row in &own[2] {
        let unpacked = packed::unpack(run.id, row.get(1))?;
        counts.push((number(row, 0), unpacked.len() as u64));
        records.extend(unpacked);
    }
    rules::check_segment(run, start, end, counts)?;
    Ok(Segment { run: RunRow { is_cut_short: false, ..run.clone() }, checkpoint, records, first })
}

//! Requests that only read: all that are asked together, from one snapshot in one round trip.

use std::collections::HashMap;
use std::ops::Range;
use std::slice;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::backend::{State, Tries};
use super::ends;
use super::fault::Fault;
use super::history;
use super::link::{Around, Link, Sql, Step, step};
use super::owners::{self, All};
use super::rows::{
    COLUMNS, Stored, Uuid, columns, key_digest, maybe_number, number, original, sql, sql_limit, storable,
};
use super::window::Window;
use super::write::names;
use crate::journal::request::{Filter, KeyFilter};
use crate::journal::{
    Cursor, DeadLetter, Entry, JournalError, Loaded, Next, Outcome, OwnerId, Phase, Polled, Reply, Request, RunRow,
    StreamRead, Traces, packed, rules,
};
use crate::run_id::RunId;

macro_rules! rows {
    ($rest:expr, $types:expr) => {
        Sql {
            text: concat!(
                "SELECT ",
                columns!(),
                ", coalesce((SELECT seq FROM {s}.checkpoints k WHERE k.run = r.id), 0), \
                 coalesce((SELECT max(seq) FROM {s}.commits c WHERE c.run = r.id), 0) \
                 FROM {s}.runs r LEFT JOIN {s}.owners o ON o.n = r.owner WHERE ",
                $rest
            ),
            types: $types,
        }
    };
}

static RUNS: Sql = rows!("r.id = ANY($1)", &[Type::UUID_ARRAY]);

const LISTED: &[Type] = &[Type::UUID, Type::UUID, Type::INT8, Type::TEXT, Type::INT2];
static LIST: Sql = rows!("r.id >= $1 AND r.id < $2 AND $4 IS NULL AND $5 IS NULL ORDER BY r.id DESC LIMIT $3", LISTED);
static LIST_COMPLETED: Sql =
    rows!("r.id >= $1 AND r.id < $2 AND $4 IS NULL AND r.phase = $5 ORDER BY r.id DESC LIMIT $3", LISTED);
static LIST_WORKFLOW: Sql = rows!(
    "r.workflow = $4 COLLATE \"C\" AND r.id >= $1 AND r.id < $2 AND ($5 IS NULL OR r.phase = $5) \
     ORDER BY r.workflow DESC, r.id DESC LIMIT $3",
    LISTED
);
// Nearly all runs are completed, so that the index of phases leaves those out.
static LIST_PHASE: Sql = rows!(
    "r.phase = $5 AND r.phase <> 3 AND r.id >= $1 AND r.id < $2 AND ($4 IS NULL OR r.workflow = $4 COLLATE \"C\") \
     ORDER BY r.phase DESC, r.id DESC LIMIT $3",
    LISTED
);

// By a key it is a look-up; otherwise the runs are gone through, newest first, until there are enough.
macro_rules! narrow_rows {
    ($fits:literal, $key:expr $(, $family:expr)*) => {
        rows!(
            concat!(
                "r.id >= $1 AND r.id < $2 AND ($4 IS NULL OR r.workflow = $4 COLLATE \"C\") \
                 AND ($5 IS NULL OR r.phase = $5) AND ",
                $fits,
                " AND ($7 IS NULL OR starts_with(r.key, $7)) AND ($8 IS NULL OR r.finished >= $8) \
                 AND ($9 IS NULL OR r.finished < $9) ORDER BY r.id DESC LIMIT $3"
            ),
            &[
                Type::UUID,
                Type::UUID,
                Type::INT8,
                Type::TEXT,
                Type::INT2,
                $key,
                Type::TEXT,
                Type::INT8,
                Type::INT8,
                $($family),*
            ]
        )
    };
}
static LIST_KEY: Sql = narrow_rows!("r.key_digest = $6", Type::BYTEA);
static LIST_NARROW: Sql = narrow_rows!("($6 IS NULL OR r.key = $6 COLLATE \"C\")", Type::TEXT);
static LIST_PARENT: Sql = narrow_rows!(
    "r.parent = $10 AND ($11 IS NULL OR r.root = $11) AND ($6 IS NULL OR r.key = $6 COLLATE \"C\")",
    Type::TEXT,
    Type::UUID,
    Type::UUID
);
static LIST_ROOT: Sql = narrow_rows!(
    "r.root = $11 AND $10 IS NULL AND ($6 IS NULL OR r.key = $6 COLLATE \"C\")",
    Type::TEXT,
    Type::UUID,
    Type::UUID
);

static CHECKPOINTS: Sql =
    Sql { text: "SELECT run, seq, state FROM {s}.checkpoints WHERE run = ANY($1)", types: &[Type::UUID_ARRAY] };
static COMMITS: Sql = Sql {
    text: "SELECT run, seq, records FROM {s}.commits WHERE run = ANY($1) ORDER BY run, seq",
    types: &[Type::UUID_ARRAY],
};
static INBOXES: Sql = Sql {
    text: "SELECT number, run, id, kind, at, body FROM {s}.inbox WHERE run = ANY($1) AND body IS NOT NULL \
           AND dead IS NULL ORDER BY run, number",
    types: &[Type::UUID_ARRAY],
};
static OUTCOMES: Sql =
    Sql { text: "SELECT run, body FROM {s}.outcomes WHERE run = ANY($1)", types: &[Type::UUID_ARRAY] };
static RECORDS: Sql = Sql {
    text: "SELECT run, seq, records FROM {s}.commits WHERE run = $1 AND seq > $2 ORDER BY seq LIMIT $3",
    types: &[Type::UUID, Type::INT8, Type::INT8],
};
static STREAM: Sql = Sql {
    text: "SELECT number, body FROM {s}.stream WHERE run = $1 AND number > $2 ORDER BY number LIMIT $3",
    types: &[Type::UUID, Type::INT8, Type::INT8],
};
static CONSUMED: Sql =
    Sql { text: "SELECT id FROM {s}.inbox WHERE run = $1 AND body IS NULL ORDER BY number", types: &[Type::UUID] };
static TRANSACTIONS: Sql = Sql { text: "SELECT count(*) FROM {s}.transactions WHERE run = $1", types: &[Type::UUID] };
static FIRST: Sql = Sql { text: "SELECT min(number) FROM {s}.stream WHERE run = $1", types: &[Type::UUID] };
static DEAD: Sql = Sql {
    text: "SELECT number, run, id, kind, at, body, dead FROM {s}.inbox WHERE run = $1 AND dead IS NOT NULL ORDER BY number",
    types: &[Type::UUID],
};
// Walks the entries behind a cursor. The cursor stays behind what transactions that have not ended may still add.
static POLL: Sql = Sql {
    text: "SELECT i.number, i.run, i.id, i.kind, i.at, i.body FROM {s}.inbox i JOIN {s}.runs r ON r.id = i.run \
           JOIN {s}.owners o ON o.n = r.owner WHERE i.number > $2 AND i.body IS NOT NULL AND i.dead IS NULL \
           AND o.id = $1 ORDER BY i.number LIMIT $3",
    types: &[Type::UUID, Type::INT8, Type::INT8],
};
static SETTLED: Sql = Sql {
    text: "SELECT coalesce((SELECT max(number) FROM {s}.inbox WHERE body IS NOT NULL AND dead IS NULL), 0), \
           base + (pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 16) FROM {s}.meta",
    types: &[],
};
static NEXT: Sql = Sql {
    text: "SELECT min(r.wake) FROM unnest($1) AS q(name), \
           (SELECT 0::bigint AS n UNION ALL SELECT n FROM {s}.owners WHERE id IS NULL) o, \
           LATERAL (SELECT wake FROM {s}.runs WHERE owner = o.n AND workflow = q.name COLLATE \"C\" \
           AND wake IS NOT NULL ORDER BY wake LIMIT 1) r WHERE r.wake < 9223372036854775807",
    types: &[Type::TEXT_ARRAY],
};

/// What was found for all requests that name runs.
struct Found<'a> {
    runs: HashMap<RunId, (RunRow, u64)>,
    answers: &'a [Vec<Row>],
}

// Behind the rows of runs come those of their parts.
const RUN_ROWS: usize = 0;
const CHECKPOINT_ROWS: usize = 1;
const COMMIT_ROWS: usize = 2;
const INBOX_ROWS: usize = 3;
const OUTCOME_ROWS: usize = 4;
const SHARED: usize = 5;

impl State {
    pub(super) async fn read(&mut self, requests: &[&Request]) -> Vec<Outcome> {
        let mut tries = Tries::default();
        loop {
            let fault = match self.try_read(requests).await {
                Ok(answers) => return answers,
                Err(fault) => fault,
            };
            if let Err(error) = self.overcome(fault, &mut tries).await {
                return vec![Err(error); requests.len()];
            }
        }
    }

    async fn try_read(&mut self, requests: &[&Request]) -> Result<Vec<Outcome>, Fault> {
        self.link().await.map_err(Fault::Broken)?;
        let link = self.take_link()?;
        let answers = self.read_over(&link, requests).await;
        self.put_link(link);
        self.forget_ends().await;
        answers
    }

    async fn read_over(&mut self, link: &Link, requests: &[&Request]) -> Result<Vec<Outcome>, Fault> {
        let (mut steps, has_runs) = shared(requests);
        let mut places: Vec<Range<usize>> = Vec::with_capacity(requests.len());
        for request in requests {
            let first = steps.len();
            steps.extend(self.own_steps(request));
            places.push(first..steps.len());
        }
        let answers = if steps.is_empty() { Vec::new() } else { link.run(&steps, Around::Snapshot).await? };
        drop(steps);
        let mut found = Found { runs: HashMap::new(), answers: &answers };
        let mut damaged = HashMap::new();
        for row in if has_runs { &answers[RUN_ROWS][..] } else { &[] } {
            match with_end(row) {
                Ok((run, folded)) => drop(found.runs.insert(run.id, (run, folded))),
                Err(error) => drop(damaged.insert(RunId::from(row.get::<_, Uuid>(0)), error)),
            }
        }
        let outcomes = requests.iter().zip(places).map(|(request, place)| {
            let own = &answers[place];
            if let Request::Load { runs } = request {
                let load = |&run| (run, damaged.get(&run).map_or_else(|| found.load(run), |error| Err(error.clone())));
                return Ok(Reply::Loaded(runs.iter().map(load).collect()));
            }
            match named(request).first().and_then(|run| damaged.get(run)) {
                Some(error) => Err(error.clone()),
                None => self.answer(request, &found, own),
            }
        });
        Ok(outcomes.collect())
    }

    fn own_steps(&mut self, request: &Request) -> Vec<Step<'static>> {
        match request {
            Request::Records { run, after, limit } => {
                vec![step!(RECORDS, Uuid::from(*run), sql(*after), sql_limit(*limit))]
            }
            Request::Segment { run, at } => history::segment_steps(*run, *at),
            Request::ReadStream { run, after, limit } => {
                let read = step!(STREAM, Uuid::from(*run), sql(*after), sql_limit(*limit));
                vec![read, step!(FIRST, Uuid::from(*run))]
            }
            Request::DeadLetters { run } => vec![step!(DEAD, Uuid::from(*run))],
            Request::Traces { run } => {
                vec![step!(CONSUMED, Uuid::from(*run)), step!(TRANSACTIONS, Uuid::from(*run))]
            }
            Request::List { filter } => vec![list(filter)],
            Request::Ends { after, limit } => ends::after(after.as_ref(), *limit, &mut self.ends).into(),
            Request::Poll { owner, after, limit } => {
                let (low, limit) = self.polls.entry(*owner).or_default().ask(after.number(), *limit);
                vec![step!(SETTLED), step!(POLL, Uuid(owner.0), sql(low), sql_limit(limit))]
            }
            Request::NextDue { workflows, .. } if workflows.is_empty() => Vec::new(),
            Request::NextDue { workflows, .. } => {
                vec![
                    owners::all(self.given_clock()),
                    step!(NEXT, workflows.iter().map(|name| storable(name)).collect::<Vec<_>>()),
                ]
            }
            _ => Vec::new(),
        }
    }

    fn answer(&mut self, request: &Request, found: &Found<'_>, own: &[Vec<Row>]) -> Outcome {
        match request {
            Request::Get { run } => {
                let (row, _) = found.get(*run)?;
                let outcome = found.rows(OUTCOME_ROWS, *run).next().map(|row| row.get(1));
                Ok(Reply::Run { run: Box::new(row.clone()), outcome })
            }
            Request::Records { run, after, limit } => {
                let (_, folded) = found.get(*run)?;
                Ok(Reply::Records { records: records(*run, *after, *limit, &own[0])?, folded: *folded })
            }
            Request::Segment { run, .. } => {
                let (row, _) = found.get(*run)?;
                Ok(Reply::Segment(Box::new(history::segment(row, own)?)))
            }
            Request::ReadStream { run, after, .. } => Ok(Reply::Stream(stream(found.get(*run)?, *after, own))),
            Request::DeadLetters { run } => {
                found.get(*run)?;
                let letters = own[0].iter().map(|row| DeadLetter { entry: entry(row), why: original(row.get(6)) });
                Ok(Reply::DeadLetters(letters.collect()))
            }
            Request::Traces { run } => {
                found.get(*run)?;
                let consumed = own[0].iter().map(|row| row.get::<_, Uuid>(0).0).collect();
                Ok(Reply::Traces(Traces { consumed, transactions: number(&own[1][0], 0) }))
            }
            Request::List { .. } => {
                let rows = own[0].iter().map(|row| with_end(row).map(|(run, _)| run));
                Ok(Reply::Listed(rows.collect::<Result<_, _>>()?))
            }
            Request::Ends { after, limit } => Ok(Reply::Ends(ends::found(after.as_ref(), *limit, own, &mut self.ends))),
            Request::Poll { owner, after, limit } => {
                Ok(Reply::Polled(polled(after.number(), *limit, own, self.polls.entry(*owner).or_default())))
            }
            Request::NextDue { owner, workflows } => {
                Ok(Reply::Next(if workflows.is_empty() { Next::default() } else { self.next(*owner, own) }))
            }
            other => Err(JournalError::Panicked(format!("{other:?} does not only read"))),
        }
    }

    fn next(&mut self, owner: OwnerId, own: &[Vec<Row>]) -> Next {
        let all = All::of(&own[0]);
        self.observe(&all);
        let others = all.living.iter().filter(|other| other.id != owner);
        // While no process is declared lost, a lease that is over makes no claim worth while.
        let lapse = others.map(|other| all.left(other).unwrap_or_default().max(self.held_off())).min();
        Next { due: own[1].first().and_then(|row| maybe_number(row, 0)), lapse }
    }
}

/// The runs that it reads.
pub(super) fn named(request: &Request) -> &[RunId] {
    match request {
        Request::Load { runs } => runs,
        Request::Get { run } | Request::DeadLetters { run } => slice::from_ref(run),
        Request::Records { run, .. }
        | Request::Segment { run, .. }
        | Request::ReadStream { run, .. }
        | Request::Traces { run } => slice::from_ref(run),
        _ => &[],
    }
}

// What all requests that name runs need, read once.
fn shared<'a>(requests: &[&Request]) -> (Vec<Step<'a>>, bool) {
    let runs = names(requests.iter().flat_map(|request| named(request)).copied());
    if runs.is_empty() {
        return (Vec::new(), false);
    }
    let loaded = requests.iter().filter(|request| matches!(request, Request::Load { .. }));
    let loaded = names(loaded.flat_map(|request| named(request)).copied());
    let got = names(requests.iter().filter_map(|request| match request {
        Request::Get { run } => Some(*run),
        _ => None,
    }));
    let steps = vec![
        step!(RUNS, runs),
        step!(CHECKPOINTS, loaded.clone()),
        step!(COMMITS, loaded.clone()),
        step!(INBOXES, loaded),
        step!(OUTCOMES, got),
    ];
    debug_assert_eq!(steps.len(), SHARED);
    (steps, true)
}

impl Found<'_> {
    fn get(&self, id: RunId) -> Result<&(RunRow, u64), JournalError> {
        self.runs.get(&id).ok_or(JournalError::UnknownRun(id))
    }

    fn rows(&self, part: usize, run: RunId) -> impl Iterator<Item = &Row> {
        let place = if part == INBOX_ROWS { 1 } else { 0 };
        self.answers[part].iter().filter(move |row| row.get::<_, Uuid>(place) == run.into())
    }

    fn load(&self, id: RunId) -> Result<Box<Loaded>, JournalError> {
        let (run, _) = self.get(id)?;
        let checkpoint = self.rows(CHECKPOINT_ROWS, id).next().map(|row| (number(row, 1), row.get(2)));
        let mut records = Vec::new();
        let mut counts = Vec::new();
        for row in self.rows(COMMIT_ROWS, id) {
            let unpacked = packed::unpack(id, row.get(2))?;
            counts.push((number(row, 1), unpacked.len() as u64));
            records.extend(unpacked);
        }
        rules::check_whole(run, checkpoint.as_ref().map_or(0, |&(seq, _)| seq), counts)?;
        let inbox = self.rows(INBOX_ROWS, id).map(entry).collect();
        let run = RunRow { is_cut_short: false, ..run.clone() };
        Ok(Box::new(Loaded { run, checkpoint, records, inbox }))
    }
}

// A run, and up to which record its checkpoint goes.
fn with_end(row: &Row) -> Result<(RunRow, u64), JournalError> {
    let (folded, last) = (number(row, COLUMNS), number(row, COLUMNS + 1));
    let mut run = Stored::of(row)?.row;
    run.is_cut_short = folded.max(last) < run.seq;
    Ok((run, folded))
}

fn list(filter: &Filter) -> Step<'static> {
    let first = rules::first_id(filter.since.unwrap_or(0));
    let end = filter.after.unwrap_or(RunId::from_bytes([255; 16]));
    let sql = match (&filter.workflow, filter.phase) {
        (None, None) => &LIST,
        (None, Some(Phase::Completed)) => &LIST_COMPLETED,
        (Some(_), None | Some(Phase::Completed)) => &LIST_WORKFLOW,
        (_, Some(_)) => &LIST_PHASE,
    };
    let phase = filter.phase.map(|phase| phase as i16);
    let (first, end, limit) = (Uuid::from(first), Uuid::from(end), sql_limit(filter.limit));
    let mut step = Step {
        sql,
        given: vec![
            Box::new(first),
            Box::new(end),
            Box::new(limit),
            Box::new(filter.workflow.as_deref().map(storable)),
            Box::new(phase),
        ],
    };
    if filter.is_narrow() {
        narrow(&mut step, filter);
    }
    step
}

// Few lists select by a key, by the end of runs, or by what led to them.
fn narrow(step: &mut Step<'static>, filter: &Filter) {
    step.sql = &LIST_NARROW;
    let mut prefix = None;
    match (&filter.key, &filter.workflow) {
        (Some(KeyFilter::Is(key)), Some(workflow)) if !filter.is_of_family() => {
            step.sql = &LIST_KEY;
            step.given.push(Box::new(key_digest(workflow, Some(key)).map(Vec::from)));
        }
        (Some(KeyFilter::Is(key)), _) => step.given.push(Box::new(Some(storable(key)))),
        (Some(KeyFilter::StartsWith(key)), _) => {
            prefix = Some(storable(key));
            step.given.push(Box::new(None::<String>));
        }
        (None, _) => step.given.push(Box::new(None::<String>)),
    }
    step.given.push(Box::new(prefix));
    step.given.push(Box::new(filter.finished_since.map(sql)));
    step.given.push(Box::new(filter.finished_before.map(sql)));
    if filter.is_of_family() {
        step.sql = if filter.parent.is_some() { &LIST_PARENT } else { &LIST_ROOT };
        step.given.push(Box::new(filter.parent.map(Uuid::from)));
        step.given.push(Box::new(filter.root.map(Uuid::from)));
    }
}

fn records(run: RunId, after: u64, limit: usize, rows: &[Row]) -> Result<Vec<(u64, Vec<u8>)>, JournalError> {
    let mut records = Vec::new();
    for row in rows {
        let last = number(row, 1);
        let unpacked = packed::unpack(run, row.get(2))?;
        let Some(first) = (last + 1).checked_sub(unpacked.len() as u64) else {
            let what = format!("a commit that ends with record {last} has {} records", unpacked.len());
            return Err(JournalError::Damaged { run, what });
        };
        records.extend((first..).zip(unpacked).filter(|&(seq, _)| seq > after));
    }
    records.truncate(limit);
    Ok(records)
}

fn stream((run, _): &(RunRow, u64), after: u64, own: &[Vec<Row>]) -> StreamRead {
    let first = own[1].first().and_then(|row| maybe_number(row, 0)).unwrap_or(run.published + 1);
    StreamRead {
        entries: own[0].iter().map(|row| (number(row, 0), row.get(1))).collect(),
        missed: first.saturating_sub(1).saturating_sub(after),
        published: run.published,
        ended: !run.phase().goes_on(),
    }
}

fn polled(after: u64, limit: usize, own: &[Vec<Row>], window: &mut Window) -> Polled {
    let (last, settled) = own[0].first().map_or((after, after), |row| (number(row, 0), number(row, 1)));
    let mut entries: Vec<_> = own[1].iter().map(entry).collect();
    entries.retain(|entry| window.is_new(entry.number));
    entries.truncate(limit);
    let given = entries.iter().map(|entry| entry.number);
    let (cursor, more) = window.give(after, limit, given, last, settled);
    Polled { entries, cursor: Cursor::behind(cursor), more }
}

fn entry(row: &Row) -> Entry {
    Entry {
        number: number(row, 0),
        run: row.get::<_, Uuid>(1).into(),
        id: row.get::<_, Uuid>(2).0,
        kind: row.get::<_, i16>(3) as u8,
        at: number(row, 4),
        body: row.get(5),
    }
}

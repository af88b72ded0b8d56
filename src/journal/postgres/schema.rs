//! The tables, in a schema of their own. `docs/postgres.md` says what each is for.
//!
//! - No index has a column that each commit changes, so that most updates of a run stay on its page (HOT).
//! - No foreign keys: they would lock rows that others write.
//! - Numbers of entries and of ends grow with the transaction that wrote them: `base + 2^16 * transaction + place`. So
//!   what a snapshot's oldest running transaction has not passed is behind its cursor, in whatever order they commit.

use tokio_postgres::types::Type;

use super::fault::{Fault, unusable};
use super::link::{Around, Link, Sql, Step, quoted, step};
use super::place::Place;

/// The newest version of the schema.
pub const VERSION: i64 = MIGRATIONS.len() as i64;

/// What leads from one version to the next; `{s}` is the schema. Once released an entry never changes.
const MIGRATIONS: [&str; 5] = [V1, V2, V3, V4, V5];

const V1: &str = "
CREATE TABLE {s}.meta (
    version bigint NOT NULL,
    -- added to the numbers of entries and ends: more than nothing only in a database that was restored from a dump
    base bigint NOT NULL DEFAULT 0,
    -- ends up to this number are forgotten
    forgotten bigint NOT NULL DEFAULT 0
);
INSERT INTO {s}.meta (version) VALUES (1);

-- A process without an id has lost its lease, or handed it back. Times are microseconds of the server's clock.
CREATE TABLE {s}.owners (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid UNIQUE,
    since bigint NOT NULL,
    lasts bigint NOT NULL,
    is_released boolean NOT NULL DEFAULT false,
    claim uuid NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

-- How often each open journal has written something that others may have to know.
CREATE TABLE {s}.writers (
    id uuid PRIMARY KEY,
    news bigint NOT NULL,
    seen timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

-- `owner` 0 is nobody; `wake` is when there is something to do: nothing when the run is over or stranded, 2^63 - 1 when
-- it merely waits.
CREATE TABLE {s}.runs (
    id uuid PRIMARY KEY,
    version bigint NOT NULL,
    workflow text COLLATE \"C\" NOT NULL,
    key text,
    key_digest bytea,
    input bytea NOT NULL,
    created bigint NOT NULL,
    stream_limit bigint NOT NULL,
    updated bigint NOT NULL,
    finished bigint,
    phase smallint NOT NULL,
    due bigint,
    wake bigint,
    owner bigint NOT NULL,
    epoch bigint NOT NULL,
    seq bigint NOT NULL,
    op uuid NOT NULL,
    made_by uuid NOT NULL,
    inbox bigint NOT NULL,
    consumed bigint NOT NULL,
    published bigint NOT NULL,
    recoveries bigint NOT NULL,
    not_before bigint,
    reason text,
    dead_letters bigint NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE UNIQUE INDEX runs_key ON {s}.runs (key_digest) WHERE key_digest IS NOT NULL;
CREATE INDEX runs_work ON {s}.runs (owner, workflow, wake) WHERE wake IS NOT NULL;
CREATE INDEX runs_workflow ON {s}.runs (workflow, id);
CREATE INDEX runs_phase ON {s}.runs (phase, id) WHERE phase <> 3;
CREATE INDEX runs_finished ON {s}.runs (finished) WHERE finished IS NOT NULL;

CREATE TABLE {s}.outcomes (run uuid PRIMARY KEY, body bytea NOT NULL);

CREATE TABLE {s}.commits (
    run uuid NOT NULL,
    seq bigint NOT NULL,
    records bytea NOT NULL,
    PRIMARY KEY (run, seq)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE {s}.commits ALTER records SET STORAGE EXTERNAL;

CREATE TABLE {s}.checkpoints (run uuid PRIMARY KEY, seq bigint NOT NULL, state bytea NOT NULL);
ALTER TABLE {s}.checkpoints ALTER state SET STORAGE EXTERNAL;

CREATE TABLE {s}.stream (
    run uuid NOT NULL,
    number bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (run, number)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE {s}.stream ALTER body SET STORAGE EXTERNAL;

-- A message without a body was consumed; its id is known again. `dead` is why one could not be delivered.
CREATE TABLE {s}.inbox (
    run uuid NOT NULL,
    number bigint NOT NULL,
    id uuid NOT NULL,
    kind smallint NOT NULL,
    at bigint NOT NULL,
    body bytea,
    dead text,
    PRIMARY KEY (run, number),
    UNIQUE (run, id)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX inbox_new ON {s}.inbox (number) WHERE body IS NOT NULL AND dead IS NULL;

CREATE TABLE {s}.ends (number bigint PRIMARY KEY, run uuid NOT NULL);
";

// What led to a run. A process of the version before goes on beside it: it starts no run for another.
const V2: &str = "
ALTER TABLE {s}.runs ADD COLUMN parent uuid, ADD COLUMN root uuid, ADD COLUMN depth bigint NOT NULL DEFAULT 0;
CREATE INDEX runs_parent ON {s}.runs (parent, id) WHERE parent IS NOT NULL;
CREATE INDEX runs_root ON {s}.runs (root, id) WHERE root IS NOT NULL;
";

const V3: &str = "
-- What transactions of steps gave, written with the rows of the user. `call` is the digest by which one is known.
CREATE TABLE {s}.transactions (
    run uuid NOT NULL,
    call bytea NOT NULL,
    result bytea NOT NULL,
    PRIMARY KEY (run, call)
);
";

// A process of the version before leaves the column as it is, and knows its retries again only as the last operation.
const V4: &str = "
ALTER TABLE {s}.runs ADD COLUMN reopened_by uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';
";

// What checkpoints have replaced, of runs whose history is kept. A process of the version before goes on beside it: what it
// folds is missing in the history.
const V5: &str = "
CREATE TABLE {s}.folded (
    run uuid NOT NULL,
    seq bigint NOT NULL,
    records bytea NOT NULL,
    PRIMARY KEY (run, seq)
);
ALTER TABLE {s}.folded ALTER records SET STORAGE EXTERNAL;

CREATE TABLE {s}.keyframes (
    run uuid NOT NULL,
    seq bigint NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (run, seq)
);
ALTER TABLE {s}.keyframes ALTER state SET STORAGE EXTERNAL;
";

/// The statements that lead from a version to the newest one, for those who manage the database themselves.
pub fn statements(schema: &str, from: i64) -> String {
    let name = quoted(schema);
    let mut text = match from {
        0 => format!("CREATE SCHEMA IF NOT EXISTS {name};\n"),
        _ => String::new(),
    };
    for step in MIGRATIONS.iter().skip(usize::try_from(from).unwrap_or(0)) {
        text += &step.replace("{s}", &name);
    }
    if (0..VERSION).contains(&from) {
        text += &format!("UPDATE {name}.meta SET version = {VERSION};\n");
    }
    text
}

// Of the snapshot: what looks names up by itself may not have heard yet of what others have made.
static HAS_SCHEMA: Sql =
    Sql { text: "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", types: &[Type::TEXT] };
static HAS_TABLES: Sql = Sql {
    text: "SELECT EXISTS (SELECT FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid \
           WHERE n.nspname = $1 AND c.relname = 'meta')",
    types: &[Type::TEXT],
};
static FOUND: Sql = Sql { text: "SELECT version FROM {s}.meta", types: &[] };
static NUMBERS: Sql = Sql {
    text: "SELECT base, greatest(coalesce((SELECT max(number) FROM {s}.inbox), 0), forgotten, \
           coalesce((SELECT max(number) FROM {s}.ends), 0)), pg_snapshot_xmax(pg_current_snapshot())::text::bigint \
           FROM {s}.meta",
    types: &[],
};
static REBASE: Sql = Sql { text: "UPDATE {s}.meta SET base = greatest(base, $1)", types: &[Type::INT8] };

/// How far numbers of one transaction are from those of the next.
pub(super) const SPREAD: i64 = 1 << 16;

/// Brings the schema up to the newest version, or refuses it. Tells what is added to numbers.
pub(super) async fn prepare(link: &Link, place: &Place, only_looks: bool) -> Result<i64, Fault> {
    match version(link, place).await? {
        Some(VERSION) => {}
        Some(found) if found > VERSION => {
            let why = format!(
                "has schema version {found}, written by a newer treadle; this one knows versions up to {VERSION}"
            );
            return Err(Fault::Broken(unusable(place, why, "upgrade treadle")));
        }
        _ if only_looks => {
            let why = "is no journal of this version of treadle yet".into();
            return Err(Fault::Broken(unusable(place, why, "opening an engine on it makes it one")));
        }
        _ => migrate(link, place).await?,
    }
    base(link, only_looks).await
}

// Nothing if there are no tables.
async fn version(link: &Link, place: &Place) -> Result<Option<i64>, Fault> {
    if !has(link, &HAS_TABLES, place).await? {
        return Ok(None);
    }
    let found = link.run(&[step!(FOUND)], Around::Inside).await?;
    Ok(found[0].first().map(|row| row.get(0)))
}

async fn has(link: &Link, what: &'static Sql, place: &Place) -> Result<bool, Fault> {
    let found = link.run(&[Step { sql: what, given: vec![Box::new(place.schema.clone())] }], Around::Inside).await?;
    Ok(found[0].first().is_some_and(|row| row.get(0)))
}

// Under a lock that ends with the transaction: of processes that start at the same time one makes the tables.
async fn migrate(link: &Link, place: &Place) -> Result<(), Fault> {
    let key = xxhash_rust::xxh3::xxh3_64(place.schema.as_bytes()) as i64;
    link.execute(&format!("BEGIN; SET LOCAL lock_timeout = '30s'; SELECT pg_advisory_xact_lock({key})")).await?;
    // Looked at again under the lock, by another connection's commit if there was one.
    let from = match version(link, place).await {
        Ok(found) => found.unwrap_or(0),
        Err(fault) => return undone(link, fault).await,
    };
    let has_schema = has(link, &HAS_SCHEMA, place).await?;
    let create = if has_schema { String::new() } else { "CREATE SCHEMA {s};".to_owned() };
    let steps: String = MIGRATIONS.iter().skip(usize::try_from(from).unwrap_or(0)).copied().collect();
    let mark = format!("UPDATE {{s}}.meta SET version = {VERSION};");
    match link.execute(&format!("{create}{steps}{mark}COMMIT")).await {
        Ok(()) => Ok(()),
        Err(fault) => undone(link, fault).await,
    }
}

async fn undone(link: &Link, fault: Fault) -> Result<(), Fault> {
    if !matches!(fault, Fault::Lost(_)) {
        link.roll_back().await?;
    }
    Err(fault)
}

async fn base(link: &Link, only_looks: bool) -> Result<i64, Fault> {
    let found = link.run(&[step!(NUMBERS)], Around::Snapshot).await?;
    let Some(row) = found[0].first() else { return Ok(0) };
    let (base, last, transaction): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    // Transactions of a database that was restored elsewhere begin anew, and what is in it has greater numbers.
    if only_looks || last < base + transaction * SPREAD {
        return Ok(base);
    }
    link.run(&[step!(REBASE, last)], Around::Transaction).await?;
    Ok(last)
}

//! The tables. `docs/journal.md` says what each is for.

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// "trdl": tells a journal from the databases of other applications.
pub const APPLICATION_ID: i64 = 0x7472_646c;

/// The newest version of the schema.
pub const VERSION: i64 = MIGRATIONS.len() as i64;

/// What leads from one version to the next, from an empty file on. Once released an entry never changes.
const MIGRATIONS: [&str; 7] = [V1, V2, V3, V4, V5, V6, V7];

const V1: &str = "
CREATE TABLE owners (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB UNIQUE,
    lease_until INTEGER NOT NULL
) STRICT;

CREATE TABLE runs (
    n INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    workflow TEXT NOT NULL,
    key TEXT,
    input BLOB NOT NULL,
    created INTEGER NOT NULL,
    stream_limit INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    finished INTEGER,
    phase INTEGER NOT NULL,
    due INTEGER,
    wake INTEGER,
    owner INTEGER,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    inbox INTEGER NOT NULL,
    consumed INTEGER NOT NULL,
    published INTEGER NOT NULL,
    outcome BLOB
) STRICT;

CREATE UNIQUE INDEX runs_key ON runs (workflow, key) WHERE key IS NOT NULL;
CREATE INDEX runs_work ON runs (owner, workflow, wake) WHERE phase < 3;
CREATE INDEX runs_workflow ON runs (workflow, id);
CREATE INDEX runs_phase ON runs (phase, id) WHERE phase <> 3;
CREATE INDEX runs_finished ON runs (finished) WHERE finished IS NOT NULL;

CREATE TABLE commits (
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    records BLOB NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoints (
    run INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    state BLOB NOT NULL
) STRICT;

CREATE TABLE stream (
    run INTEGER NOT NULL,
    number INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE inbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL,
    id BLOB NOT NULL,
    kind INTEGER NOT NULL,
    at INTEGER NOT NULL,
    body BLOB
) STRICT;

CREATE UNIQUE INDEX inbox_id ON inbox (run, id);
CREATE INDEX inbox_new ON inbox (run, number) WHERE body IS NOT NULL;
CREATE INDEX inbox_consumed ON inbox (run, number) WHERE body IS NULL;
";

// Leases are durations on the machine's clock: `since` and `lasts` are microseconds, `boot` names what they count from.
//
// The table has another name, so that a process of an older version which still has the file open fails at its next
// request instead of comparing times of different clocks. Its runs are lost by it, and go on elsewhere.
const V2: &str = "
CREATE TABLE processes (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB UNIQUE,
    boot BLOB NOT NULL,
    since INTEGER NOT NULL,
    lasts INTEGER NOT NULL
) STRICT;

INSERT INTO processes (n, id, boot, since, lasts) SELECT n, NULL, zeroblob(16), 0, 0 FROM owners;
DROP TABLE owners;
";

const V3: &str = "
ALTER TABLE runs ADD COLUMN recoveries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN not_before INTEGER;
ALTER TABLE runs ADD COLUMN reason TEXT;
ALTER TABLE runs ADD COLUMN dead_letters INTEGER NOT NULL DEFAULT 0;
ALTER TABLE processes ADD COLUMN is_released INTEGER NOT NULL DEFAULT 0;

ALTER TABLE inbox ADD COLUMN dead TEXT;
CREATE INDEX inbox_dead ON inbox (run, number) WHERE dead IS NOT NULL;

CREATE TABLE ends (
    number INTEGER PRIMARY KEY,
    run BLOB NOT NULL
) STRICT;
";

// The names of operations; zeros are no name.
const V4: &str = "
ALTER TABLE runs ADD COLUMN op BLOB NOT NULL DEFAULT x'00000000000000000000000000000000';
ALTER TABLE runs ADD COLUMN made_by BLOB NOT NULL DEFAULT x'00000000000000000000000000000000';
ALTER TABLE processes ADD COLUMN claim BLOB NOT NULL DEFAULT x'00000000000000000000000000000000';
";

// What led to a run. Few runs are started by others, so that the indexes leave out those that are not.
const V5: &str = "
ALTER TABLE runs ADD COLUMN parent BLOB;
ALTER TABLE runs ADD COLUMN root BLOB;
ALTER TABLE runs ADD COLUMN depth INTEGER NOT NULL DEFAULT 0;
CREATE INDEX runs_parent ON runs (parent, id) WHERE parent IS NOT NULL;
CREATE INDEX runs_root ON runs (root, id) WHERE root IS NOT NULL;
";

// The operation that made a run go on after its end; zeros are none.
const V6: &str = "
ALTER TABLE runs ADD COLUMN reopened_by BLOB NOT NULL DEFAULT x'00000000000000000000000000000000';
";

// What checkpoints have replaced, of runs whose history is kept. Loading a run reads neither table, and a process of the
// version before goes on beside it: what it folds is missing in the history.
const V7: &str = "
CREATE TABLE folded (
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    records BLOB NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE keyframes (
    n INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    state BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX keyframes_run ON keyframes (run, seq);
";

/// What a file is, as far as its header and its tables tell.
pub(super) enum Kind {
    /// Nothing was ever written to it.
    Empty,
    /// A journal with this version of the schema.
    Journal(i64),
    /// The file of another application.
    Foreign,
}

/// Finds out what the file is, without writing to it.
pub(super) fn kind(connection: &Connection) -> rusqlite::Result<Kind> {
    let application: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (application, version, tables) {
        (0, 0, 0) => Kind::Empty,
        (APPLICATION_ID, version, _) if version > 0 => Kind::Journal(version),
        _ => Kind::Foreign,
    })
}

/// Brings the file up to the newest version; false if it is no journal or a newer one. The version is looked up
/// again under the lock: another process may have been first.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = match kind(&transaction)? {
        Kind::Empty => 0,
        Kind::Journal(version) if version <= VERSION => version,
        _ => return Ok(false),
    };
    migrate_from(&transaction, version)?;
    failpoint!("journal.schema_made");
    transaction.commit()?;
    failpoint!("journal.schema_committed");
    Ok(true)
}

fn migrate_from(transaction: &Transaction, version: i64) -> rusqlite::Result<()> {
    for step in MIGRATIONS.iter().skip(version as usize) {
        transaction.execute_batch(step)?;
    }
    transaction.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"))
}

//! A journal in a file, by SQLite: one machine, any number of processes.
//!
//! - `open`: the file, its settings, and who else may have written it.
//! - `look`: a file that is only looked into.
//! - `schema`: the tables; what a newer version changes.
//! - `batch`: one transaction for all that waits.
//! - `runs`, `commits`, `outgoing`, `owners`, `inbox`, `ends`, `read`: what each request does in it.
//! - [`Fault`]: what can be wrong with the file.
//! - `files`: whether the files are still at their paths.
//! - `machine`, `locks`: by what processes of one machine know whether another one lives.
//! - [`secret`]: the file beside the database that holds the key of signatures.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::error::JournalError;
use super::lease::Clock;
use super::worker::Worker;
use super::{Address, Journal, KeptSecret, Limits, OnBatch, OpenOptions, Opened, OwnerId, address};
use files::Files;
use machine::Machine;

mod batch;
mod commits;
mod copying;
mod ends;
mod failure;
mod fault;
mod files;
mod history;
mod inbox;
mod locks;
mod look;
mod machine;
mod open;
mod outgoing;
mod owners;
#[cfg(test)]
mod plans;
mod read;
mod runs;
mod schema;
pub mod secret;

pub use fault::Fault;
pub use locks::close_in_forked_child;
pub use machine::{machine_clock, since_boot};
pub use schema::{APPLICATION_ID, VERSION};

/// SQLite stores no more than 10^9 bytes in one place.
const LIMITS: Limits = Limits { commit: 900_000_000 };

pub(super) const BACKEND: address::Backend = address::Backend {
    scheme: "sqlite:///",
    form: "\"sqlite:///PATH\"",
    parameters: &[address::Parameter {
        name: BUSY_TIMEOUT,
        expected: "a number of seconds",
        check: |value| address::seconds(value).is_some(),
    }],
    is_file: true,
    read: None,
    has_password: None,
    open: open_address,
};

const BUSY_TIMEOUT: &str = "busy_timeout";

fn open_address(address: &Address, options: OpenOptions, on_batch: OnBatch) -> Result<Opened, JournalError> {
    let path = address.path().unwrap_or_default();
    let mut settings = Options::default();
    settings.patience = address.parameter(BUSY_TIMEOUT).and_then(address::seconds).unwrap_or(settings.patience);
    let journal = match options.only_looks {
        true => look(&path, &settings, on_batch)?,
        false => open(&path, &settings, on_batch)?,
    };
    let secret = match (options.has_secret, options.only_looks) {
        (true, _) => None,
        (false, true) => secret::secret_if_made(&path)?,
        (false, false) => Some(secret::secret(&path)?),
    };
    Ok(Opened { journal, secret: secret.map_or(KeptSecret::Nothing, KeptSecret::Secret) })
}

/// How to open a file. The default is what almost everybody wants.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long to wait for another process that has the database locked.
    pub patience: Duration,
    /// How many pages of the write-ahead log may wait to be copied into the database. More make a commit cheaper on
    /// average, since pages that are written often are copied once, and recovery from a crash dearer.
    pub wal_pages: u32,
    /// The name of a registered SQLite VFS to go through, instead of the default one.
    pub vfs: Option<String>,
    /// The clock of leases, which all processes that have the file open must share.
    pub clock: Clock,
    /// When SQLite waits for the disk.
    #[doc(hidden)]
    pub synchronous: Synchronous,
}

/// When SQLite waits for the disk. Only `Full` keeps the journal's promises: the others are there for the tests to
/// show that they see a promise broken.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Synchronous {
    /// Never.
    Off = 0,
    /// Before the log is copied into the database.
    Normal = 1,
    /// At every commit as well.
    Full = 2,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(10),
            wal_pages: 4000,
            vfs: None,
            clock: machine_clock(),
            synchronous: Synchronous::Full,
        }
    }
}

/// Opens the journal in a file, which is made if it is not there.
pub fn open(path: &Path, options: &Options, on_batch: OnBatch) -> Result<Box<dyn Journal>, JournalError> {
    let sqlite = Sqlite::open(path, options)?;
    let worker = Worker::start(sqlite, on_batch);
    Ok(Box::new(worker.map_err(|error| Fault::NoThread(error.to_string()).at(path))?))
}

/// Opens the journal in a file to look into it: nothing is made or changed, neither the file nor any beside it, and
/// what would write is refused.
pub fn look(path: &Path, options: &Options, on_batch: OnBatch) -> Result<Box<dyn Journal>, JournalError> {
    let worker = Worker::start(look::Look::open(path, options)?, on_batch);
    Ok(Box::new(worker.map_err(|error| Fault::NoThread(error.to_string()).at(path))?))
}

/// The connection of one process, used by the journal's thread only.
struct Sqlite {
    path: PathBuf,
    connection: Connection,
    // What broke it. Nothing is acknowledged any more, since what SQLite holds in memory may differ from the disk.
    failed: Option<JournalError>,
    wal_pages: u32,
    // About how many pages were written since the log's length was looked at.
    unlooked: usize,
    // `PRAGMA data_version` when it was looked at last, and the numbers of the last entry and of the last end.
    seen: i64,
    last: (u64, u64),
    machine: Machine,
    // Other processes, as far as they have not been seen to end.
    others: Vec<OwnerId>,
    files: Files,
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        if self.files.check().is_err() {
            self.leave_the_log();
        }
    }
}

//! What can go wrong with a journal.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::request::OwnerId;
use crate::run_id::RunId;

/// Every error of a journal. One that fails a whole batch is given to each of its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JournalError {
    /// The run has another owner, another epoch or another last record: whoever appends must stop it.
    Conflict(RunId),
    /// There is no such run.
    UnknownRun(RunId),
    /// The run is over: it takes no messages.
    RunEnded(RunId),
    /// A living process executes the run.
    RunActive(RunId),
    /// The process has no lease (any more): its runs may be executed by others.
    LeaseLost(OwnerId),
    /// The request contradicts itself or the run; nothing of it was written.
    Invalid {
        /// The run.
        run: RunId,
        /// Why.
        why: &'static str,
    },
    /// The commit or the message is larger than the journal can store; nothing of it was written.
    TooLarge {
        /// The run.
        run: RunId,
        /// Its bytes.
        bytes: usize,
        /// The most bytes that one may have.
        limit: usize,
    },
    /// What is stored of the run is incomplete or makes no sense. Other runs are not concerned.
    Damaged {
        /// The run.
        run: RunId,
        /// What is missing or wrong.
        what: String,
    },
    /// The journal is closed.
    Closed,
    /// The journal failed before: nothing is written until it is opened again.
    Failed {
        /// What it failed of.
        cause: Arc<JournalError>,
    },
    /// A bug: the journal's thread panicked.
    Panicked(String),
    /// An error of a file or of the disk. What was being written may or may not be there after the next open.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// A file of the open journal was removed, moved away or replaced: what is written now would be lost.
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// The disk or the quota is full.
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Another process kept the database locked for too long. Nothing was written; the journal goes on.
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file or its directory cannot be written.
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// The file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// The file is no journal yet, or one of an older treadle: an engine makes it one when it is opened.
    NotSetUp {
        /// The file.
        path: PathBuf,
    },
    /// The path names a directory.
    IsDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// The directory of the file is not there.
    NoDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// The file is no database.
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file is a database of another application.
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a newer treadle.
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that is known here.
        known: i64,
    },
    /// The file is damaged.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        cause: String,
    },
    /// SQLite did not take a setting without which the journal cannot keep its promises.
    Setting {
        /// The file.
        path: PathBuf,
        /// The setting.
        name: &'static str,
        /// What was asked for.
        asked: String,
        /// What it is.
        found: String,
    },
    /// SQLite is too old: it has a bug that loses data.
    OldSqlite {
        /// Its version.
        found: String,
        /// The oldest version that will do.
        needed: &'static str,
    },
    /// The file of the secret may be read by others.
    SecretExposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file of the secret does not hold a secret.
    SecretMalformed {
        /// The file.
        path: PathBuf,
        /// How many bytes it has.
        length: u64,
    },
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use JournalError as E;
        match self {
            E::Conflict(run) => write!(f, "run {run} was taken over or has gone on elsewhere: nothing was appended"),
            E::UnknownRun(run) => write!(f, "there is no run {run} in this journal"),
            E::RunEnded(run) => write!(f, "run {run} is over and takes no messages"),
            E::RunActive(run) => write!(f, "run {run} is being executed: cancel it first"),
            E::LeaseLost(owner) => {
                write!(f, "the lease of process {owner} has ended: its runs may be executed by others")
            }
            E::Invalid { run, why } => write!(f, "refused a request for run {run}: {why}"),
            E::TooLarge { run, bytes, limit } => write!(
                f,
                "refused {bytes} bytes at once for run {run}: at most {limit} can be stored; keep large data \
                 elsewhere and a reference to it in the run"
            ),
            E::Damaged { run, what } => write!(
                f,
                "run {run} is damaged in the journal: {what}; restore a backup that has all of it, or delete the run"
            ),
            E::Closed => f.write_str("the journal is closed"),
            E::Failed { cause } => {
                write!(f, "the journal failed and takes nothing until it is opened again; the cause was: {cause}")
            }
            E::Panicked(message) => write!(f, "the journal's thread panicked (a bug in treadle): {message}"),
            other => other.fmt_file(f),
        }
    }
}

impl JournalError {
    fn fmt_file(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use JournalError as E;
        match self {
            E::Io { path, cause } => write!(f, "{}: {cause}", path.display()),
            E::Gone { path } => write!(
                f,
                "{} was removed, moved away or replaced while it was open: nothing is acknowledged any more; put it \
                 back if you can, then open the journal again",
                path.display()
            ),
            E::Full { path } => {
                write!(f, "{}: the disk or the quota is full: make room, then open the journal again", path.display())
            }
            E::Locked { path } => write!(
                f,
                "{}: the database is locked: another process holds a transaction open (a backup, a shell, a stopped \
                 process?); end it, then try again",
                path.display()
            ),
            E::ReadOnly { path, cause } => write!(
                f,
                "{}: cannot be written ({cause}): the file and its directory must be writable, since SQLite keeps \
                 files beside the database",
                path.display()
            ),
            E::Unreadable { path, cause } => write!(f, "{}: cannot be read: {cause}", path.display()),
            E::NotSetUp { path } => write!(
                f,
                "{} is no journal of this version of treadle yet: opening an engine on it makes it one",
                path.display()
            ),
            E::IsDirectory { path } => {
                write!(
                    f,
                    "{} is a directory: name a file, for example {}",
                    path.display(),
                    path.join("runs.db").display()
                )
            }
            E::NoDirectory { path } => write!(f, "the directory {} does not exist: make it first", path.display()),
            E::NotADatabase { path } => {
                write!(f, "{} is not an SQLite database: name another file or move this one away", path.display())
            }
            E::Foreign { path } => write!(
                f,
                "{} is an SQLite database of another application: a journal needs a file of its own",
                path.display()
            ),
            E::NewerSchema { path, found, known } => write!(
                f,
                "{} has schema version {found}, written by a newer treadle; this one knows versions up to {known}: \
                 upgrade treadle",
                path.display()
            ),
            E::Corrupt { path, cause } => write!(
                f,
                "{} is damaged ({cause}): restore a backup, or rescue what can be read with `sqlite3 … .recover`",
                path.display()
            ),
            E::Setting { path, name, asked, found } => write!(
                f,
                "{}: SQLite kept {name}={found} where {asked} is needed for durability: is the file on a network or \
                 read-only file system?",
                path.display()
            ),
            E::OldSqlite { found, needed } => {
                write!(f, "SQLite {found} can lose data in WAL mode: version {needed} or later is needed")
            }
            E::SecretExposed { path, mode } => write!(
                f,
                "{} may be read by others (mode {mode:03o}): `chmod 600` it, and make a new secret if anybody has seen it",
                path.display()
            ),
            E::SecretMalformed { path, length } => write!(
                f,
                "{} does not hold a secret ({length} bytes instead of 32): restore it, or remove it to have a new one \
                 made, which cannot verify what the old one signed",
                path.display()
            ),
            other => write!(f, "{other:?}"),
        }
    }
}

impl std::error::Error for JournalError {}

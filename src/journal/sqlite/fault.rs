//! What can be wrong with a file, or with the place where it should be: what happened, and what helps.

use std::path::Path;

use crate::journal::JournalError;

/// Why a file cannot be used as a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// An error of a file or of the disk. What was being written may or may not be there after the next open.
    Disk(String),
    /// A file of the open journal was removed, moved away or replaced: what is written now would be lost.
    Gone,
    /// The disk or the quota is full.
    Full,
    /// The file or its directory cannot be written; what the system said.
    ReadOnly(String),
    /// The file cannot be read; what the system said.
    Unreadable(String),
    /// The file is no journal yet, or one of an older treadle: an engine makes it one when it is opened.
    NotSetUp,
    /// The path names a directory.
    IsDirectory,
    /// The directory of the file is not there.
    NoDirectory,
    /// The file is no database.
    NotADatabase,
    /// The file is a database of another application.
    Foreign,
    /// The file was written by a newer treadle.
    NewerSchema {
        /// Its version.
        found: i64,
        /// The newest version that is known here.
        known: i64,
    },
    /// The file is damaged; what was found.
    Corrupt(String),
    /// SQLite did not take a setting without which the journal cannot keep its promises.
    Setting {
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
        found: &'static str,
        /// The oldest version that will do.
        needed: &'static str,
    },
    /// The file of the secret may be read by others.
    SecretExposed {
        /// Its permissions.
        mode: u32,
    },
    /// The file of the secret does not hold a secret.
    SecretMalformed {
        /// How many bytes it has.
        length: u64,
    },
    /// The journal's thread could not be started; what the system said.
    NoThread(String),
}

impl Fault {
    /// The error of it, for the file at this path.
    pub fn at(&self, path: &Path) -> JournalError {
        let place = path.display().to_string();
        JournalError::Unusable { place, why: self.why(), remedy: self.remedy(path) }
    }

    // What comes behind the path.
    fn why(&self) -> String {
        let text = match self {
            Self::Disk(cause) => return format!("cannot be used: {cause}"),
            Self::Gone => "was removed, moved away or replaced while it was open: nothing is acknowledged any more",
            Self::Full => "cannot be written: the disk or the quota is full",
            Self::ReadOnly(cause) => return format!("cannot be written: {cause}"),
            Self::Unreadable(cause) => return format!("cannot be read: {cause}"),
            Self::NotSetUp => "is no journal of this version of treadle yet",
            Self::IsDirectory => "is a directory",
            Self::NoDirectory => "does not exist",
            Self::NotADatabase => "is not an SQLite database",
            Self::Foreign => "is an SQLite database of another application",
            Self::NewerSchema { found, known } => {
                return format!(
                    "has schema version {found}, written by a newer treadle; this one knows versions up to {known}"
                );
            }
            Self::Corrupt(cause) => return format!("is damaged: {cause}"),
            Self::Setting { name, asked, found } => {
                return format!("was opened by SQLite with {name}={found}, where {asked} is needed for durability");
            }
            Self::OldSqlite { found, .. } => {
                return format!("was to be opened with SQLite {found}, which can lose data in WAL mode");
            }
            Self::SecretExposed { mode } => return format!("may be read by others (mode {mode:03o})"),
            Self::SecretMalformed { length } => {
                return format!("does not hold a secret ({length} bytes instead of 32)");
            }
            Self::NoThread(cause) => return format!("cannot be used: no thread could be started: {cause}"),
        };
        text.into()
    }

    fn remedy(&self, path: &Path) -> String {
        let text = match self {
            Self::Disk(_) => "repair the cause, then open the journal again",
            Self::Gone => "put it back if you can, then open the journal again",
            Self::Full => "make room, then open the journal again",
            Self::ReadOnly(_) => {
                "the file and its directory must be writable, since SQLite keeps files beside the database"
            }
            Self::Unreadable(_) => "it must be there and readable",
            Self::NotSetUp => "opening an engine on it makes it one",
            Self::IsDirectory => {
                return format!("name a file, for example {}", path.join("runs.db").display());
            }
            Self::NoDirectory => "make the directory first",
            Self::NotADatabase => "name another file or move this one away",
            Self::Foreign => "a journal needs a file of its own",
            Self::NewerSchema { .. } => "upgrade treadle",
            Self::Corrupt(_) => "restore a backup, or rescue what can be read with `sqlite3 … .recover`",
            Self::Setting { .. } => "put the file on a local file system that can be written",
            Self::OldSqlite { needed, .. } => return format!("version {needed} or later is needed"),
            Self::SecretExposed { .. } => "`chmod 600` it, and make a new secret if others may have read it",
            Self::SecretMalformed { .. } => {
                "restore it, or remove it to have a new one made, which cannot verify what the old one signed"
            }
            Self::NoThread(_) => "raise the limit of threads",
        };
        text.into()
    }
}

/// The error of a database that another process keeps locked. Nothing was written.
pub(super) fn locked(path: &Path) -> JournalError {
    JournalError::Unavailable {
        place: path.display().to_string(),
        why:
            "the database is locked: another process holds a transaction open (a backup, a shell, a stopped process?); \
              end it"
                .into(),
    }
}

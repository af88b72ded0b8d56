//! Opens a file as a journal, or says why it cannot be one.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Error, OpenFlags};

use super::failure::{explain, is_busy};
use super::fault::Fault;
use super::files::Files;
use super::locks::Locks;
use super::machine::Machine;
use super::schema::{self, Kind, VERSION};
use super::{Options, Sqlite, owners};
use crate::journal::JournalError;

/// Older ones can lose data when two connections start the WAL anew at once.
const OLDEST_SQLITE: (i32, &str) = (3_051_003, "3.51.3");

/// How many statements are kept prepared: more than there are.
const STATEMENTS: usize = 96;

impl Sqlite {
    pub(super) fn open(path: &Path, options: &Options) -> Result<Self, JournalError> {
        check_version(path)?;
        check_place(path)?;
        let opening = Opening { path, options, started: Instant::now() };
        let mut connection = opening.explained(opening.connect())?;
        failpoint!("journal.connected");
        opening.check_kind(&connection)?;
        opening.set_up(&connection)?;
        failpoint!("journal.set_up");
        if !opening.explained(schema::migrate(&mut connection))? {
            opening.check_kind(&connection)?;
        }
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // What is beside the database is beside it, not beside a link to it.
        let place = path.canonicalize().map_err(|error| Fault::Disk(error.to_string()).at(path))?;
        let mut sqlite = Self {
            path: path.into(),
            connection,
            failed: None,
            wal_pages: options.wal_pages,
            unlooked: 0,
            seen: 0,
            last: (0, 0),
            machine: Machine { clock: options.clock.clone(), locks: Locks::beside(&place) },
            others: Vec::new(),
            files: Files::of(&place),
        };
        sqlite.seen = opening.explained(sqlite.data_version())?;
        sqlite.last = opening.explained(sqlite.last_numbers())?;
        let known = opening.explained(owners::leases(&sqlite.connection))?;
        sqlite.machine.locks.tidy(|owner| known.iter().any(|&(other, _)| other == owner));
        sqlite.others = known.into_iter().map(|(owner, _)| owner).collect();
        Ok(sqlite)
    }
}

pub(super) fn check_version(path: &Path) -> Result<(), JournalError> {
    match rusqlite::version_number() >= OLDEST_SQLITE.0 {
        true => Ok(()),
        false => Err(Fault::OldSqlite { found: rusqlite::version(), needed: OLDEST_SQLITE.1 }.at(path)),
    }
}

/// The bytes of the shortest database that is not empty: one page of the smallest size.
const SHORTEST: u64 = 512;

// SQLite says "unable to open database file" to all of these.
pub(super) fn check_place(path: &Path) -> Result<(), JournalError> {
    if path.is_dir() {
        return Err(Fault::IsDirectory.at(path));
    }
    // SQLite takes a file that is shorter than any database for an empty one, and writes over it.
    if path.metadata().is_ok_and(|about| (1..SHORTEST).contains(&about.len())) {
        return Err(Fault::NotADatabase.at(path));
    }
    match path.parent() {
        Some(parent) if parent != Path::new("") && !parent.is_dir() => Err(Fault::NoDirectory.at(parent)),
        _ => Ok(()),
    }
}

struct Opening<'a> {
    path: &'a Path,
    options: &'a Options,
    started: Instant,
}

impl Opening<'_> {
    fn connect(&self) -> rusqlite::Result<Connection> {
        // No URIs: a path is a path, whatever characters it has.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        // A path such as ":memory:" must name a file as well.
        let path = if self.path.is_absolute() { self.path.to_owned() } else { PathBuf::from(".").join(self.path) };
        let connection = match &self.options.vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs.as_str()),
            None => Connection::open_with_flags(path, flags),
        }?;
        connection.busy_timeout(self.options.patience)?;
        Ok(connection)
    }

    // Before any setting is changed: a file that is not ours is left as it is.
    fn check_kind(&self, connection: &Connection) -> Result<(), JournalError> {
        match self.explained(self.patiently(|| kind(connection)))? {
            Kind::Foreign => Err(Fault::Foreign.at(self.path)),
            Kind::Journal(found) if found > VERSION => Err(Fault::NewerSchema { found, known: VERSION }.at(self.path)),
            _ => Ok(()),
        }
    }

    fn set_up(&self, connection: &Connection) -> Result<(), JournalError> {
        let synchronous = (self.options.synchronous as u8).to_string();
        self.set(connection, "journal_mode", "wal")?;
        self.set(connection, "synchronous", &synchronous)?;
        self.set(connection, "locking_mode", "normal")?;
        // A plain fsync does not reach the disk on macOS; elsewhere these change nothing.
        self.set(connection, "fullfsync", "1")?;
        self.set(connection, "checkpoint_fullfsync", "1")?;
        // SQLite's own checkpoints hide their I/O errors; the journal makes its own.
        self.set(connection, "wal_autocheckpoint", "0")?;
        self.set(connection, "temp_store", "2")?;
        // In KiB. A transaction that touches more pages than fit writes them twice.
        self.set(connection, "cache_size", "-32768")
    }

    fn set(&self, connection: &Connection, name: &'static str, value: &str) -> Result<(), JournalError> {
        let set = || connection.query_row(&format!("PRAGMA {name} = {value}"), [], |_| Ok(())).or_else(no_row_is_fine);
        self.explained(self.patiently(set))?;
        let found = connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, rusqlite::types::Value>(0));
        let found = match self.explained(found)? {
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Text(text) => text,
            other => format!("{other:?}"),
        };
        match found == value {
            true => Ok(()),
            false => Err(Fault::Setting { name, asked: value.into(), found }.at(self.path)),
        }
    }

    // SQLite does not call its busy handler where two processes could wait for each other, such as when both
    // turn a new file to WAL; trying again from the start is safe.
    fn patiently<T>(&self, call: impl Fn() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        loop {
            match call() {
                Err(error) if is_busy(&error) && self.started.elapsed() < self.options.patience => {
                    thread::sleep(Duration::from_millis(2));
                }
                other => return other,
            }
        }
    }

    fn explained<T>(&self, result: rusqlite::Result<T>) -> Result<T, JournalError> {
        result.map_err(|error| explain(self.path, &error))
    }
}

// In one transaction: another process may be making the tables.
fn kind(connection: &Connection) -> rusqlite::Result<Kind> {
    schema::kind(&*connection.unchecked_transaction()?)
}

fn no_row_is_fine(error: Error) -> rusqlite::Result<()> {
    match error {
        Error::QueryReturnedNoRows => Ok(()),
        other => Err(other),
    }
}

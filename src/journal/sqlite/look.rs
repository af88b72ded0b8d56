//! Looking into a file without writing to it or beside it.
//!
//! Each batch has a connection of its own. While processes have the database open, there is a log beside it, and
//! SQLite reads both together. Without a log no process has it open, and the database alone is the whole journal: it is
//! read as a file that does not change, since SQLite would make the log otherwise. Whether it has changed
//! meanwhile is looked at afterwards.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::batch::{carry_out, is_write};
use super::failure::{Failure, explain};
use super::fault::{Fault, locked};
use super::locks::Locks;
use super::machine::Machine;
use super::open::{check_place, check_version};
use super::schema::{Kind, VERSION, kind};
use super::{LIMITS, Options};
use crate::journal::worker::{Away, Backend};
use crate::journal::{JournalError, Limits, News, Outcome, Request};

/// A file that is only looked into.
pub(super) struct Look {
    path: PathBuf,
    options: Options,
    machine: Machine,
    seen: State,
}

/// By what a change of the files is noticed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    database: Option<(u64, SystemTime)>,
    log: Option<(u64, SystemTime)>,
}

impl Look {
    pub(super) fn open(path: &Path, options: &Options) -> Result<Self, JournalError> {
        check_version(path)?;
        check_place(path)?;
        let unreadable = |error: std::io::Error| Fault::Unreadable(error.to_string()).at(path);
        fs::File::open(path).map_err(unreadable)?;
        let machine = Machine { clock: options.clock.clone(), locks: Locks::beside(path) };
        let look = Self { path: path.into(), options: options.clone(), machine, seen: State::of(path) };
        look.read(&[])?;
        Ok(look)
    }

    /// Carries out requests that only read, all of them on one state of the journal.
    fn read(&self, requests: &[Request]) -> Result<Vec<Outcome>, JournalError> {
        let began = Instant::now();
        loop {
            let before = State::of(&self.path);
            let answers = self.read_once(before.log.is_some(), requests);
            let is_whole = before.log.is_some() || before == State::of(&self.path);
            if is_whole {
                return answers;
            }
            if began.elapsed() > self.options.patience {
                return Err(locked(&self.path));
            }
        }
    }

    fn read_once(&self, has_log: bool, requests: &[Request]) -> Result<Vec<Outcome>, JournalError> {
        let explained = |error| self.explain(&error);
        let connection = self.connect(has_log).map_err(explained)?;
        let transaction = connection.unchecked_transaction().map_err(explained)?;
        match kind(&transaction).map_err(explained)? {
            Kind::Journal(VERSION) => {}
            Kind::Journal(found) if found > VERSION => {
                return Err(Fault::NewerSchema { found, known: VERSION }.at(&self.path));
            }
            Kind::Journal(_) | Kind::Empty => return Err(Fault::NotSetUp.at(&self.path)),
            Kind::Foreign => return Err(Fault::Foreign.at(&self.path)),
        }
        requests.iter().map(|request| self.answer(&transaction, request)).collect()
    }

    fn answer(&self, connection: &Connection, request: &Request) -> Result<Outcome, JournalError> {
        if is_write(request) {
            let fault = Fault::ReadOnly("the journal was opened for reading only".into());
            return Ok(Err(fault.at(&self.path)));
        }
        match carry_out(connection, &self.machine, request) {
            Ok(reply) => Ok(Ok(reply)),
            Err(Failure::Refused(error)) => Ok(Err(error)),
            Err(Failure::Broken(error)) => Err(self.explain(&error)),
        }
    }

    fn connect(&self, has_log: bool) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let uri = uri(&self.path, !has_log);
        let connection = match &self.options.vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(uri, flags, vfs.as_str()),
            None => Connection::open_with_flags(uri, flags),
        }?;
        connection.busy_timeout(self.options.patience)?;
        Ok(connection)
    }

    fn explain(&self, error: &rusqlite::Error) -> JournalError {
        match error.sqlite_error_code() {
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Fault::Unreadable(error.to_string()).at(&self.path)
            }
            _ => explain(&self.path, error),
        }
    }
}

impl Backend for Look {
    fn carry_out(&mut self, requests: Vec<Request>) -> Result<Vec<Outcome>, Away> {
        match self.read(&requests) {
            Err(error) if error.is_transient() => Err(Away(requests, error)),
            read => Ok(read.unwrap_or_else(|error| vec![Err(error); requests.len()])),
        }
    }

    fn limits() -> Limits {
        LIMITS
    }

    fn news(&mut self) -> News {
        let now = State::of(&self.path);
        let has_changed = now != std::mem::replace(&mut self.seen, now);
        if has_changed { News::ALL } else { News::default() }
    }
}

impl State {
    fn of(path: &Path) -> Self {
        let about = |path: &Path| {
            let about = fs::metadata(path).ok()?;
            Some((about.len(), about.modified().unwrap_or(SystemTime::UNIX_EPOCH)))
        };
        let mut log = OsString::from(path);
        log.push("-wal");
        Self { database: about(path), log: about(Path::new(&log)) }
    }
}

// Whatever characters the path has.
fn uri(path: &Path, is_immutable: bool) -> String {
    let path = if path.is_absolute() { path.to_owned() } else { Path::new(".").join(path) };
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(byte.into()),
            _ => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    if is_immutable {
        uri.push_str("?immutable=1");
    }
    uri
}

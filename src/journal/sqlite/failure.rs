//! From SQLite's errors to the journal's.

use std::path::Path;

use rusqlite::{Error, ErrorCode};

use super::fault::{Fault, locked};
use crate::journal::JournalError;

/// Why a request, or the whole transaction, did not succeed.
pub(super) enum Failure {
    /// The request's own fault, found before it wrote anything.
    Refused(JournalError),
    /// SQLite's: the whole transaction fails.
    Broken(Error),
}

impl Failure {
    /// The fault of one request, or of one part of it; an error if the whole transaction fails.
    pub(super) fn into_refusal<T>(self) -> Result<Result<T, JournalError>, Self> {
        match self {
            Self::Refused(error) => Ok(Err(error)),
            broken @ Self::Broken(_) => Err(broken),
        }
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        Self::Refused(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

/// Whether the error says that another process has the lock.
pub(super) fn is_busy(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Says what an error of SQLite means for the journal in this file.
pub(super) fn explain(path: &Path, error: &Error) -> JournalError {
    let cause = describe(error);
    let fault = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => return locked(path),
        Some(ErrorCode::DiskFull) => Fault::Full,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Fault::ReadOnly(cause),
        Some(ErrorCode::NotADatabase) => Fault::NotADatabase,
        Some(ErrorCode::DatabaseCorrupt) => Fault::Corrupt(cause),
        // SQLite opens a file that it may not write for reading, and cannot make its other files then.
        Some(ErrorCode::CannotOpen) => Fault::ReadOnly(cause),
        // SQLite gave a row, and the row makes no sense.
        None => Fault::Corrupt(cause),
        Some(_) => Fault::Disk(cause),
    };
    fault.at(path)
}

fn describe(error: &Error) -> String {
    match error.sqlite_error() {
        Some(code) => format!("{error}, SQLite code {}", code.extended_code),
        None => error.to_string(),
    }
}

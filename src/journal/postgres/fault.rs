//! From what the server and the network say to what the journal does about it.

use std::fmt;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::place::Place;
use crate::journal::JournalError;

/// Why something did not succeed. Nothing of it was written, unless the connection was lost.
#[derive(Debug)]
pub(super) enum Fault {
    /// Others have changed what was read before: it is to be read anew.
    Stale,
    /// It is worth while to try again at once, on the same connection.
    Again(String),
    /// The connection is lost, or of no use. What was asked for may have been written.
    Lost(String),
    /// It does not succeed by trying again.
    Broken(JournalError),
}

/// What stands in for an assertion in SQL.
const DIVISION_BY_ZERO: SqlState = SqlState::DIVISION_BY_ZERO;

impl Fault {
    /// What an error of a statement means.
    pub(super) fn of(error: &Error, place: &Place) -> Self {
        let Some(said) = error.as_db_error() else { return Self::Lost(text(error)) };
        let code = said.code();
        match code.code() {
            _ if *code == DIVISION_BY_ZERO || *code == SqlState::UNIQUE_VIOLATION => Self::Stale,
            // A deadlock, a conflict of snapshots, a lock that was not to be had, a plan or a statement that is gone.
            "40P01" | "40001" | "55P03" | "0A000" | "26000" => Self::Again(text(error)),
            // The class of connections; the server stops or starts, has no room, or is a replica by now.
            code if code.starts_with("08") || code.starts_with("57P") || code.starts_with("53") => {
                Self::Lost(text(error))
            }
            "25P03" | "25006" | "57014" | "25P04" => Self::Lost(text(error)),
            _ => Self::Broken(unusable(place, format!("refuses: {}", text(error)), REFUSED)),
        }
    }

    /// What an error of connecting means; one that others would have as well does not pass by waiting.
    pub(super) fn of_connecting(error: &Error, place: &Place) -> Self {
        match error.as_db_error().map(|said| said.code().code()) {
            // The password, the role, the database, a right.
            Some(code) if code.starts_with("28") || ["3D000", "42501", "42704"].contains(&code) => {
                Self::Broken(unusable(place, format!("refuses: {}", text(error)), REFUSED))
            }
            _ => Self::Lost(text(error)),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale => f.write_str("others have changed it meanwhile"),
            Self::Again(cause) | Self::Lost(cause) => f.write_str(cause),
            Self::Broken(error) => error.fmt(f),
        }
    }
}

/// What helps where the server refuses something.
const REFUSED: &str = "see what its log says, and whether the role has the rights and the database is the right one";

/// The journal cannot be used as it is.
pub(super) fn unusable(place: &Place, why: String, remedy: &str) -> JournalError {
    JournalError::Unusable { place: place.to_string(), why, remedy: remedy.into() }
}

/// The server does not answer.
pub(super) fn unavailable(place: &Place, why: impl Into<String>) -> JournalError {
    JournalError::Unavailable { place: place.to_string(), why: why.into() }
}

/// Whether the error only says that one before it has failed the transaction.
pub(super) fn is_consequence(error: &Error) -> bool {
    error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION)
}

/// What the server or the system says; never what was sent.
pub(super) fn text(error: &Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", said.message(), said.code().code());
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

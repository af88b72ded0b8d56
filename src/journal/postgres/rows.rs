//! The rows of runs, and how they come from the database.

use std::error::Error;

use bytes::BytesMut;
use sha2::{Digest as _, Sha256};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use crate::journal::{JournalError, NewRun, OpId, OwnerId, RunRow, Status, phases, rules};
use crate::run_id::RunId;

/// A name of 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Uuid(pub(super) [u8; 16]);

impl From<RunId> for Uuid {
    fn from(id: RunId) -> Self {
        Self(*id.as_bytes())
    }
}

impl From<Uuid> for RunId {
    fn from(id: Uuid) -> Self {
        Self::from_bytes(id.0)
    }
}

impl ToSql for Uuid {
    fn to_sql(&self, _: &Type, to: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        to.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    accepts!(UUID);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Uuid {
    fn from_sql(_: &Type, from: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(from.try_into()?))
    }

    accepts!(UUID);
}

/// A number as the database has them. Times and numbers beyond 2^63 stand for "never" and "everything".
pub(super) fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A limit as the database has them.
pub(super) fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn number(row: &Row, at: usize) -> u64 {
    row.get::<_, i64>(at) as u64
}

pub(super) fn maybe_number(row: &Row, at: usize) -> Option<u64> {
    row.get::<_, Option<i64>>(at).map(|number| number as u64)
}

/// What `Stored::of` reads, in its order; `o` is the owner, whose id is gone when it has lost its lease.
macro_rules! columns {
    () => {
        "r.id, r.version, r.owner, r.consumed, o.id, r.workflow, r.key, r.input, r.created, r.stream_limit, r.updated, \
         r.finished, r.phase, r.due, r.epoch, r.seq, r.op, r.made_by, r.inbox, r.published, r.recoveries, r.not_before, \
         r.reason, r.dead_letters, r.parent, r.root, r.depth, r.reopened_by"
    };
}
pub(super) use columns;

/// How many columns those are.
pub(super) const COLUMNS: usize = 28;

/// A run as it is in the database.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) row: RunRow,
    /// Counts the changes of the row: what was read of it holds as long as this is the same.
    pub(super) version: i64,
    /// The number of its owner, living or not; 0 for none.
    pub(super) owner: i64,
    /// How many of its inbox's entries are kept only to know them again.
    pub(super) consumed: u64,
}

impl Stored {
    /// Reads a run.
    pub(super) fn of(row: &Row) -> Result<Self, JournalError> {
        let id = row.get::<_, Uuid>(0).into();
        let damaged = |what: &str| JournalError::Damaged { run: id, what: what.into() };
        let phase: i16 = row.get(12);
        let (phase, copying) = phases::of_number(phase.into()).ok_or_else(|| damaged("there is no such phase"))?;
        let input: &[u8] = row.get(7);
        Ok(Self {
            version: row.get(1),
            owner: row.get(2),
            consumed: number(row, 3),
            row: RunRow {
                id,
                owner: row.get::<_, Option<Uuid>>(4).map(|id| OwnerId(id.0)),
                workflow: original(row.get(5)),
                key: row.get::<_, Option<&str>>(6).map(original),
                input: input.try_into().map_err(|_| damaged("the digest of its input has another length"))?,
                created: number(row, 8),
                stream_limit: number(row, 9),
                updated: number(row, 10),
                finished: maybe_number(row, 11),
                status: Status { phase, due: maybe_number(row, 13) },
                epoch: number(row, 14),
                seq: number(row, 15),
                op: OpId(row.get::<_, Uuid>(16).0),
                made_by: OpId(row.get::<_, Uuid>(17).0),
                inbox: number(row, 18),
                published: number(row, 19),
                is_cut_short: false,
                recoveries: u32::try_from(number(row, 20)).unwrap_or(u32::MAX),
                not_before: maybe_number(row, 21),
                reason: row.get::<_, Option<&str>>(22).map(original),
                dead_letters: number(row, 23),
                parent: row.get::<_, Option<Uuid>>(24).map(RunId::from),
                root: row.get::<_, Option<Uuid>>(25).map(RunId::from),
                depth: u32::try_from(number(row, 26)).unwrap_or(u32::MAX),
                reopened_by: OpId(row.get::<_, Uuid>(27).0),
                copying,
            },
        })
    }

    /// From when on it has something to do, as the database has it.
    pub(super) fn wake(&self) -> Option<i64> {
        match self.row.goes_on() {
            true => Some(rules::wake(&self.row).map_or(i64::MAX, sql)),
            false => None,
        }
    }

    /// Whether any process may claim it, now or later.
    pub(super) fn is_for_anybody(&self) -> bool {
        self.owner == 0 && rules::wake(&self.row).is_some()
    }
}

/// By what a run of this key is found: keys may be longer than an index takes.
pub(super) fn key_digest(workflow: &str, key: Option<&str>) -> Option<[u8; 32]> {
    let key = key?;
    let mut hash = Sha256::new();
    hash.update((workflow.len() as u64).to_le_bytes());
    hash.update(workflow.as_bytes());
    hash.update(key.as_bytes());
    Some(hash.finalize().into())
}

/// Refuses a name that no index takes.
pub(super) fn check_names(new: &NewRun) -> Result<(), JournalError> {
    const LONGEST: usize = 1000;
    if new.workflow.len() > LONGEST {
        let why = "PostgreSQL's indexes take no name of a workflow of more than 1000 bytes";
        return Err(JournalError::Invalid { run: new.id, why });
    }
    Ok(())
}

// A text in PostgreSQL has no zero character. Two characters for private use stand for it, and so for the first of them.
const ESCAPE: char = '\u{e000}';
const ESCAPED: char = '\u{e001}';
const ZERO: char = '\u{e002}';

/// A text as the database can store it.
pub(super) fn storable(text: &str) -> String {
    let mut stored = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            ESCAPE => stored.extend([ESCAPE, ESCAPED]),
            '\0' => stored.extend([ESCAPE, ZERO]),
            other => stored.push(other),
        }
    }
    stored
}

/// The text that was stored so.
pub(super) fn original(stored: &str) -> String {
    let mut text = String::with_capacity(stored.len());
    let mut characters = stored.chars();
    while let Some(character) = characters.next() {
        text.push(match character {
            ESCAPE => match characters.next() {
                Some(ZERO) => '\0',
                _ => ESCAPE,
            },
            other => other,
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_stored_without_a_zero_character_and_comes_back() {
        for text in ["", "plain", "\0", "a\0\0b\u{e000}\u{e002}\u{e001}c", "\u{e000}", "\u{e001}\0"] {
            assert!(!storable(text).contains('\0'));
            assert_eq!(original(&storable(text)), text);
        }
        assert_eq!(storable("plain"), "plain");
    }
}

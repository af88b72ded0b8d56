//! What a commit writes to other runs, in its transaction.

use rusqlite::{Connection, OptionalExtension};

use super::failure::Failure;
use super::runs::{self, Stored};
use super::{commits, inbox, owners};
use crate::journal::outgoing::{self, IfOver, Known, Missing, Way};
use crate::journal::{Commit, JournalError, Message, Outgoing, Undelivered};
use crate::run_id::RunId;
use crate::timers::Time;

/// Refuses a commit that makes a run for a process without a lease.
pub(super) fn check_owners(db: &Connection, commit: &Commit) -> Result<(), Failure> {
    outgoing::owners(commit).try_for_each(|owner| owners::living(db, Some(owner)).map(drop))
}

/// Writes to other runs what was checked; gives what was not delivered.
pub(super) fn send_out(db: &Connection, commit: &Commit) -> Result<Vec<Undelivered>, Failure> {
    let mut undelivered = Vec::new();
    for outgoing in &commit.outgoing {
        match outgoing {
            Outgoing::Create { run, owner, commit: first } => {
                if !commits::is_there(db, run.id)? {
                    let owner = owner.zip(owners::living(db, *owner)?);
                    commits::insert(db, run, owner, &outgoing::first_commit(first, commit.op))?;
                    failpoint!("journal.child_inserted");
                }
            }
            Outgoing::Send { to, message, if_over } => {
                let why = send(db, *to, message, *if_over, commit.at)?;
                failpoint!("journal.other_told");
                undelivered.extend(why.map(|why| Undelivered { to: *to, message: message.id, why, if_over: *if_over }));
            }
        }
    }
    Ok(undelivered)
}

/// What of a commit that was written was not delivered.
pub(super) fn undelivered(db: &Connection, commit: &Commit) -> Result<Vec<Undelivered>, Failure> {
    let mut undelivered = Vec::new();
    for (to, message, if_over) in outgoing::messages(commit) {
        let target = find(db, to)?;
        let why = way(db, target.as_ref(), message, if_over)?.1;
        undelivered.extend(why.map(|why| Undelivered { to, message: message.id, why, if_over }));
    }
    Ok(undelivered)
}

fn send(db: &Connection, to: RunId, message: &Message, if_over: IfOver, at: Time) -> Result<Option<Missing>, Failure> {
    let Some(mut run) = find(db, to)? else { return Ok(Some(Missing::Unknown)) };
    let (way, why) = way(db, Some(&run), message, if_over)?;
    match way {
        Way::Inbox => inbox::deliver(db, &mut run, message, at)?,
        Way::DeadLetters => inbox::bury(db, &mut run, message, at)?,
        Way::Nowhere => {}
    }
    Ok(why)
}

fn way(
    db: &Connection,
    run: Option<&Stored>,
    message: &Message,
    if_over: IfOver,
) -> rusqlite::Result<(Way, Option<Missing>)> {
    let known = run.map_or(Ok(Known::No), |run| known(db, run.n, message))?;
    Ok(outgoing::way(run.map(|run| &run.row), known, if_over))
}

fn known(db: &Connection, n: i64, message: &Message) -> rusqlite::Result<Known> {
    let is_dead: Option<bool> = db
        .prepare_cached("SELECT dead IS NOT NULL FROM inbox WHERE run = ?1 AND id = ?2")?
        .query_row((n, message.id), |row| row.get(0))
        .optional()?;
    Ok(match is_dead {
        None => Known::No,
        Some(false) => Known::Delivered,
        Some(true) => Known::Dead,
    })
}

// A run that is damaged is not there for others: it must not keep the sender from going on.
fn find(db: &Connection, id: RunId) -> Result<Option<Stored>, Failure> {
    match runs::find(db, id) {
        Ok(run) => Ok(Some(run)),
        Err(Failure::Refused(JournalError::UnknownRun(_) | JournalError::Damaged { .. })) => Ok(None),
        Err(failure) => Err(failure),
    }
}

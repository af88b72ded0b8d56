//! What a commit does to a run's row. Every backend asks here, so that they cannot differ.

use super::error::JournalError;
use super::op::OpId;
use super::reply::{Reply, RunRow};
use super::request::{Commit, EntryNumber, Message, NewRun, OwnerId, Phase, Status};
use super::{Limits, copying, outgoing, recovery};
use crate::run_id::RunId;
use crate::timers::Time;

/// The row of a run before this first commit.
pub(super) fn new_row(run: NewRun, first: &Commit) -> RunRow {
    let op = first.op;
    RunRow {
        id: run.id,
        workflow: run.workflow,
        key: run.key,
        input: run.input,
        created: run.created,
        updated: run.created,
        finished: None,
        status: Status::default(),
        owner: None,
        epoch: 0,
        seq: 0,
        op,
        made_by: op,
        reopened_by: OpId::NONE,
        inbox: 0,
        published: 0,
        stream_limit: run.stream_limit.max(1),
        is_cut_short: false,
        recoveries: 0,
        not_before: None,
        reason: None,
        dead_letters: 0,
        parent: run.parent,
        root: run.root,
        depth: run.depth,
        copying: copying::begin(first),
    }
}

/// Refuses the first commit of a run if it cannot be written.
pub(super) fn check_first(new: &NewRun, commit: &Commit, limits: Limits) -> Result<(), JournalError> {
    if !taken_out(commit).is_empty() {
        return Err(not_in_inbox(new.id));
    }
    check_silent(new.id, commit)?;
    check(&new_row(new.clone(), commit), commit, limits)
}

/// Refuses a commit that writes to other runs where none does.
pub(super) fn check_silent(run: RunId, commit: &Commit) -> Result<(), JournalError> {
    match commit.outgoing.is_empty() {
        true => Ok(()),
        false => Err(JournalError::Invalid { run, why: "only a run that goes on writes to other runs" }),
    }
}

/// Refuses a commit that cannot be written, before anything of it is: a request that fails for its own reason
/// must leave nothing behind in the transaction that it shares with others.
pub(super) fn check(row: &RunRow, commit: &Commit, limits: Limits) -> Result<(), JournalError> {
    let invalid = |why| Err(JournalError::Invalid { run: row.id, why });
    check_size(row.id, commit.bytes(), limits)?;
    let mut last = row.published;
    for &(number, _) in &commit.published {
        if number <= last {
            return invalid("the numbers of published entries must grow");
        }
        last = number;
    }
    if last > i64::MAX as u64 {
        return invalid("the number of a published entry is beyond 2^63");
    }
    if has_twice(&taken_out(commit)) {
        return invalid("an entry of the inbox is consumed twice");
    }
    copying::check(row, commit)?;
    if commit.status.phase == Phase::Stranded && commit.arrival.is_none() {
        return invalid("a commit cannot strand a run");
    }
    if commit.outcome.is_some() && !commit.status.phase.is_over() {
        return invalid("only a run that is over has an outcome");
    }
    outgoing::check(row.id, commit, limits)
}

/// Refuses a message that cannot be stored.
pub(super) fn check_message(run: RunId, message: &Message, limits: Limits) -> Result<(), JournalError> {
    check_size(run, message.body.len(), limits)
}

fn check_size(run: RunId, bytes: usize, limits: Limits) -> Result<(), JournalError> {
    if bytes > limits.commit {
        return Err(JournalError::TooLarge { run, bytes, limit: limits.commit });
    }
    Ok(())
}

/// The entries that are no longer in the inbox after the commit.
pub(super) fn taken_out(commit: &Commit) -> Vec<EntryNumber> {
    let dead = commit.undeliverable.iter().map(|&(number, _)| number);
    commit.consumed.iter().copied().chain(dead).collect()
}

fn has_twice(numbers: &[EntryNumber]) -> bool {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| pair[0] == pair[1])
}

/// The error of consuming an entry that is not there.
pub(super) fn not_in_inbox(run: RunId) -> JournalError {
    JournalError::Invalid { run, why: "a consumed entry is not in the run's inbox" }
}

/// Writes what the commit says into the row.
pub(super) fn apply(row: &mut RunRow, commit: &Commit) {
    row.op = commit.op;
    copying::place(row, commit);
    row.seq += commit.records.len() as u64;
    row.published = commit.published.last().map_or(row.published, |&(number, _)| number);
    let taken_out = commit.consumed.len() + commit.undeliverable.len();
    row.inbox = row.inbox.saturating_sub(taken_out as u64);
    row.dead_letters += commit.undeliverable.len() as u64;
    row.updated = commit.at;
    row.status = commit.status;
    row.finished = None;
    if commit.progress || row.is_over() {
        recovery::forget(row);
    }
    if row.is_over() {
        row.status.due = None;
        row.finished = Some(commit.at);
    }
    copying::settle(row, commit);
    if commit.release || row.is_over() {
        row.owner = None;
    }
}

/// The number of the last stream entry that is no longer kept.
pub(super) fn forgotten(row: &RunRow) -> u64 {
    row.published.saturating_sub(row.stream_limit)
}

/// Refuses to go on with a log that is not whole: `folded` is the number of the last record that the checkpoint stands
/// for, and of each commit behind it, in order, there is the number of its last record and how many it has.
pub(super) fn check_whole(
    row: &RunRow,
    folded: u64,
    commits: impl IntoIterator<Item = (u64, u64)>,
) -> Result<(), JournalError> {
    check_segment(row, folded, row.seq, commits)
}

/// The same of a part of a history whose last record has the number `end`.
pub(super) fn check_segment(
    row: &RunRow,
    folded: u64,
    end: u64,
    commits: impl IntoIterator<Item = (u64, u64)>,
) -> Result<(), JournalError> {
    let damaged = |what| Err(JournalError::Damaged { run: row.id, what });
    let mut last = folded;
    for (seq, count) in commits {
        let first = (seq + 1).saturating_sub(count);
        if count == 0 || first <= last || seq > end {
            return damaged(format!("a commit of {count} records ends with record {seq}, behind record {last}"));
        }
        if first != last + 1 {
            return damaged(missing(last + 1, first - 1));
        }
        last = seq;
    }
    match end {
        seq if seq == last => Ok(()),
        seq if seq > last => damaged(missing(last + 1, seq)),
        seq => damaged(format!("its checkpoint stands for {last} records, and {seq} were acknowledged")),
    }
}

fn missing(first: u64, last: u64) -> String {
    match first == last {
        true => format!("record {first} is missing"),
        false => format!("the records from {first} to {last} are missing"),
    }
}

/// The smallest id of a run that was made at this time or later.
pub(super) fn first_id(since: Time) -> RunId {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&(since.div_ceil(1000)).to_be_bytes()[2..]);
    RunId::from_bytes(bytes)
}

/// From when on the run has something to do; nothing if it merely waits or is over.
pub(super) fn wake(row: &RunRow) -> Option<Time> {
    let wake = match row.status.phase {
        _ if !row.goes_on() => None,
        Phase::Ready => Some(0),
        _ if row.inbox > 0 => Some(0),
        _ => row.status.due,
    };
    wake.map(|wake| wake.max(row.not_before.unwrap_or(0)))
}

/// Whether the run may be appended to. A process that lost its lease is no owner any more.
pub(super) fn check_turn(row: &RunRow, epoch: u64, after: u64) -> Result<(), JournalError> {
    match row.owner {
        Some(_) if row.epoch == epoch && row.seq == after => Ok(()),
        _ => Err(JournalError::Conflict(row.id)),
    }
}

/// Whether the commit is the last operation on the run: its answer was lost, and it is sent again.
pub(super) fn is_written(row: &RunRow, commit: &Commit) -> bool {
    commit.op.is_same(row.op)
}

/// Whether the run was made by this commit, which is sent again.
pub(super) fn is_made(row: &RunRow, commit: &Commit) -> bool {
    commit.op.is_same(row.made_by)
}

/// The answer to a creation that is sent again.
pub(super) fn created_again(owner: Option<OwnerId>) -> Reply {
    Reply::Created { epoch: u64::from(owner.is_some()) }
}

/// Whether the run was made to go on by this commit, which is sent again. Another process may have claimed the run and
/// written to it since, so the last operation does not tell.
pub(super) fn is_reopened(row: &RunRow, commit: &Commit) -> bool {
    commit.op.is_same(row.reopened_by)
}

/// The answer to a commit that is sent again and made a run go on: unless the run was taken from this owner since, its
/// epoch is the one in which it was given.
pub(super) fn reopened_again(row: &RunRow, owner: Option<OwnerId>) -> Result<Reply, JournalError> {
    match owner {
        Some(_) if row.owner != owner => Err(JournalError::Conflict(row.id)),
        _ => Ok(Reply::Reopened { epoch: row.epoch, seq: row.seq }),
    }
}

/// Makes a run that is over or stranded go on.
pub(super) fn reopen(row: &mut RunRow, after: u64, owner: Option<OwnerId>, op: OpId) -> Result<(), JournalError> {
    if row.copying.is_any() {
        return Err(JournalError::BeingCopied(row.id));
    }
    if row.phase().goes_on() || row.seq != after {
        return Err(JournalError::Conflict(row.id));
    }
    row.status = Status::default();
    row.reopened_by = op;
    recovery::forget(row);
    give(row, owner);
    Ok(())
}

/// Whether the run may be refused: its owner can, in its epoch.
pub(super) fn check_epoch(row: &RunRow, epoch: u64) -> Result<(), JournalError> {
    if row.owner.is_some() && row.epoch == epoch { Ok(()) } else { Err(JournalError::Conflict(row.id)) }
}

/// How many ends of runs are known.
pub(super) const ENDS: u64 = 100_000;

/// Gives the run to a process, in a new epoch.
pub(super) fn give(row: &mut RunRow, owner: Option<OwnerId>) {
    row.owner = owner;
    row.epoch += u64::from(owner.is_some());
}

/// The workflows of a claim, each once: a run must not be claimed twice by one request.
pub(super) fn distinct(workflows: &[String]) -> impl Iterator<Item = &str> {
    let is_first = move |&(at, name): &(usize, &String)| !workflows[..at].contains(name);
    workflows.iter().enumerate().filter(is_first).map(|(_, name)| name.as_str())
}

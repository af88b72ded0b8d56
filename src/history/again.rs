//! A run that begins again from a point of its history: a fork of it, or itself after it has failed.

use std::collections::HashSet;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::{Edits, History, HistoryError, Trusted};
use crate::child::OpenChild;
use crate::error::Error;
use crate::image::{EncodedImage, Status as ImageStatus};
use crate::journal::kind::CHILD_ENDED;
use crate::journal::{Chain, Commit, Loaded, NewRun, Phase, Request, Sign, Signer, Slot, Status, entry};
use crate::run_id::RunId;
use crate::snapshot::Standing;
use crate::timers::Time;

/// A new run that is to go on from a point of another one.
pub struct Fork<'a> {
    /// Its name.
    pub id: RunId,
    /// After which record of the other one; nothing: after the last one before its end.
    pub at: Option<u64>,
    /// The events of the other one's stream that are kept, with their numbers: those that it had published by then are
    /// published by this one as well.
    pub stream: &'a [(u64, Bytes)],
    /// What it changes of the other one.
    pub edits: Edits,
}

/// A run that is made to run again has as much time and as many attempts as at first: each step that is not done begins
/// another attempt, the first one, which asks for its deadlines anew. What its bodies have received, collected and sent
/// they find again.
pub fn begin_again(image: &mut EncodedImage, now: Time) {
    image.deadline = image.deadline.map(|deadline| now.saturating_add(deadline.saturating_sub(image.created)));
    image.created = now;
    image.begun = None;
    if image.status == ImageStatus::Paused {
        image.status = ImageStatus::Running;
    }
    for pending in image.pending.values_mut() {
        pending.attempt = 1;
        pending.due = None;
        pending.since = None;
        pending.replay.failures.clear();
        pending.replay.deadlines.clear();
    }
}

/// Gives the children that have not ended new names, under which they are started anew once a body asks for them: those
/// that there were belong to the other run, or were cancelled with this one. Those that have ended stay as they are, and
/// so do those whose end is `told` by the inbox of the run.
fn renew_children(image: &mut EncodedImage, told: &HashSet<RunId>, seq: u64, now: Time) {
    image.children.retain(|child, _| told.contains(child));
    let run = image.id;
    for (&delivery, pending) in &mut image.pending {
        for (number, child) in pending.replay.memos.open_children_mut() {
            if told.contains(&child.id) {
                continue;
            }
            child.id = renewed(run, seq, child.id, now);
            child.inside = Some(Bytes::new());
            let open = OpenChild { seq: delivery, number, on_parent_end: child.on_parent_end };
            image.children.insert(child.id, open);
        }
    }
}

/// The same for the same run and the same point, however often it is made.
fn renewed(run: RunId, seq: u64, child: RunId, now: Time) -> RunId {
    let named = [run.as_bytes().as_slice(), child.as_bytes(), &seq.to_be_bytes()].concat();
    let digest = xxh3_128(&named).to_be_bytes();
    RunId::new(now / 1000, std::array::from_fn(|at| digest[at]))
}

/// Has a run that failed, was cancelled or is stranded go on from where it was.
///
/// # Errors
/// [`HistoryError::NotOver`] for any other; as [`History::image`] and [`Chain::seal`].
pub fn reopen(loaded: &Loaded, signer: &Signer, now: Time) -> Result<Request, HistoryError> {
    match loaded.run.phase() {
        Phase::Failed | Phase::Cancelled | Phase::Stranded => {}
        phase => return Err(HistoryError::NotOver(phase)),
    }
    let mut image = History::new(loaded, Trusted::Signed(signer)).image_without_end()?;
    begin_again(&mut image, now);
    let told = loaded.inbox.iter().filter(|entry| entry.kind == CHILD_ENDED);
    let told = told.map(|entry| RunId::from_bytes(entry.id)).collect();
    renew_children(&mut image, &told, loaded.run.seq, now);
    // No number of its stream is used twice.
    image.published = image.published.max(loaded.run.published);
    let commit = ready(loaded, &image, signer, now)?;
    Ok(Request::Reopen { run: loaded.run.id, after: loaded.run.seq, owner: None, commit })
}

/// Makes a new run that goes on from where another one was.
///
/// # Errors
/// [`HistoryError::NoSuchPoint`] if the other one was not known, or had ended, after that record; what is wrong with the
/// edits; as [`History::image`] and [`Chain::seal`].
pub fn fork(loaded: &Loaded, fork: Fork<'_>, signer: &Signer, now: Time) -> Result<Request, HistoryError> {
    let history = History::new(loaded, Trusted::Signed(signer));
    let mut image = image_of_point(&history, fork.at)?;
    fork.edits.make(&mut image)?;
    image.id = fork.id;
    // No run waits for what it gives.
    image.family = None;
    begin_again(&mut image, now);
    // What is in the inbox is for the other run.
    renew_children(&mut image, &HashSet::new(), 0, now);
    let run = NewRun {
        id: fork.id,
        workflow: loaded.run.workflow.clone(),
        key: None,
        input: loaded.run.input,
        created: now,
        stream_limit: loaded.run.stream_limit,
        parent: None,
        root: None,
        depth: 0,
    };
    // A fork is not trusted any more than the run that it comes from.
    let sign = if Chain::start_of(loaded).signs_all() { Sign::All } else { signer.sign };
    let mut chain = Chain::begin(sign);
    let mut commit = commit(&image, Standing { seq: 0, epoch: 0 }, &mut chain, signer, now)?;
    let published = fork.stream.iter().take_while(|(number, _)| *number <= image.published);
    for (number, body) in published {
        let slot = Slot::Stream { number: *number };
        let event = Trusted::Signed(signer).event(loaded.run.id, &slot, body.clone())?;
        let signed_anew = entry::encode(fork.id, &slot, &event, &signer.secrets, chain.signs_all())?;
        commit.published.push((*number, signed_anew.into()));
    }
    Ok(Request::Create { run, owner: None, commit })
}

/// The run as it was after a record, and after what happened in one operation with it: what a fork begins with. Without a
/// record it is the last one before the run's end.
///
/// # Errors
/// [`HistoryError::NoSuchPoint`]; as [`History::image`].
pub fn image_of_point(history: &History<'_>, at: Option<u64>) -> Result<EncodedImage, HistoryError> {
    let points = history.points()?;
    let Some(at) = at else { return Ok(history.image_without_end()?) };
    if !points.contains(&at) {
        return Err(HistoryError::NoSuchPoint { first: *points.start(), last: *points.end() });
    }
    Ok(history.image_at(history.end_of_operation(at)?)?)
}

/// A commit by which a run that is not executed can go on at once, from a checkpoint.
pub(super) fn ready(loaded: &Loaded, image: &EncodedImage, signer: &Signer, now: Time) -> Result<Commit, Error> {
    let standing = Standing { seq: loaded.run.seq, epoch: loaded.run.epoch };
    commit(image, standing, &mut Chain::end_of(loaded), signer, now)
}

fn commit(
    image: &EncodedImage,
    standing: Standing,
    chain: &mut Chain,
    signer: &Signer,
    now: Time,
) -> Result<Commit, Error> {
    let checkpoint = Some(chain.seal(image, standing, &signer.secrets)?);
    let status = Status { phase: Phase::Ready, due: None };
    Ok(Commit { at: now, checkpoint, status, ..Commit::default() })
}

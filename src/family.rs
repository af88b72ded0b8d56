//! What the runs of a family write to each other, in the journal of all of them.
//!
//! A parent makes a child in the commit that records it, and cancels it in the commit that records that, or in its last
//! one. A child tells its parent of its end in its own last commit. So there is no moment at which one has happened
//! and the other has not.

use crate::child::{ChildEnd, Family, OnParentEnd};
use crate::error::{Error, FormatError};
use crate::event::{Body, EncodedEvent};
use crate::history::Trusted;
use crate::journal::kind::{CANCEL, CHILD_ENDED};
use crate::journal::{Entry, IfOver, Message, NewRun, Outgoing, OwnerId, Signer, Slot, entry};
use crate::run::{Host, Phase, Run};
use crate::run_id::RunId;
use crate::value::Value;
use crate::writer::Creation;

const RESULT: &str = "result";
const FAILURE: &str = "failure";

/// Puts a new run into its family.
pub fn join(run: &mut NewRun, family: Family) {
    (run.parent, run.root, run.depth) = (Some(family.parent), Some(family.root), family.depth);
}

/// Makes a child with the next commit of its parent, to be executed by this process first, or by any that claims it.
pub fn make(child: Creation, owner: Option<OwnerId>) -> Outgoing {
    let (run, commit) = child.into_parts();
    Outgoing::Create { run, owner, commit: Box::new(commit) }
}

/// Cancels a child with the next commit of its parent. It is cancelled once, however often that is asked for.
///
/// # Errors
/// [`FormatError::NothingToSignWith`] if there is no secret.
pub fn cancel(parent: RunId, child: RunId, signer: &Signer) -> Result<Outgoing, Error> {
    // No other message to the child has the name of its parent.
    let id = *parent.as_bytes();
    let body = entry::encode_wish(child, &Slot::Inbox { id, kind: CANCEL }, &signer.secrets)?;
    let message = Message { id, kind: CANCEL, body: body.into() };
    Ok(Outgoing::Send { to: child, message, if_over: IfOver::Drop })
}

/// Tells a parent of the end of its child. All of it is signed.
///
/// # Errors
/// As [`entry::encode`].
pub fn tell(parent: RunId, child: RunId, end: &ChildEnd<Value>, signer: &Signer) -> Result<Outgoing, Error> {
    let id = *child.as_bytes();
    let class = if end.is_failure() { FAILURE } else { RESULT };
    let event = EncodedEvent { class: class.into(), body: Body::Whole(end.value().clone()) };
    let body = entry::encode(parent, &Slot::Inbox { id, kind: CHILD_ENDED }, &event, &signer.secrets, true)?;
    let message = Message { id, kind: CHILD_ENDED, body: body.into() };
    Ok(Outgoing::Send { to: parent, message, if_over: IfOver::Drop })
}

/// Cancels a child of a run, with its next commit. Says whether the child was still going on, as far as its parent
/// knows.
///
/// # Errors
/// As [`cancel`].
pub fn cancel_child<H: Host>(parent: &mut Run<H>, child: RunId, signer: &Signer) -> Result<bool, Error> {
    if parent.phase() != Phase::Running || !parent.has_open_child(child) {
        return Ok(false);
    }
    parent.write_to_child(cancel(parent.id(), child, signer)?);
    Ok(true)
}

/// Cancels the children of a run that no body awaits any more, with its next commit. Says whether there were any.
///
/// # Errors
/// As [`cancel`].
pub fn cancel_void<H: Host>(parent: &mut Run<H>, signer: &Signer) -> Result<bool, Error> {
    let mut are_any = false;
    for child in parent.take_void_children() {
        are_any |= cancel_child(parent, child, signer)?;
    }
    Ok(are_any)
}

/// What an entry of the parent's inbox says of the end of a child.
///
/// # Errors
/// As [`Trusted::event`]; [`FormatError::Malformed`] if it says nothing of that.
pub fn end_told(entry: &Entry, signer: &Signer) -> Result<ChildEnd<Value>, Error> {
    let slot = Slot::Inbox { id: entry.id, kind: entry.kind };
    let event = Trusted::Signed(signer).event(entry.run, &slot, entry.body.clone().into())?;
    match (&*event.class, event.body) {
        (RESULT, Body::Whole(value)) => Ok(ChildEnd::Result(value)),
        (FAILURE, Body::Whole(value)) => Ok(ChildEnd::Failure(value)),
        _ => Err(FormatError::Malformed { at: 0, why: "a message says nothing of the end of a child" }.into()),
    }
}

/// What a run writes to its family with its last commit: its children that are not to outlive it are cancelled, and its
/// parent, if it has one, is told what it gave.
///
/// # Errors
/// As [`cancel`] and [`tell`].
pub fn last_words<H: Host>(
    run: &Run<H>,
    gave: Option<&ChildEnd<Value>>,
    signer: &Signer,
) -> Result<Vec<Outgoing>, Error> {
    let bound = run.open_children().filter(|(_, child)| child.on_parent_end == OnParentEnd::Cancel);
    let mut bound: Vec<_> = bound.map(|(child, _)| child).collect();
    bound.sort_unstable();
    let mut last = bound.into_iter().map(|child| cancel(run.id(), child, signer)).collect::<Result<Vec<_>, _>>()?;
    if let (Some(family), Some(gave)) = (run.family(), gave) {
        last.push(tell(family.parent, run.id(), gave, signer)?);
    }
    Ok(last)
}

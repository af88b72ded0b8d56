//! What the runs of a family write to each other, in the journal of all of them.
//!
//! A parent makes a child in the commit that records it, and cancels it in the commit that records that, or in its last
//! one. A child tells its parent of its end in its own last commit. So there is no moment at which one has happened
//! and the other has not.

use crate::child::{ChildEnd, Family, OnParentEnd, OpenChild};
use crate::error::{Error, FormatError};
use crate::event::{Body, EncodedEvent};
use crate::journal::kind::{CANCEL, CHILD_ENDED};
use crate::journal::{IfOver, Message, NewRun, Outgoing, OwnerId, Signer, Slot, entry};
use crate::run_id::RunId;
use crate::value::Value;
use crate::writer::Creation;

const RESULT: &str = "result";
const FAILURE: &str = "failure";

/// Puts a new run into its family.
pub fn join(run: &mut NewRun, family: Family) {
    (run.parent, run.root, run.depth) = (Some(family.parent), Some(family.root), family.depth);
}

/// Makes a child with the next commit of its parent, to be executed by this process first.
pub fn make(child: Creation, owner: OwnerId) -> Outgoing {
    let (run, commit) = child.into_parts();
    Outgoing::Create { run, owner: Some(owner), commit: Box::new(commit) }
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

/// What a message says of the end of a child.
///
/// # Errors
/// [`FormatError::Malformed`] if it says nothing of that.
pub fn told(event: EncodedEvent) -> Result<ChildEnd<Value>, Error> {
    match (&*event.class, event.body) {
        (RESULT, Body::Whole(value)) => Ok(ChildEnd::Result(value)),
        (FAILURE, Body::Whole(value)) => Ok(ChildEnd::Failure(value)),
        _ => Err(FormatError::Malformed { at: 0, why: "a message says nothing of the end of a child" }.into()),
    }
}

/// What a run writes to its children with its last commit: those that are not to outlive it are cancelled.
///
/// # Errors
/// As [`cancel`].
pub fn last_words<'a>(
    run: RunId,
    children: impl Iterator<Item = (RunId, &'a OpenChild)>,
    signer: &Signer,
) -> Result<Vec<Outgoing>, Error> {
    let bound = children.filter(|(_, child)| child.on_parent_end == OnParentEnd::Cancel);
    bound.map(|(child, _)| cancel(run, child, signer)).collect()
}

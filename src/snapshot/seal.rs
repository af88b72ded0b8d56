//! The body of a snapshot, written.

use std::sync::Arc;

use crate::child::OnParentEnd;
use crate::error::FormatError;
use crate::event::EncodedEvent;
use crate::image::{EncodedImage, Grouped, Pending, Status};
use crate::memo::Kept;
use crate::replay::{Collection, Replay};
use crate::secret::Key;
use crate::wire::place::{At, Place, Within};
use crate::wire::write::{Known, Writer, room_for_event, room_for_value};

use super::head::trailer_len;

type Done = Result<(), FormatError>;

/// About how many bytes the body takes.
pub(super) fn room(image: &EncodedImage) -> usize {
    const NAMES: usize = 1024;
    const PENDING: usize = 32;
    let state = image.state.iter().map(|(key, value)| key.len() + 5 + room_for_value(value));
    let pending = image.pending.values().map(|it| PENDING + room_for_event(&it.event) + room_for_replay(&it.replay));
    let groups = image.groups.values().map(|it| PENDING + it.collected.pending().map(room_for_event).sum::<usize>());
    let kept = image.kept.values().map(|event| PENDING + room_for_event(event));
    let held = image.held.iter().map(|held| PENDING + room_for_event(&held.event));
    let waits = (image.waits.len() + image.children.len()) * PENDING;
    NAMES + waits + state.chain(pending).chain(groups).chain(kept).chain(held).sum::<usize>()
}

fn room_for_replay(replay: &Replay<EncodedEvent, Arc<str>>) -> usize {
    const MEMO: usize = 64;
    let received = replay.received.iter().map(room_for_event);
    let collected = replay.collected.iter().flat_map(|call| call.events.iter().flatten()).map(room_for_event);
    let failures = replay.failures.iter().map(|failure| failure.text.len() + 10);
    let numbers = 9 * (replay.sent.len() + 3 * replay.deadlines.len() + 3 * replay.collected.len());
    let memos = replay.memos.iter();
    let memos = memos.map(|(_, memo)| {
        let inside =
            if let Kept::Child(child) = &memo.kept { child.inside.as_ref().map_or(0, |it| it.len()) } else { 0 };
        MEMO + memo.call.name.len() + inside + memo.kept.value().map_or(0, room_for_value)
    });
    numbers + received.chain(collected).chain(failures).chain(memos).sum::<usize>()
}

/// Writes the body behind what is there.
pub(super) fn body(
    image: &EncodedImage,
    within: Within,
    key: Option<&Key>,
    bytes: Vec<u8>,
) -> Result<Vec<u8>, FormatError> {
    let mut to = Writer::new(bytes, image.id, within, key, Some(Known::default()));
    let has_family = image.family.is_some() || !image.children.is_empty();
    to.array(match (image.timeout, image.begun) {
        _ if has_family => 20,
        (Some(_), _) => 18,
        (None, Some(_)) => 17,
        (None, None) => 16,
    })?;
    to.bytes(image.id.as_bytes())?;
    to.text(&image.workflow)?;
    to.array(image.steps.len())?;
    image.steps.iter().try_for_each(|name| to.text(name))?;
    to.uint(image.created);
    to.maybe_uint(image.deadline);
    to.uint(match image.status {
        Status::Running => 0,
        Status::Paused => 1,
        Status::Ended => 2,
    });
    [image.delivered, image.waited, image.grouped, image.published].into_iter().for_each(|number| to.uint(number));
    state(&mut to, image)?;
    pending(&mut to, image)?;
    waits(&mut to, image)?;
    groups(&mut to, image)?;
    loose_events(&mut to, image)?;
    match (image.timeout, image.begun) {
        (timeout, begun) if has_family => {
            to.maybe_uint(begun);
            to.maybe_uint(timeout);
            family(&mut to, image)?;
        }
        (Some(timeout), begun) => {
            to.maybe_uint(begun);
            to.uint(timeout);
        }
        (None, Some(begun)) => to.uint(begun),
        (None, None) => {}
    }
    to.finish(trailer_len(key.is_some()))
}

fn family(to: &mut Writer<'_>, image: &EncodedImage) -> Done {
    match &image.family {
        Some(family) => {
            to.array(3)?;
            to.bytes(family.parent.as_bytes())?;
            to.bytes(family.root.as_bytes())?;
            to.uint(u64::from(family.depth));
        }
        None => to.nil(),
    }
    to.array(image.children.len())?;
    for (id, child) in &image.children {
        to.array(4)?;
        to.bytes(id.as_bytes())?;
        to.uint(child.seq);
        to.uint(child.number);
        to.bool(child.on_parent_end == OnParentEnd::Detach);
    }
    Ok(())
}

fn state<'a>(to: &mut Writer<'a>, image: &'a EncodedImage) -> Done {
    to.map(image.state.len())?;
    for (key, value) in image.state.iter() {
        to.text(key)?;
        to.value(value, &Place { at: At::State, owner: "", name: Some(key) })?;
    }
    Ok(())
}

fn pending<'a>(to: &mut Writer<'a>, image: &'a EncodedImage) -> Done {
    to.array(image.pending.len())?;
    for (&seq, Pending { step, attempt, due, since, event, replay }) in &image.pending {
        to.array(7)?;
        to.uint(seq);
        to.uint(u64::from(step.0));
        to.uint(u64::from(*attempt));
        to.maybe_uint(*due);
        to.maybe_uint(*since);
        to.event(event, At::Pending { seq })?;
        if replay.is_empty() {
            to.nil();
        } else {
            self::replay(to, replay, seq)?;
        }
    }
    Ok(())
}

fn replay<'a>(to: &mut Writer<'a>, replay: &'a Replay<EncodedEvent, Arc<str>>, seq: u64) -> Done {
    to.array(if replay.memos.is_empty() { 5 } else { 6 })?;
    to.array(replay.failures.len())?;
    for failure in &replay.failures {
        to.array(2)?;
        to.uint(u64::from(failure.attempt));
        to.text(&failure.text)?;
    }
    to.events(&replay.received, |index| At::Received { seq, index })?;
    to.array(replay.collected.len())?;
    for (call, collection) in replay.collected.iter().enumerate() {
        self::collection(to, collection, seq, call)?;
    }
    to.array(replay.sent.len())?;
    replay.sent.iter().for_each(|&digest| to.uint(digest));
    to.array(replay.deadlines.len())?;
    for &(wanted, at) in &replay.deadlines {
        to.array(3)?;
        to.wanted(wanted);
        to.uint(at);
    }
    if replay.memos.is_empty() {
        return Ok(());
    }
    to.array(replay.memos.len())?;
    for (number, memo) in replay.memos.iter() {
        to.array(2)?;
        to.uint(number);
        to.memo(memo, At::Memo { seq, number })?;
    }
    Ok(())
}

fn collection<'a>(
    to: &mut Writer<'a>,
    collection: &'a Collection<EncodedEvent, Arc<str>>,
    seq: u64,
    call: usize,
) -> Done {
    to.array(3)?;
    to.maybe_text(collection.key.as_deref())?;
    to.expected(&collection.expected)?;
    match &collection.events {
        Some(events) => to.events(events, |index| At::Collected { seq, call, index }),
        None => {
            to.nil();
            Ok(())
        }
    }
}

fn waits<'a>(to: &mut Writer<'a>, image: &'a EncodedImage) -> Done {
    to.array(image.waits.len())?;
    for (&number, waiting) in &image.waits {
        to.array(4)?;
        to.uint(number);
        to.uint(waiting.seq);
        to.maybe_name(waiting.class.as_ref())?;
        to.maybe_uint(waiting.due);
    }
    Ok(())
}

fn groups<'a>(to: &mut Writer<'a>, image: &'a EncodedImage) -> Done {
    to.array(image.groups.len())?;
    for (&group, Grouped { step, key, collected }) in &image.groups {
        to.array(5)?;
        to.uint(group);
        to.uint(u64::from(step.0));
        to.maybe_text(key.as_deref())?;
        to.expected(collected.expected())?;
        to.grouped(collected);
        let mut classes: Vec<_> = collected.pending_by_class().collect();
        classes.sort_unstable_by_key(|(class, _)| *class);
        let mut indexes = 0..;
        to.array(classes.len())?;
        for (class, events) in classes {
            to.array(2)?;
            to.name(class)?;
            to.array(events.len())?;
            for (event, index) in events.iter().zip(&mut indexes) {
                to.event(event, At::Group { group, index })?;
            }
        }
    }
    Ok(())
}

fn loose_events<'a>(to: &mut Writer<'a>, image: &'a EncodedImage) -> Done {
    to.array(image.kept.len())?;
    for (&number, event) in &image.kept {
        to.array(2)?;
        to.uint(number);
        to.event(event, At::Kept { number })?;
    }
    to.array(image.held.len())?;
    for (index, held) in image.held.iter().enumerate() {
        to.array(2)?;
        to.bool(held.is_from_outside);
        to.event(&held.event, At::Held { index })?;
    }
    Ok(())
}

//! The body of a snapshot, read.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::child::{Family, OnParentEnd, OpenChild};
use crate::error::FormatError;
use crate::event::{EncodedEvent, StepId};
use crate::image::{EncodedImage, Grouped, Held, Image, Pending, Status, Waiting};
use crate::memo::Memos;
use crate::replay::{Collection, Failure, Replay};
use crate::run_id::RunId;
use crate::value::Value;
use crate::wire::place::{At, Place, Within};
use crate::wire::read::{Known, Reader, Trust};

type Result<T> = std::result::Result<T, FormatError>;

/// Reads a body, which must fill its part of the bytes.
pub(super) fn body(bytes: &Bytes, part: Range<usize>, within: Within, trust: Trust<'_>) -> Result<EncodedImage> {
    let mut from = Reader::new(bytes, part, within, trust, Some(Known::default()));
    let from = &mut from;
    // The time of the first step came later, a run's own timeout after that, and then families. What is not known at the
    // end is left out.
    let length = from.array()?;
    if !matches!(length, 16..=18 | 20) {
        return Err(from.malformed("a body has 16 to 18 parts, or 20"));
    }
    let id = RunId::from_bytes(from.bytes()?);
    from.set_run(id);
    let workflow = from.text()?;
    let steps = from.list(1, |from, _| Ok(from.text()?.into()))?;
    let created = from.uint()?;
    let deadline = from.maybe(Reader::uint)?;
    let mut image = Image::new(id, workflow, steps, created, deadline);
    image.status = match from.uint()? {
        0 => Status::Running,
        1 => Status::Paused,
        2 => Status::Ended,
        _ => return Err(from.malformed("a run has no such status")),
    };
    image.delivered = from.uint()?;
    image.waited = from.uint()?;
    image.grouped = from.uint()?;
    image.published = from.uint()?;
    state(from, &mut image)?;
    image.pending = numbered(from, 7, pending)?;
    image.waits = numbered(from, 4, waiting)?;
    image.groups = numbered(from, 5, group)?;
    image.kept = numbered(from, 2, |from, number| from.event(At::Kept { number }))?;
    let held = from.list(5, |from, index| {
        from.array_of(2)?;
        Ok(Held { is_from_outside: from.bool()?, event: from.event(At::Held { index })? })
    })?;
    image.held = held.into();
    if length == 17 {
        image.begun = Some(from.uint()?);
    }
    if length == 18 {
        image.begun = from.maybe(Reader::uint)?;
        image.timeout = Some(from.uint()?);
    }
    if length == 20 {
        image.begun = from.maybe(Reader::uint)?;
        image.timeout = from.maybe(Reader::uint)?;
        family(from, &mut image)?;
    }
    from.finish()?;
    Ok(image)
}

/// A list of lists of a length, each of which begins with a number; the numbers ascend.
fn numbered<T>(
    from: &mut Reader<'_>,
    length: usize,
    mut read: impl FnMut(&mut Reader<'_>, u64) -> Result<T>,
) -> Result<BTreeMap<u64, T>> {
    let mut last = None;
    let mut map = BTreeMap::new();
    for _ in 0..from.array()? {
        from.array_of(length)?;
        let number = from.uint()?;
        if last.replace(number).is_some_and(|last| last >= number) {
            return Err(from.malformed("numbers do not ascend"));
        }
        map.insert(number, read(from, number)?);
    }
    Ok(map)
}

fn family(from: &mut Reader<'_>, image: &mut EncodedImage) -> Result<()> {
    const LEAST: usize = 21;
    image.family = from.maybe(|from| {
        from.array_of(3)?;
        let (parent, root) = (RunId::from_bytes(from.bytes()?), RunId::from_bytes(from.bytes()?));
        Ok(Family { parent, root, depth: from.small_uint()? })
    })?;
    let children = from.list(LEAST, |from, _| {
        from.array_of(4)?;
        let id = RunId::from_bytes(from.bytes()?);
        let (seq, number) = (from.uint()?, from.uint()?);
        let on_parent_end = if from.bool()? { OnParentEnd::Detach } else { OnParentEnd::Cancel };
        Ok((id, OpenChild { seq, number, on_parent_end }))
    })?;
    if children.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        return Err(from.malformed("the children are not in order"));
    }
    if image.family.is_none() && children.is_empty() {
        return Err(from.malformed("a run without a family has no place for it"));
    }
    image.children = children.into_iter().collect();
    Ok(())
}

fn state(from: &mut Reader<'_>, image: &mut EncodedImage) -> Result<()> {
    for _ in 0..from.map()? {
        let key = from.text()?;
        let place = Place { at: At::State, owner: "", name: Some(key) };
        let value = from.value(&place)?;
        if image.state.set(key, value).is_some() {
            return Err(FormatError::Doubled { place: place.to_string() });
        }
    }
    Ok(())
}

fn pending(from: &mut Reader<'_>, seq: u64) -> Result<Pending<EncodedEvent, Arc<str>>> {
    Ok(Pending {
        step: StepId(from.small_uint()?),
        attempt: from.small_uint()?,
        due: from.maybe(Reader::uint)?,
        since: from.maybe(Reader::uint)?,
        event: from.event(At::Pending { seq })?,
        replay: from.maybe(|from| replay(from, seq))?.unwrap_or_default(),
    })
}

fn replay(from: &mut Reader<'_>, seq: u64) -> Result<Replay<EncodedEvent, Arc<str>>> {
    let mut replay = Replay::default();
    // Those before version 3 have no memos.
    let length = from.array()?;
    if !matches!(length, 5 | 6) {
        return Err(from.malformed("a history has 5 or 6 parts"));
    }
    replay.failures = from.list(3, |from, _| {
        from.array_of(2)?;
        Ok(Failure { attempt: from.small_uint()?, text: from.text()?.into() })
    })?;
    replay.received = from.events(|index| At::Received { seq, index })?;
    replay.collected = from.list(4, |from, call| collection(from, seq, call))?;
    replay.sent = from.list(1, |from, _| from.uint())?;
    replay.deadlines = from.list(4, |from, _| {
        from.array_of(3)?;
        Ok((from.wanted()?, from.uint()?))
    })?;
    if length == 6 {
        replay.memos = memos(from, seq)?;
    }
    if replay.is_empty() { Err(from.malformed("nothing to remember takes no place")) } else { Ok(replay) }
}

fn memos(from: &mut Reader<'_>, seq: u64) -> Result<Memos<Value>> {
    let memos = numbered(from, 2, |from, number| from.memo(At::Memo { seq, number }))?;
    if memos.is_empty() { Err(from.malformed("no memos take no place")) } else { Ok(memos.into_iter().collect()) }
}

fn collection(from: &mut Reader<'_>, seq: u64, call: usize) -> Result<Collection<EncodedEvent, Arc<str>>> {
    from.array_of(3)?;
    Ok(Collection {
        key: from.maybe(|from| Ok(from.text()?.into()))?,
        expected: from.expected()?,
        events: from.maybe(|from| from.events(|index| At::Collected { seq, call, index }))?,
    })
}

fn waiting(from: &mut Reader<'_>, _number: u64) -> Result<Waiting<Arc<str>>> {
    Ok(Waiting { seq: from.uint()?, class: from.maybe(Reader::name)?, due: from.maybe(Reader::uint)? })
}

fn group(from: &mut Reader<'_>, group: u64) -> Result<Grouped<EncodedEvent, Arc<str>>> {
    let step = StepId(from.small_uint()?);
    let key = from.maybe(|from| Ok(from.text()?.into()))?;
    let mut collected = from.group()?;
    let mut last: Option<Arc<str>> = None;
    let mut index = 0;
    for _ in 0..from.array()? {
        from.array_of(2)?;
        let class = from.name()?;
        if last.replace(class.clone()).is_some_and(|last| last >= class) {
            return Err(from.malformed("the classes of collected events are not in order"));
        }
        let count = from.array()?;
        if count == 0 {
            return Err(from.malformed("a class without collected events takes no place"));
        }
        for _ in 0..count {
            let event = from.event(At::Group { group, index })?;
            match collected.add(class.clone(), event) {
                Ok(None) => index += 1,
                Ok(Some(_)) => return Err(from.malformed("a group is complete, but was not given")),
                Err(_) => return Err(from.malformed("a group has an event that it does not expect")),
            }
        }
    }
    Ok(Grouped { step, key, collected })
}

//! Children: runs that the body of a step in flight has started, and which its run knows until they end.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::flight::Place;
use super::{Host, HostDelivery, Phase, Run, Slot};
use crate::child::{Child, ChildEnd, Family, OnParentEnd, OpenChild};
use crate::error::Error;
use crate::journal::Outgoing;
use crate::memo::{ArgumentsDigest, Begun, Kept, Memo, MemoCall, Strand};
use crate::record::Record;
use crate::run_id::RunId;

/// How deep a family may get, unless a call says otherwise: so a loop of children is found.
pub const MAX_FAMILY_DEPTH: u32 = 100;

/// The children of a run that have not ended.
pub struct Children {
    open: HashMap<RunId, Known>,
    // Children that no body awaits any more: they are to be cancelled.
    void: Vec<RunId>,
    // What the next commit writes to them.
    outgoing: Vec<Outgoing>,
    // Waits for children that have ended while the run was paused: they are over once it goes on.
    ended_waits: Vec<ChildWait>,
}

// One that waits for a child.
#[derive(Clone, Copy)]
struct ChildWait {
    slot: Slot,
    // Whether the body itself awaits it, and no task that it has started.
    is_of_body: bool,
}

struct Known {
    child: OpenChild,
    // The body that knows it, to find its delivery without a search. Another one may run for the delivery by now.
    slot: Option<Slot>,
    waits: Vec<ChildWait>,
}

impl Default for Children {
    fn default() -> Self {
        Self { open: HashMap::new(), void: Vec::new(), outgoing: Vec::new(), ended_waits: Vec::new() }
    }
}

/// Which child a body means.
pub struct ChildCall<'a> {
    /// The name of its call: that of the workflow, and the key if there is one.
    pub name: &'a str,
    /// Whether the name alone tells the call from others.
    pub is_named: bool,
    /// The digest of its input.
    pub input: &'a ArgumentsDigest,
    /// How deep the family may get.
    pub max_depth: u32,
}

/// Whether a child is to be started.
pub enum ChildBegun<'a, V> {
    /// An earlier body has started it: the number of its memo.
    Before(u64, &'a Child<V>),
    /// It is to be started; [`Run::start_child`] keeps it.
    New(MemoCall, Family),
}

impl<H: Host> Run<H> {
    /// Where the run stands among the runs that have started it; nothing if none has.
    pub fn family(&self) -> Option<&Family> {
        self.family.as_deref()
    }

    /// The run belongs to the one that has started it.
    pub fn belong(&mut self, family: Family) {
        self.family = Some(Box::new(family));
    }

    /// Where a child of this run stands.
    pub fn family_of_child(&self) -> Family {
        match self.family() {
            Some(family) => Family { parent: self.id, root: family.root, depth: family.depth.saturating_add(1) },
            None => Family { parent: self.id, root: self.id, depth: 1 },
        }
    }

    /// The body of a step in flight starts a child in one of its strands, or finds the one that an earlier body has
    /// started by the same call.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known, [`Error::StepOver`] if the body is not in flight any more,
    /// [`Error::TooDeep`] if the family is as deep as it may get, [`Error::OtherInput`] if the name alone tells the call,
    /// and it was made with another input.
    pub fn begin_child(
        &mut self,
        slot: Slot,
        strand: Strand,
        call: &ChildCall<'_>,
    ) -> Result<ChildBegun<'_, H::Value>, Error> {
        if self.phase != Phase::Running {
            return Err(Error::RunEnded);
        }
        let family = self.family_of_child();
        let flight = self.flight_mut(slot).ok_or(Error::StepOver)?;
        // First: a call that is refused is none.
        if family.depth > call.max_depth {
            return Err(Error::TooDeep { depth: family.depth });
        }
        let memos = &mut flight.delivery.replay_mut().memos;
        let begun = match call.is_named {
            true => memos.begin_named(call.name, call.input).map_err(|_| Error::OtherInput)?,
            false => memos.begin(strand, call.name, call.input),
        };
        let number = match begun {
            Begun::New(call) => return Ok(ChildBegun::New(call, family)),
            Begun::Before(number) => number,
        };
        let known = match memos.get(number).map(|memo| &memo.kept) {
            Some(Kept::Child(child)) => child.id,
            // Another call of this name: none has the digest of an input, unless it was made up.
            _ => return Err(Error::OtherInput),
        };
        if let Some(known) = self.children.get_mut().and_then(|children| children.open.get_mut(&known)) {
            known.slot = Some(slot);
        }
        match self.delivery(slot).and_then(|delivery| delivery.replay.as_deref()?.memos.get(number)).map(|it| &it.kept)
        {
            Some(Kept::Child(child)) => Ok(ChildBegun::Before(number, child)),
            _ => Err(Error::StepOver),
        }
    }

    /// A child that is new has been made: it is known from now on. Gives the number of its memo, and what is void by
    /// that.
    ///
    /// # Errors
    /// As [`Run::begin_child`].
    pub fn start_child(
        &mut self,
        slot: Slot,
        strand: Strand,
        call: MemoCall,
        child: Child<H::Value>,
    ) -> Result<(u64, super::Unkept<H::Value>), Error> {
        let (id, on_parent_end) = (child.id, child.on_parent_end);
        let memo = Memo { call, kept: Kept::Child(Box::new(child)) };
        let unkept = self.keep_memo(slot, strand, memo).map_err(|(error, _)| error)?;
        let number = self.last_memo(slot).ok_or(Error::StepOver)?;
        let child = OpenChild { seq: slot.seq, number, on_parent_end };
        self.children.make().open.insert(id, Known { child, slot: Some(slot), waits: Vec::new() });
        Ok((number, unkept))
    }

    fn last_memo(&self, slot: Slot) -> Option<u64> {
        let replay = self.delivery(slot)?.replay.as_deref()?;
        replay.memos.next_number().checked_sub(1)
    }

    /// A child has ended: what it gave is kept for the bodies that ask for it.
    ///
    /// # Errors
    /// What it gave, if the run is over or has no such child that has not ended.
    pub fn end_child(
        &mut self,
        id: RunId,
        end: ChildEnd<H::Value>,
    ) -> Result<Option<ChildEnd<H::Value>>, ChildEnd<H::Value>> {
        if self.phase != Phase::Running {
            return Err(end);
        }
        let Some(known) = self.children.get_mut().and_then(|children| children.open.remove(&id)) else {
            return Err(end);
        };
        self.record(|| Record::ChildEnded { child: id, end: end.copied(H::copy_value) });
        // Over at once, though the body goes on only later: with the end consumed nothing else would wake the run.
        match self.is_paused {
            true => self.children.make().ended_waits.extend(&known.waits),
            false => known.waits.iter().for_each(|wait| self.finish_wait(wait.slot, wait.is_of_body)),
        }
        let Some(delivery) = self.delivery_of(&known) else { return Ok(Some(end)) };
        Ok(delivery.replay_mut().memos.end_child(known.child.number, id, end).err())
    }

    fn delivery_of(&mut self, known: &Known) -> Option<&mut HostDelivery<H>> {
        let seq = known.child.seq;
        if let Some(slot) = known.slot.filter(|slot| self.flight(*slot).is_some()) {
            return self.flight_mut(slot).map(|flight| &mut flight.delivery);
        }
        if self.retries.get().is_some_and(|retries| retries.contains_key(&seq)) {
            return self.retries.make().get_mut(&seq);
        }
        let place = self.flights.iter().position(|place| matches!(place, Place::Taken(it) if it.delivery.seq == seq));
        match place {
            Some(place) => match &mut self.flights[place] {
                Place::Taken(flight) => Some(&mut flight.delivery),
                Place::Free(_) => None,
            },
            None => self.queue.find_mut(seq),
        }
    }

    /// What a child gave that the body of a step in flight has started; nothing as long as it has not ended, or if its
    /// memo is void.
    pub fn child_end(&self, slot: Slot, number: u64) -> Option<&ChildEnd<H::Value>> {
        match &self.delivery(slot)?.replay.as_deref()?.memos.get(number)?.kept {
            Kept::Child(child) => child.end.as_ref(),
            _ => None,
        }
    }

    /// Takes the snapshot out of a child that was inside the snapshot of this run.
    pub fn take_inside(&mut self, slot: Slot, number: u64) -> Option<bytes::Bytes> {
        self.flight_mut(slot)?.delivery.replay_mut().memos.child_mut(number)?.inside.take()
    }

    /// Whether a child that the body of a step in flight has found is to be started anew: it had not ended when the run
    /// began again from a point of its history.
    pub fn is_to_be_made(&self, slot: Slot, number: u64) -> bool {
        let memos = self.delivery(slot).and_then(|delivery| delivery.replay.as_deref()).map(|replay| &replay.memos);
        match memos.and_then(|memos| memos.get(number)).map(|memo| &memo.kept) {
            Some(Kept::Child(child)) => child.end.is_none() && child.inside.is_some(),
            _ => false,
        }
    }

    /// Starts such a child anew, with the next commit. Says whether it was to be.
    pub fn make_again(&mut self, slot: Slot, number: u64, made: Outgoing) -> bool {
        let is_due = self.is_to_be_made(slot, number);
        if is_due {
            self.take_inside(slot, number);
            self.write_to_child(made);
        }
        is_due
    }

    /// The children that have not ended.
    pub fn open_children(&self) -> impl Iterator<Item = (RunId, &OpenChild)> {
        self.children.get().into_iter().flat_map(|children| &children.open).map(|(id, known)| (*id, &known.child))
    }

    /// Whether it is a child that has not ended.
    pub fn has_open_child(&self, id: RunId) -> bool {
        self.children.get().is_some_and(|children| children.open.contains_key(&id))
    }

    /// The children to be cancelled by now, since no body awaits them any more: each once.
    pub fn take_void_children(&mut self) -> Vec<RunId> {
        self.children.get_mut().map(|children| std::mem::take(&mut children.void)).unwrap_or_default()
    }

    /// The memos of these children are forgotten.
    pub(super) fn void_children(&mut self, unkept: &[Kept<H::Value>]) {
        for kept in unkept {
            if let Kept::Child(child) = kept
                && child.end.is_none()
                && child.on_parent_end == OnParentEnd::Cancel
            {
                self.children.make().void.push(child.id);
            }
        }
    }

    /// The next commit makes a child, or sends one a message: in the transaction of the records that say so.
    pub fn write_to_child(&mut self, outgoing: Outgoing) {
        self.children.make().outgoing.push(outgoing);
    }

    /// Whether the next commit writes to children.
    pub fn writes_to_children(&self) -> bool {
        self.children.get().is_some_and(|children| !children.outgoing.is_empty())
    }

    /// What the next commit writes to children.
    pub fn take_outgoing(&mut self) -> Vec<Outgoing> {
        self.children.get_mut().map(|children| std::mem::take(&mut children.outgoing)).unwrap_or_default()
    }

    pub(super) fn open(&mut self, children: BTreeMap<RunId, OpenChild>) {
        if !children.is_empty() {
            let known = children.into_iter().map(|(id, child)| (id, Known { child, slot: None, waits: Vec::new() }));
            self.children.make().open.extend(known);
        }
    }

    /// The body of a step in flight, or a task that it has started, waits for a child that has not ended.
    pub fn await_child(&mut self, slot: Slot, id: RunId, is_of_body: bool) {
        let known = self.children.get_mut().and_then(|children| children.open.get_mut(&id));
        let Some(known) = known else { return };
        known.waits.push(ChildWait { slot, is_of_body });
        self.begin_wait(slot);
        if let Some(flight) = self.flight_mut(slot) {
            flight.body_waits += u32::from(is_of_body);
        }
    }

    /// A wait for a child is over: the child has ended, or is not awaited any longer.
    pub fn child_awaited(&mut self, slot: Slot, id: RunId) {
        let Some(children) = self.children.get_mut() else { return };
        let waits = match children.open.get_mut(&id) {
            Some(known) => &mut known.waits,
            None => &mut children.ended_waits,
        };
        let Some(at) = waits.iter().position(|wait| wait.slot == slot) else { return };
        let wait = waits.swap_remove(at);
        self.finish_wait(slot, wait.is_of_body);
    }

    /// The run goes on after a pause: nothing waits any more for children that have ended meanwhile.
    pub(super) fn finish_waits_for_ended(&mut self) {
        let ended = self.children.get_mut().map(|children| std::mem::take(&mut children.ended_waits));
        ended.into_iter().flatten().for_each(|wait| self.finish_wait(wait.slot, wait.is_of_body));
    }
}

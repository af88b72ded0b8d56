//! Gathering events: groups of one step, told apart by a key and by what is expected.

use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};

use super::{Host, Phase, Run, Slot};
use crate::event::StepId;
use crate::queue::Collected;
use crate::rare::Rare;
use crate::record::Record;
use crate::replay::Collection;
use crate::{Error, Refused};

/// What a call of `collect` gives.
#[derive(Debug, PartialEq, Eq)]
pub struct Gathered<E, C> {
    /// The events, in the order of the expected classes; nothing if the group is not complete.
    pub events: Option<Vec<E>>,
    /// What the run lets go of, for the host to drop where foreign code may run.
    pub remains: Option<Leftover<E, C>>,
}

/// What is left of a group that is complete, or of a call that was made before.
#[derive(Debug, PartialEq, Eq)]
pub enum Leftover<E, C> {
    /// The classes of a group that is gone.
    Classes(Arc<[C]>, Vec<C>),
    /// An event that was collected before.
    Event(E),
}

pub(super) struct Group<H: Host> {
    pub number: u64,
    pub step: StepId,
    pub collected: Collected<H::Class, H::Event>,
}

/// The groups of a run.
pub struct Groups<H: Host> {
    // Several for one key if they expect different classes.
    by_name: Rare<HashMap<GroupKey, Vec<Group<H>>>>,
    pub(super) begun: u64,
}

impl<H: Host> Default for Groups<H> {
    fn default() -> Self {
        Self { by_name: Rare::default(), begun: 0 }
    }
}

#[derive(PartialEq, Eq, Hash)]
struct GroupKey {
    step: StepId,
    key: Option<Box<str>>,
}

#[derive(Hash)]
struct GroupName<'a> {
    step: StepId,
    key: Option<&'a str>,
}

impl Equivalent<GroupKey> for GroupName<'_> {
    fn equivalent(&self, key: &GroupKey) -> bool {
        self.step == key.step && self.key == key.key.as_deref()
    }
}

impl<H: Host> Groups<H> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Group<H>> {
        self.by_name.get().into_iter().flat_map(HashMap::values).flatten()
    }

    pub(super) fn iter_named(&self) -> impl Iterator<Item = (Option<&str>, &Group<H>)> {
        let by_name = self.by_name.get().into_iter().flatten();
        by_name.flat_map(|(name, groups)| groups.iter().map(|group| (name.key.as_deref(), group)))
    }

    /// All groups; how many there were stays known.
    pub(super) fn take(&mut self) -> Self {
        let begun = self.begun;
        std::mem::replace(self, Self { begun, ..Self::default() })
    }

    pub(super) fn add(&mut self, key: Option<Box<str>>, group: Group<H>) {
        self.begun = self.begun.max(group.number);
        self.by_name.make().entry(GroupKey { step: group.step, key }).or_default().push(group);
    }
}

/// A call of `collect`: who collects what, under which name.
pub struct Collecting<'a, E> {
    /// The step in flight.
    pub slot: Slot,
    /// Its step.
    pub step: StepId,
    /// The name of the group.
    pub key: Option<&'a str>,
    /// The event to add.
    pub event: E,
}

impl<H: Host> Run<H> {
    /// Gathers an event for a step (see [`Collected`]); groups are told apart by step, key and what is
    /// expected. `same` says whether a group expects what the caller does, `class_of` gives the class
    /// among the expected ones that the event counts for, and `expected` the list, for a new group.
    ///
    /// If an earlier body of the same delivery has made the call, the answer is what it was then.
    ///
    /// # Errors
    /// [`Error::NotExpected`] for an event of another class, [`Error::RunEnded`] once the outcome is known.
    #[allow(clippy::type_complexity)]
    pub fn collect(
        &mut self,
        call: Collecting<'_, H::Event>,
        same: impl Fn(&[H::Class]) -> bool,
        class_of: impl Fn(&dyn Fn(&H::Class) -> bool) -> Option<H::Class>,
        expected: impl FnOnce() -> Arc<[H::Class]>,
    ) -> Result<Gathered<H::Event, H::Class>, Refused<(H::Event, Option<Arc<[H::Class]>>)>> {
        let Collecting { slot, step, key, event } = call;
        if self.phase != Phase::Running {
            return Err(Refused::new(Error::RunEnded, (event, None)));
        }
        if let Some(events) = self.collected_before(slot, key, &same) {
            return Ok(Gathered { events, remains: Some(Leftover::Event(event)) });
        }
        let known = self.groups.by_name.get().and_then(|by_name| by_name.get(&GroupName { step, key }));
        let known = known.and_then(|groups| groups.iter().position(|group| same(group.collected.expected())));
        let Some(at) = known else {
            let expected = expected();
            let fresh = Collected::<H::Class, H::Event>::new(expected.clone());
            let Some(class) = class_of(&|class| fresh.expects(class)) else {
                return Err(Refused::new(Error::NotExpected, (event, Some(expected))));
            };
            return Ok(self.begin_group(slot, (step, key), fresh, class, event));
        };
        let groups = self.groups.by_name.make().get(&GroupName { step, key }).expect("the group was found in it");
        let Some(class) = class_of(&|class| groups[at].collected.expects(class)) else {
            return Err(Refused::new(Error::NotExpected, (event, None)));
        };
        Ok(self.add_to_group(slot, (step, key), at, class, event))
    }

    fn collected_before(
        &mut self,
        slot: Slot,
        key: Option<&str>,
        same: &impl Fn(&[H::Class]) -> bool,
    ) -> Option<Option<Vec<H::Event>>> {
        let replay = self.flight_mut(slot)?.delivery.replay.as_mut()?;
        let call = replay.collected_before(key, same)?;
        Some(call.events.as_ref().map(|events| events.iter().map(H::copy_event).collect()))
    }

    fn begin_group(
        &mut self,
        slot: Slot,
        (step, key): (StepId, Option<&str>),
        collected: Collected<H::Class, H::Event>,
        class: H::Class,
        event: H::Event,
    ) -> Gathered<H::Event, H::Class> {
        self.groups.begun += 1;
        let number = self.groups.begun;
        let expected = collected.expected().clone();
        self.record(|| Record::Grouped { group: number, step, key: key.map(Into::into), expected });
        let groups = self.groups.by_name.make().entry(GroupKey { step, key: key.map(Into::into) }).or_default();
        groups.push(Group { number, step, collected });
        let at = groups.len() - 1;
        self.add_to_group(slot, (step, key), at, class, event)
    }

    fn add_to_group(
        &mut self,
        slot: Slot,
        (step, key): (StepId, Option<&str>),
        at: usize,
        class: H::Class,
        event: H::Event,
    ) -> Gathered<H::Event, H::Class> {
        // A task that a body left behind collects for its step, and no delivery remembers it.
        let seq = self.delivery(slot).map_or(0, |delivery| delivery.seq);
        let groups = self.groups.by_name.make().get_mut(&GroupName { step, key }).expect("the group was found in it");
        let group = &mut groups[at];
        if let Some(log) = &mut self.log {
            let (class, event) = (class.clone(), H::copy_event(&event));
            log.push(Record::Collected { seq, group: group.number, class, event });
            self.recorded += 1;
        }
        let expected = group.collected.expected().clone();
        let events = match group.collected.add(class, event) {
            Ok(events) => events,
            Err(_) => unreachable!("the caller asked the group for the class"),
        };
        // A key that is used once must not be remembered for good.
        let mut remains = None;
        if events.is_some() && group.collected.is_empty() {
            let (expected_left, classes) = groups.swap_remove(at).collected.into_classes();
            remains = Some(Leftover::Classes(expected_left, classes));
            if groups.is_empty() {
                self.groups.by_name.make().remove(&GroupName { step, key });
            }
        }
        if let Some(flight) = self.flight_mut(slot) {
            let events = events.as_ref().map(|events| events.iter().map(H::copy_event).collect());
            flight.delivery.replay_mut().collect(Collection { key: key.map(Into::into), expected, events });
        }
        Gathered { events, remains }
    }
}

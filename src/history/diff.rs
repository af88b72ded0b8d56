//! What differs between two images of a run.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use crate::event::EncodedEvent;
use crate::image::{EncodedImage, Grouped, Held, Pending, Status, Waiting};
use crate::run_id::RunId;
use crate::value::Value;

/// Something that one image has, or the other, or both and not the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference<K, T> {
    /// What tells it from others of its kind.
    pub name: K,
    /// What it was in the earlier image.
    pub before: Option<T>,
    /// What it is in the later one.
    pub after: Option<T>,
}

type Differences<'a, K, T> = Vec<Difference<K, &'a T>>;

/// What differs between two images of a run. What is the same in both is left out.
#[derive(Debug)]
pub struct Diff<'a> {
    /// How far the run was and is, if that has changed.
    pub status: Option<(Status, Status)>,
    /// How many events were published before, and are now, if that has changed.
    pub published: Option<(u64, u64)>,
    /// The keys, in the order of the later image; behind those the ones that are gone.
    pub state: Differences<'a, &'a str, Value>,
    /// The deliveries that are not done.
    pub pending: Differences<'a, u64, Pending<EncodedEvent, Arc<str>>>,
    /// Who waits.
    pub waits: Differences<'a, u64, Waiting<Arc<str>>>,
    /// What steps collect.
    pub groups: Differences<'a, u64, Grouped<EncodedEvent, Arc<str>>>,
    /// Events that nobody has asked for yet.
    pub kept: Differences<'a, u64, EncodedEvent>,
    /// Deferred events. They have no numbers, and their order does not count.
    pub held: Differences<'a, (), Held<EncodedEvent>>,
    /// The children that have not ended, and the deliveries that have started them.
    pub children: Vec<Difference<RunId, u64>>,
}

/// What differs between an earlier image of a run and a later one. Steps are told apart by their names: the images may be
/// of two versions of the workflow.
pub fn diff<'a>(before: &'a EncodedImage, after: &'a EncodedImage) -> Diff<'a> {
    let step_of = |image: &'a EncodedImage, step: crate::StepId| image.steps.get(step.0 as usize);
    let same_steps = |a, b| step_of(before, a) == step_of(after, b);
    let is_same_delivery = |a: &Pending<_, _>, b: &Pending<_, _>| {
        same_steps(a.step, b.step)
            && (a.attempt, a.due, a.since) == (b.attempt, b.due, b.since)
            && a.event == b.event
            && a.replay == b.replay
    };
    let is_same_group = |a: &Grouped<_, _>, b: &Grouped<_, _>| {
        same_steps(a.step, b.step) && a.key == b.key && a.collected == b.collected
    };
    let children = |image: &EncodedImage| image.children.iter().map(|(&id, child)| (id, child.seq)).collect();
    let (was, is): (BTreeMap<_, _>, BTreeMap<_, _>) = (children(before), children(after));
    let children = numbered(&was, &is, PartialEq::eq);
    Diff {
        status: Some((before.status, after.status)).filter(|(was, is)| was != is),
        published: Some((before.published, after.published)).filter(|(was, is)| was != is),
        state: state(before, after),
        pending: numbered(&before.pending, &after.pending, is_same_delivery),
        waits: numbered(&before.waits, &after.waits, PartialEq::eq),
        groups: numbered(&before.groups, &after.groups, is_same_group),
        kept: numbered(&before.kept, &after.kept, PartialEq::eq),
        held: held(before, after),
        children: children
            .into_iter()
            .map(|it| Difference { name: it.name, before: it.before.copied(), after: it.after.copied() })
            .collect(),
    }
}

impl Diff<'_> {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        let is_same = self.status.is_none() && self.published.is_none() && self.state.is_empty();
        let is_idle = self.pending.is_empty() && self.waits.is_empty() && self.groups.is_empty();
        is_same && is_idle && self.kept.is_empty() && self.held.is_empty() && self.children.is_empty()
    }
}

fn state<'a>(before: &'a EncodedImage, after: &'a EncodedImage) -> Differences<'a, &'a str, Value> {
    let now = after.state.iter().map(|(key, value)| (key, before.state.get(key), Some(value)));
    let gone = before.state.iter().filter(|(key, _)| !after.state.contains(key));
    let all = now.chain(gone.map(|(key, value)| (key, Some(value), None)));
    all.filter(|(_, was, is)| was != is).map(|(name, before, after)| Difference { name, before, after }).collect()
}

fn numbered<'a, K: Copy + Ord, T>(
    before: &'a BTreeMap<K, T>,
    after: &'a BTreeMap<K, T>,
    is_same: impl Fn(&T, &T) -> bool,
) -> Differences<'a, K, T> {
    let gone = before.iter().filter(|(name, _)| !after.contains_key(name));
    let gone = gone.map(|(&name, was)| Difference { name, before: Some(was), after: None });
    let now = after.iter().map(|(&name, is)| Difference { name, before: before.get(&name), after: Some(is) });
    let mut all: Vec<_> =
        gone.chain(now).filter(|it| !it.before.zip(it.after).is_some_and(|(a, b)| is_same(a, b))).collect();
    all.sort_by_key(|it| it.name);
    all
}

// Events are released from anywhere and held at both ends: what counts is which there are, and not their order.
fn held<'a>(before: &'a EncodedImage, after: &'a EncodedImage) -> Differences<'a, (), Held<EncodedEvent>> {
    let mut there: HashMap<u128, VecDeque<&Held<EncodedEvent>>> = HashMap::new();
    let mut new = Vec::new();
    before.held.iter().for_each(|held| there.entry(print(held)).or_default().push_back(held));
    for held in &after.held {
        if there.get_mut(&print(held)).and_then(VecDeque::pop_front).is_none() {
            new.push(Difference { name: (), before: None, after: Some(held) });
        }
    }
    // In their order, which the table does not have.
    let mut gone = Vec::new();
    for held in before.held.iter().rev() {
        if there.get_mut(&print(held)).and_then(VecDeque::pop_back).is_some() {
            gone.push(Difference { name: (), before: Some(held), after: None });
        }
    }
    gone.reverse();
    gone.extend(new);
    gone
}

fn print(held: &Held<EncodedEvent>) -> u128 {
    let mut print = Xxh3::new();
    let mut add = |bytes: &[u8]| {
        print.update(&(bytes.len() as u64).to_le_bytes());
        print.update(bytes);
    };
    add(&[u8::from(held.is_from_outside)]);
    add(held.event.class.as_bytes());
    held.event.field_names().for_each(|name| add(name.as_bytes()));
    for value in held.event.values() {
        add(&[value.tag as u8]);
        add(value.class.as_deref().unwrap_or_default().as_bytes());
        add(&value.bytes);
    }
    print.digest128()
}

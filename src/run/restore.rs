//! A run from an image, and back.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use hashbrown::HashSet;

use super::collect::Group;
use super::pause::HeldEvents;
use super::settle::Settling;
use super::wait::KEPT_FROM;
use super::{Deadline, Host, HostDelivery, Phase, Plan, Run};
use crate::event::Delivery;
use crate::image::{Grouped, Image, Pending, Status, Waiting};
use crate::memo::Memo;
use crate::queue::Collected;
use crate::replay::{Collection, Replay};

/// An image of a host's run.
pub type HostImage<H> = Image<<H as Host>::Event, <H as Host>::Value, <H as Host>::Class>;

type HostPending<H> = Pending<<H as Host>::Event, <H as Host>::Class, <H as Host>::Value>;
type HostReplay<H> = Replay<<H as Host>::Event, <H as Host>::Class, <H as Host>::Value>;

impl<H: Host> Run<H> {
    /// The run as it is at this moment, as plain data: more references to what it holds, in one consistent cut.
    pub fn image(&self) -> HostImage<H> {
        let steps = self.plan.steps.iter().map(|step| step.name.clone()).collect();
        let mut image = Image::new(self.id, &self.plan.name, steps, self.created, self.deadline);
        image.status = match self.phase {
            Phase::Running if self.is_paused => Status::Paused,
            Phase::Running => Status::Running,
            Phase::Ending | Phase::Ended => Status::Ended,
        };
        image.timeout = self.timeout;
        image.begun = self.begun;
        image.delivered = self.delivered;
        image.waited = self.waits.begun;
        image.grouped = self.groups.begun;
        image.published = self.stream.published();
        image.family = self.family.as_deref().copied();
        image.state = self.store.iter().map(|(key, value)| (key, H::copy_value(value))).collect();
        if self.phase == Phase::Running {
            self.fill(&mut image);
        }
        image
    }

    fn fill(&self, image: &mut HostImage<H>) {
        image.children = self.open_children().map(|(id, child)| (id, *child)).collect();
        let due = self.timers.iter().filter_map(|(at, deadline)| match deadline {
            Deadline::Retry(seq) => Some((*seq, at)),
            _ => None,
        });
        let due: BTreeMap<_, _> = due.collect();
        for delivery in self.deliveries() {
            let pending = Pending { due: due.get(&delivery.seq).copied(), ..pending::<H>(delivery) };
            image.pending.insert(delivery.seq, pending);
        }
        for wait in &self.waits.open {
            let waiting = Waiting { seq: wait.slot.seq, class: wait.class.clone(), due: wait.due };
            image.waits.insert(wait.id.0, waiting);
        }
        let settling = self.settling.get().into_iter().flat_map(Settling::iter);
        image.waits.extend(settling.map(|(wait, waiting)| (wait, waiting.clone())));
        for (key, group) in self.groups.iter_named() {
            let collected = copied::<H>(&group.collected);
            image.groups.insert(group.number, Grouped { step: group.step, key: key.map(Into::into), collected });
        }
        image.kept =
            self.kept.get().into_iter().flatten().map(|(number, event)| (*number, H::copy_event(event))).collect();
        let held = self.held.get().into_iter().flat_map(HeldEvents::iter);
        image.held = held.map(|held| crate::image::Held { event: H::copy_event(&held.event), ..*held }).collect();
    }

    /// Goes on where an image stands; its steps are those of `plan`, in that order. A step that was in flight
    /// runs its body again, those that waited before all others, so that each waiter is there before an event
    /// comes. A run that is over stays so.
    pub fn restore(image: HostImage<H>, plan: Arc<Plan>) -> Self {
        let mut run = Self::new(image.id, plan, 0);
        run.created = image.created;
        run.deadline = image.deadline;
        run.timeout = image.timeout;
        run.family = image.family.map(Box::new);
        run.open(image.children);
        run.timers.clear();
        if let Some(deadline) = image.deadline {
            run.timers.add(deadline, Deadline::End);
        }
        if let Some(begun) = image.begun {
            run.begin(begun);
        }
        run.store = image.state;
        run.stream.go_on_after(image.published);
        run.delivered = image.delivered;
        run.waits.begun = image.waited;
        run.is_paused = image.status == Status::Paused;
        run.kept_ever = image.kept.keys().copied().max().unwrap_or(KEPT_FROM).max(KEPT_FROM);
        run.kept_again = KEPT_FROM.saturating_sub(image.kept.keys().copied().min().unwrap_or(KEPT_FROM));
        if !image.kept.is_empty() {
            *run.kept.make() = image.kept.into_iter().collect();
        }
        if !image.held.is_empty() {
            *run.held.make() = image.held.into_iter().collect();
            run.release_all();
        }
        for (number, Grouped { step, key, collected }) in image.groups {
            run.groups.add(key, Group { number, step, collected });
        }
        run.groups.begun = image.grouped;
        let is_pending =
            |waiting: &Waiting<H::Class>| image.pending.get(&waiting.seq).is_some_and(|it| it.due.is_none());
        let (settling, left_behind): (Vec<_>, Vec<_>) =
            image.waits.into_iter().partition(|(_, waiting)| is_pending(waiting));
        if !settling.is_empty() {
            *run.settling.make() = Settling::new(settling);
        }
        if !left_behind.is_empty() {
            *run.left_behind.make() = left_behind.into_iter().map(|(wait, _)| wait).collect();
        }
        run.requeue(image.pending);
        if image.status == Status::Ended {
            run.timers.clear();
            run.phase = Phase::Ended;
        }
        run
    }

    fn requeue(&mut self, pending: BTreeMap<u64, HostPending<H>>) {
        let waited: HashSet<u64> =
            self.settling.get().into_iter().flat_map(Settling::iter).map(|(_, it)| it.seq).collect();
        let mut others = Vec::new();
        for (seq, pending) in pending {
            let due = pending.due;
            let mut delivery = delivery::<H>(seq, pending);
            match due {
                Some(due) => {
                    self.timers.add(due, Deadline::Retry(seq));
                    self.retries.make().insert(seq, delivery);
                }
                None if waited.contains(&seq) => {
                    delivery.is_settling = true;
                    let ready = self.queue.ready();
                    self.queue.push(delivery);
                    // One for which its step has no place may have to wait for what is held.
                    if self.queue.ready() > ready {
                        self.settling.make().delay_for(seq);
                    }
                }
                None => others.push(delivery),
            }
        }
        others.into_iter().for_each(|delivery| self.queue.push(delivery));
    }
}

fn pending<H: Host>(delivery: &HostDelivery<H>) -> HostPending<H> {
    Pending {
        step: delivery.step,
        attempt: delivery.attempt,
        due: None,
        since: delivery.since.map(NonZeroU64::get),
        event: H::copy_event(&delivery.event),
        replay: delivery.replay.as_deref().map(replay::<H>).unwrap_or_default(),
    }
}

fn delivery<H: Host>(seq: u64, pending: HostPending<H>) -> HostDelivery<H> {
    Delivery {
        attempt: pending.attempt,
        since: pending.since.and_then(NonZeroU64::new),
        replay: (!pending.replay.is_empty()).then(|| Box::new(pending.replay)),
        ..Delivery::new(seq, pending.step, pending.event)
    }
}

fn replay<H: Host>(replay: &HostReplay<H>) -> HostReplay<H> {
    let copy_all = |events: &Vec<H::Event>| events.iter().map(H::copy_event).collect();
    let collected = replay.collected.iter().map(|call| Collection {
        key: call.key.clone(),
        expected: Arc::clone(&call.expected),
        events: call.events.as_ref().map(copy_all),
    });
    let mut copy = Replay::default();
    copy.failures = replay.failures.clone();
    copy.received = copy_all(&replay.received);
    copy.collected = collected.collect();
    copy.sent = replay.sent.clone();
    copy.deadlines = replay.deadlines.clone();
    copy.memos = replay.memos.iter().map(|(number, memo)| (number, copied_memo::<H>(memo))).collect();
    copy
}

fn copied_memo<H: Host>(memo: &Memo<H::Value>) -> Memo<H::Value> {
    Memo { call: memo.call.clone(), kept: memo.kept.copied(H::copy_value) }
}

fn copied<H: Host>(collected: &Collected<H::Class, H::Event>) -> Collected<H::Class, H::Event> {
    let mut copy = Collected::new(Arc::clone(collected.expected()));
    for (class, events) in collected.pending_by_class() {
        for event in events {
            let _ = copy.add(class.clone(), H::copy_event(event));
        }
    }
    copy
}

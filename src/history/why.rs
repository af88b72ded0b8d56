//! Why a run waits, or does not go on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::event::{EncodedEvent, StepId};
use crate::image::{EncodedImage, Grouped, Pending, Status, Waiting};
use crate::journal::{OwnerId, Phase, RunRow};
use crate::memo::Kept;
use crate::run_id::RunId;
use crate::timers::Time;

/// One of the reasons for which a run waits, or does not go on. Numbers of deliveries tell which belong together.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason<'a> {
    /// It is over.
    Over(Phase),
    /// No process goes on with it until it is retried: it was taken over too often, or cannot be read.
    Stranded {
        /// What is wrong, for people.
        why: Option<&'a str>,
    },
    /// It is paused: no step starts, and events are held.
    Paused,
    /// A process has it. What follows is what that process has written.
    Executed {
        /// The process.
        by: OwnerId,
    },
    /// It could go on, and no process has it: none is there that has its workflow and room for it.
    NotTaken {
        /// When it may be taken at the earliest, since it has lost its processes.
        not_before: Option<Time>,
        /// Why a process could not go on with it.
        refused: Option<&'a str>,
    },
    /// Messages are in its inbox that no process has taken yet.
    Inbox {
        /// How many.
        messages: u64,
    },
    /// A step waits for an event. What else the event has to match is known to the process alone that executes it.
    Event {
        /// The delivery.
        delivery: u64,
        /// The step.
        step: Option<&'a str>,
        /// The class of events.
        class: &'a Arc<str>,
        /// Until when.
        due: Option<Time>,
    },
    /// A step sleeps.
    Sleep {
        /// The delivery.
        delivery: u64,
        /// The step.
        step: Option<&'a str>,
        /// Until when.
        due: Option<Time>,
    },
    /// A step is to be tried again.
    Retry {
        /// The delivery.
        delivery: u64,
        /// The step.
        step: Option<&'a str>,
        /// The attempt that comes next.
        attempt: u32,
        /// When.
        due: Time,
        /// What the last attempt raised.
        failure: Option<&'a str>,
    },
    /// A run that a step has started has not ended.
    Child {
        /// The delivery.
        delivery: u64,
        /// The step; nothing if it is done.
        step: Option<&'a str>,
        /// The child.
        child: RunId,
        /// Its workflow, if that is known.
        workflow: Option<&'a str>,
    },
    /// A step runs, or would if a process had the run, and neither waits nor sleeps.
    Running {
        /// The delivery.
        delivery: u64,
        /// The step.
        step: Option<&'a str>,
        /// The attempt.
        attempt: u32,
        /// When the first body began.
        since: Time,
    },
    /// An event is queued for a step that has not begun: the step has no room for more, or the run is paused.
    Queued {
        /// The delivery.
        delivery: u64,
        /// The step.
        step: Option<&'a str>,
        /// The class of the event.
        class: &'a Arc<str>,
    },
    /// A step collects events, and not all are there.
    Collecting {
        /// The step.
        step: Option<&'a str>,
        /// The name of the group.
        key: Option<&'a str>,
        /// The classes of which events are missing, and how many.
        missing: Vec<(&'a Arc<str>, usize)>,
        /// How many events there are.
        collected: usize,
    },
    /// Events are held until the run goes on, or until the step waits again that has precedence.
    Deferred {
        /// Their classes and how many there are of each, in the order in which they came.
        events: Vec<(&'a Arc<str>, usize)>,
    },
    /// Events that no step accepts and nobody waits for: a later wait finds them.
    KeptEvents {
        /// Their classes and how many there are of each, in the order in which they came.
        events: Vec<(&'a Arc<str>, usize)>,
    },
    /// The run has to be over by then.
    Deadline {
        /// When.
        at: Time,
    },
}

/// Why a run waits, or does not go on: what concerns all of it comes first. An image is not needed of a run that is over or
/// that cannot be read.
pub fn why<'a>(run: &'a RunRow, image: Option<&'a EncodedImage>) -> Vec<Reason<'a>> {
    let phase = run.phase();
    if phase.is_over() {
        return vec![Reason::Over(phase)];
    }
    let mut reasons = Vec::new();
    match run.owner {
        _ if phase == Phase::Stranded => reasons.push(Reason::Stranded { why: run.reason.as_deref() }),
        Some(by) => reasons.push(Reason::Executed { by }),
        None if phase == Phase::Ready || run.inbox > 0 => {
            reasons.push(Reason::NotTaken { not_before: run.not_before, refused: run.reason.as_deref() });
        }
        None => {}
    }
    if phase == Phase::Paused || image.is_some_and(|image| image.status == Status::Paused) {
        reasons.push(Reason::Paused);
    }
    if run.inbox > 0 {
        reasons.push(Reason::Inbox { messages: run.inbox });
    }
    reasons.extend(image.into_iter().flat_map(|image| inside(image, phase)));
    reasons
}

fn inside(image: &EncodedImage, phase: Phase) -> Vec<Reason<'_>> {
    let mut reasons: Vec<_> = image.waits.values().map(|waiting| wait(image, waiting)).collect();
    // One that waits says so. While the run moves, a body that has started a child may do anything.
    let mut waits: HashSet<_> = image.waits.values().map(|waiting| waiting.seq).collect();
    waits.extend(image.children.values().filter(|_| phase == Phase::Waiting).map(|child| child.seq));
    let others = image.pending.iter().filter(|(delivery, pending)| pending.due.is_some() || !waits.contains(delivery));
    reasons.extend(others.map(|(&delivery, pending)| of_delivery(image, delivery, pending)));
    reasons.extend(image.children.iter().map(|(&child, open)| {
        let pending = image.pending.get(&open.seq);
        let memo = pending.and_then(|it| it.replay.memos.get(open.number));
        let workflow = memo.and_then(|memo| match &memo.kept {
            Kept::Child(child) => Some(&*child.workflow),
            Kept::Result(_) | Kept::Failure(_) => None,
        });
        let step = pending.and_then(|it| name(image, it.step));
        Reason::Child { delivery: open.seq, step, child, workflow }
    }));
    reasons.extend(image.groups.values().map(|group| collecting(image, group)));
    let deferred = counted(image.held.iter().map(|held| &held.event.class));
    reasons.extend((!deferred.is_empty()).then_some(Reason::Deferred { events: deferred }));
    let kept = counted(image.kept.values().map(|event| &event.class));
    reasons.extend((!kept.is_empty()).then_some(Reason::KeptEvents { events: kept }));
    reasons.extend(image.deadline.map(|at| Reason::Deadline { at }));
    reasons
}

fn wait<'a>(image: &'a EncodedImage, waiting: &'a Waiting<Arc<str>>) -> Reason<'a> {
    let (delivery, due) = (waiting.seq, waiting.due);
    let step = image.pending.get(&delivery).and_then(|pending| name(image, pending.step));
    match &waiting.class {
        Some(class) => Reason::Event { delivery, step, class, due },
        None => Reason::Sleep { delivery, step, due },
    }
}

fn of_delivery<'a>(image: &'a EncodedImage, delivery: u64, pending: &'a Pending<EncodedEvent, Arc<str>>) -> Reason<'a> {
    let (step, attempt) = (name(image, pending.step), pending.attempt);
    match (pending.due, pending.since) {
        (Some(due), _) => {
            let failure = pending.replay.failures.last().map(|failure| &*failure.text);
            Reason::Retry { delivery, step, attempt, due, failure }
        }
        (None, Some(since)) => Reason::Running { delivery, step, attempt, since },
        (None, None) => Reason::Queued { delivery, step, class: &pending.event.class },
    }
}

fn collecting<'a>(image: &'a EncodedImage, group: &'a Grouped<EncodedEvent, Arc<str>>) -> Reason<'a> {
    let mut missing = counted(group.collected.expected().iter());
    let there: HashMap<_, _> =
        group.collected.pending_by_class().map(|(class, events)| (class, events.len())).collect();
    missing.iter_mut().for_each(|(class, count)| *count -= there.get(*class).copied().unwrap_or(0).min(*count));
    missing.retain(|&(_, count)| count > 0);
    let (step, key) = (name(image, group.step), group.key.as_deref());
    Reason::Collecting { step, key, missing, collected: group.collected.pending().count() }
}

fn counted<'a>(classes: impl Iterator<Item = &'a Arc<str>>) -> Vec<(&'a Arc<str>, usize)> {
    let (mut counts, mut places) = (Vec::new(), HashMap::new());
    for class in classes {
        let place = *places.entry(class).or_insert_with(|| {
            counts.push((class, 0));
            counts.len() - 1
        });
        counts[place].1 += 1;
    }
    counts
}

fn name(image: &EncodedImage, step: StepId) -> Option<&str> {
    image.steps.get(step.0 as usize).map(|name| &**name)
}

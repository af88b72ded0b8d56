//! Deliveries in the model, and what their bodies did.

use treadle::{Deadline, Delivery, Error, EventKind, Phase, Refused, Slot, StepId, Time, Value};

use super::Model;

use crate::run::{Ev, ended, json, keeping};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Job {
    pub(super) event: u64,
    pub(super) step: u32,
}

impl Job {
    pub(super) fn of(delivery: &Delivery<Ev, u8>) -> Self {
        Self { event: delivery.event.0, step: delivery.step.0 }
    }
}

/// A call of `collect`: whether it had a key, what it gave, and whether the running body has made it.
pub(super) struct Call {
    pub(super) keyed: bool,
    pub(super) events: Option<Vec<u64>>,
    pub(super) is_seen: bool,
}

/// What a delivery that is not done remembers.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) attempt: u32,
    /// The events that it received, and whether the running body has got each.
    pub(super) received: Vec<(u64, bool)>,
    pub(super) calls: Vec<Call>,
}

impl Memory {
    pub(super) fn events(&self) -> impl Iterator<Item = u64> {
        let collected = self.calls.iter().flat_map(|call| call.events.iter().flatten().copied());
        self.received.iter().map(|one| one.0).chain(collected)
    }

    fn rewind(&mut self) {
        self.received.iter_mut().for_each(|one| one.1 = false);
        self.calls.iter_mut().for_each(|call| call.is_seen = false);
    }
}

impl Model {
    pub(super) fn deliver(&mut self, kind: EventKind) {
        let event = self.new_event();
        let name = event.0;
        if !self.is_running() {
            return assert_eq!(keeping(|| self.run.deliver(kind, event)), Err(ended(Ev(name))));
        }
        assert_eq!(keeping(|| self.run.deliver(kind, event)), Ok(()));
        let steps = self.run.plan().routes.steps(kind).to_vec();
        self.waiting.extend(steps.iter().map(|step| Job { event: name, step: step.0 }));
    }

    pub(super) fn deliver_to(&mut self, step: usize) {
        let event = self.new_event();
        let job = Job { event: event.0, step: u32::try_from(step % self.run.plan().steps.len()).unwrap() };
        let delivered = keeping(|| self.run.deliver_to(StepId(job.step), event));
        if self.is_running() {
            assert_eq!(delivered, Ok(()));
            self.waiting.push(job);
        } else {
            assert_eq!(delivered, Err(ended(Ev(job.event))));
        }
    }

    pub(super) fn start(&mut self) {
        let now = self.now;
        let could_start = self.could_start();
        let Some(started) = keeping(|| self.run.start_next(|| now)) else {
            return assert!(could_start == 0 || !self.is_running() || self.is_paused);
        };
        assert!(self.is_running(), "nothing starts once the outcome is known");
        assert!(!self.is_paused, "nothing starts while the run is paused");
        let event = self.run.event(started.slot).expect("in flight").0;
        let job = Job { event, step: started.step.0 };
        let at = self.waiting.iter().position(|&other| other == job).expect("it was delivered and did not start yet");
        let memory = self.memories.entry(started.seq).or_insert_with(|| Memory { attempt: 1, ..Memory::default() });
        assert_eq!(started.attempt, memory.attempt);
        assert_eq!(
            *self.numbers.entry(started.seq).or_insert(job),
            job,
            "a number names one delivery, however often it starts"
        );
        let first = self.waiting.iter().position(|other| other.step == job.step);
        assert_eq!(first, Some(at), "first in, first out, within a step");
        if let Some(next) = self.next.take() {
            assert_eq!(job, next, "what was put back is ahead of all others");
        }
        assert!(self.flights.iter().all(|&(slot, _)| slot != started.slot), "a slot names one step in flight");
        self.waiting.remove(at);
        self.flights.push((started.slot, job));
        if let (false, Some(timeout)) = (std::mem::replace(&mut self.has_begun, true), self.run.plan().timeout) {
            self.deadlines.push((now + timeout, Deadline::Run));
        }
        if let Some(timeout) = self.run.plan().steps[job.step as usize].timeout {
            self.deadlines.push((now + timeout, Deadline::Step(started.slot)));
        }
    }

    /// Takes one of those in flight.
    fn land(&mut self, at: usize) -> Option<(Slot, Job)> {
        let at = at.checked_rem(self.flights.len())?;
        let (slot, job) = self.flights.swap_remove(at);
        self.forget_deadline(Deadline::Step(slot));
        self.stale.push(slot);
        Some((slot, job))
    }

    pub(super) fn finish(&mut self, at: usize) {
        let Some((slot, job)) = self.land(at) else { return };
        let delivery = keeping(|| self.run.finish_step(slot)).expect("it was in flight");
        let memory = self.memories.remove(&slot.seq()).unwrap_or_default();
        assert_eq!((Job::of(&delivery), delivery.attempt), (job, memory.attempt));
        assert_eq!(self.numbers.get(&delivery.seq), Some(&job));
        let remembered = delivery.replay.iter().flat_map(|replay| &replay.received).map(|event| event.0);
        assert!(remembered.eq(memory.received.iter().map(|one| one.0)));
    }

    pub(super) fn put_back(&mut self, at: usize) {
        let Some((slot, job)) = self.land(at) else { return };
        match keeping(|| self.run.put_back(slot)) {
            Ok(()) => {
                assert!(self.is_running());
                self.memories.entry(slot.seq()).or_default().rewind();
                self.waiting.insert(0, job);
                self.next = Some(job);
            }
            Err(refused) => self.check_refused(refused, slot, job),
        }
        assert!(matches!(self.run.put_back(slot), Err(None)));
    }

    pub(super) fn retry(&mut self, at: usize, delay: Time) {
        let Some((slot, job)) = self.land(at) else { return };
        let due = self.now + delay;
        match keeping(|| self.run.retry(slot, "it failed".into(), due)) {
            Ok(()) => {
                assert!(self.is_running());
                let memory = self.memories.entry(slot.seq()).or_default();
                memory.attempt += 1;
                memory.rewind();
                self.deadlines.push((due, Deadline::Retry(slot.seq())));
                self.retries.insert(slot.seq(), job);
            }
            Err(refused) => self.check_refused(refused, slot, job),
        }
        assert!(matches!(self.run.retry(slot, "".into(), due), Err(None)));
    }

    pub(super) fn publish(&mut self) {
        let event = self.new_event();
        let name = event.0;
        if self.phase == Phase::Ended {
            return assert_eq!(keeping(|| self.run.publish(event)), Err(ended(Ev(name))));
        }
        let old = keeping(|| self.run.publish(event)).expect("not over");
        self.published.push(name);
        let limit = self.run.plan().stream_limit.max(1);
        let forgotten = self.published.len().checked_sub(limit + 1).map(|at| Ev(self.published[at]));
        assert_eq!(old, forgotten);
    }

    pub(super) fn check_set(&mut self, key: u8, set: Result<Option<Value>, Refused<Value>>) {
        if self.phase == Phase::Ended {
            return assert_eq!(set, Err(ended(json(&[key]))));
        }
        assert_eq!(set, Ok(self.state.insert(key, key).map(|value| json(&[value]))));
    }

    pub(super) fn compare_and_set(&mut self, key: u8, is_current: bool) {
        let name = key.to_string();
        let version = self.run.store().get_versioned(&name).map(|(_, version)| version);
        if is_current || self.phase == Phase::Ended {
            let set = self.run.compare_and_set(&name, version, json(&[key]));
            return self.check_set(key, set);
        }
        let other = Some(version.map_or(0, |version| version + 1));
        let refused = Refused { error: Error::Outdated, value: json(&[key]) };
        assert_eq!(self.run.compare_and_set(&name, other, json(&[key])), Err(refused));
    }
}

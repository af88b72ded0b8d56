//! Random calls of a run, against a model of it.

mod calls;
mod collecting;
mod deliveries;
mod waits;

use std::collections::BTreeMap;

use proptest::prelude::*;
use treadle::{Deadline, Delivery, Error, EventKind, Phase, Plan, Refused, Remains, Slot, Time, WaitId};

use crate::run::{Ev, TestRun, json, keeping, run_of, sorted};
use calls::{Op, op, plan};
use collecting::Group;
use deliveries::{Job, Memory};
use waits::Wait;

/// Everything that a run should hold, by name.
struct Model {
    run: TestRun,
    kinds: u32,
    now: Time,
    events: u64,
    /// What waits for each step, in the order in which it is to start.
    waiting: Vec<Job>,
    /// The delivery that was put back last, until something starts.
    next: Option<Job>,
    flights: Vec<(Slot, Job)>,
    /// Deliveries that are to be tried again, by number.
    retries: BTreeMap<u64, Job>,
    /// Slots of bodies that have finished.
    stale: Vec<Slot>,
    /// The numbers of the deliveries that were started.
    numbers: BTreeMap<u64, Job>,
    /// By the number of the delivery.
    memories: BTreeMap<u64, Memory>,
    state: BTreeMap<u8, u8>,
    published: Vec<u64>,
    kept: BTreeMap<u64, u64>,
    held: Vec<(u64, bool)>,
    waits: Vec<Wait>,
    collected: BTreeMap<bool, Group>,
    /// Deadlines in the order in which they were set.
    deadlines: Vec<(Time, Deadline)>,
    /// Whether the first step has begun: its time limit counts from then on.
    has_begun: bool,
    is_paused: bool,
    phase: Phase,
}

impl Model {
    pub(super) fn new(plan: Plan, kinds: u32) -> Self {
        let deadlines = plan.deadline.map(|deadline| (1000 + deadline, Deadline::End)).into_iter().collect();
        Self {
            run: run_of(plan, 1000),
            kinds,
            now: 1000,
            events: 0,
            waiting: Vec::new(),
            next: None,
            flights: Vec::new(),
            retries: BTreeMap::new(),
            stale: Vec::new(),
            numbers: BTreeMap::new(),
            memories: BTreeMap::new(),
            state: BTreeMap::new(),
            published: Vec::new(),
            kept: BTreeMap::new(),
            held: Vec::new(),
            waits: Vec::new(),
            collected: BTreeMap::new(),
            deadlines,
            has_begun: false,
            is_paused: false,
            phase: Phase::Running,
        }
    }

    fn new_event(&mut self) -> Ev {
        self.events += 1;
        Ev(self.events)
    }

    fn forget_deadline(&mut self, gone: Deadline) {
        self.deadlines.retain(|&(_, what)| what != gone);
    }

    fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// A body in flight, else one that has finished: a task that it left behind may go on.
    fn any_slot(&self, at: usize) -> Option<Slot> {
        let slots = self.flights.iter().map(|flight| flight.0);
        let known: Vec<_> = slots.chain(self.stale.last().copied()).collect();
        Some(known[at.checked_rem(known.len())?])
    }

    fn memory(&mut self, slot: Slot) -> Option<&mut Memory> {
        if self.flights.iter().all(|flight| flight.0 != slot) {
            return None;
        }
        Some(self.memories.entry(slot.seq()).or_default())
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Deliver(kind) => self.deliver(EventKind(kind as u32 % self.kinds)),
            Op::DeliverTo(step) => self.deliver_to(step),
            Op::Start => self.start(),
            Op::Finish(at) => self.finish(at),
            Op::PutBack(at) => self.put_back(at),
            Op::Retry(at, delay) => self.retry(at, delay),
            Op::Publish => self.publish(),
            Op::Set(key) => {
                let set = self.run.set(&key.to_string(), json(&[key]));
                self.check_set(key, set);
            }
            Op::Delete(key) => match self.run.delete(&key.to_string()) {
                Ok(old) => assert_eq!(old, self.state.remove(&key).map(|value| json(&[value]))),
                Err(error) => assert_eq!((error, self.phase), (Error::RunEnded, Phase::Ended)),
            },
            Op::CompareAndSet(key, is_current) => self.compare_and_set(key, is_current),
            Op::Wait(at, timeout) => self.wait(at, timeout),
            Op::EndWait(at) => {
                if !self.waits.is_empty() {
                    let wait = self.waits.remove(at % self.waits.len());
                    self.end_wait(wait.id, wait.waiter);
                }
            }
            Op::Receive(at) => self.receive(at),
            Op::ReceiveAgain(at) => self.receive_again(at),
            Op::TakeBack(at) => self.take_back(at),
            Op::Keep => self.keep(),
            Op::KeepAgain(at) => self.keep_again(at),
            Op::TakeKept(at, slot) => drop(self.take_kept(at, slot)),
            Op::Collect(at, class, keyed) => {
                if let Some(slot) = self.any_slot(at) {
                    self.collect(slot, class, keyed);
                }
            }
            Op::Pause => match self.run.pause() {
                Ok(was_paused) => assert_eq!(was_paused, std::mem::replace(&mut self.is_paused, true)),
                Err(error) => assert!(error == Error::RunEnded && !self.is_running()),
            },
            Op::Resume => {
                keeping(|| self.run.resume());
                self.is_paused = false;
                self.release();
            }
            Op::Hold(is_from_outside) => self.hold(is_from_outside),
            Op::Pass(time) => self.pass(time),
            Op::BeginEnd => self.begin_end(),
            Op::TryEnd => {
                let is_over = self.phase == Phase::Ending && self.flights.is_empty();
                assert_eq!(keeping(|| self.run.try_end()), is_over);
                if is_over {
                    self.phase = Phase::Ended;
                }
            }
        }
        self.check();
    }

    fn check_refused(&mut self, refused: Option<Refused<Delivery<Ev, u8>>>, slot: Slot, job: Job) {
        let Refused { error, value } = refused.expect("it was in flight");
        assert!(error == Error::RunEnded && !self.is_running());
        assert_eq!((Job::of(&value), value.seq), (job, slot.seq()));
        self.memories.remove(&slot.seq());
    }

    pub(super) fn begin_end(&mut self) {
        let remains = keeping(|| self.run.begin_end());
        assert_eq!(remains.is_some(), self.is_running(), "a run begins to end once");
        let Some(remains) = remains else { return };
        let Remains { queue, retries, kept, waiters, .. } = &remains;
        self.waiting.sort_unstable();
        assert_eq!(sorted(queue.waiting().map(Job::of)), self.waiting);
        assert_eq!(sorted(retries.iter().map(Job::of)), sorted(self.retries.values().copied()));
        let expected = self.kept.values().copied().chain(self.held.iter().map(|held| held.0));
        assert!(kept.iter().map(|event| event.0).eq(expected));
        assert!(waiters.iter().copied().eq(self.waits.iter().map(|wait| wait.waiter)));
        self.waiting.clear();
        self.next = None;
        self.retries.clear();
        self.kept.clear();
        self.held.clear();
        self.waits.clear();
        self.collected.clear();
        self.deadlines.clear();
        self.memories.retain(|seq, _| self.flights.iter().any(|flight| flight.0.seq() == *seq));
        self.is_paused = false;
        self.phase = Phase::Ending;
    }

    pub(super) fn abandon(&mut self) {
        self.begin_end();
        let deliveries = keeping(|| self.run.abandon());
        self.flights.sort_unstable_by_key(|flight| flight.1);
        assert_eq!(
            sorted(deliveries.iter().map(Job::of)),
            self.flights.iter().map(|flight| flight.1).collect::<Vec<_>>()
        );
        for (slot, _) in self.flights.drain(..) {
            assert!(self.run.event(slot).is_none() && self.run.finish_step(slot).is_none());
        }
        self.memories.clear();
        self.phase = Phase::Ended;
        self.check();
    }

    fn could_start(&self) -> usize {
        let count =
            |jobs: &mut dyn Iterator<Item = &Job>, step: usize| jobs.filter(|job| job.step as usize == step).count();
        let steps = self.run.plan().steps.iter().enumerate();
        steps
            .map(|(at, step)| {
                let running = count(&mut self.flights.iter().map(|(_, job)| job), at);
                let limit = step.concurrency.map_or(usize::MAX, |limit| limit.get() as usize);
                assert!(running <= limit, "{running} bodies run where {limit} may");
                count(&mut self.waiting.iter(), at).min(limit - running)
            })
            .sum()
    }

    fn check(&mut self) {
        let run = &self.run;
        assert_eq!(run.phase(), self.phase);
        assert_eq!(run.is_paused(), self.is_paused);
        assert_eq!(run.in_flight() as usize, self.flights.len());
        assert_eq!(run.ready(), if self.is_paused { 0 } else { self.could_start() });
        let held = sorted(run.events().map(|event| event.0));
        let in_flight = self.flights.iter().map(|(_, job)| job);
        let jobs = self.waiting.iter().chain(in_flight).chain(self.retries.values()).map(|job| job.event);
        let collected = self.collected.values().flat_map(|group| &group.pending).map(|one| one.1);
        let remembered = self.memories.values().flat_map(Memory::events);
        let others = self.kept.values().copied().chain(self.held.iter().map(|held| held.0));
        let expected = sorted(jobs.chain(collected).chain(remembered).chain(others));
        assert_eq!(held, expected, "no event is lost or doubled");
        self.check_waits();
        let run = &self.run;
        assert!(run.kept().map(|(number, event)| (number, event.0)).eq(self.kept.iter().map(|(&n, &e)| (n, e))));
        let is_stalled = self.phase == Phase::Running
            && !self.is_paused
            && self.waiting.is_empty()
            && self.flights.is_empty()
            && self.retries.is_empty()
            && self.waits.is_empty()
            && run.plan().steps.iter().all(|step| !step.external);
        assert_eq!(run.is_stalled(), is_stalled);
        assert_eq!(run.stream().published() as usize, self.published.len());
        assert_eq!(run.store().len(), self.state.len());
        assert_eq!(run.has_deadline(), !self.is_paused && !self.deadlines.is_empty());
        let next = self.deadlines.iter().map(|&(at, _)| at).min().filter(|_| !self.is_paused);
        assert_eq!(self.run.next_deadline(), next);
        for &slot in self.stale.iter().rev().take(8) {
            assert!(self.run.event(slot).is_none() && self.run.finish_step(slot).is_none(), "a step finishes once");
        }
    }

    fn check_waits(&self) {
        let run = &self.run;
        let waits = || self.waits.iter().map(|wait| (wait.id, wait.waiter));
        assert!(run.waiters().map(|(id, &waiter)| (id, waiter)).eq(waits()));
        let next = |&(id, _, _): &(WaitId, &u64, &u8)| run.next_waiter(Some(id));
        let asked = std::iter::successors(run.next_waiter(None), next);
        assert!(asked.map(|(id, &waiter, _)| (id, waiter)).eq(waits()));
        let is_waiting = |slot: Slot| self.waits.iter().any(|wait| wait.slot == slot);
        assert!(!self.is_running() || run.is_quiet() == self.flights.iter().all(|flight| is_waiting(flight.0)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn no_history_loses_or_doubles_anything(
        (plan, kinds) in plan(),
        ops in prop::collection::vec(op(), 0..250),
        is_abandoned: bool,
    ) {
        let mut model = Model::new(plan, kinds);
        for op in ops {
            model.apply(op);
        }
        if is_abandoned {
            model.abandon();
        }
        // Whatever the history: what is left can run, and then the run can end.
        model.apply(Op::Resume);
        model.apply(Op::Pass(1000));
        while model.is_running() && !(model.waiting.is_empty() && model.flights.is_empty()) {
            model.apply(Op::Start);
            model.apply(Op::Finish(0));
        }
        model.apply(Op::BeginEnd);
        while !model.flights.is_empty() {
            model.apply(Op::TryEnd);
            model.apply(Op::Start);
            model.apply(Op::Finish(0));
        }
        model.apply(Op::TryEnd);
        prop_assert_eq!(model.phase, Phase::Ended);
        let stale = [Op::Wait(0, None), Op::Receive(0), Op::TakeBack(0), Op::ReceiveAgain(0), Op::Collect(0, 0, false)];
        let keys = [Op::Set(0), Op::Delete(0), Op::CompareAndSet(0, true), Op::CompareAndSet(0, false)];
        let calls = [Op::Deliver(0), Op::DeliverTo(0), Op::Start, Op::Publish, Op::Keep, Op::KeepAgain(0)];
        let phases = [Op::Pause, Op::Resume, Op::Hold(true), Op::TryEnd, Op::BeginEnd];
        for op in stale.into_iter().chain(keys).chain(calls).chain(phases) {
            model.apply(op);
        }
    }
}

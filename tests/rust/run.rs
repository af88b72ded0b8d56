//! One run as a state machine: random histories against a model that only counts.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use proptest::prelude::*;
use treadle::{
    Collecting, Deadline, Delivery, Error, EventKind, Gathered, Host, Leftover, Limits, Phase, Plan, Read, Refused,
    Remains, Routes, Run, RunId, Slot, StepId, StepPlan, Tag, Time, Value, WaitId, Wanted,
};

thread_local! {
    static DROPS: Cell<u64> = const { Cell::new(0) };
}

/// An event that knows its name and counts drops: the core must never drop one.
#[derive(Debug, PartialEq, Eq)]
struct Ev(u64);

impl Drop for Ev {
    fn drop(&mut self) {
        DROPS.set(DROPS.get() + 1);
    }
}

/// Calls the core and checks that it drops no event.
fn keeping<T>(call: impl FnOnce() -> T) -> T {
    let before = DROPS.get();
    let answer = call();
    assert_eq!(DROPS.get(), before, "the core gives events back and drops none");
    answer
}

struct Guest;

impl Host for Guest {
    type Event = Ev;
    type Value = Value;
    type Class = u8;
    type Waiter = u64;

    fn copy_event(event: &Ev) -> Ev {
        Ev(event.0)
    }

    fn copy_value(value: &Value) -> Value {
        value.clone()
    }

    fn copy_waiter(waiter: &Self::Waiter) -> Self::Waiter {
        *waiter
    }

    fn is_same_event(one: &Ev, other: &Ev) -> bool {
        one == other
    }
}

type TestRun = Run<Guest>;

fn run_of(plan: Plan, now: Time) -> TestRun {
    Run::new(RunId::new(0, [0; 10]), Arc::new(plan), now)
}

fn step(concurrency: Option<u32>, timeout: Option<Time>) -> StepPlan {
    StepPlan { concurrency: concurrency.and_then(NonZeroU32::new), timeout, ..StepPlan::default() }
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<_> = items.collect();
    items.sort_unstable();
    items
}

/// A plan with one kind of events for each step.
fn plan_of(steps: Vec<StepPlan>) -> Plan {
    let mut routes = Routes::default();
    for at in 0..steps.len() {
        routes.add([StepId(u32::try_from(at).unwrap())]);
    }
    Plan { steps, routes, stream_limit: 1000, ..Plan::default() }
}

fn ended<T>(value: T) -> Refused<T> {
    Refused { error: Error::RunEnded, value }
}

fn json(text: &[u8]) -> Value {
    Value::new(Tag::Json, text.to_vec())
}

/// Names a step that is in flight no more: a task that it left behind may go on.
fn stale_slot() -> Slot {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    (1..=2).for_each(|event| run.deliver(EventKind(0), Ev(event)).unwrap());
    run.start_next(|| 0);
    run.start_next(|| 0).unwrap().slot
}

fn start(run: &mut TestRun) -> Option<(Slot, u64)> {
    let started = run.start_next(|| 0)?;
    Some((started.slot, started.seq))
}

#[derive(Clone, Debug)]
enum Op {
    Deliver(usize),
    DeliverTo(usize),
    Start,
    Finish(usize),
    PutBack(usize),
    Retry(usize, Time),
    Publish,
    Set(u8),
    Delete(u8),
    CompareAndSet(u8, bool),
    Wait(usize, Option<Time>),
    EndWait(usize),
    Receive(usize),
    ReceiveAgain(usize),
    TakeBack(usize),
    Keep,
    TakeKept(usize, usize),
    KeepAgain(usize),
    Collect(usize, u8, bool),
    Pause,
    Resume,
    Hold(bool),
    Pass(Time),
    BeginEnd,
    TryEnd,
}

fn op() -> impl Strategy<Value = Op> {
    let at = any::<usize>;
    prop_oneof![
        30 => at().prop_map(Op::Deliver),
        3 => at().prop_map(Op::DeliverTo),
        30 => Just(Op::Start),
        20 => at().prop_map(Op::Finish),
        4 => at().prop_map(Op::PutBack),
        6 => (at(), 0..30_u64).prop_map(|(at, delay)| Op::Retry(at, delay)),
        5 => Just(Op::Publish),
        5 => (0..5_u8).prop_map(Op::Set),
        2 => (0..5_u8).prop_map(Op::Delete),
        2 => (0..5_u8, any::<bool>()).prop_map(|(key, is_current)| Op::CompareAndSet(key, is_current)),
        8 => (at(), prop::option::of(0..40_u64)).prop_map(|(at, timeout)| Op::Wait(at, timeout)),
        3 => at().prop_map(Op::EndWait),
        4 => at().prop_map(Op::Receive),
        3 => at().prop_map(Op::ReceiveAgain),
        2 => at().prop_map(Op::TakeBack),
        6 => Just(Op::Keep),
        6 => (at(), at()).prop_map(|(at, slot)| Op::TakeKept(at, slot)),
        4 => at().prop_map(Op::KeepAgain),
        10 => (at(), 0..3_u8, any::<bool>()).prop_map(|(slot, class, keyed)| Op::Collect(slot, class, keyed)),
        2 => Just(Op::Pause),
        5 => Just(Op::Resume),
        2 => any::<bool>().prop_map(Op::Hold),
        8 => (0..20_u64).prop_map(Op::Pass),
        1 => Just(Op::BeginEnd),
        3 => Just(Op::TryEnd),
    ]
}

/// Three or so steps with limits and timeouts, and kinds that each go to some of them.
fn plan() -> impl Strategy<Value = (Plan, u32)> {
    let steps = prop::collection::vec(
        (prop::option::of(1..3_u32), prop::option::of(1..30_u64), prop::bool::weighted(0.05))
            .prop_map(|(concurrency, timeout, external)| StepPlan { external, ..step(concurrency, timeout) }),
        1..5,
    );
    let limit = || prop::option::of(10..100_u64);
    (steps, prop::collection::vec(1..16_u32, 1..4), limit(), limit(), 0..10_usize).prop_map(
        |(steps, kinds, timeout, deadline, stream_limit)| {
            let mut routes = Routes::default();
            let count = u32::try_from(kinds.len()).unwrap();
            for kind in kinds {
                let taken: Vec<_> =
                    (0..u32::try_from(steps.len()).unwrap()).filter(|at| kind >> at & 1 == 1).map(StepId).collect();
                routes.add(if taken.is_empty() { vec![StepId(0)] } else { taken });
            }
            (Plan { steps, routes, timeout, deadline, stream_limit, ..Plan::default() }, count)
        },
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Job {
    event: u64,
    step: u32,
}

impl Job {
    fn of(delivery: &Delivery<Ev, u8>) -> Self {
        Self { event: delivery.event.0, step: delivery.step.0 }
    }
}

/// Events that are being collected, and the list of classes that the run holds for them.
#[derive(Default)]
struct Group {
    pending: Vec<(u8, u64)>,
    expected: Option<Arc<[u8]>>,
}

/// A call of `collect`: whether it had a key, what it gave, and whether the running body has made it.
struct Call {
    keyed: bool,
    events: Option<Vec<u64>>,
    is_seen: bool,
}

/// What a delivery that is not done remembers.
#[derive(Default)]
struct Memory {
    attempt: u32,
    /// The events that it received, and whether the running body has got each.
    received: Vec<(u64, bool)>,
    calls: Vec<Call>,
}

impl Memory {
    fn events(&self) -> impl Iterator<Item = u64> {
        let collected = self.calls.iter().flat_map(|call| call.events.iter().flatten().copied());
        self.received.iter().map(|one| one.0).chain(collected)
    }

    fn rewind(&mut self) {
        self.received.iter_mut().for_each(|one| one.1 = false);
        self.calls.iter_mut().for_each(|call| call.is_seen = false);
    }
}

/// Somebody who waits.
struct Wait {
    id: WaitId,
    waiter: u64,
    slot: Slot,
}

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
    fn new(plan: Plan, kinds: u32) -> Self {
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

    /// Takes one of those in flight.
    fn land(&mut self, at: usize) -> Option<(Slot, Job)> {
        let at = at.checked_rem(self.flights.len())?;
        let (slot, job) = self.flights.swap_remove(at);
        self.forget_deadline(Deadline::Step(slot));
        self.stale.push(slot);
        Some((slot, job))
    }

    fn finish(&mut self, at: usize) {
        let Some((slot, job)) = self.land(at) else { return };
        let delivery = keeping(|| self.run.finish_step(slot)).expect("it was in flight");
        let memory = self.memories.remove(&slot.seq()).unwrap_or_default();
        assert_eq!((Job::of(&delivery), delivery.attempt), (job, memory.attempt));
        assert_eq!(self.numbers.get(&delivery.seq), Some(&job));
        let remembered = delivery.replay.iter().flat_map(|replay| &replay.received).map(|event| event.0);
        assert!(remembered.eq(memory.received.iter().map(|one| one.0)));
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

    fn deliver(&mut self, kind: EventKind) {
        let event = self.new_event();
        let name = event.0;
        if !self.is_running() {
            return assert_eq!(keeping(|| self.run.deliver(kind, event)), Err(ended(Ev(name))));
        }
        assert_eq!(keeping(|| self.run.deliver(kind, event)), Ok(()));
        let steps = self.run.plan().routes.steps(kind).to_vec();
        self.waiting.extend(steps.iter().map(|step| Job { event: name, step: step.0 }));
    }

    fn deliver_to(&mut self, step: usize) {
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

    fn start(&mut self) {
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

    fn publish(&mut self) {
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

    fn check_set(&mut self, key: u8, set: Result<Option<Value>, Refused<Value>>) {
        if self.phase == Phase::Ended {
            return assert_eq!(set, Err(ended(json(&[key]))));
        }
        assert_eq!(set, Ok(self.state.insert(key, key).map(|value| json(&[value]))));
    }

    fn compare_and_set(&mut self, key: u8, is_current: bool) {
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

    fn wait(&mut self, at: usize, timeout: Option<Time>) {
        let Some(slot) = self.any_slot(at) else { return };
        let waiter = self.events + 1_000_000;
        self.events += 1;
        let deadline = timeout.map(|timeout| self.now + timeout);
        match self.run.wait(slot, waiter, Some(1), deadline) {
            Err(Refused { error, value }) => {
                assert!(error == Error::RunEnded && value == (waiter, Some(1)) && !self.is_running());
            }
            Ok(id) => {
                assert!(self.is_running());
                assert!(self.waits.iter().all(|wait| wait.id < id));
                self.waits.push(Wait { id, waiter, slot });
                self.deadlines.extend(deadline.map(|at| (at, Deadline::Wait(id))));
            }
        }
    }

    fn end_wait(&mut self, id: WaitId, waiter: u64) {
        self.forget_deadline(Deadline::Wait(id));
        let over = keeping(|| self.run.end_wait(id)).expect("it had begun");
        assert_eq!((over.waiter, over.class), (waiter, Some(1)));
        assert!(self.run.end_wait(id).is_none(), "a wait ends once");
    }

    fn receive(&mut self, at: usize) {
        let event = self.new_event();
        if self.waits.is_empty() {
            return;
        }
        let wait = self.waits.remove(at % self.waits.len());
        self.forget_deadline(Deadline::Wait(wait.id));
        let over = keeping(|| self.run.receive(wait.id, &event)).expect("it had begun");
        assert_eq!((over.waiter, over.class), (wait.waiter, Some(1)));
        assert!(self.run.receive(wait.id, &event).is_none(), "a wait ends once");
        if let Some(memory) = self.memory(wait.slot) {
            memory.received.push((event.0, true));
        }
    }

    fn receive_again(&mut self, at: usize) {
        let Some(slot) = self.any_slot(at) else { return };
        let memory = self.memory(slot);
        let unclaimed: Vec<_> = memory
            .iter()
            .flat_map(|memory| memory.received.iter().enumerate())
            .filter(|(_, (_, is_claimed))| !is_claimed)
            .map(|(place, (event, _))| (place, *event))
            .collect();
        if let Some(memory) = memory
            && let Some(&(place, _)) = unclaimed.first()
        {
            memory.received[place].1 = true;
        }
        let next = |from| self.run.next_received_before(slot, from).map(|(place, event)| (place, event.0));
        let before: Vec<_> = std::iter::successors(next(0), |(place, _)| next(place + 1)).collect();
        assert_eq!(before, unclaimed);
        if let Some(&(place, _)) = before.first() {
            assert!(self.run.receive_again(slot, place));
            assert!(!self.run.receive_again(slot, place), "an event is received again once");
        }
    }

    fn take_back(&mut self, at: usize) {
        let Some(slot) = self.any_slot(at) else { return };
        let taken = self.memory(slot).and_then(|memory| memory.received.pop());
        let event = Ev(taken.map_or(u64::MAX, |taken| taken.0));
        let answer = keeping(|| self.run.take_back(slot, &event));
        assert_eq!(answer.map(|event| event.0), taken.map(|taken| taken.0));
    }

    fn keep(&mut self) {
        let event = self.new_event();
        let name = event.0;
        if !self.is_running() {
            return assert_eq!(keeping(|| self.run.keep(event)), Err(ended(Ev(name))));
        }
        assert_eq!(keeping(|| self.run.keep(event)), Ok(()));
        let (number, _) = self.run.kept().last().expect("just kept");
        assert!(self.kept.keys().all(|&old| old < number));
        self.kept.insert(number, name);
    }

    fn take_kept(&mut self, at: usize, slot: usize) -> Option<Ev> {
        let (&number, &name) = self.kept.iter().nth(at.checked_rem(self.kept.len())?)?;
        let slot = self.any_slot(slot)?;
        self.kept.remove(&number);
        let taken = keeping(|| self.run.take_kept(slot, number));
        assert_eq!(taken, Some(Ev(name)));
        assert_eq!(self.run.take_kept(slot, number), None, "an event is taken once");
        if let Some(memory) = self.memory(slot) {
            memory.received.push((name, true));
        }
        taken
    }

    /// Collects two of class 0 and one of class 1; class 2 is not expected.
    fn collect(&mut self, slot: Slot, class: u8, keyed: bool) {
        const EXPECTED: [u8; 3] = [0, 1, 0];
        let event = self.new_event();
        let name = event.0;
        let list: Arc<[u8]> = EXPECTED.into();
        let is_new = Cell::new(false);
        let run = &mut self.run;
        let call = Collecting { slot, step: StepId(0), key: keyed.then_some("key"), event };
        let answer = keeping(|| {
            run.collect(
                call,
                |expected| expected == EXPECTED,
                |expects| Some(class).filter(|class| expects(class)),
                || (list.clone(), is_new.set(true)).0,
            )
        });
        if !self.is_running() {
            return assert_eq!(answer.map_err(event_alone), Err(ended(Ev(name))));
        }
        let memory = self.memory(slot);
        let is_remembered = memory.is_some();
        let calls = memory.into_iter().flat_map(|memory| &mut memory.calls);
        if let Some(before) = calls.into_iter().find(|call| !call.is_seen && call.keyed == keyed) {
            before.is_seen = true;
            let events = before.events.as_ref().map(|events| events.iter().copied().map(Ev).collect());
            return assert_eq!(answer, Ok(Gathered { events, remains: Some(Leftover::Event(Ev(name))) }));
        }
        let group = self.collected.entry(keyed).or_default();
        if is_new.get() {
            assert!(group.pending.is_empty(), "a group is not made anew while it has events");
            group.expected = Some(list);
        }
        if class == 2 {
            let refused = Refused { error: Error::NotExpected, value: Ev(name) };
            return assert_eq!(answer.map_err(event_alone), Err(refused));
        }
        group.pending.push((class, name));
        let mut rest = group.pending.clone();
        let events: Option<Vec<_>> = EXPECTED
            .iter()
            .map(|&class| {
                let at = rest.iter().position(|one| one.0 == class)?;
                Some(rest.remove(at).1)
            })
            .collect();
        let Ok(gathered) = answer else { panic!("the class is among the expected ones") };
        assert_eq!(names(&gathered), events);
        let is_over = events.is_some() && rest.is_empty();
        let given = match &gathered.remains {
            Some(Leftover::Classes(list, _)) => Some(list),
            other => (assert_eq!(*other, None), None).1,
        };
        assert_eq!(given.is_some(), is_over, "a group is forgotten once it has no events left");
        if events.is_some() {
            group.pending = rest;
        }
        if let Some(list) = given {
            let expected = self.collected.remove(&keyed).and_then(|group| group.expected);
            assert!(expected.is_some_and(|expected| Arc::ptr_eq(&expected, list)));
        }
        if is_remembered {
            let calls = &mut self.memories.entry(slot.seq()).or_default().calls;
            calls.push(Call { keyed, events, is_seen: true });
        }
    }

    fn put_back(&mut self, at: usize) {
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

    fn retry(&mut self, at: usize, delay: Time) {
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

    fn check_refused(&mut self, refused: Option<Refused<Delivery<Ev, u8>>>, slot: Slot, job: Job) {
        let Refused { error, value } = refused.expect("it was in flight");
        assert!(error == Error::RunEnded && !self.is_running());
        assert_eq!((Job::of(&value), value.seq), (job, slot.seq()));
        self.memories.remove(&slot.seq());
    }

    fn hold(&mut self, is_from_outside: bool) {
        let event = self.new_event();
        let name = event.0;
        // Nobody holds what can be routed.
        if !self.is_running() {
            assert_eq!(keeping(|| self.run.hold(event, is_from_outside)), Err(ended(Ev(name))));
        } else if self.is_paused {
            assert_eq!(keeping(|| self.run.hold(event, is_from_outside)), Ok(()));
            self.held.push((name, is_from_outside));
        }
    }

    fn release(&mut self) {
        for (name, is_from_outside) in std::mem::take(&mut self.held) {
            let (number, _) = self.run.next_release().expect("it is held");
            let held = keeping(|| self.run.release(number)).expect("it is held");
            assert_eq!((held.event.0, held.is_from_outside), (name, is_from_outside));
        }
        assert!(self.run.next_release().is_none());
    }

    fn keep_again(&mut self, at: usize) {
        let Some(event) = self.take_kept(at, usize::MAX) else {
            let event = self.new_event();
            let name = event.0;
            if !self.is_running() {
                assert_eq!(keeping(|| self.run.keep_again(event)), Err(ended(Ev(name))));
            }
            return;
        };
        // Whoever asked for it is as if it had not.
        let slot = self.any_slot(usize::MAX).expect("it was taken by somebody");
        let name = event.0;
        let taken = keeping(|| self.run.take_back(slot, &event));
        assert_eq!(taken.is_some(), self.memory(slot).and_then(|memory| memory.received.pop()).is_some());
        assert_eq!(keeping(|| self.run.keep_again(event)), Ok(()));
        let (number, _) = self.run.kept().next().expect("just kept");
        assert!(self.kept.keys().all(|&other| number < other), "it is ahead of the others");
        self.kept.insert(number, name);
    }

    fn pass(&mut self, time: Time) {
        self.now += time;
        loop {
            let first = (0..self.deadlines.len()).min_by_key(|&at| self.deadlines[at].0);
            let due = first.filter(|&at| self.deadlines[at].0 <= self.now && !self.is_paused);
            let expected = due.map(|at| self.deadlines.remove(at).1);
            assert_eq!(keeping(|| self.run.expire(self.now)), expected);
            match expected {
                None => return,
                Some(Deadline::Run | Deadline::End) => {}
                Some(Deadline::Settling) => unreachable!("nobody waited when the run was put down"),
                Some(Deadline::Retry(seq)) => {
                    let job = self.retries.remove(&seq).expect("only of a delivery that is to be tried again");
                    self.waiting.push(job);
                }
                Some(Deadline::Step(slot)) => {
                    assert!(self.flights.iter().any(|flight| flight.0 == slot), "only of a step in flight");
                }
                Some(Deadline::Wait(id)) => {
                    let at = self.waits.iter().position(|wait| wait.id == id).expect("only of somebody who waits");
                    let wait = self.waits.remove(at);
                    self.end_wait(id, wait.waiter);
                }
            }
        }
    }

    fn begin_end(&mut self) {
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

    fn abandon(&mut self) {
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

#[test]
fn a_new_run_that_was_given_nothing_is_stalled() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    assert!(run.is_stalled());
    run.deliver(EventKind(0), Ev(1)).unwrap();
    assert!(!run.is_stalled());
}

#[test]
fn a_run_with_a_step_that_takes_events_from_outside_never_stalls() {
    let external = StepPlan { external: true, ..StepPlan::default() };
    assert!(!run_of(plan_of(vec![step(None, None), external]), 0).is_stalled());
}

#[test]
fn what_is_kept_or_collected_does_not_keep_a_run_from_stalling() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.keep(Ev(1)).unwrap();
    assert!(run.is_stalled());
    let wait = run.wait(stale_slot(), 7, Some(1), Some(5)).unwrap();
    assert!(!run.is_stalled());
    run.end_wait(wait);
    assert!(run.is_stalled() && !run.has_deadline());
}

#[test]
fn an_event_goes_to_every_step_of_its_kind_in_their_order() {
    let mut routes = Routes::default();
    let kind = routes.add([StepId(2), StepId(0)]);
    let steps = vec![step(None, None), step(None, None), step(None, None)];
    let mut run = run_of(Plan { steps, routes, ..Plan::default() }, 0);
    run.deliver(kind, Ev(5)).unwrap();
    let started: Vec<_> = std::iter::from_fn(|| run.start_next(|| 0)).collect();
    assert_eq!(started.iter().map(|one| (one.step.0, one.seq)).collect::<Vec<_>>(), [(2, 1), (0, 2)]);
    assert!(started.iter().all(|one| run.event(one.slot) == Some(&Ev(5))));
}

#[test]
fn a_chain_of_a_hundred_thousand_steps_lives_in_one_place() {
    let mut run = run_of(plan_of(vec![step(None, Some(10))]), 0);
    run.deliver(EventKind(0), Ev(0)).unwrap();
    let mut places = BTreeSet::new();
    for number in 1..=100_000 {
        let (slot, seq) = start(&mut run).unwrap();
        assert_eq!(seq, number);
        let shown = format!("{slot:?}");
        places.insert(shown.split_once(", start").expect("a slot shows its place first").0.to_owned());
        let delivery = run.finish_step(slot).unwrap();
        run.deliver(EventKind(0), delivery.event).unwrap();
    }
    assert_eq!(places.len(), 1, "{places:?}");
    assert!(!run.has_deadline());
}

#[test]
fn a_fan_out_of_ten_thousand_runs_eight_at_a_time_and_in_order() {
    let mut run = run_of(plan_of(vec![step(Some(8), None)]), 0);
    for number in 1..=10_000 {
        run.deliver(EventKind(0), Ev(number)).unwrap();
    }
    let mut running = Vec::new();
    let mut done = Vec::new();
    while !run.is_stalled() {
        running.extend(std::iter::from_fn(|| start(&mut run)));
        assert!(running.len() <= 8);
        let (slot, _) = running.remove(running.len() / 2);
        done.push(run.finish_step(slot).unwrap().event.0);
        assert!(running.len() + run.ready() <= 8);
    }
    done.sort_unstable();
    assert_eq!(done, (1..=10_000).collect::<Vec<_>>());
}

#[test]
fn a_step_that_finished_in_time_has_no_deadline_left_for_the_next_one_in_its_place() {
    let mut run = run_of(plan_of(vec![step(None, Some(10))]), 0);
    run.deliver(EventKind(0), Ev(1)).unwrap();
    run.deliver(EventKind(0), Ev(2)).unwrap();
    let first = run.start_next(|| 0).unwrap();
    run.finish_step(first.slot).unwrap();
    let second = run.start_next(|| 5).unwrap();
    assert_ne!(first.slot, second.slot);
    assert_eq!((run.expire(14), run.next_deadline()), (None, Some(15)));
    assert_eq!(run.expire(15), Some(Deadline::Step(second.slot)));
}

#[test]
fn a_timeout_beyond_the_end_of_time_is_the_end_of_time() {
    let mut plan = plan_of(vec![step(None, Some(Time::MAX))]);
    plan.timeout = Some(Time::MAX);
    let mut run = run_of(plan, 7);
    run.deliver(EventKind(0), Ev(1)).unwrap();
    run.start_next(|| 7).unwrap();
    assert_eq!((run.expire(Time::MAX - 1), run.next_deadline()), (None, Some(Time::MAX)));
}

fn any_time() -> impl Strategy<Value = Time> {
    prop_oneof![any::<Time>(), 0..10_u64, Time::MAX - 10..=Time::MAX, 1_u64 << 63..=(1 << 63) + 1]
}

proptest! {
    #[test]
    fn no_time_is_too_long_for_the_arithmetic(
        now in any_time(),
        later in any_time(),
        limits in prop::array::uniform4(any_time()),
        delay in any_time(),
    ) {
        let [of_run, deadline, of_step, of_wait] = limits;
        let mut plan = plan_of(vec![step(None, Some(of_step))]);
        plan.timeout = Some(of_run);
        plan.deadline = Some(deadline);
        let mut run = run_of(plan, now);
        run.deliver(EventKind(0), Ev(1)).unwrap();
        let slot = run.start_next(|| later).unwrap().slot;
        let wait = run.ask_deadline(slot, Wanted::Wait(of_wait), || later);
        let sleep = run.ask_deadline(slot, Wanted::Sleep(delay), || later);
        prop_assert_eq!([wait, sleep], [later.saturating_add(of_wait), later.saturating_add(delay)]);
        run.wait(slot, 1, None, Some(sleep)).unwrap();
        // A step that began at the time 0 is one of which it is not known when it began.
        let begun = later.max(1);
        let ends = [begun.saturating_add(of_run), now.saturating_add(deadline)];
        let due = [ends[0], ends[1], later.saturating_add(of_step), sleep];
        prop_assert_eq!(run.next_deadline(), due.into_iter().min());
        // All of it is over at the end of time.
        let mut passed = 0;
        while run.expire(Time::MAX).is_some() {
            passed += 1;
        }
        // A time that is too long to count is no limit of the run.
        prop_assert_eq!(passed, if of_run < Time::MAX { 4 } else { 3 });
    }
}

#[test]
fn a_time_limit_counts_from_the_first_step_and_a_deadline_from_the_beginning() {
    let plan = Plan { timeout: Some(10), deadline: Some(100), ..plan_of(vec![step(None, None)]) };
    let mut run = run_of(plan, 7);
    run.deliver(EventKind(0), Ev(1)).unwrap();
    run.deliver(EventKind(0), Ev(2)).unwrap();
    assert_eq!(run.next_deadline(), Some(107));
    run.start_next(|| 50).unwrap();
    run.start_next(|| 55).unwrap();
    assert_eq!((run.expire(59), run.expire(60)), (None, Some(Deadline::Run)));
    assert_eq!((run.expire(106), run.expire(107)), (None, Some(Deadline::End)));
}

#[test]
fn the_clock_is_read_only_for_a_step_with_a_timeout() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.deliver(EventKind(0), Ev(1)).unwrap();
    assert!(run.start_next(|| unreachable!("no step has a timeout")).is_some());
    assert!(run.start_next(|| unreachable!("nothing is ready")).is_none());
}

#[test]
fn a_delivery_that_is_put_back_keeps_its_number_and_its_event() {
    let mut run = run_of(plan_of(vec![step(Some(1), None)]), 0);
    run.deliver(EventKind(0), Ev(9)).unwrap();
    let (slot, seq) = start(&mut run).unwrap();
    run.put_back(slot).unwrap();
    assert!(!run.is_stalled());
    let (again, same) = start(&mut run).unwrap();
    assert_eq!((same, run.event(again)), (seq, Some(&Ev(9))));
}

#[test]
fn a_delivery_that_is_put_back_starts_before_all_others() {
    let mut run = run_of(plan_of(vec![step(None, None), step(Some(2), None)]), 0);
    for (kind, event) in [(0, 1), (1, 2), (0, 3), (1, 4)] {
        run.deliver(EventKind(kind), Ev(event)).unwrap();
    }
    let (first, _) = start(&mut run).unwrap();
    run.put_back(first).unwrap();
    let order: Vec<_> = std::iter::from_fn(|| start(&mut run)).map(|(_, seq)| seq).collect();
    assert_eq!(order, [1, 2, 3, 4]);
}

#[test]
fn a_delivery_that_is_put_back_starts_before_those_that_wait_for_its_place() {
    let mut run = run_of(plan_of(vec![step(Some(1), None)]), 0);
    run.deliver(EventKind(0), Ev(1)).unwrap();
    run.deliver(EventKind(0), Ev(2)).unwrap();
    let (slot, seq) = start(&mut run).unwrap();
    run.put_back(slot).unwrap();
    assert_eq!(start(&mut run).map(|(_, seq)| seq), Some(seq));
}

#[test]
fn nothing_is_put_back_or_started_once_the_outcome_is_known() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.deliver(EventKind(0), Ev(1)).unwrap();
    run.deliver(EventKind(0), Ev(2)).unwrap();
    let (slot, seq) = start(&mut run).unwrap();
    run.begin_end().unwrap();
    assert!(start(&mut run).is_none());
    let refused = run.put_back(slot).unwrap_err().expect("it was in flight");
    assert_eq!((refused.error, refused.value.seq, refused.value.event), (Error::RunEnded, seq, Ev(1)));
    assert!(matches!(run.put_back(slot), Err(None)));
    assert!(start(&mut run).is_none() && run.try_end());
}

/// A refused event without what would have kept its group's classes alive.
fn event_alone(refused: Refused<(Ev, Option<Arc<[u8]>>)>) -> Refused<Ev> {
    Refused { error: refused.error, value: refused.value.0 }
}

fn names(gathered: &Gathered<Ev, u8>) -> Option<Vec<u64>> {
    gathered.events.as_ref().map(|events| events.iter().map(|event| event.0).collect())
}

type Answer = Result<Gathered<Ev, u8>, Refused<Ev>>;

thread_local! {
    /// The lists of classes that groups were made with, and their names.
    static LISTS: RefCell<Vec<(Arc<[u8]>, u64)>> = const { RefCell::new(Vec::new()) };
}

fn new_list(expected: &[u8], name: u64) -> Arc<[u8]> {
    let list: Arc<[u8]> = expected.into();
    LISTS.with_borrow_mut(|lists| lists.push((Arc::clone(&list), name)));
    list
}

/// Collects an event of class 1; `name` is that of the list of classes, if a group has to be made.
fn collect(run: &mut TestRun, group: (u32, Option<&str>), expected: &[u8], event: u64, name: u64) -> Answer {
    let class_of = |expects: &dyn Fn(&u8) -> bool| Some(1).filter(|class| expects(class));
    let call = Collecting { slot: stale_slot(), step: StepId(group.0), key: group.1, event: Ev(event) };
    let answer = keeping(|| run.collect(call, |other| other == expected, class_of, || new_list(expected, name)));
    answer.map_err(event_alone)
}

/// The events that a call gave, if it gave any, and the name of the list of classes, if the group is gone.
fn collected(answer: Answer) -> Option<(Vec<u64>, Option<u64>)> {
    let gathered = answer.unwrap();
    let list = gathered.remains.as_ref().and_then(|remains| match remains {
        Leftover::Classes(list, _) => Some(list),
        Leftover::Event(_) => None,
    });
    let name =
        list.and_then(|list| LISTS.with_borrow(|lists| Some(lists.iter().find(|one| Arc::ptr_eq(&one.0, list))?.1)));
    Some((names(&gathered)?, name))
}

#[test]
fn groups_of_collected_events_are_told_apart_by_step_key_and_what_is_expected() {
    let mut run = run_of(plan_of(vec![step(None, None), step(None, None)]), 0);
    let mut collect =
        |step, key, expected: &[u8], event| collected(collect(&mut run, (step, key), expected, event, event * 100));
    assert_eq!(collect(0, None, &[1, 1], 1), None);
    assert_eq!(collect(1, None, &[1, 1], 2), None);
    assert_eq!(collect(0, Some(""), &[1, 1], 3), None);
    assert_eq!(collect(0, Some("a"), &[1, 1], 4), None);
    assert_eq!(collect(0, None, &[1, 1, 1], 5), None);
    assert_eq!(collect(0, Some("a"), &[1, 1], 6), Some((vec![4, 6], Some(400))));
    assert_eq!(collect(0, None, &[1, 1], 7), Some((vec![1, 7], Some(100))));
    assert_eq!(collect(0, None, &[1, 1, 1], 8), None);
    assert_eq!(collect(0, None, &[1, 1, 1], 9), Some((vec![5, 8, 9], Some(500))));
    assert_eq!(collect(0, Some("a"), &[1, 1], 10), None);
    assert_eq!(collect(0, Some("a"), &[1, 1], 11), Some((vec![10, 11], Some(1000))), "the group was made anew");
}

#[test]
fn a_group_that_is_complete_and_empty_is_forgotten_however_many_keys_there_were() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    for number in 0..10_000 {
        LISTS.with_borrow_mut(Vec::clear);
        let key = format!("order {number}");
        let group = (0, Some(&*key));
        assert_eq!(collected(collect(&mut run, group, &[1, 1], 1, number)), None);
        assert_eq!(collected(collect(&mut run, group, &[1, 1], 2, 0)), Some((vec![1, 2], Some(number))));
    }
    assert_eq!(run.events().count(), 0);
    let remains = run.begin_end().unwrap();
    keeping(|| drop(remains));
}

#[test]
fn a_group_with_a_surplus_is_remembered_until_that_is_given_too() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    let mut add = |class: u8, event| {
        let same = |expected: &[u8]| expected == [1, 2];
        let make = || new_list(&[1, 2], event * 100);
        let call = Collecting { slot: stale_slot(), step: StepId(0), key: None, event: Ev(event) };
        collected(keeping(|| run.collect(call, same, |_| Some(class), make)).map_err(event_alone))
    };
    assert_eq!((add(1, 1), add(1, 2)), (None, None));
    assert_eq!(add(2, 3), Some((vec![1, 3], None)), "the second event of class 1 still needs the classes");
    assert_eq!(add(2, 4), Some((vec![2, 4], Some(100))));
}

#[test]
fn an_event_of_another_class_is_given_back_and_the_group_is_as_it_was() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    let same = |expected: &[u8]| expected == [1, 1];
    assert_eq!(collected(collect(&mut run, (0, None), &[1, 1], 1, 100)), None);
    let make = || unreachable!("the group is there");
    let call = Collecting { slot: stale_slot(), step: StepId(0), key: None, event: Ev(2) };
    let refused = keeping(|| run.collect(call, same, |_| None, make));
    assert_eq!(refused.map_err(event_alone).unwrap_err(), Refused { error: Error::NotExpected, value: Ev(2) });
    assert_eq!(collected(collect(&mut run, (0, None), &[1, 1], 3, 0)), Some((vec![1, 3], Some(100))));
}

#[test]
fn an_event_that_is_refused_leaves_no_group_behind() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    for number in 0..100 {
        let key = format!("order {number}");
        let refused = collect(&mut run, (0, Some(&key)), &[2, 2], 1, number).unwrap_err();
        assert_eq!(refused.error, Error::NotExpected);
    }
    let remains = run.begin_end().unwrap();
    keeping(|| drop(remains));
}

#[test]
fn what_was_published_and_stored_can_be_read_when_the_run_is_over() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.publish(Ev(1)).unwrap();
    run.set("a", json(b"1")).unwrap();
    run.begin_end().unwrap();
    run.publish(Ev(2)).expect("steps that are being stopped may still say so");
    assert_eq!(run.set("a", json(b"2")), Ok(Some(json(b"1"))));
    assert!(run.try_end());
    assert_eq!(run.set("a", json(b"3")), Err(ended(json(b"3"))));
    assert_eq!(run.compare_and_set("b", None, json(b"3")), Err(ended(json(b"3"))));
    assert_eq!(run.delete("a"), Err(Error::RunEnded));
    assert_eq!(run.publish(Ev(3)), Err(ended(Ev(3))));
    assert_eq!(run.stream().read(1), Read::Event(&Ev(2)));
    assert_eq!(run.store().len(), 1);
}

#[test]
fn slots_of_a_run_that_is_over_name_nothing() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.deliver(EventKind(0), Ev(1)).unwrap();
    let (slot, _) = start(&mut run).unwrap();
    run.begin_end().unwrap();
    assert!(!run.try_end(), "a step is in flight");
    assert_eq!(run.event(slot), Some(&Ev(1)));
    run.finish_step(slot).unwrap();
    assert!(run.try_end() && !run.try_end());
    assert!(run.event(slot).is_none() && run.finish_step(slot).is_none());
}

#[test]
fn a_slot_names_nothing_once_another_delivery_has_its_place() {
    let mut run = run_of(plan_of(vec![step(None, Some(10))]), 0);
    run.deliver(EventKind(0), Ev(1)).unwrap();
    run.deliver(EventKind(0), Ev(2)).unwrap();
    let (stale, _) = start(&mut run).unwrap();
    run.finish_step(stale).unwrap();
    let (slot, _) = start(&mut run).unwrap();
    assert!(run.event(stale).is_none() && run.finish_step(stale).is_none());
    assert_eq!((run.event(slot), run.in_flight(), run.has_deadline()), (Some(&Ev(2)), 1, true));
    assert_eq!(run.finish_step(slot).map(|delivery| delivery.event), Some(Ev(2)));
    assert_eq!((run.in_flight(), run.has_deadline()), (0, false));
}

#[test]
fn a_step_starts_only_while_the_run_is_running() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.deliver(EventKind(0), Ev(1)).unwrap();
    run.deliver(EventKind(0), Ev(2)).unwrap();
    assert!(start(&mut run).is_some());
    let remains = run.begin_end().unwrap();
    assert_eq!((start(&mut run), run.ready()), (None, 0));
    assert_eq!(remains.queue.waiting().map(|delivery| delivery.event.0).collect::<Vec<_>>(), [2]);
}

fn kept(run: &TestRun) -> Vec<u64> {
    run.kept().map(|(_, event)| event.0).collect()
}

fn take(run: &mut TestRun, event: u64) -> Ev {
    let (number, _) = run.kept().find(|(_, kept)| kept.0 == event).expect("kept");
    let slot = stale_slot();
    run.take_kept(slot, number).expect("by its number")
}

#[test]
fn an_event_that_is_kept_again_is_ahead_of_those_that_are_kept() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.keep_again(Ev(7)).unwrap();
    (8..=10).for_each(|event| run.keep(Ev(event)).unwrap());
    let (first, second) = (take(&mut run, 7), take(&mut run, 8));
    run.keep_again(second).unwrap();
    run.keep_again(first).unwrap();
    assert_eq!(kept(&run), [7, 8, 9, 10]);
    let third = take(&mut run, 9);
    run.keep_again(third).unwrap();
    run.keep(Ev(11)).unwrap();
    assert_eq!(kept(&run), [9, 7, 8, 10, 11]);
    for event in [8, 11, 9, 7, 10] {
        assert_eq!(take(&mut run, event), Ev(event));
    }
    for event in [3, 2, 1] {
        run.keep_again(Ev(event)).unwrap();
    }
    run.keep(Ev(4)).unwrap();
    assert_eq!(kept(&run), [1, 2, 3, 4]);
    let remains = run.begin_end().unwrap();
    assert!(remains.kept.iter().map(|event| event.0).eq(1..=4));
    assert_eq!(run.keep_again(Ev(5)), Err(ended(Ev(5))));
}

#[test]
fn the_number_of_an_event_that_was_taken_names_no_other() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.keep(Ev(1)).unwrap();
    run.keep(Ev(2)).unwrap();
    let (second, _) = run.kept().last().unwrap();
    let (first, _) = (take(&mut run, 1), take(&mut run, 2));
    run.keep_again(first).unwrap();
    assert_eq!(run.take_kept(stale_slot(), second), None);
}

#[test]
fn who_waits_is_asked_in_turn_though_some_come_and_go_meanwhile() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    assert_eq!(run.next_waiter(None), None);
    let ids: Vec<_> = (0..4).map(|waiter| run.wait(stale_slot(), waiter, Some(1), None).unwrap()).collect();
    assert_eq!(run.next_waiter(None), Some((ids[0], &0, &1)));
    run.end_wait(ids[0]);
    run.end_wait(ids[1]);
    assert_eq!(run.next_waiter(Some(ids[0])), Some((ids[2], &2, &1)));
    run.end_wait(ids[3]);
    assert_eq!(run.next_waiter(Some(ids[2])), None);
    let late = run.wait(stale_slot(), 4, Some(1), None).unwrap();
    assert_eq!(run.next_waiter(Some(ids[2])), Some((late, &4, &1)));
    assert_eq!(run.next_waiter(Some(late)), None);
    assert_eq!(run.next_waiter(None), Some((ids[2], &2, &1)));
}

#[test]
fn a_run_that_is_abandoned_gives_back_its_deliveries_and_is_over() {
    let mut run = run_of(plan_of(vec![step(None, Some(10)), step(Some(1), None)]), 0);
    for (kind, event) in [(0, 1), (1, 2), (1, 3), (0, 4)] {
        run.deliver(EventKind(kind), Ev(event)).unwrap();
    }
    let slots: Vec<_> = std::iter::from_fn(|| start(&mut run)).map(|(slot, _)| slot).collect();
    run.finish_step(slots[0]).unwrap();
    run.begin_end().unwrap();
    let deliveries = keeping(|| run.abandon());
    assert_eq!(sorted(deliveries.iter().map(|delivery| (delivery.seq, delivery.event.0))), [(2, 2), (4, 4)]);
    assert_eq!((run.phase(), run.in_flight(), run.has_deadline()), (Phase::Ended, 0, false));
    assert!(slots.iter().all(|&slot| run.event(slot).is_none() && run.finish_step(slot).is_none()));
    assert!(run.abandon().is_empty() && !run.try_end());
}

#[test]
fn a_run_whose_outcome_is_not_known_is_not_abandoned() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    (1..=2).for_each(|event| run.deliver(EventKind(0), Ev(event)).unwrap());
    let (slot, _) = start(&mut run).unwrap();
    assert!(run.abandon().is_empty());
    assert_eq!((run.phase(), run.in_flight()), (Phase::Running, 1));
    run.finish_step(slot).unwrap();
    assert!(start(&mut run).is_some());
}

#[test]
fn a_run_that_is_cleared_gives_back_its_values_and_what_it_published() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.publish(Ev(1)).unwrap();
    run.publish(Ev(2)).unwrap();
    run.set("a", json(b"1")).unwrap();
    run.begin_end().unwrap();
    assert!(run.try_end());
    let (store, stream, log) = keeping(|| run.clear());
    assert!(log.is_empty());
    assert_eq!(store.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["a"]);
    assert!(stream.kept().map(|event| event.0).eq([1, 2]));
    assert!(run.store().is_empty());
    assert_eq!(run.stream().read(0), Read::Pending);
}

#[test]
fn an_event_that_is_sent_to_one_step_goes_there_alone_also_while_the_run_is_paused() {
    let mut run = run_of(plan_of(vec![step(None, None), step(None, None)]), 0);
    run.deliver(EventKind(0), Ev(1)).unwrap();
    let (slot, _) = start(&mut run).unwrap();
    run.pause().unwrap();
    keeping(|| run.send_to(slot, 7, StepId(1), Ev(2))).unwrap();
    run.resume();
    let started = run.start_next(|| 0).unwrap();
    assert_eq!((started.step, run.event(started.slot)), (StepId(1), Some(&Ev(2))));
    assert!(run.start_next(|| 0).is_none());
    assert!(run.delivery(slot).unwrap().replay.as_ref().unwrap().sent == [7], "a body that runs again knows it");
}

#[test]
fn a_run_has_its_own_limits_in_the_place_of_those_of_its_workflow() {
    let plan = || Plan { timeout: Some(10), deadline: Some(1_000), ..plan_of(vec![step(None, None)]) };
    let deadlines = |limits: Limits| {
        let mut run = run_of(plan(), 5);
        run.limit(limits);
        run.deliver(EventKind(0), Ev(1)).unwrap();
        let end = run.next_deadline();
        start(&mut run);
        run.start_next(|| 20);
        (end, run.timeout())
    };
    assert_eq!(deadlines(Limits::default()), (Some(1_005), Some(10)));
    assert_eq!(deadlines(Limits { timeout: Some(50), deadline: Some(2_000) }), (Some(2_005), Some(50)));
    assert_eq!(deadlines(Limits { timeout: Some(Time::MAX), deadline: Some(Time::MAX) }), (None, None));
}

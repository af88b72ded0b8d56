//! One run as a state machine: random histories against a model that only counts.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use proptest::prelude::*;
use treadle::{
    Complete, Deadline, Delivery, Error, EventKind, Host, Phase, Plan, Read, Refused, Remains, Routes, Run, RunId,
    Slot, StepId, StepPlan, Tag, Time, Value, WaitId,
};

thread_local! {
    static DROPS: Cell<u64> = const { Cell::new(0) };
}

/// An event, or a list of expected classes, that knows its name and counts drops: the core must never drop one.
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
    type Expected = Ev;
}

type TestRun = Run<Guest>;

fn copy(event: &Ev) -> Ev {
    Ev(event.0)
}

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
    Plan { steps, routes, timeout: None, stream_limit: 1000 }
}

fn ended<T>(value: T) -> Refused<T> {
    Refused { error: Error::RunEnded, value }
}

fn start(run: &mut TestRun) -> Option<(Slot, u64)> {
    let started = run.start_next(|| 0)?;
    Some((started.slot, started.seq))
}

#[derive(Clone, Debug)]
enum Op {
    Deliver(usize),
    Start,
    Finish(usize),
    Requeue(usize),
    Publish,
    Set(u8),
    Wait(Option<Time>),
    EndWait(usize),
    Keep,
    TakeKept(usize),
    KeepAgain(usize),
    Collect(u8, bool),
    Pass(Time),
    BeginEnd,
    TryEnd,
}

fn op() -> impl Strategy<Value = Op> {
    let at = any::<usize>;
    prop_oneof![
        30 => at().prop_map(Op::Deliver),
        30 => Just(Op::Start),
        25 => at().prop_map(Op::Finish),
        3 => at().prop_map(Op::Requeue),
        5 => Just(Op::Publish),
        5 => (0..5_u8).prop_map(Op::Set),
        8 => prop::option::of(0..40_u64).prop_map(Op::Wait),
        6 => at().prop_map(Op::EndWait),
        6 => Just(Op::Keep),
        6 => at().prop_map(Op::TakeKept),
        4 => at().prop_map(Op::KeepAgain),
        10 => (0..3_u8, any::<bool>()).prop_map(|(class, keyed)| Op::Collect(class, keyed)),
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
    (steps, prop::collection::vec(1..16_u32, 1..4), prop::option::of(10..100_u64), 0..10_usize).prop_map(
        |(steps, kinds, timeout, stream_limit)| {
            let mut routes = Routes::default();
            let count = u32::try_from(kinds.len()).unwrap();
            for kind in kinds {
                let taken: Vec<_> =
                    (0..u32::try_from(steps.len()).unwrap()).filter(|at| kind >> at & 1 == 1).map(StepId).collect();
                routes.add(if taken.is_empty() { vec![StepId(0)] } else { taken });
            }
            (Plan { steps, routes, timeout, stream_limit }, count)
        },
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Job {
    event: u64,
    step: u32,
}

impl Job {
    fn of(delivery: &Delivery<Ev>) -> Self {
        Self { event: delivery.event.0, step: delivery.step.0 }
    }
}

/// Events that are being collected, and the name of the list of classes that the run holds for them.
#[derive(Default)]
struct Group {
    pending: Vec<(u8, u64)>,
    expected: u64,
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
    /// Slots of steps that have finished.
    stale: Vec<Slot>,
    /// Steps of which a delivery was put back: their order is not that of the numbers.
    /// The numbers of the deliveries that were started.
    numbers: BTreeMap<u64, Job>,
    published: Vec<u64>,
    kept: BTreeMap<u64, u64>,
    waits: Vec<(WaitId, u64)>,
    collected: BTreeMap<bool, Group>,
    groups: u64,
    /// Deadlines in the order in which they were set.
    deadlines: Vec<(Time, Deadline)>,
    phase: Phase,
}

impl Model {
    fn new(plan: Plan, kinds: u32) -> Self {
        let deadlines = plan.timeout.map(|timeout| (1000 + timeout, Deadline::Run)).into_iter().collect();
        Self {
            run: run_of(plan, 1000),
            kinds,
            now: 1000,
            events: 0,
            waiting: Vec::new(),
            next: None,
            flights: Vec::new(),
            stale: Vec::new(),
            numbers: BTreeMap::new(),
            published: Vec::new(),
            kept: BTreeMap::new(),
            waits: Vec::new(),
            collected: BTreeMap::new(),
            groups: 0,
            deadlines,
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

    fn finish(&mut self, at: usize) -> Option<Delivery<Ev>> {
        if self.flights.is_empty() {
            return None;
        }
        let (slot, job) = self.flights.swap_remove(at % self.flights.len());
        self.forget_deadline(Deadline::Step(slot));
        let delivery = keeping(|| self.run.finish_step(slot)).expect("it was in flight");
        assert_eq!(Job::of(&delivery), job);
        assert_eq!(self.numbers.get(&delivery.seq), Some(&job));
        self.stale.push(slot);
        Some(delivery)
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Deliver(kind) => self.deliver(EventKind(kind as u32 % self.kinds)),
            Op::Start => self.start(),
            Op::Finish(at) => drop(self.finish(at)),
            Op::Requeue(at) => {
                if let Some(delivery) = self.finish(at) {
                    self.requeue(delivery);
                }
            }
            Op::Publish => self.publish(),
            Op::Set(key) => {
                let value = Value { tag: Tag::Json, bytes: vec![key].into() };
                match self.run.store_mut() {
                    Ok(store) => drop(store.set(&key.to_string(), value)),
                    Err(error) => assert_eq!((error, self.phase), (Error::RunEnded, Phase::Ended)),
                }
            }
            Op::Wait(timeout) => self.wait(timeout),
            Op::EndWait(at) => {
                if !self.waits.is_empty() {
                    let (id, waiter) = self.waits.remove(at % self.waits.len());
                    self.forget_deadline(Deadline::Wait(id));
                    assert_eq!(self.run.end_wait(id), Some(waiter));
                    assert_eq!(self.run.end_wait(id), None, "a wait ends once");
                }
            }
            Op::Keep => {
                let event = self.new_event();
                let name = event.0;
                if self.is_running() {
                    assert_eq!(keeping(|| self.run.keep(event)), Ok(()));
                    let (number, _) = self.run.kept().last().expect("just kept");
                    assert!(self.kept.keys().all(|&old| old < number));
                    self.kept.insert(number, name);
                } else {
                    assert_eq!(keeping(|| self.run.keep(event)), Err(ended(Ev(name))));
                }
            }
            Op::KeepAgain(at) => self.keep_again(at),
            Op::TakeKept(at) => {
                if let Some((&number, &name)) = self.kept.iter().nth(at % self.kept.len().max(1)) {
                    self.kept.remove(&number);
                    assert_eq!(keeping(|| self.run.take_kept(number)), Some(Ev(name)));
                    assert_eq!(self.run.take_kept(number), None, "an event is taken once");
                }
            }
            Op::Collect(class, keyed) => self.collect(class, keyed),
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
            return assert_eq!(keeping(|| self.run.deliver(kind, event, copy)), Err(ended(Ev(name))));
        }
        assert_eq!(keeping(|| self.run.deliver(kind, event, copy)), Ok(()));
        let steps = self.run.plan().routes.steps(kind).to_vec();
        self.waiting.extend(steps.iter().map(|step| Job { event: name, step: step.0 }));
    }

    fn start(&mut self) {
        let now = self.now;
        let could_start = self.could_start();
        let Some(started) = keeping(|| self.run.start_next(|| now)) else {
            return assert!(could_start == 0 || !self.is_running());
        };
        assert!(self.is_running(), "nothing starts once the outcome is known");
        let event = self.run.event(started.slot).expect("in flight").0;
        let job = Job { event, step: started.step.0 };
        let at = self.waiting.iter().position(|&other| other == job).expect("it was delivered and did not start yet");
        assert_eq!(started.attempt, 1);
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

    fn wait(&mut self, timeout: Option<Time>) {
        let waiter = self.events + 1_000_000;
        self.events += 1;
        let deadline = timeout.map(|timeout| self.now + timeout);
        match self.run.wait(waiter, deadline) {
            Err(refused) => assert!(refused == ended(waiter) && !self.is_running()),
            Ok(id) => {
                assert!(self.is_running());
                assert!(self.waits.iter().all(|&(old, _)| old < id));
                self.waits.push((id, waiter));
                self.deadlines.extend(deadline.map(|at| (at, Deadline::Wait(id))));
            }
        }
    }

    /// Collects two of class 0 and one of class 1; class 2 is not expected.
    fn collect(&mut self, class: u8, keyed: bool) {
        const EXPECTED: [u8; 3] = [0, 1, 0];
        let event = self.new_event();
        let name = event.0;
        self.groups += 1;
        let list = 1_000_000 + self.groups;
        let is_new = Cell::new(false);
        let run = &mut self.run;
        let answer = keeping(|| {
            run.collect(
                (StepId(0), keyed.then_some("key")),
                event,
                |expected| expected == EXPECTED,
                |expects| Some(class).filter(|&class| expects(class)),
                || (EXPECTED.into(), (Ev(list), is_new.set(true)).0),
            )
        });
        if !self.is_running() {
            return assert_eq!(answer.map(|_| ()).map_err(event_alone), Err(ended(Ev(name))));
        }
        let group = self.collected.entry(keyed).or_default();
        if is_new.get() {
            assert!(group.pending.is_empty(), "a group is not made anew while it has events");
            group.expected = list;
        }
        if class == 2 {
            let refused = Refused { error: Error::NotExpected, value: Ev(name) };
            return assert_eq!(answer.map(|_| ()).map_err(event_alone), Err(refused));
        }
        group.pending.push((class, name));
        let mut rest = group.pending.clone();
        let events: Option<Vec<_>> = EXPECTED
            .iter()
            .map(|&class| {
                let at = rest.iter().position(|one| one.0 == class)?;
                Some(Ev(rest.remove(at).1))
            })
            .collect();
        let Ok(complete) = answer else { panic!("the class is among the expected ones") };
        assert_eq!(complete.is_some(), events.is_some());
        let (Some(complete), Some(events)) = (complete, events) else { return };
        group.pending = rest;
        assert_eq!(complete.events, events);
        let last = group.pending.is_empty().then(|| Ev(group.expected));
        assert_eq!(complete.expected, last, "a group is forgotten once it has no events left");
        if last.is_some() {
            self.collected.remove(&keyed);
        }
    }

    fn requeue(&mut self, delivery: Delivery<Ev>) {
        let job = Job::of(&delivery);
        let seq = delivery.seq;
        match keeping(|| self.run.requeue(delivery)) {
            Ok(()) => {
                assert!(self.is_running());
                self.waiting.insert(0, job);
                self.next = Some(job);
            }
            Err(Refused { error, value }) => {
                assert!(error == Error::RunEnded && !self.is_running());
                assert_eq!((Job::of(&value), value.seq), (job, seq));
            }
        }
    }

    fn keep_again(&mut self, at: usize) {
        let Some((&number, &name)) = self.kept.iter().nth(at % self.kept.len().max(1)) else {
            let event = self.new_event();
            let name = event.0;
            if !self.is_running() {
                assert_eq!(keeping(|| self.run.keep_again(event)), Err(ended(Ev(name))));
            }
            return;
        };
        self.kept.remove(&number);
        let event = keeping(|| self.run.take_kept(number)).expect("it was kept");
        assert_eq!(keeping(|| self.run.keep_again(event)), Ok(()));
        let (number, _) = self.run.kept().next().expect("just kept");
        assert!(self.kept.keys().all(|&other| number < other), "it is ahead of the others");
        self.kept.insert(number, name);
    }

    fn pass(&mut self, time: Time) {
        self.now += time;
        loop {
            let first = (0..self.deadlines.len()).min_by_key(|&at| self.deadlines[at].0);
            let due = first.filter(|&at| self.deadlines[at].0 <= self.now);
            let expected = due.map(|at| self.deadlines.remove(at).1);
            assert_eq!(keeping(|| self.run.expire(self.now)), expected);
            match expected {
                None => return,
                Some(Deadline::Run) => {}
                Some(Deadline::Step(slot)) => {
                    assert!(self.flights.iter().any(|flight| flight.0 == slot), "only of a step in flight");
                }
                Some(Deadline::Wait(id)) => {
                    let at = self.waits.iter().position(|wait| wait.0 == id).expect("only of somebody who waits");
                    assert_eq!(self.run.end_wait(id), Some(self.waits.remove(at).1));
                }
            }
        }
    }

    fn begin_end(&mut self) {
        let remains = keeping(|| self.run.begin_end());
        assert_eq!(remains.is_some(), self.is_running(), "a run begins to end once");
        let Some(remains) = remains else { return };
        let Remains { queue, kept, waiters, .. } = &remains;
        self.waiting.sort_unstable();
        assert_eq!(sorted(queue.waiting().map(Job::of)), self.waiting);
        assert!(kept.iter().map(|event| event.0).eq(self.kept.values().copied()));
        assert!(waiters.iter().eq(self.waits.iter().map(|(_, waiter)| waiter)));
        self.waiting.clear();
        self.next = None;
        self.kept.clear();
        self.waits.clear();
        self.collected.clear();
        self.deadlines.clear();
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
        assert_eq!(run.in_flight() as usize, self.flights.len());
        assert_eq!(run.ready(), self.could_start());
        let held = sorted(run.events().map(|event| event.0));
        let jobs = self.waiting.iter().chain(self.flights.iter().map(|(_, job)| job)).map(|job| job.event);
        let collected = self.collected.values().flat_map(|group| &group.pending).map(|one| one.1);
        let expected = sorted(jobs.chain(collected).chain(self.kept.values().copied()));
        assert_eq!(held, expected, "no event is lost or doubled");
        assert!(run.waiters().map(|(id, &waiter)| (id, waiter)).eq(self.waits.iter().copied()));
        let next_waiter = |&(id, _): &(WaitId, _)| run.next_waiter(Some(id));
        assert!(std::iter::successors(run.next_waiter(None), next_waiter).eq(run.waiters()));
        assert!(run.kept().map(|(number, event)| (number, event.0)).eq(self.kept.iter().map(|(&n, &e)| (n, e))));
        let is_stalled = self.phase == Phase::Running
            && self.waiting.is_empty()
            && self.flights.is_empty()
            && self.waits.is_empty()
            && run.plan().steps.iter().all(|step| !step.external);
        assert_eq!(run.is_stalled(), is_stalled);
        assert_eq!(run.stream().published() as usize, self.published.len());
        assert_eq!(run.has_deadline(), !self.deadlines.is_empty());
        let next = self.deadlines.iter().map(|&(at, _)| at).min();
        assert_eq!(self.run.next_deadline(), next);
        for &slot in self.stale.iter().rev().take(8).filter(|&slot| self.flights.iter().all(|flight| flight.0 != *slot))
        {
            assert!(self.run.event(slot).is_none() && self.run.finish_step(slot).is_none(), "a step finishes once");
        }
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
        for op in [Op::Deliver(0), Op::Start, Op::Publish, Op::Set(0), Op::Wait(None), Op::Keep, Op::KeepAgain(0), Op::TryEnd, Op::BeginEnd] {
            model.apply(op);
        }
    }
}

#[test]
fn a_new_run_that_was_given_nothing_is_stalled() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    assert!(run.is_stalled());
    run.deliver(EventKind(0), Ev(1), copy).unwrap();
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
    let wait = run.wait(7, Some(5)).unwrap();
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
    run.deliver(kind, Ev(5), copy).unwrap();
    let started: Vec<_> = std::iter::from_fn(|| run.start_next(|| 0)).collect();
    assert_eq!(started.iter().map(|one| (one.step.0, one.seq)).collect::<Vec<_>>(), [(2, 1), (0, 2)]);
    assert!(started.iter().all(|one| run.event(one.slot) == Some(&Ev(5))));
}

#[test]
fn a_chain_of_a_hundred_thousand_steps_lives_in_one_place() {
    let mut run = run_of(plan_of(vec![step(None, Some(10))]), 0);
    run.deliver(EventKind(0), Ev(0), copy).unwrap();
    let mut places = BTreeSet::new();
    for number in 1..=100_000 {
        let (slot, seq) = start(&mut run).unwrap();
        assert_eq!(seq, number);
        places.insert(format!("{slot:?}").replace(&format!("seq: {seq}"), ""));
        let delivery = run.finish_step(slot).unwrap();
        run.deliver(EventKind(0), delivery.event, copy).unwrap();
    }
    assert_eq!(places.len(), 1, "{places:?}");
    assert!(!run.has_deadline());
}

#[test]
fn a_fan_out_of_ten_thousand_runs_eight_at_a_time_and_in_order() {
    let mut run = run_of(plan_of(vec![step(Some(8), None)]), 0);
    for number in 1..=10_000 {
        run.deliver(EventKind(0), Ev(number), copy).unwrap();
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
    run.deliver(EventKind(0), Ev(1), copy).unwrap();
    run.deliver(EventKind(0), Ev(2), copy).unwrap();
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
    run.deliver(EventKind(0), Ev(1), copy).unwrap();
    run.start_next(|| 7).unwrap();
    assert_eq!((run.expire(Time::MAX - 1), run.next_deadline()), (None, Some(Time::MAX)));
}

#[test]
fn the_clock_is_read_only_for_a_step_with_a_timeout() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.deliver(EventKind(0), Ev(1), copy).unwrap();
    assert!(run.start_next(|| unreachable!("no step has a timeout")).is_some());
    assert!(run.start_next(|| unreachable!("nothing is ready")).is_none());
}

#[test]
fn a_delivery_that_is_put_back_keeps_its_number_and_its_event() {
    let mut run = run_of(plan_of(vec![step(Some(1), None)]), 0);
    run.deliver(EventKind(0), Ev(9), copy).unwrap();
    let (slot, seq) = start(&mut run).unwrap();
    let delivery = run.finish_step(slot).unwrap();
    run.requeue(delivery).unwrap();
    assert!(!run.is_stalled());
    let (again, same) = start(&mut run).unwrap();
    assert_eq!((same, run.event(again)), (seq, Some(&Ev(9))));
}

#[test]
fn a_delivery_that_is_put_back_starts_before_all_others() {
    let mut run = run_of(plan_of(vec![step(None, None), step(Some(2), None)]), 0);
    for (kind, event) in [(0, 1), (1, 2), (0, 3), (1, 4)] {
        run.deliver(EventKind(kind), Ev(event), copy).unwrap();
    }
    let (first, _) = start(&mut run).unwrap();
    let delivery = run.finish_step(first).unwrap();
    run.requeue(delivery).unwrap();
    let order: Vec<_> = std::iter::from_fn(|| start(&mut run)).map(|(_, seq)| seq).collect();
    assert_eq!(order, [1, 2, 3, 4]);
}

#[test]
fn a_delivery_that_is_put_back_starts_before_those_that_wait_for_its_place() {
    let mut run = run_of(plan_of(vec![step(Some(1), None)]), 0);
    run.deliver(EventKind(0), Ev(1), copy).unwrap();
    run.deliver(EventKind(0), Ev(2), copy).unwrap();
    let (slot, seq) = start(&mut run).unwrap();
    let delivery = run.finish_step(slot).unwrap();
    run.requeue(delivery).unwrap();
    assert_eq!(start(&mut run).map(|(_, seq)| seq), Some(seq));
}

#[test]
fn nothing_is_put_back_or_started_once_the_outcome_is_known() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.deliver(EventKind(0), Ev(1), copy).unwrap();
    run.deliver(EventKind(0), Ev(2), copy).unwrap();
    let (slot, seq) = start(&mut run).unwrap();
    run.begin_end().unwrap();
    assert!(start(&mut run).is_none());
    let delivery = run.finish_step(slot).unwrap();
    let refused = run.requeue(delivery).unwrap_err();
    assert_eq!((refused.error, refused.value.seq, refused.value.event), (Error::RunEnded, seq, Ev(1)));
    assert!(start(&mut run).is_none() && run.try_end());
}

/// A refused event without what would have kept its group's classes alive.
fn event_alone(refused: Refused<(Ev, Option<Ev>)>) -> Refused<Ev> {
    Refused { error: refused.error, value: refused.value.0 }
}

/// Collects an event of class 1; `name` is that of the list of classes, if a group has to be made.
fn collect(
    run: &mut TestRun,
    group: (u32, Option<&str>),
    expected: &[u8],
    event: u64,
    name: u64,
) -> Result<Option<Complete<Ev, Ev>>, Refused<Ev>> {
    let class_of = |expects: &dyn Fn(u8) -> bool| Some(1).filter(|&class| expects(class));
    let make = || (expected.into(), Ev(name));
    let answer =
        keeping(|| run.collect((StepId(group.0), group.1), Ev(event), |other| other == expected, class_of, make));
    answer.map_err(event_alone)
}

fn collected(answer: Result<Option<Complete<Ev, Ev>>, Refused<Ev>>) -> Option<(Vec<u64>, Option<u64>)> {
    let complete = answer.unwrap()?;
    Some((complete.events.iter().map(|event| event.0).collect(), complete.expected.as_ref().map(|list| list.0)))
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
        let make = || ([1, 2].into(), Ev(event * 100));
        collected(
            keeping(|| run.collect((StepId(0), None), Ev(event), same, |_| Some(class), make)).map_err(event_alone),
        )
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
    let refused = keeping(|| run.collect((StepId(0), None), Ev(2), same, |_| None, make));
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
    run.store_mut().unwrap().set("a", Value { tag: Tag::Json, bytes: b"1".as_slice().into() });
    run.begin_end().unwrap();
    run.publish(Ev(2)).expect("steps that are being stopped may still say so");
    assert!(run.store_mut().is_ok());
    assert!(run.try_end());
    assert!(run.store_mut().is_err() && run.publish(Ev(3)) == Err(ended(Ev(3))));
    assert_eq!(run.stream().read(1), Read::Event(&Ev(2)));
    assert_eq!(run.store().len(), 1);
}

#[test]
fn slots_of_a_run_that_is_over_name_nothing() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.deliver(EventKind(0), Ev(1), copy).unwrap();
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
    run.deliver(EventKind(0), Ev(1), copy).unwrap();
    run.deliver(EventKind(0), Ev(2), copy).unwrap();
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
    run.deliver(EventKind(0), Ev(1), copy).unwrap();
    run.deliver(EventKind(0), Ev(2), copy).unwrap();
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
    run.take_kept(number).expect("by its number")
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
    assert_eq!(run.take_kept(second), None);
}

#[test]
fn who_waits_is_asked_in_turn_though_some_come_and_go_meanwhile() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    assert_eq!(run.next_waiter(None), None);
    let ids: Vec<_> = (0..4).map(|waiter| run.wait(waiter, None).unwrap()).collect();
    assert_eq!(run.next_waiter(None), Some((ids[0], &0)));
    run.end_wait(ids[0]);
    run.end_wait(ids[1]);
    assert_eq!(run.next_waiter(Some(ids[0])), Some((ids[2], &2)));
    run.end_wait(ids[3]);
    assert_eq!(run.next_waiter(Some(ids[2])), None);
    let late = run.wait(4, None).unwrap();
    assert_eq!(run.next_waiter(Some(ids[2])), Some((late, &4)));
    assert_eq!(run.next_waiter(Some(late)), None);
    assert_eq!(run.next_waiter(None), Some((ids[2], &2)));
}

#[test]
fn a_run_that_is_abandoned_gives_back_its_deliveries_and_is_over() {
    let mut run = run_of(plan_of(vec![step(None, Some(10)), step(Some(1), None)]), 0);
    for (kind, event) in [(0, 1), (1, 2), (1, 3), (0, 4)] {
        run.deliver(EventKind(kind), Ev(event), copy).unwrap();
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
    (1..=2).for_each(|event| run.deliver(EventKind(0), Ev(event), copy).unwrap());
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
    run.store_mut().unwrap().set("a", Value { tag: Tag::Json, bytes: b"1".as_slice().into() });
    run.begin_end().unwrap();
    assert!(run.try_end());
    let (store, stream) = keeping(|| run.clear());
    assert_eq!(store.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["a"]);
    assert!(stream.kept().map(|event| event.0).eq([1, 2]));
    assert!(run.store().is_empty());
    assert_eq!(run.stream().read(0), Read::Pending);
}

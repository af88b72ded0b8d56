//! A host that does what the real one does, in a random order: it runs bodies, routes events, turns the clock,
//! pauses and cancels, and puts the run down at any instant to go on with what was recorded.

// A refused delivery is given back as it is.
#![allow(clippy::result_large_err)]

mod routing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use treadle::{
    Collecting, Deadline, Gathered, HostDelivery, HostImage, Leftover, Origin, Phase, Progress, Run, RunId, Slot,
    StepId, Tag, Time, Value, WaitId, Wanted,
};

use self::routing::Move;
use super::ledger::Ledger;
use super::random::{Random, mix};
use super::workflow::{Action, DROPS, Ev, FAILED, Guest, Match, Named, Program, WAITED, Waiter, Workflow};

/// What may happen to a run besides its steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disturbances {
    pub pauses: bool,
    pub snapshots: bool,
    pub cancels: bool,
    /// Deliveries start once their records are safe.
    pub is_durable: bool,
}

enum At {
    Ready,
    Waiting(WaitId),
    Sleeping(WaitId),
    /// It was given an event, and has not seen it yet.
    Got(Named),
    TimedOut,
    /// Its matcher raised.
    Failed,
}

struct Body {
    slot: Slot,
    step: StepId,
    event: Named,
    attempt: u32,
    program: Rc<Program>,
    next: usize,
    at: At,
    has_joined: bool,
}

/// What is written of a run, and what is known of it besides.
struct Written {
    image: HostImage<Guest>,
    fold: HostImage<Guest>,
    ledger: Ledger,
    in_order: Vec<VecDeque<u64>>,
}

/// What a run has come to.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub finished: BTreeSet<(u64, u32)>,
    pub published: BTreeSet<u64>,
    pub state: BTreeMap<String, Vec<u8>>,
    pub is_stalled: bool,
}

pub struct Simulation {
    workflow: Rc<Workflow>,
    run: Run<Guest>,
    random: Random,
    disturbances: Disturbances,
    now: Time,
    bodies: Vec<Body>,
    ledger: Ledger,
    /// The fold of all records, from the first one on.
    fold: HostImage<Guest>,
    /// Where the run goes on after a crash: what was written last.
    written: Option<Written>,
    /// What the last call of the core recorded of events on their way, each with how many records there were by then.
    moves: Vec<(Move, u64)>,
    sent: u64,
    /// Answers from outside that are on their way.
    sending: BTreeSet<u64>,
    /// For each step, the deliveries that wait to be started for the first time, in their order.
    in_order: Vec<VecDeque<u64>>,
    /// How many records are safe, and with how many of them each delivery was queued.
    acknowledged: u64,
    queued_at: BTreeMap<u64, u64>,
    is_draining: bool,
    is_over: bool,
    trace: u64,
    pub calls: u64,
}

const START: Time = 1000;

// No time that a workflow has to do with is longer.
const SOON: Time = 1_000_000;

impl Simulation {
    pub fn new(workflow: Rc<Workflow>, schedule: u64, disturbances: Disturbances) -> Self {
        let mut random = Random::new(&[workflow.seed, 6, schedule]);
        let now = if random.one_in(4) { 0 } else { START };
        let run = Run::new(RunId::new(now, [7; 10]), Arc::clone(&workflow.plan), now);
        let fold = run.image();
        let in_order = workflow.plan.steps.iter().map(|_| VecDeque::new()).collect();
        let mut simulation = Self {
            workflow,
            run,
            random,
            disturbances,
            now,
            bodies: Vec::new(),
            ledger: Ledger::default(),
            fold,
            written: None,
            moves: Vec::new(),
            sent: 0,
            sending: BTreeSet::new(),
            in_order,
            acknowledged: 0,
            queued_at: BTreeMap::new(),
            is_draining: false,
            is_over: false,
            trace: 0,
            calls: 0,
        };
        simulation.begin_records();
        simulation.take_in(simulation.workflow.first_event());
        simulation.write();
        simulation
    }

    /// Lets things happen for some time, then only what is left to do. Gives what it has come to, and a digest of
    /// everything that happened.
    pub fn play(mut self) -> (Outcome, u64, u64) {
        for _ in 0..self.random.between(10, 120) {
            if self.is_over {
                break;
            }
            self.happen();
            self.check();
        }
        self.settle_down();
        let is_stalled = !self.is_over && self.run.is_stalled();
        let outcome = Outcome {
            finished: self.ledger.finished.clone(),
            published: self.ledger.published.iter().copied().collect(),
            state: self.ledger.state.clone(),
            is_stalled,
        };
        self.end(false);
        while !self.is_over {
            self.stop_any();
        }
        self.check_over();
        (outcome, self.trace, self.calls)
    }

    // --- calls of the core

    /// Between any two calls all that is recorded may be written, or none of it.
    fn commit_perhaps(&mut self) {
        if self.disturbances.snapshots && self.is_running() && self.random.one_in(24) {
            self.write();
        }
    }

    fn write(&mut self) {
        let (image, fold) = (self.run.image(), self.run.image());
        self.ledger.check(&image);
        self.written = Some(Written { image, fold, ledger: self.ledger.clone(), in_order: self.in_order.clone() });
    }

    /// Calls the core, and checks that it drops no event and that its records say what it is now.
    fn call<T>(&mut self, call: impl FnOnce(&mut Run<Guest>) -> T) -> T {
        self.commit_perhaps();
        let before = DROPS.get();
        let answer = call(&mut self.run);
        assert_eq!(DROPS.get(), before, "the core gives events back and drops none");
        self.check_fold();
        answer
    }

    fn begin_records(&mut self) {
        self.call(Run::start_log);
        if !self.disturbances.is_durable {
            self.acknowledge_up_to(u64::MAX);
        }
    }

    fn check_fold(&mut self) {
        self.calls += 1;
        let records = self.run.take_log();
        let before = self.run.recorded() - records.len() as u64;
        self.moves = (before + 1..).zip(&records).filter_map(|(at, record)| Some((Move::of(record)?, at))).collect();
        for record in records {
            self.fold.apply(record).expect("a run records what is possible");
        }
        let image = self.run.image();
        assert!(self.fold == image, "the records say {}", difference(&self.fold, &image));
    }

    fn note(&mut self, what: &[u64]) {
        self.trace = mix(&[self.trace, mix(what)]);
    }

    fn is_running(&self) -> bool {
        self.run.phase() == Phase::Running
    }

    fn plan_of(&self, step: StepId) -> &treadle::StepPlan {
        &self.workflow.plan.steps[step.0 as usize]
    }

    // --- what happens

    fn happen(&mut self) {
        if self.disturbances.snapshots && self.random.one_in(24) {
            return self.crash();
        }
        if !self.is_running() {
            return self.stop_any();
        }
        // Lanes look for it before they start anything, and the loop in its next pass.
        if self.run.is_release_due() && self.random.one_in(2) {
            return self.release_held();
        }
        match self.random.below(100) {
            0..15 => self.start(),
            15..25 => {
                let progress = self.progress();
                self.do_next(progress);
            }
            25..65 => self.advance_any(),
            65..75 => self.send_from_outside(),
            75..85 => self.pass_time(),
            85..90 if self.disturbances.pauses => self.pause_or_resume(),
            90..96 if self.disturbances.snapshots => self.put_down(),
            96..98 if self.disturbances.is_durable => self.acknowledge(),
            98 if self.disturbances.snapshots && self.random.one_in(4) => self.drain(),
            99 if self.disturbances.cancels && self.random.one_in(4) => {
                let is_abandoned = self.random.one_in(2);
                self.end(is_abandoned);
            }
            _ => self.start(),
        }
    }

    fn acknowledge(&mut self) {
        let recorded = self.run.recorded();
        match self.random.below(6) {
            0 => {
                self.call(Run::hold_back);
                self.acknowledged = self.acknowledged.min(recorded);
            }
            1 => self.acknowledge_up_to(u64::MAX),
            2 | 3 => self.acknowledge_up_to(recorded),
            _ => {
                let safe = self.random.between(0, recorded);
                self.acknowledge_up_to(safe);
            }
        }
    }

    fn acknowledge_up_to(&mut self, recorded: u64) {
        self.call(|run| run.acknowledge(recorded));
        self.acknowledged = self.acknowledged.max(recorded);
    }

    /// The run is to go on elsewhere: nothing starts here any more.
    fn drain(&mut self) {
        self.note(&[20]);
        self.call(Run::drain);
        self.is_draining = true;
        assert!(self.run.is_held() && self.run.ready() == 0);
    }

    fn start(&mut self) {
        self.release_held();
        self.start_next();
    }

    fn start_next(&mut self) {
        let now = self.now;
        let Some(started) = self.call(|run| run.start_next(|| now)) else { return };
        self.note(&[1, started.seq, u64::from(started.attempt)]);
        assert!(self.is_running() && !self.run.is_held());
        let (event, step) = self.ledger.pending[&started.seq];
        assert_eq!((self.run.event(started.slot).map(|event| event.0), started.step), (Some(event), step));
        let queued_at = self.queued_at.remove(&started.seq);
        assert!(queued_at.is_none_or(|recorded| recorded <= self.acknowledged), "it starts once its record is safe");
        let order = &mut self.in_order[step.0 as usize];
        if order.contains(&started.seq) {
            assert_eq!(order.pop_front(), Some(started.seq), "first in, first out, within a step");
        }
        assert!(self.bodies.iter().all(|body| body.slot.seq() != started.seq), "one body at a time for a delivery");
        let program = Rc::new(self.workflow.program(step, event));
        let (slot, attempt) = (started.slot, started.attempt);
        self.bodies.push(Body { slot, step, event, attempt, program, next: 0, at: At::Ready, has_joined: false });
    }

    fn advance_any(&mut self) {
        let ready: Vec<_> = (0..self.bodies.len()).filter(|&at| self.is_ready(at)).collect();
        if ready.is_empty() {
            return self.start();
        }
        let seq = self.bodies[ready[self.random.below(ready.len())]].slot.seq();
        for _ in 0..self.random.between(1, 6) {
            match self.bodies.iter().position(|body| body.slot.seq() == seq) {
                Some(at) if self.is_ready(at) => self.advance(at),
                _ => return,
            }
        }
    }

    fn is_ready(&self, at: usize) -> bool {
        matches!(self.bodies[at].at, At::Ready | At::Got(_) | At::TimedOut | At::Failed)
    }

    fn send_from_outside(&mut self) {
        if !self.ledger.outside.is_empty() && (self.workflow.is_orderless || self.random.one_in(2)) {
            return self.send_answer();
        }
        if self.workflow.is_orderless || self.sent > 12 {
            return;
        }
        self.sent += 1;
        let class = if self.random.one_in(3) { self.random.below(self.workflow.kinds.into()) as u8 } else { WAITED };
        let name = mix(&[self.workflow.seed, 8, self.sent]);
        self.take_in(Named { name, class, depth: 3, group: None });
    }

    fn pass_time(&mut self) {
        let next = self.run.next_deadline();
        self.now = match self.random.below(8) {
            0 => self.now.saturating_sub(self.random.between(0, 50)),
            1..=4 => {
                next.filter(|at| !self.workflow.is_orderless || *at < self.now + SOON).unwrap_or(self.now).max(self.now)
            }
            5 => self.now + self.random.between(0, 500),
            _ => self.now + self.random.between(0, 20),
        };
        self.expire();
    }

    fn expire(&mut self) {
        let now = self.now;
        while let Some(deadline) = self.call(|run| run.expire(now)) {
            assert!(!self.run.is_paused(), "no deadline passes while the run is paused");
            match deadline {
                Deadline::Run | Deadline::End => {
                    self.note(&[2]);
                    return self.end(false);
                }
                Deadline::Step(slot) => {
                    let at = self.bodies.iter().position(|body| body.slot == slot).expect("only of a step in flight");
                    self.note(&[3, slot.seq()]);
                    self.give_up(at);
                    self.fail(at);
                }
                Deadline::Wait(id) => self.time_out(id),
                Deadline::Retry(seq) => self.note(&[4, seq]),
                Deadline::Settling => self.release_held(),
            }
            if !self.is_running() {
                return;
            }
        }
        assert!(self.run.is_paused() || self.fold.deadline.is_none_or(|at| at > now), "a run ends at its deadline");
    }

    fn time_out(&mut self, id: WaitId) {
        let over = self.call(|run| run.end_wait(id)).expect("only of somebody who waits");
        let body = self.bodies.iter_mut().find(|body| match body.at {
            At::Waiting(other) | At::Sleeping(other) => other == id,
            _ => false,
        });
        match body {
            Some(body) => body.at = if over.class.is_some() { At::TimedOut } else { At::Ready },
            None => assert!(over.waiter.is_task),
        }
        self.note(&[5, over.waiter.slot.seq()]);
    }

    fn pause_or_resume(&mut self) {
        if self.run.is_paused() {
            return self.resume();
        }
        let was_paused = self.call(Run::pause);
        assert_eq!(was_paused, Ok(false));
        self.note(&[6]);
        if self.random.one_in(2) {
            return;
        }
        // The steps in flight are stopped, in whatever order their loop stops them. The run may go on before that.
        for at in 0..self.bodies.len() {
            let slot = self.bodies[at].slot;
            self.call(|run| run.stop(slot));
        }
        if self.random.one_in(3) {
            self.resume();
            self.send_from_outside();
        }
        while self.is_running() && !self.bodies.is_empty() {
            let at = self.random.below(self.bodies.len());
            self.give_up(at);
            let body = self.bodies.swap_remove(at);
            let put_back = self.call(|run| run.put_back(body.slot));
            assert!(put_back.is_ok());
            assert!(matches!(self.run.put_back(body.slot), Err(None)));
        }
        assert!(!self.is_running() || self.run.is_quiet() && self.run.in_flight() == 0);
    }

    fn resume(&mut self) {
        self.note(&[7]);
        self.call(Run::resume);
        self.release_held();
        if self.is_running() {
            self.expire();
        }
    }

    /// What is held goes its way, one by one. Other threads may do something meanwhile.
    fn release_held(&mut self) {
        while self.run.is_release_due() {
            let next =
                self.call(|run| run.next_release().map(|(number, held)| (number, held.event.0, held.is_from_outside)));
            let Some((number, event, is_from_outside)) = next else { return };
            self.pass_on(vec![event], Origin::Deferred { number, is_from_outside });
            if self.disturbances.pauses && self.random.one_in(30) && self.is_running() {
                let _ = self.call(Run::pause);
            }
            if self.random.one_in(4) {
                self.send_from_outside();
            }
        }
    }

    /// The process ends at this instant, and all is written.
    fn put_down(&mut self) {
        self.note(&[9]);
        assert!(self.is_running());
        self.write();
        self.go_on_elsewhere();
    }

    /// The process ends, and what was not written is lost.
    fn crash(&mut self) {
        self.note(&[21]);
        self.go_on_elsewhere();
    }

    fn go_on_elsewhere(&mut self) {
        let Some(written) = self.written.take() else { return };
        let before = DROPS.get();
        let restored = Run::restore(written.image, Arc::clone(&self.workflow.plan));
        assert_eq!(DROPS.get(), before, "what an image holds is in the run");
        self.run = restored;
        (self.fold, self.ledger, self.in_order) = (written.fold, written.ledger, written.in_order);
        self.bodies.clear();
        self.is_draining = false;
        (self.acknowledged, self.queued_at) = (0, BTreeMap::new());
        self.begin_records();
        self.write();
        self.release_held();
    }

    /// An event was queued for a step with this many records.
    fn note_delivery(&mut self, event: Named, step: StepId, recorded: u64) {
        let seq = self.ledger.deliver(event, step);
        self.queued_at.insert(seq, recorded);
        self.in_order[step.0 as usize].push_back(seq);
        let answers = self.workflow.answers(step, event);
        self.ledger.outside.extend(answers);
    }

    // --- bodies

    /// A body is stopped where it is.
    fn give_up(&mut self, at: usize) {
        let body = &mut self.bodies[at];
        let slot = body.slot;
        match std::mem::replace(&mut body.at, At::Ready) {
            At::Waiting(id) | At::Sleeping(id) => {
                let over = self.call(|run| run.give_up(id));
                assert_eq!(over.is_some(), self.is_running(), "it waited");
            }
            At::Got(event) => {
                self.give_back(slot, event);
            }
            At::Ready | At::TimedOut | At::Failed => {}
        }
    }

    /// A body goes on to the next point where it could be suspended.
    fn advance(&mut self, at: usize) {
        let body = &mut self.bodies[at];
        let (slot, program) = (body.slot, Rc::clone(&body.program));
        let action = program.actions.get(body.next).copied();
        body.next += 1;
        match (std::mem::replace(&mut body.at, At::Ready), action) {
            (At::Got(event), _) => {
                body.next -= 1;
                self.note(&[13, slot.seq(), event.name]);
            }
            (At::TimedOut, _) => {
                body.next -= 1;
                let raises = matches!(program.actions[body.next - 1], Action::Wait { raises: true, .. });
                if raises {
                    self.fail(at);
                }
            }
            (At::Failed, _) => self.fail(at),
            (_, Some(action)) => self.act(at, action),
            (_, None) => self.finish(at),
        }
    }

    fn act(&mut self, at: usize, action: Action) {
        let Body { slot, step, event, attempt, .. } = self.bodies[at];
        match action {
            Action::Set(key) => self.set(&format!("shared {key}"), slot.seq() as u8),
            Action::SetOwn => self.set(&format!("of {} in {}", event.name, step.0), event.depth),
            Action::Delete(key) => {
                let key = format!("shared {key}");
                let deleted = self.call(|run| run.delete(&key)).expect("the run is not over");
                assert_eq!(deleted.map(|value| value.bytes.to_vec()), self.ledger.state.remove(&key));
            }
            Action::CompareAndSet(key) => self.compare_and_set(&format!("shared {key}"), attempt as u8),
            Action::Send(sent) => {
                if self.is_running() && !self.call(|run| run.sends_again(slot, |name| name == sent.name)) {
                    self.pass_on(vec![sent], Origin::Sent { slot, digest: sent.name });
                }
            }
            Action::Publish => {
                let name = mix(&[event.name, step.0.into(), 14]);
                let published = Ev(Named { name, ..event });
                assert!(self.call(|run| run.publish(published)).is_ok());
                self.ledger.published.push(name);
            }
            Action::Wait { class, filter, timeout, .. } => self.wait(at, class, filter, timeout),
            Action::Sleep(micros) => self.sleep(at, micros),
            Action::LeaveTask { filter, deadline } => {
                let (waiter, now) = (Waiter { slot, filter, is_task: true }, self.now);
                let waiting = self.call(|run| run.wait(slot, waiter, Some(WAITED), Some(now + deadline)));
                assert_eq!(waiting.is_ok(), self.is_running());
            }
            Action::Join => {
                let (group, of) = event.group.expect("it is one of a fan-out");
                let expected = vec![event.class; of.into()];
                let given = self.collect(at, Some(group.to_string()), expected);
                self.bodies[at].has_joined = given;
            }
            Action::Collect { keyed, other } => {
                self.collect(at, keyed.then(|| "shared".to_owned()), vec![event.class, other]);
            }
            Action::Fail { until } if attempt <= until => self.fail(at),
            Action::Fail { .. } => {}
        }
    }

    fn set(&mut self, key: &str, byte: u8) {
        let old = self.call(|run| run.set(key, value(byte))).expect("the run is not over");
        assert_eq!(old.map(|old| old.bytes.to_vec()), self.ledger.state.insert(key.to_owned(), vec![byte]));
    }

    fn compare_and_set(&mut self, key: &str, byte: u8) {
        let version = self.run.store().get_versioned(key).map(|(_, version)| version);
        let asked = if self.random.one_in(3) { Some(u64::MAX) } else { version };
        let set = self.call(|run| run.compare_and_set(key, asked, value(byte)));
        assert_eq!(set.is_ok(), asked == version);
        if set.is_ok() {
            self.ledger.state.insert(key.to_owned(), vec![byte]);
        }
    }

    fn wait(&mut self, at: usize, class: u8, filter: Match, timeout: Option<Time>) {
        let (slot, now) = (self.bodies[at].slot, self.now);
        let deadline = timeout.map(|timeout| self.call(|run| run.ask_deadline(slot, Wanted::Wait(timeout), || now)));
        if let Some((event, was_received)) = self.look(slot, class, filter) {
            if was_received {
                return self.note(&[19, slot.seq(), event.name]);
            }
            self.bodies[at].at = At::Got(event);
            return;
        }
        let waiter = Waiter { slot, filter, is_task: false };
        match self.call(|run| run.wait(slot, waiter, Some(class), deadline)) {
            Ok(id) => {
                self.bodies[at].at = At::Waiting(id);
                if let (Match::Name(name), Some(_)) = (filter, self.workflow.kind_of(class)) {
                    self.ledger.ask(Named { name, ..Workflow::answer(class) });
                }
            }
            Err(_) => assert!(!self.is_running()),
        }
    }

    fn sleep(&mut self, at: usize, micros: Time) {
        let (slot, now) = (self.bodies[at].slot, self.now);
        let deadline = self.call(|run| run.ask_deadline(slot, Wanted::Sleep(micros), || now));
        if deadline <= now {
            return;
        }
        let waiter = Waiter { slot, filter: Match::Any, is_task: false };
        match self.call(|run| run.wait(slot, waiter, None, Some(deadline))) {
            Ok(id) => self.bodies[at].at = At::Sleeping(id),
            Err(_) => assert!(!self.is_running()),
        }
    }

    /// Says whether the group is complete now.
    fn collect(&mut self, at: usize, key: Option<String>, expected: Vec<u8>) -> bool {
        let Body { slot, step, event, .. } = self.bodies[at];
        let call = Collecting { slot, step, key: key.as_deref(), event: Ev(event) };
        let class_of = |expects: &dyn Fn(&u8) -> bool| Some(event.class).filter(|class| expects(class));
        let make = || expected.clone().into();
        let answer = self.call(|run| run.collect(call, |other| other == expected, class_of, make));
        let Ok(Gathered { events, remains }) = answer else {
            assert!(!self.is_running());
            return false;
        };
        if matches!(remains, Some(Leftover::Event(_))) {
            return events.is_some();
        }
        let given = self.ledger.collect((step.0, key, expected), event.class, event.name);
        let names = events.as_ref().map(|events| events.iter().map(|event| event.0.name).collect::<Vec<_>>());
        assert_eq!(names, given);
        given.is_some()
    }

    fn fail(&mut self, at: usize) {
        let body = self.bodies.swap_remove(at);
        let Body { slot, step, event, attempt, .. } = body;
        self.note(&[15, slot.seq(), u64::from(attempt)]);
        if !self.is_running() {
            self.leave(slot);
            return self.try_end();
        }
        let since = self.run.delivery(slot).and_then(|delivery| delivery.since).map(std::num::NonZeroU64::get);
        let (now, part) = (self.now, self.random.part());
        let due = self.plan_of(step).retry.as_ref().and_then(|retry| retry.next(attempt, since, now, part));
        if let Some(due) = due {
            assert!(self.call(|run| run.retry(slot, format!("attempt {attempt}").into(), due)).is_ok());
            return;
        }
        if event.class != FAILED && self.workflow.seed.is_multiple_of(2) {
            // Another step deals with it.
            let name = mix(&[event.name, step.0.into(), 16]);
            let failed = Named { name, class: FAILED, depth: event.depth.saturating_add(1), group: None };
            let taker = StepId((step.0 + 1) % self.workflow.plan.steps.len() as u32);
            let setbacks = self.run.setbacks(slot, now).expect("it is in flight");
            let failed_event = Ev(failed);
            let finished = self.call(|run| run.hand_on(slot, &[taker], &failed_event, setbacks));
            self.ledger.emit(name);
            let recorded = self.moves.first().expect("it is queued").1;
            self.note_delivery(failed, taker, recorded);
            return self.has_left(slot, finished);
        }
        self.bodies.push(body);
        self.end(false);
        self.bodies.retain(|body| body.slot != slot);
        self.leave(slot);
        self.try_end();
    }

    /// A body has come to its end.
    fn finish(&mut self, at: usize) {
        let Body { slot, has_joined, .. } = self.bodies[at];
        let program = Rc::clone(&self.bodies[at].program);
        self.note(&[17, slot.seq()]);
        let returned = program.returns.iter().chain(program.joined.iter().filter(|_| has_joined));
        self.pass_on(returned.copied().collect(), Origin::Returned(slot));
        self.bodies.retain(|body| body.slot != slot);
        if self.run.delivery(slot).is_some() {
            self.leave(slot);
        }
        self.try_end();
    }

    fn leave(&mut self, slot: Slot) {
        let finished = self.call(|run| run.finish_step(slot));
        self.has_left(slot, finished);
    }

    fn has_left(&mut self, slot: Slot, finished: Option<HostDelivery<Guest>>) {
        assert_eq!(finished.map(|delivery| delivery.seq), Some(slot.seq()), "it was in flight");
        self.ledger.finish(slot.seq());
        assert!(self.run.finish_step(slot).is_none() && self.run.delivery(slot).is_none(), "a step finishes once");
    }

    // --- checks between calls

    fn check(&self) {
        let run = &self.run;
        assert_eq!(run.in_flight() as usize, self.bodies.len());
        for body in &self.bodies {
            assert_eq!(run.event(body.slot).map(|event| event.0), Some(body.event));
        }
        if !self.is_running() {
            return;
        }
        self.ledger.check(&run.image());
        let could_start = self.could_start();
        let is_held_back = self.disturbances.is_durable && run.ready() == 0;
        assert!(run.ready() == could_start || run.is_held() || is_held_back);
        let is_waiting = |body: &Body| run.waiters().any(|(_, waiter)| waiter.slot == body.slot);
        assert_eq!(run.is_quiet(), self.bodies.iter().all(is_waiting));
        let has_retries = self.fold.pending.values().any(|pending| pending.due.is_some());
        let is_dead = could_start == 0 && self.bodies.is_empty() && !has_retries && run.waiters().len() == 0;
        assert!(
            !is_dead || !run.has_held() || run.is_held() || run.is_release_due(),
            "what is held is held for somebody"
        );
        let is_dead = is_dead && !run.has_held();
        let has_external = self.workflow.plan.steps.iter().any(|step| step.external);
        assert_eq!(run.is_stalled(), is_dead && !run.is_held() && !has_external, "it stalls, and says so");
        let is_queued = |seq: &u64| self.fold.pending[seq].due.is_none() && !self.is_in_flight(*seq);
        assert!(!run.is_settling() || self.fold.pending.keys().any(|seq| is_queued(seq) || self.is_in_flight(*seq)));
    }

    fn is_in_flight(&self, seq: u64) -> bool {
        self.bodies.iter().any(|body| body.slot.seq() == seq)
    }

    /// How many of the deliveries that are queued find a place in their step.
    fn could_start(&self) -> usize {
        let steps = self.workflow.plan.steps.iter().zip(0..);
        let could_start = steps.map(|(plan, number)| {
            let running = self.bodies.iter().filter(|body| body.step.0 == number).count();
            let limit = plan.concurrency.map_or(usize::MAX, |limit| limit.get() as usize);
            assert!(running <= limit, "{running} bodies run where {limit} may");
            let pending = self.fold.pending.iter();
            let queued =
                pending.filter(|(seq, it)| it.step.0 == number && it.due.is_none() && !self.is_in_flight(**seq));
            queued.count().min(limit - running)
        });
        could_start.sum()
    }

    /// A run that is over takes nothing any more.
    fn check_over(&mut self) {
        assert!(self.is_over && self.run.phase() == Phase::Ended && self.ledger.pending.is_empty());
        assert!(self.run.waiters().len() == 0 && self.run.kept().next().is_none() && !self.run.has_deadline());
        assert!(self.run.set("late", value(0)).is_err() && self.run.pause().is_err() && !self.run.is_release_due());
        let event = || Ev(self.workflow.first_event());
        assert!(self.run.deliver_to(StepId(0), event()).is_err() && self.run.keep(event()).is_err());
        assert!(self.run.start_next(|| 0).is_none() && self.run.expire(Time::MAX).is_none());
        let restored: Run<Guest> = Run::restore(self.run.image(), Arc::clone(&self.workflow.plan));
        assert!(restored.phase() == Phase::Ended && restored.image() == self.fold);
    }

    // --- the end

    /// Nothing disturbs the run any more: it does what is left to do.
    fn settle_down(&mut self) {
        (self.disturbances.snapshots, self.disturbances.pauses) = (false, false);
        if self.is_running() && self.is_draining {
            self.put_down();
        }
        if self.run.is_paused() {
            self.resume();
        }
        while !self.is_over {
            let recorded = self.run.recorded();
            self.acknowledge_up_to(recorded);
            let progress = self.progress();
            if progress == Progress::Ended {
                self.stop_any();
            } else if matches!(progress, Progress::Release | Progress::Expired | Progress::Ready) {
                self.do_next(progress);
            } else if (0..self.bodies.len()).any(|at| self.is_ready(at)) {
                self.advance_any();
            } else if !self.ledger.outside.is_empty() {
                self.send_answer();
            } else if let Some(next) = self.run.next_deadline() {
                self.now = self.now.max(next);
                self.expire();
            } else {
                assert!(!self.run.is_settling(), "whoever waited has come to that point again");
                assert!(self.run.is_quiet() && self.run.is_idle());
                let has_external = self.workflow.plan.steps.iter().any(|step| step.external);
                let is_dead = self.run.waiters().len() == 0 && !has_external;
                assert_eq!(progress, if is_dead { Progress::Stalled } else { Progress::Idle });
                return;
            }
            self.check();
        }
    }

    fn progress(&mut self) -> Progress {
        let now = self.now;
        self.call(|run| run.poll(|| now))
    }

    /// What a lane does between two steps.
    fn do_next(&mut self, progress: Progress) {
        match progress {
            Progress::Ended => self.stop_any(),
            Progress::Release => self.release_held(),
            Progress::Expired => self.expire(),
            Progress::Ready => {
                let in_flight = self.run.in_flight();
                self.start_next();
                assert_eq!(self.run.in_flight(), in_flight + 1, "it was ready");
            }
            Progress::HeldBack => {
                let recorded = self.run.recorded();
                self.acknowledge_up_to(recorded);
                assert!(self.run.ready() > 0, "it waited for its record alone");
            }
            Progress::Paused => assert!(self.run.is_held() && self.run.ready() == 0),
            Progress::Stalled => assert!(self.run.is_stalled()),
            Progress::Idle => assert!(self.run.ready() == 0 && !self.run.is_stalled()),
        }
    }

    /// One of the steps of a run that ends does something still, or stops.
    fn stop_any(&mut self) {
        let at = self.random.below(self.bodies.len());
        if self.is_ready(at) && self.random.one_in(2) {
            return self.advance(at);
        }
        self.give_up(at);
        let body = self.bodies.swap_remove(at);
        match self.random.below(3) {
            0 => {
                let refused = self.call(|run| run.put_back(body.slot)).expect_err("the outcome is known");
                assert_eq!(refused.map(|refused| refused.value.seq), Some(body.slot.seq()));
                self.ledger.finish(body.slot.seq());
            }
            1 => {
                let refused =
                    self.call(|run| run.retry(body.slot, "late".into(), 0)).expect_err("the outcome is known");
                assert_eq!(refused.map(|refused| refused.value.seq), Some(body.slot.seq()));
                self.ledger.finish(body.slot.seq());
            }
            _ => self.leave(body.slot),
        }
        self.try_end();
    }

    fn send_answer(&mut self) {
        let at = self.random.below(self.ledger.outside.len());
        let answer = self.ledger.outside[at];
        if self.sending.insert(answer.name) {
            self.take_in(answer);
            self.sending.remove(&answer.name);
        }
    }

    /// The outcome is known; the steps in flight are stopped, if anybody is left to stop them.
    fn end(&mut self, is_abandoned: bool) {
        self.note(&[18]);
        let Some(remains) = self.call(Run::begin_end) else { return };
        let in_flight: BTreeSet<_> = self.bodies.iter().map(|body| body.slot.seq()).collect();
        let queued = remains.queue.waiting().chain(&remains.retries);
        let given = queued.map(|delivery| (delivery.seq, delivery.event.0.name)).collect();
        let kept = remains.kept.iter().map(|event| event.0.name).collect();
        self.ledger.end(&in_flight, given, kept);
        drop(remains);
        if is_abandoned {
            let deliveries = self.call(Run::abandon);
            assert!(deliveries.iter().map(|delivery| delivery.seq).collect::<BTreeSet<_>>() == in_flight);
            deliveries.iter().for_each(|delivery| self.ledger.finish(delivery.seq));
            self.bodies.clear();
            self.is_over = true;
            return;
        }
        self.try_end();
    }

    fn try_end(&mut self) {
        if self.run.phase() == Phase::Ending && self.call(Run::try_end) {
            assert!(self.bodies.is_empty());
            self.is_over = true;
        }
    }
}

fn value(byte: u8) -> Value {
    Value::new(Tag::Binary, vec![byte])
}

/// The first part in which two images differ.
fn difference(one: &HostImage<Guest>, other: &HostImage<Guest>) -> String {
    type Show = fn(&HostImage<Guest>) -> String;
    let parts: [Show; 7] = [
        |image| format!("{:?} {:?} {:?}", image.created, image.deadline, image.status),
        |image| format!("{} {} {} {}", image.delivered, image.waited, image.grouped, image.published),
        |image| format!("{:?}", image.state.iter().collect::<Vec<_>>()),
        |image| format!("{:#?}", image.pending),
        |image| format!("{:?}", image.waits),
        |image| format!("{:?}", image.groups),
        |image| format!("{:?} {:?}", image.kept, image.held),
    ];
    let shown = parts.iter().map(|part| (part(one), part(other)));
    let different = shown.into_iter().find(|(one, other)| one != other);
    different.map_or(String::new(), |(one, other)| format!("{one}\nand the run is {other}"))
}

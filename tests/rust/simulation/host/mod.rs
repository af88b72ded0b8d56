//! A host that does what the real one does, in a random order: it runs bodies, routes events, turns the clock,
//! pauses and cancels, and puts the run down at any instant to go on with what was recorded.

// A refused delivery is given back as it is.
#![allow(clippy::result_large_err)]

mod bodies;
mod checks;
mod ending;
mod happen;
mod memos;
mod routing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use treadle::{HostImage, MemoCall, Phase, Run, RunId, Slot, StepId, Time, WaitId};

use super::ledger::{Call, Ledger};
use super::random::{Random, mix};
use super::workflow::{DROPS, Guest, Named, Program, Workflow};
use checks::difference;
use routing::Move;

/// What may happen to a run besides its steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disturbances {
    pub pauses: bool,
    pub snapshots: bool,
    pub cancels: bool,
    /// Deliveries start once their records are safe.
    pub is_durable: bool,
    /// A bug: the host tells no calls apart that are made once.
    pub takes_calls_for_one: bool,
}

enum At {
    Ready,
    Waiting(WaitId),
    Sleeping(WaitId),
    /// It was given an event, and has not seen it yet.
    Got(Named),
    /// It makes a call.
    Calling(MemoCall, Call),
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
    /// How many of the memos of its delivery it has come to.
    memos: usize,
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
    /// Counts deploys: some arguments differ from one to the next.
    version: u8,
    /// How many calls were made.
    made: u64,
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
            version: 0,
            made: 0,
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
}

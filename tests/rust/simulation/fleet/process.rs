//! A process of the fleet: the real engine, and a host that carries out its effects.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;

use treadle::engine::{Ask, Effect, Engine, Now, Options, Replacement, Resumed, RunEnd, Submitted, Trouble};
use treadle::history::continuation;
use treadle::journal::{Digest, JournalError, Loaded, OpIds, Outbox, Outcome, OwnerId, Reply, Request, Ticket};
use treadle::writer::{Answered, Durability, Written};
use treadle::{EncodedImage, RunId, Time};

use super::bugs::Bug;
use super::children::signer;
use super::execution::{Asked, Code, Execution, Name, Setting, create};
use super::flows::ERRANDS;
use super::ledger::Ledger;
use super::memos::memos_of;
use crate::simulation::random::Random;

/// Who is told of an answer.
#[derive(Clone, Copy, Debug)]
pub enum Asker {
    Engine(Ask),
    /// A run, in the epoch in which it asked.
    Run(RunId, u64, Written),
    /// A user who submitted a run with an input.
    User(RunId, Digest),
}

/// What comes back from the journal.
#[derive(Debug)]
pub enum Heard {
    Answer(Ticket, Outcome),
    /// It was away: the request is given back.
    Returned(Ticket, Box<Request>),
}

pub struct Process {
    pub owner: OwnerId,
    pub engine: Engine,
    pub runs: BTreeMap<RunId, Execution>,
    /// Those that have ended here, by epoch: some of their commits may be answered later.
    left: BTreeMap<(RunId, u64), Execution>,
    /// Children that commits of this process have made.
    children: BTreeSet<RunId>,
    /// Runs whose ends are waited for here.
    pub followed: BTreeSet<RunId>,
    /// Runs that stand for others, by the id that each was made with, and the input of each.
    pub standing: BTreeMap<RunId, (RunId, Digest)>,
    outbox: Outbox,
    asked: BTreeMap<Ticket, Asker>,
    tickets: Ticket,
    /// Requests on their way to the journal, in their order.
    pub wire: VecDeque<(Ticket, Request)>,
    /// What comes back and has not been heard yet, in its order.
    pub heard: VecDeque<Heard>,
    /// Runs that other processes may have, until they end here.
    lost: BTreeSet<RunId>,
    /// Runs whose steps are being cancelled, and how they end.
    unwinding: Vec<(RunId, RunEnd)>,
    pub setting: Setting,
    random: Random,
    /// Runs as they were when commits were made, by epoch and number of records.
    pub lives: Vec<((RunId, u64, u64), EncodedImage)>,
    pub is_open: bool,
    pub is_closed: bool,
    pub has_handed_back: bool,
    pub frozen_until: Time,
    /// By how much its wall clock is wrong, and what its steady clock said when the journal's was 0.
    pub wall_error: i64,
    pub steady_from: Time,
    pub seen: u64,
    pub bug: Option<Bug>,
}

impl Process {
    pub fn new(options: Options, bug: Option<Bug>, random: &mut Random) -> Self {
        let (owner, patience) = (options.owner, options.lease.as_micros() as Time);
        let durability = if random.one_in(2) { Durability::Pipelined } else { Durability::Step };
        let makes_for_any = options.max_runs.contains_key(ERRANDS);
        Self {
            owner,
            engine: Engine::new(options),
            runs: BTreeMap::new(),
            left: BTreeMap::new(),
            children: BTreeSet::new(),
            followed: BTreeSet::new(),
            standing: BTreeMap::new(),
            outbox: Outbox::new(patience, OpIds::new(random.next().to_be_bytes()))
                .that_keeps_history(durability == Durability::Pipelined),
            asked: BTreeMap::new(),
            tickets: 0,
            wire: VecDeque::new(),
            heard: VecDeque::new(),
            lost: BTreeSet::new(),
            unwinding: Vec::new(),
            setting: Setting { owner, durability, makes_for_any, version: random.below(2) as u8, bug },
            random: Random::new(&[random.next()]),
            lives: Vec::new(),
            is_open: false,
            is_closed: false,
            has_handed_back: false,
            frozen_until: 0,
            wall_error: 0,
            steady_from: random.between(0, 1_000_000_000),
            seen: 0,
            bug,
        }
    }

    /// How many of the children that were made here are executed here.
    pub fn executed_children(&self) -> usize {
        self.children.iter().filter(|child| self.runs.contains_key(*child)).count()
    }

    pub fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    pub fn now(&self, time: Time) -> Now {
        Now { steady: time + self.steady_from, wall: self.wall(time) }
    }

    pub fn wall(&self, time: Time) -> Time {
        (super::world::EPOCH + time).saturating_add_signed(self.wall_error)
    }

    /// When it acts next by itself, on the journal's clock.
    pub fn next(&mut self) -> Option<Time> {
        let engine = self.engine.next_tick().map(|at| at.saturating_sub(self.steady_from));
        let base = super::world::EPOCH.saturating_add_signed(self.wall_error);
        let timers = self.runs.values_mut().filter_map(Execution::due).map(|at| at.saturating_sub(base));
        let outbox = self.outbox.next_tick().map(|at| at.saturating_sub(self.steady_from));
        engine.into_iter().chain(timers).chain(outbox).min()
    }

    /// The end of a run is waited for here.
    pub fn follow(&mut self, run: RunId, time: Time) {
        if self.followed.insert(run) {
            self.engine.follow(run, self.now(time));
        }
    }

    /// A request goes to the journal.
    pub fn ask(&mut self, asker: Asker, request: Request) {
        self.tickets += 1;
        self.asked.insert(self.tickets, asker);
        self.outbox.put(self.tickets, request);
        self.wire.extend(self.outbox.take());
    }

    /// Time has passed for what waits for the journal.
    pub fn tick_outbox(&mut self, time: Time) {
        self.outbox.tick(self.now(time).steady);
        self.wire.extend(self.outbox.take());
        let next = self.outbox.next_tick();
        assert!(next.is_none_or(|due| due > self.now(time).steady), "an outbox does not spin");
    }

    /// Carries out what the engine wants.
    pub fn perform(&mut self, ledger: &mut Ledger, time: Time) {
        loop {
            let effects = self.engine.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.perform_one(effect, ledger, time);
            }
        }
    }

    fn perform_one(&mut self, effect: Effect, ledger: &mut Ledger, time: Time) {
        let now = self.now(time);
        match effect {
            Effect::Ask { ask, request } => match *request {
                Request::Renew { .. } if self.has(Bug::NoRenewal) => {}
                Request::Release { .. } if self.has(Bug::NothingHandedBack) => {
                    (self.is_closed, self.has_handed_back) = (true, true);
                }
                request => self.ask(Asker::Engine(ask), request),
            },
            Effect::Resume(loaded) => {
                ledger.check_loaded(&loaded);
                let run = loaded.run.id;
                assert!(!self.runs.contains_key(&run), "run {run} has one body in a process");
                self.resume(&loaded, ledger, now.wall);
                self.engine.resumed(run, Resumed::Started, now);
            }
            Effect::Deliver(_) if self.has(Bug::DeliveryDropped) => {}
            Effect::Deliver(entry) => {
                let run = self.runs.get_mut(&entry.run).expect("only to runs that are executed here");
                run.take(&entry, now.wall);
                self.submit(entry.run);
            }
            Effect::Lose(run) => {
                self.lost.insert(run);
                if !self.has(Bug::LossIgnored) {
                    self.stop(run, RunEnd::Lost);
                }
            }
            Effect::Drain { run, .. } => {
                self.runs.get_mut(&run).expect("executed here").drain();
                self.engine.drained(run, now);
            }
            Effect::GivePlace(run) => {
                // One that was claimed and is being loaded has its place when it starts.
                if let Some(execution) = self.runs.get_mut(&run) {
                    execution.run.take_place();
                }
            }
            Effect::LetGo(run) => {
                self.runs.get_mut(&run).expect("executed here").let_go(now.wall);
                self.submit(run);
            }
            Effect::EndHere(run) => self.stop(run, RunEnd::Over),
            Effect::Replaced { run, by } => self.replaced(run, by, ledger, now),
            Effect::Ended { run, standing, end } => {
                let is_followed = self.followed.remove(&run);
                assert!(is_followed || !standing.is_empty(), "an end is told to those who wait for it, once");
                let told = if self.has(Bug::EndOfAnotherNotTold) { 0 } else { standing.len() };
                for one in standing.into_iter().take(told) {
                    let stands_for = self.standing.remove(&one).map(|(other, _)| other);
                    assert_eq!(stands_for, Some(run), "run {one} ends as the one that it stands for");
                    self.engine.run_ended(one, RunEnd::Over, now);
                }
                match end {
                    Ok((row, _)) => assert!(row.is_over(), "only an end is told"),
                    // Forgotten since, or it could not be asked for.
                    Err(JournalError::UnknownRun(_)) => {
                        assert!(ledger.runs.get(&run).is_none_or(|facts| facts.phase.is_over()))
                    }
                    Err(error) => {
                        assert!(error.is_transient(), "{error}");
                        if is_followed {
                            self.follow(run, time);
                        }
                    }
                }
            }
            Effect::Opened(Ok(())) => self.is_open = true,
            Effect::Opened(Err(error)) => {
                assert!(error.is_transient(), "the journal takes every process");
                self.is_closed = true;
            }
            Effect::Closed(outcome) => (self.is_closed, self.has_handed_back) = (true, outcome.is_ok()),
            Effect::Report(Trouble::LeaseLost) => {
                assert!(ledger.may_be_lost(self.owner, time), "a lease is lost only when it is over");
            }
            Effect::Stranded(row) => panic!("run {} is taken over as often as it must be", row.id),
            Effect::Report(_) => {}
        }
    }

    /// The run's steps are cancelled; it ends some time later.
    pub fn stop(&mut self, run: RunId, end: RunEnd) {
        if let Some(execution) = self.runs.get_mut(&run) {
            execution.detach();
            if !self.unwinding.iter().any(|&(other, _)| other == run) {
                self.unwinding.push((run, end));
            }
        }
    }

    pub fn is_unwinding(&self) -> bool {
        !self.unwinding.is_empty()
    }

    /// A run whose steps were cancelled has ended.
    pub fn unwind(&mut self, random: &mut Random, ledger: &mut Ledger, time: Time) {
        if self.unwinding.is_empty() {
            return;
        }
        let (run, end) = self.unwinding.swap_remove(random.below(self.unwinding.len()));
        self.lost.remove(&run);
        let left = self.runs.remove(&run);
        self.left.extend(left.map(|execution| ((run, execution.epoch), execution)));
        self.standing.remove(&run);
        self.engine.run_ended(run, end, self.now(time));
        self.engine.leave_place(run, self.now(time));
        self.perform(ledger, time);
    }

    /// The process hears an answer of the journal.
    pub fn hear(&mut self, ledger: &mut Ledger, time: Time) {
        let now = self.now(time);
        match self.heard.pop_front() {
            Some(Heard::Answer(ticket, outcome)) => self.outbox.answered(ticket, outcome),
            Some(Heard::Returned(ticket, request)) => self.outbox.returned(ticket, *request, away(), now.steady),
            None => return,
        }
        self.wire.extend(self.outbox.take());
        for (ticket, outcome) in self.outbox.answers() {
            let asker = self.asked.remove(&ticket).expect("a ticket is answered once");
            self.hear_answer(asker, outcome, ledger, time);
        }
    }

    fn hear_answer(&mut self, asker: Asker, outcome: Outcome, ledger: &mut Ledger, time: Time) {
        let now = self.now(time);
        match asker {
            Asker::Engine(ask) => self.engine.answer(ask, outcome, now),
            Asker::Run(run, epoch, written) => self.answered(run, epoch, written, outcome, ledger, now),
            Asker::User(run, input) => submitted(run, input, outcome, ledger),
        }
        self.perform(ledger, time);
    }

    fn answered(&mut self, run: RunId, epoch: u64, written: Written, outcome: Outcome, ledger: &mut Ledger, now: Now) {
        if let Err(JournalError::Invalid { why, .. }) = &outcome {
            panic!("a commit of run {run} breaks a rule: {why}");
        }
        let here = self.runs.get_mut(&run).filter(|execution| execution.epoch == epoch);
        let is_here = here.is_some();
        let Some(execution) = here.or_else(|| self.left.get_mut(&(run, epoch))) else { return };
        let (answered, records) = execution.answer(written, outcome);
        let made = execution.take_made().into_iter();
        let made: Vec<_> = made.map(|made| (made, execution.expected.remove(&made.run))).collect();
        ledger.see_memos(run, execution.seen.drain(..));
        if let Some(records) = records {
            ledger.acknowledge(run, records);
        }
        if !self.has(Bug::ChildNotStarted) {
            for (made, kept) in made {
                if made.exists != Some(false) && !made.is_for_any {
                    self.children.insert(made.run);
                }
                if self.engine.child_made(made, kept.is_some(), now) {
                    self.runs.insert(made.run, kept.expect("it is kept"));
                }
            }
        }
        if !is_here {
            return;
        }
        match answered {
            Answered::Nothing | Answered::MayStart => {}
            Answered::Lost(_) | Answered::EndLost(_) => {
                let may_go_on = self.runs.get(&run).is_some_and(Execution::may_go_on);
                self.stop(run, if may_go_on { RunEnd::Busy { epoch } } else { RunEnd::Lost });
            }
            Answered::Replaced { id, input, given } => {
                assert!(self.runs.remove(&run).is_some_and(|execution| !execution.has_begun()), "it starts nothing");
                self.standing.insert(run, (id, given));
                let is_same = input == given || self.has(Bug::OtherInputTaken);
                self.engine.exists(run, id, (input, is_same), false, now);
                self.engine.leave_place(run, now);
            }
            Answered::Written => panic!("no run of the fleet stands for itself"),
            Answered::Over => self.stop(run, RunEnd::Over),
        }
    }

    /// The journal has another run of the key of one that was started here.
    fn replaced(&mut self, run: RunId, by: Replacement, ledger: &Ledger, now: Now) {
        let (other, given) = self.standing[&run];
        let is_same = ledger.inputs[&other] == given;
        match by {
            Replacement::StandsFor { run: found, .. } => {
                assert!(found == other && is_same, "run {run} stands for the run of its key and its input");
                return;
            }
            Replacement::OtherInput(_) => assert!(!is_same, "only another input is refused"),
            Replacement::Closed(found) => assert!(found == other && is_same && !self.engine.is_open()),
        }
        self.standing.remove(&run);
        self.engine.run_ended(run, RunEnd::Over, now);
    }

    /// Goes on with a run that was loaded.
    fn resume(&mut self, loaded: &Loaded, ledger: &Ledger, wall: Time) {
        let run = loaded.run.id;
        let continuation = continuation(loaded, signer()).expect("it is what was written");
        let code = code_of(&loaded.run.workflow, ledger);
        ledger.check_memos(run, &memos_of(&continuation.image));
        let random = Random::new(&[self.random.next()]);
        let mut execution = Execution::resume(continuation, code, self.setting, random);
        self.set_aside(&mut execution);
        loaded.inbox.iter().for_each(|entry| execution.take(entry, wall));
        self.runs.insert(run, execution);
        self.submit(run);
    }

    /// Whether this process has a run of the key and the input.
    pub fn knows(&mut self, name: &Name) -> bool {
        let Some(key) = &name.key else { return false };
        let Some(known) = self.engine.run_of_key(&name.workflow, key, &name.input) else { return false };
        assert!(self.runs.contains_key(&known) || self.standing.contains_key(&known), "it is a run of this process");
        true
    }

    /// A run is started here.
    pub fn start(&mut self, id: RunId, name: &Name, ledger: &Ledger, wall: Time) {
        let code = code_of(&name.workflow, ledger);
        let created = create(id, name, &code.workflow, wall);
        let random = Random::new(&[self.random.next()]);
        let mut execution = Execution::new(created, code, self.setting, random);
        self.set_aside(&mut execution);
        self.runs.insert(id, execution);
        match &name.key {
            Some(key) => self.engine.keyed_run_started(id, &name.workflow, key, name.input),
            None => self.engine.run_started(id),
        }
        self.submit(id);
    }

    /// A run does its next thing, if it has one.
    pub fn step(&mut self, run: RunId, ledger: &mut Ledger, time: Time) -> bool {
        let wall = self.wall(time);
        self.take_turn(run, time);
        self.perform(ledger, time);
        let Some(execution) = self.runs.get_mut(&run) else { return false };
        execution.peers = ledger.unfinished();
        let has_done = execution.step(wall);
        assert!(!has_done || !self.lost.contains(&run), "a run that was lost does nothing more here");
        ledger.see_memos(run, execution.seen.drain(..));
        self.submit(run);
        has_done
    }

    // It executes nothing before it has asked for a place.
    fn set_aside(&self, execution: &mut Execution) {
        if self.engine.options().max_runs.contains_key(&execution.workflow_name) {
            execution.run.leave_place();
        }
    }

    /// A run of a workflow of which only so many execute asks for a place, or leaves the one that it does not need.
    fn take_turn(&mut self, run: RunId, time: Time) {
        let now = self.now(time);
        let Some(execution) = self.runs.get_mut(&run).filter(|execution| !execution.is_detached) else { return };
        let workflow = &execution.workflow_name;
        if !self.engine.options().max_runs.contains_key(workflow) {
            return;
        }
        match (execution.run.lacks_place(), execution.rests()) {
            (false, true) => {
                execution.run.leave_place();
                self.engine.leave_place(run, now);
            }
            (true, false) => {
                let has_place = self.engine.ask_for_place(run, workflow, execution.has_asked);
                if has_place || self.bug == Some(Bug::PlaceNotAwaited) {
                    execution.run.take_place();
                }
                execution.has_asked = true;
            }
            _ => {}
        }
    }

    pub fn check_places(&self) {
        for (workflow, &most) in &self.engine.options().max_runs {
            let executing = self.runs.values().filter(|one| one.workflow_name == *workflow && !one.run.lacks_place());
            assert!(executing.count() <= most, "no more runs execute than there are places");
        }
    }

    fn submit(&mut self, run: RunId) {
        let Some(execution) = self.runs.get_mut(&run) else { return };
        let epoch = execution.epoch;
        for child in std::mem::take(&mut execution.untold) {
            self.engine.child_expected(child);
        }
        for Asked { written, request, live } in std::mem::take(&mut execution.asked) {
            self.lives.extend(live.map(|(records, live)| ((run, epoch, records), live)));
            self.ask(Asker::Run(run, epoch, written), request);
        }
    }
}

fn code_of(workflow: &str, ledger: &Ledger) -> Code {
    Code {
        name: workflow.to_owned(),
        workflow: ledger.flows.workflow(workflow),
        errands: ledger.flows.workflow(ERRANDS),
    }
}

/// The journal has answered a user who submitted a run.
fn submitted(run: RunId, input: Digest, outcome: Outcome, ledger: &Ledger) {
    let existing = match outcome {
        Ok(Reply::Exists { id, input }) => Some((id, input)),
        Ok(_) => None,
        Err(_) => return,
    };
    let Ok(submitted) = Submitted::of(run, existing, |stored| Ok::<_, Infallible>(*stored == input));
    match submitted {
        Submitted::New(new) => assert_eq!(new, run),
        Submitted::Known(known) => assert_eq!(ledger.inputs[&known], input, "the run of a key has the same input"),
        Submitted::OtherInput(known) => assert_ne!(ledger.inputs[&known], input, "only another input is refused"),
    }
}

fn away() -> JournalError {
    JournalError::Unavailable { place: "far away".into(), why: "no answer".into() }
}

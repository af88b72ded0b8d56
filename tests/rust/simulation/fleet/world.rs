//! Several processes on one journal, and everything that may happen to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use treadle::engine::Options;
use treadle::journal::lease::{Clock, Moment};
use treadle::journal::memory::MemoryStore;
use treadle::journal::{Claim, Commit, Cursor, News, OpId, OwnerId, Reply, Request, Status};
use treadle::{RunId, Time};

use super::bugs::Bug;
use super::execution::{Name, RESUME, create};
use super::flows::{ERRANDS, Flows, NAMES};
use super::ledger::Ledger;
use super::process::{Asker, Heard, Process};
use crate::simulation::random::{Random, mix};

/// The time of day when the journal's clock begins.
pub const EPOCH: Time = 1_000_000_000_000;

const SECOND: Time = 1_000_000;
const LEASE: Time = 10 * SECOND;

pub struct World {
    pub(super) random: Random,
    pub(super) store: MemoryStore,
    /// What the journal's clock says.
    pub(super) clock: Arc<AtomicU64>,
    pub(super) ledger: Ledger,
    pub(super) processes: Vec<Process>,
    pub(super) time: Time,
    pub(super) made: u64,
    pub(super) sent: u64,
    pub(super) bug: Option<Bug>,
    /// The journal answers nothing until then.
    pub(super) away_until: Time,
    pub(super) claims: u64,
    /// The status of the last commit of each run, for a bug.
    pub(super) statuses: BTreeMap<RunId, Status>,
    pub(super) trace: u64,
}

impl World {
    pub fn new(seed: u64, bug: Option<Bug>) -> Self {
        let now = Arc::new(AtomicU64::new(1));
        let read = Arc::clone(&now);
        let clock = Clock::new(move || Moment { boot: [0; 16], micros: read.load(Ordering::Relaxed) });
        let mut world = Self {
            random: Random::new(&[seed, 11]),
            store: MemoryStore::with_clock(clock),
            clock: now,
            ledger: Ledger::new(Flows::new(seed)),
            processes: Vec::new(),
            time: 1,
            made: 0,
            sent: 0,
            bug,
            away_until: 0,
            claims: 0,
            statuses: BTreeMap::new(),
            trace: 0,
        };
        for _ in 0..world.random.between(1, 3) {
            world.begin_process();
        }
        world
    }

    /// Lets things happen, then lets every run come to its end. Gives a digest of everything that happened.
    pub fn play(mut self) -> u64 {
        for _ in 0..self.random.between(40, 180) {
            self.happen();
        }
        self.settle();
        self.trace
    }

    fn begin_process(&mut self) {
        let mut owner = [0; 16];
        owner[..8].copy_from_slice(&self.random.next().to_be_bytes());
        // A version of the code may lack a workflow, as long as another process has it.
        let count = if self.random.one_in(4) { 1 } else { 2 };
        let options = Options {
            owner: OwnerId(owner),
            lease: Duration::from_micros(LEASE),
            workflows: NAMES[..count].iter().chain([&ERRANDS]).map(|&name| name.to_owned()).collect(),
            concurrency: self.random.one_in(3).then(|| 1 + self.random.below(3)),
            max_runs: self.limits(),
            max_recoveries: None,
            keep: self.random.one_in(4).then(|| self.random.between(0, 4 * LEASE)),
        };
        self.begin(options);
    }

    fn limits(&mut self) -> BTreeMap<String, usize> {
        let limit = |name: &str| self.random.one_in(3).then(|| (name.to_owned(), 1 + self.random.below(2)));
        NAMES.into_iter().chain([ERRANDS]).filter_map(limit).collect()
    }

    fn begin(&mut self, options: Options) {
        let mut process = Process::new(options, self.bug, &mut self.random);
        let now = process.now(self.time);
        process.engine.open(now);
        process.perform(&mut self.ledger, self.time);
        self.processes.push(process);
    }

    fn happen(&mut self) {
        if self.processes.is_empty() || (self.random.one_in(40) && self.processes.len() < 4) {
            return self.begin_process();
        }
        let at = self.random.below(self.processes.len());
        match self.random.below(100) {
            0..45 => self.act(at),
            45..60 => self.pass_time(),
            60..72 => self.start_run(at),
            72..80 => self.send(),
            80..82 => self.follow(at),
            82..84 => self.meddle(),
            84..86 => self.crash(at),
            86..92 => {
                self.processes[at].frozen_until = self.time + self.random.between(0, 3 * LEASE);
            }
            92..94 => {
                let hour = 3600 * SECOND as i64;
                self.processes[at].wall_error = self.random.between(0, 2 * hour as u64) as i64 - hour;
            }
            94..96 => self.away_until = self.time + self.random.between(0, 2 * LEASE),
            96..98 => self.close(at),
            _ => self.pass_time(),
        }
        self.check();
    }

    fn check(&mut self) {
        let time = self.time;
        self.trace = mix(&[self.trace, time, self.store.changes(), self.processes.len() as u64]);
        for process in &self.processes {
            process.check_places();
            let Some(most) = process.engine.options().concurrency else { continue };
            let most = most + process.executed_children();
            assert!(process.engine.claimed() <= most, "no more runs are claimed than there is room for");
        }
    }

    // A process does one thing of those that it has to do.
    fn act(&mut self, at: usize) {
        let (time, is_away) = (self.time, self.away_until > self.time);
        if self.processes[at].frozen_until > time {
            return;
        }
        if is_away || self.random.one_in(40) {
            self.give_back(at);
        } else if self.random.one_in(2) {
            self.carry_out(at);
        }
        match self.random.below(6) {
            0 | 1 => self.processes[at].hear(&mut self.ledger, time),
            2 => self.notice_changes(at),
            3 => self.tick(at),
            4 if self.random.one_in(2) => self.processes[at].unwind(&mut self.random, &mut self.ledger, time),
            _ => self.step_any(at),
        }
        if self.processes[at].is_closed {
            self.end_process(at);
        }
    }

    fn tick(&mut self, at: usize) {
        let process = &mut self.processes[at];
        process.tick_outbox(self.time);
        let now = process.now(self.time);
        if process.engine.next_tick().is_some_and(|due| due <= now.steady) {
            process.engine.tick(now);
            process.perform(&mut self.ledger, self.time);
            let next = process.engine.next_tick();
            assert!(next.is_none_or(|due| due > now.steady), "an engine does not spin: {next:?} at {}", now.steady);
        }
    }

    fn notice_changes(&mut self, at: usize) {
        let changes = self.store.changes();
        let process = &mut self.processes[at];
        if std::mem::replace(&mut process.seen, changes) != changes && !process.has(Bug::DeafAndIdle) {
            let now = process.now(self.time);
            process.engine.heard(News::ALL, now);
            process.perform(&mut self.ledger, self.time);
        }
    }

    // The journal carries out the next request of a process.
    fn carry_out(&mut self, at: usize) {
        let Some((ticket, request)) = self.processes[at].wire.pop_front() else { return };
        let outcome = self.answer(at, request);
        self.processes[at].heard.push_back(Heard::Answer(ticket, outcome));
    }

    // The connection breaks: some of what is under way is carried out, and all of it is given back.
    fn give_back(&mut self, at: usize) {
        let carried_out = self.random.below(3);
        for (count, (ticket, request)) in std::mem::take(&mut self.processes[at].wire).into_iter().enumerate() {
            if count < carried_out {
                let _ = self.answer(at, request.clone());
            }
            self.processes[at].heard.push_back(Heard::Returned(ticket, Box::new(request)));
        }
    }

    fn answer(&mut self, at: usize, mut request: Request) -> treadle::journal::Outcome {
        let owner = self.processes[at].owner;
        self.ledger.live.extend(self.processes[at].lives.drain(..));
        self.clock.store(self.time, Ordering::Relaxed);
        self.claims += u64::from(matches!(request, Request::Claim(_)));
        self.spoil_request(&mut request);
        let mut carried_out = request.clone();
        if let (Some(Bug::KeyForgotten), Request::Create { run, .. }) = (self.bug, &mut carried_out) {
            run.key = None;
        }
        let outcome = self.store.carry_out(carried_out);
        if let Ok(reply) = &outcome {
            self.ledger.note(owner, &request, reply, self.time);
        }
        if let Request::Prune { finished_before, .. } = request {
            self.ledger.forget(finished_before, |run| self.store.carry_out(Request::Get { run }).is_ok());
        }
        self.spoil_answer(owner, &request, outcome)
    }

    fn spoil_request(&mut self, request: &mut Request) {
        match (self.bug, request) {
            (Some(Bug::ClaimWithoutFence), Request::Append { run, epoch, after, .. }) => {
                if let Ok(Reply::Run { run, .. }) = self.store.carry_out(Request::Get { run: *run }) {
                    (*epoch, *after) = (run.epoch, run.seq);
                }
            }
            (Some(Bug::ClaimOfTheLiving), Request::Claim(Claim { owner, .. })) => {
                let others = self.processes.iter().map(|process| process.owner).filter(|other| other != owner);
                for other in others.collect::<Vec<_>>() {
                    let _ = self.store.carry_out(Request::Release { owner: other });
                }
            }
            (Some(Bug::PostLeftOut), Request::Append { commit, .. }) if self.random.one_in(4) => {
                commit.outgoing.clear()
            }
            (Some(Bug::NotConsumed), Request::Append { commit, .. }) => commit.consumed.clear(),
            (Some(Bug::NamelessCommit), Request::Create { commit, .. } | Request::Append { commit, .. }) => {
                commit.op = OpId::NONE;
            }
            (Some(Bug::NamelessClaim), Request::Claim(Claim { op, .. })) => *op = OpId::NONE,
            (Some(Bug::NoLimit), Request::Claim(Claim { limit, .. })) => *limit = 256,
            (Some(Bug::OldCheckpoint), Request::Append { commit, .. }) if commit.checkpoint.is_some() => {
                commit.records.pop();
            }
            (Some(Bug::RecordLeftOut), Request::Append { commit, .. }) if self.random.one_in(8) => {
                commit.records.pop();
            }
            (Some(Bug::NumberUsedTwice), Request::Append { commit, .. }) => {
                commit.published.iter_mut().for_each(|(number, _)| *number -= 1);
            }
            (Some(Bug::StaleStatus), Request::Append { run, commit, .. }) if !commit.status.phase.is_over() => {
                let before = self.statuses.insert(*run, commit.status);
                commit.status = before.unwrap_or(commit.status);
            }
            _ => {}
        }
    }

    fn spoil_answer(
        &mut self,
        owner: OwnerId,
        request: &Request,
        outcome: treadle::journal::Outcome,
    ) -> treadle::journal::Outcome {
        match (self.bug, request, outcome) {
            (Some(Bug::RenewAfterLoss), Request::Renew { .. }, Err(_)) => Ok(Reply::Done),
            (Some(Bug::CursorSkips), _, Ok(Reply::Polled(mut polled))) => {
                let number = polled.cursor.as_bytes().try_into().map_or(0, u64::from_be_bytes);
                polled.cursor = Cursor::from_bytes((number + 1).to_be_bytes().into());
                Ok(Reply::Polled(polled))
            }
            (
                Some(Bug::CommitTwice),
                Request::Append { run, epoch, commit, .. },
                Ok(Reply::Appended { seq, undelivered }),
            ) => {
                if self.random.one_in(8) {
                    let commit = Commit { op: OpId::NONE, consumed: vec![], published: vec![], ..commit.clone() };
                    let again = Request::Append { run: *run, epoch: *epoch, after: seq, commit };
                    if let Ok(reply) = self.store.carry_out(again.clone()) {
                        self.ledger.note(owner, &again, &reply, self.time);
                    }
                }
                Ok(Reply::Appended { seq, undelivered })
            }
            (Some(Bug::AcknowledgedTooEarly), Request::Append { after, commit, .. }, Err(_)) => {
                Ok(Reply::appended(after + commit.records.len() as u64))
            }
            (Some(Bug::LoadWithoutInbox), _, Ok(Reply::Loaded(mut loaded))) => {
                let whole = loaded.iter_mut().filter_map(|(_, loaded)| loaded.as_mut().ok());
                whole.for_each(|loaded| loaded.inbox.clear());
                Ok(Reply::Loaded(loaded))
            }
            (Some(Bug::EndNotTold), _, Ok(Reply::Ends(mut ends))) => {
                ends.runs.clear();
                Ok(Reply::Ends(ends))
            }
            (Some(Bug::ClaimForgetsOne), _, Ok(Reply::Claimed(mut claimed))) => {
                claimed.runs.pop();
                Ok(Reply::Claimed(claimed))
            }
            (_, _, outcome) => outcome,
        }
    }

    // A run of a process takes its next step.
    fn step_any(&mut self, at: usize) {
        let runs: Vec<_> = self.processes[at].runs.keys().copied().collect();
        if !runs.is_empty() {
            let run = runs[self.random.below(runs.len())];
            self.step(at, run);
        }
    }

    fn step(&mut self, at: usize, run: RunId) -> bool {
        let time = self.time;
        self.processes[at].step(run, &mut self.ledger, time)
    }

    fn start_run(&mut self, at: usize) {
        let process = &mut self.processes[at];
        if !process.engine.is_open() || process.frozen_until > self.time || self.made > 12 {
            return;
        }
        let id = self.new_id();
        let process = &mut self.processes[at];
        let is_submitted = self.random.one_in(3);
        let workflow = NAMES[self.random.below(process.engine.options().workflows.len() - 1)].to_owned();
        let key = self.random.one_in(3).then(|| format!("key-{}", self.random.below(3)));
        let input = [u8::from(self.random.one_in(4)); 32];
        let name = Name { workflow, key, input, family: None };
        let process = &mut self.processes[at];
        let wall = process.wall(self.time);
        if !is_submitted && process.knows(&name) {
            return;
        }
        // One that gets no place is written for any process.
        if is_submitted || !process.engine.begin_in_place(id, &name.workflow) {
            let (_, creation) = create(id, &name, &self.ledger.flows.workflow(&name.workflow), wall);
            return process.ask(Asker::User(id, input), creation.for_any_process());
        }
        process.start(id, &name, &self.ledger, wall);
    }

    fn crash(&mut self, at: usize) {
        // What was submitted may be carried out, some of it, and its answers never come.
        for _ in 0..self.random.below(3) {
            self.carry_out(at);
        }
        self.processes.swap_remove(at);
    }

    fn close(&mut self, at: usize) {
        let grace = self.random.between(0, LEASE);
        let process = &mut self.processes[at];
        process.engine.close(grace, process.now(self.time));
        process.perform(&mut self.ledger, self.time);
    }

    fn end_process(&mut self, at: usize) {
        let process = self.processes.swap_remove(at);
        let owned = self.ledger.runs.iter().find(|(_, facts)| facts.owner == Some(process.owner));
        assert!(
            owned.is_none() || !process.has_handed_back,
            "an engine that is closed has handed back {:?}",
            owned.map(|(run, _)| run)
        );
    }

    fn pass_time(&mut self) {
        let next = self.processes.iter_mut().filter_map(Process::next).min();
        self.time = match self.random.below(4) {
            0 => self.time + self.random.between(0, SECOND / 10),
            1 => self.time + self.random.between(0, 2 * SECOND),
            _ => next.unwrap_or(self.time).clamp(self.time, self.time + LEASE),
        };
    }

    /// Nothing goes wrong any more, and what the runs wait for is sent: each comes to its end.
    fn settle(&mut self) {
        self.away_until = 0;
        for process in &mut self.processes {
            (process.frozen_until, process.wall_error) = (0, 0);
        }
        let everything = NAMES.iter().chain([&ERRANDS]).map(|&name| name.to_owned()).collect();
        let owner = OwnerId(*b"the last process");
        self.begin(Options {
            owner,
            lease: Duration::from_micros(LEASE),
            workflows: everything,
            concurrency: None,
            max_runs: BTreeMap::new(),
            max_recoveries: None,
            keep: None,
        });
        let (begun, claims, changes) = (self.time, self.claims, self.store.changes());
        loop {
            while self.act_all() {}
            let unfinished = self.ledger.unfinished();
            // A run that nobody knows yet waits for the journal; one that is over, or lost, is executed by no process.
            if unfinished.is_empty() && self.processes.iter().all(|process| process.runs.is_empty()) {
                break;
            }
            for run in unfinished {
                // One that its parent has cancelled needs nothing to end.
                if self.ledger.families.cancelled.contains(&run) {
                    continue;
                }
                if self.ledger.runs[&run].is_paused() {
                    self.send_to(run, RESUME, Vec::new());
                }
                self.send_answer(run);
            }
            let next =
                self.processes.iter_mut().filter_map(Process::next).min().expect("an open engine renews its lease");
            self.time = next.max(self.time + 1);
            let last = 7200 * SECOND + 20 * LEASE;
            let executed: Vec<_> = self.processes.iter().flat_map(|process| process.runs.keys()).collect();
            let unfinished = self.ledger.describe_unfinished();
            assert!(self.time < begun + last, "stuck: {unfinished}; executed are {executed:?}");
        }
        let times = (self.time - begun) / SECOND + 1;
        // Each process hears of each change, which may be a run to claim.
        let heard = (self.store.changes() - changes) * self.processes.len() as u64;
        let claims = self.claims - claims;
        assert!(
            claims < 200 * times + heard,
            "an engine that has nothing to do claims now and then: {claims} in {times} s"
        );
        self.check_leases();
    }

    // Nobody was frozen or away for a while: every process has its lease.
    fn check_leases(&mut self) {
        let end = self.time + 3 * LEASE;
        while self.time < end {
            while self.act_all() {}
            let next =
                self.processes.iter_mut().filter_map(Process::next).min().expect("an open engine renews its lease");
            self.time = next.max(self.time + 1);
        }
        while self.act_all() {}
        for process in &self.processes {
            assert!(process.followed.is_empty(), "each end is told to those who wait for it: {:?}", process.followed);
            assert!(process.standing.is_empty(), "no run stands for one that is over: {:?}", process.standing);
            assert!(!self.ledger.may_be_lost(process.owner, self.time), "a process that lives keeps its lease");
        }
    }

    // Whether there was anything to do.
    fn act_all(&mut self) -> bool {
        let mut has_acted = false;
        for at in (0..self.processes.len()).rev() {
            while !self.processes[at].wire.is_empty() {
                self.carry_out(at);
            }
            let time = self.time;
            has_acted |= !self.processes[at].heard.is_empty() || self.processes[at].is_unwinding();
            while !self.processes[at].heard.is_empty() {
                self.processes[at].hear(&mut self.ledger, time);
            }
            while self.processes[at].is_unwinding() {
                self.processes[at].unwind(&mut self.random, &mut self.ledger, time);
            }
            self.tick(at);
            self.notice_changes(at);
            let runs: Vec<_> = self.processes[at].runs.keys().copied().collect();
            for run in runs {
                has_acted |= self.step(at, run);
            }
            has_acted |= !self.processes[at].wire.is_empty();
            self.check();
            if self.processes[at].is_closed {
                self.end_process(at);
            }
        }
        has_acted
    }
}

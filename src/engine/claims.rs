//! The runs that this process takes from the journal.
//!
//! A cycle: what was claimed is loaded and goes on, some at a time; then as many as there is room for are claimed; then
//! the journal says when the next claim is worth while. A cycle begins when something has changed, or at that time.
//!
//! Workflows are claimed together, but for each of which only so many runs execute at once: that is claimed by itself, as
//! many of its runs as have a place.

use std::collections::{BTreeSet, VecDeque};

use hashbrown::HashMap;

use super::effect::{Due, Effect, Purpose, Resumed, Trouble};
use super::lease::RENEWALS;
use super::{AFTER_AN_ERROR, Engine, Executed, Life, Now, Options, micros};
use crate::journal::{
    Claim, Claimant, Claimed, Entry, JournalError, Loaded, Next, OpId, Phase, Refusal, Request, RunRow,
};
use crate::run_id::RunId;
use crate::timers::Time;

/// The most runs of one claim.
const CLAIMED_AT_ONCE: usize = 256;
/// So many are loaded at once that going on with them takes the host's event loop a few milliseconds.
const LOADED_AT_ONCE: usize = 32;
/// An engine does not claim more often than this because of a time that the journal told.
const LEAST_PAUSE: Time = 10_000;

#[derive(Default)]
pub(super) struct Claims {
    // Runs of this process that are to be loaded, and the epochs in which they were claimed.
    waiting: VecDeque<(RunId, u64)>,
    // Those that are being loaded, or go on at the moment.
    loading: HashMap<RunId, Loading>,
    is_claiming: bool,
    groups: Vec<Group>,
    // Those to be claimed, as soon as there is room, by their places among all.
    due: BTreeSet<usize>,
    // The one that is being claimed.
    group: usize,
    is_asking: bool,
    // Something has changed since the last claim was asked for.
    is_wanted: bool,
    // A claim was answered, and the journal was not asked since when the next one is worth while.
    is_time_unknown: bool,
    next: Due,
    // Not before: the journal had an error.
    paused_until: Due,
}

/// Workflows that are claimed together.
struct Group {
    workflows: Vec<String>,
    is_limited: bool,
    // The claim that was not answered yet. One that failed may have taken runs: it is asked for again under its name.
    op: OpId,
}

struct Loading {
    epoch: u64,
    // What was sent to it since it was asked for: it may be missing in what is loaded. The run knows what it has by the
    // number.
    entries: Vec<Entry>,
}

impl Claims {
    pub(super) fn new(options: &Options) -> Self {
        let is_limited = |name: &String| options.max_runs.contains_key(name);
        let (limited, others): (Vec<_>, Vec<_>) = options.workflows.iter().cloned().partition(is_limited);
        let others = std::iter::once(Group { workflows: others, is_limited: false, op: OpId::NONE });
        let limited = limited.into_iter().map(|name| Group { workflows: vec![name], is_limited: true, op: OpId::NONE });
        let groups = others.chain(limited).filter(|group| !group.workflows.is_empty()).collect();
        Self { groups, ..Self::default() }
    }

    /// The runs of this process that are to be loaded, or are being loaded.
    pub(super) fn taken(&self) -> Vec<RunId> {
        let mut taken: Vec<_> = self.waiting.iter().map(|&(run, _)| run).chain(self.loading.keys().copied()).collect();
        taken.sort_unstable();
        taken
    }

    pub(super) fn next(&self) -> Due {
        self.paused_until.or(self.next).filter(|_| !self.is_busy())
    }

    /// A claim is worth while.
    pub(super) fn want(&mut self) {
        self.is_wanted = true;
    }

    /// A run of this process is to be loaded.
    pub(super) fn put(&mut self, run: RunId, epoch: u64) {
        self.waiting.push_back((run, epoch));
    }

    pub(super) fn failed(&mut self, steady: Time) {
        (self.is_claiming, self.is_asking) = (false, false);
        self.is_wanted = true;
        self.paused_until = Some(steady.saturating_add(AFTER_AN_ERROR));
    }

    /// Nothing of what was claimed is this process's any more.
    pub(super) fn forget(&mut self) {
        let mut groups = std::mem::take(&mut self.groups);
        groups.iter_mut().for_each(|group| group.op = OpId::NONE);
        *self = Self { is_wanted: true, groups, ..Self::default() };
    }

    /// Keeps an entry for a run that is being loaded.
    pub(super) fn keep_entry(&mut self, entry: Entry) {
        if let Some(loading) = self.loading.get_mut(&entry.run) {
            loading.entries.push(entry);
        }
    }

    fn is_busy(&self) -> bool {
        self.is_claiming || self.is_asking || !self.loading.is_empty()
    }
}

impl Engine {
    /// Takes the next step of the cycle, if it is time.
    pub(super) fn work(&mut self) {
        if !self.may_work() || self.claims.is_busy() {
            return;
        }
        let steady = self.now.steady;
        if self.claims.paused_until.is_some_and(|until| until > steady) {
            return;
        }
        self.claims.paused_until = None;
        if self.claims.next.is_some_and(|at| at <= steady) {
            self.claims.next = None;
            self.claims.want();
        }
        if !self.claims.waiting.is_empty() {
            return self.load_some();
        }
        if self.claims.is_wanted && self.room() > 0 && !self.claims.groups.is_empty() {
            self.claims.is_wanted = false;
            self.claims.due.extend(0..self.claims.groups.len());
        }
        if let Some(group) = self.next_group() {
            self.claim(group);
        } else if self.claims.is_wanted || self.claims.is_time_unknown {
            self.claims.is_wanted = false;
            self.ask_when();
        }
    }

    fn room(&self) -> usize {
        let Some(most) = self.options.concurrency else { return CLAIMED_AT_ONCE };
        most.saturating_sub(self.claimed()).min(CLAIMED_AT_ONCE)
    }

    // How many runs of the workflows of a group may be claimed.
    fn room_of(&self, group: usize) -> usize {
        let Group { workflows, is_limited, .. } = &self.claims.groups[group];
        let free = workflows.first().filter(|_| *is_limited).and_then(|name| self.places.free(name));
        self.room().min(free.unwrap_or(usize::MAX))
    }

    fn next_group(&self) -> Option<usize> {
        self.claims.due.iter().copied().find(|&group| self.room_of(group) > 0)
    }

    fn load_some(&mut self) {
        let count = self.claims.waiting.len().min(LOADED_AT_ONCE);
        let mut runs = Vec::with_capacity(count);
        for (run, epoch) in self.claims.waiting.drain(..count) {
            // One that was put twice is loaded once.
            if self.claims.loading.insert(run, Loading { epoch, entries: Vec::new() }).is_none() {
                runs.push(run);
            }
        }
        self.ask(Purpose::Load, Request::Load { runs });
    }

    fn claim(&mut self, group: usize) {
        self.claims.is_claiming = true;
        self.claims.due.remove(&group);
        self.claims.group = group;
        let (now, limit, owner) = (self.now.wall, self.room_of(group), self.options.owner);
        let claimant = Claimant { max_recoveries: self.options.max_recoveries };
        let Group { workflows, op, .. } = &mut self.claims.groups[group];
        if *op == OpId::NONE {
            *op = self.ops.draw();
        }
        let (workflows, op) = (workflows.clone(), *op);
        self.ask(Purpose::Claim, Request::Claim(Claim { op, owner, workflows, claimant, now, limit }));
    }

    pub(super) fn took(&mut self, claimed: Claimed) {
        self.claims.is_claiming = false;
        self.claims.is_time_unknown = true;
        let group = self.claims.group;
        self.claims.groups[group].op = OpId::NONE;
        if claimed.more {
            self.claims.due.insert(group);
        }
        if let Group { workflows, is_limited: true, .. } = &self.claims.groups[group] {
            workflows.iter().for_each(|name| self.places.note_waiting(name, claimed.more));
        }
        for row in &claimed.runs {
            // What it asks for when it goes on is kept for it.
            self.places.ask(row.id, &row.workflow, false);
        }
        self.claims.waiting.extend(claimed.runs.iter().map(|row| (row.id, row.epoch)));
        for row in claimed.stranded {
            self.look_at(row.id);
            self.effects.push(Effect::Stranded(Box::new(row)));
        }
    }

    fn ask_when(&mut self) {
        self.claims.is_time_unknown = false;
        self.claims.is_asking = true;
        let owner = self.options.owner;
        let mut workflows = Vec::with_capacity(self.options.workflows.len());
        for (at, group) in self.claims.groups.iter().enumerate() {
            match self.places.free(&group.workflows[0]).filter(|_| group.is_limited) {
                // What is not asked for is claimed as soon as there is a place.
                Some(0) => drop(self.claims.due.insert(at)),
                _ => workflows.extend(group.workflows.iter().cloned()),
            }
        }
        self.ask(Purpose::NextDue, Request::NextDue { owner, workflows });
    }

    pub(super) fn next_known(&mut self, next: Next) {
        self.claims.is_asking = false;
        let Now { steady, wall } = self.now;
        // A run that is due is of no use to a process that has no room; its next end makes room.
        let due = next.due.filter(|_| self.room() > 0).map(|due| due.saturating_sub(wall));
        let lapse = next.lapse.map(micros);
        let pause = [due, lapse].into_iter().flatten().fold(micros(self.options.lease / RENEWALS), Time::min);
        self.claims.next = Some(steady.saturating_add(pause.max(LEAST_PAUSE)));
    }

    pub(super) fn loaded(&mut self, loaded: Vec<(RunId, Result<Box<Loaded>, JournalError>)>) {
        for (run, loaded) in loaded {
            if let Some(epoch) = self.claims.loading.get(&run).map(|loading| loading.epoch) {
                self.loaded_one(run, epoch, loaded);
            }
        }
    }

    /// Nothing could be loaded: it is tried again later.
    pub(super) fn not_loaded(&mut self) {
        let mut runs: Vec<_> = self.claims.loading.drain().map(|(run, loading)| (run, loading.epoch)).collect();
        runs.sort_unstable();
        self.claims.waiting.extend(runs);
        self.claims.failed(self.now.steady);
    }

    fn loaded_one(&mut self, run: RunId, epoch: u64, loaded: Result<Box<Loaded>, JournalError>) {
        match loaded {
            // It is handed back with the others.
            _ if self.life != Life::Open => {
                self.claims.loading.remove(&run);
                self.free_place(run);
            }
            Ok(loaded) if loaded.run.owner == Some(self.options.owner) => {
                if let Some(executed) = self.executed.get_mut(&run) {
                    executed.claimed_again = Some(loaded.run.epoch);
                    self.claims.loading.remove(&run);
                } else {
                    if let Some(loading) = self.claims.loading.get_mut(&run) {
                        loading.epoch = loaded.run.epoch;
                    }
                    self.effects.push(Effect::Resume(loaded));
                }
            }
            // Another process has it by now, or it was deleted.
            Ok(_) | Err(JournalError::UnknownRun(_)) => {
                self.claims.loading.remove(&run);
                if !self.executed.contains_key(&run) {
                    self.free_place(run);
                }
            }
            Err(error @ JournalError::Damaged { .. }) => {
                self.claims.loading.remove(&run);
                self.refuse(run, epoch, error.to_string(), true);
                self.report(Trouble::Damaged(error));
            }
            Err(error) => {
                self.claims.loading.remove(&run);
                self.claims.put(run, epoch);
                self.claims.failed(self.now.steady);
                self.report(Trouble::Unreadable(error));
            }
        }
    }

    /// What came of [`Effect::Resume`].
    pub fn resumed(&mut self, run: RunId, resumed: Resumed, now: Now) {
        self.now = now;
        // The lease was lost meanwhile: the run that has just started is lost as well.
        let Some(loading) = self.claims.loading.remove(&run) else {
            if resumed == Resumed::Started {
                self.execute_claimed(run);
                self.effects.push(Effect::Lose(run));
            }
            return;
        };
        match resumed {
            Resumed::Started => {
                self.execute_claimed(run);
                self.effects.extend(loading.entries.into_iter().map(Effect::Deliver));
            }
            Resumed::LoadAgain => self.claims.put(run, loading.epoch),
            Resumed::Refused { why, is_damaged } => self.refuse(run, loading.epoch, why, is_damaged),
        }
        self.work();
    }

    fn refuse(&mut self, run: RunId, epoch: u64, why: String, is_damaged: bool) {
        self.free_place(run);
        let claimant = Claimant { max_recoveries: self.options.max_recoveries };
        let refusal = Refusal { why, is_damaged, claimant };
        self.ask(Purpose::Refuse(run, epoch), Request::Refuse { run, epoch, refusal, now: self.now.wall });
    }

    pub(super) fn refused(&mut self, row: Box<RunRow>) {
        if row.phase() == Phase::Stranded {
            self.look_at(row.id);
            self.effects.push(Effect::Stranded(row));
        }
    }

    pub(super) fn execute_claimed(&mut self, run: RunId) {
        self.stand_no_more(run);
        self.executed.insert(run, Executed { is_claimed: true, ..Executed::default() });
        self.claimed += 1;
        self.closing.count(1);
    }
}

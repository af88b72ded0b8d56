//! What is true of a fleet, kept beside the journal and compared with it.

use std::collections::{BTreeMap, BTreeSet};

use treadle::journal::{Claim, Commit, Loaded, NewRun, OpId, OwnerId, Reply, Request, RunRow};
use treadle::{RunId, Time};

use super::script::{Record, State};

#[derive(Debug, Default)]
pub struct Facts {
    pub history: Vec<Record>,
    /// How many records a process was told are written.
    pub acknowledged: usize,
    pub owner: Option<OwnerId>,
    pub is_over: bool,
    /// When it was over, by the clock of the process that ended it.
    pub finished: Option<Time>,
    key: Option<(String, String)>,
}

#[derive(Debug, Default)]
pub struct Ledger {
    pub runs: BTreeMap<RunId, Facts>,
    keys: BTreeMap<(String, String), RunId>,
    /// Until when each owner's lease lasts, on the journal's clock.
    leases: BTreeMap<OwnerId, Time>,
    /// Messages that are in an inbox, or were.
    sent: BTreeMap<RunId, BTreeSet<u64>>,
    /// Commits that were written, and runs that were claimed by an operation.
    written: BTreeSet<OpId>,
    claimed: BTreeSet<(OpId, RunId, u64)>,
}

impl Ledger {
    /// What the journal has carried out for an owner.
    pub fn note(&mut self, owner: OwnerId, request: &Request, reply: &Reply, now: Time) {
        let is_again = |commit: &Commit| commit.op != OpId::NONE && self.written.contains(&commit.op);
        if request.commit().is_some_and(is_again) {
            // The answer was lost, and the same one was sent again.
            return;
        }
        self.written.extend(request.commit().map(|commit| commit.op));
        match (request, reply) {
            (Request::Enlist { owner, lease } | Request::Renew { owner, lease }, Reply::Done) => {
                self.leases.insert(*owner, now + lease.as_micros() as Time);
            }
            (Request::Release { owner }, Reply::Done) => self.lose(*owner),
            (Request::Create { run, owner, commit }, Reply::Created { .. }) => self.create(run, *owner, commit),
            (Request::Create { run, .. }, Reply::Exists { id, .. }) => {
                let of_key = run.key.clone().and_then(|key| self.keys.get(&(run.workflow.clone(), key)));
                assert!(*id == run.id || of_key == Some(id), "a key names one run");
            }
            (Request::Append { run, commit, .. }, Reply::Appended { .. }) => {
                let facts = self.runs.get(run).expect("a run that was made");
                assert_eq!(facts.owner, Some(owner), "only its owner appends to run {run}");
                assert!(!facts.is_over, "nothing comes after the end of run {run}");
                self.append(*run, commit);
            }
            (Request::Claim(Claim { op, owner, .. }), Reply::Claimed(claimed)) => {
                for row in &claimed.runs {
                    if self.claimed.insert((*op, row.id, row.epoch)) || *op == OpId::NONE {
                        self.claim(*owner, row, now);
                    }
                }
            }
            (Request::Send { run, message, .. }, Reply::Sent { new: true }) => {
                let number = u64::from_be_bytes(message.body[..].try_into().expect("eight bytes"));
                assert!(self.sent.entry(*run).or_default().insert(number), "one name is one message");
            }
            _ => {}
        }
    }

    fn create(&mut self, run: &NewRun, owner: Option<OwnerId>, commit: &Commit) {
        let key = run.key.clone().map(|key| (run.workflow.clone(), key));
        if let Some(key) = &key {
            assert!(self.keys.insert(key.clone(), run.id).is_none(), "a key names one run");
        }
        let facts = Facts { owner, key, ..Facts::default() };
        assert!(self.runs.insert(run.id, facts).is_none(), "a run is made once");
        self.append(run.id, commit);
    }

    fn append(&mut self, run: RunId, commit: &Commit) {
        let facts = self.runs.get_mut(&run).expect("a run that was made");
        facts.history.extend(commit.records.iter().map(|bytes| Record::decode(bytes)));
        facts.is_over = commit.status.phase.is_over();
        facts.finished = facts.is_over.then_some(commit.at);
        if facts.is_over || commit.release {
            facts.owner = None;
        }
        let state = State::fold(facts.history.iter().copied());
        let received: BTreeSet<_> = state.received.iter().collect();
        assert_eq!(received.len(), state.received.len(), "no message is received twice by run {run}");
        let sent = self.sent.get(&run);
        assert!(state.received.iter().all(|one| sent.is_some_and(|sent| sent.contains(one))), "only what was sent");
    }

    fn claim(&mut self, owner: OwnerId, row: &RunRow, now: Time) {
        assert!(self.leases.contains_key(&owner), "only a process with a lease claims");
        let facts = self.runs.get_mut(&row.id).expect("a run that was made");
        assert!(!facts.is_over, "a run that is over is not claimed");
        if let Some(other) = facts.owner {
            let until = self.leases.get(&other).copied().unwrap_or(0);
            assert!(other != owner && until < now, "run {} is taken from {other:?} before its lease is over", row.id);
        }
        facts.owner = Some(owner);
    }

    /// Runs were forgotten: those that the journal does not know any more.
    pub fn forget(&mut self, finished_before: Time, is_known: impl Fn(RunId) -> bool) {
        for (&run, facts) in &mut self.runs {
            if let Some(finished) = facts.finished
                && !is_known(run)
            {
                facts.finished = None;
                assert!(finished < finished_before, "run {run} is kept for a time after its end");
                if let Some(key) = facts.key.take() {
                    self.keys.remove(&key);
                }
            }
        }
    }

    fn lose(&mut self, owner: OwnerId) {
        self.leases.remove(&owner);
        for facts in self.runs.values_mut().filter(|facts| facts.owner == Some(owner)) {
            facts.owner = None;
        }
    }

    /// Whether the lease of an owner could have been lost by now.
    pub fn may_be_lost(&self, owner: OwnerId, now: Time) -> bool {
        self.leases.get(&owner).is_none_or(|&until| until < now)
    }

    /// A process was told that this many records are written.
    pub fn acknowledge(&mut self, run: RunId, records: usize) {
        let facts = self.runs.get_mut(&run).expect("a run that was made");
        assert!(records <= facts.history.len(), "run {run}: an acknowledged record was not written");
        facts.acknowledged = facts.acknowledged.max(records);
    }

    /// What is loaded of a run is what was written of it.
    pub fn check_loaded(&self, loaded: &Loaded) {
        let facts = &self.runs[&loaded.run.id];
        // What a process that has the run no more has loaded may be older.
        if facts.owner == loaded.run.owner && facts.history.len() as u64 == loaded.run.seq {
            assert_eq!(State::of(loaded), State::fold(facts.history.iter().copied()), "the log of {}", loaded.run.id);
        }
    }

    /// How many messages of a run no step has received.
    pub fn unreceived(&self, run: RunId) -> usize {
        let received = State::fold(self.runs[&run].history.iter().copied()).received.len();
        self.sent.get(&run).map_or(0, BTreeSet::len) - received
    }

    pub fn unfinished(&self) -> Vec<RunId> {
        self.runs.iter().filter(|(_, facts)| !facts.is_over).map(|(&run, _)| run).collect()
    }
}

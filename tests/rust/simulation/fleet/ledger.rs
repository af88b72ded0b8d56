//! What is true of a fleet, kept beside the journal and compared with it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use treadle::history::continuation;
use treadle::journal::{
    Claim, Commit, Digest, EntryNumber, Loaded, NewRun, OpId, Outgoing, OwnerId, Phase, Reply, Request, RunRow, Slot,
    Undelivered, entry, record,
};
use treadle::snapshot::{self, Standing};
use treadle::{EncodedImage, Record, RunId, StepId, Time};

use super::changes::{Made, Sent};
use super::children::signer;
use super::encode::{from_bytes, named};
use super::execution::EVENT;
use super::families::{Families, children_of};
use super::flows::Flows;
use super::memos::{Memos, Seen};
use super::posts;
use crate::simulation::ledger::Call;
use crate::simulation::workflow::{Action, Match, Named, WAITED, Workflow};

/// What was written of a run.
pub struct Facts {
    workflow: Rc<Workflow>,
    /// The fold of its records, and how many there are.
    pub image: EncodedImage,
    pub records: u64,
    /// How many records a process was told are written.
    acknowledged: u64,
    pub owner: Option<OwnerId>,
    pub phase: Phase,
    /// When it was over, by the clock of the process that ended it.
    finished: Option<Time>,
    key: Option<(String, String)>,
    /// Deliveries by event and step: those that were queued, and those that are done.
    queued: BTreeMap<(u64, u32), u64>,
    done: BTreeSet<(u64, u32)>,
    published: BTreeSet<u64>,
    last_published: u64,
    /// Events that were sent to it.
    pub sent: BTreeSet<u64>,
    /// Those of them that have arrived.
    arrived: BTreeSet<u64>,
    /// What other runs have sent to it, and it has not got yet.
    posted: BTreeSet<u64>,
    is_fork: bool,
    /// Where it stands in its family.
    pub parent: Option<RunId>,
    pub root: Option<RunId>,
    pub depth: u32,
    /// The children of its steps that were not done when it ended, and whether each had ended.
    children_at_end: Vec<(RunId, bool)>,
}

pub struct Ledger {
    pub flows: Flows,
    pub runs: BTreeMap<RunId, Facts>,
    keys: BTreeMap<(String, String), RunId>,
    /// What each run was started with, also of those that are forgotten.
    pub inputs: BTreeMap<RunId, Digest>,
    /// Until when each owner's lease lasts, on the journal's clock.
    leases: BTreeMap<OwnerId, Time>,
    consumed: BTreeSet<EntryNumber>,
    /// The events that runs have sent to each other.
    posted: BTreeSet<u64>,
    /// Runs that begin where another one was: they have not done all that their image says.
    pub forks: BTreeSet<RunId>,
    /// Commits that were written, and runs that were claimed by an operation.
    written: BTreeSet<OpId>,
    claimed: BTreeSet<(OpId, RunId, u64)>,
    /// The runs as their processes had them, by epoch and number of records, until that is written.
    pub live: BTreeMap<(RunId, u64, u64), EncodedImage>,
    /// The memos that bodies have seen, by run and delivery.
    memos: BTreeMap<(RunId, u64), Vec<(Call, u64)>>,
    pub families: Families,
    changes: Sent,
    /// How many runs have come to their result.
    pub completed: u64,
}

impl Ledger {
    pub fn new(flows: Flows) -> Self {
        let (runs, keys, leases) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self {
            flows,
            runs,
            keys,
            inputs: BTreeMap::new(),
            leases,
            consumed: BTreeSet::new(),
            posted: BTreeSet::new(),
            forks: BTreeSet::new(),
            written: BTreeSet::new(),
            claimed: BTreeSet::new(),
            live: BTreeMap::new(),
            memos: BTreeMap::new(),
            families: Families::default(),
            changes: Sent::default(),
            completed: 0,
        }
    }

    /// What the journal has carried out for an owner.
    pub fn note(&mut self, owner: OwnerId, request: &Request, reply: &Reply, now: Time) {
        self.changes.note(reply);
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
            (Request::Create { run, owner, commit }, Reply::Created { .. }) => {
                self.create(run, *owner, commit);
                self.check_live(run.id, 1);
            }
            (Request::Create { run, .. }, Reply::Exists { id, .. }) => {
                let of_key = run.key.clone().and_then(|key| self.keys.get(&(run.workflow.clone(), key)));
                assert!(*id == run.id || of_key == Some(id), "a key names one run");
            }
            (Request::Append { run, epoch, commit, .. }, Reply::Appended { undelivered, .. }) => {
                let facts = self.runs.get(run).expect("a run that was made");
                assert_eq!(facts.owner, Some(owner), "only its owner appends to run {run}");
                assert!(!facts.phase.is_over(), "nothing comes after the end of run {run}");
                self.append(*run, *epoch, commit);
                self.make_children(*run, commit);
                self.families.written(*run, &self.runs[run], commit, undelivered);
                self.post(commit, undelivered);
                self.check_live(*run, *epoch);
            }
            (Request::Reopen { run, commit, .. }, Reply::Reopened { epoch, .. }) => self.reopen(*run, *epoch, commit),
            (Request::Claim(Claim { op, owner, .. }), Reply::Claimed(claimed)) => {
                for row in &claimed.runs {
                    if self.claimed.insert((*op, row.id, row.epoch)) || *op == OpId::NONE {
                        self.claim(*owner, row, now);
                    }
                }
            }
            (Request::Send { run, message, .. }, Reply::Sent { new: true }) if message.kind == EVENT => {
                let facts = self.runs.get_mut(run).expect("a run that was made");
                assert!(facts.sent.insert(from_bytes(&message.body).name), "an answer is sent once");
            }
            _ => {}
        }
    }

    fn post(&mut self, commit: &Commit, undelivered: &[Undelivered]) {
        for (to, event) in posts::of_commit(&commit.outgoing) {
            assert!(self.posted.insert(event.name), "an event for run {to} is sent once");
            let facts = self.runs.get_mut(&to).expect("a run that was made");
            let is_missed = undelivered.iter().any(|one| one.to == to);
            assert!(!is_missed || facts.phase.is_over(), "run {to} goes on, and takes what is sent to it");
            facts.posted.extend((!is_missed).then_some(event.name));
        }
    }

    fn make_children(&mut self, parent: RunId, commit: &Commit) {
        for outgoing in &commit.outgoing {
            let Outgoing::Create { run, owner, commit } = outgoing else { continue };
            match self.runs.get(&run.id) {
                // A child of a run that has begun again, made by a process that has not come to write that.
                Some(known) => assert!(known.parent == Some(parent) && !known.is_forgotten(), "a child is made once"),
                None => {
                    self.families.made(parent, &self.runs[&parent], run);
                    self.create(run, *owner, commit);
                }
            }
        }
    }

    fn create(&mut self, run: &NewRun, owner: Option<OwnerId>, commit: &Commit) {
        let key = run.key.clone().map(|key| (run.workflow.clone(), key));
        if let Some(key) = &key {
            assert!(self.keys.insert(key.clone(), run.id).is_none(), "a key names one run");
        }
        self.inputs.insert(run.id, run.input);
        let image = opened(commit, Standing { seq: 0, epoch: 0 }).expect("a run begins with a checkpoint");
        let number =
            |(&seq, pending): (&u64, &treadle::Pending<_, _>)| ((named(&pending.event).name, pending.step.0), seq);
        let facts = Facts {
            workflow: self.flows.workflow(&run.workflow),
            queued: image.pending.iter().map(number).collect(),
            is_fork: self.forks.contains(&run.id),
            last_published: image.published,
            image,
            records: 0,
            acknowledged: 0,
            owner,
            phase: Phase::Ready,
            finished: None,
            key,
            done: BTreeSet::new(),
            published: BTreeSet::new(),
            sent: BTreeSet::new(),
            arrived: BTreeSet::new(),
            posted: BTreeSet::new(),
            parent: run.parent,
            root: run.root,
            depth: run.depth,
            children_at_end: Vec::new(),
        };
        assert!(self.runs.insert(run.id, facts).is_none(), "a run is made once");
    }

    /// Bodies of a run have seen memos.
    pub fn see_memos(&mut self, run: RunId, seen: impl Iterator<Item = Seen>) {
        for (seq, number, memo) in seen {
            let memos = self.memos.entry((run, seq)).or_default();
            memos.truncate(number);
            assert_eq!(memos.len(), number, "a body sees its memos in their order");
            memos.push(memo);
        }
    }

    /// What a process goes on with has every memo that a body has seen: no such call is made again.
    pub fn check_memos(&self, run: RunId, found: &Memos) {
        for (&seq, memos) in found {
            let seen = self.memos.get(&(run, seq)).map(Vec::as_slice).unwrap_or_default();
            let same = seen.iter().zip(memos).take_while(|(one, other)| one == other).count();
            // A call of another version voids what is behind it. The first one may be written, and not seen yet.
            let is_new = memos.len() == same + 1;
            assert!(
                same == seen.len() || is_new,
                "run {run}, delivery {seq}: {seen:?} were seen, {memos:?} are written"
            );
        }
    }

    fn append(&mut self, run: RunId, epoch: u64, commit: &Commit) {
        for &number in &commit.consumed {
            assert!(self.consumed.insert(number), "entry {number} is consumed once");
        }
        let facts = self.runs.get_mut(&run).expect("a run that was made");
        let changes = facts.append(run, commit, &mut self.families);
        self.changes.check(run, commit, &changes);
        if let Some(checkpoint) = opened(commit, Standing { seq: facts.records, epoch }) {
            assert!(checkpoint == facts.image, "the checkpoint of run {run} is the fold of its records");
        }
        if facts.phase == Phase::Completed && !facts.is_fork {
            self.completed += 1;
            self.flows.check_result(&facts.workflow, &facts.done, &facts.published, &facts.image);
        }
        if facts.phase.is_over() {
            (facts.owner, facts.finished) = (None, Some(commit.at));
        }
    }

    fn reopen(&mut self, run: RunId, epoch: u64, commit: &Commit) {
        let facts = self.runs.get_mut(&run).expect("a run that was made");
        assert!(facts.phase.is_over(), "only a run that is over is reopened");
        let epoch = epoch - u64::from(facts.owner.is_some());
        facts.image = opened(commit, Standing { seq: facts.records, epoch }).expect("a checkpoint");
        self.families.reopened(run, &std::mem::take(&mut facts.children_at_end), &facts.image);
        facts.last_published = facts.last_published.max(facts.image.published);
        (facts.phase, facts.finished) = (commit.status.phase, None);
    }

    /// The fold of the log is the live run.
    fn check_live(&mut self, run: RunId, epoch: u64) {
        let records = self.runs[&run].records;
        if let Some(live) = self.live.remove(&(run, epoch, records)) {
            assert!(self.runs[&run].image == live, "the log of run {run} says what it is");
        }
    }

    fn claim(&mut self, owner: OwnerId, row: &RunRow, now: Time) {
        assert!(self.leases.contains_key(&owner), "only a process with a lease claims");
        let facts = self.runs.get_mut(&row.id).expect("a run that was made");
        assert!(!facts.phase.is_over(), "a run that is over is not claimed");
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
    pub fn acknowledge(&mut self, run: RunId, records: u64) {
        let facts = self.runs.get_mut(&run).expect("a run that was made");
        assert!(
            records <= facts.records,
            "run {run}: an acknowledged record was not written: {records} of {}, {:?}",
            facts.records,
            facts.phase
        );
        facts.acknowledged = facts.acknowledged.max(records);
    }

    /// What is loaded of a run is what was written of it.
    pub fn check_loaded(&self, loaded: &Loaded) {
        let facts = &self.runs[&loaded.run.id];
        assert!(facts.acknowledged <= facts.records);
        // What a process that has the run no more has loaded may be older.
        if facts.owner == loaded.run.owner && facts.records == loaded.run.seq {
            let image = continuation(loaded, signer()).expect("it is what was written").image;
            assert!(image == facts.image, "the log of {}", loaded.run.id);
        }
    }

    /// The runs that have children which have not ended.
    pub fn parents(&self) -> impl Iterator<Item = RunId> {
        let is_parent = |facts: &Facts| !facts.phase.is_over() && !facts.image.children.is_empty();
        self.runs.iter().filter(move |(_, facts)| is_parent(facts)).map(|(&run, _)| run)
    }

    pub fn unfinished(&self) -> Vec<RunId> {
        self.runs.iter().filter(|(_, facts)| !facts.phase.is_over()).map(|(&run, _)| run).collect()
    }

    /// The runs that have not ended, for people.
    pub fn describe_unfinished(&self) -> String {
        let one = |run: RunId| {
            let Facts { phase, owner, image, sent, .. } = &self.runs[&run];
            format!("run {run} {phase:?} of {owner:?}, {:?} {:?}, was sent {sent:?}", image.pending, image.waits)
        };
        self.unfinished().into_iter().map(one).collect::<Vec<_>>().join("; ")
    }

    /// Runs that are known and have ended in this way.
    pub fn ended(&self, phase: Phase) -> Vec<RunId> {
        let ended = self.runs.iter().filter(|(_, facts)| facts.phase == phase && facts.finished.is_some());
        ended.map(|(&run, _)| run).collect()
    }
}

impl Facts {
    fn append(&mut self, run: RunId, commit: &Commit, families: &mut Families) -> Made {
        let (mut arrivals, mut changes) = (0, Made::default());
        for bytes in &commit.records {
            self.records += 1;
            let one = record::decode(run, self.records, bytes.clone().into(), &signer().secrets);
            let one = one.expect("it is what was written");
            families.recorded(run, self, &one, commit);
            changes.see(&one);
            if matches!(one, Record::Ended) {
                self.children_at_end = children_of(&self.image);
            }
            match &one {
                Record::Queued { seq, step, event } => {
                    let queued = self.queued.insert((named(event).name, step.0), *seq);
                    assert_eq!(queued, None, "an event is queued for a step once, in run {run}");
                }
                Record::Finished { seq, .. } => {
                    let pending = &self.image.pending[seq];
                    let delivery = (named(&pending.event).name, pending.step.0);
                    assert!(self.done.insert(delivery), "a delivery is done once, in run {run}");
                    let mut sent = posts::of_commit(&commit.outgoing).map(|(_, post)| post.name);
                    assert!(
                        !posts::is_sent_by(named(&pending.event)) || sent.any(|name| name == posts::name_of(run, *seq)),
                        "a step is done with what it sends to another run, in run {run}"
                    );
                    let returned = self.workflow.program(pending.step, named(&pending.event)).returns;
                    assert!(
                        returned.iter().all(|event| self.has_arrived(event)),
                        "a step is done with what it returned"
                    );
                }
                Record::Ended if commit.status.phase == Phase::Completed => {
                    let kept = self.image.kept.values().chain(self.image.held.iter().map(|held| &held.event));
                    let is_all_received = kept.map(named).all(|event| event.class == posts::POST);
                    assert!(is_all_received, "each answer comes once, and its body receives it, in run {run}");
                }
                _ => {}
            }
            let arrived = match &one {
                Record::Kept { event, .. } | Record::Held { event, .. } | Record::Received { event, .. } => Some(event),
                _ => None,
            };
            let arrived = arrived.map(|event| named(event).name).filter(|name| self.sent.contains(name));
            arrivals += usize::from(arrived.is_some_and(|name| self.arrived.insert(name)));
            self.image.apply(one).expect("a run records what is possible");
        }
        self.check_posts(run, commit);
        assert!(arrivals <= commit.consumed.len(), "what arrives in run {run} is consumed by the same commit");
        for (number, body) in &commit.published {
            assert_eq!(*number, self.last_published + 1, "the numbers of the stream of run {run} have no gap");
            self.last_published = *number;
            let slot = Slot::Stream { number: *number };
            let event = entry::decode(run, &slot, body.clone().into(), &signer().secrets, false);
            self.published.insert(named(&event.expect("it is what was written")).name);
        }
        assert_eq!(self.last_published, self.image.published, "what is published is in the stream of run {run}");
        self.phase = commit.status.phase;
        if commit.status.phase == Phase::Paused {
            assert_eq!(self.image.status, treadle::Status::Paused, "only a paused run is written as one");
        }
        changes
    }

    /// What other runs have sent is there once, as long as the run goes on.
    fn check_posts(&mut self, run: RunId, commit: &Commit) {
        if commit.status.phase.is_over() {
            return;
        }
        let there = self.image.kept.values().chain(self.image.held.iter().map(|held| &held.event)).map(named);
        let posts: Vec<_> = there.filter(|event| event.class == posts::POST).map(|event| event.name).collect();
        let once: BTreeSet<_> = posts.iter().copied().collect();
        assert_eq!(posts.len(), once.len(), "an event of another run is in run {run} once");
        self.posted.retain(|name| !once.contains(name));
    }

    /// Whether an event of a step is queued for each step that accepts it, or deferred.
    fn has_arrived(&self, event: &Named) -> bool {
        let Some(kind) = self.workflow.kind_of(event.class) else { return true };
        let is_queued = |step: &StepId| self.queued.contains_key(&(event.name, step.0));
        let is_deferred = self.image.held.iter().any(|held| named(&held.event).name == event.name);
        is_deferred || self.workflow.plan.routes.steps(kind).iter().all(is_queued)
    }

    /// Whether it is over, and the journal has forgotten it.
    fn is_forgotten(&self) -> bool {
        self.phase.is_over() && self.finished.is_none()
    }

    pub fn is_paused(&self) -> bool {
        self.image.status == treadle::Status::Paused
    }

    /// The answers that bodies wait for, or will, and that were not sent.
    pub fn wanted(&self) -> Vec<Named> {
        let there = self.image.kept.values().chain(self.image.held.iter().map(|held| &held.event));
        let there: BTreeSet<_> = there.map(|event| named(event).name).collect();
        let mut wanted = Vec::new();
        for pending in self.image.pending.values() {
            let received: BTreeSet<_> = pending.replay.received.iter().map(|event| named(event).name).collect();
            for action in self.workflow.program(pending.step, named(&pending.event)).actions {
                let Action::Wait { class: WAITED, filter: Match::Name(name), .. } = action else { continue };
                if !received.contains(&name) && !there.contains(&name) && !self.sent.contains(&name) {
                    wanted.push(Named { name, ..Workflow::answer(WAITED) });
                }
            }
        }
        wanted
    }
}

fn opened(commit: &Commit, standing: Standing) -> Option<EncodedImage> {
    let bytes = commit.checkpoint.clone()?;
    let image = snapshot::open_checkpoint(bytes.into(), standing, &signer().secrets);
    Some(image.expect("it is what was written"))
}

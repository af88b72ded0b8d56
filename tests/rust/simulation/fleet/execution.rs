//! A run that is executed by a process of the fleet: the real state machine, router and writer, and a host for them.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use treadle::history::Continuation;
use treadle::journal::{Digest, Entry, Limits, NewRun, Outcome, OwnerId, Phase, Reply, Request, kind};
use treadle::writer::{
    Answered, Creation, Durability, EndTaken, Flush, Made, Next, Occurrence, Requests, Writer, Written, begin,
};
use treadle::{
    Body as Stored, EncodedEvent, EncodedImage, EventKind, Family, Origin, Progress, Run, RunId, Time, family,
};

use super::bugs::Bug;
use super::children::signer;
use super::encode::{ToBytes, decoded, encoded};
use super::memos::{Memos, Seen, memos_of};
use super::posts::of_message;
use super::steps::Body;
use crate::simulation::random::Random;
use crate::simulation::workflow::{Ev, Guest, Workflow};

/// What an entry of an inbox is.
pub const EVENT: u8 = 0;
pub const CANCEL: u8 = 1;
pub const PAUSE: u8 = 2;
pub const RESUME: u8 = 3;

/// A request, and the run as it is once that is carried out and it has so many records, with the last one of those
/// that go together.
pub struct Asked {
    pub written: Written,
    pub request: Request,
    pub live: Option<(u64, EncodedImage)>,
}

/// What executing runs needs of its process.
#[derive(Clone, Copy)]
pub struct Setting {
    pub owner: OwnerId,
    pub durability: Durability,
    /// Whether any process may execute the children, since only so many of them execute in one.
    pub makes_for_any: bool,
    /// The version of the code: some arguments of calls differ between versions.
    pub version: u8,
    pub bug: Option<Bug>,
}

pub struct Execution {
    pub epoch: u64,
    pub(super) workflow: Rc<Workflow>,
    /// That of its children.
    pub(super) errands: Rc<Workflow>,
    pub workflow_name: String,
    /// Whether it has asked for a place before.
    pub has_asked: bool,
    pub(super) run: Run<Guest>,
    pub(super) writer: Writer,
    pub(super) bodies: Vec<Body>,
    pub(super) setting: Setting,
    pub(super) random: Random,
    pub(super) memos: Memos,
    /// What its bodies have seen of them since it was told.
    pub seen: Vec<Seen>,
    /// The runs that its steps send to.
    pub peers: Vec<RunId>,
    /// What is to be submitted.
    pub asked: Vec<Asked>,
    /// Children that begin when the journal has them, and those of them that the engine was not told of yet.
    pub expected: BTreeMap<RunId, Execution>,
    pub untold: Vec<RunId>,
    /// How many records this process was told are written, and how many there were before its first one.
    acknowledged: u64,
    written_before: u64,
    /// The first records of a new run are in the checkpoint that makes it.
    unwritten: u64,
    is_flush_due: bool,
    pub is_detached: bool,
    is_over: bool,
}

const CHECKPOINTS_AFTER: usize = 600;
const LIMITS: Limits = Limits { commit: 1 << 20 };

/// What a run is started with.
#[derive(Clone, Debug)]
pub struct Name {
    pub workflow: String,
    pub key: Option<String>,
    pub input: Digest,
    /// Where it stands, if another run starts it.
    pub family: Option<Family>,
}

/// The workflow of a run, and that of its children.
pub struct Code {
    pub name: String,
    pub workflow: Rc<Workflow>,
    pub errands: Rc<Workflow>,
}

/// A new run of a workflow, and what makes it.
pub fn create(id: RunId, named: &Name, workflow: &Workflow, now: Time) -> (Run<Guest>, Creation) {
    let mut run = Run::new(id, Arc::clone(&workflow.plan), now);
    if let Some(family) = named.family {
        run.belong(family);
    }
    let (image, _) = begin(&mut run, EventKind(0), Ev(workflow.first_event())).expect("it is new");
    let Name { workflow, key, input, family } = named.clone();
    let mut new =
        NewRun { id, workflow, key, input, created: now, stream_limit: 64, parent: None, root: None, depth: 0 };
    if let Some(family) = family {
        family::join(&mut new, family);
    }
    let creation = Creation::new(&encoded(image), new, signer(), now).expect("nothing is signed");
    (run, creation)
}

impl Execution {
    pub fn new(of: (Run<Guest>, Creation), code: Code, setting: Setting, random: Random) -> Self {
        let (mut run, creation) = of;
        let (writer, requests) = Writer::of_new(creation, &mut run, setting.owner, setting.durability, || true);
        let live = encoded(run.image());
        let unwritten = run.recorded();
        let acknowledged = if requests.is_empty() { unwritten } else { 0 };
        let mut execution = Self::make(run, writer, code, setting, random);
        (execution.acknowledged, execution.unwritten) = (acknowledged, unwritten);
        execution.ask(requests, live);
        execution
    }

    /// A child that begins once the journal has it.
    pub fn of_child(mut run: Run<Guest>, creation: &Creation, code: Code, setting: Setting, random: Random) -> Self {
        let writer = Writer::of_child(creation, &mut run, setting.durability);
        let unwritten = run.recorded();
        let mut execution = Self::make(run, writer, code, setting, random);
        (execution.acknowledged, execution.unwritten) = (unwritten, unwritten);
        execution
    }

    /// Goes on with a run that was loaded.
    pub fn resume(of: Continuation, code: Code, setting: Setting, random: Random) -> Self {
        let writer = Writer::of_continuation(&of, setting.durability);
        let memos = memos_of(&of.image);
        let mut run = Run::restore(decoded(of.image), Arc::clone(&code.workflow.plan));
        run.start_log();
        Self { written_before: of.seq, memos, ..Self::make(run, writer, code, setting, random) }
    }

    fn make(run: Run<Guest>, writer: Writer, code: Code, setting: Setting, random: Random) -> Self {
        Self {
            epoch: writer.epoch(),
            workflow: code.workflow,
            errands: code.errands,
            workflow_name: code.name,
            has_asked: false,
            run,
            writer: writer.with_checkpoints_after(CHECKPOINTS_AFTER),
            bodies: Vec::new(),
            setting,
            random,
            memos: Memos::new(),
            seen: Vec::new(),
            peers: Vec::new(),
            asked: Vec::new(),
            expected: BTreeMap::new(),
            untold: Vec::new(),
            acknowledged: 0,
            written_before: 0,
            unwritten: 0,
            is_flush_due: false,
            is_detached: false,
            is_over: false,
        }
    }

    pub(super) fn has(&self, bug: Bug) -> bool {
        self.setting.bug == Some(bug)
    }

    /// When it goes on by itself.
    pub fn due(&mut self) -> Option<Time> {
        if self.is_over || self.is_detached { None } else { self.run.next_deadline() }
    }

    /// Does the next thing, if there is one.
    pub fn step(&mut self, now: Time) -> bool {
        if self.is_over || self.is_detached {
            return false;
        }
        if self.has(Bug::StartedTooEarly) {
            self.run.acknowledge(u64::MAX);
        }
        if self.is_flush_due && self.random.one_in(2) {
            return self.flush(now);
        }
        let has_ready_body = !self.run.lacks_place() && self.bodies.iter().any(Body::is_ready);
        match self.run.poll(|| now) {
            Progress::Ended => return false,
            Progress::Release => self.release(now),
            Progress::Expired => self.expire(now),
            Progress::Ready if !has_ready_body || self.random.one_in(2) => self.start(now),
            _ if has_ready_body => self.advance_any(now),
            Progress::Stalled => {
                self.flush(now);
                self.end(Phase::Completed, now);
            }
            _ => return self.flush(now),
        }
        true
    }

    fn start(&mut self, now: Time) {
        let Some(started) = self.run.start_next(|| now) else { return };
        let delivery = self.run.delivery(started.slot).expect("it has just started");
        let is_written = delivery.recorded <= self.acknowledged;
        assert!(is_written || self.setting.durability == Durability::Pipelined, "it starts once it is written");
        let event = delivery.event.0;
        let program = Rc::new(self.workflow.program(started.step, event));
        let depth = self.depth();
        self.bodies.push(Body::new(started, event, program, depth));
        self.mark(Occurrence::Started, now);
    }

    pub(super) fn mark(&mut self, what: Occurrence, now: Time) {
        match self.writer.mark(what, &self.run, true) {
            Flush::Now => drop(self.flush(now)),
            Flush::Soon => self.is_flush_due = true,
            // A lane writes before it parks: when there is nothing else to do, or earlier.
            Flush::AsItGoes => {}
        }
    }

    /// Says whether there was anything to write.
    pub fn flush(&mut self, now: Time) -> bool {
        self.is_flush_due = false;
        let Some(taken) = self.writer.take(&mut self.run) else { return false };
        let live = encoded(self.run.image());
        let (draft, records) = taken.translate(&mut ToBytes);
        let records = records.expect("every event can be stored");
        let sealed = draft.seal(records, now, signer(), LIMITS).expect("nothing is signed");
        let requests = self.writer.hand_over(draft, sealed);
        self.ask(requests, live);
        let has_room = !self.random.one_in(4);
        let next = self.writer.handed_over(&mut self.run, || has_room);
        assert_eq!(next, Next::Nothing, "nothing has come meanwhile");
        true
    }

    fn ask(&mut self, requests: Requests, live: EncodedImage) {
        self.asked.extend(requests.into_iter().map(|(written, request)| Asked { written, request, live: None }));
        if let Some(last) = self.asked.last_mut() {
            last.live.get_or_insert((self.writer.seq(), live));
        }
    }

    /// The run is over, in this way.
    fn end(&mut self, phase: Phase, now: Time) {
        drop(self.run.begin_end());
        self.bodies.clear();
        drop(self.run.abandon());
        self.is_over = true;
        let EndTaken::Write(taken) = self.writer.take_end(&mut self.run) else { return };
        let live = encoded(self.run.image());
        let (draft, records) = taken.translate(&mut ToBytes);
        let records = records.expect("every event can be stored");
        let sealed = draft.seal(records, now, signer(), LIMITS).expect("nothing is signed");
        let result = EncodedEvent { class: "end".into(), body: Stored::Fields(Vec::new()) };
        let outcome = draft.ending(&sealed, signer()).seal(phase, &result).expect("nothing is signed");
        let requests = self.writer.hand_over_end(draft, sealed, (phase, outcome), self.last_words(phase));
        self.ask(requests, live);
    }

    /// Takes an entry of the inbox.
    pub fn take(&mut self, entry: &Entry, now: Time) {
        if self.is_over || self.is_detached || !self.writer.takes_entry(entry.number, &self.run) {
            return;
        }
        if entry.kind == EVENT {
            let event = of_message(entry.run, entry.id, &entry.body);
            if self.has(Bug::ConsumedAlone) {
                self.run.consume(entry.number);
                self.mark(Occurrence::Received, now);
                self.flush(now);
                return self.route(vec![event], Origin::Outside, now);
            }
            self.route(vec![event], Origin::Inbox(entry.number), now);
            return self.mark(Occurrence::Received, now);
        }
        if entry.kind == kind::CHILD_ENDED {
            return self.take_child_end(entry, now);
        }
        if entry.kind == kind::STATE {
            return self.change(entry, now);
        }
        self.run.consume(entry.number);
        match entry.kind {
            CANCEL => self.end(Phase::Cancelled, now),
            PAUSE => {
                self.run.pause().expect("it runs");
                self.mark(Occurrence::Paused, now);
            }
            _ => {
                self.run.resume();
                self.wake_for_children();
                self.mark(Occurrence::Resumed, now);
            }
        }
    }

    pub fn has_begun(&self) -> bool {
        !self.bodies.is_empty()
    }

    /// Whether it executes nothing before something comes from outside.
    pub fn rests(&self) -> bool {
        self.is_over || self.run.rests()
    }

    pub fn may_go_on(&self) -> bool {
        self.writer.may_go_on()
    }

    pub fn drain(&mut self) {
        self.run.drain();
    }

    /// What it has done is written, and nothing after it.
    pub fn let_go(&mut self, now: Time) {
        self.mark(Occurrence::Finished, now);
        self.flush(now);
        self.detach();
    }

    pub fn detach(&mut self) {
        self.writer.detach();
        self.is_detached = true;
    }

    /// The children that commits have made.
    pub fn take_made(&mut self) -> Vec<Made> {
        self.writer.take_made()
    }

    /// The journal has answered. Gives how many records of the run are written now, if that was told.
    pub fn answer(&mut self, written: Written, outcome: Outcome) -> (Answered, Option<u64>) {
        let recorded = match (written, &outcome) {
            (Written::Creation { .. }, Ok(Reply::Exists { .. })) | (Written::End, _) | (_, Err(_)) => None,
            (Written::Creation { recorded } | Written::Commit { recorded }, Ok(_)) => Some(recorded),
        };
        self.acknowledged = self.acknowledged.max(recorded.unwrap_or(0));
        let records = recorded.map(|recorded| self.written_before + recorded - self.unwritten);
        let has_room = !self.random.one_in(4);
        let answered = self.writer.answer(&mut self.run, written, outcome, || has_room);
        self.see_memos(self.writer.written());
        (answered, records)
    }
}

//! A host that executes one run, with its writer and a journal in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use treadle::history::continuation;
use treadle::journal::memory::MemoryStore;
use treadle::journal::{
    Commit, Digest, JournalError, Limits, Loaded, Message, NewRun, OpIds, Outcome, Outgoing, OwnerId,
    Phase as JournalPhase, Reply, Request, Sign, Signer,
};
use treadle::writer::{
    Answered, Creation, Draft, Durability, Encoded, EndTaken, Next, Requests, Writer, Written, begin,
};
use treadle::{
    Body, EncodedEvent, EncodedImage, EventKind, Plan, Routes, Run, RunId, Secrets, StepId, StepPlan, Tag, Translate,
    Value,
};

use crate::guest::Guest;

pub type TestRun = Run<Guest<&'static str>>;

pub const KIND: EventKind = EventKind(0);
pub const OWNER: OwnerId = OwnerId([7; 16]);

/// An event that does not become bytes.
pub const UNSTORABLE: u64 = u64::MAX;

/// Events as numbers in JSON.
pub struct ToBytes;

impl Translate<u64, Value, u8> for ToBytes {
    type Event = EncodedEvent;
    type Value = Value;
    type Class = Arc<str>;
    type Error = String;

    fn event(&mut self, event: u64) -> Result<EncodedEvent, String> {
        match event {
            UNSTORABLE => Err("it cannot be stored".to_owned()),
            event => Ok(encoded(event)),
        }
    }

    fn value(&mut self, _key: &str, value: Value) -> Result<Value, String> {
        Ok(value)
    }

    fn class(&mut self, class: &u8) -> Result<Arc<str>, String> {
        Ok(class.to_string().into())
    }
}

pub fn encoded(event: u64) -> EncodedEvent {
    EncodedEvent { class: "number".into(), body: Body::Whole(Value::new(Tag::Json, event.to_string().into_bytes())) }
}

pub fn image_of(run: &TestRun) -> EncodedImage {
    run.image().translate(&mut ToBytes).expect("everything can be stored")
}

pub fn plan() -> Arc<Plan> {
    let mut routes = Routes::default();
    routes.add([StepId(0)]);
    let steps = vec![StepPlan { name: "one".into(), ..StepPlan::default() }];
    Arc::new(Plan { name: "flow".into(), steps, routes, stream_limit: 1_000, ..Plan::default() })
}

pub fn signer(sign: Sign) -> Signer {
    Signer { secrets: Secrets::new([[5; 32]]).expect("long enough"), sign }
}

/// How a run is made.
#[derive(Clone, Copy)]
pub struct Options {
    pub durability: Durability,
    pub sign: Sign,
    pub key: Option<&'static str>,
    pub has_room: bool,
    /// A checkpoint is due after so many bytes of records, if not after the usual number.
    pub checkpoints_after: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self { durability: Durability::Step, sign: Sign::Opaque, key: None, has_room: true, checkpoints_after: None }
    }
}

pub struct Host {
    pub run: TestRun,
    pub writer: Writer,
    pub store: MemoryStore,
    pub signer: Signer,
    pub has_room: bool,
    /// Answers that the host was not told yet.
    pub answers: VecDeque<(Written, Outcome)>,
    /// Every commit that the journal has written, by how it was asked for.
    pub commits: Vec<Commit>,
    /// Each request is sent twice, since its first answer is lost.
    pub sends_again: bool,
    /// What the run writes to its family with its end.
    pub last_words: Vec<Outgoing>,
    ops: OpIds,
    messages: u64,
}

/// A commit between two of its steps.
pub type Half = (Draft, Result<Encoded, String>);

impl Host {
    pub fn new(options: Options) -> Self {
        let store = MemoryStore::default();
        store.carry_out(Request::Enlist { owner: OWNER, lease: Duration::from_secs(3600) }).expect("any may enlist");
        Self::on(store, 0, options)
    }

    /// Another run on a store.
    pub fn on(store: MemoryStore, number: u8, options: Options) -> Self {
        let signer = signer(options.sign);
        let mut run = TestRun::new(RunId::new(0, [number; 10]), plan(), 0);
        let (image, _) = begin(&mut run, KIND, 1).expect("it is new");
        let new = NewRun {
            id: run.id(),
            workflow: "flow".to_owned(),
            key: options.key.map(str::to_owned),
            input: Digest::from([number; 32]),
            created: 0,
            stream_limit: 1_000,
            parent: None,
            root: None,
            depth: 0,
        };
        let image = image.translate(&mut ToBytes).expect("numbers can be stored");
        let creation = Creation::new(&image, new, &signer, 0).expect("there is a secret");
        let has_room = options.has_room;
        let (writer, requests) = Writer::of_new(creation, &mut run, OWNER, options.durability, || has_room);
        let writer = match options.checkpoints_after {
            Some(bytes) => writer.with_checkpoints_after(bytes),
            None => writer,
        };
        let ops = OpIds::new([number; 8]);
        let (answers, commits) = (VecDeque::new(), Vec::new());
        let mut host = Self {
            run,
            writer,
            store,
            signer,
            has_room,
            answers,
            commits,
            sends_again: false,
            last_words: Vec::new(),
            ops,
            messages: 0,
        };
        host.submit(requests);
        host
    }

    /// The journal carries out what was asked for; the host is not told yet.
    pub fn submit(&mut self, requests: Requests) {
        for (written, mut request) in requests {
            *request.op_mut().expect("a commit has a name") = self.ops.draw();
            let commit = match &request {
                Request::Append { commit, .. } | Request::Create { commit, .. } => commit.clone(),
                other => panic!("no writer asks for {other:?}"),
            };
            let mut outcome = self.store.carry_out(request.clone());
            if self.sends_again {
                // The answer was lost.
                outcome = self.store.carry_out(request);
            }
            if outcome.as_ref().is_ok_and(|reply| !matches!(reply, Reply::Exists { .. })) {
                self.commits.push(commit);
            }
            self.answers.push_back((written, outcome));
        }
    }

    /// Takes what there is to write, and makes stored objects of it.
    pub fn take(&mut self) -> Option<Half> {
        Some(self.writer.take(&mut self.run)?.translate(&mut ToBytes))
    }

    /// Hands over what was taken. Gives what comes next.
    pub fn hand_over(&mut self, (draft, encoded): Half) -> Next {
        let sealed =
            encoded.and_then(|encoded| draft.seal(encoded, 0, &self.signer, LIMITS).map_err(|error| error.to_string()));
        let requests = match sealed {
            Ok(sealed) => self.writer.hand_over(draft, sealed),
            Err(_) => self.writer.leave_gap(draft),
        };
        self.submit(requests);
        let has_room = self.has_room;
        self.writer.handed_over(&mut self.run, || has_room)
    }

    /// Makes a commit of all there is. Says whether there was anything.
    pub fn flush(&mut self) -> bool {
        let taken = self.take();
        taken.map(|half| self.hand_over(half)).is_some()
    }

    /// Writes the end of a run that has ended.
    pub fn write_end(&mut self, phase: JournalPhase) -> EndTaken<Guest<&'static str>> {
        let taken = match self.writer.take_end(&mut self.run) {
            EndTaken::Write(taken) => taken,
            other => return other,
        };
        let (mut draft, records) = taken.translate(&mut ToBytes);
        let sealed = match records {
            Ok(records) => draft.seal(records, 0, &self.signer, LIMITS).expect("there is a secret"),
            Err(_) => draft.without_records(0),
        };
        let outcome = draft.ending(&sealed, &self.signer).seal(phase, &encoded(0)).expect("there is a secret");
        let last = std::mem::take(&mut self.last_words);
        let requests = self.writer.hand_over_end(draft, sealed, (phase, outcome), last);
        self.submit(requests);
        EndTaken::Detached(Vec::new())
    }

    /// The outcome of the run is known, and nothing is in flight.
    pub fn end(&mut self) {
        drop(self.run.begin_end());
        drop(self.run.abandon());
    }

    /// The host is told the next answer.
    pub fn hear(&mut self) -> Answered {
        let (written, outcome) = self.answers.pop_front().expect("there is an answer");
        self.hear_that(written, outcome)
    }

    pub fn hear_that(&mut self, written: Written, outcome: Outcome) -> Answered {
        let has_room = self.has_room;
        self.writer.answer(&mut self.run, written, outcome, || has_room)
    }

    /// The host is told all answers.
    pub fn hear_all(&mut self) {
        while !self.answers.is_empty() {
            self.hear();
        }
    }

    /// A message to the run. Gives the number of its entry.
    pub fn send(&mut self) -> u64 {
        self.messages += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.messages.to_be_bytes());
        let message = Message { id, kind: 0, body: Vec::new() };
        let sent = self.store.carry_out(Request::Send { run: self.run.id(), message, now: 0 });
        assert!(matches!(sent, Ok(Reply::Sent { new: true })), "{sent:?}");
        self.loaded().inbox.last().expect("it was sent").number
    }

    pub fn loaded(&self) -> Loaded {
        match self.store.carry_out(Request::Load { runs: vec![self.run.id()] }) {
            Ok(Reply::Loaded(mut loaded)) => *loaded.remove(0).1.expect("the run is there"),
            other => panic!("{other:?}"),
        }
    }

    /// The run as the journal has it.
    pub fn stored(&self) -> EncodedImage {
        continuation(&self.loaded(), &self.signer).expect("it is what was written").image
    }

    /// The numbers of the stream that are written.
    pub fn stream(&self) -> Vec<u64> {
        let request = Request::ReadStream { run: self.run.id(), after: 0, limit: 1_000 };
        match self.store.carry_out(request) {
            Ok(Reply::Stream(stream)) => stream.entries.into_iter().map(|(number, _)| number).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// How often each entry of the inbox was dealt with.
    pub fn dealt_with(&self) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for commit in &self.commits {
            let dead = commit.undeliverable.iter().map(|(number, _)| number);
            commit.consumed.iter().chain(dead).for_each(|&number| *counts.entry(number).or_default() += 1);
        }
        counts
    }
}

const LIMITS: Limits = Limits { commit: 900_000_000 };

/// What the journal says to a commit of a run that another process has by now.
pub fn conflict() -> Outcome {
    Err(JournalError::Conflict(RunId::new(0, [0; 10])))
}

pub fn locked() -> Outcome {
    Err(JournalError::Unavailable { place: "a file".into(), why: "it is locked".into() })
}

//! A live run whose events are bytes already, so that what it records can be written as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use treadle::journal::{Chain, Loaded, Sign, Status};
use treadle::snapshot::Standing;
use treadle::{
    Body, Collecting, Deadline, EncodedEvent, EncodedImage, EncodedRecord, EventKind, Host, Kept, Memo, Once, Phase,
    Plan, Record, Routes, Run, Slot, StepId, StepPlan, Strand, Tag, Value, WaitId, Wanted,
};

use super::{RUN, json, row, signer};

/// A host that holds bytes.
pub struct Bytes;

impl Host for Bytes {
    type Event = EncodedEvent;
    type Value = Value;
    type Class = Arc<str>;
    type Waiter = ();

    fn copy_event(event: &EncodedEvent) -> EncodedEvent {
        event.clone()
    }

    fn copy_value(value: &Value) -> Value {
        value.clone()
    }

    fn copy_waiter((): &()) {}

    fn is_same_event(one: &EncodedEvent, other: &EncodedEvent) -> bool {
        one == other
    }
}

pub fn plan() -> Arc<Plan> {
    let mut routes = Routes::default();
    routes.add([StepId(0)]);
    routes.add([StepId(0), StepId(1)]);
    let one = StepPlan { name: "one".into(), ..StepPlan::default() };
    let two = StepPlan { name: "two".into(), concurrency: 1.try_into().ok(), ..StepPlan::default() };
    let (timeout, deadline) = (Some(1_000_000), Some(2_000_000));
    Arc::new(Plan { name: "flow".into(), steps: vec![one, two], routes, timeout, deadline, stream_limit: 10 })
}

/// A run that writes what it records, and remembers what it was like after each operation.
pub struct Live {
    pub run: Run<Bytes>,
    sign: Sign,
    chain: Chain,
    checkpoint: (u64, Vec<u8>),
    records: Vec<Vec<u8>>,
    /// The image after each operation since the checkpoint, by the number of the last record.
    pub images: BTreeMap<u64, EncodedImage>,
    slots: Vec<Slot>,
    waits: Vec<WaitId>,
    events: u64,
    now: u64,
}

impl Live {
    pub fn new(sign: Sign) -> Self {
        let mut run = Run::new(RUN, plan(), 100);
        run.start_log();
        run.acknowledge(u64::MAX);
        let mut chain = Chain::begin(sign);
        let sealed = chain.seal(&run.image(), Standing { seq: 0, epoch: 4 }, &signer(sign).secrets).unwrap();
        let images = BTreeMap::from([(0, run.image())]);
        let (slots, waits, records) = (Vec::new(), Vec::new(), Vec::new());
        Self { run, sign, chain, checkpoint: (0, sealed), records, images, slots, waits, events: 0, now: 100 }
    }

    /// What a journal has of it by now.
    pub fn loaded(&self) -> Loaded {
        let row = row(self.seq(), Status::default());
        Loaded { run: row, checkpoint: Some(self.checkpoint.clone()), records: self.records.clone(), inbox: vec![] }
    }

    fn seq(&self) -> u64 {
        self.checkpoint.0 + self.records.len() as u64
    }

    /// Writes what was recorded.
    fn commit(&mut self) {
        let secrets = &signer(self.sign).secrets;
        for record in self.run.take_log() {
            let bytes = self.chain.encode(RUN, self.seq() + 1, &without_published(record), secrets).unwrap();
            self.records.push(bytes.to_vec());
        }
        self.images.insert(self.seq(), self.run.image());
    }

    fn write_checkpoint(&mut self) {
        let standing = Standing { seq: self.seq(), epoch: 4 };
        let sealed = self.chain.seal(&self.run.image(), standing, &signer(self.sign).secrets).unwrap();
        self.checkpoint = (standing.seq, sealed);
        self.records.clear();
        self.images = BTreeMap::from([(standing.seq, self.run.image())]);
    }

    /// One operation of a host: which one, and with which of the things that there are.
    pub fn operate(&mut self, operation: u8, which: usize) {
        self.now += 1;
        self.waits.retain(|wait| self.run.is_waiting(*wait));
        match operation % 20 {
            0 => self.deliver(which),
            1 => self.start(),
            2 => self.finish(which),
            3 => self.fail(which),
            4 => drop(self.run.set(["a", "b", "c"][which % 3], json(&self.now.to_string()))),
            5 => drop(self.run.delete(["a", "b", "c"][which % 3])),
            6 => self.publish(),
            7 => self.wait(which),
            8 => self.receive(which),
            9 => self.give_up(which),
            10 => self.keep(),
            11 => self.take_kept(which),
            12 => drop(self.run.pause()),
            13 => self.resume(),
            14 => self.hold(),
            15 => self.expire(which),
            16 => self.collect(which),
            17 | 18 => self.once(which),
            _ if which.is_multiple_of(5) => self.write_checkpoint(),
            _ => self.send(which),
        }
        self.commit();
    }

    fn next_event(&mut self, class: &str) -> EncodedEvent {
        self.events += 1;
        let opaque = Value { tag: Tag::Opaque, class: Some("Decimal".into()), bytes: vec![1].into() };
        let fields = vec![("number".into(), json(&self.events.to_string())), ("sum".into(), opaque)];
        EncodedEvent { class: class.into(), body: Body::Fields(fields) }
    }

    fn publish(&mut self) {
        let event = self.next_event("Progress");
        self.run.publish(event).unwrap();
    }

    fn keep(&mut self) {
        let event = self.next_event("Answer");
        self.run.keep(event).unwrap();
    }

    fn deliver(&mut self, which: usize) {
        let event = self.next_event("Page");
        self.run.deliver(EventKind((which % 2) as u32), event).unwrap();
    }

    fn start(&mut self) {
        let now = self.now;
        self.slots.extend(self.run.start_next(|| now).map(|started| started.slot));
    }

    fn slot(&self, which: usize) -> Option<Slot> {
        let at = which.checked_rem(self.slots.len())?;
        Some(self.slots[at])
    }

    fn leave(&mut self, which: usize) -> Option<Slot> {
        let at = which.checked_rem(self.slots.len())?;
        Some(self.slots.swap_remove(at))
    }

    fn finish(&mut self, which: usize) {
        let Some(slot) = self.leave(which) else { return };
        for _ in 0..which % 3 {
            self.deliver(which);
        }
        self.run.finish_step(slot);
    }

    fn fail(&mut self, which: usize) {
        if let Some(slot) = self.leave(which) {
            self.run.retry(slot, "no".into(), self.now + 5).unwrap();
        }
    }

    fn wait(&mut self, which: usize) {
        let Some(slot) = self.slot(which) else { return };
        let now = self.now;
        let due = self.run.ask_deadline(slot, Wanted::Wait(9), || now);
        let class = (!which.is_multiple_of(4)).then(|| "Answer".into());
        self.waits.push(self.run.wait(slot, (), class, Some(due)).unwrap());
    }

    fn receive(&mut self, which: usize) {
        let Some(at) = which.checked_rem(self.waits.len()) else { return };
        let event = self.next_event("Answer");
        self.run.receive(self.waits[at], &event);
    }

    fn give_up(&mut self, which: usize) {
        if let Some(at) = which.checked_rem(self.waits.len()) {
            self.run.end_wait(self.waits[at]);
        }
    }

    fn take_kept(&mut self, which: usize) {
        let first = self.run.kept().next().map(|(number, _)| number);
        if let (Some(slot), Some(number)) = (self.slot(which), first) {
            self.run.take_kept(slot, number);
        }
    }

    fn resume(&mut self) {
        self.run.resume();
        while let Some((number, _)) = self.run.next_release() {
            let held = self.run.release(number).expect("it is held");
            self.run.deliver(EventKind(0), held.event).unwrap();
        }
    }

    fn hold(&mut self) {
        if self.run.is_paused() {
            let event = self.next_event("Page");
            self.run.hold(event, true).unwrap();
        }
    }

    fn expire(&mut self, which: usize) {
        self.now += which as u64 % 20;
        if let Some(Deadline::Wait(wait)) = self.run.expire(self.now) {
            self.run.end_wait(wait);
        }
    }

    fn collect(&mut self, which: usize) {
        let Some(slot) = self.slot(which) else { return };
        let step = self.run.delivery(slot).expect("it is in flight").step;
        let call = Collecting { slot, step, key: Some("key"), event: self.next_event("Page") };
        let page: Arc<str> = "Page".into();
        let is_pair = |classes: &[Arc<str>]| classes.len() == 2;
        drop(self.run.collect(call, is_pair, |_| Some(page.clone()), || [page.clone(), page.clone()].into()));
    }

    fn once(&mut self, which: usize) {
        let Some(slot) = self.slot(which) else { return };
        let strand = if which.is_multiple_of(3) { self.run.new_strand(slot, None).unwrap() } else { Strand::BODY };
        let name = ["ask", "tell"][which % 2];
        let Ok(Once::New(call)) = self.run.once(slot, strand, name, &[(which % 4) as u8; 32]) else { return };
        let value = Value { tag: Tag::Opaque, class: Some("Answer".into()), bytes: vec![which as u8].into() };
        let kept = if which.is_multiple_of(5) { Kept::Failure(value) } else { Kept::Result(value) };
        drop(self.run.keep_memo(slot, strand, Memo { call, kept }).unwrap());
    }

    fn send(&mut self, which: usize) {
        let Some(slot) = self.slot(which) else { return };
        self.deliver(which);
        self.run.note_sent(slot, self.events);
    }
}

/// What is published stands beside the log.
fn without_published(record: EncodedRecord) -> EncodedRecord {
    match record {
        Record::Published { .. } => {
            Record::Published { event: EncodedEvent { class: "".into(), body: Body::Fields(Vec::new()) } }
        }
        other => other,
    }
}

/// Has a run do all that is left to do. Says whether it came to its end.
pub fn run_dry(image: EncodedImage) -> bool {
    let mut run: Run<Bytes> = Run::restore(image, plan());
    run.resume();
    while let Some((number, _)) = run.next_release() {
        let held = run.release(number).expect("it is held");
        run.deliver(EventKind(0), held.event).unwrap();
    }
    loop {
        while let Some(started) = run.start_next(|| 1) {
            run.finish_step(started.slot);
        }
        if !matches!(run.expire(u64::MAX), Some(Deadline::Retry(_))) {
            return run.phase() == Phase::Running && run.is_stalled() && !run.is_settling();
        }
    }
}

/// Every event of an image by where it is: nothing is in two places, or in none, between two operations.
pub fn places(image: &EncodedImage) -> Vec<String> {
    let place = |kind: &str, number: u64, event: &EncodedEvent| format!("{kind} {number} {event:?}");
    let pending = image.pending.iter().flat_map(|(seq, pending)| {
        let received = pending.replay.received.iter().map(|event| place("received", *seq, event));
        received.chain([place("pending", *seq, &pending.event)]).collect::<Vec<_>>()
    });
    let kept = image.kept.iter().map(|(number, event)| place("kept", *number, event));
    let held = image.held.iter().map(|held| place("held", 0, &held.event));
    let mut places: Vec<_> = pending.chain(kept).chain(held).collect();
    places.sort();
    places
}

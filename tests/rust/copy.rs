//! Runs are moved between journals whole, and a copier may die at any point.

use std::collections::BTreeMap;

use crate::journal::desk::*;
use crate::journal::every_backend;
use treadle::copy::{Desk as Host, End, News, Side, Stays, Summary, Trouble, Which, copy};
use treadle::history::{History, Trusted};
use treadle::journal::{
    Chain, Commit, Copying, JournalError, Loaded, Message, NewRun, Outcome, OwnerId, Phase, Refusal, Reply, Request,
    RunRow, Sign, Signer, Slot, Status, entry, kind,
};
use treadle::snapshot::Standing;
use treadle::{Body, EncodedEvent, EncodedImage, EncodedRecord, Record, RunId, Secrets, Tag, Value};

every_backend!(
    a_run_comes_back_as_it_was,
    a_copier_may_die_at_any_point,
    a_run_that_goes_on_after_a_copier_died_is_copied_as_it_is_then,
    what_is_sent_meanwhile_is_not_lost,
    a_run_that_is_executed_stays,
    a_run_of_another_secret_stays,
    a_run_whose_key_is_taken_stays,
    a_family_goes_together,
);

const W: OwnerId = OwnerId([0x77; 16]);

fn signer(secret: &str, sign: Sign) -> Signer {
    Signer { secrets: Secrets::new([secret]).unwrap(), sign }
}

fn here() -> Signer {
    signer("the secret of the laptop", Sign::Opaque)
}

fn there() -> Signer {
    signer("the secret of the fleet", Sign::Opaque)
}

/// A copier's host: it dies after so many requests, before the last one is carried out or after it.
struct Wire<'a> {
    from: &'a Desk,
    to: &'a Desk,
    left: usize,
    is_carried_out: bool,
    asked: usize,
    // Carried out once, before the request of this number.
    between: Option<(usize, &'a dyn Fn())>,
}

impl Host for Wire<'_> {
    fn ask(&mut self, end: End, requests: Vec<Request>) -> Vec<Outcome> {
        let count = requests.len();
        let dead = || vec![Err(JournalError::Closed); count];
        self.asked += 1;
        if let Some((_, work)) = self.between.take_if(|(at, _)| *at == self.asked) {
            work();
        }
        if self.left == 0 {
            return dead();
        }
        self.left -= 1;
        if self.left == 0 && !self.is_carried_out {
            return dead();
        }
        let answers = if end == End::From { self.from } else { self.to }.ask_all(requests);
        if self.left == 0 { dead() } else { answers }
    }

    fn now(&mut self) -> u64 {
        0
    }

    fn waits(&mut self) -> bool {
        false
    }

    fn tell(&mut self, _: News<'_>) {}
}

/// Two journals and the copiers between them.
struct Move<'a> {
    from: (&'a dyn Store, Desk, Signer),
    to: (&'a dyn Store, Desk, Signer),
    copiers: std::cell::Cell<u8>,
}

impl<'a> Move<'a> {
    fn new(from: &'a dyn Store, to: &'a dyn Store) -> Self {
        Self { from: (from, from.open(), here()), to: (to, to.open(), there()), copiers: 0.into() }
    }

    fn wire(&self) -> Wire<'_> {
        Wire { from: &self.from.1, to: &self.to.1, left: usize::MAX, is_carried_out: true, asked: 0, between: None }
    }

    // A small part, so that everything goes in several.
    fn copy(&self, wire: &mut Wire<'_>, which: Which) -> Result<Summary, JournalError> {
        self.copiers.set(self.copiers.get() + 1);
        let side = |signer: &Signer, end: u8| Side {
            owner: OwnerId([self.copiers.get(), end, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]),
            signer: signer.clone(),
            shown: "sqlite:///laptop.db".into(),
            part: 200,
            limit: 1 << 20,
        };
        copy(wire, side(&self.from.2, 1), side(&self.to.2, 2), which)
    }

    fn all(&self) -> Summary {
        self.copy(&mut self.wire(), Which::All).unwrap()
    }

    // The leases of all who have died are over.
    fn time_passes(&self, rounds: u64) {
        for store in [self.from.0, self.to.0] {
            store.clock().set(rounds * 100_000_000);
        }
    }
}

fn event(text: &str) -> EncodedEvent {
    let value = Value::new(Tag::Opaque, text.as_bytes().to_vec());
    EncodedEvent { class: "app:Said".into(), body: Body::Whole(value) }
}

fn set(text: &str) -> EncodedRecord {
    Record::Set { key: "text".into(), value: Value::new(Tag::Opaque, text.as_bytes().to_vec()) }
}

fn new(number: u64) -> NewRun {
    NewRun { key: Some(format!("order {number}")), ..run(number) }
}

/// A run with a checkpoint in the middle of its log, a stream, and messages that wait, were consumed and are dead.
fn make(desk: &Desk, run: NewRun, signer: &Signer, status: Status) {
    let id = run.id;
    let image = EncodedImage::new(id, "w", vec!["one".into()], 100, None);
    let mut chain = Chain::begin(signer.sign);
    let published = |number: u64| {
        let slot = Slot::Stream { number };
        let body = entry::encode(id, &slot, &event(&format!("said {number}")), &signer.secrets, signer.signs_all());
        (number, body.unwrap().to_vec())
    };
    let first = chain.seal(&image, Standing { seq: 0, epoch: 0 }, &signer.secrets).unwrap();
    desk.done(enlist(W, 50_000_000));
    desk.create(run, Some(W), Commit { checkpoint: Some(first), ..commit(&[]) });
    let mut records = Vec::new();
    for seq in 1..=4 {
        records.push(chain.encode(id, seq, &set(&seq.to_string()), &signer.secrets).unwrap().to_vec());
    }
    desk.append(id, 1, 0, Commit { records, published: vec![published(1), published(2)], ..commit(&[]) });
    for name in 1..=6 {
        send_event(desk, id, name, signer);
    }
    let numbers: Vec<_> = desk.load(id).inbox.iter().map(|entry| entry.number).collect();
    let folded = History::new(&desk.load(id), Trusted::Signed(signer)).image().unwrap();
    let middle = chain.seal(&folded, Standing { seq: 4, epoch: 1 }, &signer.secrets).unwrap();
    let taken = Commit {
        checkpoint: Some(middle),
        keeps_history: true,
        consumed: vec![numbers[0], numbers[2]],
        undeliverable: vec![(numbers[1], "no such class".into())],
        published: (3..=7).map(published).collect(),
        ..commit(&[])
    };
    desk.append(id, 1, 4, taken);
    let mut records = Vec::new();
    for seq in 5..=9 {
        records.push(chain.encode(id, seq, &set(&seq.to_string()), &signer.secrets).unwrap().to_vec());
    }
    let outcome = status.phase.is_over().then(|| {
        let slot = Slot::Outcome { seq: 9, phase: status.phase };
        entry::encode(id, &slot, &event("over"), &signer.secrets, signer.signs_all()).unwrap().to_vec()
    });
    let end = Commit { at: 70, records, status, outcome, release: true, ..Commit::default() };
    desk.append(id, 1, 4, end);
    desk.done(Request::Release { owner: W });
}

fn strand(desk: &Desk, run: RunId) {
    desk.done(enlist(W, 50_000_000));
    let Ok(Reply::Taken(row)) = desk.ask(Request::Take { run, owner: W, op: Default::default() }) else {
        panic!("it is taken")
    };
    let refusal = Refusal { why: "a bit has fallen over".into(), is_damaged: true, claimant: Default::default() };
    assert!(desk.ask(Request::Refuse { run, epoch: row.epoch, refusal, now: 80 }).is_ok());
    assert_eq!(desk.get(run).0.phase(), Phase::Stranded);
    desk.done(Request::Release { owner: W });
}

fn send_event(desk: &Desk, run: RunId, name: u8, signer: &Signer) {
    let slot = Slot::Inbox { id: [name; 16], kind: kind::EVENT };
    let body = entry::encode(run, &slot, &event(&name.to_string()), &signer.secrets, true).unwrap().to_vec();
    let message = Message { id: [name; 16], kind: kind::EVENT, body };
    assert!(desk.ask(Request::Send { run, message, now: u64::from(name) }).is_ok());
}

/// A part of a history: where it begins, the image there, and the records behind it.
type Part = (u64, EncodedImage, Vec<EncodedRecord>);

fn parts(desk: &Desk, run: RunId, signer: &Signer) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut at = 0;
    loop {
        let Ok(Reply::Segment(part)) = desk.ask(Request::Segment { run, at }) else { panic!("a part at {at}") };
        at = part.end();
        let loaded = part.into_loaded();
        let history = History::new(&loaded, Trusted::Signed(signer));
        if parts.last().is_some_and(|&(begin, ..)| begin == history.folded()) {
            return parts;
        }
        let records = history.records().map(|record| record.unwrap().1).collect();
        parts.push((history.folded(), history.checkpoint().unwrap().0, records));
    }
}

/// All that a journal knows of a run, read with its secret.
#[derive(Debug, PartialEq)]
struct Whole {
    row: RunRow,
    image: EncodedImage,
    records: Vec<EncodedRecord>,
    folded: u64,
    history: Vec<Part>,
    stream: Vec<(u64, EncodedEvent)>,
    outcome: Option<EncodedEvent>,
    inbox: Vec<([u8; 16], u64, EncodedEvent)>,
    dead: Vec<([u8; 16], String)>,
    consumed: Vec<[u8; 16]>,
}

fn whole(desk: &Desk, run: RunId, signer: &Signer) -> Whole {
    let loaded: Loaded = desk.load(run);
    let trusted = Trusted::Signed(signer);
    let history = History::new(&loaded, trusted);
    let (row, outcome) = desk.get(run);
    let read = |slot: &Slot, body: Vec<u8>| trusted.event(run, slot, body.into()).unwrap();
    let stream = desk.stream(run, 0, 100).entries.into_iter();
    let Ok(Reply::DeadLetters(dead)) = desk.ask(Request::DeadLetters { run }) else { panic!("dead letters") };
    let Ok(Reply::Traces(traces)) = desk.ask(Request::Traces { run }) else { panic!("traces") };
    let outcome = outcome.map(|body| read(&Slot::Outcome { seq: row.seq, phase: row.phase() }, body));
    let inbox = loaded.inbox.iter().map(|entry| {
        let slot = Slot::Inbox { id: entry.id, kind: entry.kind };
        (entry.id, entry.at, read(&slot, entry.body.clone()))
    });
    Whole {
        image: history.image().unwrap(),
        records: history.records().map(|record| record.unwrap().1).collect(),
        folded: history.folded(),
        history: parts(desk, run, signer),
        stream: stream.map(|(number, body)| (number, read(&Slot::Stream { number }, body))).collect(),
        outcome,
        inbox: inbox.collect(),
        dead: dead.into_iter().map(|letter| (letter.entry.id, letter.why)).collect(),
        consumed: traces.consumed,
        // What each journal counts by itself.
        row: RunRow {
            epoch: 0,
            op: Default::default(),
            made_by: Default::default(),
            reopened_by: Default::default(),
            // Each copier that dies is an owner that was lost.
            recoveries: 0,
            not_before: None,
            ..row
        },
    }
}

const PHASES: [Phase; 6] =
    [Phase::Ready, Phase::Waiting, Phase::Paused, Phase::Completed, Phase::Failed, Phase::Cancelled];

fn make_each(desk: &Desk, signer: &Signer) -> BTreeMap<RunId, Whole> {
    for (number, phase) in (1..).zip(PHASES) {
        let due = (phase == Phase::Waiting).then_some(1 << 50);
        make(desk, new(number), signer, Status { phase, due });
    }
    let stranded = PHASES.len() as u64 + 1;
    make(desk, new(stranded), signer, Status::default());
    strand(desk, id(stranded));
    (1..=stranded).map(|number| (id(number), whole(desk, id(number), signer))).collect()
}

// From a journal in memory and back.
fn both_ways(store: &dyn Store, test: impl Fn(&Move<'_>)) {
    let memory = Memory::default();
    test(&Move::new(&memory, store));
    let desk = store.open();
    for run in desk.list(treadle::journal::Filter { limit: 1000, ..Default::default() }) {
        desk.done(Request::Delete { run });
    }
    let (from, to) = (store, &Memory::default());
    test(&Move::new(from, to));
}

fn a_run_comes_back_as_it_was(store: &dyn Store) {
    for sign in [Sign::Opaque, Sign::All] {
        let memory = Memory::default();
        let mut way = Move::new(&memory, store);
        (way.from.2.sign, way.to.2.sign) = (sign, sign);
        let before = make_each(&way.from.1, &way.from.2);
        assert_eq!(way.all().moved, before.len());
        assert_eq!(way.from.1.list(treadle::journal::Filter { limit: 100, ..Default::default() }), vec![]);
        assert!(before.values().all(|was| was.history.len() == 2), "what a checkpoint has replaced is there as well");
        for (run, was) in &before {
            assert_eq!(&whole(&way.to.1, *run, &way.to.2), was);
        }
        let back = Memory::default();
        let mut way_back = Move::new(store, &back);
        (way_back.from.2, way_back.to.2) = (way.to.2.clone(), way.from.2.clone());
        assert_eq!(way_back.all().moved, before.len());
        for (run, was) in &before {
            assert_eq!(&whole(&way_back.to.1, *run, &way_back.to.2), was);
        }
    }
}

// What can execute the run: a journal where it is not on its way.
fn places(way: &Move<'_>, run: RunId) -> (usize, bool) {
    let at = |desk: &Desk| match desk.ask(Request::Get { run }) {
        Ok(Reply::Run { run, .. }) => Some(run.copying),
        Err(JournalError::UnknownRun(_)) => None,
        other => panic!("{other:?}"),
    };
    let both = [at(&way.from.1), at(&way.to.1)];
    let can_finish = both == [Some(Copying::Left), Some(Copying::Arrives)];
    (both.iter().filter(|copying| **copying == Some(Copying::No)).count(), can_finish)
}

fn a_copier_may_die_at_any_point(store: &dyn Store) {
    both_ways(store, |way| {
        let mut rounds = 0;
        for left in 1.. {
            let mut is_done = false;
            for is_carried_out in [false, true] {
                rounds += 1;
                let run = id(rounds);
                make(&way.from.1, new(rounds), &way.from.2, Status { phase: Phase::Waiting, due: None });
                let was = whole(&way.from.1, run, &way.from.2);
                let mut wire = Wire { left, is_carried_out, ..way.wire() };
                is_done = way.copy(&mut wire, Which::All).is_ok();
                let (places, can_finish) = places(way, run);
                assert!(places == 1 || places == 0 && can_finish, "after {left} requests: {places}");
                way.time_passes(rounds);
                let summary = way.copy(&mut way.wire(), Which::FamilyOf(run)).unwrap();
                assert_eq!((summary.moved + summary.there, summary.stays.len()), (1, 0), "after {left}: {summary:?}");
                assert_eq!(whole(&way.to.1, run, &way.to.2), was, "after {left} requests");
                assert_eq!(way.from.1.ask(Request::Get { run }), Err(JournalError::UnknownRun(run)));
            }
            if is_done {
                assert!(left > 20, "a copier asks more than that");
                return;
            }
        }
    });
}

fn a_run_that_goes_on_after_a_copier_died_is_copied_as_it_is_then(store: &dyn Store) {
    both_ways(store, |way| {
        for (round, left) in (1..).zip([8, 10, 12, 14, 16, 18, 20, 22, 24]) {
            let run = id(round);
            make(&way.from.1, new(round), &way.from.2, Status { phase: Phase::Waiting, due: None });
            drop(way.copy(&mut Wire { left, ..way.wire() }, Which::All));
            way.time_passes(round);
            let desk = &way.from.1;
            desk.done(enlist(W, 50_000_000));
            let claimed = desk.claim(W, 1000);
            assert_eq!(claimed.len(), 1, "its inbox has something, and the copier has died before it left");
            let loaded = desk.load(run);
            let mut chain = Chain::end_of(&loaded);
            let record = chain.encode(run, 10, &set("later"), &way.from.2.secrets).unwrap().to_vec();
            let slot = Slot::Stream { number: 9 };
            let body = entry::encode(run, &slot, &event("later"), &way.from.2.secrets, false).unwrap().to_vec();
            let later = Commit {
                records: vec![record],
                consumed: loaded.inbox.iter().map(|entry| entry.number).collect(),
                published: vec![(9, body)],
                ..waiting(None)
            };
            desk.append(run, loaded.run.epoch, 9, Commit { release: true, records: later.records.clone(), ..later });
            desk.done(Request::Release { owner: W });
            let was = whole(desk, run, &way.from.2);
            assert_eq!(way.all().moved, 1);
            let mut is = whole(&way.to.1, run, &way.to.2);
            is.consumed.sort_unstable();
            assert_eq!(
                is,
                Whole { consumed: (1..=6).filter(|&name| name != 2).map(|name| [name; 16]).collect(), ..was }
            );
        }
    });
}

fn what_is_sent_meanwhile_is_not_lost(store: &dyn Store) {
    both_ways(store, |way| {
        for number in 1.. {
            let run = id(number as u64);
            make(&way.from.1, new(number as u64), &way.from.2, Status { phase: Phase::Waiting, due: None });
            let was_sent = std::cell::Cell::new(false);
            let send = || {
                if way.from.1.ask(Request::Get { run }).is_ok() {
                    send_event(&way.from.1, run, 50, &way.from.2);
                    was_sent.set(true);
                }
            };
            let mut wire = Wire { between: Some((number, &send)), ..way.wire() };
            assert_eq!(way.copy(&mut wire, Which::All).unwrap().stays.len(), 0);
            if !was_sent.get() {
                assert!(number > 20);
                return;
            }
            let there = whole(&way.to.1, run, &way.to.2);
            assert_eq!(there.inbox.iter().filter(|(name, ..)| *name == [50; 16]).count(), 1, "before request {number}");
        }
    });
}

fn stays(summary: &Summary) -> Vec<(RunId, &Trouble)> {
    summary.stays.iter().map(|Stays { run, trouble }| (*run, trouble)).collect()
}

fn a_run_that_is_executed_stays(store: &dyn Store) {
    both_ways(store, |way| {
        make(&way.from.1, new(1), &way.from.2, Status::default());
        make(&way.from.1, new(2), &way.from.2, Status { phase: Phase::Paused, due: Some(1 << 50) });
        way.from.1.done(enlist(W, 1000));
        let one = treadle::journal::Claim { limit: 1, ..claim_of(W, 1000, 1) };
        assert!(way.from.1.ask(Request::Claim(one)).is_ok());
        let summary = way.all();
        let left = stays(&summary);
        assert_eq!((summary.moved, left.len()), (1, 1));
        assert!(matches!(left[0].1, Trouble::Journal(JournalError::RunActive(_))), "{summary:?}");
        way.from.1.done(Request::Release { owner: W });
        assert_eq!(way.all().moved, 1);
    });
}

fn a_run_of_another_secret_stays(store: &dyn Store) {
    both_ways(store, |way| {
        make(&way.from.1, new(1), &signer("the secret of another team", Sign::Opaque), Status::default());
        make(&way.from.1, new(2), &way.from.2, Status::default());
        let summary = way.all();
        let left = stays(&summary);
        assert!(matches!(left[..], [(run, Trouble::Unreadable(_))] if run == id(1)), "{summary:?}");
        assert_eq!(way.to.1.ask(Request::Get { run: id(1) }), Err(JournalError::UnknownRun(id(1))));
        assert_eq!(way.from.1.get(id(1)).0.copying, Copying::No);
    });
}

fn a_run_whose_key_is_taken_stays(store: &dyn Store) {
    both_ways(store, |way| {
        make(&way.from.1, new(1), &way.from.2, Status::default());
        way.to.1.create(NewRun { id: id(9), ..new(1) }, None, commit(&[]));
        let summary = way.all();
        let left = stays(&summary);
        assert!(
            matches!(&left[..], [(_, Trouble::Key { key, other })] if key == "order 1" && *other == id(9)),
            "{summary:?}"
        );
        way.to.1.create(run(1), None, commit(&[]));
        assert!(matches!(stays(&way.all())[..], [(_, Trouble::Exists)]));
    });
}

fn a_family_goes_together(store: &dyn Store) {
    both_ways(store, |way| {
        let child = |number| NewRun { parent: Some(id(1)), root: Some(id(1)), depth: 1, ..run(number) };
        make(&way.from.1, run(1), &way.from.2, Status { phase: Phase::Waiting, due: None });
        make(&way.from.1, child(2), &way.from.2, Status { phase: Phase::Completed, due: None });
        make(&way.from.1, child(3), &signer("the secret of another team", Sign::Opaque), Status::default());
        make(&way.from.1, run(4), &way.from.2, Status::default());
        let summary = way.copy(&mut way.wire(), Which::FamilyOf(id(2))).unwrap();
        let mut left = stays(&summary);
        left.sort_by_key(|(run, _)| *run);
        assert!(
            matches!(left[..], [(_, Trouble::Family(_)), (_, Trouble::Family(_)), (_, Trouble::Unreadable(_))]),
            "{summary:?}"
        );
        way.from.1.done(Request::Delete { run: id(3) });
        let summary = way.copy(&mut way.wire(), Which::FamilyOf(id(2))).unwrap();
        assert_eq!((summary.moved, summary.stays.len()), (2, 0), "{summary:?}");
        assert_eq!(way.from.1.list(treadle::journal::Filter { limit: 9, ..Default::default() }), vec![id(4)]);
        assert_eq!(way.to.1.get(id(2)).0.parent, Some(id(1)));
    });
}

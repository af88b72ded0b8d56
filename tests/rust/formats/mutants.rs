//! Mutants of valid snapshots and records: none is taken with changed content, none panics, none takes long.
//!
//! `MUTANTS=1000000 cargo test mutants` for a long run.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use treadle::journal::record;
use treadle::{
    Body, EncodedEvent, EncodedImage, EncodedRecord, Kept, Memo, Record, RunId, Secrets, Tag, Value, snapshot as format,
};

use super::{HEAD, arbitrary, no_secrets, sealed, secrets, signing, with_checksum};

/// Numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.roll() % end.max(1) as u64) as usize
    }

    fn span(&mut self, length: usize, longest: usize) -> std::ops::Range<usize> {
        let start = self.below(length);
        start..(start + 1 + self.below(longest)).min(length)
    }
}

fn flip_bits(dice: &mut Dice, bytes: &mut [u8]) {
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len());
        bytes[at] ^= 1 << dice.below(8);
    }
}

fn insert(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let at = dice.below(bytes.len() + 1);
    let count = 1 + dice.below(8);
    let inserted: Vec<u8> = (0..count).map(|_| dice.roll() as u8).collect();
    bytes.splice(at..at, inserted);
}

fn remove(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let span = dice.span(bytes.len(), 40);
    bytes.drain(span);
}

/// A marker of MessagePack instead of what was there: another tag, another length.
fn change_marker(dice: &mut Dice, bytes: &mut [u8]) {
    let markers =
        [0xa0, 0xa1, 0xd9, 0xda, 0xdb, 0xc4, 0xc5, 0xc6, 0x90, 0x91, 0x93, 0xdc, 0xdd, 0x80, 0xdf, 0xc0, 0xcf];
    let at = dice.below(bytes.len());
    bytes[at] = markers[dice.below(markers.len())];
}

fn swap(dice: &mut Dice, bytes: &mut [u8]) {
    let length = 1 + dice.below(33);
    let ends = bytes.len().saturating_sub(2 * length);
    let first = dice.below(ends);
    let second = first + length + dice.below(ends.saturating_sub(first));
    if second + length <= bytes.len() {
        (0..length).for_each(|at| bytes.swap(first + at, second + at));
    }
}

fn splice(dice: &mut Dice, bytes: &mut Vec<u8>, other: &[u8]) {
    match dice.below(4) {
        0 => bytes.extend_from_slice(other),
        1 => {
            let at = dice.below(bytes.len().min(other.len()));
            bytes.truncate(at);
            bytes.extend_from_slice(&other[at..]);
        }
        2 => {
            let span = dice.span(other.len(), 200);
            let at = span.start.min(bytes.len())..span.end.min(bytes.len());
            bytes.splice(at, other[span].iter().copied());
        }
        _ => {
            let (from, to) = (dice.span(other.len(), 100), dice.span(bytes.len(), 100));
            bytes.splice(to, other[from].iter().copied());
        }
    }
}

fn change_head(dice: &mut Dice, bytes: &mut [u8], other: &[u8]) {
    let other_head = &other[..HEAD.min(other.len())];
    let (field, value): (_, &[u8]) = match dice.below(6) {
        0 => (8..10, &[0, (dice.roll() % 4) as u8]),
        1 => (10..12, &[0, 0]),
        2 => (10..12, &[0, 1]),
        3 => (12..20, &[0; 8]),
        4 => (12..20, &other_head[12..20]),
        _ => (8..28, &other_head[8..28]),
    };
    bytes[field].copy_from_slice(value);
}

/// The length that the header tells, as it is.
fn correct_length(bytes: &mut [u8]) {
    let trailer = if bytes[11] & 1 == 1 { 32 } else { 16 };
    let length = (bytes.len() as u64).saturating_sub(HEAD as u64 + trailer);
    bytes[20..28].copy_from_slice(&length.to_be_bytes());
}

fn mutate(dice: &mut Dice, bytes: &mut Vec<u8>, other: &[u8]) {
    match dice.below(8) {
        0 | 1 => flip_bits(dice, bytes),
        2 => insert(dice, bytes),
        3 => remove(dice, bytes),
        4 => change_marker(dice, bytes),
        5 => swap(dice, bytes),
        6 => splice(dice, bytes, other),
        _ => bytes.truncate(dice.below(bytes.len())),
    }
}

fn mutant(dice: &mut Dice, original: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    if dice.below(8) == 0 {
        change_head(dice, &mut bytes, other);
    }
    for _ in 0..=dice.below(2) {
        mutate(dice, &mut bytes, other);
        if bytes.is_empty() {
            break;
        }
    }
    if bytes.len() > HEAD + 32 && dice.below(2) == 0 {
        correct_length(&mut bytes);
    }
    bytes
}

/// How many mutants a test makes: its share of 100,000.
fn count(share: usize) -> usize {
    let all = std::env::var("MUTANTS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000_usize);
    all * share / 100
}

fn samples<S: Strategy>(of: S, count: usize) -> Vec<S::Value> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..count).map(|_| of.new_tree(&mut runner).unwrap().current()).collect()
}

/// Snapshots of several runs, with values at the same places in each.
fn images(with_opaque: bool) -> Vec<EncodedImage> {
    let small = |image: &EncodedImage| sealed(image, &secrets()).len() < 4000;
    let mut images: Vec<_> = samples(arbitrary::image(with_opaque), 60).into_iter().filter(small).collect();
    for (number, image) in (0..).zip(&mut images) {
        image.id = RunId::new(1, [number; 10]);
        image.state.set("user", Value::new(Tag::Json, format!("\"user {number}\"")));
        image.state.set("page", Value::new(Tag::Binary, vec![number; 20]));
        if with_opaque {
            image.state.set("one", Value::opaque("Profile", format!("one body, {number:3}")));
            image.state.set("two", Value::opaque("Profile", format!("two body, {number:3}")));
        }
    }
    images
}

/// Runs what must neither panic nor take long, and keeps the longest time.
fn timed<T>(longest: &mut Duration, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = run();
    *longest = (*longest).max(start.elapsed());
    result
}

struct Tally {
    what: &'static str,
    made: usize,
    taken: usize,
    longest: Duration,
}

impl Tally {
    fn new(what: &'static str) -> Self {
        Self { what, made: 0, taken: 0, longest: Duration::ZERO }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let Self { what, made, taken, longest } = self;
        eprintln!("{what}: {made} mutants, {taken} taken with nothing forged, the slowest in {longest:?}");
        assert!(std::thread::panicking() || *longest < Duration::from_secs(1));
    }
}

fn each_mutant(originals: &[Bytes], count: usize, mut check: impl FnMut(&mut Dice, Vec<u8>)) {
    let known: HashSet<&[u8]> = originals.iter().map(|bytes| &bytes[..]).collect();
    let mut dice = Dice(1);
    let mut made = 0;
    while made < count {
        let (one, other) = (dice.below(originals.len()), dice.below(originals.len()));
        let mutant = mutant(&mut dice, &originals[one], &originals[other]);
        if !known.contains(&mutant[..]) {
            made += 1;
            check(&mut dice, mutant);
        }
    }
}

#[test]
fn no_mutant_of_a_signed_snapshot_is_taken() {
    let with =
        |secrets: &Secrets, opaque| images(opaque).iter().map(|image| sealed(image, secrets)).collect::<Vec<_>>();
    let older = Secrets::new(["an older secret of the same"]).unwrap();
    let originals = [with(&secrets(), true), with(&older, true), with(&no_secrets(), false)].concat();
    let mut tally = Tally::new("signed snapshots");
    each_mutant(&originals, count(40), |dice, mut bytes| {
        // Whoever changes a snapshot can make a checksum, and say that it is not signed.
        if bytes.len() > HEAD + 16 && dice.below(4) == 0 {
            bytes = with_checksum(bytes).to_vec();
        }
        let bytes = Bytes::from(bytes);
        tally.made += 1;
        let opened = timed(&mut tally.longest, || format::open(bytes.clone(), &secrets()));
        assert!(opened.is_err(), "{bytes:?}");
        let _ = timed(&mut tally.longest, || format::read_unverified(bytes));
    });
}

#[test]
fn no_mutant_of_an_unsigned_snapshot_is_taken_unless_its_checksum_matches() {
    let originals: Vec<_> = images(false).iter().map(|image| sealed(image, &no_secrets())).collect();
    let mut tally = Tally::new("unsigned snapshots");
    each_mutant(&originals, count(10), |_, bytes| {
        tally.made += 1;
        let opened = timed(&mut tally.longest, || format::open(bytes.clone().into(), &no_secrets()));
        assert!(opened.is_err(), "{bytes:?}");
    });
}

fn events(image: &EncodedImage) -> impl Iterator<Item = &EncodedEvent> {
    let pending = image.pending.values().flat_map(|pending| {
        let calls = pending.replay.collected.iter().flat_map(|call| call.events.iter().flatten());
        std::iter::once(&pending.event).chain(&pending.replay.received).chain(calls)
    });
    let collected = image.groups.values().flat_map(|group| group.collected.pending());
    pending.chain(collected).chain(image.kept.values()).chain(image.held.iter().map(|held| &held.event))
}

fn opaque_values(image: &EncodedImage) -> impl Iterator<Item = &Value> {
    let values = image.state.iter().map(|(_, value)| value).chain(events(image).flat_map(EncodedEvent::values));
    values.filter(|value| value.tag == Tag::Opaque)
}

#[test]
fn what_is_taken_with_a_new_checksum_is_a_valid_image_without_opaque_values() {
    // Those that are not signed, and signed ones that are told to be unsigned.
    let downgraded = images(true).into_iter().map(|image| {
        let mut bytes = sealed(&image, &secrets()).to_vec();
        bytes.truncate(bytes.len() - 16);
        bytes[10..20].fill(0);
        correct_length(&mut bytes);
        Bytes::from(bytes)
    });
    let originals: Vec<_> = images(false).iter().map(|image| sealed(image, &no_secrets())).chain(downgraded).collect();
    let mut tally = Tally::new("snapshots with a new checksum");
    each_mutant(&originals, count(20), |_, mut bytes| {
        if bytes.len() > HEAD + 32 {
            correct_length(&mut bytes);
            bytes = with_checksum(bytes).to_vec();
        }
        let bytes = Bytes::from(bytes);
        tally.made += 1;
        let _ = timed(&mut tally.longest, || format::read_unverified(bytes.clone()));
        let Ok(image) = timed(&mut tally.longest, || format::open(bytes.clone(), &no_secrets())) else { return };
        tally.taken += 1;
        assert_eq!(opaque_values(&image).next(), None);
        // One of an older version is written again as one of the newest, with another checksum.
        let again = sealed(&image, &no_secrets());
        assert_eq!(again[10..again.len() - 16], bytes[10..bytes.len() - 16]);
    });
    assert!(tally.taken > 0);
}

/// Where each opaque value stands, with what its signature covers.
fn signed_values(image: &EncodedImage) -> Vec<String> {
    let of_event = |place: String, event: &EncodedEvent| -> Vec<String> {
        let owner = &event.class;
        let values: Vec<(Option<&str>, &Value)> = match &event.body {
            Body::Whole(value) => vec![(None, value)],
            Body::Fields(fields) => fields.iter().map(|(name, value)| (Some(&**name), value)).collect(),
        };
        let opaque = values.into_iter().filter(|(_, value)| value.tag == Tag::Opaque);
        opaque.map(|(name, value)| format!("{place} {owner:?} {name:?} {value:?}")).collect()
    };
    let id = image.id;
    let state = image.state.iter().filter(|(_, value)| value.tag == Tag::Opaque);
    let mut all: Vec<_> = state.map(|(key, value)| format!("{id} state {key:?} {value:?}")).collect();
    for (seq, pending) in &image.pending {
        all.extend(of_event(format!("{id} pending {seq}"), &pending.event));
        for (at, event) in pending.replay.received.iter().enumerate() {
            all.extend(of_event(format!("{id} received {seq} {at}"), event));
        }
        for (call, collection) in pending.replay.collected.iter().enumerate() {
            for (at, event) in collection.events.iter().flatten().enumerate() {
                all.extend(of_event(format!("{id} collected {seq} {call} {at}"), event));
            }
        }
        let memos =
            pending.replay.memos.iter().filter(|(_, memo)| memo.kept.value().is_some_and(|it| it.tag == Tag::Opaque));
        all.extend(memos.map(|(number, memo)| format!("{id} memo {seq} {number} {}", signed_memo(memo))));
    }
    for (number, group) in &image.groups {
        let mut classes: Vec<_> = group.collected.pending_by_class().collect();
        classes.sort_unstable_by_key(|(class, _)| *class);
        let events = classes.into_iter().flat_map(|(_, events)| events);
        all.extend(events.enumerate().flat_map(|(at, event)| of_event(format!("{id} group {number} {at}"), event)));
    }
    all.extend(image.kept.iter().flat_map(|(number, event)| of_event(format!("{id} kept {number}"), event)));
    let held = image.held.iter().enumerate();
    all.extend(held.flat_map(|(at, held)| of_event(format!("{id} held {at}"), &held.event)));
    all
}

/// The second line: even where the signature of the whole is right, no value is taken where it was not signed.
#[test]
fn what_is_taken_with_a_new_trailer_has_no_value_that_was_not_signed_for_its_place() {
    let images = images(true);
    let known: HashSet<_> = images.iter().flat_map(signed_values).collect();
    let originals: Vec<_> = images.iter().map(|image| sealed(image, &secrets())).collect();
    let mut tally = Tally::new("snapshots with a new trailer");
    each_mutant(&originals, count(15), |_, mut bytes| {
        if bytes.len() > HEAD + 32 {
            correct_length(&mut bytes);
            bytes = signing::with_trailer(bytes).to_vec();
        }
        let bytes = Bytes::from(bytes);
        tally.made += 1;
        let Ok(image) = timed(&mut tally.longest, || format::open(bytes.clone(), &secrets())) else { return };
        tally.taken += 1;
        let forged = signed_values(&image).into_iter().find(|value| !known.contains(value));
        assert_eq!(forged, None);
        // One of an older version is written again as one of the newest, with another trailer.
        let again = sealed(&image, &secrets());
        assert_eq!(again[10..again.len() - 32], bytes[10..bytes.len() - 32]);
    });
    assert!(tally.taken > 0);
}

/// What the signature of a memo covers: of a child its name and what it gave.
fn signed_memo(memo: &Memo<Value>) -> String {
    match &memo.kept {
        Kept::Child(child) => format!("{} {:?}", child.id, child.end),
        _ => format!("{memo:?}"),
    }
}

/// What the signatures of a record cover.
fn signed_parts(number: u64, record: &EncodedRecord) -> Vec<String> {
    let is_opaque = |value: &&Value| value.tag == Tag::Opaque;
    match record {
        Record::Set { key, value } => {
            Some(value).filter(is_opaque).map(|value| format!("{number} {key:?} {value:?}")).into_iter().collect()
        }
        Record::Memo { memo, .. } => Some(memo)
            .filter(|memo| memo.kept.value().as_ref().is_some_and(is_opaque))
            .map(|memo| format!("{number} {}", signed_memo(memo)))
            .into_iter()
            .collect(),
        Record::ChildEnded { child, end } => Some(end)
            .filter(|end| is_opaque(&end.value()))
            .map(|end| format!("{number} {child} {end:?}"))
            .into_iter()
            .collect(),
        _ => {
            let kind = std::mem::discriminant(record);
            let Some(event) = record.event() else { return Vec::new() };
            let owner = &event.class;
            let names = event.field_names().map(Some).chain(std::iter::repeat(None));
            let values = event.values().zip(names).filter(|(value, _)| value.tag == Tag::Opaque);
            values.map(|(value, name)| format!("{number} {kind:?} {owner:?} {name:?} {value:?}")).collect()
        }
    }
}

#[test]
fn what_is_taken_of_records_with_a_new_checksum_has_no_value_that_was_not_signed_for_its_place() {
    let run = RunId::new(1, [1; 10]);
    let records: Vec<_> = (1..).zip(samples(arbitrary::record(true), 300)).collect();
    let encoded = |(seq, record): &(u64, EncodedRecord)| record::encode(run, *seq, record, &secrets()).unwrap();
    let originals: Vec<_> = records.iter().map(encoded).filter(|bytes| bytes.len() < 2000).collect();
    let known: HashSet<_> = records.iter().flat_map(|(seq, record)| signed_parts(*seq, record)).collect();
    let mut tally = Tally::new("records");
    each_mutant_of_records(&originals, count(15), |dice, bytes| {
        let seq = 1 + dice.below(records.len()) as u64;
        tally.made += 1;
        let decoded = timed(&mut tally.longest, || record::decode(run, seq, bytes.clone().into(), &secrets()));
        assert!(decoded.is_err());
        if bytes.len() < 8 {
            return;
        }
        let bytes = signing::with_record_checksum(run, seq, bytes);
        let decoded = timed(&mut tally.longest, || record::decode(run, seq, bytes.clone(), &secrets()));
        let Ok(record) = decoded else { return };
        tally.taken += 1;
        let forged = signed_parts(seq, &record).into_iter().find(|part| !known.contains(part));
        assert_eq!(forged, None);
        let older = Secrets::new(["an older secret of the same"]).unwrap();
        let again = [secrets(), older].map(|secrets| record::encode(run, seq, &record, &secrets).unwrap());
        // One of an older version is written again as one of the newest.
        let body = |bytes: &Bytes| bytes.slice(1..bytes.len() - 8);
        assert!(again.iter().any(|again| body(again) == body(&bytes)));
    });
    assert!(tally.taken > 0);
}

fn each_mutant_of_records(originals: &[Bytes], count: usize, mut check: impl FnMut(&mut Dice, Vec<u8>)) {
    let known: HashSet<&[u8]> = originals.iter().map(|bytes| &bytes[..]).collect();
    let mut dice = Dice(2);
    let mut made = 0;
    while made < count {
        let (one, other) = (dice.below(originals.len()), dice.below(originals.len()));
        let mut bytes = originals[one].to_vec();
        mutate(&mut dice, &mut bytes, &originals[other]);
        if !known.contains(&bytes[..]) {
            made += 1;
            check(&mut dice, bytes);
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_never_taken_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), seq: u64) {
        let run = RunId::new(1, [1; 10]);
        let body = super::unsigned(&bytes);
        for bytes in [Bytes::from(bytes), body] {
            prop_assert!(format::open(bytes.clone(), &secrets()).is_err());
            prop_assert!(format::open(bytes.clone(), &no_secrets()).is_err());
            let _ = format::read_unverified(bytes.clone());
            let _ = record::decode(run, seq, bytes.clone(), &secrets());
            let longer = [&[1, 0][..], &bytes, &[0; 8]].concat();
            let _ = record::decode(run, seq, signing::with_record_checksum(run, seq, longer), &secrets());
        }
    }
}

//! Chained records: nothing of a log can be changed, left out, put elsewhere or taken from another one.

use bytes::Bytes;
use proptest::prelude::*;
use treadle::journal::{Chain, Copying, Loaded, OpId, RunRow, Sign, Signer, Status};
use treadle::{EncodedImage, EncodedRecord, Error, FormatError, Record, RunId, Tag, Value, snapshot::Standing};

use super::{arbitrary, secrets};

fn run(number: u8) -> RunId {
    RunId::new(1, [number; 10])
}

pub fn row(run: RunId, seq: u64) -> RunRow {
    RunRow {
        id: run,
        workflow: "crawl".into(),
        key: None,
        input: [0; 32],
        created: 1,
        updated: 1,
        finished: None,
        status: Status::default(),
        owner: None,
        epoch: 1,
        seq,
        op: OpId::NONE,
        made_by: OpId::NONE,
        reopened_by: OpId::NONE,
        inbox: 0,
        published: 0,
        stream_limit: 1,
        recoveries: 0,
        not_before: None,
        reason: None,
        dead_letters: 0,
        parent: None,
        root: None,
        depth: 0,
        is_cut_short: false,
        copying: Copying::No,
    }
}

/// A run with a checkpoint at a record, and records behind it.
fn written(run: RunId, seq: u64, records: &[EncodedRecord], sign: Sign) -> Loaded {
    let image = EncodedImage::new(run, "crawl", vec!["fetch".into()], 5, None);
    let mut chain = Chain::begin(sign);
    let checkpoint = chain.seal(&image, Standing { seq, epoch: 1 }, &secrets()).unwrap();
    let encoded = (seq + 1..).zip(records).map(|(seq, it)| chain.encode(run, seq, it, &secrets()).unwrap().to_vec());
    let records: Vec<_> = encoded.collect();
    let row = row(run, seq + records.len() as u64);
    let loaded = Loaded { run: row, checkpoint: Some((seq, checkpoint)), records, inbox: Vec::new() };
    assert_eq!(Chain::end_of(&loaded), chain);
    loaded
}

fn read(loaded: &Loaded, sign: Sign) -> Result<Vec<EncodedRecord>, Error> {
    let signer = Signer { secrets: secrets(), sign };
    let (_, mut chain) = Chain::open(loaded, &signer)?;
    let (seq, _) = loaded.checkpoint.as_ref().unwrap();
    let numbered = (seq + 1..).zip(&loaded.records);
    numbered.map(|(seq, bytes)| chain.decode(loaded.run.id, seq, bytes.clone().into(), &signer.secrets)).collect()
}

fn sets(count: u8) -> Vec<EncodedRecord> {
    let set = |number: u8| Record::Set { key: "n".into(), value: Value::new(Tag::Json, number.to_string()) };
    (0..count).map(set).collect()
}

fn refusal(loaded: &Loaded) -> FormatError {
    match read(loaded, Sign::Opaque) {
        Err(Error::Format(error)) => error,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn a_chained_log_reads_back(records in prop::collection::vec(arbitrary::record(true), 0..8), seq in 0..u64::MAX / 2) {
        let loaded = written(run(1), seq, &records, Sign::All);
        prop_assert_eq!(read(&loaded, Sign::All), Ok(records.clone()));
        prop_assert_eq!(read(&loaded, Sign::Opaque), Ok(records));
    }

    #[test]
    fn a_chained_log_with_a_bit_changed_is_refused(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut loaded = written(run(1), 3, &sets(4), Sign::All);
        let checkpoint = loaded.checkpoint.as_ref().unwrap().1.len();
        let at = at.index(checkpoint + loaded.records.iter().map(Vec::len).sum::<usize>());
        let parts = loaded.checkpoint.iter_mut().map(|(_, bytes)| bytes).chain(&mut loaded.records);
        let mut before = 0;
        for part in parts {
            if (before..before + part.len()).contains(&at) {
                part[at - before] ^= 1 << bit;
            }
            before += part.len();
        }
        prop_assert!(read(&loaded, Sign::All).is_err(), "byte {}", at);
    }
}

#[test]
fn a_record_that_is_left_out_or_put_elsewhere_is_noticed() {
    let whole = written(run(1), 3, &sets(4), Sign::All);
    for at in 0..3 {
        let mut without = whole.clone();
        without.records.remove(at);
        assert!(matches!(refusal(&without), FormatError::ValueChanged { .. }), "record {at} is missing");
        let mut swapped = whole.clone();
        swapped.records.swap(at, at + 1);
        assert!(matches!(refusal(&swapped), FormatError::ValueChanged { .. }), "records {at} and the next");
    }
}

#[test]
fn a_record_of_another_history_of_the_same_run_is_noticed() {
    // Both are signed, for the same number: one was written, then the file was rolled back and another was.
    let (one, mut other) = (sets(4), sets(4));
    other[1] = Record::Paused;
    let (one, other) = (written(run(1), 3, &one, Sign::All), written(run(1), 3, &other, Sign::All));
    for at in 1..4 {
        let mut mixed = one.clone();
        mixed.records[at] = other.records[at].clone();
        let refused = read(&mixed, Sign::All);
        // The one that differs fits behind what both have; what follows does not fit behind it.
        assert!(refused.is_err(), "record {at}");
    }
}

#[test]
fn records_are_chained_to_their_own_checkpoint() {
    let one = written(run(1), 3, &sets(2), Sign::All);
    let mut image = EncodedImage::new(run(1), "crawl", vec!["fetch".into(), "renamed".into()], 5, None);
    image.published = 1;
    let mut chain = Chain::begin(Sign::All);
    let renumbered = chain.seal(&image, Standing { seq: 3, epoch: 1 }, &secrets()).unwrap();
    let moved = Loaded { checkpoint: Some((3, renumbered)), ..one };
    assert!(matches!(refusal(&moved), FormatError::ValueChanged { .. }));
}

#[test]
fn where_everything_must_be_signed_what_is_not_is_refused() {
    let plain = written(run(1), 3, &sets(2), Sign::Opaque);
    assert!(read(&plain, Sign::Opaque).is_ok());
    assert!(matches!(read(&plain, Sign::All), Err(Error::Format(FormatError::NotSignedWhole { .. }))));
    // A record that is not signed among those that are.
    let mut mixed = written(run(1), 3, &sets(2), Sign::All);
    mixed.records[1] = plain.records[1].clone();
    assert!(matches!(refusal(&mixed), FormatError::NotSignedWhole { .. }));
}

#[test]
fn a_chained_record_is_not_taken_into_a_log_that_is_not_chained() {
    let mut plain = written(run(1), 3, &sets(2), Sign::Opaque);
    plain.records[0] = written(run(1), 3, &sets(2), Sign::All).records[0].clone();
    assert!(matches!(refusal(&plain), FormatError::ValueChanged { .. }));
}

#[test]
fn a_record_of_the_first_version_is_not_taken_behind_newer_ones() {
    let mut loaded = written(run(1), 3, &sets(2), Sign::Opaque);
    let mut old = loaded.records[1].clone();
    old[0] = 1;
    loaded.records[1] = super::signing::with_record_checksum(run(1), 5, old).to_vec();
    assert!(matches!(refusal(&loaded), FormatError::Misplaced { .. }));
}

#[test]
fn without_a_secret_nothing_is_chained() {
    let image = EncodedImage::new(run(1), "crawl", vec!["fetch".into()], 5, None);
    let none = super::no_secrets();
    let refused = Chain::begin(Sign::All).seal(&image, Standing { seq: 0, epoch: 0 }, &none).unwrap_err();
    assert!(matches!(refused, Error::Format(FormatError::NothingToSignWith { .. })));
    let loaded = written(run(1), 3, &sets(2), Sign::All);
    let bytes = Bytes::from(loaded.records[0].clone());
    let refused = Chain::start_of(&loaded).decode(run(1), 4, bytes, &none).unwrap_err();
    assert!(matches!(refused, Error::Format(FormatError::SignedWithoutSecret(_))));
}

//! Records: what comes out is what went in, at its place and in its run only.

use proptest::prelude::*;
use treadle::journal::record::{decode, decode_unverified, encode};
use treadle::{EncodedRecord, Error, Failure, FormatError, Record, RunId, Tag, Value};

use super::signing::with_record_checksum;
use super::{arbitrary, no_secrets, secrets};

fn run(number: u8) -> RunId {
    RunId::new(1, [number; 10])
}

proptest! {
    #[test]
    fn a_record_with_opaque_values_reads_back_at_its_place(record in arbitrary::record(true), seq in any::<u64>()) {
        let bytes = encode(run(1), seq, &record, &secrets()).unwrap();
        prop_assert_eq!(decode(run(1), seq, bytes.clone(), &secrets()), Ok(record.clone()));
        prop_assert_eq!(encode(run(1), seq, &record, &secrets()), Ok(bytes.clone()));
        prop_assert_eq!(decode_unverified(run(1), seq, bytes.clone()), Ok(record.clone()), "for looking only");
        let damaged = Err(Error::Format(FormatError::Damaged));
        prop_assert_eq!(decode(run(2), seq, bytes.clone(), &secrets()), damaged.clone());
        prop_assert_eq!(decode_unverified(run(2), seq, bytes.clone()), damaged.clone());
        prop_assert_eq!(decode(run(1), seq ^ 1, bytes, &secrets()), damaged);
    }

    #[test]
    fn a_record_without_opaque_values_needs_no_secret(record in arbitrary::record(false), seq in any::<u64>()) {
        let bytes = encode(run(1), seq, &record, &no_secrets()).unwrap();
        prop_assert_eq!(&encode(run(1), seq, &record, &secrets()).unwrap(), &bytes);
        prop_assert_eq!(decode(run(1), seq, bytes.clone(), &secrets()), Ok(record.clone()));
        prop_assert_eq!(decode(run(1), seq, bytes, &no_secrets()), Ok(record));
    }

    #[test]
    fn a_record_is_messagepack_that_any_reader_reads(record in arbitrary::record(false)) {
        let bytes = encode(run(1), 1, &record, &no_secrets()).unwrap();
        let mut body = &bytes[2..bytes.len() - 8];
        prop_assert!(rmpv::decode::read_value_ref(&mut body).unwrap().as_array().is_some());
        prop_assert!(body.is_empty());
    }
}

#[test]
fn a_small_record_takes_few_bytes() {
    let length = |record| encode(run(1), 7, &record, &no_secrets()).unwrap().len();
    assert_eq!(length(Record::Finished { seq: 1000, at: 0 }), 2 + 6 + 8);
    assert_eq!(length(Record::Set { key: "n".into(), value: Value::new(Tag::Json, "1") }), 2 + 6 + 8);
    let megabyte = Value::new(Tag::Binary, vec![7; 1_000_000]);
    assert_eq!(length(Record::Set { key: "page".into(), value: megabyte }), 1_000_022);
}

#[test]
fn a_time_that_nobody_knows_has_no_bytes() {
    let failed = |at| -> EncodedRecord {
        Record::Retried { seq: 1, failure: Failure { attempt: 1, text: "no".into() }, at, due: 9 }
    };
    let bytes = |at| encode(run(1), 1, &failed(at), &no_secrets()).unwrap().to_vec();
    assert_eq!(bytes(1).len(), bytes(0).len() + 1);
    for at in [0, 1, u64::MAX] {
        assert_eq!(decode(run(1), 1, bytes(at).into(), &no_secrets()), Ok(failed(at)));
    }
    let mut zero = bytes(1);
    let time = zero.len() - 9;
    zero[time] = 0;
    let refused = decode(run(1), 1, with_record_checksum(run(1), 1, zero), &no_secrets());
    assert!(matches!(refused, Err(Error::Format(FormatError::Malformed { .. }))), "{refused:?}");
}

#[test]
fn what_is_no_record_is_told_apart() {
    let good = encode(run(1), 1, &Record::Paused, &no_secrets()).unwrap();
    let refusal = |bytes: Vec<u8>| match decode(run(1), 1, bytes.into(), &no_secrets()) {
        Err(Error::Format(error)) => error,
        other => panic!("{other:?}"),
    };
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        refusal(bytes)
    };
    assert_eq!(refusal(Vec::new()), FormatError::Truncated);
    assert_eq!(refusal(good[..9].to_vec()), FormatError::Truncated);
    assert_eq!(changed(0, 5), FormatError::UnknownVersion { found: 5, newest: 4 });
    assert_eq!(changed(1, 4), FormatError::UnknownFlags(4));
    assert_eq!(changed(3, 4), FormatError::Damaged);
    assert_eq!(refusal([&good[..], b"x"].concat()), FormatError::Damaged);
}

#[test]
fn room_for_a_record_is_made_once() {
    for length in [200, 1_000, 5_000, 100_000] {
        let value = Value::opaque("Profile", vec![7; length]);
        let record = Record::Set { key: "profile".into(), value };
        let bytes: Vec<u8> = encode(run(1), 1, &record, &secrets()).unwrap().into();
        // A buffer that had to grow would be twice as large as it was.
        assert!(bytes.capacity() < bytes.len() + 200, "{} for {}", bytes.capacity(), bytes.len());
    }
}

//! Snapshots: what comes out is what went in, and takes about as many bytes as it holds.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use treadle::{
    Body, Collected, Collection, EncodedEvent, EncodedImage, Error, FormatError, Grouped, Pending, Replay, RunId,
    Status, StepId, Tag, Value, Waiting, snapshot as format,
};

use super::{HEAD, arbitrary, no_secrets, refusal, sealed, secrets};

fn image() -> EncodedImage {
    EncodedImage::new(RunId::new(1, [1; 10]), "crawl", vec!["fetch".into(), "finish".into()], 5, None)
}

fn event(class: &str) -> EncodedEvent {
    EncodedEvent { class: class.into(), body: Body::Fields(Vec::new()) }
}

fn pending(event: EncodedEvent) -> Pending<EncodedEvent, Arc<str>> {
    Pending { step: StepId(0), attempt: 1, due: None, since: None, event, replay: Replay::default() }
}

proptest! {
    #[test]
    fn a_signed_snapshot_gives_the_same_image_and_the_same_bytes(image in arbitrary::image(true)) {
        let bytes = sealed(&image, &secrets());
        let opened = format::open(bytes.clone(), &secrets());
        prop_assert_eq!(opened.as_ref(), Ok(&image));
        prop_assert_eq!(&sealed(&opened.unwrap(), &secrets()), &bytes);
        let inspection = format::read_unverified(bytes).unwrap();
        prop_assert_eq!(inspection.key, secrets().signs_with());
        prop_assert_eq!(inspection.is_intact, None);
        prop_assert_eq!(inspection.image, image);
    }

    #[test]
    fn an_unsigned_snapshot_gives_the_same_image_and_the_same_bytes(image in arbitrary::image(false)) {
        let bytes = sealed(&image, &no_secrets());
        let opened = format::open(bytes.clone(), &no_secrets());
        prop_assert_eq!(opened.as_ref(), Ok(&image));
        prop_assert_eq!(&sealed(&opened.unwrap(), &no_secrets()), &bytes);
        let inspection = format::read_unverified(bytes).unwrap();
        prop_assert_eq!((inspection.key, inspection.is_intact), (None, Some(true)));
        prop_assert_eq!(inspection.image, image);
    }

    #[test]
    fn the_body_is_messagepack_that_any_reader_reads(image in arbitrary::image(true)) {
        let bytes = sealed(&image, &secrets());
        let mut body = &bytes[HEAD..bytes.len() - 32];
        let read = rmpv::decode::read_value_ref(&mut body).unwrap();
        // What came with later versions is at the end, and left out where it says nothing.
        let has_family = image.family.is_some() || !image.children.is_empty();
        let parts = if has_family { 20 } else if image.timeout.is_some() { 18 } else if image.begun.is_some() { 17 } else { 16 };
        prop_assert_eq!(read.as_array().map(Vec::len), Some(parts));
        prop_assert!(body.is_empty());
    }
}

#[test]
fn a_run_that_has_ended_has_its_state_left() {
    let mut image = image();
    image.status = Status::Ended;
    image.state.set("user", Value::new(Tag::Json, r#""alice""#));
    assert_eq!(format::open(sealed(&image, &no_secrets()), &no_secrets()), Ok(image));
}

#[test]
fn a_megabyte_takes_a_megabyte_and_is_not_copied_when_it_is_opened() {
    let mut image = image();
    let megabyte = Bytes::from(vec![7; 1_000_000]);
    image.state.set("page", Value::new(Tag::Binary, megabyte.clone()));
    let mut queued = event("Page");
    queued.body = Body::Fields(vec![("body".into(), Value::new(Tag::Binary, megabyte))]);
    image.delivered = 1;
    image.pending.insert(1, pending(queued));
    let bytes = sealed(&image, &no_secrets());
    assert!(bytes.len() < 2_000_200, "{}", bytes.len());
    let opened = format::open(bytes.clone(), &no_secrets()).unwrap();
    let value = &opened.state.get("page").unwrap().bytes;
    assert!(bytes.as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn a_small_value_does_not_keep_the_snapshot_in_memory() {
    let mut image = image();
    image.state.set("page", Value::new(Tag::Binary, vec![7; 100]));
    let bytes = sealed(&image, &no_secrets());
    let opened = format::open(bytes.clone(), &no_secrets()).unwrap();
    assert!(!bytes.as_ptr_range().contains(&opened.state.get("page").unwrap().bytes.as_ptr()));
}

#[test]
fn names_are_written_once() {
    let mut image = image();
    for seq in 1..=1000 {
        let mut event = event("a_rather_long_name_of_a_class_of_events");
        event.body = Body::Fields(vec![("a_rather_long_name_of_a_field".into(), Value::new(Tag::Json, "1"))]);
        image.pending.insert(seq, pending(event));
    }
    image.delivered = 1000;
    let bytes = sealed(&image, &no_secrets());
    assert!(bytes.len() < 16 * 1000, "{}", bytes.len());
}

fn collected(expected: &Arc<[Arc<str>]>, count: usize) -> Collected<Arc<str>, EncodedEvent> {
    let mut collected = Collected::new(expected.clone());
    for _ in 0..count {
        collected.add("Page".into(), event("Page")).unwrap();
    }
    collected
}

#[test]
fn a_long_list_of_one_class_takes_a_few_bytes_however_often_it_comes() {
    let mut image = image();
    let list = || -> Arc<[Arc<str>]> { vec!["Page".into(); 10_000].into() };
    let (shared, equal) = (list(), list());
    image.grouped = 1;
    image.groups.insert(1, Grouped { step: StepId(1), key: None, collected: collected(&shared, 3) });
    image.delivered = 100;
    for seq in 1..=100 {
        let mut pending = pending(event("Page"));
        let expected = if seq % 2 == 0 { shared.clone() } else { equal.clone() };
        pending.replay.collected = vec![Collection { key: None, expected, events: None }];
        image.pending.insert(seq, pending);
    }
    let bytes = sealed(&image, &no_secrets());
    assert!(bytes.len() < 2500, "{}", bytes.len());
    let opened = format::open(bytes, &no_secrets()).unwrap();
    let lists = opened.pending.values().map(|pending| &pending.replay.collected[0].expected);
    assert!(lists.clone().all(|list| Arc::ptr_eq(list, opened.groups[&1].collected.expected())));
    assert_eq!(opened, image);
}

#[test]
fn a_step_may_collect_a_million_events() {
    let mut image = image();
    let expected: Arc<[Arc<str>]> = vec!["Page".into(); 1_000_000].into();
    image.grouped = 1;
    image.groups.insert(1, Grouped { step: StepId(1), key: Some("all".into()), collected: collected(&expected, 3) });
    assert_eq!(format::open(sealed(&image, &no_secrets()), &no_secrets()), Ok(image));
}

/// An image whose groups expect these classes, with as many bytes beside them.
fn collecting(groups: u64, expected: &Arc<[Arc<str>]>, bytes: usize) -> EncodedImage {
    let mut image = image();
    image.state.set("ballast", Value::new(Tag::Binary, vec![0; bytes]));
    image.grouped = groups;
    for number in 1..=groups {
        let collected = Collected::new(expected.clone());
        image.groups.insert(number, Grouped { step: StepId(0), key: Some(number.to_string().into()), collected });
    }
    image
}

#[test]
fn what_steps_may_collect_grows_with_the_bytes_that_there_are() {
    const BYTES: usize = 1 << 20;
    let alike: Arc<[Arc<str>]> = vec!["Page".into(); (2 << 20) + 1000].into();
    let million: Arc<[Arc<str>]> = vec!["Page".into(); 1_000_000].into();
    let distinct: Arc<[Arc<str>]> = (0..1000).map(|number| number.to_string().into()).collect();
    let refused = Some(Error::Format(FormatError::TooLarge { what: "what steps collect" }));
    for (groups, expected) in [(1, &alike), (9, &million), (400, &distinct)] {
        let image = collecting(groups, expected, BYTES);
        assert_eq!(format::open(sealed(&image, &no_secrets()), &no_secrets()), Ok(image));
        // The names themselves take some bytes, and too few.
        assert_eq!(format::seal(&collecting(groups, expected, 0), &no_secrets()).err(), refused, "{groups}");
    }
}

#[test]
fn more_than_can_be_opened_is_not_sealed() {
    let mut image = image();
    let expected: Arc<[Arc<str>]> = vec!["Page".into(); 3_000_000].into();
    image.grouped = 1;
    image.groups.insert(1, Grouped { step: StepId(1), key: None, collected: collected(&expected, 1) });
    let refused = Err(Error::Format(FormatError::TooLarge { what: "what steps collect" }));
    assert_eq!(format::seal(&image, &no_secrets()), refused);
}

#[test]
fn an_image_that_no_run_can_have_is_neither_sealed_nor_opened() {
    let invalid: &[fn(&mut EncodedImage)] = &[
        |image| image.delivered = u64::MAX,
        |image| image.steps = vec!["a".into(), "a".into()],
        |image| _ = image.pending.insert(1, pending(event("A"))),
        |image| _ = image.pending.insert(0, pending(event("A"))),
        |image| {
            image.delivered = 1;
            image.pending.insert(1, Pending { step: StepId(2), ..pending(event("A")) });
        },
        |image| {
            image.delivered = 1;
            image.pending.insert(1, Pending { attempt: 0, ..pending(event("A")) });
        },
        |image| {
            image.delivered = 1;
            let mut pending = pending(event("A"));
            let expected = vec!["A".into(), "B".into()].into();
            pending.replay.collected = vec![Collection { key: None, expected, events: Some(vec![event("A")]) }];
            image.pending.insert(1, pending);
        },
        |image| {
            image.delivered = 1;
            image.waits.insert(1, Waiting { seq: 1, class: None, due: None });
        },
        |image| {
            image.waited = 1;
            image.waits.insert(1, Waiting { seq: 1, class: None, due: None });
        },
        |image| {
            let collected = Collected::new([]);
            image.groups.insert(1, Grouped { step: StepId(0), key: None, collected });
        },
        |image| _ = image.kept.insert(7, event("A")),
        |image| _ = image.kept.insert(u64::MAX, event("A")),
        |image| {
            image.status = Status::Ended;
            image.kept.insert(1 << 62, event("A"));
        },
    ];
    for (at, break_it) in invalid.iter().enumerate() {
        let mut image = image();
        break_it(&mut image);
        let sealed = format::seal(&image, &no_secrets());
        assert!(matches!(sealed, Err(Error::InvalidImage(_))), "{at}: {sealed:?}");
    }
}

#[test]
fn two_fields_of_one_name_are_refused_however_many_there_are() {
    for count in [2, 100] {
        let mut image = image();
        let field = |number: usize| (format!("field {number}").into(), Value::new(Tag::Json, "1"));
        let mut fields: Vec<_> = (0..count).map(field).collect();
        fields[count - 1].0 = "field 0".into();
        image.kept.insert(1 << 62, EncodedEvent { class: "Page".into(), body: Body::Fields(fields) });
        let place = format!("kept/{}/field 0", 1_u64 << 62);
        assert_eq!(format::seal(&image, &no_secrets()), Err(FormatError::Doubled { place }.into()));
    }
}

#[test]
fn what_is_no_snapshot_is_told_apart() {
    let good = sealed(&image(), &no_secrets()).to_vec();
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        refusal(bytes, &no_secrets())
    };
    assert_eq!(refusal(&b""[..], &no_secrets()), FormatError::NotASnapshot);
    assert_eq!(refusal(&b"treadle says hello"[..], &no_secrets()), FormatError::NotASnapshot);
    assert_eq!(refusal(&b"treadle\x1a\0"[..], &no_secrets()), FormatError::Truncated);
    assert_eq!(changed(9, 5), FormatError::UnknownVersion { found: 5, newest: 4 });
    assert_eq!(changed(9, 0), FormatError::UnknownVersion { found: 0, newest: 4 });
    assert_eq!(changed(11, 8), FormatError::UnknownFlags(8));
    let unchained = FormatError::Malformed { at: 10, why: "records are chained to nothing that is signed" };
    assert_eq!(changed(11, 4), unchained);
    assert_eq!(changed(12, 1), FormatError::Malformed { at: 12, why: "a key signs nothing" });
    assert_eq!(changed(27, 0xff), FormatError::Truncated);
    assert_eq!(changed(27, 0), FormatError::TrailingBytes);
    assert_eq!(changed(40, 0), FormatError::Damaged);
    assert_eq!(refusal(good[..good.len() - 1].to_vec(), &no_secrets()), FormatError::Truncated);
    assert_eq!(refusal([&good[..], b"x"].concat(), &no_secrets()), FormatError::TrailingBytes);
    assert_eq!(refusal([&good[..], &good[..]].concat(), &no_secrets()), FormatError::TrailingBytes);
}

#[test]
fn a_snapshot_holds_the_own_time_limit_of_a_run_whether_or_not_it_has_begun() {
    for begun in [None, Some(7)] {
        let mut image = image();
        (image.timeout, image.begun) = (Some(60), begun);
        let bytes = sealed(&image, &no_secrets());
        assert_eq!(format::open(bytes, &no_secrets()), Ok(image));
    }
}

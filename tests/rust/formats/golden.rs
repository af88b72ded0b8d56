//! The bytes of each version, as they were when it was made: every later version reads them. They are never changed.
//!
//! `GOLDEN=write cargo test golden` writes them; that is for a new version, in files of its own.

use std::sync::Arc;

use bytes::Bytes;
use treadle::journal::{Chain, Phase, Sign, Slot, entry, record};
use treadle::{
    Body, Child, ChildEnd, Collected, Collection, EncodedEvent, EncodedImage, EncodedRecord, Error, Failure, Family,
    FormatError, Grouped, Held, Kept, Memo, MemoCall, OnParentEnd, OpenChild, Pending, Record, Replay, RunId, Status,
    StepId, Tag, Turn, Value, Waiting, Wanted, snapshot as format, snapshot::Standing,
};

use super::{no_secrets, secrets, signing};

fn value(with_opaque: bool) -> Value {
    if with_opaque { Value::opaque("URL", &b"\x80\x05body"[..]) } else { Value::new(Tag::Json, r#"{"a":[1,-0.0]}"#) }
}

fn page(with_opaque: bool) -> EncodedEvent {
    let fields = vec![("url".into(), value(with_opaque)), ("body".into(), Value::new(Tag::Binary, vec![1, 2, 3]))];
    EncodedEvent { class: "Page".into(), body: Body::Fields(fields) }
}

fn whole(with_opaque: bool) -> EncodedEvent {
    EncodedEvent { class: "Model".into(), body: Body::Whole(value(with_opaque)) }
}

fn expected() -> Arc<[Arc<str>]> {
    ["Page", "Page", "Page", "Model", "Page"].map(Arc::from).into()
}

fn failure() -> Failure {
    Failure { attempt: 1, text: "ValueError: no".into() }
}

fn run() -> RunId {
    RunId::new(1_700_000_000_000, [7; 10])
}

/// An image with something in every part.
fn image(with_opaque: bool) -> EncodedImage {
    let (page, whole) = (page(with_opaque), whole(with_opaque));
    let steps = vec!["fetch".into(), "finish".into()];
    let mut image = EncodedImage::new(run(), "crawl", steps, 1_700_000_000_000_000, Some(1_700_000_060_000_000));
    image.status = Status::Paused;
    (image.delivered, image.waited, image.grouped, image.published) = (300, 2, 1, 70_000);
    image.state.set("user", Value::new(Tag::Json, r#""alice""#));
    image.state.set("buffer", Value::new(Tag::MutableBinary, vec![0; 3]));
    image.state.set("profile", value(with_opaque));
    let fresh =
        |event| Pending { step: StepId(0), attempt: 1, due: None, since: None, event, replay: Replay::default() };
    image.pending.insert(1, fresh(page.clone()));
    let mut replay = Replay::default();
    replay.failures = vec![failure()];
    replay.received = vec![whole.clone()];
    replay.collected = vec![
        Collection { key: Some("k".into()), expected: expected(), events: Some(vec![page.clone(); 5]) },
        Collection { key: None, expected: expected(), events: None },
    ];
    replay.sent = vec![1, u64::MAX];
    replay.deadlines = vec![(Wanted::Sleep(5), 6), (Wanted::Wait(7), 8)];
    let retried = Pending { step: StepId(1), attempt: 2, due: Some(9), since: Some(4), event: whole.clone(), replay };
    image.pending.insert(300, retried);
    image.waits.insert(1, Waiting { seq: 1, class: Some("Model".into()), due: None });
    image.waits.insert(2, Waiting { seq: 1, class: None, due: Some(10) });
    let mut collected = Collected::new(expected());
    collected.add("Page".into(), page.clone()).unwrap();
    collected.add("Model".into(), whole.clone()).unwrap();
    image.groups.insert(1, Grouped { step: StepId(1), key: Some("k".into()), collected });
    image.kept.insert(1 << 62, page.clone());
    image.held = [Held { is_from_outside: true, event: page }, Held { is_from_outside: false, event: whole }].into();
    image
}

fn memos(with_opaque: bool) -> [Memo<Value>; 2] {
    let call = |turn| MemoCall { name: "ask".into(), arguments: [9; 32], turn };
    [
        Memo { call: call(Turn::Ordered(1)), kept: Kept::Result(value(with_opaque)) },
        Memo { call: call(Turn::Occurrence(2)), kept: Kept::Failure(value(with_opaque)) },
    ]
}

/// The image of version 3, which has memos.
fn image_with_memos(with_opaque: bool) -> EncodedImage {
    let mut image = image(with_opaque);
    let pending = image.pending.get_mut(&300).expect("it is pending");
    pending.replay.memos = [1, 3].into_iter().zip(memos(with_opaque)).collect();
    image
}

fn child(with_opaque: bool, end: bool) -> Memo<Value> {
    let child = Child {
        id: RunId::new(1_700_000_000_001, [8; 10]),
        workflow: "fetch".into(),
        on_parent_end: if end { OnParentEnd::Cancel } else { OnParentEnd::Detach },
        end: end.then(|| ChildEnd::Failure(value(with_opaque))),
        inside: (!end).then(|| Bytes::from_static(b"inside")),
    };
    let turn = if end { Turn::Ordered(2) } else { Turn::Named };
    Memo { call: MemoCall { name: "fetch".into(), arguments: [9; 32], turn }, kept: Kept::Child(Box::new(child)) }
}

/// The image of version 4, which has children.
fn image_with_children(with_opaque: bool) -> EncodedImage {
    let mut image = image_with_memos(with_opaque);
    let family = Family { parent: RunId::new(1, [1; 10]), root: RunId::new(2, [2; 10]), depth: 3 };
    image.family = Some(family);
    let pending = image.pending.get_mut(&300).expect("it is pending");
    pending.replay.memos.put(4, child(with_opaque, true));
    pending.replay.memos.put(5, child(with_opaque, false));
    let open = OpenChild { seq: 300, number: 5, on_parent_end: OnParentEnd::Detach };
    image.children.insert(RunId::new(1_700_000_000_001, [8; 10]), open);
    image
}

/// The records of version 4.
fn records_with_children(with_opaque: bool) -> Vec<EncodedRecord> {
    let children = [
        Record::Memo { seq: 1, number: 2, memo: child(with_opaque, false) },
        Record::Memo { seq: 1, number: 3, memo: child(with_opaque, true) },
        Record::ChildEnded { child: RunId::new(1_700_000_000_001, [8; 10]), end: ChildEnd::Result(value(with_opaque)) },
    ];
    records_with_memos(with_opaque).into_iter().chain(children).collect()
}

/// The records of version 3.
fn records_with_memos(with_opaque: bool) -> Vec<EncodedRecord> {
    let [first, second] = memos(with_opaque);
    let memos = [
        Record::Memo { seq: 1, number: 1, memo: first },
        Record::Memo { seq: 1, number: 2, memo: second },
        Record::Forgotten { seq: 1, number: 1 },
    ];
    records(with_opaque).into_iter().chain(memos).collect()
}

/// A record of each kind that the versions before 3 have.
fn records(with_opaque: bool) -> Vec<EncodedRecord> {
    let (page, whole) = (page(with_opaque), whole(with_opaque));
    vec![
        Record::Set { key: "profile".into(), value: value(with_opaque) },
        Record::Delete { key: "profile".into() },
        Record::Queued { seq: 1, step: StepId(0), event: page.clone() },
        Record::Started { seq: 1, at: 1_700_000_000_000_000 },
        Record::Finished { seq: 1, at: 9 },
        Record::Retried { seq: 1, failure: failure(), at: 0, due: 9 },
        Record::Due { seq: 1 },
        Record::Sent { seq: 1, digest: u64::MAX },
        Record::Asked { seq: 1, place: 0, wanted: Wanted::Sleep(5), at: 6 },
        Record::Waiting { wait: 1, waiting: Waiting { seq: 1, class: Some("Model".into()), due: None } },
        Record::WaitOver { wait: 1 },
        Record::Received { seq: 1, event: whole.clone() },
        Record::ReceivedKept { seq: 1, number: 1 << 62 },
        Record::Returned { seq: 1, place: 0 },
        Record::Grouped { group: 1, step: StepId(1), key: Some("k".into()), expected: expected() },
        Record::Collected { seq: 1, group: 1, class: "Page".into(), event: page.clone() },
        Record::Kept { number: 1 << 62, event: whole.clone() },
        Record::KeptTaken { number: 1 << 62 },
        Record::Held { is_from_outside: true, event: page.clone() },
        Record::HeldAgain { event: page },
        Record::Released { place: 1 },
        Record::Published { event: whole },
        Record::Paused,
        Record::Resumed,
        Record::Ended,
    ]
}

fn path(name: &str) -> String {
    format!("{}/tests/rust/formats/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"))
}

fn hex(bytes: &[u8]) -> String {
    let line = |chunk: &[u8]| chunk.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    bytes.chunks(50).map(|chunk| line(chunk) + "\n").collect()
}

/// One thing for each paragraph of a file.
fn golden(name: &str, made: &[Bytes]) -> Vec<Bytes> {
    if std::env::var("GOLDEN").is_ok_and(|what| what == "write") {
        let texts: Vec<_> = made.iter().map(|bytes| hex(bytes)).collect();
        std::fs::write(path(name), texts.join("\n")).unwrap();
    }
    kept(name)
}

fn kept(name: &str) -> Vec<Bytes> {
    let bytes = |text: &str| -> Bytes {
        let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    };
    std::fs::read_to_string(path(name)).unwrap().split("\n\n").map(bytes).collect()
}

#[test]
fn snapshots_are_what_they_were() {
    for (name, with_opaque, secrets) in [("snapshot", false, no_secrets()), ("signed_snapshot", true, secrets())] {
        let made: Bytes = format::seal(&image_with_children(with_opaque), &secrets).unwrap().into();
        let newest = golden(&format!("{name}_v4"), std::slice::from_ref(&made));
        assert_eq!(newest, [made]);
        assert_eq!(format::open(newest[0].clone(), &secrets), Ok(image_with_children(with_opaque)));
        let third = kept(&format!("{name}_v3")).swap_remove(0);
        assert_eq!(format::open(third, &secrets), Ok(image_with_memos(with_opaque)));
        for golden in [kept(&format!("{name}_v2")), kept(&format!("{name}_v1"))] {
            assert_eq!(format::open(golden[0].clone(), &secrets), Ok(image(with_opaque)));
        }
    }
}

const STANDING: Standing = Standing { seq: 12, epoch: 3 };

#[test]
fn checkpoints_are_what_they_were() {
    for (name, with_opaque) in [("snapshot", false), ("signed_snapshot", true)] {
        let made: Bytes =
            format::seal_checkpoint(&image_with_children(with_opaque), STANDING, &secrets()).unwrap().into();
        let checkpoint = name.replace("snapshot", "checkpoint");
        let newest = golden(&format!("{checkpoint}_v4"), std::slice::from_ref(&made));
        assert_eq!(newest, [made]);
        let opened = format::open_checkpoint(newest[0].clone(), STANDING, &secrets());
        assert_eq!(opened, Ok(image_with_children(with_opaque)));
        let third = kept(&format!("{checkpoint}_v3")).swap_remove(0);
        assert_eq!(format::open_checkpoint(third, STANDING, &secrets()), Ok(image_with_memos(with_opaque)));
        for golden in [kept(&format!("{checkpoint}_v2")), kept(&format!("{name}_v1"))] {
            assert_eq!(format::open_checkpoint(golden[0].clone(), STANDING, &secrets()), Ok(image(with_opaque)));
        }
    }
    let made: Bytes = format::seal_chained_checkpoint(&image_with_children(true), STANDING, &secrets()).unwrap().into();
    let newest = golden("chained_checkpoint_v4", std::slice::from_ref(&made));
    assert_eq!(newest[0], made);
    assert_eq!(format::open_checkpoint(made, STANDING, &secrets()), Ok(image_with_children(true)));
    let third = kept("chained_checkpoint_v3").swap_remove(0);
    assert_eq!(format::open_checkpoint(third, STANDING, &secrets()), Ok(image_with_memos(true)));
    let older = kept("chained_checkpoint_v2").swap_remove(0);
    assert_eq!(format::open_checkpoint(older, STANDING, &secrets()), Ok(image(true)));
}

#[test]
fn records_are_what_they_were() {
    for (name, with_opaque) in [("records", false), ("signed_records", true)] {
        let records = records_with_children(with_opaque);
        let numbered = || (1..).zip(&records);
        let made: Vec<_> =
            numbered().map(|(seq, record)| record::encode(run(), seq, record, &secrets()).unwrap()).collect();
        let newest = golden(&format!("{name}_v4"), &made);
        assert_eq!(newest, made);
        let older = ["v3", "v2", "v1"].map(|version| kept(&format!("{name}_{version}")));
        for golden in [newest].into_iter().chain(older) {
            for ((seq, record), bytes) in numbered().zip(&golden) {
                assert_eq!(record::decode(run(), seq, bytes.clone(), &secrets()).as_ref(), Ok(record));
            }
        }
    }
}

fn slots() -> [Slot; 4] {
    [
        Slot::Stream { number: 70_000 },
        Slot::Inbox { id: [9; 16], kind: 0 },
        Slot::Outcome { seq: 12, phase: Phase::Completed },
        Slot::Outcome { seq: 12, phase: Phase::Failed },
    ]
}

#[test]
fn what_is_beside_the_log_is_what_it_was() {
    for (name, is_whole) in [("entries_v4", false), ("whole_entries_v4", true)] {
        let numbered = || slots().into_iter().flat_map(|slot| [(slot, page(true)), (slot, whole(false))]);
        let encoded = |(slot, event)| entry::encode(run(), &slot, &event, &secrets(), is_whole).unwrap();
        let made: Vec<_> = numbered().map(encoded).collect();
        let newest = golden(name, &made);
        assert_eq!(newest, made);
        for golden in [newest, kept(&name.replace("v4", "v3")), kept(&name.replace("v4", "v2"))] {
            for ((slot, event), bytes) in numbered().zip(&golden) {
                assert_eq!(entry::decode(run(), &slot, bytes.clone(), &secrets(), is_whole), Ok(event));
            }
        }
    }
    let wish = Slot::Inbox { id: [9; 16], kind: 1 };
    let made = entry::encode_wish(run(), &wish, &secrets()).unwrap();
    let newest = golden("wish_v4", std::slice::from_ref(&made));
    assert_eq!(newest[0], made);
    for bytes in [made, kept("wish_v3").swap_remove(0), kept("wish_v2").swap_remove(0)] {
        assert_eq!(entry::check_wish(run(), &wish, bytes, &secrets(), true), Ok(()));
    }
}

#[test]
fn what_was_beside_the_log_in_the_first_version_is_still_read() {
    for slot in slots() {
        let bytes = signing::published_in_the_first_version(run(), "Model", "URL", b"\x80\x05body");
        assert_eq!(entry::decode(run(), &slot, bytes.clone(), &secrets(), false), Ok(whole(true)));
        let refused = entry::decode(run(), &slot, bytes, &secrets(), true).unwrap_err();
        assert!(matches!(refused, Error::Format(FormatError::NotSignedWhole { .. })), "{refused}");
    }
}

#[test]
fn chained_records_are_what_they_were() {
    let mut chain = Chain::begin(Sign::All);
    chain.seal(&image(true), Standing { seq: 0, epoch: 1 }, &secrets()).unwrap();
    let start = chain.clone();
    let records = records_with_children(true);
    let numbered = || (1..).zip(&records);
    let made: Vec<_> = numbered().map(|(seq, it)| chain.encode(run(), seq, it, &secrets()).unwrap()).collect();
    let newest = golden("chained_records_v4", &made);
    assert_eq!(newest, made);
    let mut chain = start;
    for ((seq, record), bytes) in numbered().zip(newest) {
        assert_eq!(chain.decode(run(), seq, bytes, &secrets()).as_ref(), Ok(record));
    }
}

#[test]
fn chained_records_of_earlier_versions_are_still_read_behind_their_checkpoint() {
    for (name, records) in [("chained_records_v2", records(true)), ("chained_records_v3", records_with_memos(true))] {
        // What their first record covers is the trailer of the checkpoint that was written then.
        let golden = kept(name);
        assert_eq!(golden.len(), records.len());
        let mut before = None;
        for (seq, (record, bytes)) in (1..).zip(records.iter().zip(&golden)) {
            if let Some(before) = before.take() {
                let standing = Standing { seq: seq - 1, epoch: 1 };
                let sealed = format::seal_chained_checkpoint(&image(true), standing, &secrets());
                let behind = treadle::journal::Loaded {
                    run: super::chain::row(run(), seq),
                    checkpoint: Some((seq - 2, sealed.unwrap())),
                    records: vec![before],
                    inbox: vec![],
                };
                let read = Chain::end_of(&behind).decode(run(), seq, bytes.clone(), &secrets());
                assert_eq!(read.as_ref(), Ok(record));
            }
            before = Some(bytes.to_vec());
        }
    }
}

//! What is signed for one place is taken at no other: each ordered pair of the places that a journal has.

use bytes::Bytes;
use treadle::journal::{Phase, Slot, entry, record};
use treadle::{
    Body, EncodedEvent, EncodedImage, Error, FormatError, Record, RunId, Tag, Value, snapshot, snapshot::Standing,
};

use super::{secrets, signing};

fn run(number: u8) -> RunId {
    RunId::new(1, [number; 10])
}

fn event(value: Value) -> EncodedEvent {
    EncodedEvent { class: "Transfer".into(), body: Body::Fields(vec![("amount".into(), value)]) }
}

fn opaque() -> EncodedEvent {
    event(Value::opaque("Decimal", &b"a million"[..]))
}

/// A place, and how it is written and read there.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Spot {
    Beside(RunId, Slot),
    Log(RunId, u64),
}

impl Spot {
    fn write(self, event: &EncodedEvent, is_whole: bool) -> Bytes {
        match self {
            Self::Beside(run, slot) => entry::encode(run, &slot, event, &secrets(), is_whole),
            Self::Log(run, seq) => record::encode(run, seq, &Record::Published { event: event.clone() }, &secrets()),
        }
        .unwrap()
    }

    fn read(self, bytes: Bytes) -> Result<EncodedEvent, FormatError> {
        let read = match self {
            Self::Beside(run, slot) => entry::decode(run, &slot, bytes, &secrets(), false),
            Self::Log(run, seq) => record::decode(run, seq, bytes, &secrets()).map(|record| match record {
                Record::Published { event } => event,
                other => panic!("{other:?}"),
            }),
        };
        read.map_err(|error| match error {
            Error::Format(error) => error,
            other => panic!("{other:?}"),
        })
    }

    /// The bytes with a checksum that matches here: whoever moves them can make one.
    fn with_checksum(self, bytes: &[u8]) -> Bytes {
        let (run, seed) = match self {
            Self::Log(run, seq) => (run, seq),
            Self::Beside(run, slot) => (run, xxhash_rust::xxh3::xxh3_64(name(slot).as_bytes())),
        };
        signing::with_record_checksum(run, seed, bytes.to_vec())
    }
}

/// The name of a place, as the page on formats describes it.
fn name(slot: Slot) -> String {
    match slot {
        Slot::Stream { number } => format!("stream/{number}"),
        Slot::Inbox { id, kind } => format!("inbox/{}/{kind}", hex(&id)),
        Slot::Transaction { call } => format!("transaction/{}", hex(&call)),
        Slot::Outcome { seq, phase } => format!("outcome/{seq}/{}", format!("{phase:?}").to_lowercase()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn spots() -> Vec<Spot> {
    let slots = [
        Slot::Stream { number: 1 },
        Slot::Stream { number: 2 },
        Slot::Inbox { id: [1; 16], kind: 0 },
        Slot::Inbox { id: [2; 16], kind: 0 },
        Slot::Inbox { id: [1; 16], kind: 7 },
        Slot::Transaction { call: [1; 32] },
        Slot::Transaction { call: [2; 32] },
        Slot::Outcome { seq: 1, phase: Phase::Completed },
        Slot::Outcome { seq: 2, phase: Phase::Completed },
        Slot::Outcome { seq: 1, phase: Phase::Failed },
        Slot::Outcome { seq: 1, phase: Phase::Cancelled },
    ];
    let in_run =
        |run| slots.map(|slot| Spot::Beside(run, slot)).into_iter().chain([1, 2].map(|seq| Spot::Log(run, seq)));
    in_run(run(1)).chain(in_run(run(2))).collect()
}

fn each_pair(mut check: impl FnMut(Spot, Spot)) {
    for from in spots() {
        for to in spots().into_iter().filter(|to| *to != from) {
            check(from, to);
        }
    }
}

#[test]
fn an_opaque_value_is_taken_at_its_own_place_only() {
    each_pair(|from, to| {
        let bytes = from.write(&opaque(), false);
        assert_eq!(from.read(from.with_checksum(&bytes)), Ok(opaque()));
        let moved = to.read(to.with_checksum(&bytes));
        assert!(matches!(moved, Err(FormatError::ValueChanged { .. })), "{from:?} to {to:?}: {moved:?}");
        assert_eq!(to.read(bytes), Err(FormatError::Damaged), "{from:?} to {to:?}");
    });
}

#[test]
fn what_is_signed_as_a_whole_is_taken_at_its_own_place_only() {
    let plain = event(Value::new(Tag::Json, "1"));
    each_pair(|from, to| {
        if let Spot::Beside(..) = from {
            let bytes = from.write(&plain, true);
            assert_eq!(from.read(bytes.clone()), Ok(plain.clone()));
            let moved = to.read(bytes);
            assert!(matches!(moved, Err(FormatError::ValueChanged { .. })), "{from:?} to {to:?}: {moved:?}");
        }
    });
}

#[test]
fn a_wish_is_taken_as_itself_only() {
    let wishes = [1, 2].map(|kind| [1, 2].map(|id| Slot::Inbox { id: [id; 16], kind })).concat();
    for from in &wishes {
        let bytes = entry::encode_wish(run(1), from, &secrets()).unwrap();
        for (number, to) in [1, 2].into_iter().flat_map(|number| wishes.iter().map(move |to| (number, to))) {
            let taken = entry::check_wish(run(number), to, bytes.clone(), &secrets(), false);
            assert_eq!(taken.is_ok(), number == 1 && from == to, "{from:?} to {to:?}: {taken:?}");
        }
    }
    // One of the first version has no bytes.
    assert_eq!(entry::check_wish(run(1), &wishes[0], Bytes::new(), &secrets(), false), Ok(()));
    assert!(entry::check_wish(run(1), &wishes[0], Bytes::new(), &secrets(), true).is_err());
}

#[test]
fn a_message_that_is_signed_as_a_whole_is_not_taken_with_a_byte_changed() {
    let slot = Slot::Inbox { id: [1; 16], kind: 0 };
    let bytes = entry::encode(run(1), &slot, &event(Value::new(Tag::Json, "1")), &secrets(), true).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.to_vec();
        changed[at] ^= 2;
        assert!(entry::decode(run(1), &slot, changed.into(), &secrets(), true).is_err(), "byte {at}");
    }
}

#[test]
fn a_newer_signature_is_not_taken_as_one_of_the_first_version() {
    // What is new says that it is old, at the place that all of these shared.
    each_pair(|from, to| {
        let mut bytes = from.write(&opaque(), false).to_vec();
        bytes[0] = 1;
        let (to_run, seed) = match to {
            Spot::Log(run, seq) => (run, seq),
            Spot::Beside(run, _) => (run, 0),
        };
        let moved = to.read(signing::with_record_checksum(to_run, seed, bytes));
        assert!(matches!(moved, Err(FormatError::ValueChanged { .. })), "{from:?} to {to:?}: {moved:?}");
    });
}

#[test]
fn what_the_first_version_signed_is_taken_in_no_other_run_and_not_as_newer() {
    let slot = Slot::Stream { number: 1 };
    let bytes = signing::published_in_the_first_version(run(1), "Page", "URL", b"the page");
    assert!(entry::decode(run(1), &slot, bytes.clone(), &secrets(), false).is_ok());
    let read = |number, bytes| Spot::Beside(run(number), slot).read(bytes);
    let moved = read(2, signing::with_record_checksum(run(2), 0, bytes.to_vec()));
    assert!(matches!(moved, Err(FormatError::ValueChanged { .. })), "{moved:?}");
    let newer = [&[2][..], &bytes[1..]].concat();
    let newer = read(1, Spot::Beside(run(1), slot).with_checksum(&newer));
    assert!(matches!(newer, Err(FormatError::ValueChanged { .. })), "{newer:?}");
}

fn image(number: u8) -> EncodedImage {
    let mut image = EncodedImage::new(run(number), "crawl", vec!["fetch".into()], 5, None);
    image.state.set("profile", Value::opaque("UserProfile", &b"alice"[..]));
    image
}

#[test]
fn a_checkpoint_is_taken_at_its_record_and_not_in_an_epoch_before_its_own() {
    let bytes = Bytes::from(snapshot::seal_checkpoint(&image(1), Standing { seq: 7, epoch: 3 }, &secrets()).unwrap());
    let open = |seq, epoch| snapshot::open_checkpoint(bytes.clone(), Standing { seq, epoch }, &secrets());
    assert_eq!(open(7, 3), Ok(image(1)));
    assert_eq!(open(7, 9), Ok(image(1)));
    for (seq, epoch) in [(6, 3), (8, 3), (7, 2)] {
        assert!(matches!(open(seq, epoch), Err(Error::Format(FormatError::Misplaced { .. }))), "{seq} {epoch}");
    }
    // Its header is made to fit.
    for at in [35, 43] {
        let mut changed = bytes.to_vec();
        changed[at] += 1;
        let standing = Standing { seq: 7 + u64::from(at == 35), epoch: 9 };
        assert_eq!(
            snapshot::open_checkpoint(changed.into(), standing, &secrets()),
            Err(FormatError::Changed.into()),
            "byte {at}"
        );
    }
}

#[test]
fn a_snapshot_is_no_checkpoint_and_a_checkpoint_no_snapshot() {
    let standing = Standing { seq: 7, epoch: 3 };
    let taken = Bytes::from(snapshot::seal(&image(1), &secrets()).unwrap());
    let misplaced =
        |result: Result<EncodedImage, Error>| matches!(result, Err(Error::Format(FormatError::Misplaced { .. })));
    assert!(misplaced(snapshot::open_checkpoint(taken, standing, &secrets())));
    let checkpoint = Bytes::from(snapshot::seal_checkpoint(&image(1), standing, &secrets()).unwrap());
    assert!(misplaced(snapshot::open(checkpoint.clone(), &secrets())));
    // Without the flag and the numbers, and with a header that fits, it is signed for something else.
    let mut bytes = [&checkpoint[..28], &checkpoint[44..]].concat();
    bytes[11] &= !2;
    assert_eq!(snapshot::open(bytes.into(), &secrets()), Err(FormatError::Changed.into()));
}

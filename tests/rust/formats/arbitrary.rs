//! Images and records of every shape, as strategies.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use treadle::{
    Body, Child, ChildEnd, Collected, Collection, EncodedEvent, EncodedImage, EncodedRecord, Failure, Family, Grouped,
    Held, Kept, Memo, MemoCall, OnParentEnd, OpenChild, Pending, Record, Replay, RunId, Status, StepId, Store, Tag,
    Turn, Value, Waiting, Wanted,
};

type Class = Arc<str>;

/// Names that come again and again, and a few of which nobody would think.
pub fn name() -> impl Strategy<Value = Class> {
    prop_oneof![
        4 => prop::sample::select(vec!["", "Page", "url", "a/b", "a", "pending/1/event", "ü"]).prop_map(Class::from),
        1 => "\\PC{0,40}".prop_map(Class::from),
    ]
}

/// JSON texts, with all that they may contain.
pub fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(|value| format!("{value:?}")),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        let pair = (any::<String>(), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec(pair, 0..4).prop_map(|pairs| {
                let pair = |(key, value)| format!("{}:{value}", serde_json::to_string::<String>(&key).unwrap());
                format!("{{{}}}", pairs.into_iter().map(pair).collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..60),
        // Around the lengths where the encoding changes, and where a value is no longer copied.
        1 => prop::sample::select(vec![31, 32, 255, 256, 4095, 4096, 65_535, 65_536]).prop_map(|n| vec![7; n]),
    ]
}

pub fn value(with_opaque: bool) -> BoxedStrategy<Value> {
    let plain = prop_oneof![
        json().prop_map(|text| Value::new(Tag::Json, text)),
        bytes().prop_map(|bytes| Value::new(Tag::Binary, bytes)),
        bytes().prop_map(|bytes| Value::new(Tag::MutableBinary, bytes)),
    ];
    if !with_opaque {
        return plain.boxed();
    }
    let opaque = (prop::option::weighted(0.9, name()), bytes()).prop_map(|(class, bytes)| Value {
        tag: Tag::Opaque,
        class,
        bytes: bytes.into(),
    });
    prop_oneof![2 => plain, 1 => opaque].boxed()
}

fn distinct<V>(pairs: Vec<(Class, V)>) -> Vec<(Class, V)> {
    let mut seen = std::collections::HashSet::new();
    pairs.into_iter().filter(|(name, _)| seen.insert(name.clone())).collect()
}

pub fn event(with_opaque: bool) -> impl Strategy<Value = EncodedEvent> + Clone {
    let fields = prop::collection::vec((name(), value(with_opaque)), 0..12).prop_map(distinct);
    let body = prop_oneof![3 => fields.prop_map(Body::Fields), 1 => value(with_opaque).prop_map(Body::Whole)];
    (name(), body).prop_map(|(class, body)| EncodedEvent { class, body }).boxed()
}

fn expected() -> impl Strategy<Value = Arc<[Class]>> {
    let runs = prop::collection::vec((name(), prop_oneof![Just(1_usize), 1..300_usize]), 0..4);
    runs.prop_map(|runs| runs.into_iter().flat_map(|(class, count)| std::iter::repeat_n(class, count)).collect())
}

fn wanted() -> impl Strategy<Value = Wanted> {
    prop_oneof![any::<u64>().prop_map(Wanted::Sleep), any::<u64>().prop_map(Wanted::Wait)]
}

fn failure() -> impl Strategy<Value = Failure> {
    (any::<u32>(), any::<String>()).prop_map(|(attempt, text)| Failure { attempt, text: text.into() })
}

fn key() -> impl Strategy<Value = Option<Box<str>>> {
    prop::option::of(name().prop_map(|name| (*name).into()))
}

fn collection(with_opaque: bool) -> impl Strategy<Value = Collection<EncodedEvent, Class>> {
    (key(), expected(), event(with_opaque), any::<bool>()).prop_map(|(key, expected, event, is_complete)| {
        let is_complete = is_complete && expected.len() < 5;
        let events = is_complete.then(|| vec![event; expected.len()]);
        Collection { key, expected, events }
    })
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![any::<u64>().prop_map(Turn::Ordered), any::<u64>().prop_map(Turn::Occurrence)]
}

fn memo(with_opaque: bool) -> impl Strategy<Value = Memo<Value>> + Clone {
    let parts = (name(), any::<[u8; 32]>(), turn(), any::<bool>(), value(with_opaque));
    let memo = parts.prop_map(|(name, arguments, turn, is_failure, value)| Memo {
        call: MemoCall { name: (*name).into(), arguments, turn },
        kept: if is_failure { Kept::Failure(value) } else { Kept::Result(value) },
    });
    memo.boxed()
}

fn replay(with_opaque: bool) -> impl Strategy<Value = Replay<EncodedEvent, Class>> {
    let full = (
        prop::collection::vec(failure(), 0..3),
        prop::collection::vec(event(with_opaque), 0..3),
        prop::collection::vec(collection(with_opaque), 0..3),
        prop::collection::vec(any::<u64>(), 0..3),
        prop::collection::vec((wanted(), any::<u64>()), 0..3),
        prop::collection::btree_map(1..1000_u64, prop_oneof![memo(with_opaque), child(with_opaque)], 0..3),
    );
    let full = full.prop_map(|(failures, received, collected, sent, deadlines, memos)| {
        let mut replay = Replay::default();
        replay.failures = failures;
        replay.received = received;
        replay.collected = collected;
        replay.sent = sent;
        replay.deadlines = deadlines;
        replay.memos = memos.into_iter().collect();
        replay
    });
    prop_oneof![Just(()).prop_map(|()| Replay::default()), full]
}

const STEPS: u32 = 3;

fn step() -> impl Strategy<Value = StepId> {
    (0..STEPS).prop_map(StepId)
}

fn time() -> impl Strategy<Value = Option<u64>> {
    prop::option::of(any::<u64>())
}

fn pending(with_opaque: bool) -> impl Strategy<Value = Pending<EncodedEvent, Class>> {
    (step(), 1..=u32::MAX, time(), time(), event(with_opaque), replay(with_opaque))
        .prop_map(|(step, attempt, due, since, event, replay)| Pending { step, attempt, due, since, event, replay })
}

fn group(with_opaque: bool) -> impl Strategy<Value = Grouped<EncodedEvent, Class>> {
    let added = prop::collection::vec((any::<prop::sample::Index>(), event(with_opaque)), 0..5);
    (step(), key(), expected(), added).prop_map(|(step, key, expected, added)| {
        let mut collected = Collected::new(expected.clone());
        for (index, event) in added {
            // No group keeps what makes it complete, so the last one of a class is never added.
            if expected.len() > 5 {
                let _ = collected.add(expected[index.index(expected.len())].clone(), event);
            }
        }
        Grouped { step, key, collected }
    })
}

fn numbered<V: std::fmt::Debug>(of: impl Strategy<Value = V>) -> impl Strategy<Value = BTreeMap<u64, V>> {
    prop::collection::btree_map(1..1000_u64, of, 0..4)
}

fn run_id() -> impl Strategy<Value = RunId> {
    any::<[u8; 16]>().prop_map(RunId::from_bytes)
}

fn child_end(with_opaque: bool) -> impl Strategy<Value = ChildEnd<Value>> + Clone {
    let end = (any::<bool>(), value(with_opaque));
    end.prop_map(|(is_failure, value)| if is_failure { ChildEnd::Failure(value) } else { ChildEnd::Result(value) })
        .boxed()
}

/// A call that has started a child.
fn child(with_opaque: bool) -> impl Strategy<Value = Memo<Value>> + Clone {
    let turn = prop_oneof![turn(), Just(Turn::Named)];
    let call = (name(), any::<[u8; 32]>(), turn);
    let inside = prop::option::of(prop::collection::vec(any::<u8>(), 0..40).prop_map(bytes::Bytes::from));
    let parts = (call, run_id(), name(), any::<bool>(), prop::option::of(child_end(with_opaque)), inside);
    let child = parts.prop_map(|((name, arguments, turn), id, workflow, detaches, end, inside)| {
        let on_parent_end = if detaches { OnParentEnd::Detach } else { OnParentEnd::Cancel };
        let child = Child { id, workflow: (*workflow).into(), on_parent_end, end, inside };
        Memo { call: MemoCall { name: (*name).into(), arguments, turn }, kept: Kept::Child(Box::new(child)) }
    });
    child.boxed()
}

fn family() -> impl Strategy<Value = Option<Family>> {
    let family = (run_id(), run_id(), any::<u32>());
    prop::option::of(family.prop_map(|(parent, root, depth)| Family { parent, root, depth }))
}

/// What a parent knows of the children that have not ended.
fn open_children(pending: &BTreeMap<u64, Pending<EncodedEvent, Class>>) -> BTreeMap<RunId, OpenChild> {
    let mut open = BTreeMap::new();
    for (&seq, it) in pending {
        for (number, memo) in it.replay.memos.iter() {
            if let Kept::Child(child) = &memo.kept
                && child.end.is_none()
            {
                open.insert(child.id, OpenChild { seq, number, on_parent_end: child.on_parent_end });
            }
        }
    }
    open
}

/// A run at any moment, with opaque values or without.
pub fn image(with_opaque: bool) -> impl Strategy<Value = EncodedImage> {
    let head = (run_id(), name(), any::<u64>(), time(), any::<bool>(), 0..=1_u64 << 61);
    let state = prop::collection::vec((name(), value(with_opaque)), 0..12).prop_map(distinct);
    let wait = (1..1000_u64, prop::option::of(name()), time());
    let wait = wait.prop_map(|(seq, class, due)| Waiting { seq, class, due });
    let kept = prop::collection::btree_map(1_u64 << 61..=3 << 61, event(with_opaque), 0..3);
    let held = (any::<bool>(), event(with_opaque));
    let held = held.prop_map(|(is_from_outside, event)| Held { is_from_outside, event });
    let events = (kept, prop::collection::vec(held, 0..3), family());
    let parts = (head, state, numbered(pending(with_opaque)), numbered(wait), numbered(group(with_opaque)), events);
    parts.prop_map(|((id, workflow, created, deadline, is_paused, number), state, pending, waits, groups, events)| {
        let steps = (0..STEPS).map(|step| format!("step {step}").into()).collect();
        let mut image = EncodedImage::new(id, &workflow, steps, created, deadline);
        image.timeout = deadline.filter(|deadline| deadline % 2 == 0);
        image.status = if is_paused { Status::Paused } else { Status::Running };
        let number = number.max(1000);
        (image.delivered, image.waited, image.grouped, image.published) = (number, number, number, number);
        image.state = state.into_iter().collect::<Store<_>>();
        image.children = open_children(&pending);
        image.family = events.2;
        (image.pending, image.waits, image.groups) = (pending, waits, groups);
        (image.kept, image.held) = (events.0, events.1.into());
        image
    })
}

/// A record of any kind, with opaque values or without.
pub fn record(with_opaque: bool) -> impl Strategy<Value = EncodedRecord> {
    let n = any::<u64>;
    let event = event(with_opaque);
    let text = || name().prop_map(|name| Box::<str>::from(&*name));
    let any_step = || any::<u32>().prop_map(StepId);
    let state = prop_oneof![
        (text(), value(with_opaque)).prop_map(|(key, value)| Record::Set { key, value }),
        text().prop_map(|key| Record::Delete { key }),
    ];
    let delivery = prop_oneof![
        (n(), any_step(), event.clone()).prop_map(|(seq, step, event)| Record::Queued { seq, step, event }),
        (n(), n()).prop_map(|(seq, at)| Record::Started { seq, at }),
        (n(), n()).prop_map(|(seq, at)| Record::Finished { seq, at }),
        (n(), failure(), n(), n()).prop_map(|(seq, failure, at, due)| Record::Retried { seq, failure, at, due }),
        n().prop_map(|seq| Record::Due { seq }),
        (n(), n()).prop_map(|(seq, digest)| Record::Sent { seq, digest }),
        (n(), n(), memo(with_opaque)).prop_map(|(seq, number, memo)| Record::Memo { seq, number, memo }),
        (n(), n(), child(with_opaque)).prop_map(|(seq, number, memo)| Record::Memo { seq, number, memo }),
        (run_id(), child_end(with_opaque)).prop_map(|(child, end)| Record::ChildEnded { child, end }),
        (n(), n()).prop_map(|(seq, number)| Record::Forgotten { seq, number }),
        (n(), n(), wanted(), n()).prop_map(|(seq, place, wanted, at)| Record::Asked { seq, place, wanted, at }),
    ];
    let wait = prop_oneof![
        (n(), n(), prop::option::of(name()), time())
            .prop_map(|(wait, seq, class, due)| Record::Waiting { wait, waiting: Waiting { seq, class, due } }),
        n().prop_map(|wait| Record::WaitOver { wait }),
        (n(), event.clone()).prop_map(|(seq, event)| Record::Received { seq, event }),
        (n(), n()).prop_map(|(seq, number)| Record::ReceivedKept { seq, number }),
        (n(), n()).prop_map(|(seq, place)| Record::Returned { seq, place }),
    ];
    let group = prop_oneof![
        (n(), any_step(), key(), expected()).prop_map(|(group, step, key, expected)| Record::Grouped {
            group,
            step,
            key,
            expected
        }),
        (n(), n(), name(), event.clone()).prop_map(|(seq, group, class, event)| Record::Collected {
            seq,
            group,
            class,
            event
        }),
    ];
    let other = prop_oneof![
        (n(), event.clone()).prop_map(|(number, event)| Record::Kept { number, event }),
        n().prop_map(|number| Record::KeptTaken { number }),
        (any::<bool>(), event.clone()).prop_map(|(is_from_outside, event)| Record::Held { is_from_outside, event }),
        event.clone().prop_map(|event| Record::HeldAgain { event }),
        any::<u64>().prop_map(|place| Record::Released { place }),
        event.prop_map(|event| Record::Published { event }),
        (any::<u64>(), any::<u64>()).prop_map(|(at, keys)| Record::Changed { at, keys }),
        Just(()).prop_map(|()| Record::Paused),
        Just(()).prop_map(|()| Record::Resumed),
        Just(()).prop_map(|()| Record::Ended),
    ];
    prop_oneof![2 => state, 9 => delivery, 5 => wait, 2 => group, 8 => other]
}

//! A run as plain data: the fold of its records, and a run that goes on from it.

use std::sync::Arc;

use proptest::prelude::*;
use treadle::{
    Collecting, Deadline, Error, EventKind, Failure, HostImage, HostRecord, Image, Kept, Memo, MemoCall, Phase, Plan,
    Record, Routes, Run, RunId, Slot, Status, StepId, StepPlan, Tag, Turn, Value, Waiting, Wanted,
};

use super::guest::Guest;

type TestRun = Run<Guest>;
type TestImage = HostImage<Guest>;
type TestRecord = HostRecord<Guest>;

const KIND: EventKind = EventKind(0);

/// The number of an event that is kept.
const KEPT: u64 = 1 << 62;

fn plan() -> Arc<Plan> {
    let mut routes = Routes::default();
    routes.add([StepId(0)]);
    let steps = vec![StepPlan { name: "one".into(), ..StepPlan::default() }];
    Arc::new(Plan { name: "flow".into(), steps, routes, timeout: Some(1_000), deadline: Some(2_000), stream_limit: 10 })
}

fn new_run() -> TestRun {
    let mut run = Run::new(RunId::new(0, [0; 10]), plan(), 100);
    run.start_log();
    run.acknowledge(u64::MAX);
    run
}

fn empty_image() -> TestImage {
    Image::new(RunId::new(0, [0; 10]), "flow", vec!["one".into(), "two".into()], 100, None)
}

fn start(run: &mut TestRun, event: u64) -> Slot {
    run.deliver(KIND, event).unwrap();
    run.start_next(|| 100).unwrap().slot
}

fn collect(run: &mut TestRun, slot: Slot, event: u64) -> Option<Vec<u64>> {
    let call = Collecting { slot, step: StepId(0), key: Some("key"), event };
    let answer = run.collect(call, |classes| classes == [1, 1], |_| Some(1), || [1, 1].into());
    answer.unwrap().events
}

fn json(text: &[u8]) -> Value {
    Value::new(Tag::Json, text.to_vec())
}

/// A run to which everything has happened that can.
fn eventful_run() -> TestRun {
    let mut run = new_run();
    let first = start(&mut run, 1);
    run.set("a", json(b"1")).unwrap();
    run.set("b", json(b"2")).unwrap();
    run.delete("a").unwrap();
    run.publish(2).unwrap();
    run.note_sent(first, 77);
    run.ask_deadline(first, Wanted::Wait(50), || 110);
    let wait = run.wait(first, (), Some(3), Some(160)).unwrap();
    run.receive(wait, &4).unwrap();
    run.keep(5).unwrap();
    run.keep(6).unwrap();
    let (number, _) = run.kept().next().unwrap();
    run.take_kept(first, number).unwrap();
    assert_eq!(collect(&mut run, first, 7), None);
    run.retry(first, "no".into(), 200).unwrap();
    let second = start(&mut run, 8);
    run.wait(second, (), None, Some(300)).unwrap();
    run.deliver(KIND, 9).unwrap();
    run.pause().unwrap();
    run.hold(10, true).unwrap();
    run
}

/// What is held is let go, oldest first.
fn release_all(run: &mut TestRun) -> Vec<u64> {
    let mut released = Vec::new();
    while let Some((number, _)) = run.next_release() {
        released.extend(run.release(number).map(|held| held.event));
    }
    released
}

fn folded(mut image: TestImage, run: &mut TestRun) -> TestImage {
    run.take_log().into_iter().for_each(|record| image.apply(record).unwrap());
    image
}

#[test]
fn the_records_of_a_run_say_all_that_its_image_does() {
    let image = new_run().image();
    let mut run = eventful_run();
    assert_eq!(folded(image, &mut run), run.image());
}

#[test]
fn a_run_that_is_restored_is_the_run_that_was() {
    let mut run = eventful_run();
    let image = run.image();
    let mut restored: TestRun = Run::restore(run.image(), plan());
    assert_eq!(restored.image(), image);
    restored.start_log();
    assert!(restored.take_log().is_empty());
    assert!(restored.is_paused() && restored.is_settling());
    let events = |run: &TestRun| {
        let mut events: Vec<_> = run.events().copied().collect();
        events.sort_unstable();
        events
    };
    run.take_log();
    assert_eq!(events(&restored), events(&run));
    restored.resume();
    assert_eq!(release_all(&mut restored), [10]);
    assert_eq!(restored.next_deadline(), Some(200));
    assert_eq!(restored.expire(5_000), Some(Deadline::Retry(1)));
    assert_eq!(restored.expire(5_000), Some(Deadline::Run), "the time of a run goes on while it is down");
    assert_eq!(restored.expire(5_000), Some(Deadline::End));
}

#[test]
fn whoever_waited_starts_before_all_others_and_is_settled_once_it_waits_again() {
    let mut run = new_run();
    let slots: Vec<_> = (1..=4).map(|event| start(&mut run, event)).collect();
    run.deliver(KIND, 5).unwrap();
    run.wait(slots[2], (), Some(1), None).unwrap();
    let mut fold = run.image();
    let mut run: TestRun = Run::restore(run.image(), plan());
    run.start_log();
    run.acknowledge(u64::MAX);
    let started: Vec<_> = std::iter::from_fn(|| run.start_next(|| 500)).collect();
    assert_eq!(started.iter().map(|started| started.seq).collect::<Vec<_>>(), [3, 1, 2, 4, 5]);
    assert!(run.is_settling());
    run.wait(started[0].slot, (), Some(1), None).unwrap();
    assert!(!run.is_settling());
    fold = folded(fold, &mut run);
    assert_eq!(fold, run.image());
    assert_eq!(fold.waits.len(), 1);
}

#[test]
fn a_wait_that_nobody_comes_to_again_is_over_in_the_records_of_the_run_that_goes_on() {
    let mut run = new_run();
    let (gone, retried) = (start(&mut run, 1), start(&mut run, 2));
    run.wait(gone, (), Some(1), None).unwrap();
    run.wait(retried, (), Some(1), None).unwrap();
    run.finish_step(gone).unwrap();
    run.retry(retried, "no".into(), 200).unwrap();
    let fold = run.image();
    assert_eq!(fold.waits.len(), 2);
    let mut run: TestRun = Run::restore(run.image(), plan());
    assert!(!run.is_settling());
    run.start_log();
    let fold = folded(fold, &mut run);
    assert_eq!((fold.waits.len(), run.take_log().len()), (0, 0));
    assert_eq!(fold, run.image());
}

#[test]
fn what_a_task_collects_that_a_body_left_behind_is_remembered_by_no_delivery() {
    let image = new_run().image();
    let mut run = new_run();
    let slot = start(&mut run, 1);
    run.retry(slot, "no".into(), 200).unwrap();
    assert_eq!(collect(&mut run, slot, 5), None);
    run.expire(200).unwrap();
    let again = run.start_next(|| 200).unwrap().slot;
    assert_eq!(collect(&mut run, slot, 6), Some(vec![5, 6]));
    assert_eq!(collect(&mut run, again, 7), None, "it is the first call of this delivery");
    assert_eq!(folded(image, &mut run), run.image());
}

#[test]
fn nothing_is_recorded_of_steps_that_are_being_stopped_but_what_can_be_seen() {
    let image = new_run().image();
    let mut run = new_run();
    let slot = start(&mut run, 1);
    run.wait(slot, (), Some(1), None).unwrap();
    let mut run: TestRun = {
        let fold = folded(image, &mut run);
        Run::restore(fold, plan())
    };
    let mut fold = run.image();
    run.start_log();
    run.acknowledge(u64::MAX);
    let slot = run.start_next(|| 100).unwrap().slot;
    run.begin_end().unwrap();
    assert!(!run.is_settling());
    run.note_sent(slot, 1);
    run.ask_deadline(slot, Wanted::Sleep(1), || 5);
    run.set("late", json(b"1")).unwrap();
    run.publish(3).unwrap();
    run.finish_step(slot).unwrap();
    fold = folded(fold, &mut run);
    assert!(run.try_end());
    assert_eq!(fold, run.image());
    assert_eq!((fold.status, fold.published, fold.state.len()), (Status::Ended, 1, 1));
}

#[test]
fn a_run_that_was_over_is_over_when_it_is_restored() {
    let mut run = new_run();
    start(&mut run, 1);
    run.begin_end().unwrap();
    let mut restored: TestRun = Run::restore(run.image(), plan());
    assert_eq!((restored.phase(), restored.has_deadline(), restored.is_stalled()), (Phase::Ended, false, false));
    assert!(restored.deliver(KIND, 2).is_err() && restored.begin_end().is_none());
}

#[test]
fn the_first_body_of_a_delivery_has_a_time_even_if_the_clock_says_zero() {
    let mut run = new_run();
    let image = run.image();
    run.deliver(KIND, 1).unwrap();
    run.start_next(|| 0).unwrap();
    let fold = folded(image, &mut run);
    assert_eq!(fold, run.image());
    assert!(fold.pending[&1].since.is_some());
}

fn memo(begun: u64) -> Memo<Value> {
    let call = MemoCall { name: "ask".into(), arguments: [1; 32], turn: Turn::Ordered(begun) };
    Memo { call, kept: Kept::Result(json(b"1")) }
}

fn queued(seq: u64) -> TestRecord {
    Record::Queued { seq, step: StepId(0), event: seq }
}

fn finished(seq: u64) -> TestRecord {
    Record::Finished { seq, at: 0 }
}

fn waiting(wait: u64) -> TestRecord {
    Record::Waiting { wait, waiting: Waiting { seq: 1, class: None, due: None } }
}

fn retried(attempt: u32) -> TestRecord {
    Record::Retried { seq: 1, failure: Failure { attempt, text: "no".into() }, at: 0, due: 5 }
}

fn grouped(group: u64) -> TestRecord {
    Record::Grouped { group, step: StepId(0), key: None, expected: [1, 1].into() }
}

fn collected(seq: u64, class: u8) -> TestRecord {
    Record::Collected { seq, group: 1, class, event: 1 }
}

#[test]
fn a_record_that_cannot_come_behind_those_before_it_is_refused() {
    let asked = |place| Record::Asked { seq: 1, place, wanted: Wanted::Sleep(1), at: 1 };
    let kept = || Record::Kept { number: KEPT, event: 1 };
    let memo = |number| Record::Memo { seq: 1, number, memo: memo(1) };
    let forgotten = || Record::Forgotten { seq: 1, number: 1 };
    let cases: Vec<(&str, Vec<TestRecord>, TestRecord)> = vec![
        ("a missing key", vec![], Record::Delete { key: "a".into() }),
        ("no such step", vec![], Record::Queued { seq: 1, step: StepId(2), event: 1 }),
        ("number zero", vec![], queued(0)),
        ("a number again", vec![queued(1)], queued(1)),
        ("an older number", vec![queued(2)], queued(1)),
        ("a number again when it is done", vec![queued(1), finished(1)], queued(1)),
        ("not queued", vec![], Record::Started { seq: 1, at: 1 }),
        ("not queued", vec![], finished(1)),
        ("done twice", vec![queued(1), finished(1)], finished(1)),
        ("not queued", vec![], retried(1)),
        ("another attempt", vec![queued(1)], retried(2)),
        ("done while it waits", vec![queued(1), retried(1)], finished(1)),
        ("started while it waits", vec![queued(1), retried(1)], Record::Started { seq: 1, at: 1 }),
        ("sends while it waits", vec![queued(1), retried(1)], Record::Sent { seq: 1, digest: 1 }),
        ("failed twice", vec![queued(1), retried(1)], retried(1)),
        ("not to be tried again", vec![queued(1)], Record::Due { seq: 1 }),
        ("not queued", vec![], Record::Due { seq: 1 }),
        ("not queued", vec![], Record::Sent { seq: 1, digest: 1 }),
        ("not queued", vec![], memo(1)),
        ("a number left out", vec![queued(1)], memo(2)),
        ("a number again", vec![queued(1), memo(1)], memo(1)),
        ("no such memo", vec![queued(1)], forgotten()),
        ("forgotten twice", vec![queued(1), memo(1), forgotten()], forgotten()),
        ("kept while it waits", vec![queued(1), retried(1)], memo(1)),
        ("not queued", vec![], asked(0)),
        ("a gap", vec![queued(1), asked(0)], asked(2)),
        ("no place", vec![queued(1)], asked(u64::MAX)),
        ("not queued", vec![], Record::Received { seq: 1, event: 1 }),
        ("not kept", vec![queued(1)], Record::ReceivedKept { seq: 1, number: KEPT }),
        ("not queued", vec![kept()], Record::ReceivedKept { seq: 1, number: KEPT }),
        ("nothing received", vec![queued(1)], Record::Returned { seq: 1, place: 0 }),
        ("nobody waits", vec![], waiting(1)),
        ("a wait again", vec![queued(1), waiting(1)], waiting(1)),
        ("no such wait", vec![], Record::WaitOver { wait: 1 }),
        ("over twice", vec![queued(1), waiting(1), Record::WaitOver { wait: 1 }], Record::WaitOver { wait: 1 }),
        ("no such step", vec![], Record::Grouped { group: 1, step: StepId(2), key: None, expected: [1].into() }),
        ("a number too large", vec![], queued(u64::MAX)),
        ("a number too large", vec![], grouped(u64::MAX)),
        ("a number too large", vec![], Record::Kept { number: u64::MAX, event: 1 }),
        ("a group again", vec![grouped(1)], grouped(1)),
        ("no such group", vec![queued(1)], collected(1, 1)),
        ("not expected", vec![queued(1), grouped(1)], collected(1, 2)),
        ("not queued", vec![grouped(1)], collected(1, 1)),
        ("complete", vec![grouped(1), collected(0, 1), collected(0, 1)], collected(0, 1)),
        ("a number again", vec![kept()], kept()),
        ("not kept", vec![], Record::KeptTaken { number: KEPT }),
        ("paused twice", vec![Record::Paused], Record::Paused),
        ("not paused", vec![], Record::Resumed),
        ("over", vec![Record::Ended], queued(1)),
        ("over", vec![Record::Ended], Record::Paused),
        ("over", vec![Record::Paused, Record::Ended], Record::Resumed),
        ("over", vec![Record::Ended], Record::Ended),
        ("over", vec![Record::Ended], kept()),
    ];
    for (why, before, record) in cases {
        let mut image = empty_image();
        before.into_iter().for_each(|record| image.apply(record).expect(why));
        let applied = image.apply(record.clone());
        assert!(matches!(applied, Err(Error::InvalidRecord(_))), "{why}: {record:?} gives {applied:?}");
    }
}

#[test]
fn what_can_be_seen_of_a_run_changes_until_its_last_step_has_stopped() {
    let mut image = empty_image();
    image.apply(Record::Ended).unwrap();
    image.apply(Record::Set { key: "a".into(), value: json(b"1") }).unwrap();
    image.apply(Record::Delete { key: "a".into() }).unwrap();
    image.apply(Record::Published { event: 1 }).unwrap();
    assert_eq!((image.published, image.status), (1, Status::Ended));
}

fn any_record() -> impl Strategy<Value = TestRecord> {
    let number = || prop_oneof![8 => 0..5_u64, 1 => any::<u64>()];
    let kept = || prop_oneof![8 => KEPT..KEPT + 5, 1 => any::<u64>()];
    let step = || (0..3_u32).prop_map(StepId);
    let class = || 0..3_u8;
    let key = || prop::sample::select(vec!["a", "b", ""]).prop_map(Box::<str>::from);
    let wanted = number().prop_map(Wanted::Sleep);
    prop_oneof![
        1 => (key(), any::<u8>()).prop_map(|(key, byte)| Record::Set { key, value: json(&[byte]) }),
        1 => key().prop_map(|key| Record::Delete { key }),
        4 => (number(), step()).prop_map(|(seq, step)| Record::Queued { seq, step, event: seq }),
        1 => (number(), number()).prop_map(|(seq, at)| Record::Started { seq, at }),
        1 => number().prop_map(finished),
        1 => (number(), prop_oneof![9 => 0..4_u32, 1 => Just(u32::MAX)], number()).prop_map(|(seq, attempt, due)| {
            Record::Retried { seq, failure: Failure { attempt, text: "no".into() }, at: 0, due }
        }),
        1 => number().prop_map(|seq| Record::Due { seq }),
        1 => (number(), number()).prop_map(|(seq, digest)| Record::Sent { seq, digest }),
        2 => (number(), number()).prop_map(|(seq, number)| Record::Memo { seq, number, memo: memo(number) }),
        1 => (number(), number()).prop_map(|(seq, number)| Record::Forgotten { seq, number }),
        1 => (number(), number(), wanted, number())
            .prop_map(|(seq, place, wanted, at)| Record::Asked { seq, place, wanted, at }),
        1 => (number(), number(), prop::option::of(class()), prop::option::of(number()))
            .prop_map(|(wait, seq, class, due)| Record::Waiting { wait, waiting: Waiting { seq, class, due } }),
        1 => number().prop_map(|wait| Record::WaitOver { wait }),
        1 => (number(), number()).prop_map(|(seq, event)| Record::Received { seq, event }),
        1 => (number(), kept()).prop_map(|(seq, number)| Record::ReceivedKept { seq, number }),
        1 => (number(), number()).prop_map(|(seq, place)| Record::Returned { seq, place }),
        1 => (number(), step(), prop::option::of(key()), prop::collection::vec(class(), 0..4)).prop_map(
            |(group, step, key, expected)| Record::Grouped { group, step, key, expected: expected.into() }
        ),
        4 => (number(), number(), class(), number())
            .prop_map(|(seq, group, class, event)| Record::Collected { seq, group, class, event }),
        1 => (kept(), number()).prop_map(|(number, event)| Record::Kept { number, event }),
        1 => kept().prop_map(|number| Record::KeptTaken { number }),
        1 => (any::<bool>(), number()).prop_map(|(is_from_outside, event)| Record::Held { is_from_outside, event }),
        1 => number().prop_map(|event| Record::HeldAgain { event }),
        1 => (0..4_u64).prop_map(|place| Record::Released { place }),
        1 => number().prop_map(|event| Record::Published { event }),
        1 => Just(Record::Paused),
        1 => Just(Record::Resumed),
        1 => prop::bool::weighted(0.02).prop_map(|ends| if ends { Record::Ended } else { Record::Due { seq: 0 } }),
    ]
}

fn plan_of_two() -> Arc<Plan> {
    let step = |name: &str| StepPlan { name: name.into(), ..StepPlan::default() };
    Arc::new(Plan { name: "flow".into(), steps: vec![step("one"), step("two")], ..Plan::default() })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_the_records_say_they_are_folded_or_refused_and_a_run_goes_on_from_what_was_folded(
        records in prop::collection::vec(any_record(), 0..150),
    ) {
        let mut accepted = Vec::new();
        let mut image = empty_image();
        for record in records {
            match image.apply(record.clone()) {
                Ok(()) => accepted.push(record),
                Err(error) => {
                    prop_assert!(matches!(error, Error::InvalidRecord(_)));
                    // The image is void now.
                    image = fold_of(&accepted);
                }
            }
            prop_assert_eq!(image.check(), Ok(()));
        }
        let mut run: TestRun = Run::restore(image, plan_of_two());
        let image = run.image();
        let again: TestRun = Run::restore(run.image(), plan_of_two());
        prop_assert_eq!(again.image(), image);
        run_dry(&mut run);
    }
}

fn fold_of(records: &[TestRecord]) -> TestImage {
    let mut image = empty_image();
    records.iter().for_each(|record| image.apply(record.clone()).unwrap());
    image
}

/// Whatever is left is done, or tried again and then done.
fn run_dry(run: &mut TestRun) {
    if run.phase() != Phase::Running {
        return;
    }
    run.resume();
    release_all(run);
    run.keep(1).unwrap();
    run.keep_again(2).unwrap();
    while let Some(started) = run.start_next(|| 1) {
        run.finish_step(started.slot);
    }
    while let Some(Deadline::Retry(_)) = run.expire(u64::MAX) {
        let started = run.start_next(|| 1).expect("it is queued");
        run.finish_step(started.slot);
    }
    assert!(run.is_stalled() && !run.is_settling());
    assert!(run.kept().map(|(number, _)| number).is_sorted());
}

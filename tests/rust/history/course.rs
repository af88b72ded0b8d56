//! The attempts of a run, as its records tell them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use treadle::history::{AttemptEnd, Course, History, Trusted};
use treadle::journal::Sign;
use treadle::{Body, EncodedEvent, EncodedRecord, Failure, Record, StepId, Wanted};

use super::live::Live;
use super::{new_image, set, signer, written};

fn event(class: &str) -> EncodedEvent {
    EncodedEvent { class: class.into(), body: Body::Fields(Vec::new()) }
}

fn queued(seq: u64, step: u32) -> EncodedRecord {
    Record::Queued { seq, step: StepId(step), event: event("Piece") }
}

fn course_of(records: &[EncodedRecord]) -> Course {
    let loaded = written(&new_image(), 0, records, Sign::Opaque);
    let signer = signer(Sign::Opaque);
    let mut course = Course::default();
    course.add(&History::new(&loaded, Trusted::Signed(&signer)), true).unwrap();
    course
}

#[test]
fn what_a_step_returns_is_queued_when_it_is_done_and_names_it_as_its_cause() {
    let mut course = course_of(&[
        queued(1, 0),
        Record::Started { seq: 1, at: 10 },
        queued(2, 1),
        Record::Finished { seq: 1, at: 30 },
        Record::Started { seq: 2, at: 50 },
    ]);
    course.finish(false, None);
    let [first, second] = &course.attempts[..] else { panic!("{:?}", course.attempts) };
    assert_eq!((first.began, first.ended, first.end), (Some(10), Some(30), AttemptEnd::Finished));
    assert_eq!((second.queued, second.began, second.ended), (Some(30), Some(50), None));
    assert_eq!((second.cause, second.end), (Some(0), AttemptEnd::Running));
    assert_eq!((second.record, second.began_record, second.ended_record), (3, 5, 0));
    assert_eq!(course.steps.as_slice(), ["one".into(), "two".into()]);
}

#[test]
fn a_time_that_nobody_took_is_not_made_up() {
    let course = course_of(&[
        queued(1, 0),
        Record::Started { seq: 1, at: 10 },
        queued(2, 1),
        set("key", "1"),
        Record::Finished { seq: 1, at: 0 },
    ]);
    let [first, second] = &course.attempts[..] else { panic!("{:?}", course.attempts) };
    assert_eq!((first.queued, first.ended, first.ended_record), (None, None, 5));
    assert_eq!((second.queued, second.cause), (None, None));
}

#[test]
fn an_attempt_that_failed_has_another_one_behind_it() {
    let failure = Failure { attempt: 1, text: Failure::text_of(1, "ValueError", "no").into() };
    let course = course_of(&[
        queued(1, 0),
        Record::Started { seq: 1, at: 10 },
        Record::Retried { seq: 1, failure, at: 20, due: 40 },
        Record::Due { seq: 1 },
        Record::Started { seq: 1, at: 41 },
    ]);
    let ends: Vec<_> = course.attempts.iter().map(|it| (it.number, it.end)).collect();
    assert_eq!(ends, [(1, AttemptEnd::Failed), (2, AttemptEnd::Running)]);
    assert_eq!(course.failures, [(0, "ValueError: no".into())]);
}

#[test]
fn a_body_that_begins_again_is_the_same_attempt() {
    let course = course_of(&[queued(1, 0), Record::Started { seq: 1, at: 10 }, Record::Started { seq: 1, at: 90 }]);
    let ends: Vec<_> = course.attempts.iter().map(|it| (it.number, it.end, it.began)).collect();
    assert_eq!(ends, [(1, AttemptEnd::BegunAgain, Some(10)), (1, AttemptEnd::Running, Some(90))]);
}

#[test]
fn a_body_that_sleeps_does_so_since_it_asked_and_is_cut_short_by_the_end_of_the_run() {
    let mut course = course_of(&[
        queued(1, 0),
        queued(2, 1),
        Record::Started { seq: 1, at: 10 },
        Record::Asked { seq: 1, place: 0, wanted: Wanted::Sleep(100), at: 115 },
    ]);
    course.finish(false, Some(200));
    let [first, second] = &course.attempts[..] else { panic!("{:?}", course.attempts) };
    assert_eq!((first.waits, first.end, first.ended), (Some(15), AttemptEnd::CutShort, Some(200)));
    assert_eq!((second.end, second.ended), (AttemptEnd::NeverBegun, None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_attempts_that_are_open_are_those_of_the_deliveries_that_are_not_done(
        operations in prop::collection::vec((any::<u8>(), any::<usize>()), 0..60),
    ) {
        let mut live = Live::new(Sign::Opaque);
        operations.into_iter().for_each(|(operation, which)| live.operate(operation, which));
        let (loaded, signer) = (live.loaded(), signer(Sign::Opaque));
        let history = History::new(&loaded, Trusted::Signed(&signer));
        let (image, mut course) = (history.image().unwrap(), Course::default());
        course.add(&history, true).unwrap();
        let last: BTreeMap<u64, _> = course.attempts.iter().map(|it| (it.delivery, it)).collect();
        let open: Vec<u64> = last.values().filter(|it| it.end != AttemptEnd::Finished).map(|it| it.delivery).collect();
        if image.status != treadle::Status::Ended {
            prop_assert_eq!(&open, &image.pending.keys().copied().collect::<Vec<_>>());
        }
        for (delivery, pending) in &image.pending {
            let attempt = last[delivery];
            let number = attempt.number + u32::from(attempt.end == AttemptEnd::Failed);
            prop_assert_eq!(number, pending.attempt);
            prop_assert_eq!(&course.steps.as_slice()[attempt.step as usize], &image.steps[pending.step.0 as usize]);
            prop_assert_eq!(&course.classes.as_slice()[attempt.class as usize], &pending.event.class);
        }
        for (place, attempt) in course.attempts.iter().enumerate() {
            prop_assert!(attempt.cause.is_none_or(|cause| cause < place));
            prop_assert!(attempt.began <= attempt.ended || attempt.ended.is_none());
        }
    }
}

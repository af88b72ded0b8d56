//! Why a run waits.

use treadle::history::{Reason, why};
use treadle::journal::{OwnerId, Phase, RunRow, Status};
use treadle::{
    Body, Child, Collected, EncodedEvent, EncodedImage, Failure, Grouped, Held, Kept, Memo, MemoCall, OnParentEnd,
    OpenChild, Pending, Replay, RunId, StepId, Turn, Waiting,
};

use super::{new_image, row};

fn event(class: &str) -> EncodedEvent {
    EncodedEvent { class: class.into(), body: Body::Fields(vec![]) }
}

fn pending(step: u32) -> Pending<EncodedEvent, std::sync::Arc<str>> {
    let (event, replay) = (event("Page"), Replay::default());
    Pending { step: StepId(step), attempt: 1, due: None, since: Some(5), event, replay }
}

fn in_phase(phase: Phase) -> RunRow {
    row(3, Status { phase, due: None })
}

fn inside(image: &EncodedImage) -> Vec<Reason<'_>> {
    why(Box::leak(Box::new(in_phase(Phase::Waiting))), Some(image))
        .into_iter()
        .filter(|reason| !matches!(reason, Reason::Deadline { .. }))
        .collect()
}

#[test]
fn a_run_that_is_over_or_stranded_needs_no_image() {
    for phase in [Phase::Completed, Phase::Failed, Phase::Cancelled] {
        assert_eq!(why(&in_phase(phase), None), [Reason::Over(phase)]);
    }
    let stranded = RunRow { reason: Some("damaged".into()), ..in_phase(Phase::Stranded) };
    assert_eq!(why(&stranded, None), [Reason::Stranded { why: Some("damaged") }]);
}

#[test]
fn who_has_the_run_and_what_nobody_has_taken_comes_first() {
    let ready = RunRow { not_before: Some(9), inbox: 2, ..in_phase(Phase::Ready) };
    let image = new_image();
    let reasons = why(&ready, Some(&image));
    assert_eq!(reasons[0], Reason::NotTaken { not_before: Some(9), refused: None });
    assert_eq!(reasons[1], Reason::Inbox { messages: 2 });
    let owned = RunRow { owner: Some(OwnerId([1; 16])), ..in_phase(Phase::Paused) };
    let reasons = why(&owned, Some(&image));
    assert_eq!(reasons[..2], [Reason::Executed { by: OwnerId([1; 16]) }, Reason::Paused]);
    // One that merely waits is left where it is.
    assert!(why(&in_phase(Phase::Waiting), Some(&image)).iter().all(|it| matches!(it, Reason::Deadline { at: 400 })));
}

#[test]
fn a_delivery_says_one_thing_what_it_waits_for_when_it_comes_again_or_that_it_runs() {
    let mut image = new_image();
    image.pending.extend((1..=5).map(|seq| (seq, pending(u32::from(seq == 5)))));
    image.waits.insert(1, Waiting { seq: 1, class: Some("Answer".into()), due: Some(7) });
    image.waits.insert(2, Waiting { seq: 2, class: None, due: Some(8) });
    let retried = image.pending.get_mut(&3).unwrap();
    (retried.attempt, retried.due) = (2, Some(9));
    retried.replay.failures.push(Failure { attempt: 1, text: "attempt 1: ValueError: no".into() });
    image.pending.get_mut(&5).unwrap().since = None;
    let (answer, page) = ("Answer".into(), "Page".into());
    let expected = [
        Reason::Event { delivery: 1, step: Some("one"), class: &answer, due: Some(7) },
        Reason::Sleep { delivery: 2, step: Some("one"), due: Some(8) },
        Reason::Retry {
            delivery: 3,
            step: Some("one"),
            attempt: 2,
            due: 9,
            failure: Some("attempt 1: ValueError: no"),
        },
        Reason::Running { delivery: 4, step: Some("one"), attempt: 1, since: 5 },
        Reason::Queued { delivery: 5, step: Some("two"), class: &page },
    ];
    assert_eq!(inside(&image), expected);
}

#[test]
fn a_child_is_named_with_its_workflow_as_long_as_its_step_is_there() {
    let child = RunId::from_bytes([9; 16]);
    let mut image = new_image();
    let mut waits = pending(0);
    let kept = Kept::Child(Box::new(Child {
        id: child,
        workflow: "small".into(),
        on_parent_end: OnParentEnd::Cancel,
        end: None,
        inside: None,
    }));
    let call = MemoCall { name: "run".into(), arguments: [1; 32], turn: Turn::Ordered(1) };
    waits.replay.memos.put(1, Memo { call, kept });
    image.pending.insert(1, waits);
    image.children.insert(child, OpenChild { seq: 1, number: 1, on_parent_end: OnParentEnd::Cancel });
    let named = Reason::Child { delivery: 1, step: Some("one"), child, workflow: Some("small") };
    assert_eq!(inside(&image), std::slice::from_ref(&named));
    // While the run moves, its body may do anything.
    assert!(why(&in_phase(Phase::Ready), Some(&image)).contains(&Reason::Running {
        delivery: 1,
        step: Some("one"),
        attempt: 1,
        since: 5,
    }));
    image.pending.clear();
    assert_eq!(inside(&image), [Reason::Child { delivery: 1, step: None, child, workflow: None }]);
}

#[test]
fn what_is_collected_deferred_and_kept_is_counted_by_class() {
    let mut image = new_image();
    let classes: Vec<std::sync::Arc<str>> = ["A", "B", "A", "A"].map(Into::into).into();
    let mut collected = Collected::new(classes);
    collected.add("A".into(), event("A")).unwrap();
    image.groups.insert(1, Grouped { step: StepId(1), key: Some("all".into()), collected });
    image.held.extend(["C", "D", "C"].map(|class| Held { is_from_outside: true, event: event(class) }));
    image.kept.insert(1 << 62, event("E"));
    let names: Vec<std::sync::Arc<str>> = ["A", "B", "C", "D", "E"].map(Into::into).into();
    let expected = [
        Reason::Collecting {
            step: Some("two"),
            key: Some("all"),
            missing: vec![(&names[0], 2), (&names[1], 1)],
            collected: 1,
        },
        Reason::Deferred { events: vec![(&names[2], 2), (&names[3], 1)] },
        Reason::KeptEvents { events: vec![(&names[4], 1)] },
    ];
    assert_eq!(inside(&image), expected);
}

//! Children of a run: which one a body means, what it gave, and what the fold of the records says of them.

use std::sync::Arc;

use bytes::Bytes;
use treadle::journal::{IfOver, Message, Outgoing};
use treadle::{
    Child, ChildBegun, ChildCall, ChildEnd, Error, Image, MemoCall, OnParentEnd, Plan, Routes, Run, RunId, Slot,
    StepId, StepPlan, Strand, Tag, Value,
};

use crate::guest::Guest;

type Parent = Run<Guest>;

fn plan() -> Arc<Plan> {
    let mut routes = Routes::default();
    routes.add([StepId(0)]);
    let steps = vec![StepPlan { name: "work".into(), ..StepPlan::default() }];
    Arc::new(Plan { name: "parent".into(), steps, routes, stream_limit: 1, ..Plan::default() })
}

fn parent() -> (Parent, Slot) {
    let mut run = Parent::new(RunId::new(1, [1; 10]), plan(), 0);
    run.start_log();
    run.acknowledge(u64::MAX);
    run.deliver_to(StepId(0), 7).unwrap();
    let slot = run.start_next(|| 1).unwrap().slot;
    (run, slot)
}

fn id(number: u8) -> RunId {
    RunId::new(5, [number; 10])
}

fn value(text: &str) -> Value {
    Value::new(Tag::Json, text.to_owned())
}

fn call(name: &str, input: u8) -> (String, [u8; 32]) {
    (name.to_owned(), [input; 32])
}

fn begin(
    run: &mut Parent,
    slot: Slot,
    name: &str,
    is_named: bool,
    input: u8,
) -> Result<Result<RunId, MemoCall>, Error> {
    let (name, input) = call(name, input);
    let call = ChildCall { name: &name, is_named, input: &input, max_depth: 100 };
    Ok(match run.begin_child(slot, Strand::BODY, &call)? {
        ChildBegun::Before(_, child) => Ok(child.id),
        ChildBegun::New(call, _) => Err(call),
    })
}

fn start(run: &mut Parent, slot: Slot, name: &str, input: u8, child: RunId) {
    let begun = begin(run, slot, name, false, input).unwrap().expect_err("it is new");
    start_begun(run, slot, begun, child, OnParentEnd::Cancel);
}

fn start_begun(run: &mut Parent, slot: Slot, begun: MemoCall, id: RunId, on_parent_end: OnParentEnd) {
    let child = Child { id, workflow: "child".into(), on_parent_end, end: None, inside: None };
    run.start_child(slot, Strand::BODY, begun, child).unwrap();
}

/// Another body of the same delivery.
fn again(run: &mut Parent, slot: Slot) -> Slot {
    run.put_back(slot).unwrap();
    run.start_next(|| 2).unwrap().slot
}

fn folded(run: &mut Parent) -> Image<u64, Value, u8> {
    let mut image = Image::new(run.id(), "parent", vec!["work".into()], 0, None);
    for record in run.take_log() {
        image.apply(record).unwrap();
    }
    image
}

#[test]
fn a_body_that_runs_again_finds_the_same_children_in_their_order() {
    let (mut run, slot) = parent();
    start(&mut run, slot, "a", 1, id(1));
    start(&mut run, slot, "a", 1, id(2));
    let slot = again(&mut run, slot);
    assert_eq!(begin(&mut run, slot, "a", false, 1), Ok(Ok(id(1))));
    assert_eq!(begin(&mut run, slot, "a", false, 1), Ok(Ok(id(2))));
    assert!(begin(&mut run, slot, "a", false, 1).unwrap().is_err());
}

#[test]
fn what_a_child_gave_is_there_for_every_body() {
    let (mut run, slot) = parent();
    start(&mut run, slot, "a", 1, id(1));
    assert_eq!(run.child_end(slot, 1), None);
    assert_eq!(run.end_child(id(1), ChildEnd::Result(value("5"))), Ok(None));
    assert_eq!(run.child_end(slot, 1), Some(&ChildEnd::Result(value("5"))));
    let slot = again(&mut run, slot);
    assert_eq!(run.child_end(slot, 1), Some(&ChildEnd::Result(value("5"))));
    assert!(!run.has_open_child(id(1)));
}

#[test]
fn a_child_ends_once_and_only_if_it_was_started() {
    let (mut run, slot) = parent();
    start(&mut run, slot, "a", 1, id(1));
    let end = || ChildEnd::Failure(value("0"));
    assert_eq!(run.end_child(id(2), end()), Err(end()));
    assert_eq!(run.end_child(id(1), end()), Ok(None));
    assert_eq!(run.end_child(id(1), end()), Err(end()));
}

#[test]
fn the_end_of_a_child_is_kept_wherever_its_delivery_is() {
    let (mut run, slot) = parent();
    start(&mut run, slot, "a", 1, id(1));
    start(&mut run, slot, "a", 2, id(2));
    run.put_back(slot).unwrap();
    run.end_child(id(1), ChildEnd::Result(value("1"))).unwrap();
    let slot = run.start_next(|| 2).unwrap().slot;
    run.retry(slot, "failed".into(), 9).unwrap();
    run.end_child(id(2), ChildEnd::Result(value("2"))).unwrap();
    let image = run.image();
    assert_eq!(folded(&mut run), image);
    assert_eq!(image.pending[&1].replay.memos.iter().filter_map(|(_, memo)| memo.kept.value()).count(), 2);
}

#[test]
fn a_child_outlives_its_step_and_the_parent_knows_it() {
    let (mut run, slot) = parent();
    start(&mut run, slot, "a", 1, id(1));
    run.finish_step(slot);
    assert!(run.has_open_child(id(1)));
    let image = run.image();
    assert_eq!(image.children.len(), 1);
    image.check().unwrap();
    assert_eq!(folded(&mut run), image);
    // Nothing is left that could be told.
    assert_eq!(run.end_child(id(1), ChildEnd::Result(value("1"))), Ok(Some(ChildEnd::Result(value("1")))));
}

#[test]
fn a_child_that_no_body_comes_to_again_is_to_be_cancelled_unless_it_is_detached() {
    let (mut run, slot) = parent();
    start(&mut run, slot, "a", 1, id(1));
    let begun = begin(&mut run, slot, "b", false, 1).unwrap().expect_err("it is new");
    start_begun(&mut run, slot, begun, id(2), OnParentEnd::Detach);
    start(&mut run, slot, "c", 1, id(3));
    run.end_child(id(3), ChildEnd::Result(value("1"))).unwrap();
    let slot = again(&mut run, slot);
    start(&mut run, slot, "other", 1, id(4));
    assert_eq!(run.take_void_children(), [id(1)]);
    assert_eq!(run.take_void_children(), []);
    let image = run.image();
    assert_eq!(folded(&mut run), image);
}

#[test]
fn the_end_of_a_child_whose_memo_is_void_is_that_of_no_other_child() {
    let (mut run, slot) = parent();
    start(&mut run, slot, "a", 1, id(1));
    let slot = again(&mut run, slot);
    // It has the number that the first one had.
    start(&mut run, slot, "a", 2, id(2));
    let gave = ChildEnd::Failure(value("cancelled"));
    assert_eq!(run.end_child(id(1), gave.clone()), Ok(Some(gave)));
    assert_eq!(run.child_end(slot, 1), None);
    assert!(run.has_open_child(id(2)));
    let image = run.image();
    assert_eq!(folded(&mut run), image);
}

#[test]
fn a_child_that_is_to_be_made_again_is_made_once_and_by_the_call_that_can() {
    let (mut run, slot) = parent();
    start(&mut run, slot, "a", 1, id(1));
    assert!(!run.is_to_be_made(slot, 1));
    let mut image = run.image();
    for pending in image.pending.values_mut() {
        pending.replay.memos.open_children_mut().for_each(|(_, child)| child.inside = Some(Bytes::new()));
    }
    let mut restored = Parent::restore(image, plan());
    let slot = restored.start_next(|| 1).unwrap().slot;
    assert_eq!(begin(&mut restored, slot, "a", false, 1), Ok(Ok(id(1))));
    // A call that fails after that leaves it to the next one.
    assert!(restored.is_to_be_made(slot, 1));
    let made = || Outgoing::Send {
        to: id(1),
        message: Message { id: [0; 16], kind: 0, body: Vec::new() },
        if_over: IfOver::Drop,
    };
    assert!(restored.make_again(slot, 1, made()));
    assert!(!restored.make_again(slot, 1, made()));
    assert_eq!(restored.take_outgoing(), [made()]);
}

#[test]
fn a_key_names_a_child_in_whatever_order() {
    let (mut run, slot) = parent();
    for (key, child) in [("x", id(1)), ("y", id(2))] {
        let begun = begin(&mut run, slot, key, true, 1).unwrap().expect_err("it is new");
        start_begun(&mut run, slot, begun, child, OnParentEnd::Cancel);
    }
    assert_eq!(begin(&mut run, slot, "x", true, 1), Ok(Ok(id(1))));
    let slot = again(&mut run, slot);
    start(&mut run, slot, "x", 1, id(3));
    assert_eq!(begin(&mut run, slot, "y", true, 1), Ok(Ok(id(2))));
    assert_eq!(begin(&mut run, slot, "x", true, 1), Ok(Ok(id(1))));
    assert_eq!(begin(&mut run, slot, "x", true, 2), Err(Error::OtherInput));
}

#[test]
fn a_family_is_no_deeper_than_it_may_be() {
    let (mut run, slot) = parent();
    let input = [0; 32];
    let call = ChildCall { name: "a", is_named: false, input: &input, max_depth: 0 };
    let refused = run.begin_child(slot, Strand::BODY, &call).err();
    assert_eq!(refused, Some(Error::TooDeep { depth: 1 }));
    let family = run.family_of_child();
    assert_eq!((family.parent, family.root, family.depth), (run.id(), run.id(), 1));
    run.belong(treadle::Family { parent: id(8), root: id(9), depth: 4 });
    let family = run.family_of_child();
    assert_eq!((family.parent, family.root, family.depth), (run.id(), id(9), 5));
}

#[test]
fn a_restored_run_knows_its_family_and_its_children() {
    let (mut run, slot) = parent();
    run.belong(treadle::Family { parent: id(8), root: id(9), depth: 4 });
    start(&mut run, slot, "a", 1, id(1));
    let mut restored = Parent::restore(run.image(), plan());
    assert_eq!(restored.image(), run.image());
    let slot = restored.start_next(|| 1).unwrap().slot;
    assert_eq!(begin(&mut restored, slot, "a", false, 1), Ok(Ok(id(1))));
    restored.end_child(id(1), ChildEnd::Result(value("1"))).unwrap();
    assert_eq!(restored.child_end(slot, 1), Some(&ChildEnd::Result(value("1"))));
}

#[test]
fn a_run_that_waits_for_children_alone_is_idle() {
    let (mut run, slot) = parent();
    start(&mut run, slot, "a", 1, id(1));
    assert!(!run.is_idle());
    run.await_child(slot, id(1), true);
    run.await_child(slot, id(1), false);
    assert!(run.is_idle());
    run.child_awaited(slot, id(1));
    assert!(run.is_idle());
    run.child_awaited(slot, id(1));
    assert!(!run.is_idle());
}

#[test]
fn no_child_is_known_that_the_parent_has_not_started() {
    let (mut run, slot) = parent();
    start(&mut run, slot, "a", 1, id(1));
    let mut image = run.image();
    image.children.clear();
    assert!(matches!(image.check(), Err(Error::InvalidImage(_))));
    let mut image = run.image();
    image.children.get_mut(&id(1)).unwrap().seq = 99;
    assert!(matches!(image.check(), Err(Error::InvalidImage(_))));
}

#[test]
fn a_run_waits_no_longer_once_the_child_has_ended_that_its_body_awaits() {
    let (mut run, slot) = parent();
    for (number, is_of_body) in [(1, true), (2, false)] {
        start(&mut run, slot, "work", number, id(number));
        run.await_child(slot, id(number), is_of_body);
        assert!(run.only_waits());
        run.end_child(id(number), ChildEnd::Result(value("1"))).unwrap();
        assert!(!run.only_waits(), "its body goes on, though it has not yet");
        run.child_awaited(slot, id(number));
        assert!(!run.only_waits());
    }
}

#[test]
fn a_paused_run_is_quiet_until_it_goes_on_with_what_a_child_gave() {
    let (mut run, slot) = parent();
    start(&mut run, slot, "work", 1, id(1));
    run.await_child(slot, id(1), true);
    run.pause().unwrap();
    run.end_child(id(1), ChildEnd::Result(value("1"))).unwrap();
    assert!(run.is_quiet(), "its body is not told yet");
    run.resume();
    assert!(!run.is_quiet());
    run.child_awaited(slot, id(1));
    assert!(!run.is_quiet());
}

#[test]
fn a_run_of_which_a_task_awaits_a_child_may_move_otherwise() {
    let (mut run, slot) = parent();
    start(&mut run, slot, "work", 1, id(1));
    start(&mut run, slot, "work", 2, id(2));
    run.await_child(slot, id(1), true);
    assert!(!run.may_move_while_waiting());
    run.await_child(slot, id(2), false);
    assert!(run.only_waits() && run.may_move_while_waiting());
    run.child_awaited(slot, id(2));
    assert!(run.only_waits() && run.may_move_while_waiting(), "the task does something else now");
}

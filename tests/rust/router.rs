//! The router: a step that sends, waiters that accept or decline, and what happens between a question and its answer.

use std::sync::Arc;

use treadle::{
    Answer, EventKind, Lookup, Origin, Plan, Question, Route, Routed, Routes, Routing, Run, RunId, Slot, StepId,
    StepPlan, WaitId,
};

use crate::guest::Guest;

type TestRun = Run<Guest<&'static str>>;

const TO_STEP: Route = Route::Steps(EventKind(0));

fn plan() -> Arc<Plan> {
    let step = |name: &str| StepPlan { name: name.into(), ..StepPlan::default() };
    let mut routes = Routes::default();
    routes.add([StepId(0)]);
    Arc::new(Plan { steps: vec![step("a"), step("b")], routes, ..Plan::default() })
}

/// A run of which so many steps are in flight.
fn run(in_flight: u64) -> (TestRun, Vec<Slot>) {
    let mut run = TestRun::new(RunId::new(0, [0; 10]), plan(), 0);
    run.start_log();
    run.acknowledge(u64::MAX);
    let slots = (0..in_flight).map(|event| {
        run.deliver(EventKind(0), event).expect("it runs");
        run.start_next(|| 0).expect("it is queued").slot
    });
    let slots = slots.collect();
    (run, slots)
}

fn waits(run: &mut TestRun, slot: Slot, class: u8) -> WaitId {
    run.wait(slot, "a waiter", Some(class), None).expect("the run is not over")
}

/// Routes events up to where they go, with one answer for each question.
fn route(
    run: &mut TestRun,
    routing: &mut Routing<Guest<&'static str>>,
    answers: &[Answer],
) -> Routed<Guest<&'static str>> {
    let mut answers = answers.iter();
    loop {
        match routing.advance(run, || 0) {
            Routed::Ask(question) => routing.answer(question, *answers.next().expect("a question too many")),
            routed => {
                assert_eq!(answers.next(), None, "questions are missing");
                return routed;
            }
        }
    }
}

#[test]
fn an_event_goes_to_the_first_waiter_that_accepts_it() {
    let (mut run, slots) = run(2);
    let first = waits(&mut run, slots[0], 1);
    let second = waits(&mut run, slots[1], 1);
    let mut routing = Routing::new(Origin::Outside, [(7, TO_STEP)]);
    let Routed::Arrived(arrival) = route(&mut run, &mut routing, &[Answer::No, Answer::Yes]) else {
        panic!("it arrives")
    };
    let received: Vec<_> = arrival.received.iter().map(|(over, event)| (over.slot, *event)).collect();
    assert_eq!((received, arrival.is_queued), (vec![(slots[1], 7)], false));
    assert!(run.is_waiting(first) && !run.is_waiting(second));
}

#[test]
fn a_waiter_that_is_gone_before_the_event_arrives_does_not_receive_it() {
    let (mut run, slots) = run(1);
    let wait = waits(&mut run, slots[0], 1);
    let mut routing = Routing::new(Origin::Outside, [(7, TO_STEP)]);
    let Routed::Ask(question) = routing.advance(&mut run, || 0) else { panic!("it waits") };
    run.end_wait(wait);
    routing.answer(question, Answer::Yes);
    let Routed::Arrived(arrival) = route(&mut run, &mut routing, &[]) else { panic!("it arrives") };
    assert!(arrival.received.is_empty() && arrival.is_queued);
}

#[test]
fn a_waiter_that_comes_while_another_is_asked_is_asked_as_well() {
    let (mut run, slots) = run(2);
    waits(&mut run, slots[0], 1);
    let mut routing = Routing::new(Origin::Outside, [(7, TO_STEP)]);
    let Routed::Ask(question) = routing.advance(&mut run, || 0) else { panic!("it waits") };
    let late = waits(&mut run, slots[1], 1);
    routing.answer(question, Answer::No);
    let Routed::Ask(question) = routing.advance(&mut run, || 0) else { panic!("another waits") };
    assert!(matches!(question, Question::Accepts { wait, .. } if wait == late));
}

#[test]
fn two_events_never_go_to_one_waiter() {
    let (mut run, slots) = run(1);
    waits(&mut run, slots[0], 1);
    let mut routing = Routing::new(Origin::Outside, [(7, TO_STEP), (8, TO_STEP)]);
    let Routed::Arrived(arrival) = route(&mut run, &mut routing, &[Answer::Yes]) else { panic!("they arrive") };
    assert_eq!(arrival.received.iter().map(|(_, event)| *event).collect::<Vec<_>>(), [7]);
    assert_eq!(run.ready(), 1);
}

#[test]
fn a_waiter_that_is_being_stopped_keeps_its_place_before_later_ones() {
    let (mut run, slots) = run(2);
    waits(&mut run, slots[0], 1);
    waits(&mut run, slots[1], 1);
    run.stop(slots[0]);
    let mut routing = Routing::new(Origin::Outside, [(7, TO_STEP)]);
    let Routed::Arrived(arrival) = route(&mut run, &mut routing, &[Answer::Gone]) else { panic!("it arrives") };
    assert!(arrival.is_delayed && arrival.received.is_empty() && run.has_held());
}

#[test]
fn an_event_is_compared_with_each_wait_to_come_whatever_became_of_those_before() {
    let (mut run, slots) = run(2);
    let ids = [waits(&mut run, slots[0], 1), waits(&mut run, slots[1], 1)];
    for (slot, id) in slots.iter().zip(ids) {
        run.stop(*slot);
        run.give_up(id);
    }
    let mut routing = Routing::new(Origin::Outside, [(7, TO_STEP)]);
    let Routed::Ask(question) = routing.advance(&mut run, || 0) else { panic!("two will wait") };
    routing.answer(question, Answer::Yes);
    run.finish_step(slots[0]);
    let Routed::Arrived(arrival) = route(&mut run, &mut routing, &[Answer::Yes]) else { panic!("it arrives") };
    assert!(arrival.is_delayed && run.has_held());
}

#[test]
fn a_waiter_whose_answer_fails_waits_no_more_and_the_event_goes_on() {
    let (mut run, slots) = run(1);
    let wait = waits(&mut run, slots[0], 1);
    let mut routing = Routing::new(Origin::Outside, [(7, TO_STEP)]);
    let Routed::WaitFailed(over) = route(&mut run, &mut routing, &[Answer::Failed]) else { panic!("it fails") };
    assert!(over.slot == slots[0] && !run.is_waiting(wait));
    let Routed::Arrived(arrival) = route(&mut run, &mut routing, &[]) else { panic!("it arrives") };
    assert!(arrival.is_queued);
}

#[test]
fn a_step_is_done_in_the_step_in_which_its_events_arrive() {
    let (mut run, slots) = run(1);
    let before = run.recorded();
    let mut routing = Routing::new(Origin::Returned(slots[0]), [(7, TO_STEP), (8, TO_STEP)]);
    let Routed::Arrived(arrival) = route(&mut run, &mut routing, &[]) else { panic!("they arrive") };
    assert_eq!(arrival.finished.map(|delivery| delivery.seq), Some(slots[0].seq()));
    assert_eq!((run.in_flight(), run.ready(), run.recorded() - before), (0, 2, 3));
}

#[test]
fn an_entry_of_the_inbox_is_consumed_in_the_step_in_which_its_event_arrives() {
    let (mut run, _) = run(0);
    let mut routing = Routing::new(Origin::Inbox(3), [(7, Route::Nowhere)]);
    assert!(matches!(route(&mut run, &mut routing, &[]), Routed::Arrived(_)));
    assert_eq!((run.kept().count(), run.take_consumed(), run.has_consumed()), (1, vec![3], false));
    run.route_directly(Origin::Inbox(4), EventKind(0), 8, || 0).expect("nothing keeps it from the step");
    assert!(run.has_consumed());
}

#[test]
fn an_event_of_a_step_that_nothing_can_take_is_refused_and_nothing_else_moves() {
    let (mut run, slots) = run(1);
    let before = run.recorded();
    let mut routing = Routing::new(Origin::Returned(slots[0]), [(7, TO_STEP), (8, Route::Nowhere)]);
    assert!(matches!(route(&mut run, &mut routing, &[]), Routed::Unrouted(8)));
    assert_eq!((run.recorded(), run.ready(), run.in_flight()), (before, 0, 1));
}

#[test]
fn events_before_the_end_of_the_run_are_nothing_but_must_have_a_route() {
    let (mut run, slots) = run(1);
    let origin = Origin::Returned(slots[0]);
    let mut routing = Routing::new(origin, [(7, TO_STEP), (8, Route::Stop), (9, Route::Nowhere)]);
    assert!(matches!(route(&mut run, &mut routing, &[]), Routed::Ends(8)));
    let mut routing = Routing::new(origin, [(7, Route::Nowhere), (8, Route::Stop)]);
    assert!(matches!(route(&mut run, &mut routing, &[]), Routed::Unrouted(7)));
    assert_eq!((run.ready(), run.in_flight()), (0, 1));
}

#[test]
fn once_the_outcome_is_known_events_are_refused_and_a_second_end_is_left_to_the_host() {
    let (mut run, slots) = run(1);
    let _ = run.begin_end();
    let slot = slots[0];
    let mut of = |origin, route| Routing::new(origin, [(7, route)]).advance(&mut run, || 0);
    assert!(matches!(of(Origin::Outside, TO_STEP), Routed::RunEnded));
    assert!(matches!(of(Origin::Sent { slot, digest: 1 }, TO_STEP), Routed::RunEnded));
    assert!(matches!(of(Origin::Returned(slot), TO_STEP), Routed::Moot));
    assert!(matches!(of(Origin::GivenBack(slot), TO_STEP), Routed::Moot));
    assert!(matches!(of(Origin::Sent { slot, digest: 1 }, Route::Stop), Routed::Ends(7)));
    run.finish_step(slot);
    assert!(run.try_end());
    let mut of = |origin, route| Routing::new(origin, [(7, route)]).advance(&mut run, || 0);
    assert!(matches!(of(Origin::Sent { slot, digest: 1 }, Route::Stop), Routed::RunEnded));
    assert!(matches!(of(Origin::Outside, Route::Stop), Routed::Ends(7)));
}

#[test]
fn a_step_that_asks_looks_at_what_comes_meanwhile_before_it_waits() {
    let (mut run, slots) = run(1);
    run.keep(1).expect("it runs");
    let mut lookup = Lookup::new(slots[0]);
    assert_eq!(lookup.next(&run), Some(&1));
    assert_eq!(lookup.next(&run), None);
    run.keep(2).expect("it runs");
    assert_eq!(lookup.next(&run), Some(&2), "behind the others");
    run.keep_again(3).expect("it runs");
    assert_eq!(lookup.next(&run), Some(&3), "and before them");
    assert_eq!(lookup.receive(&mut run), Some(3));
    assert_eq!(lookup.receive(&mut run), None, "once");
}

#[test]
fn a_step_that_asks_finds_deferred_events_unless_the_run_is_paused() {
    let (mut run, slots) = run(1);
    run.hold(1, true).expect("it runs");
    assert_eq!(Lookup::new(slots[0]).next(&run), Some(&1));
    run.pause().expect("it runs");
    assert_eq!(Lookup::new(slots[0]).next(&run), None);
}

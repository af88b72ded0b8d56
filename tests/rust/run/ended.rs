//! A run whose outcome is known, or that is over.

use treadle::{Error, EventKind, Phase, Read};

use super::{Ev, ended, json, keeping, plan_of, run_of, sorted, start, step};

#[test]
fn nothing_is_put_back_or_started_once_the_outcome_is_known() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.deliver(EventKind(0), Ev(1)).unwrap();
    run.deliver(EventKind(0), Ev(2)).unwrap();
    let (slot, seq) = start(&mut run).unwrap();
    run.begin_end().unwrap();
    assert!(start(&mut run).is_none());
    let refused = run.put_back(slot).unwrap_err().expect("it was in flight");
    assert_eq!((refused.error, refused.value.seq, refused.value.event), (Error::RunEnded, seq, Ev(1)));
    assert!(matches!(run.put_back(slot), Err(None)));
    assert!(start(&mut run).is_none() && run.try_end());
}

#[test]
fn what_was_published_and_stored_can_be_read_when_the_run_is_over() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.publish(Ev(1)).unwrap();
    run.set("a", json(b"1")).unwrap();
    run.begin_end().unwrap();
    run.publish(Ev(2)).expect("steps that are being stopped may still say so");
    assert_eq!(run.set("a", json(b"2")), Ok(Some(json(b"1"))));
    assert!(run.try_end());
    assert_eq!(run.set("a", json(b"3")), Err(ended(json(b"3"))));
    assert_eq!(run.compare_and_set("b", None, json(b"3")), Err(ended(json(b"3"))));
    assert_eq!(run.delete("a"), Err(Error::RunEnded));
    assert_eq!(run.publish(Ev(3)), Err(ended(Ev(3))));
    assert_eq!(run.stream().read(1), Read::Event(&Ev(2)));
    assert_eq!(run.store().len(), 1);
}

#[test]
fn slots_of_a_run_that_is_over_name_nothing() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.deliver(EventKind(0), Ev(1)).unwrap();
    let (slot, _) = start(&mut run).unwrap();
    run.begin_end().unwrap();
    assert!(!run.try_end(), "a step is in flight");
    assert_eq!(run.event(slot), Some(&Ev(1)));
    run.finish_step(slot).unwrap();
    assert!(run.try_end() && !run.try_end());
    assert!(run.event(slot).is_none() && run.finish_step(slot).is_none());
}

#[test]
fn a_step_starts_only_while_the_run_is_running() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.deliver(EventKind(0), Ev(1)).unwrap();
    run.deliver(EventKind(0), Ev(2)).unwrap();
    assert!(start(&mut run).is_some());
    let remains = run.begin_end().unwrap();
    assert_eq!((start(&mut run), run.ready()), (None, 0));
    assert_eq!(remains.queue.waiting().map(|delivery| delivery.event.0).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_run_that_is_abandoned_gives_back_its_deliveries_and_is_over() {
    let mut run = run_of(plan_of(vec![step(None, Some(10)), step(Some(1), None)]), 0);
    for (kind, event) in [(0, 1), (1, 2), (1, 3), (0, 4)] {
        run.deliver(EventKind(kind), Ev(event)).unwrap();
    }
    let slots: Vec<_> = std::iter::from_fn(|| start(&mut run)).map(|(slot, _)| slot).collect();
    run.finish_step(slots[0]).unwrap();
    run.begin_end().unwrap();
    let deliveries = keeping(|| run.abandon());
    assert_eq!(sorted(deliveries.iter().map(|delivery| (delivery.seq, delivery.event.0))), [(2, 2), (4, 4)]);
    assert_eq!((run.phase(), run.in_flight(), run.has_deadline()), (Phase::Ended, 0, false));
    assert!(slots.iter().all(|&slot| run.event(slot).is_none() && run.finish_step(slot).is_none()));
    assert!(run.abandon().is_empty() && !run.try_end());
}

#[test]
fn a_run_whose_outcome_is_not_known_is_not_abandoned() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    (1..=2).for_each(|event| run.deliver(EventKind(0), Ev(event)).unwrap());
    let (slot, _) = start(&mut run).unwrap();
    assert!(run.abandon().is_empty());
    assert_eq!((run.phase(), run.in_flight()), (Phase::Running, 1));
    run.finish_step(slot).unwrap();
    assert!(start(&mut run).is_some());
}

#[test]
fn a_run_that_is_cleared_gives_back_its_values_and_what_it_published() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    run.publish(Ev(1)).unwrap();
    run.publish(Ev(2)).unwrap();
    run.set("a", json(b"1")).unwrap();
    run.begin_end().unwrap();
    assert!(run.try_end());
    let (store, stream, log) = keeping(|| run.clear());
    assert!(log.is_empty());
    assert_eq!(store.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["a"]);
    assert!(stream.kept().map(|event| event.0).eq([1, 2]));
    assert!(run.store().is_empty());
    assert_eq!(run.stream().read(0), Read::Pending);
}

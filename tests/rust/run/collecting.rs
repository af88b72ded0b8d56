//! Events that a step collects.

use std::cell::RefCell;
use std::sync::Arc;

use treadle::{Collecting, Error, Gathered, Leftover, Refused, StepId};

use super::{Ev, TestRun, keeping, plan_of, run_of, stale_slot, step};

/// A refused event without what would have kept its group's classes alive.
pub(super) fn event_alone(refused: Refused<(Ev, Option<Arc<[u8]>>)>) -> Refused<Ev> {
    Refused { error: refused.error, value: refused.value.0 }
}

pub(super) fn names(gathered: &Gathered<Ev, u8>) -> Option<Vec<u64>> {
    gathered.events.as_ref().map(|events| events.iter().map(|event| event.0).collect())
}

type Answer = Result<Gathered<Ev, u8>, Refused<Ev>>;

thread_local! {
    /// The lists of classes that groups were made with, and their names.
    static LISTS: RefCell<Vec<(Arc<[u8]>, u64)>> = const { RefCell::new(Vec::new()) };
}

fn new_list(expected: &[u8], name: u64) -> Arc<[u8]> {
    let list: Arc<[u8]> = expected.into();
    LISTS.with_borrow_mut(|lists| lists.push((Arc::clone(&list), name)));
    list
}

/// Collects an event of class 1; `name` is that of the list of classes, if a group has to be made.
pub(super) fn collect(run: &mut TestRun, group: (u32, Option<&str>), expected: &[u8], event: u64, name: u64) -> Answer {
    let class_of = |expects: &dyn Fn(&u8) -> bool| Some(1).filter(|class| expects(class));
    let call = Collecting { slot: stale_slot(), step: StepId(group.0), key: group.1, event: Ev(event) };
    let answer = keeping(|| run.collect(call, |other| other == expected, class_of, || new_list(expected, name)));
    answer.map_err(event_alone)
}

/// The events that a call gave, if it gave any, and the name of the list of classes, if the group is gone.
pub(super) fn collected(answer: Answer) -> Option<(Vec<u64>, Option<u64>)> {
    let gathered = answer.unwrap();
    let list = gathered.remains.as_ref().and_then(|remains| match remains {
        Leftover::Classes(list, _) => Some(list),
        Leftover::Event(_) => None,
    });
    let name =
        list.and_then(|list| LISTS.with_borrow(|lists| Some(lists.iter().find(|one| Arc::ptr_eq(&one.0, list))?.1)));
    Some((names(&gathered)?, name))
}

#[test]
fn groups_of_collected_events_are_told_apart_by_step_key_and_what_is_expected() {
    let mut run = run_of(plan_of(vec![step(None, None), step(None, None)]), 0);
    let mut collect =
        |step, key, expected: &[u8], event| collected(collect(&mut run, (step, key), expected, event, event * 100));
    assert_eq!(collect(0, None, &[1, 1], 1), None);
    assert_eq!(collect(1, None, &[1, 1], 2), None);
    assert_eq!(collect(0, Some(""), &[1, 1], 3), None);
    assert_eq!(collect(0, Some("a"), &[1, 1], 4), None);
    assert_eq!(collect(0, None, &[1, 1, 1], 5), None);
    assert_eq!(collect(0, Some("a"), &[1, 1], 6), Some((vec![4, 6], Some(400))));
    assert_eq!(collect(0, None, &[1, 1], 7), Some((vec![1, 7], Some(100))));
    assert_eq!(collect(0, None, &[1, 1, 1], 8), None);
    assert_eq!(collect(0, None, &[1, 1, 1], 9), Some((vec![5, 8, 9], Some(500))));
    assert_eq!(collect(0, Some("a"), &[1, 1], 10), None);
    assert_eq!(collect(0, Some("a"), &[1, 1], 11), Some((vec![10, 11], Some(1000))), "the group was made anew");
}

#[test]
fn a_group_that_is_complete_and_empty_is_forgotten_however_many_keys_there_were() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    for number in 0..10_000 {
        LISTS.with_borrow_mut(Vec::clear);
        let key = format!("order {number}");
        let group = (0, Some(&*key));
        assert_eq!(collected(collect(&mut run, group, &[1, 1], 1, number)), None);
        assert_eq!(collected(collect(&mut run, group, &[1, 1], 2, 0)), Some((vec![1, 2], Some(number))));
    }
    assert_eq!(run.events().count(), 0);
    let remains = run.begin_end().unwrap();
    keeping(|| drop(remains));
}

#[test]
fn a_group_with_a_surplus_is_remembered_until_that_is_given_too() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    let mut add = |class: u8, event| {
        let same = |expected: &[u8]| expected == [1, 2];
        let make = || new_list(&[1, 2], event * 100);
        let call = Collecting { slot: stale_slot(), step: StepId(0), key: None, event: Ev(event) };
        collected(keeping(|| run.collect(call, same, |_| Some(class), make)).map_err(event_alone))
    };
    assert_eq!((add(1, 1), add(1, 2)), (None, None));
    assert_eq!(add(2, 3), Some((vec![1, 3], None)), "the second event of class 1 still needs the classes");
    assert_eq!(add(2, 4), Some((vec![2, 4], Some(100))));
}

#[test]
fn an_event_of_another_class_is_given_back_and_the_group_is_as_it_was() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    let same = |expected: &[u8]| expected == [1, 1];
    assert_eq!(collected(collect(&mut run, (0, None), &[1, 1], 1, 100)), None);
    let make = || unreachable!("the group is there");
    let call = Collecting { slot: stale_slot(), step: StepId(0), key: None, event: Ev(2) };
    let refused = keeping(|| run.collect(call, same, |_| None, make));
    assert_eq!(refused.map_err(event_alone).unwrap_err(), Refused { error: Error::NotExpected, value: Ev(2) });
    assert_eq!(collected(collect(&mut run, (0, None), &[1, 1], 3, 0)), Some((vec![1, 3], Some(100))));
}

#[test]
fn an_event_that_is_refused_leaves_no_group_behind() {
    let mut run = run_of(plan_of(vec![step(None, None)]), 0);
    for number in 0..100 {
        let key = format!("order {number}");
        let refused = collect(&mut run, (0, Some(&key)), &[2, 2], 1, number).unwrap_err();
        assert_eq!(refused.error, Error::NotExpected);
    }
    let remains = run.begin_end().unwrap();
    keeping(|| drop(remains));
}

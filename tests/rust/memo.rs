//! Calls that are made once: which of them a body that runs again is given, and which are new.

use std::collections::BTreeMap;

use proptest::prelude::*;
use treadle::memo::Begun;
use treadle::{Kept, Memo, Memos, Strand};

type TestMemos = Memos<u64>;

fn arguments(number: u8) -> [u8; 32] {
    [number; 32]
}

fn begin(memos: &mut TestMemos, strand: Strand, name: &str, argument: u8) -> Begun {
    memos.begin(strand, name, &arguments(argument))
}

/// Makes a call: says what an earlier body was given, or keeps `gives`.
fn once(memos: &mut TestMemos, strand: Strand, name: &str, argument: u8, gives: u64) -> Option<u64> {
    match begin(memos, strand, name, argument) {
        Begun::Before(number) => memos.get(number).expect("it is kept").kept.value().copied(),
        Begun::New(call) => {
            keep(memos, strand, call, gives);
            None
        }
    }
}

fn keep(memos: &mut TestMemos, strand: Strand, call: treadle::MemoCall, gives: u64) {
    for number in memos.stray(strand, &call) {
        memos.forget(number).expect("it was kept");
    }
    memos.keep(Memo { call, kept: Kept::Result(gives) });
}

/// A body that makes these calls in its own task, one after the other: what each was given of an earlier body.
fn body(memos: &mut TestMemos, calls: &[(&str, u8)]) -> Vec<Option<u64>> {
    memos.rewind();
    let calls = calls.iter().enumerate();
    calls.map(|(at, (name, argument))| once(memos, Strand::BODY, name, *argument, 100 + at as u64)).collect()
}

#[test]
fn a_body_that_runs_again_is_given_what_each_call_gave() {
    let mut memos = TestMemos::default();
    let calls = [("a", 1), ("a", 1), ("b", 1), ("a", 2)];
    assert_eq!(body(&mut memos, &calls), [None; 4]);
    assert_eq!(body(&mut memos, &calls), [Some(100), Some(101), Some(102), Some(103)]);
    assert_eq!(body(&mut memos, &calls[..2]), [Some(100), Some(101)]);
    assert_eq!(memos.len(), 4);
}

#[test]
fn what_follows_a_call_that_differs_is_new() {
    let first = [("read", 1), ("write", 1), ("read", 1)];
    let cases: [&[(&str, u8)]; 5] = [
        &[("read", 2), ("write", 1), ("read", 1)],
        &[("look", 1), ("write", 1), ("read", 1)],
        &[("write", 1), ("read", 1)],
        &[("write", 1), ("read", 1), ("read", 1)],
        &[("look", 1), ("read", 1), ("write", 1), ("read", 1)],
    ];
    for changed in cases {
        let mut memos = TestMemos::default();
        body(&mut memos, &first);
        assert!(body(&mut memos, changed).iter().all(Option::is_none), "{changed:?}");
        // And the body after that is given what this one has kept.
        assert!(body(&mut memos, changed).iter().all(Option::is_some), "{changed:?}");
    }
}

#[test]
fn what_comes_before_a_call_that_differs_is_not_made_again() {
    let mut memos = TestMemos::default();
    body(&mut memos, &[("a", 1), ("b", 1), ("c", 1)]);
    assert_eq!(body(&mut memos, &[("a", 1), ("x", 1), ("b", 1), ("c", 1)]), [Some(100), None, None, None]);
    assert_eq!(body(&mut memos, &[("a", 1), ("b", 1)]), [Some(100), None], "nothing of the first body is left");
}

#[test]
fn a_call_that_kept_nothing_leaves_what_follows_as_it_is() {
    let mut memos = TestMemos::default();
    assert!(matches!(begin(&mut memos, Strand::BODY, "fails", 1), Begun::New(_)));
    assert_eq!(once(&mut memos, Strand::BODY, "a", 1, 7), None);
    memos.rewind();
    assert!(matches!(begin(&mut memos, Strand::BODY, "fails", 1), Begun::New(_)));
    assert_eq!(once(&mut memos, Strand::BODY, "a", 1, 8), Some(7));
}

#[test]
fn a_call_within_a_call_is_given_with_it_or_by_itself() {
    let mut memos = TestMemos::default();
    let Begun::New(outer) = begin(&mut memos, Strand::BODY, "outer", 1) else { panic!("it is new") };
    assert_eq!(once(&mut memos, Strand::BODY, "inner", 1, 5), None);
    memos.rewind();
    assert!(matches!(begin(&mut memos, Strand::BODY, "outer", 1), Begun::New(_)), "it was not done");
    assert_eq!(once(&mut memos, Strand::BODY, "inner", 1, 9), Some(5));
    keep(&mut memos, Strand::BODY, outer, 6);
    assert_eq!(once(&mut memos, Strand::BODY, "next", 1, 7), None);
    memos.rewind();
    assert_eq!(once(&mut memos, Strand::BODY, "outer", 1, 9), Some(6));
    assert_eq!(once(&mut memos, Strand::BODY, "next", 1, 9), Some(7), "the inner one is not made");
}

#[test]
fn in_other_strands_calls_are_known_in_any_order() {
    let mut memos = TestMemos::default();
    for argument in 0..3 {
        let strand = memos.new_strand(Some(Strand::BODY));
        assert_eq!(once(&mut memos, strand, "g", argument, argument.into()), None);
    }
    memos.rewind();
    for argument in [2, 0, 1] {
        let strand = memos.new_strand(Some(Strand::BODY));
        assert_eq!(once(&mut memos, strand, "g", argument, 9), Some(argument.into()));
    }
    let strand = memos.new_strand(Some(Strand::BODY));
    assert_eq!(once(&mut memos, strand, "g", 0, 9), None, "the second one of its kind");
}

#[test]
fn a_strand_whose_call_was_not_done_keeps_no_other_from_its_own() {
    let mut memos = TestMemos::default();
    let strands: Vec<_> = (0..3).map(|_| memos.new_strand(Some(Strand::BODY))).collect();
    assert!(matches!(begin(&mut memos, strands[0], "g", 0), Begun::New(_)), "the process ends before it is done");
    assert_eq!(once(&mut memos, strands[1], "g", 1, 1), None);
    assert_eq!(once(&mut memos, strands[1], "h", 1, 2), None);
    memos.rewind();
    let strands: Vec<_> = (0..3).map(|_| memos.new_strand(Some(Strand::BODY))).collect();
    assert_eq!(once(&mut memos, strands[0], "g", 0, 9), None);
    assert_eq!(once(&mut memos, strands[1], "g", 1, 9), Some(1));
    assert_eq!(once(&mut memos, strands[1], "h", 1, 9), Some(2));
}

#[test]
fn in_a_strand_what_follows_a_new_call_is_new_also_in_strands_that_it_starts() {
    let mut memos = TestMemos::default();
    let strand = memos.new_strand(Some(Strand::BODY));
    once(&mut memos, strand, "g", 1, 1);
    let inner = memos.new_strand(Some(strand));
    once(&mut memos, inner, "h", 1, 2);
    once(&mut memos, strand, "i", 1, 3);
    memos.rewind();
    let strand = memos.new_strand(Some(Strand::BODY));
    assert_eq!(once(&mut memos, strand, "g", 2, 1), None);
    let inner = memos.new_strand(Some(strand));
    assert_eq!(once(&mut memos, inner, "h", 1, 2), None);
    assert_eq!(once(&mut memos, strand, "i", 1, 3), None);
}

#[test]
fn what_the_body_does_after_it_joined_a_changed_strand_is_new() {
    let mut memos = TestMemos::default();
    let strand = memos.new_strand(Some(Strand::BODY));
    once(&mut memos, strand, "part", 1, 1);
    once(&mut memos, Strand::BODY, "total", 0, 2);
    memos.rewind();
    let strand = memos.new_strand(Some(Strand::BODY));
    once(&mut memos, strand, "part", 2, 3);
    assert_eq!(once(&mut memos, Strand::BODY, "total", 0, 4), None);
}

#[test]
fn what_a_strand_does_after_the_body_has_changed_is_new_for_every_later_body() {
    let mut memos = TestMemos::default();
    once(&mut memos, Strand::BODY, "plan", 1, 1);
    let strand = memos.new_strand(Some(Strand::BODY));
    once(&mut memos, strand, "part", 1, 2);
    memos.rewind();
    assert_eq!(once(&mut memos, Strand::BODY, "plan", 2, 3), None);
    // The process ends here.
    memos.rewind();
    assert_eq!(once(&mut memos, Strand::BODY, "plan", 2, 3), Some(3));
    let strand = memos.new_strand(Some(Strand::BODY));
    assert_eq!(once(&mut memos, strand, "part", 1, 4), None);
}

#[test]
fn how_far_a_body_has_come_is_no_part_of_what_is_kept() {
    let (mut memos, mut other) = (TestMemos::default(), TestMemos::default());
    body(&mut memos, &[("a", 1)]);
    body(&mut other, &[("a", 1)]);
    memos.rewind();
    assert_eq!(memos, other);
    begin(&mut memos, Strand::BODY, "a", 1);
    assert_eq!(memos, other);
    assert_ne!(memos, TestMemos::default());
}

#[derive(Clone, Debug)]
struct Task {
    calls: Vec<u8>,
}

fn tasks() -> impl Strategy<Value = Vec<Task>> {
    let calls = prop::collection::vec(0..4_u8, 0..5).prop_map(|calls| Task { calls });
    prop::collection::vec(calls, 1..6)
}

/// Runs tasks side by side, each with its calls one after the other, until so many calls are done; the rest is lost.
/// Gives what each call gave, by task and place; a call that an earlier body has made gives what it gave there.
fn side_by_side(
    memos: &mut TestMemos,
    tasks: &[Task],
    mut schedule: impl FnMut(usize) -> usize,
    most: usize,
    made: &mut BTreeMap<(usize, usize), u64>,
) -> usize {
    memos.rewind();
    let strands: Vec<_> = tasks.iter().map(|_| memos.new_strand(Some(Strand::BODY))).collect();
    let mut places = vec![0; tasks.len()];
    let mut under_way = BTreeMap::new();
    let mut again = 0;
    for _ in 0..most {
        let at = schedule(tasks.len());
        if let Some(call) = under_way.remove(&at) {
            let gives = made.len() as u64;
            made.insert((at, places[at]), gives);
            keep(memos, strands[at], call, gives);
            places[at] += 1;
            continue;
        }
        let Some(argument) = tasks[at].calls.get(places[at]) else { continue };
        // The name says which task and which place it is: no two calls are alike.
        let name = format!("{at}/{}", places[at]);
        match begin(memos, strands[at], &name, *argument) {
            Begun::Before(number) => {
                let given = *memos.get(number).expect("it is kept").kept.value().expect("it has a value");
                assert_eq!(made.get(&(at, places[at])), Some(&given), "a memo goes to its own call");
                places[at] += 1;
            }
            Begun::New(call) => {
                again += usize::from(made.contains_key(&(at, places[at])));
                under_way.insert(at, call);
            }
        }
    }
    again
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn in_whatever_order_tasks_run_and_wherever_they_are_killed_no_call_that_is_kept_is_made_again(
        tasks in tasks(),
        kills in prop::collection::vec((0..40_usize, any::<u64>()), 1..6),
    ) {
        let (mut memos, mut made) = (TestMemos::default(), BTreeMap::new());
        for (most, seed) in kills {
            let mut state = seed | 1;
            let schedule = |count: usize| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state % count as u64) as usize
            };
            prop_assert_eq!(side_by_side(&mut memos, &tasks, schedule, most, &mut made), 0);
        }
    }

    #[test]
    fn in_the_bodys_own_task_a_memo_is_given_exactly_if_all_before_it_was_the_same(
        bodies in prop::collection::vec(prop::collection::vec((0..2_u8, 0..2_u8), 0..8), 1..6),
    ) {
        let mut memos = TestMemos::default();
        let mut kept: Vec<((u8, u8), u64)> = Vec::new();
        let mut gives = 0;
        for calls in bodies {
            memos.rewind();
            for (at, (name, argument)) in calls.into_iter().enumerate() {
                gives += 1;
                let given = once(&mut memos, Strand::BODY, ["a", "b"][usize::from(name)], argument, gives);
                match kept.get(at) {
                    Some((call, value)) if *call == (name, argument) => prop_assert_eq!(given, Some(*value)),
                    _ => {
                        prop_assert_eq!(given, None);
                        kept.truncate(at);
                        kept.push(((name, argument), gives));
                    }
                }
            }
        }
    }
}

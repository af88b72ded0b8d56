//! Deadlines, against a list sorted by time, then by the order in which they were added.

use std::collections::HashSet;

use proptest::prelude::*;
use treadle::{Time, Timers};

#[derive(Clone, Debug)]
enum Op {
    Add(Time),
    Cancel(usize),
    Expire(Time),
    ExpireAll(Time),
    Clear,
}

fn op() -> impl Strategy<Value = Op> {
    let time = || prop_oneof![9 => 0..50_u64, 1 => Just(Time::MAX)];
    prop_oneof![
        60 => time().prop_map(Op::Add),
        50 => any::<usize>().prop_map(Op::Cancel),
        10 => time().prop_map(Op::Expire),
        3 => (0..30_u64).prop_map(Op::ExpireAll),
        1 => Just(Op::Clear),
    ]
}

#[derive(Default)]
struct Model {
    due: Vec<(Time, u64)>,
}

impl Model {
    fn expire(&mut self, now: Time) -> Option<u64> {
        let first = self.due.iter().copied().filter(|&(at, _)| at <= now).min()?;
        self.due.retain(|&one| one != first);
        Some(first.1)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn they_pass_in_order_and_a_cancelled_one_never_does(ops in prop::collection::vec(op(), 0..300)) {
        let mut timers = Timers::default();
        let mut model = Model::default();
        let (mut ids, mut unique) = (Vec::new(), HashSet::new());
        let mut added = 0;
        for op in ops {
            match op {
                Op::Add(at) => {
                    added += 1;
                    let id = timers.add(at, added);
                    prop_assert!(unique.insert(id));
                    ids.push((id, added));
                    model.due.push((at, added));
                }
                Op::Cancel(at) if !ids.is_empty() => {
                    let (id, what) = ids[at % ids.len()];
                    let is_live = model.due.iter().any(|&(_, live)| live == what);
                    model.due.retain(|&(_, live)| live != what);
                    prop_assert_eq!(timers.cancel(id), is_live.then_some(what));
                }
                Op::Cancel(_) => prop_assert_eq!(timers.cancel(7), None),
                Op::Expire(now) => prop_assert_eq!(timers.expire(now), model.expire(now)),
                Op::ExpireAll(now) => loop {
                    let passed = timers.expire(now);
                    prop_assert_eq!(passed, model.expire(now));
                    if passed.is_none() {
                        break;
                    }
                },
                Op::Clear => {
                    timers.clear();
                    model.due.clear();
                }
            }
            prop_assert_eq!(timers.is_empty(), model.due.is_empty());
            prop_assert_eq!(timers.next_deadline(), model.due.iter().map(|&(at, _)| at).min());
        }
        while let Some(what) = timers.expire(Time::MAX) {
            prop_assert_eq!(Some(what), model.expire(Time::MAX));
        }
        prop_assert!(model.due.is_empty() && timers.is_empty());
    }
}

#[test]
fn deadlines_at_the_same_time_pass_in_the_order_in_which_they_were_added() {
    let mut timers = Timers::default();
    for what in 0..100 {
        timers.add(5, what);
    }
    assert_eq!(timers.expire(4), None);
    let passed: Vec<_> = std::iter::from_fn(|| timers.expire(5)).collect();
    assert_eq!(passed, (0..100).collect::<Vec<_>>());
}

#[test]
fn an_id_is_not_used_again_after_everything_was_taken_back() {
    let mut timers = Timers::default();
    let old = timers.add(1, "old");
    timers.clear();
    let new = timers.add(1, "new");
    assert_ne!(old, new);
    assert_eq!(timers.cancel(old), None);
    assert_eq!(timers.expire(1), Some("new"));
}

//! Random calls.

use proptest::prelude::*;
use treadle::{Plan, Routes, StepId, StepPlan, Time};

use crate::run::step;

#[derive(Clone, Debug)]
pub(super) enum Op {
    Deliver(usize),
    DeliverTo(usize),
    Start,
    Finish(usize),
    PutBack(usize),
    Retry(usize, Time),
    Publish,
    Set(u8),
    Delete(u8),
    CompareAndSet(u8, bool),
    Wait(usize, Option<Time>),
    EndWait(usize),
    Receive(usize),
    ReceiveAgain(usize),
    TakeBack(usize),
    Keep,
    TakeKept(usize, usize),
    KeepAgain(usize),
    Collect(usize, u8, bool),
    Pause,
    Resume,
    Hold(bool),
    Pass(Time),
    BeginEnd,
    TryEnd,
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let at = any::<usize>;
    prop_oneof![
        30 => at().prop_map(Op::Deliver),
        3 => at().prop_map(Op::DeliverTo),
        30 => Just(Op::Start),
        20 => at().prop_map(Op::Finish),
        4 => at().prop_map(Op::PutBack),
        6 => (at(), 0..30_u64).prop_map(|(at, delay)| Op::Retry(at, delay)),
        5 => Just(Op::Publish),
        5 => (0..5_u8).prop_map(Op::Set),
        2 => (0..5_u8).prop_map(Op::Delete),
        2 => (0..5_u8, any::<bool>()).prop_map(|(key, is_current)| Op::CompareAndSet(key, is_current)),
        8 => (at(), prop::option::of(0..40_u64)).prop_map(|(at, timeout)| Op::Wait(at, timeout)),
        3 => at().prop_map(Op::EndWait),
        4 => at().prop_map(Op::Receive),
        3 => at().prop_map(Op::ReceiveAgain),
        2 => at().prop_map(Op::TakeBack),
        6 => Just(Op::Keep),
        6 => (at(), at()).prop_map(|(at, slot)| Op::TakeKept(at, slot)),
        4 => at().prop_map(Op::KeepAgain),
        10 => (at(), 0..3_u8, any::<bool>()).prop_map(|(slot, class, keyed)| Op::Collect(slot, class, keyed)),
        2 => Just(Op::Pause),
        5 => Just(Op::Resume),
        2 => any::<bool>().prop_map(Op::Hold),
        8 => (0..20_u64).prop_map(Op::Pass),
        1 => Just(Op::BeginEnd),
        3 => Just(Op::TryEnd),
    ]
}

/// Three or so steps with limits and timeouts, and kinds that each go to some of them.
pub(super) fn plan() -> impl Strategy<Value = (Plan, u32)> {
    let steps = prop::collection::vec(
        (prop::option::of(1..3_u32), prop::option::of(1..30_u64), prop::bool::weighted(0.05))
            .prop_map(|(concurrency, timeout, external)| StepPlan { external, ..step(concurrency, timeout) }),
        1..5,
    );
    let limit = || prop::option::of(10..100_u64);
    (steps, prop::collection::vec(1..16_u32, 1..4), limit(), limit(), 0..10_usize).prop_map(
        |(steps, kinds, timeout, deadline, stream_limit)| {
            let mut routes = Routes::default();
            let count = u32::try_from(kinds.len()).unwrap();
            for kind in kinds {
                let taken: Vec<_> =
                    (0..u32::try_from(steps.len()).unwrap()).filter(|at| kind >> at & 1 == 1).map(StepId).collect();
                routes.add(if taken.is_empty() { vec![StepId(0)] } else { taken });
            }
            (Plan { steps, routes, timeout, deadline, stream_limit, ..Plan::default() }, count)
        },
    )
}

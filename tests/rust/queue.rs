//! Deliveries that wait for their step.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;
use treadle::{Delivery, Queue, StepId};

#[derive(Clone, Debug)]
enum Op {
    Push(usize),
    Pop,
    Release(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![3 => any::<usize>().prop_map(Op::Push), 3 => Just(Op::Pop), 2 => any::<usize>().prop_map(Op::Release)]
}

fn delivery(seq: u64, step: usize) -> Delivery<u64> {
    Delivery { seq, step: StepId(u32::try_from(step).unwrap()), attempt: 1, event: seq * 10 }
}

fn new_queue(limits: &[Option<u32>]) -> Queue<u64> {
    Queue::new(limits.iter().copied())
}

/// What is known of one step from outside: what waits for it, in order, and how many run.
#[derive(Default)]
struct Model {
    waiting: VecDeque<u64>,
    running: usize,
}

struct Pair {
    limits: Vec<Option<u32>>,
    queue: Queue<u64>,
    steps: Vec<Model>,
    running: Vec<usize>,
    pushed: u64,
}

impl Pair {
    fn new(limits: Vec<Option<u32>>) -> Self {
        let steps = limits.iter().map(|_| Model::default()).collect();
        Self { queue: new_queue(&limits), limits, steps, running: Vec::new(), pushed: 0 }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Push(step) => {
                let step = step % self.steps.len();
                self.pushed += 1;
                self.steps[step].waiting.push_back(self.pushed);
                self.queue.push(delivery(self.pushed, step));
            }
            Op::Pop => {
                let ready = self.queue.ready();
                let popped = self.queue.pop();
                assert_eq!(popped.is_some(), ready > 0);
                if let Some(popped) = popped {
                    let at = popped.step.0 as usize;
                    let step = &mut self.steps[at];
                    assert_eq!(Some(popped.seq), step.waiting.pop_front(), "first in, first out, within a step");
                    assert_eq!((popped.event, popped.attempt), (popped.seq * 10, 1));
                    step.running += 1;
                    self.running.push(at);
                }
            }
            Op::Release(at) if !self.running.is_empty() => {
                let step = self.running.swap_remove(at % self.running.len());
                self.steps[step].running -= 1;
                self.queue.release(StepId(u32::try_from(step).unwrap()));
            }
            Op::Release(_) => {}
        }
        self.check();
    }

    fn check(&self) {
        let mut could_start = 0;
        for (step, limit) in self.steps.iter().zip(&self.limits) {
            let limit = limit.map_or(usize::MAX, |limit| limit as usize);
            assert!(step.running <= limit, "{} run where {limit} may", step.running);
            could_start += step.waiting.len().min(limit - step.running);
        }
        assert_eq!(self.queue.ready(), could_start, "a place that is free is never left empty");
        let waiting: BTreeSet<_> = self.queue.waiting().map(|delivery| delivery.seq).collect();
        assert_eq!(waiting.len(), self.queue.waiting().count(), "none is there twice");
        assert_eq!(waiting, self.steps.iter().flat_map(|step| step.waiting.iter().copied()).collect());
    }
}

proptest! {
    #[test]
    fn limits_hold_and_no_delivery_is_lost_or_doubled(
        limits in prop::collection::vec(prop_oneof![Just(None), (1..4_u32).prop_map(Some)], 1..5),
        ops in prop::collection::vec(op(), 0..150),
    ) {
        let mut pair = Pair::new(limits);
        for op in ops {
            pair.apply(op);
        }
        // Whatever the history: it runs dry.
        for _ in 0..=pair.pushed * 2 {
            pair.apply(Op::Pop);
            pair.apply(Op::Release(0));
        }
        prop_assert_eq!(pair.queue.waiting().count(), 0);
    }

    #[test]
    fn without_limits_it_is_first_in_first_out(steps in prop::collection::vec(0..5_usize, 0..50)) {
        let mut queue = new_queue(&[None; 5]);
        for (step, seq) in steps.iter().zip(0..) {
            queue.push(delivery(seq, *step));
        }
        for (step, seq) in steps.iter().zip(0..) {
            let popped = queue.pop().unwrap();
            prop_assert_eq!((popped.seq, popped.step.0 as usize), (seq, *step));
            queue.release(popped.step);
        }
        prop_assert!(queue.pop().is_none());
    }
}

#[test]
fn a_step_that_is_full_does_not_hold_up_the_others() {
    let mut queue = new_queue(&[Some(1), None]);
    for (seq, step) in [(1, 0), (2, 0), (3, 0), (4, 1)] {
        queue.push(delivery(seq, step));
    }
    assert_eq!(queue.pop().map(|delivery| delivery.seq), Some(1));
    assert_eq!(queue.pop().map(|delivery| delivery.seq), Some(4));
    assert!(queue.pop().is_none());
    queue.release(StepId(0));
    assert_eq!(queue.pop().map(|delivery| delivery.seq), Some(2));
}

//! Deliveries that wait for their step.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU32;

use proptest::prelude::*;
use treadle::{Delivery, Queue, StepId};

#[derive(Clone, Debug)]
enum Op {
    Push(usize),
    Pop,
    Release(usize),
    PutBack(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let at = any::<usize>;
    prop_oneof![
        3 => at().prop_map(Op::Push),
        3 => Just(Op::Pop),
        2 => at().prop_map(Op::Release),
        1 => at().prop_map(Op::PutBack),
    ]
}

fn delivery(seq: u64, step: usize) -> Delivery<u64> {
    Delivery::new(seq, StepId(u32::try_from(step).unwrap()), seq * 10)
}

fn new_queue(limits: &[Option<u32>]) -> Queue<u64> {
    Queue::new(limits.iter().map(|limit| limit.and_then(NonZeroU32::new)))
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
    running: Vec<Delivery<u64>>,
    /// The one that was put back last, until one is taken.
    next: Option<u64>,
    pushed: u64,
}

impl Pair {
    fn new(limits: Vec<Option<u32>>) -> Self {
        let steps = limits.iter().map(|_| Model::default()).collect();
        Self { queue: new_queue(&limits), limits, steps, running: Vec::new(), next: None, pushed: 0 }
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
                    let place = step.waiting.iter().position(|&seq| seq == popped.seq).expect("it waits");
                    assert!(place == 0, "first in, first out, within a step");
                    step.waiting.remove(place);
                    if let Some(next) = self.next.take() {
                        assert_eq!(popped.seq, next, "what was put back is ahead of all that wait");
                    }
                    assert_eq!((popped.event, popped.attempt), (popped.seq * 10, 1));
                    step.running += 1;
                    self.running.push(popped);
                }
            }
            Op::Release(at) => drop(self.release(at)),
            Op::PutBack(at) => {
                if let Some(delivery) = self.release(at) {
                    let at = delivery.step.0 as usize;
                    let step = &mut self.steps[at];
                    self.next = Some(delivery.seq);
                    step.waiting.push_front(delivery.seq);
                    self.queue.put_back(delivery);
                }
            }
        }
        self.check();
    }

    fn release(&mut self, at: usize) -> Option<Delivery<u64>> {
        let at = at.checked_rem(self.running.len())?;
        let delivery = self.running.swap_remove(at);
        self.steps[delivery.step.0 as usize].running -= 1;
        self.queue.release(delivery.step);
        Some(delivery)
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
    #![proptest_config(ProptestConfig::with_cases(48))]

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

fn taken(queue: &mut Queue<u64>) -> Vec<u64> {
    std::iter::from_fn(|| queue.pop()).map(|delivery| delivery.seq).collect()
}

#[test]
fn what_is_put_back_is_ahead_of_all_that_wait() {
    let mut queue = new_queue(&[None, Some(2)]);
    for (seq, step) in [(1, 0), (2, 1), (3, 0)] {
        queue.push(delivery(seq, step));
    }
    let (first, second) = (queue.pop().unwrap(), queue.pop().unwrap());
    queue.release(second.step);
    queue.put_back(second);
    queue.release(first.step);
    queue.put_back(first);
    assert_eq!(taken(&mut queue), [1, 2, 3]);
}

#[test]
fn what_is_put_back_is_ahead_of_those_that_wait_for_a_place_too() {
    let mut queue = new_queue(&[Some(1)]);
    queue.push(delivery(1, 0));
    queue.push(delivery(2, 0));
    let first = queue.pop().unwrap();
    queue.release(first.step);
    queue.put_back(first);
    assert_eq!(taken(&mut queue), [1]);
}

//! Random workflows: a plan, and for each delivery a small program that is the same however often it runs.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::sync::Arc;

use treadle::{Backoff, EventKind, Host, Plan, RetryPlan, Routes, Slot, StepId, StepPlan, Time, Value};

use super::random::{Random, mix};

thread_local! {
    pub static DROPS: Cell<u64> = const { Cell::new(0) };
}

/// What is known of an event. No two events of a run have one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    pub name: u64,
    pub class: u8,
    /// How many events there were before it, one for the other.
    pub depth: u8,
    /// The group that it is collected in, and how large that is, if it is one of a fan-out.
    pub group: Option<(u64, u8)>,
}

/// An event that counts drops: the core must never drop one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ev(pub Named);

impl Drop for Ev {
    fn drop(&mut self) {
        DROPS.set(DROPS.get() + 1);
    }
}

/// What an event must be like to be taken by somebody who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    Any,
    Even,
    Name(u64),
}

impl Match {
    pub fn takes(self, name: u64) -> bool {
        match self {
            Self::Any => true,
            Self::Even => name.is_multiple_of(2),
            Self::Name(only) => name == only,
        }
    }
}

/// Somebody who waits: a body, or a task that it does not wait for itself.
#[derive(Clone, Copy, Debug)]
pub struct Waiter {
    pub slot: Slot,
    pub filter: Match,
    pub is_task: bool,
}

pub struct Guest;

impl Host for Guest {
    type Event = Ev;
    type Value = Value;
    type Class = u8;
    type Waiter = Waiter;

    fn copy_event(event: &Ev) -> Ev {
        event.clone()
    }

    fn copy_value(value: &Value) -> Value {
        value.clone()
    }

    fn copy_waiter(waiter: &Waiter) -> Waiter {
        *waiter
    }

    fn is_same_event(one: &Ev, other: &Ev) -> bool {
        one == other
    }
}

/// A class of events that no step takes.
pub const WAITED: u8 = 100;
/// The class of what is made of a failure; it is given to one step, whatever its routes.
pub const FAILED: u8 = 101;
/// The class of events that end the run.
pub const STOP: u8 = 102;

#[derive(Clone, Copy, Debug)]
pub enum Action {
    Set(u8),
    SetOwn,
    Delete(u8),
    CompareAndSet(u8),
    Send(Named),
    Publish,
    Wait {
        class: u8,
        filter: Match,
        timeout: Option<Time>,
        raises: bool,
    },
    Sleep(Time),
    LeaveTask {
        filter: Match,
        deadline: Time,
    },
    Join,
    Collect {
        keyed: bool,
        other: u8,
    },
    Fail {
        until: u32,
    },
    /// A call that is made once, and under what name.
    Once(u8),
}

/// What a body does, action by action, and the events that it returns.
#[derive(Debug)]
pub struct Program {
    pub actions: Vec<Action>,
    pub returns: Vec<Named>,
    /// What it returns besides if it is the one that completes its group.
    pub joined: Option<Named>,
}

#[derive(Debug)]
pub struct Workflow {
    pub seed: u64,
    pub plan: Arc<Plan>,
    pub kinds: u8,
    /// Whether its result is the same in whatever order things happen.
    pub is_orderless: bool,
    /// Whether its bodies wait for nothing but events that no step takes.
    waits_for_answers: bool,
    /// How many events come one for the other, so that no history is too long.
    deepest: u8,
}

// Further than this no answer from outside goes on.
const DEEPEST: u8 = 4;

impl Workflow {
    pub fn new(seed: u64, is_orderless: bool) -> Self {
        let mut random = Random::new(&[seed, 1]);
        let count = random.between(2, 8);
        let steps: Vec<_> = (0..count).map(|number| step(&mut random, number, is_orderless)).collect();
        let kinds = random.between(1, 5) as u8;
        let mut routes = Routes::default();
        let mut all_taken = 0;
        for _ in 0..kinds {
            let takers = if random.one_in(3) { random.between(2, 3) } else { 1 };
            let mut taken: Vec<_> = (0..takers).map(|_| StepId(random.below(steps.len()) as u32)).collect();
            taken.sort_unstable();
            taken.dedup();
            all_taken += taken.len();
            routes.add(taken);
        }
        let deepest = if all_taken * 2 > usize::from(kinds) * 3 { 2 } else { DEEPEST };
        let timeout = (!is_orderless && random.one_in(6)).then(|| random.between(50, 2000));
        let deadline = (!is_orderless && random.one_in(12)).then(|| random.between(50, 2000));
        let stream_limit = random.below(6);
        let plan = Plan { name: "simulated".into(), steps, routes, timeout, deadline, stream_limit };
        Self { seed, plan: Arc::new(plan), kinds, is_orderless, waits_for_answers: false, deepest }
    }

    /// The same, but its bodies wait for nothing but events that no step takes.
    pub fn waiting_for_answers(self) -> Self {
        Self { waits_for_answers: true, ..self }
    }

    /// The same, but no event comes of one that comes of the first.
    pub fn ending_soon(self) -> Self {
        Self { deepest: 1, ..self }
    }

    pub fn kind_of(&self, class: u8) -> Option<EventKind> {
        (class < self.kinds).then_some(EventKind(class.into()))
    }

    pub fn first_event(&self) -> Named {
        Named { name: mix(&[self.seed, 2]), class: 0, depth: 0, group: None }
    }

    /// What the body does that a step runs for an event.
    pub fn program(&self, step: StepId, event: Named) -> Program {
        let mut random = Random::new(&[self.seed, 3, step.0.into(), event.name]);
        let own = mix(&[event.name, step.0.into()]);
        let mut made = 0;
        let mut child = |random: &mut Random, group| {
            made += 1;
            let class = random.below(self.kinds.into()) as u8;
            Named { name: mix(&[own, made]), class, depth: event.depth + 1, group }
        };
        let is_leaf = event.depth >= self.deepest;
        let mut actions = Vec::new();
        if event.group.is_some() {
            actions.push(Action::Join);
        }
        for _ in 0..random.below(5) {
            let sent = if is_leaf || random.one_in(2) { None } else { Some(child(&mut random, None)) };
            actions.push(self.action(&mut random, own, sent));
        }
        if !is_leaf && random.one_in(8) {
            let of = random.between(2, 3) as u8;
            let first = child(&mut random, Some((own, of)));
            actions.push(Action::Send(first));
            for _ in 1..of {
                let other = child(&mut random, Some((own, of)));
                actions.push(Action::Send(Named { class: first.class, ..other }));
            }
        }
        self.add_failure(&mut random, step, &mut actions);
        let count = if is_leaf { 0 } else { [0, 0, 1, 1, 1, 2][random.below(6)] };
        let mut returns: Vec<_> = (0..count).map(|_| child(&mut random, None)).collect();
        if !self.is_orderless && event.depth > 1 && random.one_in(12) {
            returns.push(Named { class: STOP, ..child(&mut random, None) });
        }
        let joined = event.group.filter(|_| !is_leaf).map(|(group, _)| {
            // The same, whichever of the group comes last.
            let name = mix(&[group, step.0.into(), 4]);
            Named { name, class: (name % u64::from(self.kinds)) as u8, depth: event.depth + 1, group: None }
        });
        Program { actions, returns, joined }
    }

    /// Events from outside that the bodies of a delivery wait for and no step takes: they may come before that.
    pub fn answers(&self, step: StepId, event: Named) -> Vec<Named> {
        let waits = self.program(step, event).actions.into_iter().filter_map(|action| match action {
            Action::Wait { class: WAITED, filter: Match::Name(name), .. } => Some(name),
            _ => None,
        });
        waits.map(|name| Named { name, ..Self::answer(WAITED) }).collect()
    }

    /// An answer from outside, but for its name.
    pub fn answer(class: u8) -> Named {
        Named { name: 0, class, depth: DEEPEST, group: None }
    }

    fn action(&self, random: &mut Random, own: u64, sent: Option<Named>) -> Action {
        if let Some(sent) = sent
            && random.one_in(3)
        {
            return Action::Send(sent);
        }
        let key = random.below(6) as u8;
        if random.one_in(6) {
            return Action::Once(key);
        }
        let choice = random.below(if self.is_orderless { 5 } else { 12 });
        let answer = mix(&[own, 5, random.next()]);
        let parity = if random.one_in(2) { Match::Even } else { Match::Any };
        let class = if random.one_in(3) { random.below(self.kinds.into()) as u8 } else { WAITED };
        let class = if self.waits_for_answers { WAITED } else { class };
        let timeout = random.one_in(2).then(|| random.between(0, 60));
        match choice {
            0 | 1 => Action::SetOwn,
            2 => Action::Publish,
            3 => Action::Sleep(random.between(0, 40)),
            4 => Action::Wait { class, filter: Match::Name(answer), timeout: None, raises: false },
            5 => Action::Set(key),
            6 => Action::Delete(key),
            7 => Action::CompareAndSet(key),
            8 | 9 => Action::Wait { class, filter: parity, timeout, raises: random.one_in(2) },
            10 => Action::LeaveTask { filter: parity, deadline: random.between(0, 100) },
            _ => Action::Collect { keyed: random.one_in(2), other: class },
        }
    }

    fn add_failure(&self, random: &mut Random, step: StepId, actions: &mut Vec<Action>) {
        let attempts = self.plan.steps[step.0 as usize].retry.as_ref().map_or(1, |retry| retry.attempts);
        let most = if self.is_orderless { attempts - 1 } else { attempts };
        if !random.one_in(3) {
            return;
        }
        let until = random.below(most as usize + 1) as u32;
        let from = usize::from(matches!(actions.first(), Some(Action::Join)) && random.one_in(2));
        let at = from.max(random.below(actions.len() + 1));
        actions.insert(at.min(actions.len()), Action::Fail { until });
    }
}

fn step(random: &mut Random, number: u64, is_orderless: bool) -> StepPlan {
    let retry = (!random.one_in(3)).then(|| RetryPlan {
        attempts: random.between(1, 4) as u32,
        backoff: [Backoff::Constant, Backoff::Linear, Backoff::Exponential][random.below(3)],
        initial: random.between(0, 20),
        factor: 2.0,
        max: 100,
        jitter: [0.0, 0.5, 1.0][random.below(3)],
        total: (!is_orderless && random.one_in(3)).then(|| random.between(0, 100)),
    });
    StepPlan {
        name: format!("step {number}").into(),
        concurrency: if random.one_in(2) { NonZeroU32::new(random.between(1, 3) as u32) } else { None },
        timeout: (!is_orderless && random.one_in(3)).then(|| random.between(1, 80)),
        external: !is_orderless && random.one_in(20),
        is_timed: retry.is_some(),
        retry,
    }
}

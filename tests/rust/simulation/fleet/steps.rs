//! The bodies of a run of the fleet: what each does, and where its events go.

use std::rc::Rc;

use treadle::writer::Occurrence;
use treadle::{
    Answer, Collecting, Deadline, Lookup, MemoCall, Origin, Question, Route, Routed, Routing, RunId, Slot, Started,
    StepId, Tag, Time, Value, Wanted,
};

use super::bugs::Bug;
use super::children::{self, Act};
use super::execution::Execution;
use crate::simulation::ledger::Call;
use crate::simulation::random::mix;
use crate::simulation::workflow::{Action, Ev, Guest, Match, Named, Program, Waiter};

/// The sleeps of a workflow are so many times as long, so that processes come and go meanwhile.
const SLEEP: Time = 500_000;

/// One body in flight.
pub struct Body {
    pub(super) slot: Slot,
    step: StepId,
    event: Named,
    attempt: u32,
    program: Rc<Program>,
    acts: Vec<Act>,
    next: usize,
    pub(super) is_waiting: bool,
    has_joined: bool,
    /// The call that it makes, if it makes one.
    pub(super) calling: Option<(MemoCall, Call)>,
    /// How many of the memos of its delivery it has come to.
    pub(super) memos: usize,
    /// With so many records the last memo is written, for which it waits.
    pub(super) written_with: Option<u64>,
    /// The children that it has come to, and the one that it awaits.
    pub(super) children: Vec<children::Started>,
    pub(super) awaited: Option<RunId>,
}

impl Body {
    pub fn new(started: Started, event: Named, program: Rc<Program>, depth: u32) -> Self {
        let Started { slot, step, attempt, .. } = started;
        Self {
            slot,
            step,
            event,
            attempt,
            acts: children::acts(&program, step, event, depth),
            program,
            next: 0,
            is_waiting: false,
            has_joined: false,
            calling: None,
            memos: 0,
            written_with: None,
            children: Vec::new(),
            awaited: None,
        }
    }

    pub fn step(&self) -> StepId {
        self.step
    }

    pub fn slot(&self) -> Slot {
        self.slot
    }

    pub fn event(&self) -> Named {
        self.event
    }

    pub fn is_ready(&self) -> bool {
        !self.is_waiting && self.written_with.is_none()
    }
}

impl Execution {
    /// One body goes on to the next point at which it could be stopped.
    pub(super) fn advance_any(&mut self, now: Time) {
        let ready: Vec<_> = (0..self.bodies.len()).filter(|&at| self.bodies[at].is_ready()).collect();
        let at = ready[self.random.below(ready.len())];
        if let Some((begun, call)) = self.bodies[at].calling.take() {
            return self.keep_memo(at, begun, call, now);
        }
        let body = &mut self.bodies[at];
        body.next += 1;
        match body.acts.get(body.next - 1).copied() {
            Some(Act::Do(action)) => self.act(at, action, now),
            Some(Act::Start(ordinal)) => self.start_child(at, ordinal, now),
            Some(Act::Await(ordinal)) => self.await_child(at, ordinal, now),
            None => self.finish(at, now),
        }
    }

    fn act(&mut self, at: usize, action: Action, now: Time) {
        let Body { slot, step, event, attempt, .. } = self.bodies[at];
        match action {
            Action::SetOwn => {
                let value = Value::new(Tag::Binary, vec![event.depth]);
                self.run.set(&format!("of {} in {}", event.name, step.0), value).expect("it runs");
                self.mark(Occurrence::Stored, now);
            }
            Action::Publish => {
                let name = mix(&[event.name, step.0.into(), 14]);
                assert!(self.run.publish(Ev(Named { name, ..event })).is_ok());
                self.mark(Occurrence::Published, now);
            }
            Action::Send(sent) => {
                if !self.run.sends_again(slot, |digest| digest == sent.name) {
                    let is_noted = !self.has(Bug::SentNotNoted);
                    let origin = if is_noted { Origin::Sent { slot, digest: sent.name } } else { Origin::Outside };
                    self.route(vec![sent], origin, now);
                    self.mark(Occurrence::Sent, now);
                }
            }
            Action::Wait { class, filter, .. } => self.wait(at, class, filter, now),
            Action::Sleep(time) => self.sleep(at, time * SLEEP, now),
            Action::Join => self.join(at, now),
            Action::Fail { until } if attempt <= until => self.fail(at, now),
            Action::Fail { .. } => {}
            Action::Once(name) => self.once(at, name, now),
            other => panic!("{other:?} depends on the order in which things happen"),
        }
    }

    fn wait(&mut self, at: usize, class: u8, filter: Match, now: Time) {
        let slot = self.bodies[at].slot;
        let mut lookup = Lookup::new(slot);
        while let Some(event) = lookup.next(&self.run).map(|event| event.0) {
            if event.class == class && filter.takes(event.name) && lookup.receive(&mut self.run).is_some() {
                return self.mark(Occurrence::Received, now);
            }
        }
        let waiter = Waiter { slot, filter, is_task: false };
        let wait = self.run.wait(slot, waiter, Some(class), None).expect("the run goes on");
        self.run.body_awaits(wait);
        self.bodies[at].is_waiting = true;
        self.mark(Occurrence::Waiting, now);
    }

    fn sleep(&mut self, at: usize, time: Time, now: Time) {
        let slot = self.bodies[at].slot;
        let deadline = self.run.ask_deadline(slot, Wanted::Sleep(time), || now);
        if deadline <= now {
            return;
        }
        let waiter = Waiter { slot, filter: Match::Any, is_task: false };
        let wait = self.run.wait(slot, waiter, None, Some(deadline)).expect("the run goes on");
        self.run.body_awaits(wait);
        self.bodies[at].is_waiting = true;
        self.mark(Occurrence::Waiting, now);
    }

    fn join(&mut self, at: usize, now: Time) {
        let Body { slot, step, event, .. } = self.bodies[at];
        let (group, of) = event.group.expect("it is one of a fan-out");
        let (key, expected) = (group.to_string(), vec![event.class; of.into()]);
        let call = Collecting { slot, step, key: Some(&key), event: Ev(event) };
        let class_of = |expects: &dyn Fn(&u8) -> bool| Some(event.class).filter(|class| expects(class));
        let answer = self.run.collect(call, |other| other == expected, class_of, || expected.clone().into());
        let gathered = answer.unwrap_or_else(|_| panic!("the run goes on"));
        self.bodies[at].has_joined = gathered.events.is_some();
        self.mark(Occurrence::Collected, now);
    }

    fn fail(&mut self, at: usize, now: Time) {
        let Body { slot, step, attempt, .. } = self.bodies.swap_remove(at);
        let since = self.run.delivery(slot).and_then(|delivery| delivery.since).map(std::num::NonZeroU64::get);
        let retry = self.workflow.plan.steps[step.0 as usize].retry.as_ref().expect("it is tried again");
        let due = retry.next(attempt, since, now, self.random.part()).expect("it is tried again");
        self.run.stamp(|| now);
        assert!(self.run.retry(slot, format!("attempt {attempt}").into(), due).is_ok());
        self.mark(Occurrence::Retried, now);
    }

    fn finish(&mut self, at: usize, now: Time) {
        let body = self.bodies.swap_remove(at);
        if !self.has(Bug::PostedTooLate) {
            self.post(&body);
        }
        self.finish_body(&body, now);
        if self.has(Bug::PostedTooLate) {
            self.post(&body);
        }
    }

    fn finish_body(&mut self, body: &Body, now: Time) {
        let Body { slot, has_joined, program, .. } = body;
        let slot = *slot;
        let joined = program.joined.iter().filter(|_| *has_joined);
        let returns: Vec<_> = program.returns.iter().chain(joined).copied().collect();
        if self.has(Bug::FinishedBeforeItsEvents) {
            self.run.finish_step(slot);
            self.mark(Occurrence::Finished, now);
            self.flush(now);
            self.route(returns, Origin::Outside, now);
            return;
        }
        self.route(returns, Origin::Returned(slot), now);
        self.mark(Occurrence::Finished, now);
    }

    /// Deadlines have passed.
    pub(super) fn expire(&mut self, now: Time) {
        while let Some(deadline) = self.run.expire(now) {
            match deadline {
                Deadline::Wait(id) => {
                    let over = self.run.end_wait(id).expect("a body sleeps");
                    self.go_on(over.slot);
                }
                Deadline::Retry(_) => self.mark(Occurrence::Due, now),
                Deadline::Settling => self.release(now),
                other => panic!("no run has the deadline {other:?}"),
            }
        }
    }

    fn go_on(&mut self, slot: Slot) {
        let body = self.bodies.iter_mut().find(|body| body.slot == slot).expect("the body that waits is there");
        assert!(std::mem::replace(&mut body.is_waiting, false), "it waits");
    }

    /// Deferred events go where they go now.
    pub(super) fn release(&mut self, now: Time) {
        while self.run.is_release_due() {
            let next = self.run.next_release().map(|(number, held)| (number, held.event.0, held.is_from_outside));
            let Some((number, event, is_from_outside)) = next else { return };
            self.route(vec![event], Origin::Deferred { number, is_from_outside }, now);
        }
    }

    pub(super) fn route(&mut self, events: Vec<Named>, origin: Origin, now: Time) {
        let mut routed: Vec<_> = events.iter().map(|event| (Ev(*event), self.route_of(event.class))).collect();
        match self.setting.bug {
            Some(Bug::LostOnArrival) if self.random.one_in(16) => routed.truncate(1),
            Some(Bug::ArrivesTwice) if self.random.one_in(16) => {
                routed.extend(events.last().map(|event| (Ev(*event), self.route_of(event.class))));
            }
            _ => {}
        }
        let mut routing = Routing::<Guest>::new(origin, routed);
        loop {
            match routing.advance(&mut self.run, || now) {
                Routed::Ask(question) => {
                    let answer = self.says(routing.event().0, &question);
                    routing.answer(question, answer);
                }
                Routed::Arrived(arrival) => {
                    arrival.received.iter().for_each(|(over, _)| self.go_on(over.slot));
                    return self.mark(Occurrence::Kept, now);
                }
                Routed::Moot | Routed::RunEnded => return,
                Routed::WaitFailed(_) => panic!("every waiter can say what it accepts"),
                Routed::Ends(event) | Routed::Unrouted(event) => panic!("{event:?} goes somewhere"),
            }
        }
    }

    fn route_of(&self, class: u8) -> Route {
        self.workflow.kind_of(class).map_or(Route::Nowhere, Route::Steps)
    }

    fn says(&self, event: Named, question: &Question<Guest>) -> Answer {
        let accepts = match question {
            Question::IsOf { class, .. } => *class == event.class,
            Question::Accepts { waiter, class, .. } => *class == event.class && waiter.filter.takes(event.name),
        };
        if accepts && !(self.has(Bug::WaiterNotAsked) && event.depth > 0) { Answer::Yes } else { Answer::No }
    }
}

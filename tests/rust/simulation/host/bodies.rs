//! The bodies of steps: what they do, and how they end.

use std::rc::Rc;

use treadle::{Collecting, Gathered, HostDelivery, Leftover, Origin, Slot, StepId, Tag, Time, Value, Wanted};

use super::{At, Body, Simulation};
use crate::simulation::random::mix;
use crate::simulation::workflow::{Action, Ev, FAILED, Guest, Match, Named, WAITED, Waiter, Workflow};

impl Simulation {
    /// A body is stopped where it is.
    pub(super) fn give_up(&mut self, at: usize) {
        let body = &mut self.bodies[at];
        let slot = body.slot;
        match std::mem::replace(&mut body.at, At::Ready) {
            At::Waiting(id) | At::Sleeping(id) => {
                let over = self.call(|run| run.give_up(id));
                assert_eq!(over.is_some(), self.is_running(), "it waited");
            }
            At::Got(event) => {
                self.give_back(slot, event);
            }
            At::Ready | At::TimedOut | At::Failed | At::Calling(..) => {}
        }
    }

    /// A body goes on to the next point where it could be suspended.
    pub(super) fn advance(&mut self, at: usize) {
        let body = &mut self.bodies[at];
        let (slot, program) = (body.slot, Rc::clone(&body.program));
        let action = program.actions.get(body.next).copied();
        body.next += 1;
        match (std::mem::replace(&mut body.at, At::Ready), action) {
            (At::Got(event), _) => {
                body.next -= 1;
                self.note(&[13, slot.seq(), event.name]);
            }
            (At::TimedOut, _) => {
                body.next -= 1;
                let raises = matches!(program.actions[body.next - 1], Action::Wait { raises: true, .. });
                if raises {
                    self.fail(at);
                }
            }
            (At::Calling(call, made), _) => {
                body.next -= 1;
                self.keep_memo(at, call, made);
            }
            (At::Failed, _) => self.fail(at),
            (_, Some(action)) => self.act(at, action),
            (_, None) => self.finish(at),
        }
    }

    fn act(&mut self, at: usize, action: Action) {
        let Body { slot, step, event, attempt, .. } = self.bodies[at];
        match action {
            Action::Set(key) => self.set(&format!("shared {key}"), slot.seq() as u8),
            Action::SetOwn => self.set(&format!("of {} in {}", event.name, step.0), event.depth),
            Action::Delete(key) => {
                let key = format!("shared {key}");
                let deleted = self.call(|run| run.delete(&key)).expect("the run is not over");
                assert_eq!(deleted.map(|value| value.bytes.to_vec()), self.ledger.state.remove(&key));
            }
            Action::CompareAndSet(key) => self.compare_and_set(&format!("shared {key}"), attempt as u8),
            Action::Send(sent) => {
                if self.is_running() && !self.call(|run| run.sends_again(slot, |name| name == sent.name)) {
                    self.pass_on(vec![sent], Origin::Sent { slot, digest: sent.name });
                }
            }
            Action::Publish => {
                let name = mix(&[event.name, step.0.into(), 14]);
                let published = Ev(Named { name, ..event });
                assert!(self.call(|run| run.publish(published)).is_ok());
                self.ledger.published.push(name);
            }
            Action::Wait { class, filter, timeout, .. } => self.wait(at, class, filter, timeout),
            Action::Sleep(micros) => self.sleep(at, micros),
            Action::LeaveTask { filter, deadline } => {
                let (waiter, now) = (Waiter { slot, filter, is_task: true }, self.now);
                let waiting = self.call(|run| run.wait(slot, waiter, Some(WAITED), Some(now + deadline)));
                assert_eq!(waiting.is_ok(), self.is_running());
            }
            Action::Join => {
                let (group, of) = event.group.expect("it is one of a fan-out");
                let expected = vec![event.class; of.into()];
                let given = self.collect(at, Some(group.to_string()), expected);
                self.bodies[at].has_joined = given;
            }
            Action::Collect { keyed, other } => {
                self.collect(at, keyed.then(|| "shared".to_owned()), vec![event.class, other]);
            }
            Action::Fail { until } if attempt <= until => self.fail(at),
            Action::Fail { .. } => {}
            Action::Once(name) => self.once(at, name),
        }
    }

    pub(super) fn set(&mut self, key: &str, byte: u8) {
        let old = self.call(|run| run.set(key, value(byte))).expect("the run is not over");
        assert_eq!(old.map(|old| old.bytes.to_vec()), self.ledger.state.insert(key.to_owned(), vec![byte]));
    }

    fn compare_and_set(&mut self, key: &str, byte: u8) {
        let version = self.run.store().get_versioned(key).map(|(_, version)| version);
        let asked = if self.random.one_in(3) { Some(u64::MAX) } else { version };
        let set = self.call(|run| run.compare_and_set(key, asked, value(byte)));
        assert_eq!(set.is_ok(), asked == version);
        if set.is_ok() {
            self.ledger.state.insert(key.to_owned(), vec![byte]);
        }
    }

    pub(super) fn wait(&mut self, at: usize, class: u8, filter: Match, timeout: Option<Time>) {
        let (slot, now) = (self.bodies[at].slot, self.now);
        let deadline = timeout.map(|timeout| self.call(|run| run.ask_deadline(slot, Wanted::Wait(timeout), || now)));
        if let Some((event, was_received)) = self.look(slot, class, filter) {
            if was_received {
                return self.note(&[19, slot.seq(), event.name]);
            }
            self.bodies[at].at = At::Got(event);
            return;
        }
        let waiter = Waiter { slot, filter, is_task: false };
        match self.call(|run| run.wait(slot, waiter, Some(class), deadline)) {
            Ok(id) => {
                self.run.body_awaits(id);
                self.bodies[at].at = At::Waiting(id);
                if let (Match::Name(name), Some(_)) = (filter, self.workflow.kind_of(class)) {
                    self.ledger.ask(Named { name, ..Workflow::answer(class) });
                }
            }
            Err(_) => assert!(!self.is_running()),
        }
    }

    fn sleep(&mut self, at: usize, micros: Time) {
        let (slot, now) = (self.bodies[at].slot, self.now);
        let deadline = self.call(|run| run.ask_deadline(slot, Wanted::Sleep(micros), || now));
        if deadline <= now {
            return;
        }
        let waiter = Waiter { slot, filter: Match::Any, is_task: false };
        match self.call(|run| run.wait(slot, waiter, None, Some(deadline))) {
            Ok(id) => {
                self.run.body_awaits(id);
                self.bodies[at].at = At::Sleeping(id);
            }
            Err(_) => assert!(!self.is_running()),
        }
    }

    /// Says whether the group is complete now.
    pub(super) fn collect(&mut self, at: usize, key: Option<String>, expected: Vec<u8>) -> bool {
        let Body { slot, step, event, .. } = self.bodies[at];
        let call = Collecting { slot, step, key: key.as_deref(), event: Ev(event) };
        let class_of = |expects: &dyn Fn(&u8) -> bool| Some(event.class).filter(|class| expects(class));
        let make = || expected.clone().into();
        let answer = self.call(|run| run.collect(call, |other| other == expected, class_of, make));
        let Ok(Gathered { events, remains }) = answer else {
            assert!(!self.is_running());
            return false;
        };
        if matches!(remains, Some(Leftover::Event(_))) {
            return events.is_some();
        }
        let given = self.ledger.collect((step.0, key, expected), event.class, event.name);
        let names = events.as_ref().map(|events| events.iter().map(|event| event.0.name).collect::<Vec<_>>());
        assert_eq!(names, given);
        given.is_some()
    }

    pub(super) fn fail(&mut self, at: usize) {
        let body = self.bodies.swap_remove(at);
        let Body { slot, step, event, attempt, .. } = body;
        self.note(&[15, slot.seq(), u64::from(attempt)]);
        if !self.is_running() {
            self.leave(slot);
            return self.try_end();
        }
        let since = self.run.delivery(slot).and_then(|delivery| delivery.since).map(std::num::NonZeroU64::get);
        let (now, part) = (self.now, self.random.part());
        let due = self.plan_of(step).retry.as_ref().and_then(|retry| retry.next(attempt, since, now, part));
        if let Some(due) = due {
            assert!(self.call(|run| run.retry(slot, format!("attempt {attempt}").into(), due)).is_ok());
            return;
        }
        if event.class != FAILED && self.workflow.seed.is_multiple_of(2) {
            // Another step deals with it.
            let name = mix(&[event.name, step.0.into(), 16]);
            let failed = Named { name, class: FAILED, depth: event.depth.saturating_add(1), group: None };
            let taker = StepId((step.0 + 1) % self.workflow.plan.steps.len() as u32);
            let setbacks = self.run.setbacks(slot, now).expect("it is in flight");
            let failed_event = Ev(failed);
            let finished = self.call(|run| run.hand_on(slot, &[taker], &failed_event, setbacks));
            self.ledger.emit(name);
            let recorded = self.moves.first().expect("it is queued").1;
            self.note_delivery(failed, taker, recorded);
            return self.has_left(slot, finished);
        }
        self.bodies.push(body);
        self.end(false);
        self.bodies.retain(|body| body.slot != slot);
        self.leave(slot);
        self.try_end();
    }

    /// A body has come to its end.
    pub(super) fn finish(&mut self, at: usize) {
        let Body { slot, has_joined, .. } = self.bodies[at];
        let program = Rc::clone(&self.bodies[at].program);
        self.note(&[17, slot.seq()]);
        let returned = program.returns.iter().chain(program.joined.iter().filter(|_| has_joined));
        self.pass_on(returned.copied().collect(), Origin::Returned(slot));
        self.bodies.retain(|body| body.slot != slot);
        if self.run.delivery(slot).is_some() {
            self.leave(slot);
        }
        self.try_end();
    }

    pub(super) fn leave(&mut self, slot: Slot) {
        let finished = self.call(|run| run.finish_step(slot));
        self.has_left(slot, finished);
    }

    fn has_left(&mut self, slot: Slot, finished: Option<HostDelivery<Guest>>) {
        assert_eq!(finished.map(|delivery| delivery.seq), Some(slot.seq()), "it was in flight");
        self.ledger.finish(slot.seq());
        assert!(self.run.finish_step(slot).is_none() && self.run.delivery(slot).is_none(), "a step finishes once");
    }
}

pub(super) fn value(byte: u8) -> Value {
    Value::new(Tag::Binary, vec![byte])
}

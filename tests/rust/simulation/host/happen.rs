//! What happens to a run, in a random order.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use treadle::{Deadline, Origin, Run, StepId, WaitId};

use super::{At, Body, SOON, Simulation};
use crate::simulation::random::mix;
use crate::simulation::workflow::{DROPS, Named, WAITED};

impl Simulation {
    pub(super) fn happen(&mut self) {
        if self.disturbances.snapshots && self.random.one_in(24) {
            return self.crash();
        }
        if !self.is_running() {
            return self.stop_any();
        }
        // Lanes look for it before they start anything, and the loop in its next pass.
        if self.run.is_release_due() && self.random.one_in(2) {
            return self.release_held();
        }
        match self.random.below(100) {
            0..15 => self.start(),
            15..25 => {
                let progress = self.progress();
                self.do_next(progress);
            }
            25..65 => self.advance_any(),
            65..75 => self.send_from_outside(),
            75..85 => self.pass_time(),
            85..90 if self.disturbances.pauses => self.pause_or_resume(),
            90..96 if self.disturbances.snapshots => self.put_down(),
            96..98 if self.disturbances.is_durable => self.acknowledge(),
            98 if self.disturbances.snapshots && self.random.one_in(4) => self.drain(),
            99 if self.disturbances.cancels && self.random.one_in(4) => {
                let is_abandoned = self.random.one_in(2);
                self.end(is_abandoned);
            }
            _ => self.start(),
        }
    }

    fn acknowledge(&mut self) {
        let recorded = self.run.recorded();
        match self.random.below(6) {
            0 => {
                self.call(Run::hold_back);
                self.acknowledged = self.acknowledged.min(recorded);
            }
            1 => self.acknowledge_up_to(u64::MAX),
            2 | 3 => self.acknowledge_up_to(recorded),
            _ => {
                let safe = self.random.between(0, recorded);
                self.acknowledge_up_to(safe);
            }
        }
    }

    pub(super) fn acknowledge_up_to(&mut self, recorded: u64) {
        self.call(|run| run.acknowledge(recorded));
        self.acknowledged = self.acknowledged.max(recorded);
    }

    /// The run is to go on elsewhere: nothing starts here any more.
    fn drain(&mut self) {
        self.note(&[20]);
        self.call(Run::drain);
        self.is_draining = true;
        assert!(self.run.is_held() && self.run.ready() == 0);
    }

    pub(super) fn start(&mut self) {
        self.release_held();
        self.start_next();
    }

    pub(super) fn start_next(&mut self) {
        let now = self.now;
        let Some(started) = self.call(|run| run.start_next(|| now)) else { return };
        self.note(&[1, started.seq, u64::from(started.attempt)]);
        assert!(self.is_running() && !self.run.is_held());
        let (event, step) = self.ledger.pending[&started.seq];
        assert_eq!((self.run.event(started.slot).map(|event| event.0), started.step), (Some(event), step));
        let queued_at = self.queued_at.remove(&started.seq);
        assert!(queued_at.is_none_or(|recorded| recorded <= self.acknowledged), "it starts once its record is safe");
        let order = &mut self.in_order[step.0 as usize];
        if order.contains(&started.seq) {
            assert_eq!(order.pop_front(), Some(started.seq), "first in, first out, within a step");
        }
        assert!(self.bodies.iter().all(|body| body.slot.seq() != started.seq), "one body at a time for a delivery");
        let program = Rc::new(self.workflow.program(step, event));
        let (slot, attempt) = (started.slot, started.attempt);
        let (next, at, has_joined, memos) = (0, At::Ready, false, 0);
        self.bodies.push(Body { slot, step, event, attempt, program, next, at, has_joined, memos });
    }

    pub(super) fn advance_any(&mut self) {
        let ready: Vec<_> = (0..self.bodies.len()).filter(|&at| self.is_ready(at)).collect();
        if ready.is_empty() {
            return self.start();
        }
        let seq = self.bodies[ready[self.random.below(ready.len())]].slot.seq();
        for _ in 0..self.random.between(1, 6) {
            match self.bodies.iter().position(|body| body.slot.seq() == seq) {
                Some(at) if self.is_ready(at) => self.advance(at),
                _ => return,
            }
        }
    }

    pub(super) fn is_ready(&self, at: usize) -> bool {
        matches!(self.bodies[at].at, At::Ready | At::Got(_) | At::TimedOut | At::Failed | At::Calling(..))
    }

    pub(super) fn send_from_outside(&mut self) {
        if !self.ledger.outside.is_empty() && (self.workflow.is_orderless || self.random.one_in(2)) {
            return self.send_answer();
        }
        if self.workflow.is_orderless || self.sent > 12 {
            return;
        }
        self.sent += 1;
        let class = if self.random.one_in(3) { self.random.below(self.workflow.kinds.into()) as u8 } else { WAITED };
        let name = mix(&[self.workflow.seed, 8, self.sent]);
        self.take_in(Named { name, class, depth: 3, group: None });
    }

    fn pass_time(&mut self) {
        let next = self.run.next_deadline();
        self.now = match self.random.below(8) {
            0 => self.now.saturating_sub(self.random.between(0, 50)),
            1..=4 => {
                next.filter(|at| !self.workflow.is_orderless || *at < self.now + SOON).unwrap_or(self.now).max(self.now)
            }
            5 => self.now + self.random.between(0, 500),
            _ => self.now + self.random.between(0, 20),
        };
        self.expire();
    }

    pub(super) fn expire(&mut self) {
        let now = self.now;
        while let Some(deadline) = self.call(|run| run.expire(now)) {
            assert!(!self.run.is_paused(), "no deadline passes while the run is paused");
            match deadline {
                Deadline::Run | Deadline::End => {
                    self.note(&[2]);
                    return self.end(false);
                }
                Deadline::Step(slot) => {
                    let at = self.bodies.iter().position(|body| body.slot == slot).expect("only of a step in flight");
                    self.note(&[3, slot.seq()]);
                    self.give_up(at);
                    self.fail(at);
                }
                Deadline::Wait(id) => self.time_out(id),
                Deadline::Retry(seq) => self.note(&[4, seq]),
                Deadline::Settling => self.release_held(),
            }
            if !self.is_running() {
                return;
            }
        }
        assert!(self.run.is_paused() || self.fold.deadline.is_none_or(|at| at > now), "a run ends at its deadline");
    }

    fn time_out(&mut self, id: WaitId) {
        let over = self.call(|run| run.end_wait(id)).expect("only of somebody who waits");
        let body = self.bodies.iter_mut().find(|body| match body.at {
            At::Waiting(other) | At::Sleeping(other) => other == id,
            _ => false,
        });
        match body {
            Some(body) => body.at = if over.class.is_some() { At::TimedOut } else { At::Ready },
            None => assert!(over.waiter.is_task),
        }
        self.note(&[5, over.waiter.slot.seq()]);
    }

    fn pause_or_resume(&mut self) {
        if self.run.is_paused() {
            return self.resume();
        }
        let was_paused = self.call(Run::pause);
        assert_eq!(was_paused, Ok(false));
        self.note(&[6]);
        if self.random.one_in(2) {
            return;
        }
        // The steps in flight are stopped, in whatever order their loop stops them. The run may go on before that.
        for at in 0..self.bodies.len() {
            let slot = self.bodies[at].slot;
            self.call(|run| run.stop(slot));
        }
        if self.random.one_in(3) {
            self.resume();
            self.send_from_outside();
        }
        while self.is_running() && !self.bodies.is_empty() {
            let at = self.random.below(self.bodies.len());
            self.give_up(at);
            let body = self.bodies.swap_remove(at);
            let put_back = self.call(|run| run.put_back(body.slot));
            // An event that is given back may end the run.
            assert_eq!(put_back.is_ok(), self.is_running());
            assert!(matches!(self.run.put_back(body.slot), Err(None)));
        }
        assert!(!self.is_running() || self.run.is_quiet() && self.run.in_flight() == 0);
    }

    pub(super) fn resume(&mut self) {
        self.note(&[7]);
        self.call(Run::resume);
        self.release_held();
        if self.is_running() {
            self.expire();
        }
    }

    /// What is held goes its way, one by one. Other threads may do something meanwhile.
    pub(super) fn release_held(&mut self) {
        while self.run.is_release_due() {
            let next =
                self.call(|run| run.next_release().map(|(number, held)| (number, held.event.0, held.is_from_outside)));
            let Some((number, event, is_from_outside)) = next else { return };
            self.pass_on(vec![event], Origin::Deferred { number, is_from_outside });
            if self.disturbances.pauses && self.random.one_in(30) && self.is_running() {
                let _ = self.call(Run::pause);
            }
            if self.random.one_in(4) {
                self.send_from_outside();
            }
        }
    }

    /// The process ends at this instant, and all is written.
    pub(super) fn put_down(&mut self) {
        self.note(&[9]);
        assert!(self.is_running());
        self.write();
        self.go_on_elsewhere();
    }

    /// The process ends, and what was not written is lost.
    pub(super) fn crash(&mut self) {
        self.note(&[21]);
        self.go_on_elsewhere();
    }

    fn go_on_elsewhere(&mut self) {
        let Some(written) = self.written.take() else { return };
        let before = DROPS.get();
        let restored = Run::restore(written.image, Arc::clone(&self.workflow.plan));
        assert_eq!(DROPS.get(), before, "what an image holds is in the run");
        self.run = restored;
        (self.fold, self.ledger, self.in_order) = (written.fold, written.ledger, written.in_order);
        self.bodies.clear();
        self.is_draining = false;
        self.version = self.version.wrapping_add(u8::from(self.random.one_in(3)));
        (self.acknowledged, self.queued_at) = (0, BTreeMap::new());
        self.begin_records();
        self.write();
        self.release_held();
    }

    /// An event was queued for a step with this many records.
    pub(super) fn note_delivery(&mut self, event: Named, step: StepId, recorded: u64) {
        let seq = self.ledger.deliver(event, step);
        self.queued_at.insert(seq, recorded);
        self.in_order[step.0 as usize].push_back(seq);
        let answers = self.workflow.answers(step, event);
        self.ledger.outside.extend(answers);
    }
}

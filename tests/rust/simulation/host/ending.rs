//! What is left to do, and the end of a run.

use std::collections::BTreeSet;

use treadle::{Phase, Progress, Run};

use super::Simulation;

impl Simulation {
    /// Nothing disturbs the run any more: it does what is left to do.
    pub(super) fn settle_down(&mut self) {
        (self.disturbances.snapshots, self.disturbances.pauses) = (false, false);
        if self.is_running() && self.is_draining {
            self.put_down();
        }
        if self.run.is_paused() {
            self.resume();
        }
        while !self.is_over {
            let recorded = self.run.recorded();
            self.acknowledge_up_to(recorded);
            let progress = self.progress();
            if progress == Progress::Ended {
                self.stop_any();
            } else if matches!(progress, Progress::Release | Progress::Expired | Progress::Ready) {
                self.do_next(progress);
            } else if (0..self.bodies.len()).any(|at| self.is_ready(at)) {
                self.advance_any();
            } else if !self.ledger.outside.is_empty() {
                self.send_answer();
            } else if let Some(next) = self.run.next_deadline() {
                self.now = self.now.max(next);
                self.expire();
            } else {
                assert!(!self.run.is_settling(), "whoever waited has come to that point again");
                assert!(self.run.is_quiet() && self.run.is_idle());
                let has_external = self.workflow.plan.steps.iter().any(|step| step.external);
                let is_dead = self.run.waiters().len() == 0 && !has_external;
                assert_eq!(progress, if is_dead { Progress::Stalled } else { Progress::Idle });
                return;
            }
            self.check();
        }
    }

    pub(super) fn progress(&mut self) -> Progress {
        let now = self.now;
        self.call(|run| run.poll(|| now))
    }

    /// What a lane does between two steps.
    pub(super) fn do_next(&mut self, progress: Progress) {
        match progress {
            Progress::Ended => self.stop_any(),
            Progress::Release => self.release_held(),
            Progress::Expired => self.expire(),
            Progress::Ready => {
                let in_flight = self.run.in_flight();
                self.start_next();
                assert_eq!(self.run.in_flight(), in_flight + 1, "it was ready");
            }
            Progress::HeldBack => {
                let recorded = self.run.recorded();
                self.acknowledge_up_to(recorded);
                assert!(self.run.ready() > 0, "it waited for its record alone");
            }
            Progress::Paused => assert!(self.run.is_held() && self.run.ready() == 0),
            Progress::NoPlace => panic!("a run of the simulation is never without a place"),
            Progress::Stalled => assert!(self.run.is_stalled()),
            Progress::Idle => assert!(self.run.ready() == 0 && !self.run.is_stalled()),
        }
    }

    /// One of the steps of a run that ends does something still, or stops.
    pub(super) fn stop_any(&mut self) {
        let at = self.random.below(self.bodies.len());
        if self.is_ready(at) && self.random.one_in(2) {
            return self.advance(at);
        }
        self.give_up(at);
        let body = self.bodies.swap_remove(at);
        match self.random.below(3) {
            0 => {
                let refused = self.call(|run| run.put_back(body.slot)).expect_err("the outcome is known");
                assert_eq!(refused.map(|refused| refused.value.seq), Some(body.slot.seq()));
                self.ledger.finish(body.slot.seq());
            }
            1 => {
                let refused =
                    self.call(|run| run.retry(body.slot, "late".into(), 0)).expect_err("the outcome is known");
                assert_eq!(refused.map(|refused| refused.value.seq), Some(body.slot.seq()));
                self.ledger.finish(body.slot.seq());
            }
            _ => self.leave(body.slot),
        }
        self.try_end();
    }

    pub(super) fn send_answer(&mut self) {
        let at = self.random.below(self.ledger.outside.len());
        let answer = self.ledger.outside[at];
        if self.sending.insert(answer.name) {
            self.take_in(answer);
            self.sending.remove(&answer.name);
        }
    }

    /// The outcome is known; the steps in flight are stopped, if anybody is left to stop them.
    pub(super) fn end(&mut self, is_abandoned: bool) {
        self.note(&[18]);
        let Some(remains) = self.call(Run::begin_end) else { return };
        let in_flight: BTreeSet<_> = self.bodies.iter().map(|body| body.slot.seq()).collect();
        let queued = remains.queue.waiting().chain(&remains.retries);
        let given = queued.map(|delivery| (delivery.seq, delivery.event.0.name)).collect();
        let kept = remains.kept.iter().map(|event| event.0.name).collect();
        self.ledger.end(&in_flight, given, kept);
        drop(remains);
        if is_abandoned {
            let deliveries = self.call(Run::abandon);
            assert!(deliveries.iter().map(|delivery| delivery.seq).collect::<BTreeSet<_>>() == in_flight);
            deliveries.iter().for_each(|delivery| self.ledger.finish(delivery.seq));
            self.bodies.clear();
            self.is_over = true;
            return;
        }
        self.try_end();
    }

    pub(super) fn try_end(&mut self) {
        if self.run.phase() == Phase::Ending && self.call(Run::try_end) {
            assert!(self.bodies.is_empty());
            self.is_over = true;
        }
    }
}

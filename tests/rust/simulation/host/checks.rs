//! What holds between any two calls of the core.

use std::sync::Arc;

use treadle::{HostImage, Phase, Run, StepId, Time};

use super::bodies::value;
use super::{Body, Simulation};
use crate::simulation::workflow::{Ev, Guest};

impl Simulation {
    pub(super) fn check(&self) {
        let run = &self.run;
        assert_eq!(run.in_flight() as usize, self.bodies.len());
        for body in &self.bodies {
            assert_eq!(run.event(body.slot).map(|event| event.0), Some(body.event));
        }
        if !self.is_running() {
            return;
        }
        self.ledger.check(&run.image());
        let could_start = self.could_start();
        let is_held_back = self.disturbances.is_durable && run.ready() == 0;
        assert!(run.ready() == could_start || run.is_held() || is_held_back);
        let is_waiting = |body: &Body| run.waiters().any(|(_, waiter)| waiter.slot == body.slot);
        assert_eq!(run.is_quiet(), self.bodies.iter().all(is_waiting));
        let has_retries = self.fold.pending.values().any(|pending| pending.due.is_some());
        let is_dead = could_start == 0 && self.bodies.is_empty() && !has_retries && run.waiters().len() == 0;
        assert!(
            !is_dead || !run.has_held() || run.is_held() || run.is_release_due(),
            "what is held is held for somebody"
        );
        let is_dead = is_dead && !run.has_held();
        let has_external = self.workflow.plan.steps.iter().any(|step| step.external);
        assert_eq!(run.is_stalled(), is_dead && !run.is_held() && !has_external, "it stalls, and says so");
        let is_queued = |seq: &u64| self.fold.pending[seq].due.is_none() && !self.is_in_flight(*seq);
        assert!(!run.is_settling() || self.fold.pending.keys().any(|seq| is_queued(seq) || self.is_in_flight(*seq)));
    }

    fn is_in_flight(&self, seq: u64) -> bool {
        self.bodies.iter().any(|body| body.slot.seq() == seq)
    }

    /// How many of the deliveries that are queued find a place in their step.
    fn could_start(&self) -> usize {
        let steps = self.workflow.plan.steps.iter().zip(0..);
        let could_start = steps.map(|(plan, number)| {
            let running = self.bodies.iter().filter(|body| body.step.0 == number).count();
            let limit = plan.concurrency.map_or(usize::MAX, |limit| limit.get() as usize);
            assert!(running <= limit, "{running} bodies run where {limit} may");
            let pending = self.fold.pending.iter();
            let queued =
                pending.filter(|(seq, it)| it.step.0 == number && it.due.is_none() && !self.is_in_flight(**seq));
            queued.count().min(limit - running)
        });
        could_start.sum()
    }

    /// A run that is over takes nothing any more.
    pub(super) fn check_over(&mut self) {
        assert!(self.is_over && self.run.phase() == Phase::Ended && self.ledger.pending.is_empty());
        assert!(self.run.waiters().len() == 0 && self.run.kept().next().is_none() && !self.run.has_deadline());
        assert!(self.run.set("late", value(0)).is_err() && self.run.pause().is_err() && !self.run.is_release_due());
        let event = || Ev(self.workflow.first_event());
        assert!(self.run.deliver_to(StepId(0), event()).is_err() && self.run.keep(event()).is_err());
        assert!(self.run.start_next(|| 0).is_none() && self.run.expire(Time::MAX).is_none());
        let restored: Run<Guest> = Run::restore(self.run.image(), Arc::clone(&self.workflow.plan));
        assert!(restored.phase() == Phase::Ended && restored.image() == self.fold);
    }
}

/// The first part in which two images differ.
pub(super) fn difference(one: &HostImage<Guest>, other: &HostImage<Guest>) -> String {
    type Show = fn(&HostImage<Guest>) -> String;
    let parts: [Show; 7] = [
        |image| format!("{:?} {:?} {:?}", image.created, image.deadline, image.status),
        |image| format!("{} {} {} {}", image.delivered, image.waited, image.grouped, image.published),
        |image| format!("{:?}", image.state.iter().collect::<Vec<_>>()),
        |image| format!("{:#?}", image.pending),
        |image| format!("{:?}", image.waits),
        |image| format!("{:?}", image.groups),
        |image| format!("{:?} {:?}", image.kept, image.held),
    ];
    let shown = parts.iter().map(|part| (part(one), part(other)));
    let different = shown.into_iter().find(|(one, other)| one != other);
    different.map_or(String::new(), |(one, other)| format!("{one}\nand the run is {other}"))
}

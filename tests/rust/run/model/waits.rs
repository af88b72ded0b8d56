//! Waits, kept and deferred events, and time in the model.

use treadle::{Deadline, Error, Refused, Slot, Time, WaitId};

use super::Model;
use crate::run::{Ev, ended, keeping};

/// A waiter.
pub(super) struct Wait {
    pub(super) id: WaitId,
    pub(super) waiter: u64,
    pub(super) slot: Slot,
}

impl Model {
    pub(super) fn wait(&mut self, at: usize, timeout: Option<Time>) {
        let Some(slot) = self.any_slot(at) else { return };
        let waiter = self.events + 1_000_000;
        self.events += 1;
        let deadline = timeout.map(|timeout| self.now + timeout);
        match self.run.wait(slot, waiter, Some(1), deadline) {
            Err(Refused { error, value }) => {
                assert!(error == Error::RunEnded && value == (waiter, Some(1)) && !self.is_running());
            }
            Ok(id) => {
                assert!(self.is_running());
                assert!(self.waits.iter().all(|wait| wait.id < id));
                self.waits.push(Wait { id, waiter, slot });
                self.deadlines.extend(deadline.map(|at| (at, Deadline::Wait(id))));
            }
        }
    }

    pub(super) fn end_wait(&mut self, id: WaitId, waiter: u64) {
        self.forget_deadline(Deadline::Wait(id));
        let over = keeping(|| self.run.end_wait(id)).expect("it had begun");
        assert_eq!((over.waiter, over.class), (waiter, Some(1)));
        assert!(self.run.end_wait(id).is_none(), "a wait ends once");
    }

    pub(super) fn receive(&mut self, at: usize) {
        let event = self.new_event();
        if self.waits.is_empty() {
            return;
        }
        let wait = self.waits.remove(at % self.waits.len());
        self.forget_deadline(Deadline::Wait(wait.id));
        let over = keeping(|| self.run.receive(wait.id, &event)).expect("it had begun");
        assert_eq!((over.waiter, over.class), (wait.waiter, Some(1)));
        assert!(self.run.receive(wait.id, &event).is_none(), "a wait ends once");
        if let Some(memory) = self.memory(wait.slot) {
            memory.received.push((event.0, true));
        }
    }

    pub(super) fn receive_again(&mut self, at: usize) {
        let Some(slot) = self.any_slot(at) else { return };
        let memory = self.memory(slot);
        let unclaimed: Vec<_> = memory
            .iter()
            .flat_map(|memory| memory.received.iter().enumerate())
            .filter(|(_, (_, is_claimed))| !is_claimed)
            .map(|(place, (event, _))| (place, *event))
            .collect();
        if let Some(memory) = memory
            && let Some(&(place, _)) = unclaimed.first()
        {
            memory.received[place].1 = true;
        }
        let next = |from| self.run.next_received_before(slot, from).map(|(place, event)| (place, event.0));
        let before: Vec<_> = std::iter::successors(next(0), |(place, _)| next(place + 1)).collect();
        assert_eq!(before, unclaimed);
        if let Some(&(place, _)) = before.first() {
            assert!(self.run.receive_again(slot, place));
            assert!(!self.run.receive_again(slot, place), "an event is received again once");
        }
    }

    pub(super) fn take_back(&mut self, at: usize) {
        let Some(slot) = self.any_slot(at) else { return };
        let taken = self.memory(slot).and_then(|memory| memory.received.pop());
        let event = Ev(taken.map_or(u64::MAX, |taken| taken.0));
        let answer = keeping(|| self.run.take_back(slot, &event));
        assert_eq!(answer.map(|event| event.0), taken.map(|taken| taken.0));
    }

    pub(super) fn keep(&mut self) {
        let event = self.new_event();
        let name = event.0;
        if !self.is_running() {
            return assert_eq!(keeping(|| self.run.keep(event)), Err(ended(Ev(name))));
        }
        assert_eq!(keeping(|| self.run.keep(event)), Ok(()));
        let (number, _) = self.run.kept().last().expect("just kept");
        assert!(self.kept.keys().all(|&old| old < number));
        self.kept.insert(number, name);
    }

    pub(super) fn take_kept(&mut self, at: usize, slot: usize) -> Option<Ev> {
        let (&number, &name) = self.kept.iter().nth(at.checked_rem(self.kept.len())?)?;
        let slot = self.any_slot(slot)?;
        self.kept.remove(&number);
        let taken = keeping(|| self.run.take_kept(slot, number));
        assert_eq!(taken, Some(Ev(name)));
        assert_eq!(self.run.take_kept(slot, number), None, "an event is taken once");
        if let Some(memory) = self.memory(slot) {
            memory.received.push((name, true));
        }
        taken
    }

    pub(super) fn hold(&mut self, is_from_outside: bool) {
        let event = self.new_event();
        let name = event.0;
        // Nobody holds what can be routed.
        if !self.is_running() {
            assert_eq!(keeping(|| self.run.hold(event, is_from_outside)), Err(ended(Ev(name))));
        } else if self.is_paused {
            assert_eq!(keeping(|| self.run.hold(event, is_from_outside)), Ok(()));
            self.held.push((name, is_from_outside));
        }
    }

    pub(super) fn release(&mut self) {
        for (name, is_from_outside) in std::mem::take(&mut self.held) {
            let (number, _) = self.run.next_release().expect("it is held");
            let held = keeping(|| self.run.release(number)).expect("it is held");
            assert_eq!((held.event.0, held.is_from_outside), (name, is_from_outside));
        }
        assert!(self.run.next_release().is_none());
    }

    pub(super) fn keep_again(&mut self, at: usize) {
        let Some(event) = self.take_kept(at, usize::MAX) else {
            let event = self.new_event();
            let name = event.0;
            if !self.is_running() {
                assert_eq!(keeping(|| self.run.keep_again(event)), Err(ended(Ev(name))));
            }
            return;
        };
        // Whoever asked for it is as if it had not.
        let slot = self.any_slot(usize::MAX).expect("it was taken by somebody");
        let name = event.0;
        let taken = keeping(|| self.run.take_back(slot, &event));
        assert_eq!(taken.is_some(), self.memory(slot).and_then(|memory| memory.received.pop()).is_some());
        assert_eq!(keeping(|| self.run.keep_again(event)), Ok(()));
        let (number, _) = self.run.kept().next().expect("just kept");
        assert!(self.kept.keys().all(|&other| number < other), "it is ahead of the others");
        self.kept.insert(number, name);
    }

    pub(super) fn pass(&mut self, time: Time) {
        self.now += time;
        loop {
            let first = (0..self.deadlines.len()).min_by_key(|&at| self.deadlines[at].0);
            let due = first.filter(|&at| self.deadlines[at].0 <= self.now && !self.is_paused);
            let expected = due.map(|at| self.deadlines.remove(at).1);
            assert_eq!(keeping(|| self.run.expire(self.now)), expected);
            match expected {
                None => return,
                Some(Deadline::Run | Deadline::End) => {}
                Some(Deadline::Settling) => unreachable!("nobody waited when the run was put down"),
                Some(Deadline::Retry(seq)) => {
                    let job = self.retries.remove(&seq).expect("only of a delivery that is to be tried again");
                    self.waiting.push(job);
                }
                Some(Deadline::Step(slot)) => {
                    assert!(self.flights.iter().any(|flight| flight.0 == slot), "only of a step in flight");
                }
                Some(Deadline::Wait(id)) => {
                    let at = self.waits.iter().position(|wait| wait.id == id).expect("only of somebody who waits");
                    let wait = self.waits.remove(at);
                    self.end_wait(id, wait.waiter);
                }
            }
        }
    }
}

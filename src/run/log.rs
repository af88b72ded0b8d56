//! The records of a run: what is recorded, what of it is taken to be written, and what is acknowledged.

use super::{Host, HostRecord, Phase, Run};
use crate::record::Record;
use crate::timers::Time;

impl<H: Host> Run<H> {
    /// From now on, everything that happens is recorded. The records come behind those that the run was restored
    /// from.
    pub fn start_log(&mut self) {
        self.log.get_or_insert_default();
        for wait in self.left_behind.take() {
            self.record(|| Record::WaitOver { wait });
        }
    }

    /// The time of what is recorded from now on. A run without a log does not ask for it.
    #[inline]
    pub fn stamp(&mut self, now: impl FnOnce() -> Time) {
        if self.log.is_some() {
            self.time = now();
        }
    }

    /// How many records there were since the log was begun.
    pub fn recorded(&self) -> u64 {
        self.recorded
    }

    /// The first so many records are safe: what they queued may start. Says whether anything may that could not.
    pub fn acknowledge(&mut self, recorded: u64) -> bool {
        let was_held = self.is_held_back();
        self.acknowledged = self.acknowledged.max(recorded);
        was_held && !self.is_held_back()
    }

    /// What is queued from now on waits until its record is acknowledged.
    pub fn hold_back(&mut self) {
        self.acknowledged = self.acknowledged.min(self.recorded);
    }

    /// Whether the next delivery waits for its record to be safe.
    #[inline]
    pub fn is_held_back(&self) -> bool {
        self.queue.peek().is_some_and(|delivery| delivery.recorded > self.acknowledged)
    }

    /// How many records were not taken yet.
    pub fn unwritten(&self) -> usize {
        self.log.as_ref().map_or(0, Vec::len)
    }

    /// The records since the last call, oldest first.
    pub fn take_log(&mut self) -> Vec<HostRecord<H>> {
        self.log.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Records what happens as long as the outcome is not known: nothing of it matters to a run that is over.
    #[inline]
    pub(super) fn record(&mut self, record: impl FnOnce() -> HostRecord<H>) {
        if self.phase == Phase::Running {
            self.record_to_the_end(record);
        }
    }

    /// Records what is still seen of a run when it is over.
    #[inline]
    pub(super) fn record_to_the_end(&mut self, record: impl FnOnce() -> HostRecord<H>) {
        if let Some(log) = &mut self.log {
            log.push(record());
            self.recorded += 1;
        }
    }
}

//! The answers of a journal on their way to the event loop, and how many are handed on in one pass.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::journal::Batch;

// How long a pass of the loop may take while answers wait. A task that is told of one goes on in the next pass, so the
// number of those who are told has to be limited, not the time that telling them takes.
const PASS: Duration = Duration::from_millis(8);

pub(super) const LEAST_AT_ONCE: usize = 16;

const MOST_AT_ONCE: usize = 1024;

// How many answers are handed on in one pass of the loop.
pub(super) struct Pace {
    pub(super) at_once: usize,
    // When some were handed on in the last pass, and others left for this one.
    pub(super) handed_on: Option<Instant>,
}

impl Pace {
    /// How many are handed on now, by how long the last pass has taken.
    pub(super) fn next(&mut self) -> usize {
        if let Some(handed_on) = self.handed_on.take() {
            let at_once = if handed_on.elapsed() > PASS { self.at_once / 2 } else { self.at_once + self.at_once / 8 };
            self.at_once = at_once.clamp(LEAST_AT_ONCE, MOST_AT_ONCE);
        }
        self.at_once
    }
}

// Where the journal's thread puts what it has to say. It never waits for the interpreter.
pub(super) struct Mailbox {
    pub(super) batches: Mutex<Vec<Batch>>,
    pub(super) is_rung: AtomicBool,
    pub(super) bell: UnixStream,
}

impl Mailbox {
    pub(super) fn put(&self, batch: Batch) {
        self.batches.lock().push(batch);
        if !self.is_rung.swap(true, Ordering::AcqRel) {
            // A full pipe has rung already; a closed one has no listener.
            let _ = (&self.bell).write(&[1]);
        }
    }

    pub(super) fn take(&self, mut ears: &UnixStream) -> Vec<Batch> {
        let mut heard = [0; 64];
        let _ = ears.read(&mut heard);
        // Put back before the batches are taken, so that what comes in between rings again.
        self.is_rung.store(false, Ordering::Release);
        std::mem::take(&mut *self.batches.lock())
    }
}

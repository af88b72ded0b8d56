//! Holding a run: nothing starts, no deadline passes, and events that come are held until it is resumed.

use super::{Host, Phase, Run};
use crate::image::Held;
use crate::record::Record;
use crate::{Error, Refused};

impl<H: Host> Run<H> {
    /// Whether the run starts nothing for now.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Starts nothing from now on, though the run is not paused: it goes on elsewhere. Steps in flight may finish.
    pub fn drain(&mut self) {
        self.is_draining = true;
    }

    /// Whether the run starts nothing, since it is paused or goes on elsewhere.
    pub fn is_held(&self) -> bool {
        self.is_paused || self.is_draining
    }

    /// Starts nothing from now on. Says whether it did so before.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    pub fn pause(&mut self) -> Result<bool, Error> {
        if self.phase != Phase::Running {
            return Err(Error::RunEnded);
        }
        if self.is_paused {
            return Ok(true);
        }
        self.is_paused = true;
        self.record(|| Record::Paused);
        Ok(false)
    }

    /// Goes on. Gives the events that came meanwhile, oldest first, for the host to route them.
    pub fn resume(&mut self) -> Vec<Held<H::Event>> {
        if self.phase != Phase::Running {
            return Vec::new();
        }
        if std::mem::take(&mut self.is_paused) {
            self.record(|| Record::Resumed);
        }
        if self.held.get().is_some_and(|held| !held.is_empty()) {
            self.record(|| Record::Released);
        }
        self.held.take().into()
    }

    /// Whether every step in flight waits for an event or sleeps: while the run is paused, nothing moves then.
    pub fn is_quiet(&self) -> bool {
        self.in_flight == self.waiting
    }

    /// Holds an event until the run is resumed.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    pub fn hold(&mut self, event: H::Event, is_from_outside: bool) -> Result<(), Refused<H::Event>> {
        if self.phase != Phase::Running {
            return Err(Refused::new(Error::RunEnded, event));
        }
        self.record(|| Record::Held { is_from_outside, event: H::copy_event(&event) });
        self.held.make().push_back(Held { is_from_outside, event });
        Ok(())
    }

    /// Holds an event ahead of the others: it came before the run was paused, but whoever got it went away.
    ///
    /// # Errors
    /// As [`Run::hold`].
    pub fn hold_again(&mut self, event: H::Event) -> Result<(), Refused<H::Event>> {
        let later = self.held.take();
        if !later.is_empty() {
            self.record(|| Record::Released);
        }
        let mut held = self.hold(event, true);
        for Held { is_from_outside, event } in later {
            held = held.and(self.hold(event, is_from_outside));
        }
        held
    }
}

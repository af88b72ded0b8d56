//! A run that waits for a place among the runs of its workflow: it starts nothing, and everything else goes on.

use super::{Host, Phase, Run};

impl<H: Host> Run<H> {
    /// Starts nothing from now on, until the run [takes a place](Self::take_place). Deadlines pass, and events go their way.
    pub fn leave_place(&mut self) {
        self.lacks_place = true;
    }

    /// The run has a place: what is ready may start.
    pub fn take_place(&mut self) {
        self.lacks_place = false;
    }

    /// Whether the run starts nothing before it has a place.
    pub fn lacks_place(&self) -> bool {
        self.lacks_place
    }

    /// Whether the run has something to start, and no place.
    pub fn needs_place(&self) -> bool {
        self.phase == Phase::Running && self.lacks_place && !self.is_held() && self.queue.ready() > 0
    }

    /// Whether nothing of the run is executed before somebody or something comes from outside: it only waits, or is paused
    /// and every body in flight waits.
    pub fn rests(&self) -> bool {
        self.only_waits() || (self.phase == Phase::Running && self.is_paused && self.is_quiet())
    }

    /// Whether nothing of the run is executed but bodies that wait, and so many others.
    pub fn rests_but_for(&self, others: u32) -> bool {
        let moving = self.in_flight - self.waiting;
        self.phase == Phase::Running && self.queue.ready() == 0 && moving > 0 && moving <= others
    }
}

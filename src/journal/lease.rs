//! Leases, and the clock that they are measured on.
//!
//! A lease is a duration. It is measured on a clock that every process which shares the journal reads alike, and
//! that cannot be set: a step of the wall clock changes nothing about who owns a run.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Names one run of a machine, from its boot to the next. Moments of different boots cannot be compared.
pub type BootId = [u8; 16];

/// A moment on the clock of leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The boot that the time counts from.
    pub boot: BootId,
    /// Microseconds since then.
    pub micros: u64,
}

/// A clock of leases.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Moment + Send + Sync>);

impl Clock {
    /// A clock that says what the function returns.
    pub fn new(now: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// A clock for a journal that never leaves this process.
    pub fn of_this_process() -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        Self::new(|| {
            let elapsed = START.get_or_init(Instant::now).elapsed();
            Moment { boot: [0; 16], micros: micros(elapsed) }
        })
    }

    /// The time.
    pub fn now(&self) -> Moment {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

/// A lease as journals store it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    /// When it began, or was renewed.
    pub(super) since: Moment,
    /// How many microseconds it lasts.
    pub(super) lasts: u64,
}

impl Lease {
    /// A lease that begins now. One that is too long to count never ends.
    pub(super) fn new(now: Moment, lasts: Duration) -> Self {
        Self { since: now, lasts: micros(lasts) }
    }

    /// How long it lasts from now on; nothing if it is over. One of another boot is over: no process survives that.
    /// So is one that began later than now: the machine was booted meanwhile, even if the boots have no names.
    pub(super) fn left(&self, now: Moment) -> Option<Duration> {
        if self.since.boot != now.boot || self.since.micros > now.micros {
            return None;
        }
        self.since.micros.saturating_add(self.lasts).checked_sub(now.micros).map(Duration::from_micros)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

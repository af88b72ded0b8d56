//! The clock and the random bits of a run, from the operating system.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::{RunId, Time};

/// The time now, in microseconds since the Unix epoch. It never goes back while the process lives.
pub fn now() -> Time {
    static START: OnceLock<(Instant, Time)> = OnceLock::new();
    let (start, epoch) = START.get_or_init(|| {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (Instant::now(), since_epoch.as_micros() as Time)
    });
    epoch + start.elapsed().as_micros() as Time
}

const RANDOM_POOL: usize = 10 * 64;

// The bytes, and how many of them were used.
static RANDOM: Mutex<([u8; RANDOM_POOL], usize)> = Mutex::new(([0; RANDOM_POOL], RANDOM_POOL));

/// A new run id. The random bits come from the operating system, some at a time.
pub fn new_run_id() -> PyResult<RunId> {
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let mut pool = RANDOM.lock();
    let (bytes, used) = &mut *pool;
    if *used == RANDOM_POOL {
        getrandom::fill(bytes).map_err(|error| PyOSError::new_err(error.to_string()))?;
        *used = 0;
    }
    let mut random = [0; 10];
    random.copy_from_slice(&bytes[*used..*used + 10]);
    *used += 10;
    Ok(RunId::new(unix_ms, random))
}

/// Forgets the random bytes at hand. A forked child has a copy of them, and must not give out the ids
/// that its parent gives out.
#[pyfunction]
#[pyo3(name = "_after_fork_in_child")]
pub fn after_fork_in_child() {
    RANDOM.lock().1 = RANDOM_POOL;
}

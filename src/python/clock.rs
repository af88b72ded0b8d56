//! The clock and the random bits of a run, from the operating system.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::run::Run;
use crate::journal::sqlite::since_boot;
use crate::{RunId, Time};

/// The time now, in microseconds since the Unix epoch. It never goes back while the process lives.
pub fn now() -> Time {
    // A machine that was suspended finds what is due by then. The wall clock may be set; nothing here is late by it.
    static START: OnceLock<(u64, Time)> = OnceLock::new();
    let (start, epoch) = START.get_or_init(|| {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (since_boot(), since_epoch.as_micros() as Time)
    });
    epoch.saturating_add(since_boot().saturating_sub(*start))
}

const RANDOM_POOL: usize = 10 * 64;

// The bytes, and how many of them were used.
static RANDOM: Mutex<([u8; RANDOM_POOL], usize)> = Mutex::new(([0; RANDOM_POOL], RANDOM_POOL));

/// A new run id. Those of one millisecond are in the order in which this process made them; the random bits come from the
/// operating system, some at a time.
pub fn new_run_id() -> PyResult<RunId> {
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let mut bits = random_bytes()?;
    let [high, low] = number_within(unix_ms).to_be_bytes();
    (bits[0], bits[1]) = (high, low);
    Ok(RunId::new(unix_ms, bits))
}

/// How many ids were made before in this millisecond, as far as 12 bits count them.
fn number_within(unix_ms: u64) -> u16 {
    // The millisecond of the last id, and its number.
    static LAST: AtomicU64 = AtomicU64::new(0);
    let next = |last: u64| if last >> 12 == unix_ms { last + 1 } else { unix_ms << 12 };
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
    next(last.unwrap_or_else(|last| last)) as u16 & 0xfff
}

/// A number from 0 up to 1.
pub fn random() -> PyResult<f64> {
    let [a, b, c, d, ..] = random_bytes()?;
    Ok(f64::from(u32::from_le_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0))
}

fn random_bytes() -> PyResult<[u8; 10]> {
    let mut pool = RANDOM.lock();
    let (bytes, used) = &mut *pool;
    if *used == RANDOM_POOL {
        getrandom::fill(bytes).map_err(|error| PyOSError::new_err(error.to_string()))?;
        *used = 0;
    }
    let mut random = [0; 10];
    random.copy_from_slice(&bytes[*used..*used + 10]);
    *used += 10;
    Ok(random)
}

// How many forks made this process out of the one that loaded the package. Asking for the process's number would be
// a system call each time.
static FORKS: AtomicUsize = AtomicUsize::new(0);

/// Tells the process from those that it was forked from.
#[inline]
pub fn forks() -> usize {
    FORKS.load(Ordering::Relaxed)
}

/// Called by Python in a forked child. It has a copy of the random bytes at hand, and must not give out the ids that
/// its parent gives out.
#[pyfunction]
#[pyo3(name = "_after_fork_in_child")]
pub fn after_fork_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    crate::journal::sqlite::close_in_forked_child();
    RANDOM.lock().1 = RANDOM_POOL;
}

/// A clock that tests turn by hand: the runs that were made while it was the current one go by it.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct ManualClock {
    now: AtomicU64,
    // Runs that have a deadline.
    runs: Mutex<Vec<Py<PyAny>>>,
}

static MANUAL_CLOCKS: AtomicUsize = AtomicUsize::new(0);
static CURRENT_CLOCK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

impl ManualClock {
    /// The clock of the caller's context, if there is one.
    #[inline]
    pub fn current(py: Python<'_>) -> PyResult<Option<Py<Self>>> {
        if MANUAL_CLOCKS.load(Ordering::Relaxed) == 0 { Ok(None) } else { Self::find(py) }
    }

    #[cold]
    fn find(py: Python<'_>) -> PyResult<Option<Py<Self>>> {
        let variable = CURRENT_CLOCK.import(py, "treadle.testing", "current_clock")?;
        Ok(variable.call_method1(intern!(py, "get"), (py.None(),))?.extract()?)
    }

    /// The run has a deadline: it is told when time has passed.
    pub fn register(clock: &Bound<'_, Self>, run: &Bound<'_, Run>) -> PyResult<()> {
        let py = clock.py();
        let reference = py.import(intern!(py, "weakref"))?.call_method1(intern!(py, "ref"), (run,))?;
        let mut runs = clock.get().runs.lock();
        // Two references to a live object are the same object.
        if !runs.iter().any(|known| known.is(&reference)) {
            runs.push(reference.unbind());
        }
        Ok(())
    }
}

#[pymethods]
impl ManualClock {
    /// A clock that stands at the present.
    #[new]
    fn new() -> Self {
        MANUAL_CLOCKS.fetch_add(1, Ordering::Relaxed);
        Self { now: AtomicU64::new(now()), runs: Mutex::default() }
    }

    /// Seconds since the Unix epoch.
    #[getter]
    fn now(&self) -> f64 {
        self.now.load(Ordering::Relaxed) as f64 / 1e6
    }

    /// The next deadline of any run, in seconds since the Unix epoch.
    fn next_deadline(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        let mut next: Option<Time> = None;
        for run in self.live_runs(py)? {
            let deadline = run.get().state.lock().core.next_deadline();
            next = [next, deadline].into_iter().flatten().min();
        }
        Ok(next.map(|next| next as f64 / 1e6))
    }

    /// Sets the time forward, to `seconds` since the Unix epoch, and tells every run what is due by then.
    fn set(&self, py: Python<'_>, seconds: f64) -> PyResult<()> {
        // Rounded up, so that what is due at that very second is.
        let to = (seconds * 1e6).ceil() as Time;
        self.now.fetch_max(to, Ordering::Relaxed);
        for run in self.live_runs(py)? {
            Run::expire(&run)?;
        }
        Ok(())
    }
}

impl ManualClock {
    fn live_runs<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, Run>>> {
        let references: Vec<_> = self.runs.lock().iter().map(|reference| reference.clone_ref(py)).collect();
        let mut live = Vec::new();
        let mut dead = Vec::new();
        for reference in references {
            match reference.bind(py).call0()?.cast_into::<Run>() {
                Ok(run) => live.push(run),
                Err(_) => dead.push(reference),
            }
        }
        let mut runs = self.runs.lock();
        let forgotten: Vec<_> =
            runs.extract_if(.., |known| dead.iter().any(|gone| gone.as_ptr() == known.as_ptr())).collect();
        drop(runs);
        drop(forgotten);
        Ok(live)
    }
}

impl Drop for ManualClock {
    fn drop(&mut self) {
        MANUAL_CLOCKS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The time by a clock of the tests, or else by that of the system.
#[inline]
pub fn now_by(clock: Option<&Py<ManualClock>>) -> Time {
    clock.map_or_else(now, |clock| clock.get().now.load(Ordering::Relaxed))
}

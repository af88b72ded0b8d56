//! The course of a run as columns: what a page draws as its timeline.

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::inspect::seconds;
use super::journal::Journal;
use super::recover::LoadedRun;
use crate::history::course::Attempt;
use crate::history::{Course, History};
use crate::timers::Time;

/// The attempts of a run, made from the parts of its history in their order.
#[pyclass(frozen, module = "treadle._treadle")]
pub struct RunCourse(Mutex<Filled>);

#[derive(Default)]
struct Filled {
    course: Course,
    has_part: bool,
}

#[pymethods]
impl RunCourse {
    #[new]
    fn new() -> Self {
        Self(Mutex::default())
    }

    /// Goes on with the next part of the history. Other threads run meanwhile.
    fn add(&self, py: Python<'_>, part: &LoadedRun, journal: &Journal) -> PyResult<()> {
        let trusted = journal.for_showing();
        py.detach(|| {
            let mut filled = self.0.lock();
            let is_first = !std::mem::replace(&mut filled.has_part, true);
            filled.course.add(&History::new(&part.0, trusted), is_first)
        })?;
        Ok(())
    }

    /// Gives the names, the failures and the columns, with times relative to `base`, in seconds. `most` is the largest
    /// number of failures, and of bytes of each.
    fn columns<'py>(
        &self,
        py: Python<'py>,
        is_completed: bool,
        finished: Option<f64>,
        base: f64,
        most: usize,
    ) -> PyResult<Bound<'py, PyDict>> {
        let filled = std::mem::take(&mut *self.0.lock());
        let (course, bytes) = py.detach(|| {
            let mut course = filled.course;
            course.finish(is_completed, finished.map(super::plan::micros));
            let bytes = columns(&course.attempts, base);
            (course, bytes)
        });
        let shown = PyDict::new(py);
        shown.set_item("count", course.attempts.len())?;
        shown.set_item("steps", course.steps.as_slice().iter().map(|name| &**name).collect::<Vec<_>>())?;
        shown.set_item("classes", course.classes.as_slice().iter().map(|name| &**name).collect::<Vec<_>>())?;
        let failures = course.failures.iter().take(most);
        let cut = |text: &str| text.chars().take(most).collect::<String>();
        shown.set_item("failures", failures.map(|(place, text)| (*place, cut(text))).collect::<Vec<_>>())?;
        shown.set_item("columns", PyBytes::new(py, &bytes))?;
        Ok(shown)
    }
}

// The wider columns come first, so that each is aligned if the first one is. What is not known is not a number.
fn columns(attempts: &[Attempt], base: f64) -> Vec<u8> {
    let relative = |time: Option<Time>| time.map_or(f64::NAN, |time| seconds(time) - base);
    let between = |from: Option<Time>, to: Option<Time>| match (from, to) {
        (Some(from), Some(to)) => seconds(to.saturating_sub(from)) as f32,
        _ => f32::NAN,
    };
    let mut bytes = Vec::with_capacity(attempts.len() * 47);
    let short = |number: u64| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    let narrow = |number: u32| u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes();
    bytes.extend(attempts.iter().flat_map(|it| relative(it.began.or(it.queued)).to_le_bytes()));
    bytes.extend(attempts.iter().flat_map(|it| between(it.queued, it.began).to_le_bytes()));
    bytes.extend(attempts.iter().flat_map(|it| between(it.began, it.ended).to_le_bytes()));
    bytes.extend(attempts.iter().flat_map(|it| between(it.began, it.waits).to_le_bytes()));
    bytes.extend(attempts.iter().flat_map(|it| short(it.record)));
    bytes.extend(attempts.iter().flat_map(|it| short(it.began_record)));
    bytes.extend(attempts.iter().flat_map(|it| short(it.ended_record)));
    bytes.extend(attempts.iter().flat_map(|it| short(it.delivery)));
    bytes.extend(attempts.iter().flat_map(|it| short(it.cause.map_or(u64::MAX, |place| place as u64))));
    bytes.extend(attempts.iter().flat_map(|it| narrow(it.step)));
    bytes.extend(attempts.iter().flat_map(|it| narrow(it.class)));
    bytes.extend(attempts.iter().flat_map(|it| narrow(it.number)));
    bytes.extend(attempts.iter().map(|it| it.end as u8));
    bytes
}

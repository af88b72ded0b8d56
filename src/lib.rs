//! treadle, a workflow engine for async Python.
//!
//! The core is sans-I/O and knows no Python. Where things are:
//!
//! - [`run`]: one run as a state machine; `store`, `queue`, `stream` and `timers` meet there.
//! - [`value`]: what a key holds, its tag, and the JSON text writer.
//! - [`store`]: one run's keys and values.
//! - [`event`]: kinds of events and the table of routes.
//! - [`queue`]: deliveries that wait for a step, and events that a step collects.
//! - [`stream`]: what a run publishes.
//! - [`timers`]: the deadlines of a run.
//! - [`run_id`], [`error`]: the name of a run, and what can go wrong.
//! - `python` (feature `python`): the binding, the only room that knows Python.

pub mod error;
pub mod event;
pub mod queue;
pub mod run;
pub mod run_id;
pub mod store;
pub mod stream;
pub mod timers;
pub mod value;

#[cfg(feature = "python")]
mod python;

pub use error::{Error, Refused};
pub use event::{Delivery, EventKind, Routes, StepId};
pub use queue::{Collected, Queue};
pub use run::{Complete, Deadline, Host, Phase, Plan, Remains, Run, Slot, Started, StepPlan, WaitId};
pub use run_id::RunId;
pub use store::Store;
pub use stream::{Read, Stream};
pub use timers::{Time, Timers};
pub use value::{JsonWriter, MAX_DEPTH, Stored, Tag, Value};

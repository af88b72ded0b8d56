//! The binding: the only room that knows Python, and the only one with `unsafe`.
//!
//! - `plan`: a compiled workflow, its step functions and the route of each class of events.
//! - `run`: a run with its event loop; `state`: what changes of it; `clock`: its time and its random bits.
//! - `router`: the core's router with matchers and futures.
//! - `driver`: the lanes that run its steps; `coroutine`: one step's coroutine; `gate`: fairness between runs.
//! - `places`: the runs of a workflow of which only so many execute at once.
//! - `starter`: runs that nothing awaits; `unreferenced`: those that nothing refers to.
//! - `hook`: what the user's hooks may raise.
//! - `context`, `wait`, `memo`, `children`, `reader`: what steps and callers use; `current`: how code below a step finds it; `number`: the numbers that they give.
//! - `lifecycle`: what observers are told.
//! - `transaction`: what a step writes together with rows of the user.
//! - `failpoints` (feature `failpoints`): what tests need to know of them.
//! - `convert`: values; `to_json`, `parse`: objects to JSON text and back; `pickle`: all others, with the `c_stack`
//!   that takes; `text`: keys and names. `digest`: what is equal to what; `apart`: what an object consists of. `stored`: events as bytes; `wake`: waking waiters from any thread; `thread_number`: which thread runs; `error`: every exception.

mod apart;
mod between;
mod c_stack;
mod changes;
mod children;
mod clock;
mod commits;
mod context;
mod convert;
mod copying;
mod coroutine;
mod course;
mod current;
mod digest;
mod driver;
mod durable;
mod engine;
mod error;
mod event;
#[cfg(feature = "failpoints")]
mod failpoints;
mod failure;
mod gate;
mod history;
mod hook;
mod inbox;
mod inspect;
mod journal;
mod lifecycle;
mod memo;
mod number;
mod occurrence;
mod outcome;
mod parse;
mod password;
mod pause;
mod pickle;
mod places;
mod plan;
mod reader;
mod recover;
mod router;
mod run;
mod run_options;
mod snapshot;
mod starter;
mod state;
mod stored;
mod text;
mod thread_number;
mod timeline;
mod to_json;
mod transaction;
mod unreferenced;
mod wait;
mod wake;

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The compiled part of the package `treadle`.
#[pymodule(gil_used = true)]
fn _treadle(module: &Bound<'_, PyModule>) -> PyResult<()> {
    #[cfg(feature = "failpoints")]
    failpoints::register(module)?;
    error::classes::load(module.py());
    module.add_class::<context::Context>()?;
    module.add_class::<children::ChildRun>()?;
    module.add_class::<children::ChildWait>()?;
    module.add_class::<clock::ManualClock>()?;
    module.add_class::<driver::Lane>()?;
    module.add_class::<engine::EngineCore>()?;
    module.add_class::<gate::Gate>()?;
    module.add_class::<journal::Journal>()?;
    module.add_class::<memo::MemoBegun>()?;
    module.add_class::<recover::LoadedRun>()?;
    module.add_class::<course::RunCourse>()?;
    module.add_class::<pause::Pause>()?;
    module.add_class::<plan::Plan>()?;
    module.add_class::<reader::StreamReader>()?;
    module.add_class::<run::Run>()?;
    module.add_class::<transaction::TransactionBegun>()?;
    module.add_class::<wait::EventWait>()?;
    module.add_function(wrap_pyfunction!(copying::copy_runs, module)?)?;
    module.add_function(wrap_pyfunction!(current::current_context, module)?)?;
    module.add_function(wrap_pyfunction!(current::want_current_step, module)?)?;
    module.add_function(wrap_pyfunction!(error::panic, module)?)?;
    module.add_function(wrap_pyfunction!(journal::journal_path, module)?)?;
    module.add_function(wrap_pyfunction!(inspect::inspect, module)?)?;
    module.add_function(wrap_pyfunction!(history::archive, module)?)?;
    module.add_function(wrap_pyfunction!(journal::journal_shown, module)?)?;
    module.add_function(wrap_pyfunction!(journal::journal_takes_password, module)?)?;
    module.add_function(wrap_pyfunction!(journal::postgres_statements, module)?)?;
    module.add_function(wrap_pyfunction!(gate::set_result_unless_done, module)?)?;
    module.add_function(wrap_pyfunction!(wake::set_exception_unless_done, module)?)?;
    let after_fork = wrap_pyfunction!(clock::after_fork_in_child, module)?;
    let hook = PyDict::new(module.py());
    hook.set_item("after_in_child", after_fork)?;
    module.py().import("os")?.getattr("register_at_fork")?.call((), Some(&hook))?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))
}

//! Tests of the core, a module a room. They need no Python.

mod collected;
mod event;
mod queue;
mod run;
mod run_id;
mod store;
mod stream;
mod timers;
mod value;

//! Tests of the core, a module a room. They need no Python.

mod children;
mod collected;
mod digest;
mod engine;
mod event;
mod formats;
mod guest;
mod history;
mod image;
mod journal;
mod memo;
mod pause;
mod poll;
mod queue;
mod replay;
mod retry;
mod router;
mod run;
mod run_id;
mod settle;
mod simulation;
mod store;
mod stream;
mod timers;
mod value;
mod writer;

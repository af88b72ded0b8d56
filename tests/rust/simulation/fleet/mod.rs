//! Fleets: several real engines on one journal, from a seed. Processes crash, freeze, are closed and begin anew; clocks
//! jump; the journal is away for a while; answers come late or never.
//!
//! Each run is the real one: its state machine, router, writer and history. Bodies make calls once, whose arguments differ
//! between the versions of the code, and start children. Users cancel, pause, resume, retry and fork, and
//! change the state of runs from outside.
//!
//! Checked all the time: one owner for each run, no acknowledged record lost, no message received twice or never, each
//! child started once and its end told once, no orphan, no lease lost that was renewed, no more claims than there is room
//! for; at the end every run comes to its end.

mod bugs;
mod changes;
mod children;
mod encode;
mod execution;
mod families;
mod flows;
mod ledger;
mod memos;
mod posts;
mod process;
mod steps;
mod users;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use bugs::Bug;
use world::World;

use super::{for_each_seed, seeds};

#[test]
fn no_fleet_loses_or_doubles_anything() {
    for_each_seed(seeds(), |seed| {
        let trace = World::new(seed, None).play();
        if seed.is_multiple_of(100) {
            assert_eq!(trace, World::new(seed, None).play(), "the same seed gives the same history");
        }
        1
    });
}

#[test]
fn every_seeded_bug_is_found() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let missed = Mutex::new(Vec::new());
    for_each_seed(0..Bug::ALL.len() as u64, |number| {
        let bug = Bug::ALL[number as usize];
        let found = (0..10_000).find_map(|seed| Some((seed, finds(bug, seed)?)));
        println!("{bug:?}: found by seed {found:?}");
        if found.is_none() {
            missed.lock().expect("no thread panics with it").push(bug);
        }
        1
    });
    std::panic::set_hook(hook);
    assert_eq!(missed.into_inner().expect("no thread panics with it"), [], "each is found within 10,000 seeds");
}

/// How a fleet with a bug fails, if it does.
fn finds(bug: Bug, seed: u64) -> Option<String> {
    let played = catch_unwind(AssertUnwindSafe(|| World::new(seed, Some(bug)).play()));
    played.err().map(|panic| message(&*panic))
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    text.chars().take(200).collect()
}

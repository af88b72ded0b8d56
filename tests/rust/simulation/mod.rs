//! Random workflows under a random host, from a seed: no history loses or doubles an event, a run is the fold of its
//! records after every call, and where order does not matter, neither do pauses and restarts.
//!
//! `SEEDS=1000000 cargo test --release --test rust simulation` for a long run, `SEED=n` for one history.

mod fleet;
mod host;
mod ledger;
mod random;
mod workflow;

use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use host::{Disturbances, Outcome, Simulation};
use workflow::Workflow;

/// Names the seed if its history fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SEED={} fails", self.0);
        }
    }
}

fn seeds() -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(10_000),
    }
}

/// Runs histories for each seed of the range, on two threads. Gives the number of calls of the core.
fn for_each_seed(range: Range<u64>, play: impl Fn(u64) -> u64 + Sync) -> u64 {
    let (next, calls) = (AtomicU64::new(range.start), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= range.end {
                    return;
                }
                let named = Seed(seed);
                calls.fetch_add(play(named.0), Ordering::Relaxed);
            }
        };
        let workers = [scope.spawn(work), scope.spawn(work)];
        for worker in workers {
            worker.join().expect("every history keeps what is promised");
        }
    });
    calls.into_inner()
}

/// Every third workflow starts its deliveries only once their records are safe.
fn disturbed(seed: u64) -> Disturbances {
    let is_durable = seed.is_multiple_of(3);
    Disturbances { pauses: true, snapshots: true, cancels: true, is_durable, takes_calls_for_one: false }
}

fn play(seed: u64, is_orderless: bool, schedule: u64, disturbances: Disturbances) -> (Outcome, u64, u64) {
    Simulation::new(Rc::new(Workflow::new(seed, is_orderless)), schedule, disturbances).play()
}

#[test]
fn no_history_loses_or_doubles_an_event() {
    let range = seeds();
    let calls = for_each_seed(range.clone(), |seed| {
        let (outcome, trace, calls) = play(seed, false, 0, disturbed(seed));
        if seed.is_multiple_of(100) {
            let again = play(seed, false, 0, disturbed(seed));
            assert_eq!((&outcome, trace), (&again.0, again.1), "the same seed gives the same history");
        }
        calls
    });
    println!("{calls} calls of the core for the seeds {range:?}");
}

#[test]
fn where_order_does_not_matter_neither_do_pauses_and_restarts() {
    // Each seed has two histories here, and longer ones: a fifth of them takes as long as all above.
    let Range { start, end } = seeds();
    let range = start..start + (end - start).div_ceil(5);
    let calls = for_each_seed(range.clone(), |seed| {
        let disturbances = Disturbances { cancels: false, ..disturbed(seed) };
        let (plain, _, calls) = play(seed, true, 0, Disturbances::default());
        let (other, _, more) = play(seed, true, 1, disturbances);
        assert!(plain.is_stalled, "it has done all that there was to do");
        assert_eq!(plain, other);
        calls + more
    });
    println!("{calls} calls of the core for the seeds {range:?}");
}

#[test]
fn a_memo_that_is_given_to_another_call_is_found() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let finds = |seed: &u64| {
        let disturbances = Disturbances { takes_calls_for_one: true, ..disturbed(*seed) };
        std::panic::catch_unwind(|| play(*seed, false, 0, disturbances)).is_err()
    };
    let found = (0..10_000).find(finds);
    std::panic::set_hook(hook);
    println!("found by seed {found:?}");
    assert!(found.is_some(), "it is found within 10,000 seeds");
}

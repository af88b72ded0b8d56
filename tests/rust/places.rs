//! Which runs of a workflow have a place, and which is next.

use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;
use treadle::{Places, RunId};

fn id(number: u8) -> RunId {
    RunId::new(u64::from(number), [number; 10])
}

#[test]
fn a_run_that_leaves_gives_its_place_to_the_one_that_asked_first() {
    let mut places = Places::new(2);
    assert!(places.ask(id(1), false) && places.ask(id(2), false));
    assert!(!places.ask(id(3), false) && !places.ask(id(4), false));
    assert_eq!(places.leave(id(2)), Some(id(3)));
    assert!(places.has(id(3)) && !places.has(id(4)));
    assert_eq!(places.leave(id(1)), Some(id(4)));
    assert_eq!((places.leave(id(3)), places.leave(id(4)), places.free()), (None, None, 2));
}

#[test]
fn a_run_that_has_begun_comes_before_new_ones() {
    let mut places = Places::new(1);
    assert!(places.ask(id(1), false));
    assert!(!places.ask(id(2), false) && !places.ask(id(3), true) && !places.ask(id(4), true));
    let order = [1, 3, 4].map(|number| places.leave(id(number)));
    assert_eq!(order, [Some(id(3)), Some(id(4)), Some(id(2))]);
}

#[test]
fn a_run_that_waits_no_more_is_passed_over() {
    let mut places = Places::new(1);
    assert!(places.ask(id(1), false) && !places.ask(id(2), false) && !places.ask(id(3), false));
    assert_eq!(places.leave(id(2)), None);
    assert_eq!(places.leave(id(1)), Some(id(3)));
}

#[test]
fn a_run_that_insists_executes_beyond_the_limit_and_nobody_begins_until_it_is_kept_again() {
    let mut places = Places::new(1);
    assert!(places.ask(id(1), false) && !places.ask(id(2), false) && !places.ask(id(3), true));
    places.insist(id(3));
    assert!(places.has(id(3)));
    assert_eq!(places.leave(id(1)), None);
    assert_eq!(places.leave(id(3)), Some(id(2)));
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Ask(u8, bool),
    Insist(u8),
    Leave(u8),
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => (0..12u8, any::<bool>()).prop_map(|(run, has_begun)| Call::Ask(run, has_begun)),
        1 => (0..12u8).prop_map(Call::Insist),
        4 => (0..12u8).prop_map(Call::Leave),
    ]
}

proptest! {
    #[test]
    fn places_are_those_of_a_set_and_two_queues(most in 1..5usize, calls in prop::collection::vec(call(), 0..200)) {
        let mut places = Places::new(most);
        let (mut held, mut begun, mut new) = (BTreeSet::new(), VecDeque::new(), VecDeque::new());
        for call in calls {
            match call {
                Call::Ask(run, has_begun) => {
                    let waits = begun.contains(&run) || new.contains(&run);
                    let has_room = held.len() + begun.len() + new.len() < most;
                    if !held.contains(&run) && !waits {
                        match (has_room, has_begun) {
                            (true, _) => drop(held.insert(run)),
                            (false, true) => begun.push_back(run),
                            (false, false) => new.push_back(run),
                        }
                    }
                    prop_assert_eq!(places.ask(id(run), has_begun), held.contains(&run));
                }
                Call::Insist(run) => {
                    begun.retain(|&one| one != run);
                    new.retain(|&one| one != run);
                    held.insert(run);
                    places.insist(id(run));
                }
                Call::Leave(run) => {
                    begun.retain(|&one| one != run);
                    new.retain(|&one| one != run);
                    let mut next = None;
                    if held.remove(&run) && held.len() < most {
                        next = begun.pop_front().or_else(|| new.pop_front());
                        held.extend(next);
                    }
                    prop_assert_eq!(places.leave(id(run)), next.map(id));
                }
            }
            prop_assert_eq!(places.free(), most.saturating_sub(held.len() + begun.len() + new.len()));
            prop_assert!(begun.len() + new.len() == 0 || held.len() >= most, "no run waits beside a place");
            prop_assert!((0..12).all(|run| places.has(id(run)) == held.contains(&run)));
        }
    }
}

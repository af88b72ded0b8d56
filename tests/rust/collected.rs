//! Events that a step gathers, against a list that is searched from the start each time.

use proptest::prelude::*;
use treadle::{Collected, Error, Refused};

#[derive(Default)]
struct Model {
    pending: Vec<(u8, u32)>,
}

impl Model {
    fn add(&mut self, expected: &[u8], class: u8, event: u32) -> Option<Vec<u32>> {
        self.pending.push((class, event));
        let mut rest = self.pending.clone();
        let mut complete = Vec::new();
        for &class in expected {
            let at = rest.iter().position(|one| one.0 == class)?;
            complete.push(rest.remove(at).1);
        }
        self.pending = rest;
        Some(complete)
    }
}

proptest! {
    #[test]
    fn it_gives_one_event_for_each_expected_class_in_that_order_and_keeps_the_surplus(
        expected in prop::collection::vec(0..4_u8, 1..7),
        classes in prop::collection::vec(0..5_u8, 0..80),
    ) {
        let mut collected = Collected::new(expected.clone());
        let mut model = Model::default();
        prop_assert_eq!(collected.expected(), &expected.clone().into());
        for (class, event) in classes.into_iter().zip(0..) {
            prop_assert_eq!(collected.expects(&class), expected.contains(&class));
            let added = collected.add(class, event);
            if expected.contains(&class) {
                prop_assert_eq!(added, Ok(model.add(&expected, class, event)));
            } else {
                prop_assert_eq!(added, Err(Refused { error: Error::NotExpected, value: event }));
            }
            let mut pending: Vec<_> = collected.pending().copied().collect();
            pending.sort_unstable();
            prop_assert_eq!(pending, model.pending.iter().map(|one| one.1).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_surplus_that_is_a_whole_set_waits_for_one_more_event() {
    let mut collected = Collected::new(['a', 'b']);
    for event in 1..=3 {
        assert_eq!(collected.add('a', event), Ok(None));
    }
    assert_eq!(collected.add('b', 4), Ok(Some(vec![1, 4])));
    assert_eq!(collected.add('b', 5), Ok(Some(vec![2, 5])));
    assert_eq!(collected.add('a', 6), Ok(None));
    assert_eq!(collected.pending().count(), 2);
}

#[test]
fn where_nothing_is_expected_an_event_is_refused_and_given_back() {
    let mut collected = Collected::new([]);
    assert_eq!(collected.add('a', 1), Err(Refused { error: Error::NotExpected, value: 1 }));
    assert_eq!(collected.pending().count(), 0);
}

#[test]
fn a_hundred_thousand_events_of_one_class_come_back_in_their_order() {
    let mut collected = Collected::new(vec![(); 100_000]);
    for event in 0..99_999 {
        assert_eq!(collected.add((), event), Ok(None));
    }
    assert_eq!(collected.add((), 99_999), Ok(Some((0..100_000).collect())));
}

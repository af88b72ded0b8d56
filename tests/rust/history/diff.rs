//! What differs between two records of a run.

use std::collections::BTreeMap;

use proptest::prelude::*;
use treadle::history::{History, Trusted, diff};
use treadle::journal::Sign;
use treadle::{Body, EncodedEvent, EncodedImage, Held, Record, Status, Value};

use super::live::Live;
use super::{new_image, set, signer, written};

fn keys(image: &EncodedImage) -> BTreeMap<String, Value> {
    image.state.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_diff_leads_from_one_record_to_the_other(
        operations in prop::collection::vec((any::<u8>(), any::<usize>()), 0..60),
        places in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let mut live = Live::new(Sign::Opaque);
        operations.into_iter().for_each(|(operation, which)| live.operate(operation, which));
        let images: Vec<_> = live.images.values().collect();
        prop_assume!(!images.is_empty());
        let (before, after) = (images[places.0.index(images.len())], images[places.1.index(images.len())]);
        let found = diff(before, after);
        let mut state = keys(before);
        for it in &found.state {
            prop_assert_eq!(it.before, state.get(it.name));
            prop_assert!(it.before != it.after);
            match it.after {
                Some(value) => drop(state.insert(it.name.to_owned(), value.clone())),
                None => drop(state.remove(it.name)),
            }
        }
        prop_assert_eq!(state, keys(after));
        let mut pending: Vec<_> = before.pending.keys().copied().collect();
        for it in &found.pending {
            prop_assert_eq!(it.before, before.pending.get(&it.name));
            prop_assert_eq!(it.after, after.pending.get(&it.name));
            pending.retain(|&delivery| delivery != it.name);
            pending.extend(it.after.map(|_| it.name));
        }
        pending.sort_unstable();
        prop_assert_eq!(pending, after.pending.keys().copied().collect::<Vec<_>>());
        prop_assert_eq!(found.is_empty(), before == after || is_same_but_for_counts(before, after));
        prop_assert!(diff(before, before).is_empty());
        let back = diff(after, before);
        prop_assert_eq!(back.pending.len() + back.waits.len(), found.pending.len() + found.waits.len());
    }
}

// Counters, the time of the first step and the order of what is there are no difference of their own.
fn is_same_but_for_counts(before: &EncodedImage, after: &EncodedImage) -> bool {
    let held = |image: &EncodedImage| {
        let mut texts: Vec<_> = image.held.iter().map(|held| format!("{held:?}")).collect();
        texts.sort_unstable();
        texts
    };
    (before.status, before.published) == (after.status, after.published)
        && keys(before) == keys(after)
        && before.pending == after.pending
        && before.waits == after.waits
        && before.groups == after.groups
        && before.kept == after.kept
        && held(before) == held(after)
        && before.children == after.children
}

#[test]
fn what_is_set_deleted_paused_and_published_is_told() {
    let event = || EncodedEvent { class: "Page".into(), body: Body::Fields(vec![]) };
    let records = [
        set("a", "1"),
        set("b", "2"),
        set("a", "3"),
        Record::Delete { key: "b".into() },
        Record::Paused,
        Record::Published { event: event() },
        Record::Held { is_from_outside: true, event: event() },
    ];
    let loaded = written(&new_image(), 0, &records, Sign::Opaque);
    let signer = signer(Sign::Opaque);
    let history = History::new(&loaded, Trusted::Signed(&signer));
    let (before, after) = (history.image_at(2).unwrap(), history.image_at(7).unwrap());
    let found = diff(&before, &after);
    let state: Vec<_> = found.state.iter().map(|it| (it.name, it.before.is_some(), it.after.is_some())).collect();
    assert_eq!(state, [("a", true, true), ("b", true, false)]);
    assert_eq!(found.status, Some((Status::Running, Status::Paused)));
    assert_eq!(found.published, Some((0, 1)));
    assert_eq!(found.held.len(), 1);
}

#[test]
fn of_events_that_are_held_those_that_came_and_went_are_told_whatever_their_order() {
    let held = |number: u64| Held {
        is_from_outside: true,
        event: EncodedEvent {
            class: "Page".into(),
            body: Body::Fields(vec![("number".into(), super::json(&number.to_string()))]),
        },
    };
    let image = |numbers: &[u64]| {
        let mut image = new_image();
        image.held = numbers.iter().map(|&number| held(number)).collect();
        image
    };
    let (before, after) = (image(&[1, 2, 2, 3]), image(&[4, 3, 2]));
    let found = diff(&before, &after);
    let gone: Vec<_> = found.held.iter().filter_map(|it| it.before).collect();
    let new: Vec<_> = found.held.iter().filter_map(|it| it.after).collect();
    assert_eq!(gone, [&held(1), &held(2)]);
    assert_eq!(new, [&held(4)]);
}

#[test]
fn a_step_that_has_another_number_in_another_version_of_the_workflow_is_no_difference() {
    let pending = |step| {
        let event = EncodedEvent { class: "Page".into(), body: Body::Fields(vec![]) };
        let replay = treadle::Replay::default();
        treadle::Pending { step: treadle::StepId(step), attempt: 1, due: None, since: None, event, replay }
    };
    let (mut before, mut after) = (new_image(), new_image());
    before.pending.insert(1, pending(0));
    after.steps = vec!["new".into(), "one".into(), "two".into()];
    after.pending.insert(1, pending(1));
    assert!(diff(&before, &after).is_empty());
    after.pending.insert(1, pending(0));
    assert_eq!(diff(&before, &after).pending.len(), 1);
}

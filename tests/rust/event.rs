//! Kinds of events and the table of routes.

use proptest::prelude::*;
use treadle::{Body, EncodedEvent, EventKind, Routes, StepId, Tag, Value};

proptest! {
    #[test]
    fn a_kind_goes_to_the_steps_it_was_added_with_in_their_order(
        table in prop::collection::vec(prop::collection::vec(any::<u32>(), 1..6), 0..40),
    ) {
        let mut routes = Routes::default();
        let kinds: Vec<_> = table
            .iter()
            .map(|steps| routes.add(steps.iter().copied().map(StepId).collect::<Vec<_>>()))
            .collect();
        prop_assert_eq!(&kinds, &(0..).map(EventKind).take(table.len()).collect::<Vec<_>>());
        for (kind, steps) in kinds.iter().zip(&table) {
            let found: Vec<_> = routes.steps(*kind).iter().map(|step| step.0).collect();
            prop_assert_eq!(&found, steps);
        }
    }
}

#[test]
#[should_panic(expected = "no step takes")]
fn a_kind_that_no_step_takes_is_a_fault_of_the_host() {
    Routes::default().add([]);
}

#[test]
fn an_event_that_is_stored_by_its_fields_names_them_and_one_that_is_stored_whole_has_none() {
    let value = |text: &'static str| Value::new(Tag::Json, text);
    let fields = vec![("url".into(), value("1")), ("body".into(), value("2"))];
    let event = EncodedEvent { class: "Page".into(), body: Body::Fields(fields) };
    assert_eq!(event.field_names().collect::<Vec<_>>(), ["url", "body"]);
    assert_eq!(event.values().cloned().collect::<Vec<_>>(), [value("1"), value("2")]);
    let whole = EncodedEvent { class: "Page".into(), body: Body::Whole(value("3")) };
    assert_eq!(whole.field_names().count(), 0);
    assert_eq!(whole.values().cloned().collect::<Vec<_>>(), [value("3")]);
}

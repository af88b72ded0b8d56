//! What a fork changes of the run that it comes from.

use treadle::history::{self, Edits, EventEdit, Fork, HistoryError};
use treadle::journal::{Loaded, Sign};
use treadle::{Body, Changes, EncodedEvent, EncodedImage, Pending, Replay, RunId, StepId, Tag, Value, Waiting};

use super::{carried_out, json, new_image, signer, written};

const FORK: RunId = RunId::from_bytes([8; 16]);

fn page(number: u64) -> EncodedEvent {
    EncodedEvent { class: "Page".into(), body: Body::Fields(vec![("number".into(), json(&number.to_string()))]) }
}

/// A run with two deliveries that wait: the first has sent something, the second has a whole event.
fn loaded(sign: Sign) -> Loaded {
    let mut image = new_image();
    image.state.set("a", json("1"));
    image.state.set("b", json("2"));
    (image.delivered, image.waited) = (2, 2);
    let mut replay = Replay::default();
    replay.sent.push(77);
    let whole = EncodedEvent { class: "Whole".into(), body: Body::Whole(Value::opaque("Whole", vec![1])) };
    for (seq, event, replay) in [(1, page(1), replay), (2, whole, Replay::default())] {
        image.pending.insert(seq, Pending { step: StepId(0), attempt: 1, due: None, since: Some(1), event, replay });
        image.waits.insert(seq, Waiting { seq, class: Some("Answer".into()), due: None });
    }
    written(&image, 3, &[], sign)
}

fn forked(edits: Edits) -> Result<EncodedImage, HistoryError> {
    let (loaded, signer) = (loaded(Sign::All), signer(Sign::All));
    let fork = Fork { id: FORK, at: Some(3), stream: &[], edits };
    let request = history::fork(&loaded, fork, &signer, 1_000)?;
    Ok(history::continuation(&carried_out(request, &loaded), &signer).unwrap().image)
}

fn of_event(delivery: u64, edit: EventEdit) -> Edits {
    Edits { events: vec![(delivery, edit)], ..Edits::default() }
}

#[test]
fn keys_are_set_and_removed() {
    let state = Changes { set: vec![("a".into(), json("7")), ("c".into(), json("8"))], removed: vec!["b".into()] };
    let image = forked(Edits { state, ..Edits::default() }).unwrap();
    let keys: Vec<_> = image.state.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    assert_eq!(keys, [("a".to_owned(), json("7")), ("c".to_owned(), json("8"))]);
    assert_eq!((image.pending.len(), image.waits.len()), (2, 2));
}

#[test]
fn a_step_whose_event_is_another_one_begins_from_the_start() {
    let edit = EventEdit::Fields(vec![("number".into(), json("9"))]);
    for edit in [edit, EventEdit::Event(page(9))] {
        let image = forked(of_event(1, edit)).unwrap();
        assert_eq!(image.pending[&1].event, page(9));
        assert!(image.pending[&1].replay.is_empty(), "what it did was for another event");
        assert_eq!(image.waits.values().map(|waiting| waiting.seq).collect::<Vec<_>>(), [2]);
    }
}

#[test]
fn an_edit_that_makes_no_sense_is_refused_with_what_there_is() {
    let fields = |name: &str| EventEdit::Fields(vec![(name.into(), json("9"))]);
    let refused = |delivery, edit| forked(of_event(delivery, edit)).unwrap_err();
    assert_eq!(refused(5, fields("number")), HistoryError::NotPending { delivery: 5, pending: vec![1, 2] });
    let no_field = HistoryError::NoSuchField {
        delivery: 1,
        class: "Page".into(),
        field: "size".into(),
        known: vec!["number".into()],
    };
    assert_eq!(refused(1, fields("size")), no_field);
    assert!(no_field.to_string().contains("its fields are: number"));
    assert_eq!(refused(2, fields("number")), HistoryError::NotByField { delivery: 2, class: "Whole".into() });
    let other = EncodedEvent { class: "Other".into(), body: Body::Whole(Value::new(Tag::Binary, vec![])) };
    let other_class = HistoryError::OtherClass { delivery: 1, class: "Page".into(), given: "Other".into() };
    assert_eq!(refused(1, EventEdit::Event(other)), other_class);
}

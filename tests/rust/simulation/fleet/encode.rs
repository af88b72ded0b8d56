//! The events of a simulated run as stored objects, and back.

use std::sync::Arc;

use treadle::{Body, EncodedEvent, EncodedImage, HostImage, Tag, Translate, Value};

use crate::simulation::workflow::{Ev, Guest, Named};

/// From the host's objects to stored ones.
pub struct ToBytes;

/// From stored objects to the host's.
pub struct ToObjects;

impl Translate<Ev, Value, u8> for ToBytes {
    type Event = EncodedEvent;
    type Value = Value;
    type Class = Arc<str>;
    type Error = String;

    fn event(&mut self, event: Ev) -> Result<EncodedEvent, String> {
        let body = Body::Whole(Value::new(Tag::Binary, to_bytes(event.0)));
        Ok(EncodedEvent { class: event.0.class.to_string().into(), body })
    }

    fn value(&mut self, _key: &str, value: Value) -> Result<Value, String> {
        Ok(value)
    }

    fn class(&mut self, class: &u8) -> Result<Arc<str>, String> {
        Ok(class.to_string().into())
    }
}

impl Translate<EncodedEvent, Value, Arc<str>> for ToObjects {
    type Event = Ev;
    type Value = Value;
    type Class = u8;
    type Error = String;

    fn event(&mut self, event: EncodedEvent) -> Result<Ev, String> {
        Ok(Ev(named(&event)))
    }

    fn value(&mut self, _key: &str, value: Value) -> Result<Value, String> {
        Ok(value)
    }

    fn class(&mut self, class: &Arc<str>) -> Result<u8, String> {
        class.parse().map_err(|_| format!("no class is {class}"))
    }
}

pub fn to_bytes(event: Named) -> Vec<u8> {
    let (group, of) = event.group.unwrap_or_default();
    [&event.name.to_be_bytes()[..], &[event.class, event.depth, of], &group.to_be_bytes()].concat()
}

pub fn from_bytes(bytes: &[u8]) -> Named {
    let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let group = (bytes[10] > 0).then(|| (number(11), bytes[10]));
    Named { name: number(0), class: bytes[8], depth: bytes[9], group }
}

pub fn named(event: &EncodedEvent) -> Named {
    match &event.body {
        Body::Whole(value) => from_bytes(&value.bytes),
        Body::Fields(_) => panic!("events are written as one value"),
    }
}

pub fn encoded(image: HostImage<Guest>) -> EncodedImage {
    image.translate(&mut ToBytes).expect("every event can be stored")
}

pub fn decoded(image: EncodedImage) -> HostImage<Guest> {
    image.translate(&mut ToObjects).expect("it is what was written")
}

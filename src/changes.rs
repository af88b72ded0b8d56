//! Changes of a run's state from outside, and the same as what a message says.

use std::sync::Arc;

use crate::error::Error;
use crate::event::{Body, EncodedEvent};
use crate::image::EncodedImage;
use crate::value::{Tag, Value};

/// Changes of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes<V> {
    /// Keys that are set, with their values.
    pub set: Vec<(Box<str>, V)>,
    /// Keys that are removed.
    pub removed: Vec<Box<str>>,
}

// What stands before a key that is set, and before one that is removed.
const SET: char = '+';
const REMOVED: char = '-';

impl<V> Default for Changes<V> {
    fn default() -> Self {
        Self { set: Vec::new(), removed: Vec::new() }
    }
}

impl<V> Changes<V> {
    /// The same of other values.
    ///
    /// # Errors
    /// The first one of the function.
    pub fn try_map<T, E>(self, mut to: impl FnMut(V) -> Result<T, E>) -> Result<Changes<T>, E> {
        let set = self.set.into_iter().map(|(key, value)| Ok((key, to(value)?))).collect::<Result<_, E>>()?;
        Ok(Changes { set, removed: self.removed })
    }

    /// How many keys they are about.
    pub fn len(&self) -> usize {
        self.set.len() + self.removed.len()
    }

    /// Whether they are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Changes<Value> {
    /// As a message says it.
    pub fn into_event(self) -> EncodedEvent {
        let nothing = || Value::new(Tag::Binary, Vec::new());
        let field = |sign: char, key: &str, value| (Arc::from(format!("{sign}{key}")), value);
        let set = self.set.into_iter().map(|(key, value)| field(SET, &key, value));
        let removed = self.removed.iter().map(|key| field(REMOVED, key, nothing()));
        EncodedEvent { class: "".into(), body: Body::Fields(set.chain(removed).collect()) }
    }

    /// What a message says.
    ///
    /// # Errors
    /// [`Error::InvalidRecord`] if it says nothing of the kind.
    pub fn of_event(event: EncodedEvent) -> Result<Self, Error> {
        let invalid = || Error::InvalidRecord("a message is no change of a state");
        let Body::Fields(fields) = event.body else { return Err(invalid()) };
        let mut changes = Self { set: Vec::new(), removed: Vec::new() };
        for (name, value) in fields {
            match (name.strip_prefix(SET), name.strip_prefix(REMOVED)) {
                (Some(key), _) => changes.set.push((key.into(), value)),
                (None, Some(key)) => changes.removed.push(key.into()),
                (None, None) => return Err(invalid()),
            }
        }
        Ok(changes)
    }

    /// Makes them in a run as plain data.
    pub fn make(self, image: &mut EncodedImage) {
        self.set.into_iter().for_each(|(key, value)| drop(image.state.set(&key, value)));
        self.removed.iter().for_each(|key| drop(image.state.delete(key)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_message_says_is_what_was_changed() {
        let value = |byte| Value::new(Tag::Binary, vec![byte]);
        let set = ["", "a", "+a", "-"].iter().zip(0..).map(|(key, byte)| ((*key).into(), value(byte))).collect();
        let changes = Changes { set, removed: vec!["b".into(), "-b".into()] };
        assert_eq!(Changes::of_event(changes.clone().into_event()), Ok(changes));
        let other = EncodedEvent { class: "".into(), body: Body::Fields(vec![("a".into(), value(1))]) };
        assert!(Changes::of_event(other).is_err());
    }
}

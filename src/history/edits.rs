//! What a fork changes of the run that it comes from.

use std::sync::Arc;

use super::HistoryError;
use crate::changes::Changes;
use crate::event::{Body, EncodedEvent};
use crate::image::EncodedImage;
use crate::replay::Replay;
use crate::value::Value;

/// What a fork changes of the run that it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Keys that are set and removed.
    pub state: Changes<Value>,
    /// Events of deliveries that are not done, by the numbers of those.
    pub events: Vec<(u64, EventEdit)>,
}

/// What becomes of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventEdit {
    /// These of its fields have other values.
    Fields(Vec<(Arc<str>, Value)>),
    /// It is another one, of the same class.
    Event(EncodedEvent),
}

impl Edits {
    /// Makes the changes. A step whose event is another one begins from the start: what it had received, collected, called
    /// once and sent for the old one is forgotten, and so it waits for nothing any more.
    ///
    /// # Errors
    /// [`HistoryError::NotPending`], [`HistoryError::NoSuchField`], [`HistoryError::NotByField`],
    /// [`HistoryError::OtherClass`]: the image is not to be used then.
    pub(super) fn make(self, image: &mut EncodedImage) -> Result<(), HistoryError> {
        for (delivery, edit) in self.events {
            let Some(pending) = image.pending.get_mut(&delivery) else {
                return Err(HistoryError::NotPending { delivery, pending: image.pending.keys().copied().collect() });
            };
            edit.make(delivery, &mut pending.event)?;
            pending.replay = Replay::default();
            image.waits.retain(|_, waiting| waiting.seq != delivery);
        }
        self.state.make(image);
        Ok(())
    }
}

impl EventEdit {
    fn make(self, delivery: u64, event: &mut EncodedEvent) -> Result<(), HistoryError> {
        let class = event.class.to_string();
        let fields = match self {
            Self::Event(other) if other.class == event.class => {
                *event = other;
                return Ok(());
            }
            Self::Event(other) => {
                return Err(HistoryError::OtherClass { delivery, class, given: other.class.to_string() });
            }
            Self::Fields(fields) => fields,
        };
        let Body::Fields(stored) = &mut event.body else { return Err(HistoryError::NotByField { delivery, class }) };
        for (name, value) in fields {
            match stored.iter_mut().find(|(known, _)| *known == name) {
                Some((_, is)) => *is = value,
                None => {
                    let known = stored.iter().map(|(name, _)| name.to_string()).collect();
                    return Err(HistoryError::NoSuchField { delivery, class, field: name.to_string(), known });
                }
            }
        }
        Ok(())
    }
}

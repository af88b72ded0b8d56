//! Events to other runs, as messages of a commit.

use std::sync::Arc;

use crate::error::Error;
use crate::event::EncodedEvent;
use crate::journal::{Message, Outgoing, Signer, Slot, entry, kind};
use crate::run::Outbound;
use crate::translate::Translate;
use crate::value::Value;

impl<E> Outbound<E> {
    /// The same of a stored event.
    ///
    /// # Errors
    /// That of the translator.
    pub(super) fn translate<T, V, C>(self, to: &mut T) -> Result<Outbound<EncodedEvent>, T::Error>
    where
        T: Translate<E, V, C, Event = EncodedEvent, Value = Value, Class = Arc<str>>,
    {
        let Self { to: run, message, event, if_over } = self;
        Ok(Outbound { to: run, message, event: to.event(event)?, if_over })
    }
}

impl Outbound<EncodedEvent> {
    /// The message. All of it is signed, since a message makes its run do something, unless there is no secret.
    ///
    /// # Errors
    /// As [`entry::encode`].
    pub(super) fn seal(&self, signer: &Signer) -> Result<Outgoing, Error> {
        let slot = Slot::Inbox { id: self.message, kind: kind::EVENT };
        let body = entry::encode(self.to, &slot, &self.event, &signer.secrets, !signer.secrets.is_empty())?;
        let message = Message { id: self.message, kind: kind::EVENT, body: body.into() };
        Ok(Outgoing::Send { to: self.to, message, if_over: self.if_over })
    }
}

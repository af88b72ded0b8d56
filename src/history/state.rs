//! The state of a run with the changes that wait in its inbox: what a reader of this moment is to see.

use super::{History, Trusted};
use crate::changes::Changes;
use crate::error::Error;
use crate::image::EncodedImage;
use crate::journal::{Entry, Slot, kind};
use crate::run_id::RunId;

impl History<'_> {
    /// The run as its last record leaves it, with the changes of its state that are acknowledged and not made yet. A
    /// message that cannot be read changes nothing: it becomes a dead letter.
    ///
    /// # Errors
    /// As [`image`](Self::image).
    pub fn image_with_changes(&self) -> Result<EncodedImage, Error> {
        let mut image = self.image_without_end()?;
        let entries = self.loaded.inbox.iter().filter(|entry| entry.kind == kind::STATE);
        let changes = entries.filter_map(|entry| changes(self.trusted, self.loaded.run.id, entry).ok());
        changes.for_each(|changes| changes.make(&mut image));
        Ok(image)
    }
}

/// What a message changes of the state of its run.
///
/// # Errors
/// As [`Trusted::event`]; [`Error::InvalidRecord`] if it is no change.
pub fn changes(trusted: Trusted<'_>, run: RunId, entry: &Entry) -> Result<Changes<crate::Value>, Error> {
    let slot = Slot::Inbox { id: entry.id, kind: entry.kind };
    Changes::of_event(trusted.event(run, &slot, entry.body.clone().into())?)
}

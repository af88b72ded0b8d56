//! What is put into the inbox of a run.

/// Names a message; the same name is delivered once.
pub type EntryId = [u8; 16];

/// The number by which a commit consumes an entry of its run's inbox. Those of one run grow in the order of their
/// delivery; nothing more is known of them.
pub type EntryNumber = u64;

/// What is put into a run's inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its name.
    pub id: EntryId,
    /// What it is (an event, a wish to cancel, …); the journal hands it on.
    pub kind: u8,
    /// What it says.
    pub body: Vec<u8>,
}

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
    /// What it is, one of [`kind`]; the journal hands it on.
    pub kind: u8,
    /// What it says.
    pub body: Vec<u8>,
}

/// What a message is.
pub mod kind {
    /// An event.
    pub const EVENT: u8 = 0;
    /// A wish to cancel the run.
    pub const CANCEL: u8 = 1;
    /// A wish to pause it.
    pub const PAUSE: u8 = 2;
    /// A wish to resume it.
    pub const RESUME: u8 = 3;
    /// Changes of its state.
    pub const STATE: u8 = 4;
    /// The end of a child.
    pub const CHILD_ENDED: u8 = 5;
}

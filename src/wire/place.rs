//! Where a value stands.

use std::fmt;

use crate::hex::Hex;

/// Where an event, or a value that is part of none, stands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At<'a> {
    State,
    Pending { seq: u64 },
    Received { seq: u64, index: usize },
    Collected { seq: u64, call: usize, index: usize },
    Memo { seq: u64, number: u64 },
    Group { group: u64, index: usize },
    Kept { number: u64 },
    Held { index: usize },
    Record { seq: u64, kind: &'static str },
    Stream { number: u64 },
    Inbox { id: &'a [u8; 16], kind: u8 },
    Transaction { call: &'a [u8; 32] },
    Outcome { seq: u64, phase: &'static str },
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State => f.write_str("state"),
            Self::Pending { seq } => write!(f, "pending/{seq}/event"),
            Self::Received { seq, index } => write!(f, "pending/{seq}/received/{index}"),
            Self::Collected { seq, call, index } => write!(f, "pending/{seq}/collected/{call}/{index}"),
            Self::Memo { seq, number } => write!(f, "pending/{seq}/memo/{number}"),
            Self::Group { group, index } => write!(f, "group/{group}/{index}"),
            Self::Kept { number } => write!(f, "kept/{number}"),
            Self::Held { index } => write!(f, "held/{index}"),
            Self::Record { seq, kind } => write!(f, "record/{seq}/{kind}"),
            Self::Stream { number } => write!(f, "stream/{number}"),
            Self::Inbox { id, kind } => write!(f, "inbox/{}/{kind}", Hex(&id[..])),
            Self::Transaction { call } => write!(f, "transaction/{}", Hex(&call[..])),
            Self::Outcome { seq, phase } => write!(f, "outcome/{seq}/{phase}"),
        }
    }
}

/// What the places are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    /// What the first version of the formats wrote. Its signatures say so, and are taken nowhere else.
    FirstVersion,
    /// A log, or what a journal has beside it: there the places have names of their own.
    Journal,
    /// A snapshot.
    Snapshot,
    /// The checkpoint of a run in a journal.
    Checkpoint { seq: u64, epoch: u64 },
}

impl Within {
    /// The version of what a signature covers. It is itself covered.
    pub fn signature_version(self) -> u16 {
        if self == Self::FirstVersion { 1 } else { 2 }
    }

    /// A place as it is signed.
    pub fn name(self, at: At<'_>) -> String {
        match self {
            Self::FirstVersion | Self::Journal => at.to_string(),
            Self::Snapshot => format!("snapshot/{at}"),
            Self::Checkpoint { seq, epoch } => format!("checkpoint/{seq}/{epoch}/{at}"),
        }
    }
}

/// Where a value stands: no two values of a snapshot, and no two of a run in a journal, stand at the same place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub at: At<'a>,
    /// The class of the event that the value is a part of.
    pub owner: &'a str,
    /// The key, or the field; nothing if the value is a whole event.
    pub name: Option<&'a str>,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)?;
        self.name.map_or(Ok(()), |name| write!(f, "/{name}"))
    }
}

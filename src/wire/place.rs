//! Where a value stands.

use std::fmt;

/// Where an event, or a value that is part of none, stands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    State,
    Pending { seq: u64 },
    Received { seq: u64, index: usize },
    Collected { seq: u64, call: usize, index: usize },
    Group { group: u64, index: usize },
    Kept { number: u64 },
    Held { index: usize },
    Record { seq: u64, kind: &'static str },
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State => f.write_str("state"),
            Self::Pending { seq } => write!(f, "pending/{seq}/event"),
            Self::Received { seq, index } => write!(f, "pending/{seq}/received/{index}"),
            Self::Collected { seq, call, index } => write!(f, "pending/{seq}/collected/{call}/{index}"),
            Self::Group { group, index } => write!(f, "group/{group}/{index}"),
            Self::Kept { number } => write!(f, "kept/{number}"),
            Self::Held { index } => write!(f, "held/{index}"),
            Self::Record { seq, kind } => write!(f, "record/{seq}/{kind}"),
        }
    }
}

/// Where a value stands: no two values of a snapshot, and no two of a log, stand at the same place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub at: At,
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

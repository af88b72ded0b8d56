//! What is asked of a journal so that a run moves to another one.

use crate::timers::Time;

/// Whether a run is on its way from one journal to another. No process continues one that is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Copying {
    /// It is not.
    #[default]
    No = 0,
    /// It is written here, and is still the other journal's.
    Arrives = 1,
    /// It is the other journal's. What is here says so until the other journal has been told.
    Left = 2,
}

impl Copying {
    /// Each, in the order of its number.
    pub const ALL: [Self; 3] = [Self::No, Self::Arrives, Self::Left];

    /// Whether it is on its way.
    pub fn is_any(self) -> bool {
        self != Self::No
    }
}

/// How many messages a copier has seen of a run. While it has the run, none is consumed: as long as these numbers are the
/// same, it has seen all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Entries of the inbox.
    pub inbox: u64,
    /// Dead letters.
    pub dead_letters: u64,
}

/// What the commit of a run that arrives says beside its contents, and no other commit does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// The number that the last record before those of the commit has; `None`: that of the run's last.
    pub behind: Option<u64>,
    /// Whether it is all there: from this commit on it is this journal's.
    pub is_last: bool,
    /// How often it lost its owner since it got further.
    pub recoveries: u32,
    /// When it is taken over at the earliest.
    pub not_before: Option<Time>,
    /// Why it is stranded, or why a process could not go on with it; before the last commit, where it comes from.
    pub reason: Option<String>,
}

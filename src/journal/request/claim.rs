//! Which process takes which runs, and which it cannot go on with.

use std::fmt;

use crate::hex::Hex;
use crate::journal::op::OpId;
use crate::timers::Time;

/// Names a process that executes runs: random, made once in its life.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(pub [u8; 16]);

impl fmt::Debug for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnerId({self})")
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

/// How much patience a process has with runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claimant {
    /// How often a run is taken over without having got further before it is stranded; nothing: always.
    pub max_recoveries: Option<u32>,
}

impl Claimant {
    /// Whether a run that was lost so many times without progress is not taken over again.
    pub fn is_too_many(&self, losses: u32) -> bool {
        self.max_recoveries.is_some_and(|most| losses > most)
    }
}

/// Which runs a process takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Its name. The last claim of a process that took runs is known again: it is answered with those of them that
    /// have not got further since.
    pub op: OpId,
    /// Who takes them.
    pub owner: OwnerId,
    /// The workflows that it knows.
    pub workflows: Vec<String>,
    /// How often it takes over a run that gets no further.
    pub claimant: Claimant,
    /// The time by which runs are due.
    pub now: Time,
    /// At most so many.
    pub limit: usize,
}

/// Why a process cannot go on with a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong, for people.
    pub why: String,
    /// Whether what is stored of the run is damaged, so that no process can. Otherwise one with other code or other
    /// secrets may be able to.
    pub is_damaged: bool,
    /// How much patience there is.
    pub claimant: Claimant,
}

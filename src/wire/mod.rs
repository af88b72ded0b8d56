//! The bytes that snapshots and records have in common: MessagePack, of which a small part is used, each thing
//! in one way only. So whatever is read and written again gives the same bytes.
//!
//! - `write`, `read`: numbers, texts, names, values and events.
//! - `place`: where a value stands, for its signature and for messages.
//! - `json`: whether a text is JSON.

use std::sync::Arc;

use hashbrown::HashSet;

use crate::value::Value;

pub(crate) mod json;
pub(crate) mod place;
pub(crate) mod read;
pub(crate) mod write;

// A list of expected classes is stored in a few bytes however long it is, so its length is limited: to this
// many classes in all lists together, and one more for each byte that there is.
const MOST_EXPECTED: u64 = 1 << 21;

// One list may serve many groups, and making the groups goes through it for each.
const MOST_GROUPED: u64 = 1 << 23;

// Each group has a counter for each of its classes.
const MOST_COUNTERS: u64 = 1 << 18;

/// How much is unfolded from few bytes.
#[derive(Default)]
pub(crate) struct Unfolded {
    expected: u64,
    grouped: u64,
    counters: u64,
}

impl Unfolded {
    fn expect(&mut self, count: usize) {
        self.expected = self.expected.saturating_add(count as u64);
    }

    fn group(&mut self, expected: usize, distinct: usize) {
        self.grouped = self.grouped.saturating_add(expected as u64);
        self.counters = self.counters.saturating_add(distinct as u64);
    }

    fn is_within(&self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        self.expected <= MOST_EXPECTED + bytes
            && self.grouped <= MOST_GROUPED + bytes
            && self.counters <= MOST_COUNTERS + bytes
    }
}

/// The first name that two fields have.
fn doubled(fields: &[(Arc<str>, Value)]) -> Option<&Arc<str>> {
    // Few names are compared with one another, which takes less time than a table.
    const FEW: usize = 8;
    let mut names = fields.iter().map(|(name, _)| name).enumerate();
    let (_, name) = if fields.len() <= FEW {
        names.find(|&(at, name)| fields[..at].iter().any(|(other, _)| other == name))
    } else {
        let mut seen = HashSet::with_capacity(fields.len());
        names.find(|&(_, name)| !seen.insert(name))
    }?;
    Some(name)
}

//! What a run refers to, for a host that has a garbage collector: each reference once, so that the collector can
//! tell those of the run from those of others.

use std::sync::Arc;

use hashbrown::HashMap;

use super::{Host, Run};
use crate::record::Record;

type Expected<H> = Arc<[<H as Host>::Class]>;

impl<H: Host> Run<H> {
    /// The values in the state, in memos and in records that were not taken yet.
    pub fn values(&self) -> impl Iterator<Item = &H::Value> {
        let recorded = self.log.iter().flatten().filter_map(Record::value);
        let replays = self.deliveries().filter_map(|delivery| delivery.replay.as_deref());
        let memos = replays.flat_map(|replay| replay.memos.iter()).filter_map(|(_, memo)| memo.kept.value());
        self.store().iter().map(|(_, value)| value).chain(memos).chain(recorded)
    }

    /// The classes that the run refers to by itself.
    pub fn classes(&self) -> impl Iterator<Item = &H::Class> {
        let grouped = self.groups.iter().flat_map(|group| group.collected.classes());
        let recorded = self.log.iter().flatten().filter_map(Record::class);
        self.waited_classes().chain(grouped).chain(recorded)
    }

    /// The lists of expected classes to which nothing refers but groups, deliveries and records of this run.
    ///
    /// These share a list. Each class of it is one reference however many share it, and none of the run's as long as
    /// something else has the list too, such as records that are being written.
    pub fn expected_classes(&self) -> Vec<&Expected<H>> {
        let mut shared: HashMap<*const H::Class, (&Expected<H>, usize)> = HashMap::new();
        let grouped = self.groups.iter().map(|group| group.collected.expected());
        let replays = self.deliveries().filter_map(|delivery| delivery.replay.as_deref());
        let collected = replays.flat_map(|replay| &replay.collected).map(|call| &call.expected);
        let recorded = self.log.iter().flatten().filter_map(Record::expected);
        for list in grouped.chain(collected).chain(recorded) {
            shared.entry(list.as_ptr()).or_insert((list, 0)).1 += 1;
        }
        let own = shared.into_values().filter(|(list, count)| Arc::strong_count(list) == *count);
        own.map(|(list, _)| list).collect()
    }
}

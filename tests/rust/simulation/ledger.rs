//! Where every event is, kept by what the host has done and nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use treadle::{HostImage, StepId};

use super::workflow::{Guest, Named};

/// A call that is made once: its name and its arguments.
pub type Call = (u8, u8);

type GroupName = (u32, Option<String>, Vec<u8>);

#[derive(Clone, Default)]
pub struct Ledger {
    /// Every event that was emitted or came from outside.
    emitted: BTreeSet<u64>,
    /// The number of deliveries so far.
    delivered: u64,
    /// Deliveries that are not done, by number.
    pub pending: BTreeMap<u64, (Named, StepId)>,
    /// Deliveries that are done, by the name of the event and the step.
    pub finished: BTreeSet<(u64, u32)>,
    /// The events that each delivery has received.
    received: BTreeMap<u64, Vec<u64>>,
    kept: VecDeque<u64>,
    held: Vec<u64>,
    /// Events that somebody outside will send.
    pub outside: Vec<Named>,
    asked: BTreeSet<u64>,
    /// What the calls gave that each delivery has made once, in their order.
    pub memos: BTreeMap<u64, Vec<(Call, u64)>>,
    groups: BTreeMap<GroupName, Vec<(u8, u64)>>,
    pub state: BTreeMap<String, Vec<u8>>,
    pub published: Vec<u64>,
}

impl Ledger {
    /// An event is new: none is emitted twice.
    pub fn emit(&mut self, name: u64) {
        self.outside.retain(|event| event.name != name);
        assert!(self.emitted.insert(name), "event {name} is emitted twice");
    }

    /// Somebody waits for an answer from outside, which is sent once.
    pub fn ask(&mut self, answer: Named) {
        if self.asked.insert(answer.name) {
            self.outside.push(answer);
        }
    }

    pub fn deliver(&mut self, event: Named, step: StepId) -> u64 {
        self.delivered += 1;
        self.pending.insert(self.delivered, (event, step));
        self.delivered
    }

    pub fn finish(&mut self, seq: u64) {
        let (event, step) = self.pending.remove(&seq).expect("a delivery finishes once");
        self.received.remove(&seq);
        self.memos.remove(&seq);
        assert!(self.finished.insert((event.name, step.0)), "an event is delivered to a step once");
    }

    pub fn receive(&mut self, seq: u64, name: u64) {
        self.received.entry(seq).or_default().push(name);
    }

    pub fn give_back(&mut self, seq: u64, name: u64) {
        let received = self.received.get_mut(&seq).expect("it has received something");
        let at = received.iter().rposition(|&other| other == name).expect("it has received this");
        received.remove(at);
    }

    pub fn keep(&mut self, name: u64) {
        self.kept.push_back(name);
    }

    pub fn keep_again(&mut self, name: u64) {
        self.kept.push_front(name);
    }

    pub fn take_kept(&mut self, name: u64) {
        let at = self.kept.iter().position(|&kept| kept == name).expect("it is kept");
        self.kept.remove(at);
    }

    pub fn hold(&mut self, name: u64) {
        self.held.push(name);
    }

    pub fn hold_again(&mut self, name: u64) {
        self.held.insert(0, name);
    }

    pub fn release(&mut self, name: u64) {
        let at = self.held.iter().position(|&held| held == name).expect("it is held");
        self.held.remove(at);
    }

    /// An event is collected. Gives the events that the group gives now, in the order of the expected classes.
    pub fn collect(&mut self, name: GroupName, class: u8, event: u64) -> Option<Vec<u64>> {
        let expected = name.2.clone();
        let group = self.groups.entry(name.clone()).or_default();
        group.push((class, event));
        let mut rest = group.clone();
        let mut given = Vec::new();
        for class in expected {
            let at = rest.iter().position(|one| one.0 == class)?;
            given.push(rest.remove(at).1);
        }
        *group = rest;
        if group.is_empty() {
            self.groups.remove(&name);
        }
        Some(given)
    }

    /// The run ends: what it gives back is what it had, each once.
    pub fn end(&mut self, in_flight: &BTreeSet<u64>, mut given: Vec<(u64, u64)>, mut kept: Vec<u64>) {
        given.sort_unstable();
        let waiting = self.pending.iter().filter(|(seq, _)| !in_flight.contains(seq));
        assert!(given.into_iter().eq(waiting.map(|(seq, (event, _))| (*seq, event.name))));
        kept.sort_unstable();
        let mut expected: Vec<_> = self.kept.drain(..).chain(self.held.drain(..)).collect();
        expected.sort_unstable();
        assert_eq!(kept, expected);
        self.pending.retain(|seq, _| in_flight.contains(seq));
        self.groups.clear();
    }

    /// An image of the run holds what it should, each event where it is.
    pub fn check(&self, image: &HostImage<Guest>) {
        assert_eq!(image.delivered, self.delivered);
        assert_eq!(image.published, self.published.len() as u64);
        let pending = image.pending.iter().map(|(&seq, it)| (seq, (it.event.0, it.step)));
        assert!(pending.eq(self.pending.iter().map(|(&seq, &it)| (seq, it))), "no delivery is lost or doubled");
        for (seq, pending) in &image.pending {
            let received = self.received.get(seq).map(Vec::as_slice).unwrap_or_default();
            assert!(pending.replay.received.iter().map(|event| event.0.name).eq(received.iter().copied()));
            let memos = self.memos.get(seq).map(Vec::as_slice).unwrap_or_default();
            let kept = pending.replay.memos.iter().map(|(_, memo)| memo.kept.value().expect("no child").bytes.to_vec());
            let expected = memos.iter().map(|(_, gave)| gave.to_string().into_bytes());
            assert!(kept.eq(expected), "no memo is lost or left over");
        }
        assert!(image.kept.values().map(|event| event.0.name).eq(self.kept.iter().copied()));
        assert!(image.held.iter().map(|held| held.event.0.name).eq(self.held.iter().copied()));
        let mut collected: Vec<_> =
            image.groups.values().flat_map(|group| group.collected.pending()).map(|event| event.0.name).collect();
        collected.sort_unstable();
        let mut expected: Vec<_> = self.groups.values().flatten().map(|one| one.1).collect();
        expected.sort_unstable();
        assert_eq!(collected, expected);
        let mut state: Vec<_> = image.state.iter().map(|(key, value)| (key.to_owned(), value.bytes.to_vec())).collect();
        state.sort_unstable();
        assert!(state.into_iter().eq(self.state.iter().map(|(key, value)| (key.clone(), value.clone()))));
    }
}

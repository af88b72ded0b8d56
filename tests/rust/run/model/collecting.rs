//! Collected events in the model.

use std::cell::Cell;
use std::sync::Arc;

use treadle::{Collecting, Error, Gathered, Leftover, Refused, Slot, StepId};

use super::Model;
use super::deliveries::Call;
use crate::run::collecting::{event_alone, names};
use crate::run::{Ev, ended, keeping};

/// Events that are being collected, and the list of classes that the run holds for them.
#[derive(Default)]
pub(super) struct Group {
    pub(super) pending: Vec<(u8, u64)>,
    pub(super) expected: Option<Arc<[u8]>>,
}

impl Model {
    /// Collects two of class 0 and one of class 1; class 2 is not expected.
    pub(super) fn collect(&mut self, slot: Slot, class: u8, keyed: bool) {
        const EXPECTED: [u8; 3] = [0, 1, 0];
        let event = self.new_event();
        let name = event.0;
        let list: Arc<[u8]> = EXPECTED.into();
        let is_new = Cell::new(false);
        let run = &mut self.run;
        let call = Collecting { slot, step: StepId(0), key: keyed.then_some("key"), event };
        let answer = keeping(|| {
            run.collect(
                call,
                |expected| expected == EXPECTED,
                |expects| Some(class).filter(|class| expects(class)),
                || (list.clone(), is_new.set(true)).0,
            )
        });
        if !self.is_running() {
            return assert_eq!(answer.map_err(event_alone), Err(ended(Ev(name))));
        }
        let memory = self.memory(slot);
        let is_remembered = memory.is_some();
        let calls = memory.into_iter().flat_map(|memory| &mut memory.calls);
        if let Some(before) = calls.into_iter().find(|call| !call.is_seen && call.keyed == keyed) {
            before.is_seen = true;
            let events = before.events.as_ref().map(|events| events.iter().copied().map(Ev).collect());
            return assert_eq!(answer, Ok(Gathered { events, remains: Some(Leftover::Event(Ev(name))) }));
        }
        let group = self.collected.entry(keyed).or_default();
        if is_new.get() {
            assert!(group.pending.is_empty(), "a group is not made anew while it has events");
            group.expected = Some(list);
        }
        if class == 2 {
            let refused = Refused { error: Error::NotExpected, value: Ev(name) };
            return assert_eq!(answer.map_err(event_alone), Err(refused));
        }
        group.pending.push((class, name));
        let mut rest = group.pending.clone();
        let events: Option<Vec<_>> = EXPECTED
            .iter()
            .map(|&class| {
                let at = rest.iter().position(|one| one.0 == class)?;
                Some(rest.remove(at).1)
            })
            .collect();
        let Ok(gathered) = answer else { panic!("the class is among the expected ones") };
        assert_eq!(names(&gathered), events);
        let is_over = events.is_some() && rest.is_empty();
        let given = match &gathered.remains {
            Some(Leftover::Classes(list, _)) => Some(list),
            other => (assert_eq!(*other, None), None).1,
        };
        assert_eq!(given.is_some(), is_over, "a group is forgotten once it has no events left");
        if events.is_some() {
            group.pending = rest;
        }
        if let Some(list) = given {
            let expected = self.collected.remove(&keyed).and_then(|group| group.expected);
            assert!(expected.is_some_and(|expected| Arc::ptr_eq(&expected, list)));
        }
        if is_remembered {
            let calls = &mut self.memories.entry(slot.seq()).or_default().calls;
            calls.push(Call { keyed, events, is_seen: true });
        }
    }
}

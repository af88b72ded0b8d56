//! The course of a run: its records, put together to attempts of its steps.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::History;
use crate::error::Error;
use crate::image::EncodedImage;
use crate::record::{EncodedRecord, Record};
use crate::replay::Wanted;
use crate::timers::Time;

/// How an attempt ended, or how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AttemptEnd {
    /// Its event is queued.
    Queued = 0,
    /// Its body runs.
    Running = 1,
    /// Its body waits for an event, or sleeps.
    Waiting = 2,
    /// It is done.
    Finished = 3,
    /// It failed, and another one follows.
    Failed = 4,
    /// Its body began again: its process was lost, or the run was paused.
    BegunAgain = 5,
    /// The run ended with it.
    EndedRun = 6,
    /// It had begun when the run ended.
    CutShort = 7,
    /// It had not begun when the run ended.
    NeverBegun = 8,
}

/// One attempt of a step for one event. What is not known of its times is nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// The record that queued its event, or with which it began again.
    pub record: u64,
    /// The record with which its body began; 0 if it has not.
    pub began_record: u64,
    /// The record with which it ended; 0 if it has not.
    pub ended_record: u64,
    /// The delivery.
    pub delivery: u64,
    /// The step, as a place among [`Course::steps`].
    pub step: u32,
    /// The class of the event, as a place among [`Course::classes`].
    pub class: u32,
    /// The number of the attempt, from 1.
    pub number: u32,
    /// The attempt that emitted its event, as a place among the attempts, if that is known.
    pub cause: Option<usize>,
    /// When its event was queued.
    pub queued: Option<Time>,
    /// When its body began.
    pub began: Option<Time>,
    /// Since when it waits, or slept last.
    pub waits: Option<Time>,
    /// When it ended.
    pub ended: Option<Time>,
    /// How it ended.
    pub end: AttemptEnd,
}

/// The attempts of a run, in the order of their beginning.
#[derive(Debug, Default)]
pub struct Course {
    /// The names of the steps.
    pub steps: Names<Box<str>>,
    /// The classes of the events.
    pub classes: Names<Arc<str>>,
    /// The attempts.
    pub attempts: Vec<Attempt>,
    /// What attempts raised, by their place.
    pub failures: Vec<(usize, Box<str>)>,
    // The last attempt of each delivery that is not done.
    last: HashMap<u64, usize>,
    // Which delivery waits in each open wait.
    waits: HashMap<u64, u64>,
    // What was queued since the last record of another kind: by the body that sent it or is done, if that comes next.
    queued: Vec<usize>,
}

/// Names in the order in which they were met.
#[derive(Debug)]
pub struct Names<T> {
    places: HashMap<T, u32>,
    names: Vec<T>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { places: HashMap::new(), names: Vec::new() }
    }
}

impl<T: Clone + Eq + Hash> Names<T> {
    fn place(&mut self, name: &T) -> u32 {
        if let Some(&place) = self.places.get(name) {
            return place;
        }
        let place = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.clone());
        self.places.insert(name.clone(), place);
        place
    }

    /// The names.
    pub fn as_slice(&self) -> &[T] {
        &self.names
    }
}

impl Course {
    /// Goes on with the next part of a run's history. `is_first` says that it is the first one: what was pending when it
    /// begins comes before its records.
    ///
    /// # Errors
    /// As [`History::checkpoint`] and [`History::records`].
    pub fn add(&mut self, history: &History<'_>, is_first: bool) -> Result<(), Error> {
        let (image, _) = history.checkpoint()?;
        if is_first {
            self.begin(&image, history.folded());
        }
        for record in history.records() {
            let (seq, record) = record?;
            self.record(&image, seq, &record);
        }
        Ok(())
    }

    /// What is known at the end of the records: whether the run is completed, and when it was over, if it is.
    pub fn finish(&mut self, is_completed: bool, finished: Option<Time>) {
        for &delivery in self.waits.values() {
            if let Some(attempt) = self.last.get(&delivery).and_then(|&at| self.attempts.get_mut(at)) {
                attempt.end = AttemptEnd::Waiting;
            }
        }
        let Some(finished) = finished else { return };
        let open = |attempt: &&mut Attempt| matches!(attempt.end, AttemptEnd::Running | AttemptEnd::Waiting);
        let is_one = self.attempts.iter_mut().filter(open).count() == 1;
        let ended_it = is_one && is_completed;
        for attempt in &mut self.attempts {
            match attempt.end {
                AttemptEnd::Running | AttemptEnd::Waiting => {
                    attempt.end = if ended_it { AttemptEnd::EndedRun } else { AttemptEnd::CutShort };
                    attempt.ended = Some(finished);
                }
                AttemptEnd::Queued => attempt.end = AttemptEnd::NeverBegun,
                _ => {}
            }
        }
    }

    fn begin(&mut self, image: &EncodedImage, folded: u64) {
        for (&delivery, pending) in &image.pending {
            let step = self.step(image, pending.step);
            let class = self.classes.place(&pending.event.class);
            let began = pending.since.filter(|_| pending.attempt == 1);
            let attempt = Attempt { number: pending.attempt, began, ..fresh(folded, delivery, step, class) };
            self.push(attempt);
        }
        self.waits = image.waits.iter().map(|(&wait, waiting)| (wait, waiting.seq)).collect();
        if folded == 0 && image.created > 0 {
            self.attempts.iter_mut().for_each(|attempt| attempt.queued = Some(image.created));
        }
    }

    fn step(&mut self, image: &EncodedImage, step: crate::StepId) -> u32 {
        let unknown: Box<str> = "?".into();
        self.steps.place(image.steps.get(step.0 as usize).unwrap_or(&unknown))
    }

    fn push(&mut self, attempt: Attempt) -> usize {
        let place = self.attempts.len();
        self.last.insert(attempt.delivery, place);
        self.attempts.push(attempt);
        place
    }

    fn record(&mut self, image: &EncodedImage, seq: u64, record: &EncodedRecord) {
        if let Record::Queued { seq: delivery, step, event } = record {
            let (step, class) = (self.step(image, *step), self.classes.place(&event.class));
            let place = self.push(fresh(seq, *delivery, step, class));
            self.queued.push(place);
            return;
        }
        let queued = std::mem::take(&mut self.queued);
        match record {
            Record::Started { seq: delivery, at } => self.started(seq, *delivery, known(*at)),
            Record::Finished { seq: delivery, at } => {
                let cause = self.last.get(delivery).copied();
                for place in queued {
                    // What a step returned was queued in the moment in which it was done.
                    (self.attempts[place].queued, self.attempts[place].cause) = (known(*at), cause);
                }
                self.ended(seq, *delivery, known(*at), AttemptEnd::Finished);
                self.last.remove(delivery);
            }
            Record::Sent { seq: delivery, .. } => {
                let cause = self.last.get(delivery).copied();
                queued.into_iter().for_each(|place| self.attempts[place].cause = cause);
            }
            Record::Retried { seq: delivery, failure, at, .. } => {
                if let Some(place) = self.ended(seq, *delivery, known(*at), AttemptEnd::Failed) {
                    let text = failure.parts().map_or_else(|| failure.text.to_string(), |(a, b)| format!("{a}: {b}"));
                    self.failures.push((place, text.into()));
                }
            }
            Record::Asked { seq: delivery, wanted: Wanted::Sleep(lasts) | Wanted::Wait(lasts), at, .. } => {
                if let Some(attempt) = self.current(*delivery) {
                    attempt.waits = at.checked_sub(*lasts);
                }
            }
            Record::Waiting { wait, waiting } => drop(self.waits.insert(*wait, waiting.seq)),
            Record::WaitOver { wait } => drop(self.waits.remove(wait)),
            _ => {}
        }
    }

    fn current(&mut self, delivery: u64) -> Option<&mut Attempt> {
        self.last.get(&delivery).and_then(|&place| self.attempts.get_mut(place))
    }

    fn started(&mut self, seq: u64, delivery: u64, at: Option<Time>) {
        let Some(attempt) = self.current(delivery) else { return };
        let again = match attempt.end {
            AttemptEnd::Queued => None,
            AttemptEnd::Running | AttemptEnd::Waiting => {
                attempt.end = AttemptEnd::BegunAgain;
                attempt.ended_record = seq;
                Some(attempt.number)
            }
            _ => Some(attempt.number.saturating_add(1)),
        };
        if let Some(number) = again {
            let next = Attempt { number, ..fresh(seq, delivery, attempt.step, attempt.class) };
            self.push(next);
        }
        if let Some(attempt) = self.current(delivery) {
            (attempt.began, attempt.began_record, attempt.end) = (at, seq, AttemptEnd::Running);
        }
    }

    fn ended(&mut self, seq: u64, delivery: u64, at: Option<Time>, end: AttemptEnd) -> Option<usize> {
        let place = *self.last.get(&delivery)?;
        let attempt = self.attempts.get_mut(place)?;
        (attempt.ended, attempt.ended_record, attempt.end) = (at, seq, end);
        Some(place)
    }
}

fn fresh(record: u64, delivery: u64, step: u32, class: u32) -> Attempt {
    Attempt {
        record,
        began_record: 0,
        ended_record: 0,
        delivery,
        step,
        class,
        number: 1,
        cause: None,
        queued: None,
        began: None,
        waits: None,
        ended: None,
        end: AttemptEnd::Queued,
    }
}

fn known(at: Time) -> Option<Time> {
    (at > 0).then_some(at)
}

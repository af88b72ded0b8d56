//! From the objects of a host to stored bytes and back: the same image or record, of other types.

use std::hash::Hash;
use std::sync::Arc;

use crate::image::{Grouped, Held, Image, Pending, Waiting};
use crate::memo::Memo;
use crate::queue::Collected;
use crate::record::Record;
use crate::replay::{Collection, Replay};
use crate::store::Store;

/// Turns events, values and classes of one kind into those of another.
pub trait Translate<E, V, C> {
    /// What an event becomes.
    type Event;
    /// What a value becomes.
    type Value;
    /// What a class becomes.
    type Class: Clone + Eq + Hash;
    /// Why something cannot be translated.
    type Error;

    /// Translates an event.
    fn event(&mut self, event: E) -> Result<Self::Event, Self::Error>;
    /// Translates the value of a key, or of a memo of this name.
    fn value(&mut self, key: &str, value: V) -> Result<Self::Value, Self::Error>;
    /// Translates a class.
    fn class(&mut self, class: &C) -> Result<Self::Class, Self::Error>;

    /// Translates a list of classes.
    fn classes(&mut self, classes: &Arc<[C]>) -> Result<Arc<[Self::Class]>, Self::Error> {
        classes.iter().map(|class| self.class(class)).collect()
    }
}

type PendingTo<T, E, V, C> =
    Pending<<T as Translate<E, V, C>>::Event, <T as Translate<E, V, C>>::Class, <T as Translate<E, V, C>>::Value>;

type ReplayTo<T, E, V, C> =
    Replay<<T as Translate<E, V, C>>::Event, <T as Translate<E, V, C>>::Class, <T as Translate<E, V, C>>::Value>;

type To<T, E, V, C> =
    Image<<T as Translate<E, V, C>>::Event, <T as Translate<E, V, C>>::Value, <T as Translate<E, V, C>>::Class>;

impl<E, V, C: Clone + Eq + Hash> Image<E, V, C> {
    /// The same image of other types.
    ///
    /// # Errors
    /// The first one of the translator.
    pub fn translate<T: Translate<E, V, C>>(self, to: &mut T) -> Result<To<T, E, V, C>, T::Error> {
        let mut image = Image::new(self.id, &self.workflow, self.steps, self.created, self.deadline);
        image.timeout = self.timeout;
        image.begun = self.begun;
        image.status = self.status;
        image.delivered = self.delivered;
        image.waited = self.waited;
        image.grouped = self.grouped;
        image.published = self.published;
        image.family = self.family;
        image.children = self.children;
        image.state = state(self.state, to)?;
        for (seq, it) in self.pending {
            image.pending.insert(seq, pending(it, to)?);
        }
        for (wait, it) in self.waits {
            image.waits.insert(wait, waiting(it, to)?);
        }
        for (number, group) in self.groups {
            let collected = collected(group.collected, to)?;
            image.groups.insert(number, Grouped { step: group.step, key: group.key, collected });
        }
        for (number, event) in self.kept {
            image.kept.insert(number, to.event(event)?);
        }
        for held in self.held {
            image.held.push_back(Held { is_from_outside: held.is_from_outside, event: to.event(held.event)? });
        }
        Ok(image)
    }
}

fn state<E, V, C, T: Translate<E, V, C>>(state: Store<V>, to: &mut T) -> Result<Store<T::Value>, T::Error> {
    let mut translated = Store::default();
    for (key, value) in state.into_pairs() {
        let value = to.value(&key, value)?;
        translated.set(&key, value);
    }
    Ok(translated)
}

fn pending<E, V, C, T: Translate<E, V, C>>(
    pending: Pending<E, C, V>,
    to: &mut T,
) -> Result<PendingTo<T, E, V, C>, T::Error> {
    Ok(Pending {
        step: pending.step,
        attempt: pending.attempt,
        due: pending.due,
        since: pending.since,
        event: to.event(pending.event)?,
        replay: replay(pending.replay, to)?,
    })
}

fn replay<E, V, C, T: Translate<E, V, C>>(
    replay: Replay<E, C, V>,
    to: &mut T,
) -> Result<ReplayTo<T, E, V, C>, T::Error> {
    let mut translated = Replay::default();
    translated.failures = replay.failures;
    translated.sent = replay.sent;
    translated.deadlines = replay.deadlines;
    for event in replay.received {
        translated.received.push(to.event(event)?);
    }
    for call in replay.collected {
        let events = call.events.map(|events| events.into_iter().map(|event| to.event(event)).collect());
        let expected = to.classes(&call.expected)?;
        translated.collected.push(Collection { key: call.key, expected, events: events.transpose()? });
    }
    let memos = replay.memos.into_iter().map(|(number, it)| Ok((number, memo(it, to)?)));
    translated.memos = memos.collect::<Result<_, _>>()?;
    Ok(translated)
}

fn memo<E, V, C, T: Translate<E, V, C>>(memo: Memo<V>, to: &mut T) -> Result<Memo<T::Value>, T::Error> {
    let kept = memo.kept.try_map(|value| to.value(&memo.call.name, value))?;
    Ok(Memo { call: memo.call, kept })
}

fn waiting<E, V, C, T: Translate<E, V, C>>(waiting: Waiting<C>, to: &mut T) -> Result<Waiting<T::Class>, T::Error> {
    let class = waiting.class.as_ref().map(|class| to.class(class)).transpose()?;
    Ok(Waiting { seq: waiting.seq, class, due: waiting.due })
}

fn collected<E, V, C: Clone + Eq + Hash, T: Translate<E, V, C>>(
    collected: Collected<C, E>,
    to: &mut T,
) -> Result<Collected<T::Class, T::Event>, T::Error> {
    let mut translated = Collected::new(to.classes(collected.expected())?);
    for (class, events) in collected.into_pending() {
        let class = to.class(&class)?;
        for event in events {
            let event = to.event(event)?;
            let Ok(None) = translated.add(class.clone(), event) else {
                unreachable!("what is pending makes no group complete");
            };
        }
    }
    Ok(translated)
}

type RecordTo<T, E, V, C> =
    Record<<T as Translate<E, V, C>>::Event, <T as Translate<E, V, C>>::Value, <T as Translate<E, V, C>>::Class>;

impl<E, V, C> Record<E, V, C> {
    /// The same record of other types.
    ///
    /// # Errors
    /// The one of the translator.
    pub fn translate<T: Translate<E, V, C>>(self, to: &mut T) -> Result<RecordTo<T, E, V, C>, T::Error> {
        Ok(match self {
            Self::Set { key, value } => {
                let value = to.value(&key, value)?;
                Record::Set { key, value }
            }
            Self::Delete { key } => Record::Delete { key },
            Self::Queued { seq, step, event } => Record::Queued { seq, step, event: to.event(event)? },
            Self::Started { seq, at } => Record::Started { seq, at },
            Self::Finished { seq, at } => Record::Finished { seq, at },
            Self::Retried { seq, failure, at, due } => Record::Retried { seq, failure, at, due },
            Self::Due { seq } => Record::Due { seq },
            Self::Sent { seq, digest } => Record::Sent { seq, digest },
            Self::Memo { seq, number, memo: it } => Record::Memo { seq, number, memo: memo(it, to)? },
            Self::ChildEnded { child, end } => {
                Record::ChildEnded { child, end: end.try_map(|value| to.value("a child", value))? }
            }
            Self::Forgotten { seq, number } => Record::Forgotten { seq, number },
            Self::Asked { seq, place, wanted, at } => Record::Asked { seq, place, wanted, at },
            Self::Waiting { wait, waiting: it } => Record::Waiting { wait, waiting: waiting(it, to)? },
            Self::WaitOver { wait } => Record::WaitOver { wait },
            Self::Received { seq, event } => Record::Received { seq, event: to.event(event)? },
            Self::ReceivedKept { seq, number } => Record::ReceivedKept { seq, number },
            Self::Returned { seq, place } => Record::Returned { seq, place },
            Self::Grouped { group, step, key, expected } => {
                Record::Grouped { group, step, key, expected: to.classes(&expected)? }
            }
            Self::Collected { seq, group, class, event } => {
                Record::Collected { seq, group, class: to.class(&class)?, event: to.event(event)? }
            }
            Self::Kept { number, event } => Record::Kept { number, event: to.event(event)? },
            Self::KeptTaken { number } => Record::KeptTaken { number },
            Self::Held { is_from_outside, event } => Record::Held { is_from_outside, event: to.event(event)? },
            Self::HeldAgain { event } => Record::HeldAgain { event: to.event(event)? },
            Self::Released { place } => Record::Released { place },
            Self::Published { event } => Record::Published { event: to.event(event)? },
            Self::Changed { at, keys } => Record::Changed { at, keys },
            Self::Paused => Record::Paused,
            Self::Resumed => Record::Resumed,
            Self::Ended => Record::Ended,
        })
    }
}

//! The keys and values of a run, and what it publishes.

use super::{Host, Phase, Run};
use crate::changes::Changes;
use crate::record::Record;
use crate::store::Store;
use crate::stream::Stream;
use crate::timers::Time;
use crate::{Error, Refused};

impl<H: Host> Run<H> {
    /// The keys and values.
    #[inline]
    pub fn store(&self) -> &Store<H::Value> {
        &self.store
    }

    /// Sets a key and gives back the value that it held.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the run is over.
    #[inline]
    pub fn set(&mut self, key: &str, value: H::Value) -> Result<Option<H::Value>, Refused<H::Value>> {
        if self.phase == Phase::Ended {
            return Err(Refused::new(Error::RunEnded, value));
        }
        self.record_set(key, &value);
        Ok(self.store.set(key, value))
    }

    /// Sets a key only if it was not written since it had `version` (`None`: only if it is missing).
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the run is over, [`Error::Outdated`] if the key was written in between.
    pub fn compare_and_set(
        &mut self,
        key: &str,
        version: Option<u64>,
        value: H::Value,
    ) -> Result<Option<H::Value>, Refused<H::Value>> {
        if self.phase == Phase::Ended {
            return Err(Refused::new(Error::RunEnded, value));
        }
        let current = self.store.get_versioned(key).map(|(_, version)| version);
        if current != version {
            return Err(Refused::new(Error::Outdated, value));
        }
        self.record_set(key, &value);
        Ok(self.store.set(key, value))
    }

    /// Changes keys from outside, by an entry of the inbox. Gives back the values that they held.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the outcome is known.
    pub fn change(
        &mut self,
        entry: u64,
        changes: Changes<H::Value>,
        at: Time,
    ) -> Result<Vec<H::Value>, Refused<Changes<H::Value>>> {
        if self.phase != Phase::Running {
            return Err(Refused::new(Error::RunEnded, changes));
        }
        let keys = changes.len() as u64;
        self.record(|| Record::Changed { at, keys });
        let mut replaced = Vec::new();
        for (key, value) in changes.set {
            self.record_set(&key, &value);
            replaced.extend(self.store.set(&key, value));
        }
        for key in changes.removed {
            let deleted = self.store.delete(&key);
            if deleted.is_some() {
                self.record_to_the_end(|| Record::Delete { key: key.clone() });
            }
            replaced.extend(deleted);
        }
        self.consume(entry);
        Ok(replaced)
    }

    #[inline]
    fn record_set(&mut self, key: &str, value: &H::Value) {
        self.record_to_the_end(|| Record::Set { key: key.into(), value: H::copy_value(value) });
    }

    /// Removes a key and gives back its value.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the run is over.
    pub fn delete(&mut self, key: &str) -> Result<Option<H::Value>, Error> {
        if self.phase == Phase::Ended {
            return Err(Error::RunEnded);
        }
        let deleted = self.store.delete(key);
        if deleted.is_some() {
            self.record_to_the_end(|| Record::Delete { key: key.into() });
        }
        Ok(deleted)
    }

    /// What was published.
    #[inline]
    pub fn stream(&self) -> &Stream<H::Event> {
        &self.stream
    }

    /// Publishes an event; gives back one that is no longer kept because of it.
    ///
    /// # Errors
    /// [`Error::RunEnded`] once the run is over.
    pub fn publish(&mut self, event: H::Event) -> Result<Option<H::Event>, Refused<H::Event>> {
        if self.phase == Phase::Ended {
            return Err(Refused::new(Error::RunEnded, event));
        }
        self.record_to_the_end(|| Record::Published { event: H::copy_event(&event) });
        Ok(self.stream.publish(event))
    }
}

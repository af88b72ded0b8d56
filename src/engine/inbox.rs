//! What is sent to the runs of this process: read in one poll for all of them, whatever their number.

use super::effect::{Due, Effect, Purpose};
use super::{AFTER_AN_ERROR, Engine};
use crate::journal::{Cursor, Polled, Request};

/// The most entries of one poll.
const POLLED_AT_ONCE: usize = 256;

#[derive(Default)]
pub(super) struct Inbox {
    cursor: Cursor,
    is_polling: bool,
    // Something has changed since the poll was asked for.
    again: bool,
    // After an error.
    next: Due,
}

impl Inbox {
    pub(super) fn next(&self) -> Due {
        self.next
    }

    /// The runs of this process are those of a new lease: each is loaded, with its inbox.
    pub(super) fn forget(&mut self) {
        *self = Self { cursor: std::mem::take(&mut self.cursor), ..Self::default() };
    }
}

impl Engine {
    /// Asks for what is new in the inboxes.
    pub(super) fn poll(&mut self) {
        if !self.lease.is_held() {
            return;
        }
        if self.inbox.is_polling {
            self.inbox.again = true;
            return;
        }
        let (owner, after) = (self.options.owner, self.inbox.cursor.clone());
        self.inbox = Inbox { cursor: after.clone(), is_polling: true, again: false, next: None };
        self.ask(Purpose::Poll, Request::Poll { owner, after, limit: POLLED_AT_ONCE });
    }

    pub(super) fn tick_inbox(&mut self) {
        if self.inbox.next.is_some_and(|at| at <= self.now.steady) {
            self.poll();
        }
    }

    pub(super) fn polled(&mut self, polled: Polled) {
        self.inbox.is_polling = false;
        self.inbox.cursor = polled.cursor;
        for entry in polled.entries {
            if self.executed.contains_key(&entry.run) {
                self.effects.push(Effect::Deliver(entry));
            } else if let Some(entry) = self.expected.keep_entry(entry) {
                self.claims.keep_entry(entry);
            }
        }
        if polled.more || self.inbox.again {
            self.poll();
        }
    }

    // Nothing is lost: the cursor stays where it is.
    pub(super) fn poll_failed(&mut self) {
        self.inbox.is_polling = false;
        self.inbox.next = Some(self.now.steady.saturating_add(AFTER_AN_ERROR));
    }
}

//! Events arrive where they go, in the step in which they leave where they were.

use super::router::{InTransit, Origin, Route};
use super::{Host, HostDelivery, Run, WaitOver};
use crate::timers::Time;

/// What has become of the events of a [`Routing`].
pub struct Arrival<H: Host> {
    /// Whether the run defers all that comes.
    pub is_deferred: bool,
    /// Whether one is deferred for a body that may be about to wait for it; then there is a deadline for that.
    pub is_delayed: bool,
    /// Whether one was queued for a step.
    pub is_queued: bool,
    /// The waits that are over, each with the event that the waiter has received. One that turns out to be gone gives
    /// it back.
    pub received: Vec<(WaitOver<H>, H::Event)>,
    /// For the host to drop where foreign code may run.
    pub dropped: Vec<H::Event>,
    /// The delivery of the step that is done.
    pub finished: Option<HostDelivery<H>>,
}

impl<H: Host> Arrival<H> {
    pub(super) fn new(is_deferred: bool) -> Self {
        let (received, dropped) = (Vec::new(), Vec::new());
        Self { is_deferred, is_delayed: false, is_queued: false, received, dropped, finished: None }
    }

    pub(super) fn add(
        &mut self,
        run: &mut Run<H>,
        origin: Origin,
        one: &InTransit<H>,
        event: H::Event,
        now: &impl Fn() -> Time,
    ) {
        let is_given_back = origin.is_given_back();
        let is_kept_again = is_given_back && one.route == Route::Nowhere && one.receiver.is_none();
        let is_delayed = !self.is_deferred && !is_kept_again && one.receiver.is_none() && one.deferred_for.is_some();
        if is_delayed {
            run.delay(now);
            self.is_delayed = true;
            if origin.is_deferred() {
                self.dropped.push(event);
                return;
            }
        }
        self.dropped.extend(run.depart(origin, &event));
        let is_deferred = self.is_deferred || is_delayed;
        let refused = match (one.receiver, one.route) {
            _ if is_kept_again => run.keep_again(event),
            _ if is_deferred && is_given_back => run.hold_again(event),
            _ if is_deferred => run.hold(event, origin.is_from_outside()),
            (Some(receiver), _) => {
                self.received.extend(run.receive(receiver, &event).map(|over| (over, event)));
                return;
            }
            (None, Route::Steps(kind)) => {
                self.is_queued = true;
                run.deliver(kind, event)
            }
            (None, _) => run.keep(event),
        };
        self.dropped.extend(refused.err().map(|refused| refused.value));
    }
}

impl<H: Host> Run<H> {
    /// An event is no longer where it was. Gives the reference that is left of it.
    fn depart(&mut self, origin: Origin, event: &H::Event) -> Option<H::Event> {
        match origin {
            Origin::Deferred { number, .. } => self.release(number).map(|held| held.event),
            Origin::GivenBack(slot) => self.take_back(slot, event),
            Origin::Outside | Origin::Inbox(_) | Origin::Sent { .. } | Origin::Returned(_) => None,
        }
    }

    /// All events of an origin are where they go; there were `before` deliveries before that. Gives the delivery that
    /// is done with that.
    #[inline]
    pub(super) fn conclude(
        &mut self,
        origin: Origin,
        before: u64,
        now: impl FnOnce() -> Time,
    ) -> Option<HostDelivery<H>> {
        match origin {
            Origin::Returned(slot) => {
                self.inherit(slot, before);
                self.stamp(now);
                return self.finish_step(slot);
            }
            Origin::Inbox(entry) => self.consume(entry),
            Origin::Sent { slot, digest } => {
                self.inherit(slot, before);
                self.note_sent(slot, digest);
            }
            Origin::Outside | Origin::Deferred { .. } | Origin::GivenBack(_) => {}
        }
        None
    }

    /// An entry of the inbox is dealt with by what happened: the next commit says so.
    pub fn consume(&mut self, entry: u64) {
        self.consumed.make().push(entry);
    }

    /// Whether any entry of the inbox was consumed since the last call of [`Run::take_consumed`].
    pub fn has_consumed(&self) -> bool {
        self.consumed.get().is_some_and(|consumed| !consumed.is_empty())
    }

    /// The entries of the inbox that were consumed since the last call.
    pub fn take_consumed(&mut self) -> Vec<u64> {
        self.consumed.take()
    }
}

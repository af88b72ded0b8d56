//! The router: where an event goes (the end of the run, a waiter, the steps that accept it, or where it is kept).
//!
//! Which waiter accepts an event is the host's to say, and its code must not run under a lock on the run. So the host
//! calls [`Routing::advance`] with the run, answers the [`Question`] that it gives without it, and calls again. What
//! was found out is looked at again in the call in which the events arrive: an event leaves where it was in the same
//! step in which it gets where it goes, so that no commit and no image has it at both places, or at none.
//!
//! Precedence, highest first: a waiter that accepts the event; a body that runs again and may be about to wait for it
//! (the event is deferred until it does); the steps that accept its class. What none of them takes is kept for a step
//! that will ask for it, if it came from outside, and else is an error.

use hashbrown::HashSet;

use super::{Arrival, Host, HostDelivery, Phase, Run, Slot, WaitId, WaitOver};
use crate::timers::Time;
use crate::{EventKind, Refused};

/// Where events come from: what they leave in the step in which they arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A sender outside of the run.
    Outside,
    /// An entry of the run's inbox, which is consumed.
    Inbox(u64),
    /// The body of a step in flight, which goes on.
    Sent {
        /// The body.
        slot: Slot,
        /// By which the event is known again when another body of the delivery sends it.
        digest: u64,
    },
    /// The body of a step in flight, which is done.
    Returned(Slot),
    /// A deferred event.
    Deferred {
        /// Its number.
        number: u64,
        /// Whether it came from outside at first.
        is_from_outside: bool,
    },
    /// A step in flight that received the event and went away before it saw it.
    GivenBack(Slot),
}

/// Where a class of events goes unless a waiter accepts the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the steps that accept it.
    Steps(EventKind),
    /// It ends the run.
    Stop,
    /// To no step.
    Nowhere,
}

/// Events of one origin, which arrive all at once.
pub struct Routing<H: Host> {
    origin: Origin,
    events: Vec<InTransit<H>>,
    // The waiters that are to receive one of the events.
    receivers: HashSet<WaitId>,
    // The first event of which it is not known where it goes.
    at: usize,
    // An answer that concerns the run: the next call acts on it.
    answered: Option<(WaitId, Answer)>,
    // The class that a stopped body is to wait for again, before its event is routed.
    waits_again_for: Option<H::Class>,
    has_begun: bool,
}

pub(super) struct InTransit<H: Host> {
    // Gone once it has arrived.
    event: Option<H::Event>,
    pub(super) route: Route,
    // The last waiter that was asked.
    asked: Option<WaitId>,
    pub(super) receiver: Option<WaitId>,
    // The last wait that was compared of bodies that have yet to come to it, and its class, if the event is of another.
    compared: Option<u64>,
    other: Option<H::Class>,
    // The wait for which the event is deferred.
    pub(super) deferred_for: Option<u64>,
}

/// What the host finds out about an event, without a lock on the run.
pub enum Question<H: Host> {
    /// Whether a waiter accepts the event.
    Accepts {
        /// Names the wait.
        wait: WaitId,
        /// Who waits.
        waiter: H::Waiter,
        /// The class that is waited for.
        class: H::Class,
    },
    /// Whether the event is of a class.
    IsOf {
        /// The wait that a body may be about to come to again.
        wait: u64,
        /// The class that it waits for.
        class: H::Class,
    },
}

/// What the host found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The waiter accepts the event, or the event is of the class.
    Yes,
    /// It does not.
    No,
    /// The waiter accepts the event, but is no longer there to receive it.
    Gone,
    /// The waiter could not say: that ends its wait, and is no fault of the sender.
    Failed,
}

/// What the host does next.
pub enum Routed<H: Host> {
    /// It answers, and calls [`Routing::advance`] again.
    Ask(Question<H>),
    /// It tells a waiter that its own answer failed, and calls again. The wait is over.
    WaitFailed(WaitOver<H>),
    /// It ends the run with this event; nothing else was done with the events.
    Ends(H::Event),
    /// It refuses the events because of this one, from a step, that nothing can ever take. Nothing was done with them.
    Unrouted(H::Event),
    /// It refuses the events: the run takes none any more.
    RunEnded,
    /// Nothing: a deferred event stays where it is, or what becomes of the events does not matter any more.
    Moot,
    /// It tells the others what has become of the events.
    Arrived(Arrival<H>),
}

impl Origin {
    /// The delivery whose body sends the events: it does not wait for what it sends itself.
    fn sender(self) -> Option<u64> {
        match self {
            Self::Sent { slot, .. } | Self::Returned(slot) => Some(slot.seq()),
            Self::Outside | Self::Inbox(_) | Self::Deferred { .. } | Self::GivenBack(_) => None,
        }
    }

    pub(super) fn is_from_outside(self) -> bool {
        let is_new = matches!(self, Self::Outside | Self::Inbox(_) | Self::Deferred { is_from_outside: true, .. });
        is_new || self.is_given_back()
    }

    pub(super) fn is_given_back(self) -> bool {
        matches!(self, Self::GivenBack(_))
    }

    pub(super) fn is_deferred(self) -> bool {
        matches!(self, Self::Deferred { .. })
    }

    /// The entry of the inbox that is consumed.
    pub fn entry(self) -> Option<u64> {
        if let Self::Inbox(entry) = self { Some(entry) } else { None }
    }
}

impl<H: Host> Routing<H> {
    /// Begins to route events of one origin.
    pub fn new(origin: Origin, events: impl IntoIterator<Item = (H::Event, Route)>) -> Self {
        let in_transit = |(event, route)| InTransit {
            event: Some(event),
            route,
            asked: None,
            receiver: None,
            compared: None,
            other: None,
            deferred_for: None,
        };
        Self {
            origin,
            events: events.into_iter().map(in_transit).collect(),
            receivers: HashSet::new(),
            at: 0,
            answered: None,
            waits_again_for: None,
            has_begun: false,
        }
    }

    /// Begins to route an event that a step in flight received and gives back. If its body is being stopped, it is to
    /// wait for an event of this class again.
    pub fn give_back(slot: Slot, event: H::Event, route: Route, class: H::Class) -> Self {
        Self { waits_again_for: Some(class), ..Self::new(Origin::GivenBack(slot), [(event, route)]) }
    }

    /// The event that a question is about.
    ///
    /// # Panics
    /// Once the events have arrived.
    pub fn event(&self) -> &H::Event {
        self.events[self.at].event.as_ref().expect("questions are asked before the events arrive")
    }

    /// Takes the answer to a question of the last call of [`Routing::advance`].
    pub fn answer(&mut self, question: Question<H>, answer: Answer) {
        let one = &mut self.events[self.at];
        match question {
            Question::IsOf { wait, class } => {
                one.compared = Some(wait);
                if answer == Answer::Yes {
                    one.deferred_for = Some(wait);
                } else {
                    one.other = Some(class);
                }
            }
            Question::Accepts { wait, .. } => {
                one.asked = Some(wait);
                match answer {
                    Answer::No => {}
                    Answer::Yes => {
                        one.receiver = Some(wait);
                        self.receivers.insert(wait);
                    }
                    Answer::Gone | Answer::Failed => self.answered = Some((wait, answer)),
                }
            }
        }
    }

    /// Goes on routing, up to the next question or to the end.
    pub fn advance(&mut self, run: &mut Run<H>, now: impl Fn() -> Time) -> Routed<H> {
        if run.phase != Phase::Running {
            return self.refuse(run.phase);
        }
        self.begin(run);
        if let Some(at) = self.stop() {
            // Nothing becomes of what comes along with the end, unless it is an error.
            if let Some(at) = self.unrouted(run, at, true) {
                return Routed::Unrouted(self.copy(at));
            }
            if let Origin::Returned(slot) = self.origin {
                run.dispatch(slot);
            }
            return Routed::Ends(self.copy(at));
        }
        let is_deferred = run.defers(self.origin);
        if let Origin::Deferred { number, .. } = self.origin
            && (is_deferred || !run.is_holding(number))
        {
            return Routed::Moot;
        }
        // What is given back to a paused run is deferred only for a waiter.
        if !is_deferred || self.origin.is_given_back() {
            if let Some(over) = self.act_on_answer(run) {
                return Routed::WaitFailed(over);
            }
            if let Some(question) = self.next_question(run) {
                return Routed::Ask(question);
            }
        }
        match self.unrouted(run, self.events.len(), is_deferred) {
            Some(at) => Routed::Unrouted(self.copy(at)),
            None => Routed::Arrived(self.arrive(run, is_deferred, now)),
        }
    }

    /// The outcome of the run is known: a second end is ignored by the host, other events are refused.
    fn refuse(&self, phase: Phase) -> Routed<H> {
        let is_from_step = matches!(self.origin, Origin::Sent { .. });
        match (self.origin, self.stop()) {
            (Origin::Returned(_) | Origin::Deferred { .. } | Origin::GivenBack(_), _) => Routed::Moot,
            (_, Some(at)) if phase == Phase::Ending || !is_from_step => Routed::Ends(self.copy(at)),
            _ => Routed::RunEnded,
        }
    }

    fn begin(&mut self, run: &mut Run<H>) {
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        if let (true, Origin::GivenBack(slot), Some(class)) = (is_first, self.origin, &self.waits_again_for) {
            run.wait_again(slot, class);
        }
    }

    fn stop(&self) -> Option<usize> {
        self.events.iter().position(|one| one.route == Route::Stop)
    }

    fn copy(&self, at: usize) -> H::Event {
        H::copy_event(self.events[at].event.as_ref().expect("nothing has arrived yet"))
    }

    fn act_on_answer(&mut self, run: &mut Run<H>) -> Option<WaitOver<H>> {
        let (wait, answer) = self.answered.take()?;
        if answer == Answer::Failed {
            return run.end_wait(wait);
        }
        self.events[self.at].deferred_for = run.delaying(wait);
        None
    }

    /// The next question. Once there is none, it holds for each event that its receiver still waits, or that there is
    /// no waiter that was not asked.
    fn next_question(&mut self, run: &Run<H>) -> Option<Question<H>> {
        loop {
            while self.at < self.events.len() {
                if let Some(question) = self.question(run, self.at) {
                    return Some(question);
                }
                self.at += 1;
            }
            let at = (0..self.events.len()).find(|&at| !self.is_known(run, at))?;
            let one = &mut self.events[at];
            (one.compared, one.deferred_for) = (None, None);
            if let Some(gone) = one.receiver.take() {
                self.receivers.remove(&gone);
            }
            self.at = at;
        }
    }

    fn question(&mut self, run: &Run<H>, at: usize) -> Option<Question<H>> {
        let one = &mut self.events[at];
        if one.receiver.is_some() || one.deferred_for.is_some() {
            return None;
        }
        while let Some((wait, waiter, class)) = run.next_waiter(one.asked) {
            if !self.receivers.contains(&wait) {
                return Some(Question::Accepts { wait, waiter: H::copy_waiter(waiter), class: class.clone() });
            }
            one.asked = Some(wait);
        }
        let (wait, class) = self.next_delaying(run, at)?;
        Some(Question::IsOf { wait, class: class.clone() })
    }

    /// The next wait for which an event may have to be deferred. What a step emits for no other step is kept for it at
    /// once, and so is what is given back: it came before all that is deferred.
    fn next_delaying<'r>(&self, run: &'r Run<H>, at: usize) -> Option<(u64, &'r H::Class)> {
        let one = &self.events[at];
        let is_new = self.origin.is_from_outside() && !self.origin.is_given_back();
        if one.route == Route::Nowhere && !is_new {
            return None;
        }
        run.next_delaying(one.compared, self.origin.sender(), one.other.as_ref())
    }

    /// Whether what was found out about an event still holds.
    fn is_known(&self, run: &Run<H>, at: usize) -> bool {
        let one = &self.events[at];
        match (one.receiver, one.deferred_for) {
            (Some(receiver), _) => run.is_waiting(receiver),
            // A waiter that is being stopped keeps its place before those that came later.
            (None, Some(wait)) => {
                run.delaying(WaitId(wait)).is_some() || (run.is_delaying(wait) && run.next_waiter(one.asked).is_none())
            }
            (None, None) => run.next_waiter(one.asked).is_none() && self.next_delaying(run, at).is_none(),
        }
    }

    /// The first of so many events that comes from a step and that nothing can ever take.
    fn unrouted(&self, run: &Run<H>, count: usize, is_deferred: bool) -> Option<usize> {
        // It may be for a waiter of before that will wait again.
        if self.origin.is_from_outside() || run.is_settling() || (is_deferred && run.waiters().len() > 0) {
            return None;
        }
        self.events[..count].iter().position(|one| one.route == Route::Nowhere && one.receiver.is_none())
    }

    fn arrive(&mut self, run: &mut Run<H>, is_deferred: bool, now: impl Fn() -> Time) -> Arrival<H> {
        let mut arrival = Arrival::new(is_deferred);
        let before = run.delivered;
        for one in &mut self.events {
            let Some(event) = one.event.take() else { continue };
            arrival.add(run, self.origin, one, event, &now);
        }
        arrival.finished = run.conclude(self.origin, before, now);
        arrival
    }
}

impl<H: Host> Run<H> {
    /// Routes one event in the usual case: it is for steps, and nothing could keep it from them. Gives the delivery that
    /// is done with that.
    ///
    /// # Errors
    /// The event in any other case; it is to be routed by a [`Routing`].
    #[inline]
    pub fn route_directly(
        &mut self,
        origin: Origin,
        kind: EventKind,
        event: H::Event,
        now: impl FnOnce() -> Time,
    ) -> Result<Option<HostDelivery<H>>, H::Event> {
        if !self.is_direct() || origin.is_deferred() || origin.is_given_back() {
            return Err(event);
        }
        let before = self.delivered;
        match self.deliver(kind, event) {
            Ok(()) => Ok(self.conclude(origin, before, now)),
            Err(Refused { value, .. }) => Err(value),
        }
    }

    /// Whether events are deferred now instead of going on. One that is given back came before those that are.
    fn defers(&self, origin: Origin) -> bool {
        let is_early = origin.is_deferred() || origin.is_given_back();
        self.is_paused() || (self.is_release_due() && !is_early)
    }
}

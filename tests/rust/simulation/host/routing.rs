//! Events on their way: the host answers the router's questions, while other threads go on, and checks where each
//! event arrives by rules of its own.

use std::collections::BTreeSet;

use treadle::{
    Answer, Arrival, HostRecord, Lookup, Origin, Question, Record, Route, Routed, Routing, Slot, StepId, WaitId,
};

use super::super::workflow::{Ev, Guest, Match, Named, STOP, Waiter};
use super::{At, Simulation};

/// What one record says of an event on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    Released,
    Returned(u64),
    Received(u64, u64),
    Queued(StepId, u64),
    Kept { name: u64, is_first: bool },
    Deferred { name: u64, is_from_outside: bool },
    DeferredFirst(u64),
    Sent(u64),
    Finished(u64),
}

/// Where an event should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Stays,
    Steps,
    Waiter(WaitId),
    Kept,
    KeptFirst,
    Deferred,
    DeferredFirst,
    Unrouted,
}

impl Move {
    pub fn of(record: &HostRecord<Guest>) -> Option<Self> {
        let one = match record {
            Record::Released { .. } => Self::Released,
            Record::Returned { seq, .. } => Self::Returned(*seq),
            Record::Received { seq, event } => Self::Received(*seq, event.0.name),
            Record::Queued { step, event, .. } => Self::Queued(*step, event.0.name),
            Record::Kept { number, event } => Self::Kept { name: event.0.name, is_first: *number < KEPT_FROM },
            Record::Held { is_from_outside, event } => {
                Self::Deferred { name: event.0.name, is_from_outside: *is_from_outside }
            }
            Record::HeldAgain { event } => Self::DeferredFirst(event.0.name),
            Record::Sent { seq, .. } => Self::Sent(*seq),
            Record::Finished { seq, .. } => Self::Finished(*seq),
            _ => return None,
        };
        Some(one)
    }
}

// Events that are kept again have smaller numbers.
const KEPT_FROM: u64 = 1 << 62;

impl Simulation {
    pub(super) fn take_in(&mut self, event: Named) {
        self.note(&[10, event.name]);
        self.pass_on(vec![event], Origin::Outside);
    }

    fn route_of(&self, class: u8) -> Route {
        match self.workflow.kind_of(class) {
            _ if class == STOP => Route::Stop,
            Some(kind) => Route::Steps(kind),
            None => Route::Nowhere,
        }
    }

    pub(super) fn pass_on(&mut self, events: Vec<Named>, origin: Origin) {
        let with_routes: Vec<_> = events.iter().map(|event| (Ev(*event), self.route_of(event.class))).collect();
        self.route(Routing::new(origin, with_routes), &events, origin);
    }

    pub(super) fn give_back(&mut self, slot: Slot, event: Named) {
        let routing = Routing::give_back(slot, Ev(event), self.route_of(event.class), event.class);
        self.route(routing, &[event], Origin::GivenBack(slot));
    }

    fn route(&mut self, mut routing: Routing<Guest>, events: &[Named], origin: Origin) {
        let mut gone = BTreeSet::new();
        loop {
            let was_running = self.is_running();
            let expected = self.places(events, origin, &gone);
            let receivers = self.waiters_at(&expected);
            let now = self.now;
            match self.call(|run| routing.advance(run, || now)) {
                Routed::Ask(question) => {
                    self.interfere(events.len(), origin);
                    let answer = self.answer(routing.event().0, &question, &mut gone);
                    routing.answer(question, answer);
                }
                Routed::WaitFailed(over) => {
                    let body = self.bodies.iter_mut().find(|body| body.slot == over.slot);
                    match body.filter(|_| !over.waiter.is_task) {
                        Some(body) => body.at = At::Failed,
                        None => assert!(over.waiter.is_task),
                    }
                }
                Routed::Ends(event) => {
                    assert_eq!(event.0.class, STOP);
                    self.note(&[11, event.0.name]);
                    return self.end(false);
                }
                Routed::Unrouted(event) => {
                    let at = events.iter().position(|other| *other == event.0).expect("it is one of them");
                    assert!(expected[at] == Place::Unrouted || events.iter().any(|event| event.class == STOP));
                    self.note(&[22, event.0.name]);
                    return self.end(false);
                }
                Routed::RunEnded => return assert!(!was_running),
                Routed::Moot => {
                    let is_deferred = matches!(origin, Origin::Deferred { .. });
                    return assert!(!was_running || (is_deferred && self.run.is_paused()));
                }
                Routed::Arrived(arrival) => return self.arrived(events, origin, &expected, receivers, arrival),
            }
        }
    }

    /// What other threads do while a matcher runs, and matchers themselves.
    fn interfere(&mut self, count: usize, origin: Origin) {
        if !self.disturbances.pauses || !self.random.one_in(12) {
            return;
        }
        let tasks: Vec<_> = self.run.waiters().filter(|(_, waiter)| waiter.is_task).map(|(id, _)| id).collect();
        match self.random.below(8) {
            0 => {
                let _ = self.call(treadle::Run::pause);
            }
            1 if self.disturbances.cancels && origin == Origin::Outside && self.random.one_in(4) => self.end(false),
            // Of several events one could move up to the waiter of another: that one is for the first of them again.
            2 | 3 if count == 1 && !tasks.is_empty() => {
                let id = tasks[self.random.below(tasks.len())];
                assert!(self.call(|run| run.end_wait(id)).is_some());
            }
            _ => self.send_from_outside(),
        }
    }

    fn answer(&mut self, event: Named, question: &Question<Guest>, gone: &mut BTreeSet<WaitId>) -> Answer {
        let (wait, waiter, class) = match question {
            Question::IsOf { class, .. } => return if *class == event.class { Answer::Yes } else { Answer::No },
            Question::Accepts { wait, waiter, class } => (*wait, waiter, *class),
        };
        if class != event.class || !waiter.filter.takes(event.name) {
            return Answer::No;
        }
        let is_here = self.run.is_waiting(wait);
        if self.is_stopped(wait, waiter, gone) {
            return Answer::Gone;
        }
        if waiter.is_task && self.random.one_in(6) {
            gone.insert(wait);
            return Answer::Gone;
        }
        if is_here && !self.workflow.is_orderless && self.random.one_in(40) {
            return Answer::Failed;
        }
        Answer::Yes
    }

    /// Whether the body that waits was stopped, and is to wait again.
    fn is_stopped(&self, wait: WaitId, waiter: &Waiter, gone: &BTreeSet<WaitId>) -> bool {
        (!waiter.is_task || gone.contains(&wait)) && self.run.delaying(wait).is_some()
    }

    // --- where events should go

    /// Where each event should go as things are.
    fn places(&self, events: &[Named], origin: Origin, gone: &BTreeSet<WaitId>) -> Vec<Place> {
        let mut taken = BTreeSet::new();
        events.iter().map(|event| self.place(*event, origin, gone, &mut taken)).collect()
    }

    fn place(&self, event: Named, origin: Origin, gone: &BTreeSet<WaitId>, taken: &mut BTreeSet<WaitId>) -> Place {
        let is_given_back = matches!(origin, Origin::GivenBack(_));
        let is_deferred_already = matches!(origin, Origin::Deferred { .. });
        let is_held = self.run.is_paused() || (self.run.is_release_due() && !is_deferred_already && !is_given_back);
        if is_held && !is_given_back {
            return if is_deferred_already { Place::Stays } else { Place::Deferred };
        }
        let accepts =
            |(_, waiter, class): &(WaitId, &Waiter, &u8)| **class == event.class && waiter.filter.takes(event.name);
        let waiters = std::iter::successors(self.run.next_waiter(None), |(id, ..)| self.run.next_waiter(Some(*id)));
        let is_stopped = |id, waiter: &Waiter| self.is_stopped(id, waiter, gone);
        let may_take = |id, waiter: &Waiter| !taken.contains(&id) && (!gone.contains(&id) || is_stopped(id, waiter));
        let waiter = waiters.filter(accepts).find(|(id, waiter, _)| may_take(*id, waiter));
        let has_route = self.workflow.kind_of(event.class).is_some();
        let is_stopped = waiter.is_some_and(|(id, waiter, _)| is_stopped(id, waiter));
        if let Some((id, ..)) = waiter.filter(|_| !is_stopped) {
            taken.insert(id);
            return if is_held { Place::DeferredFirst } else { Place::Waiter(id) };
        }
        if is_given_back && !has_route {
            return Place::KeptFirst;
        }
        let is_from_step = matches!(origin, Origin::Sent { .. } | Origin::Returned(_))
            || matches!(origin, Origin::Deferred { is_from_outside: false, .. });
        let sender = match origin {
            Origin::Sent { slot, .. } | Origin::Returned(slot) => Some(slot.seq()),
            _ => None,
        };
        let may_be_deferred = has_route || !is_from_step;
        if is_held || is_stopped || (may_be_deferred && self.is_awaited_again(event.class, sender)) {
            return match () {
                () if is_given_back => Place::DeferredFirst,
                () if is_deferred_already => Place::Stays,
                () => Place::Deferred,
            };
        }
        match () {
            () if has_route => Place::Steps,
            () if is_from_step && !self.run.is_settling() => Place::Unrouted,
            () => Place::Kept,
        }
    }

    /// Whether a body that runs again, other than the sender, may be about to wait for an event of the class.
    fn is_awaited_again(&self, class: u8, sender: Option<u64>) -> bool {
        let mut after = None;
        while let Some((wait, &other)) = self.run.next_delaying(after, sender, None) {
            assert!(self.run.is_delaying(wait));
            if other == class {
                return true;
            }
            after = Some(wait);
        }
        false
    }

    fn waiters_at(&self, places: &[Place]) -> Vec<(WaitId, Slot)> {
        let slot_of = |id| self.run.waiters().find(|(other, _)| *other == id).map(|(_, waiter)| (id, waiter.slot));
        places.iter().filter_map(|place| if let Place::Waiter(id) = place { slot_of(*id) } else { None }).collect()
    }

    // --- where they went

    fn arrived(
        &mut self,
        events: &[Named],
        origin: Origin,
        expected: &[Place],
        receivers: Vec<(WaitId, Slot)>,
        arrival: Arrival<Guest>,
    ) {
        let moves: Vec<_> = self.moves.iter().map(|(one, _)| *one).collect();
        let queued = self.moves.iter().filter(|(one, _)| matches!(one, Move::Queued(..)));
        let queued: Vec<_> = queued.map(|(_, recorded)| *recorded).collect();
        let should_move: Vec<_> = self.should_move(events, origin, expected, &receivers);
        assert_eq!(moves, should_move, "{events:?} from {origin:?} to {expected:?}");
        let gave = arrival.received.iter().map(|(over, event)| (over.slot, event.0));
        let given = expected.iter().zip(events).filter(|(place, _)| matches!(place, Place::Waiter(_)));
        assert!(gave.eq(receivers.iter().map(|(_, slot)| *slot).zip(given.map(|(_, event)| *event))));
        assert!(receivers.iter().all(|(id, _)| !self.run.is_waiting(*id)));
        let is_waiting = |place: &Place| matches!(place, Place::Stays | Place::Deferred | Place::DeferredFirst);
        assert_eq!(arrival.is_delayed, !arrival.is_deferred && expected.iter().any(is_waiting));
        assert_eq!(arrival.is_queued, expected.contains(&Place::Steps));
        for event in events {
            self.note(&[11, event.name]);
        }
        self.enter_in_ledger(events, origin, expected, &receivers, queued);
        if let Origin::Returned(slot) = origin {
            assert_eq!(arrival.finished.map(|delivery| delivery.seq), Some(slot.seq()));
            self.ledger.finish(slot.seq());
        }
        for (over, event) in arrival.received {
            self.give(event.0, over.slot, over.waiter);
        }
    }

    /// The records of events that go to these places.
    fn should_move(
        &self,
        events: &[Named],
        origin: Origin,
        places: &[Place],
        receivers: &[(WaitId, Slot)],
    ) -> Vec<Move> {
        let mut moves = Vec::new();
        for (&Named { name, class, .. }, &place) in events.iter().zip(places) {
            match origin {
                _ if place == Place::Stays => {}
                Origin::Deferred { .. } => moves.push(Move::Released),
                Origin::GivenBack(slot) if self.run.delivery(slot).is_some() => moves.push(Move::Returned(slot.seq())),
                _ => {}
            }
            let is_from_outside = matches!(origin, Origin::Outside | Origin::Deferred { is_from_outside: true, .. });
            match place {
                Place::Stays | Place::Unrouted => {}
                Place::Steps => {
                    let kind = self.workflow.kind_of(class).expect("it has a route");
                    moves.extend(self.workflow.plan.routes.steps(kind).iter().map(|step| Move::Queued(*step, name)));
                }
                Place::Waiter(id) => {
                    let slot = receivers.iter().find(|(other, _)| *other == id).expect("it waited").1;
                    // A task that a body left behind may be all that is left of a delivery.
                    if self.was_in_flight(slot, origin) {
                        moves.push(Move::Received(slot.seq(), name));
                    }
                }
                Place::Kept => moves.push(Move::Kept { name, is_first: false }),
                Place::KeptFirst => moves.push(Move::Kept { name, is_first: true }),
                Place::Deferred => moves.push(Move::Deferred { name, is_from_outside }),
                Place::DeferredFirst => moves.push(Move::DeferredFirst(name)),
            }
        }
        match origin {
            Origin::Sent { slot, .. } => moves.push(Move::Sent(slot.seq())),
            Origin::Returned(slot) => moves.push(Move::Finished(slot.seq())),
            _ => {}
        }
        moves
    }

    /// Whether the delivery was in flight before events arrived, of which the last may have been its end.
    fn was_in_flight(&self, slot: Slot, origin: Origin) -> bool {
        origin == Origin::Returned(slot) || self.run.delivery(slot).is_some()
    }

    fn enter_in_ledger(
        &mut self,
        events: &[Named],
        origin: Origin,
        places: &[Place],
        receivers: &[(WaitId, Slot)],
        queued: Vec<u64>,
    ) {
        let mut queued = queued.into_iter();
        for (&event, &place) in events.iter().zip(places) {
            let name = event.name;
            match origin {
                _ if place == Place::Stays => continue,
                Origin::Deferred { .. } => self.ledger.release(name),
                Origin::GivenBack(slot) if self.run.delivery(slot).is_some() => {
                    self.ledger.give_back(slot.seq(), name);
                }
                Origin::GivenBack(_) => {}
                Origin::Outside | Origin::Inbox(_) | Origin::Sent { .. } | Origin::Returned(_) => {
                    self.ledger.emit(name);
                }
            }
            match place {
                Place::Stays | Place::Unrouted => {}
                Place::Waiter(id) => {
                    let slot = receivers.iter().find(|(other, _)| *other == id).expect("it waited").1;
                    if self.was_in_flight(slot, origin) {
                        self.ledger.receive(slot.seq(), name);
                    }
                }
                Place::Steps => {
                    let kind = self.workflow.kind_of(event.class).expect("it has a route");
                    for step in self.workflow.plan.routes.steps(kind).to_vec() {
                        self.note_delivery(event, step, queued.next().expect("each delivery is recorded"));
                    }
                }
                Place::Kept => self.ledger.keep(name),
                Place::KeptFirst => self.ledger.keep_again(name),
                Place::Deferred => self.ledger.hold(name),
                Place::DeferredFirst => self.ledger.hold_again(name),
            }
        }
    }

    /// A waiter that has received an event gets it, or has gone away.
    fn give(&mut self, event: Named, slot: Slot, waiter: Waiter) {
        if waiter.is_task && self.random.one_in(3) {
            return self.give_back(slot, event);
        }
        self.note(&[12, slot.seq(), event.name]);
        if !waiter.is_task {
            let body = self.bodies.iter_mut().find(|body| body.slot == slot && matches!(body.at, At::Waiting(_)));
            body.expect("the body is there that waits").at = At::Got(event);
        }
    }

    // --- a body asks for an event

    /// An event that is there for a body in flight, and whether it was received by an earlier one.
    pub(super) fn look(&mut self, slot: Slot, class: u8, filter: Match) -> Option<(Named, bool)> {
        let mut lookup = Lookup::new(slot);
        loop {
            let event = lookup.next(&self.run)?.0;
            if event.class != class || !filter.takes(event.name) {
                continue;
            }
            self.interfere(1, Origin::Outside);
            let place = self.run.kept().any(|(_, kept)| kept.0 == event);
            let is_deferred = !place && self.holds(event);
            let Some(received) = self.call(|run| lookup.receive(run)) else { continue };
            assert_eq!(received.0, event);
            let was_received = !place && !is_deferred;
            if place {
                self.ledger.take_kept(event.name);
            } else if is_deferred {
                self.ledger.release(event.name);
            }
            if !was_received {
                self.ledger.receive(slot.seq(), event.name);
            }
            return Some((event, was_received));
        }
    }

    fn holds(&self, event: Named) -> bool {
        let mut after = None;
        while let Some((number, held)) = self.run.next_held(after) {
            if held.event.0 == event {
                return true;
            }
            after = Some(number);
        }
        false
    }
}

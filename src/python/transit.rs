//! Events on their way: to whoever waits for them, to the steps that accept them, or to where they are kept.
//!
//! An event leaves where it was in the same step in which it gets where it goes: the lock on the state is held for
//! both, so that no commit and no image has it at both places, or at none. Whoever waits is asked before that,
//! since a matcher is Python; what was found out is looked at again under the lock.

use hashbrown::HashSet;
use pyo3::intern;
use pyo3::prelude::*;

use super::error;
use super::hook;
use super::plan::Route;
use super::run::{Given, Run, is_match};
use super::state::{Class, EventWaiter, Python3, State};
use super::touch::Touch;
use super::wake::Waker;
use crate::{EventKind, HostDelivery, Phase, Run as CoreRun, Slot, WaitId, WaitOver};

/// Where events come from.
#[derive(Clone, Copy)]
pub enum Origin {
    /// Somebody outside of the run.
    Outside,
    /// An entry of the run's inbox, which is consumed with that.
    Inbox(u64),
    /// The body of a step in flight, which sends it; with a digest if it can be known again.
    Sent(Slot, Option<u64>),
    /// The body of a step in flight, which returns it and is done with that.
    Returned(Slot),
    /// It was held, under this number; and whether it came from outside of the run at first.
    Held(u64, bool),
    /// A step in flight got it, and went away before it saw it.
    GivenBack(Slot),
}

impl Origin {
    /// The delivery whose body sends them: it does not wait for what it sends itself.
    fn sender(self) -> Option<u64> {
        match self {
            Self::Sent(slot, _) | Self::Returned(slot) => Some(slot.seq()),
            Self::Outside | Self::Inbox(_) | Self::Held(..) | Self::GivenBack(_) => None,
        }
    }

    /// What its sender emitted is queued, behind so many deliveries.
    #[inline]
    fn inherit(self, core: &mut CoreRun<Python3>, before: u64) {
        if let Self::Sent(slot, _) | Self::Returned(slot) = self {
            core.inherit(slot, before);
        }
    }

    fn is_from_outside(self) -> bool {
        matches!(self, Self::Outside | Self::Inbox(_) | Self::GivenBack(_) | Self::Held(_, true))
    }

    /// Whether events are held now instead of going on. One that is given back came before those that are held.
    fn is_held(self, core: &CoreRun<Python3>) -> bool {
        core.is_paused() || (core.is_release_due() && !matches!(self, Self::Held(..) | Self::GivenBack(_)))
    }

    /// An event is no longer where it was. Gives the reference that is left of it.
    fn leave(self, state: &mut State, event: &Py<PyAny>) -> Option<Py<PyAny>> {
        match self {
            Self::Held(number, _) => state.core.release(number).map(|held| held.event),
            Self::GivenBack(slot) => state.core.take_back(slot, event),
            Self::Outside | Self::Inbox(_) | Self::Sent(..) | Self::Returned(_) => None,
        }
    }

    /// All events are where they go: whoever let them go is told. Gives the delivery that is done with that.
    fn conclude(self, run: &Run, state: &mut State) -> Option<HostDelivery<Python3>> {
        match self {
            Self::Inbox(entry) => {
                if let Some(durable) = &mut state.durable {
                    durable.consumed.push(entry);
                }
                None
            }
            Self::Sent(slot, Some(digest)) => {
                state.core.note_sent(slot, digest);
                None
            }
            Self::Returned(slot) => {
                if state.durable.is_some() {
                    state.core.set_time(run.now());
                }
                state.core.finish_step(slot)
            }
            Self::Outside | Self::Sent(_, None) | Self::Held(..) | Self::GivenBack(_) => None,
        }
    }
}

/// Events of one origin, which get where they go all at once.
struct Transit<'a, 'py> {
    run: &'a Bound<'py, Run>,
    origin: Origin,
    events: Vec<OnItsWay<'py>>,
    // Those who wait and get one of the events.
    takers: HashSet<WaitId>,
    // The first event that does not know yet where it goes.
    at: usize,
}

struct OnItsWay<'py> {
    event: Bound<'py, PyAny>,
    route: Route,
    // The last one of those who wait that was asked.
    asked: Option<WaitId>,
    taker: Option<WaitId>,
    // The same for those who have yet to come to where they waited, with the class that was not the event's.
    looked_at: Option<u64>,
    other: Option<Class>,
    delayed_by: Option<u64>,
}

/// What is to be found out of an event, without the lock.
enum Question {
    /// Whether somebody who waits takes it.
    Takes { id: WaitId, class: Class, matcher: Option<Py<PyAny>>, waker: Waker },
    /// Whether it is one that somebody may be about to wait for.
    Delays { wait: u64, class: Class },
}

/// What has become of events.
#[derive(Default)]
struct Arrived {
    is_held: bool,
    is_delayed: bool,
    is_queued: bool,
    given: Vec<(WaitOver<Python3>, Py<PyAny>)>,
    // What is let go of without the lock.
    dropped: Vec<Py<PyAny>>,
    finished: Option<HostDelivery<Python3>>,
}

impl<'a, 'py> Transit<'a, 'py> {
    fn new(run: &'a Bound<'py, Run>, origin: Origin, events: Vec<Bound<'py, PyAny>>) -> Self {
        let plan = run.get().plan.get();
        let on_its_way = |event| OnItsWay {
            route: plan.route(&event),
            event,
            asked: None,
            taker: None,
            looked_at: None,
            other: None,
            delayed_by: None,
        };
        Self { run, origin, events: events.into_iter().map(on_its_way).collect(), takers: HashSet::new(), at: 0 }
    }

    /// The next one to be asked. Once there is none, it holds for each event that its taker still waits, or that
    /// nobody does who was not asked.
    fn next_question(&mut self, core: &CoreRun<Python3>) -> Option<Question> {
        loop {
            while self.at < self.events.len() {
                if let Some(question) = self.question(core, self.at) {
                    return Some(question);
                }
                self.at += 1;
            }
            let at = (0..self.events.len()).find(|&at| !self.is_settled(core, at))?;
            let one = &mut self.events[at];
            (one.looked_at, one.delayed_by) = (None, None);
            if let Some(gone) = one.taker.take() {
                self.takers.remove(&gone);
            }
            self.at = at;
        }
    }

    fn question(&mut self, core: &CoreRun<Python3>, at: usize) -> Option<Question> {
        let py = self.run.py();
        let one = &mut self.events[at];
        if one.taker.is_some() || one.delayed_by.is_some() {
            return None;
        }
        while let Some((id, waiter, class)) = core.next_waiter(one.asked) {
            if !self.takers.contains(&id) {
                let matcher = waiter.matcher.as_ref().map(|matcher| matcher.clone_ref(py));
                return Some(Question::Takes { id, class: class.clone(), matcher, waker: waiter.waker.clone_ref(py) });
            }
            one.asked = Some(id);
        }
        let (wait, class) = self.next_delaying(core, at)?;
        Some(Question::Delays { wait, class: class.clone() })
    }

    /// The next one that an event may have to be held for. What a step emits for nobody else is kept for them at once,
    /// and so is what is given back: it came before all that is held.
    fn next_delaying<'c>(&self, core: &'c CoreRun<Python3>, at: usize) -> Option<(u64, &'c Class)> {
        let one = &self.events[at];
        let is_new = matches!(self.origin, Origin::Outside | Origin::Inbox(_) | Origin::Held(_, true));
        let has_takers = one.route != Route::Nowhere || is_new;
        has_takers.then(|| core.next_delaying(one.looked_at, self.origin.sender(), one.other.as_ref()))?
    }

    /// Whether what was found out of an event still holds.
    fn is_settled(&self, core: &CoreRun<Python3>, at: usize) -> bool {
        let one = &self.events[at];
        match (one.taker, one.delayed_by) {
            (Some(taker), _) => core.is_waiting(taker),
            (None, Some(wait)) => core.is_delaying(wait) && core.next_waiter(one.asked).is_none(),
            (None, None) => core.next_waiter(one.asked).is_none() && self.next_delaying(core, at).is_none(),
        }
    }

    fn answer(&mut self, question: Question) -> PyResult<()> {
        let py = self.run.py();
        let one = &mut self.events[self.at];
        let (id, class, matcher, waker) = match question {
            Question::Takes { id, class, matcher, waker } => (id, class, matcher, waker),
            Question::Delays { wait, class } => {
                one.looked_at = Some(wait);
                match hook::call(py, "__instancecheck__", || one.event.is_instance(class.0.bind(py).as_any())) {
                    Ok(true) => one.delayed_by = Some(wait),
                    // A class that cannot tell fails the step once it waits again, and not whoever sends.
                    Ok(false) => {}
                    Err(error) if hook::ends_program(py, &error) => return Err(error),
                    Err(_) => {}
                }
                one.other = Some(class);
                return Ok(());
            }
        };
        one.asked = Some(id);
        match is_match(&one.event, class.0.bind(py).as_any(), matcher.as_ref()) {
            Ok(is_match) => {
                if is_match && !waker.is_gone(py)? {
                    one.taker = Some(id);
                    self.takers.insert(id);
                } else if is_match {
                    one.delayed_by = self.run.get().state.lock().core.delaying(id);
                }
                Ok(())
            }
            // A matcher that raises is the fault of whoever waits, not of whoever sends.
            Err(error) => {
                let over = self.run.get().state.lock().core.end_wait(id);
                over.map_or(Ok(()), |over| over.waiter.waker.fail(py, error))
            }
        }
    }

    /// An event from a step that nobody can ever take.
    fn unrouted(&self, core: &CoreRun<Python3>, is_held: bool) -> Option<&Bound<'py, PyAny>> {
        // It may be for somebody who waited before, and will again.
        if self.origin.is_from_outside() || core.is_settling() || (is_held && core.waiters().len() > 0) {
            return None;
        }
        let is_unrouted = |one: &&OnItsWay<'_>| one.route == Route::Nowhere && one.taker.is_none();
        self.events.iter().find(is_unrouted).map(|one| &one.event)
    }

    fn arrive(self, state: &mut State, is_held: bool) -> Arrived {
        let origin = self.origin;
        let before = state.core.delivered();
        let mut arrived = Arrived { is_held, ..Arrived::default() };
        for OnItsWay { event, route, taker, delayed_by, .. } in self.events {
            let event = event.unbind();
            let is_kept_again = matches!(origin, Origin::GivenBack(_)) && route == Route::Nowhere && taker.is_none();
            let is_delayed = !is_held && !is_kept_again && taker.is_none() && delayed_by.is_some();
            if is_delayed {
                state.core.delay(|| self.run.get().now());
                arrived.is_delayed = true;
                if matches!(origin, Origin::Held(..)) {
                    arrived.dropped.push(event);
                    continue;
                }
            }
            arrived.dropped.extend(origin.leave(state, &event));
            let core = &mut state.core;
            let refused = match (taker, route) {
                _ if is_kept_again => core.keep_again(event),
                _ if (is_held || is_delayed) && matches!(origin, Origin::GivenBack(_)) => core.hold_again(event),
                _ if is_held || is_delayed => core.hold(event, origin.is_from_outside()),
                (Some(taker), _) => {
                    arrived.given.extend(core.receive(taker, &event).map(|over| (over, event)));
                    continue;
                }
                (None, Route::Steps(kind)) => {
                    arrived.is_queued = true;
                    core.deliver(kind, event)
                }
                (None, _) => core.keep(event),
            };
            arrived.dropped.extend(refused.err().map(|refused| refused.value));
        }
        origin.inherit(&mut state.core, before);
        arrived.finished = origin.conclude(self.run.get(), state);
        arrived
    }
}

impl Run {
    /// Takes an event from a step, by whatever way: a `StopEvent` ends the run, any other goes to whoever waits
    /// for it, else to the steps that accept it. `from` says who emitted it.
    pub fn emit(
        run: &Bound<'_, Self>,
        event: &Bound<'_, PyAny>,
        origin: Origin,
        from: &dyn Fn() -> String,
    ) -> PyResult<()> {
        match run.get().plan.get().route(event) {
            Route::Steps(kind) if Self::deliver(run, kind, event, origin) => Ok(()),
            _ if run.get().state.lock().core.phase() == Phase::Ended => {
                Err(error::run_ended(&run.get().id_text(), "send_event"))
            }
            Route::Stop => Self::stop(run, event),
            _ => Self::pass_on(run, vec![event.clone()], origin, from),
        }
    }

    /// The usual case: an event for the steps, and nothing that could keep it from them. Says whether it was that.
    #[inline]
    fn deliver(run: &Bound<'_, Self>, kind: EventKind, event: &Bound<'_, PyAny>, origin: Origin) -> bool {
        let mut state = run.get().state.lock();
        if !state.core.is_direct() {
            return false;
        }
        let before = state.core.delivered();
        let refused = state.core.deliver(kind, event.clone().unbind());
        origin.inherit(&mut state.core, before);
        let finished = origin.conclude(run.get(), &mut state);
        drop(state);
        drop((refused, finished));
        true
    }

    /// Takes all events that a step returned, and with them its end. If they end the run, the step is still in flight.
    pub fn emit_all<'py>(
        run: &Bound<'py, Self>,
        slot: Slot,
        mut events: Vec<Bound<'py, PyAny>>,
        from: &dyn Fn() -> String,
    ) -> PyResult<()> {
        let plan = run.get().plan.get();
        let stop = events.iter().position(|event| plan.route(event) == Route::Stop);
        let Some(stop) = stop else { return Self::pass_on(run, events, Origin::Returned(slot), from) };
        // Nothing becomes of what a step returns besides the end of the run, unless it was wrong to.
        let stop_event = events.swap_remove(stop);
        events.truncate(stop);
        let transit = Transit::new(run, Origin::Returned(slot), events);
        let unrouted = transit.unrouted(&run.get().state.lock().core, true).cloned();
        match unrouted {
            Some(event) => Err(error::unrouted(plan, &event, &from())),
            None => Self::stop(run, &stop_event),
        }
    }

    /// Takes an event from outside.
    pub fn take_in(run: &Bound<'_, Self>, event: &Bound<'_, PyAny>, origin: Origin) -> PyResult<()> {
        match run.get().plan.get().route(event) {
            Route::Steps(kind) if Self::deliver(run, kind, event, origin) => Self::touch(run, Touch::Kept),
            Route::Stop => {
                let finished = origin.conclude(run.get(), &mut run.get().state.lock());
                drop(finished);
                Self::stop(run, event)
            }
            _ => Self::pass_on(run, vec![event.clone()], origin, &String::new),
        }
    }

    /// An event comes back from somebody who waited for it and went away: it goes to somebody else who
    /// waits, else to the steps that accept it, else it is kept.
    pub fn give_back(run: &Bound<'_, Self>, slot: Slot, event: &Bound<'_, PyAny>) -> PyResult<()> {
        let class = Class(event.get_type().unbind());
        {
            let mut state = run.get().state.lock();
            if state.core.phase() != Phase::Running {
                return Ok(());
            }
            state.core.wait_again(slot, class.clone());
        }
        Self::pass_on(run, vec![event.clone()], Origin::GivenBack(slot), &String::new)
    }

    /// Has events that do not end the run go their way.
    pub fn pass_on<'py>(
        run: &Bound<'py, Self>,
        events: Vec<Bound<'py, PyAny>>,
        origin: Origin,
        from: &dyn Fn() -> String,
    ) -> PyResult<()> {
        let mut transit = Transit::new(run, origin, events);
        let arrived = loop {
            let mut state = run.get().state.lock();
            if state.core.phase() != Phase::Running {
                drop(state);
                return Err(error::run_ended(&run.get().id_text(), "send_event"));
            }
            let is_held = origin.is_held(&state.core);
            if let Origin::Held(number, _) = origin
                && (is_held || !state.core.is_holding(number))
            {
                return Ok(());
            }
            // What is given back in a paused run is held only for somebody who waits for it.
            let asks = !is_held || matches!(origin, Origin::GivenBack(_));
            if asks && let Some(question) = transit.next_question(&state.core) {
                drop(state);
                transit.answer(question)?;
                continue;
            }
            if let Some(event) = transit.unrouted(&state.core, is_held).cloned() {
                drop(state);
                return Err(error::unrouted(run.get().plan.get(), &event, &from()));
            }
            break transit.arrive(&mut state, is_held);
        };
        Self::tell_arrived(run, origin, arrived)
    }

    fn tell_arrived(run: &Bound<'_, Self>, origin: Origin, arrived: Arrived) -> PyResult<()> {
        let py = run.py();
        let Arrived { is_held, is_delayed, is_queued, given, dropped, finished } = arrived;
        drop((dropped, finished));
        for (over, event) in given {
            let slot = over.waiter.slot;
            if !Self::give(run, event.bind(py), over.waiter)? {
                Self::give_back(run, slot, event.bind(py))?;
            }
        }
        if is_delayed {
            Self::arm_timer(run)?;
        }
        if is_held || is_delayed {
            Self::touch(run, Touch::Held)?;
        }
        match origin {
            Origin::GivenBack(_) if is_queued => Self::wake_lanes(run),
            Origin::Outside | Origin::Inbox(_) | Origin::Held(_, true) if !is_held => Self::touch(run, Touch::Kept),
            _ => Ok(()),
        }
    }

    /// Gives an event to somebody who has waited for it. Says whether there was still anybody.
    fn give(run: &Bound<'_, Self>, event: &Bound<'_, PyAny>, waiter: EventWaiter) -> PyResult<bool> {
        let py = run.py();
        if waiter.waker.is_gone(py)? {
            return Ok(false);
        }
        if waiter.waker.is_here() {
            waiter.waker.wake(py, event.clone().unbind())?;
            Self::wait_ended(run)?;
        } else {
            // By the time that its loop hears of it, the waiter may be gone: then somebody else gets it.
            let give = run.getattr(intern!(py, "_give"))?;
            let given = Given::new(waiter.slot);
            waiter.waker.call_soon(py, (give, &waiter.waker.future, event, Py::new(py, given)?))?;
        }
        Self::touch(run, Touch::Received)?;
        Ok(true)
    }
}

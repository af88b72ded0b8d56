//! Events on their way: the core's router with the lock on the run, the matchers of waiters, and their futures.
//!
//! What goes where is decided by [`Routing`]. Here its questions are answered without the lock, since a matcher is
//! Python, and those are told who wait for what has happened.

use pyo3::intern;
use pyo3::prelude::*;

use super::error;
use super::hook;
use super::run::{Given, Run, is_match};
use super::state::{Class, EventWaiter, Python3};
use crate::writer::Occurrence;
use crate::{Answer, Arrival, EventKind, Origin, Question, Route, Routed, Routing, Slot};

impl Run {
    /// Takes an event from the body of a step in flight. `from` says which one it is, for an error.
    pub fn emit(
        run: &Bound<'_, Self>,
        event: &Bound<'_, PyAny>,
        origin: Origin,
        from: &dyn Fn() -> String,
    ) -> PyResult<()> {
        let route = run.get().plan.get().route(event);
        match route {
            Route::Steps(kind) if Self::deliver(run, kind, event, origin) => Ok(()),
            _ => Self::route(run, Routing::new(origin, [(event.clone().unbind(), route)]), origin, from),
        }
    }

    /// Takes an event from outside.
    pub fn take_in(run: &Bound<'_, Self>, event: &Bound<'_, PyAny>, origin: Origin) -> PyResult<()> {
        let route = run.get().plan.get().route(event);
        match route {
            Route::Steps(kind) if Self::deliver(run, kind, event, origin) => Self::occurred(run, Occurrence::Kept),
            _ => Self::route(run, Routing::new(origin, [(event.clone().unbind(), route)]), origin, &String::new),
        }
    }

    /// The usual case: an event for the steps, and nothing that could keep it from them. Says whether it was that.
    #[inline]
    fn deliver(run: &Bound<'_, Self>, kind: EventKind, event: &Bound<'_, PyAny>, origin: Origin) -> bool {
        let event = event.clone().unbind();
        let routed = run.get().state.lock().core.route_directly(origin, kind, event, || run.get().now());
        let is_routed = routed.is_ok();
        drop(routed);
        is_routed
    }

    /// Takes all events that a step returned, and with them its end. If they end the run, the step is still in flight.
    pub fn emit_all<'py>(
        run: &Bound<'py, Self>,
        slot: Slot,
        events: impl IntoIterator<Item = Bound<'py, PyAny>>,
        from: &dyn Fn() -> String,
    ) -> PyResult<()> {
        let plan = run.get().plan.get();
        let origin = Origin::Returned(slot);
        let events = events.into_iter().map(|event| {
            let route = plan.route(&event);
            (event.unbind(), route)
        });
        Self::route(run, Routing::new(origin, events), origin, from)
    }

    /// A deferred event goes on, unless it is to stay where it is.
    pub fn take_deferred(run: &Bound<'_, Self>, event: &Bound<'_, PyAny>, origin: Origin) -> PyResult<()> {
        let route = run.get().plan.get().route(event);
        let from = || "a step emitted".to_owned();
        Self::route(run, Routing::new(origin, [(event.clone().unbind(), route)]), origin, &from)
    }

    /// An event comes back from a step that received it and went away before it saw it.
    pub fn give_back(run: &Bound<'_, Self>, slot: Slot, event: &Bound<'_, PyAny>) -> PyResult<()> {
        let route = run.get().plan.get().route(event);
        let class = Class(event.get_type().unbind());
        let routing = Routing::give_back(slot, event.clone().unbind(), route, class);
        Self::route(run, routing, Origin::GivenBack(slot), &String::new)
    }

    fn route(
        run: &Bound<'_, Self>,
        mut routing: Routing<Python3>,
        origin: Origin,
        from: &dyn Fn() -> String,
    ) -> PyResult<()> {
        let py = run.py();
        let mut of_matcher = None;
        loop {
            let routed = routing.advance(&mut run.get().state.lock().core, || run.get().now());
            match routed {
                Routed::Ask(question) => {
                    let answer = answer(routing.event().bind(py), &question, &mut of_matcher)?;
                    routing.answer(question, answer);
                }
                Routed::WaitFailed(over) => {
                    if let Some(error) = of_matcher.take() {
                        over.waiter.waker.fail(py, error)?;
                    }
                }
                Routed::Ends(event) => return Self::stop(run, event.bind(py), origin.entry()),
                Routed::Unrouted(event) => {
                    return Err(error::unrouted(run.get().plan.get(), event.bind(py), &from()));
                }
                Routed::RunEnded => return Err(error::run_ended(&run.get().id_text(), "send_event")),
                Routed::Moot => return Ok(()),
                Routed::Arrived(arrival) => return Self::tell_arrived(run, origin, arrival),
            }
        }
    }

    fn tell_arrived(run: &Bound<'_, Self>, origin: Origin, arrival: Arrival<Python3>) -> PyResult<()> {
        let py = run.py();
        let Arrival { is_deferred, is_delayed, is_queued, received, dropped, finished } = arrival;
        drop((dropped, finished));
        for (over, event) in received {
            if !Self::give(run, event.bind(py), over.slot, over.waiter)? {
                Self::give_back(run, over.slot, event.bind(py))?;
            }
        }
        if is_delayed {
            Self::arm_timer(run)?;
        }
        if is_deferred || is_delayed {
            Self::occurred(run, Occurrence::Deferred)?;
        }
        match origin {
            Origin::GivenBack(_) if is_queued => Self::wake_lanes(run),
            Origin::Outside | Origin::Inbox(_) | Origin::Deferred { is_from_outside: true, .. } if !is_deferred => {
                Self::occurred(run, Occurrence::Kept)
            }
            _ => Ok(()),
        }
    }

    /// Gives an event to a waiter that has received it. Says whether it was still there.
    fn give(run: &Bound<'_, Self>, event: &Bound<'_, PyAny>, slot: Slot, waiter: EventWaiter) -> PyResult<bool> {
        let py = run.py();
        if waiter.waker.is_gone(py)? {
            return Ok(false);
        }
        if waiter.waker.is_here() {
            waiter.waker.wake(py, event.clone().unbind())?;
            Self::wait_ended(run)?;
        } else {
            // By the time that its loop hears of it, the waiter may be gone: then the event is given back.
            let give = run.getattr(intern!(py, "_give"))?;
            let given = Given::new(slot);
            waiter.waker.call_soon(py, (give, &waiter.waker.future, event, Py::new(py, given)?))?;
        }
        Self::occurred(run, Occurrence::Received)?;
        Ok(true)
    }
}

/// Answers a question of the router. What a matcher raised is put aside: it is the fault of the waiter.
fn answer(event: &Bound<'_, PyAny>, question: &Question<Python3>, of_matcher: &mut Option<PyErr>) -> PyResult<Answer> {
    let py = event.py();
    let (waiter, class) = match question {
        Question::IsOf { class, .. } => {
            return match hook::call(py, "__instancecheck__", || event.is_instance(class.0.bind(py).as_any())) {
                Ok(true) => Ok(Answer::Yes),
                Ok(false) => Ok(Answer::No),
                Err(error) if hook::ends_program(py, &error) => Err(error),
                // A class that cannot tell fails the step once it waits again, and not the sender.
                Err(_) => Ok(Answer::No),
            };
        }
        Question::Accepts { waiter, class, .. } => (waiter, class),
    };
    match is_match(event, class.0.bind(py).as_any(), waiter.matcher.as_ref()) {
        Ok(false) => Ok(Answer::No),
        Ok(true) if waiter.waker.is_gone(py)? => Ok(Answer::Gone),
        Ok(true) => Ok(Answer::Yes),
        Err(error) => {
            *of_matcher = Some(error);
            Ok(Answer::Failed)
        }
    }
}

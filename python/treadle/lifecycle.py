"""Lifecycle events: what happens to a run and its steps, for observers and for streams."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NoReturn, TypeAlias

from .log import log_exception

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    Observer: TypeAlias = Callable[["LifecycleEvent"], object]

Kind = Literal[
    "run_started",
    "run_continued",
    "run_taken_over",
    "run_waiting",
    "run_paused",
    "run_resumed",
    "run_released",
    "run_completed",
    "run_failed",
    "run_cancelled",
    "step_started",
    "step_finished",
    "step_retried",
    "step_failed",
    "step_cancelled",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleEvent:
    """Something that happened to a run or to one of its steps.

    What does not apply to the kind of event is `None`.

    Attributes:
        kind: what happened, such as "run_started" or "step_retried".
        run_id: the run.
        workflow: the name of its workflow.
        at: when, in seconds since the Unix epoch.
        step: the name of the step.
        delivery: the number of the delivery: the attempts of a step for one event share it.
        attempt: the number of the attempt, from 1.
        event_class: the name of the class of the event that the step accepts.
        elapsed: seconds since the attempt began; at the end of a run, since it was created.
        due: when the step is tried again, or the waiting run continues at the latest.
        error: the exception of a step or of a run; of a run that was released, the reason.
        worker: the id of the engine that executes the run, as `RunInfo.owner`.
    """

    kind: Kind
    run_id: str
    workflow: str
    at: float
    step: str | None = None
    delivery: int | None = None
    attempt: int | None = None
    event_class: str | None = None
    elapsed: float | None = None
    due: float | None = None
    error: BaseException | None = None
    worker: str | None = None


def observers_of(observers: "Iterable[Observer]") -> "tuple[Observer, ...]":
    """Return the observers as a tuple.

    Raises:
        TypeError: one of them cannot be called, or is a coroutine function.
    """
    import inspect

    if callable(observers) or isinstance(observers, str):
        raise TypeError(f"observers: a list of functions expected, not {observers!r}")
    checked = tuple(observers)
    for observer in checked:
        if not callable(observer):
            raise TypeError(f"observers: functions of one argument expected, not {observer!r}")
        call = getattr(observer, "__call__", observer)  # noqa: B004
        if inspect.iscoroutinefunction(observer) or inspect.iscoroutinefunction(call):
            raise TypeError(
                f"observers: {observer!r} is a coroutine function, and nothing would await it; "
                f"give a function that puts the event into a queue"
            )
    return checked


def notify(
    observers: "tuple[Observer, ...]", event: LifecycleEvent, loop: "AbstractEventLoop"
) -> None:
    """Call each observer. What one raises is logged, and reaches neither the run nor the others."""
    for observer in observers:
        try:
            observer(event)
        except (KeyboardInterrupt, SystemExit) as error:
            # It ends the program by way of the event loop, so that the run is left whole.
            loop.call_soon_threadsafe(_end_program, error)
        except BaseException as error:
            log_exception(
                f"an observer of run {event.run_id} of workflow {event.workflow!r} raised "
                f"at {event.kind!r}",
                error,
            )


def _end_program(error: BaseException) -> NoReturn:
    raise error

"""The compiled part of treadle. What is public of it is exported by the package itself."""

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    MutableMapping,
)
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar, final, overload

_E = TypeVar("_E")
_T = TypeVar("_T")

__version__: Final[str]

@final
class Context:
    """The state and the events of a run, as one step sees them.

    Every call but `wait_for_event` is synchronous, and every call may be made from a step that runs
    in a thread. A write is visible to every step of the run at once, and is never undone.

    A key is a `str` of valid Unicode: anything else is a `TypeError`, a lone surrogate a
    `ValueError`. A call that changes the run raises `RunEnded` once the run is over. Any call
    raises `StepCancelled` if the step was cancelled while its thread went on.
    """

    def set(self, key: str, value: object) -> None:
        """Store a snapshot of a value: changing the object afterwards changes nothing stored.

        Raises:
            UnstorableValue: the value cannot be pickled. It is a `TypeError`; the key keeps its old
                value.
            RunEnded: the run is over.
        """

    @overload
    def get(self, key: str) -> Any:
        """Return the value of a key, of the type that was set; `default` if there is none.

        A stored `None` is a value. Lists, dicts and opaque values come as fresh objects.

        Raises:
            UnreadableValue: an opaque value could not be unpickled.
        """

    @overload
    def get(self, key: str, default: Any) -> Any: ...
    def set_bytes(self, key: str, value: bytes | bytearray | memoryview) -> None:
        """Store binary. `bytes` are kept by reference, whatever their size.

        Raises:
            TypeError: the value is not `bytes`, a `bytearray` or a `memoryview`.
            RunEnded: the run is over.
        """

    @overload
    def get_bytes(self, key: str) -> Any:
        """Return the binary value of a key: `bytes`, or a `bytearray` if one was set.

        If there is none, it is `default`.

        Raises:
            TypeError: the stored value is not binary.
        """

    @overload
    def get_bytes(self, key: str, default: _T) -> bytes | bytearray | _T: ...
    def delete(self, key: str) -> bool:
        """Remove a key. Return whether it was there.

        Raises:
            RunEnded: the run is over.
        """

    def __contains__(self, key: str, /) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def keys(self) -> list[str]:
        """Return the keys, in the order in which they were first set."""

    @property
    def state(self) -> MutableMapping[str, Any]:
        """The same store as a mutable mapping; a missing key is a `KeyError`."""

    @overload
    def update(self, key: str, function: Callable[[Any], _T]) -> _T:
        """Replace a key's value by `function(value)`, atomically, and return the new value.

        `function` gets `default` if the key is missing. If another thread changes the key
        meanwhile, `function` is called again with the newer value, so it should do nothing else.

        Raises:
            KeyError: the key is missing, and no default was given.
            UnstorableValue: the new value cannot be pickled; the key keeps its old one.
            RunEnded: the run is over.
        """

    @overload
    def update(self, key: str, function: Callable[[Any], _T], default: Any) -> _T: ...
    @overload
    def increment(self, key: str, by: int | None = None) -> int:
        """Add `by`, or 1, to a number, atomically, and return the sum. A missing key counts as 0.

        Raises:
            TypeError: what is stored, or `by`, is not exactly an `int` or a `float`.
            RunEnded: the run is over.
        """

    @overload
    def increment(self, key: str, by: float) -> float: ...
    @property
    def session(self) -> dict[str, Any]:
        """Live objects of this process, by identity, for the time of the run. Never stored."""

    def run_id(self) -> str:
        """Return the run's UUID (version 7)."""

    @property
    def attempt(self) -> int:
        """1 on the first try of this step for this event, then 2, and so on."""

    @property
    def idempotency_key(self) -> str:
        """A name for this step and this event in this run, the same in every attempt."""

    def send_event(self, event: object) -> None:
        """Route an event now: to whoever waits for it, else to the steps that accept it.

        Raises:
            UnroutedEvent: no step accepts the event.
            RunEnded: the run is over.
        """

    def write_event_to_stream(self, event: object) -> None:
        """Publish an event outside of the run, for `Run.stream_events`.

        Raises:
            RunEnded: the run is over.
        """

    def wait_for_event(
        self,
        event_type: type[_E],
        *,
        match: Callable[[_E], object] | dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> EventWait[_E]:
        """Wait, where the step stands, for an event of a class; `await` it in an `async def` step.

        An event that nobody took when it was sent in is found as well.

        Args:
            event_type: the class; a subclass will do.
            match: which of the events: a function that says so, or a `dict` of fields and values.
            timeout: seconds to wait; for ever if not given.

        Raises:
            WaitTimeout: no such event came in time. It is a `TimeoutError`.
            EventLoopError: no event loop is running here: the step is not an `async def`.
            TypeError, ValueError: an argument is of a wrong type or out of range.
            RunEnded: the run is over.
        """

    def collect_events(
        self,
        event: _E,
        expected: list[type[_E]] | list[type[Any]] | tuple[type[Any], ...],
        *,
        key: str | None = None,
    ) -> list[Any] | None:
        """Keep an event until all that are expected have come.

        Returns the events in the order of `expected` once all are there, else `None`. Each step has
        groups of its own; `key` tells several groups of one step apart.

        The same list object, unchanged, is recognised without a comparison: for a long list, make
        it once outside of the step.

        Raises:
            TypeError: `expected` is not a list of classes.
            ValueError: the event is of none of the expected classes, or none is expected.
            RunEnded: the run is over.
        """

    def _revoke(self) -> None:
        """Have nothing that the step does from now on count: only its thread goes on."""

@final
class Run(Coroutine[Any, Any, Any]):
    """A run of a workflow. Await it for its result: any number of times, by any number of tasks.

    `asyncio.create_task` takes it as well.

    Awaiting binds the run: cancelling whoever awaits it cancels it, unless it is detached. An
    exception of a step is raised as itself, with a note that says step, event, attempt and run.

    Raises, when awaited:
        UnroutedEvent: a step emitted an event that no step accepts.
        RunStalled: nothing was queued, running or waited for, and there was no `StopEvent`.
        WorkflowTimeout, StepTimeout: something took longer than it may.
        EventLoopError: the run's event loop was closed before the run ended.
        asyncio.CancelledError: the run was cancelled.
    """

    @property
    def id(self) -> str:
        """The run's UUID (version 7)."""

    @property
    def status(self) -> Literal["running", "completed", "failed", "cancelled"]:
        """How the run stands. It is "running" until its last step has stopped."""

    def __await__(self) -> Generator[Any, Any, Any]: ...
    def send(self, value: None, /) -> Any: ...
    def throw(
        self,
        exception: type[BaseException] | BaseException,
        value: BaseException | object = None,
        traceback: TracebackType | None = None,
        /,
    ) -> Any: ...
    def close(self) -> None: ...
    def stream_events(self, after: int | None = None) -> StreamReader:
        """Read the events that the run publishes, from behind the one with the number `after`.

        The first event has the number 1; without `after` the reader begins there. Any number of
        readers may read, each at its own pace.

        Raises:
            TypeError, ValueError: `after` is not a number, or less than 0.
        """

    def send_event(self, event: object) -> None:
        """Send an event into the run, from any thread.

        Whoever waits for it gets it, else the steps that accept it. If there is nobody, it is kept
        for a later `Context.wait_for_event`. A `StopEvent` ends the run.

        Raises:
            RunEnded: the run is over.
            EventLoopError: the run's event loop was closed.
        """

    def cancel(self) -> bool:
        """Cancel the run, from any thread. Return whether it was still going on.

        Its steps get `asyncio.CancelledError` and are awaited; await the run to know that they have
        stopped.
        """

    def detach(self) -> Run:
        """Unbind the run from whoever awaits it and from the run that started it. Return the run.

        Cancelling them no longer cancels this run. Detach it before it is awaited: if its awaiter
        drives a step at the moment and is cancelled later, that step is cancelled with it and runs
        again.
        """

@final
class StreamReader(AsyncIterator[Any]):
    """Iterates over the published events of a run, with `async for`, until the run is over.

    A reader that needs events which are no longer kept gets a `Lagged` in their place.
    """

    @property
    def position(self) -> int:
        """The number of the last event that was given; as `after`, it goes on from there."""

    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Awaitable[Any]: ...

# What follows is of no use outside of the package.

@final
class EventWait(Awaitable[_E]):
    """What `Context.wait_for_event` gives: awaitable once."""

    def __await__(self) -> Generator[Any, Any, _E]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def throw(self, exception: Any, value: Any = None, traceback: Any = None) -> Any: ...
    def close(self) -> None: ...

@final
class Plan:
    """A compiled workflow; what `treadle.Workflow` runs."""

    def __new__(
        cls,
        name: str,
        steps: list[dict[str, Any]],
        *,
        stop_event: type,
        timeout: float | None,
        stream_limit: int,
    ) -> Self: ...
    def start(self, event: object) -> Run: ...

@final
class Lane:
    """Runs the steps of a run, one at a time, inside of one task."""

@final
class Gate:
    """Shares the time of an event loop between its runs."""

"""The compiled part of treadle. What is public of it is exported by the package itself."""

from asyncio import AbstractEventLoop, Task
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from concurrent.futures import Future as _Future
from datetime import timedelta
from types import TracebackType
from typing import Any, Concatenate, Final, Literal, ParamSpec, Self, TypeVar, final, overload

from .lifecycle import Observer
from .retry import Retry
from .runs import RunHandle
from .starting import Options
from .workflow import Workflow

_C = TypeVar("_C")
_E = TypeVar("_E")
_P = ParamSpec("_P")
_T = TypeVar("_T")

__version__: Final[str]

@final
class Context:
    """The state and the events of a run, as one step sees them.

    Every call but `wait_for_event` and `sleep` is synchronous, and may be made from a step that
    runs in a thread. A write is visible to every step of the run at once, and is never undone.

    A key is a `str` of valid Unicode: anything else is a `TypeError`, a lone surrogate a
    `ValueError`. A call that changes the run raises `RunEnded` once the run is over. Any call
    raises `StepCancelled` if the step was cancelled while its thread continued.
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
    def __bool__(self) -> Literal[True]: ...
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
        """Live objects of this process, kept by identity for the time of the run. Never stored."""

    def run_id(self) -> str:
        """Return the run's UUID (version 7)."""

    @overload
    def once(
        self,
        name: str,
        function: Callable[..., Coroutine[Any, Any, _T]],
        /,
        *args: Any,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        keep_failures: bool = False,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, _T]:
        """Call `function(*args, **kwargs)` once for this step and this event; return its result.

        The result is on disk before this returns, if the run has a journal. A body that runs again
        (after a crash, a retry, a pause, in a run that was resumed or forked) is given it, and the
        function is not called. The arguments of a call are compared by their contents.

        Args:
            name: names the memo, together with the arguments.
            function: an `async def`, or a function that is called in a thread.
            retry: when the function is called again after it has raised.
            timeout: seconds, or a `timedelta`, that one call may take; then it is cancelled. A
                thread cannot be: its end is awaited, and its result dropped.
            keep_failures: keep also what the function raises after its last attempt: a body that
                runs again is given the exception.

        Raises:
            MemoTimeout: the call took longer than its `timeout`.
            UnstorableValue: the result cannot be pickled. Nothing is kept.
            OutsideStep: the body of the step is over.
            RunEnded: the run is over.
        """

    @overload
    def once(
        self,
        name: str,
        function: Callable[..., _T],
        /,
        *args: Any,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        keep_failures: bool = False,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, _T]: ...
    def once_sync(
        self,
        name: str,
        function: Callable[..., _T],
        /,
        *args: Any,
        retry: Retry | None = None,
        keep_failures: bool = False,
        **kwargs: Any,
    ) -> _T:
        """As `once`, in a thread: in a step that is a plain `def`, or below `asyncio.to_thread`.

        The function is called in the thread of the caller, which waits until the result is on disk.

        Raises:
            EventLoopError: the caller is the thread of an event loop, which must not wait.
            TypeError: the function is an `async def`.
            UnstorableValue, OutsideStep, RunEnded: as of `once`.
            StepCancelled: the step was cancelled while its thread went on.
        """

    def run(
        self,
        workflow: Workflow,
        event: object = None,
        /,
        *,
        key: str | None = None,
        on_parent_end: Literal["cancel", "detach"] = "cancel",
        max_depth: int = 100,
        timeout: float | timedelta | None = ...,
        deadline: float | timedelta | None = ...,
        state: Mapping[str, Any] | None = ...,
        **fields: Any,
    ) -> ChildRun:
        """Start a run of a workflow as a child of this one, and return it at once.

        Await it, any number of times, for its result. A body that runs again (after a crash, a
        retry, a pause, in a run that was resumed) finds the same child, and is given its result or
        its exception again. An `await` that is cancelled leaves the child as it is.

        Args:
            workflow: the workflow of the child. It may be the one of this run.
            event: the first event, or else the fields of the start event by keyword.
            key: names the child among those of this step and this event: the same key gives the
                same child, in whatever order the calls are made.
            on_parent_end: what becomes of the child when this run ends first: "cancel", or
                "detach" to let it continue.
            max_depth: how many runs may be above the child: so a loop of children is found.
            timeout, deadline, state: as of `Workflow.run`.

        Raises:
            FamilyTooDeep: more than `max_depth` runs would be above the child.
            KeyConflict: this step has started a child of this key with another input.
            TypeError, ValueError, UnroutedEvent: as of `Workflow.run`.
            EventLoopError: the caller is not on the event loop of the run.
            OutsideStep: the body of the step is over.
            RunEnded: the run is over.
        """

    def transaction(
        self,
        name: str,
        connection: _C,
        function: Callable[Concatenate[_C, ...], Awaitable[_T]],
        /,
        *args: Any,
        retry: Retry | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, _T]:
        """Call `function(connection, *args, **kwargs)` in a transaction that is committed once.

        What the function writes over the connection, and that it has, is committed in one
        transaction of PostgreSQL; all that the run did before is on disk by then. A body that runs
        again is given the result, and the function is not called. The engine's journal is in the
        same database.

        Args:
            name: names the transaction, together with the arguments.
            connection: an async one of psycopg, asyncpg or SQLAlchemy, or a session of SQLAlchemy,
                that is in no transaction. The function gets it, and ends no transaction itself.
            function: an `async def`.
            retry: when the transaction is carried out again after it has failed.

        Raises:
            TransactionError: the journal is not in PostgreSQL, the connection is to another
                database or in a transaction, or the function has ended the transaction.
            JournalConflict: another process has the run: the transaction was undone.
            UnstorableValue: the result cannot be pickled. The transaction was undone.
            OutsideStep: the body of the step is over.
            RunEnded: the run is over.
        """

    @property
    def parent(self) -> str | None:
        """The id of the run that started this one by `Context.run`; `None` if none did."""

    @property
    def attempt(self) -> int:
        """1 on the first try of this step for this event, then 2, and so on."""

    @property
    def last_error(self) -> BaseException | None:
        """What the attempt before this one raised; `None` in the first one.

        After a restart it is a `StoredError` that says what it was. `failure_of` knows it.
        """

    @property
    def elapsed(self) -> float | None:
        """Seconds since the first attempt of this step for this event began.

        `None` if that is not known: the clock is not read for a step in memory that has neither
        `retry` nor `timeout`, and whose failures no step gets.
        """

    @property
    def idempotency_key(self) -> str:
        """A name for this step and this event in this run, the same in every attempt."""

    def send_event(
        self,
        event: object,
        *,
        step: str | None = None,
        to: str | Run | RunHandle | None = None,
        missing: Literal["error", "ignore"] | None = None,
    ) -> None:
        """Route an event now: to its waiter, else to the steps that accept it.

        If the body has run before and sent an equal event at this point, it is not delivered again.

        With `to` the event is for another run, and is held until the step is done: it is part of
        the step's commit, and delivered exactly once. An attempt that fails sends nothing. When the
        step returns, each run that it has sent to must be there and not be over; otherwise the step
        fails with `UnknownRun` or `RunEnded`.

        Args:
            event: the event.
            step: the name of the one step that gets it, whichever other steps accept its class or
                wait for it. It is queued at once, also while the run is paused.
            to: the run that gets it: its id, the run, or a handle of it.
            missing: with "ignore", nothing happens if the run that `to` names is not there, or is
                over; "error" is the default.

        Raises:
            UnroutedEvent: no step accepts the event; or there is no step of that name, or that step
                does not accept it.
            UnstorableValue: the event is for another run and cannot be stored.
            TypeError, ValueError: `step`, `to` or `missing` is of a wrong type or names nothing; or
                both `step` and `to` are given.
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
        timeout: float | timedelta | None = None,
    ) -> EventWait[_E]:
        """Wait inside the step for an event of a class; `await` it in an `async def` step.

        An event that was sent before and is kept is found as well. A body that runs again gets the
        same events again.

        Args:
            event_type: the class; subclasses are included.
            match: selects the event: a function of it, or a `dict` of fields and values.
            timeout: seconds to wait, or a `timedelta`; no limit if not given.

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
        """Keep an event until all expected events have come.

        Returns the events in the order of `expected` once all are there, else `None`. Each step has
        groups of its own; `key` tells several groups of one step apart.

        The same list object, unchanged, is recognised without a comparison: create a long list
        once, outside the step.

        Raises:
            TypeError: `expected` is not a list of classes; names the wrong item.
            ValueError: the event is of none of the expected classes, or none is expected.
            RunEnded: the run is over.
        """

    def sleep(self, seconds: float | timedelta) -> EventWait[None]:
        """Sleep inside the step; `await` it in an `async def` step.

        The time is part of the run: a body that runs again after a pause sleeps until the same
        moment. 0 lets other steps and tasks run.

        Raises:
            TypeError, ValueError: this is no time: neither a number of seconds, 0 or more, nor a
                `timedelta`.
            EventLoopError: no event loop is running here: the step is not an `async def`.
            RunEnded: the run is over.
        """

    def _run_child(
        self,
        workflow: Workflow,
        event: object,
        key: str | None,
        detaches: bool,
        max_depth: int,
        given: Options | None = None,
    ) -> ChildRun:
        """Start a child, or find the one that an earlier body started by the same call."""

    def _begin_transaction(
        self, name: str, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> TransactionBegun | tuple[bool, Any]:
        """Begin a transaction; if the run has its memo, return that it gave a result, and that."""

    def _begin_memo(
        self, name: str, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> MemoBegun | tuple[bool, Any]:
        """Begin a call that is made once; if it was made, say whether it gave a result, and what.

        What it raised is given as the fields of an exception.
        """

    def _enter_thread(self) -> None:
        """Say that the caller is a thread that runs the whole of the step's body."""

    def _revoke(self) -> None:
        """Ignore all that the step does from now on: only its thread continues."""

    def _keeper(self, make: Callable[[Run], _T]) -> _T:
        """Return what keeps the resources of the run: `make(run)`, the first time.

        Its `close(failure)` is called when the last step has stopped. It says whether all is
        closed; if not, it calls `Run._try_finish` later. Its `abandon()` is called if the run
        cannot wait for that.
        """

@final
class Run(Coroutine[Any, Any, Any]):
    """A run of a workflow. Await it for its result: any number of times, by any number of tasks.

    `asyncio.create_task` takes it as well.

    Awaiting binds a run in memory: it is cancelled with its last awaiter, unless it is detached. A
    run of an `Engine` is bound only with `Engine.run(..., bind=True)`. An exception of a step is
    raised unchanged, with a note that names step, event, attempt and run.

    Raises, when awaited:
        UnroutedEvent: a step emitted an event that no step accepts.
        RunStalled: nothing was queued, running or waited for, and there was no `StopEvent`.
        WorkflowTimeout, StepTimeout: the run or a step took longer than its limit.
        EventLoopError: the run's event loop was closed before the run ended.
        RunCancelled: the run was cancelled, and this awaiter was not.
        asyncio.CancelledError: the awaiter was cancelled.
    """

    @property
    def id(self) -> str:
        """The run's UUID (version 7)."""

    @property
    def status(
        self,
    ) -> Literal["running", "waiting", "paused", "completed", "failed", "cancelled"]:
        """The status of the run. It is not over until its last step has stopped.

        "waiting": nothing continues before an event comes from outside, or a time passes.
        """

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
    def stream_events(self, after: int | None = None, *, lifecycle: bool = False) -> StreamReader:
        """Read the stream of the run, from behind the event with the number `after`.

        The first event has the number 1; without `after` the reader begins there, or in a run that
        continues from a snapshot with the first event after it. Any number of readers may read,
        each at its own pace.

        Args:
            after: the number of the last event that is not read.
            lifecycle: also read a `LifecycleEvent` for everything that happens to the run from now
                on in this process, between the published events in the order of its happening.

        Raises:
            TypeError, ValueError: `after` is not a number, or less than 0.
        """

    def send_event(self, event: object) -> None:
        """Send an event into the run, from any thread.

        Its waiter gets it, else the steps that accept it. If there are none, it is kept for a later
        `Context.wait_for_event`. A `StopEvent` ends the run.

        Raises:
            RunEnded: the run is over.
            EventLoopError: the run's event loop was closed.
        """

    def pause(self, *, wait: bool = True) -> Pause:
        """Start no more steps, until `resume`; from any thread.

        Await the result for the moment when nothing of the run is active: each step in flight has
        finished, waits for an event or sleeps. Events that arrive during the pause are deferred,
        and no deadline expires.

        Args:
            wait: let the steps in flight finish; otherwise they are cancelled, and run again later.

        Raises:
            RunEnded: the run is over.
            EventLoopError: the run's event loop was closed.
            RunStalled: when awaited by a step of the run itself, which would wait for itself.
        """

    def resume(self) -> None:
        """Continue after a pause, from any thread; nothing happens if the run is not paused.

        Deferred events are routed, in their order; then deadlines that have passed expire.

        Raises:
            RunEnded: the run is over.
            EventLoopError: the run's event loop was closed.
        """

    def cancel(self) -> bool:
        """Cancel the run, from any thread. Return whether it was not over yet.

        Its steps get `asyncio.CancelledError` and are awaited; await the run to know that they have
        stopped. A run that another process executes is cancelled there.
        """

    def detach(self) -> Run:
        """Unbind the run from its awaiters and from the run that started it. Return the run.

        Cancelling them no longer cancels this run. Detach it before it is awaited: if its awaiter
        drives a step at the moment and is cancelled later, that step is cancelled with it and runs
        again.
        """

    @property
    def workflow(self) -> str:
        """The name of the run's workflow."""

    def snapshot(
        self, *, secret: str | bytes | Sequence[str | bytes] | None = None
    ) -> Awaitable[bytes]:
        """Return the run as bytes, which `Workflow.resume` continues, at any moment.

        It holds the state, queued events, those of steps in flight with what they have received,
        collected and sent, events that were collected and kept, timers and retries, and the number
        of the stream; not its events, nor `Context.session`. A step in flight runs its body again.

        Args:
            secret: signs opaque values and the whole snapshot: one, or several of which the first
                one signs; the environment variable `TREADLE_SECRET` if not given. Without a secret
                the snapshot is not signed, and may contain JSON and binary values only.

        Raises:
            UnsignedValue: there is an opaque value and no secret.
            UnstorableValue: an event cannot be stored; names it and the field.
            RunEnded: the run is over.
        """

    def _snapshot(self, secret: str | bytes | Sequence[str | bytes] | None = None) -> bytes:
        """As `snapshot`, at once."""

    @property
    def state(self) -> Mapping[str, Any]:
        """The keys and values of the run, read from outside, from any thread, also after its end.

        The mapping changes with the run, and changes nothing itself; a missing key is a `KeyError`.
        """

    def _value(self, key: str, default: Any) -> Any: ...
    def _keys(self) -> list[str]: ...
    def _state(self) -> dict[str, Any]:
        """Return the keys and values, also of a run that is over."""

    def _probe(self, probe: Callable[[Run, str], object] | None) -> None:
        """Call a function with the run and a word for each of its changes."""

    def _try_finish(self) -> None:
        """End the run, if none of its steps is left."""

    def _stop_unreferenced(self) -> str | None:
        """Stop the run, to which nothing refers; return the warning about it."""

    def _flush(self) -> None:
        """Write the pending records to the journal."""

    def _drain(self, *, stop: bool) -> Pause:
        """Start no more steps, so that the run can continue in another process.

        Args:
            stop: cancel the steps in flight, to run again there.
        """

    def _begin(self) -> None:
        """Begin, as a child that the journal has."""

    def _let_go(self) -> None:
        """Write the last commit, and end here: the run continues in another process."""

    def _end_here(self) -> None:
        """End, after `_let_go`."""

    def _get_place(self) -> None:
        """The run has the place that it has waited for."""

    @property
    def _made_as(self) -> str:
        """The id that the run was made with; `id` is another one if it stands for another run."""

    @property
    def _epoch(self) -> int: ...
    @property
    def _is_lost(self) -> bool:
        """Whether the journal took nothing more of the run before it was over."""

    @property
    def _may_go_on(self) -> bool:
        """Whether the journal was too busy for the run, and nothing else."""

    def _lose(self, error: BaseException) -> None:
        """Stop, since another process has the run."""

    def _settle(self, status: str, value: Any) -> None:
        """End as the run that the journal has in the place of this one."""

    def _take_entry(
        self, number: int, id: bytes, kind: int, body: bytes, classes: dict[str, type]
    ) -> None:
        """Take an entry of the run's inbox, once."""

@final
class StreamReader(AsyncIterator[Any]):
    """Iterates over the published events of a run, with `async for`, until the run is over.

    A reader that needs events that are no longer kept gets a `Lagged` in their place.
    """

    @property
    def position(self) -> int:
        """The number of the last event that the reader returned; as `after`, it continues there."""

    def __aiter__(self) -> Self: ...
    def __anext__(self) -> Awaitable[Any]: ...

@final
class ChildRun(Coroutine[Any, Any, Any]):
    """A run that a step started by `Context.run`. Await it, any number of times, for the result.

    `await` raises what the child failed with, or `RunCancelled`.
    """

    @property
    def id(self) -> str:
        """The run's UUID (version 7)."""

    @property
    def run_id(self) -> str:
        """The same as `id`."""

    @property
    def workflow(self) -> str:
        """The name of the run's workflow."""

    def done(self) -> bool:
        """Return whether the run is over, as far as its parent knows."""

    def cancel(self) -> bool:
        """Cancel the run. Return whether it was still going on, as far as its parent knows."""

    def stream_events(self, after: int | None = None) -> AsyncIterator[Any]:
        """Read the stream of the run from behind the event with the number `after` until its end.

        It begins with the first event if `after` is not given.

        Raises:
            RunEnded: the run is in memory and was over before this one was resumed: its stream is
                not kept.
            TypeError, ValueError: `after` is not a number, or less than 0.
        """

    def __await__(self) -> Generator[Any, Any, Any]: ...
    def send(self, value: None, /) -> Any: ...
    def throw(self, exception: Any, value: Any = None, traceback: Any = None) -> Any: ...
    def close(self) -> None: ...

# What follows is of no use outside of the package.

@final
class ChildWait:
    """One `await` of a child."""

    def __await__(self) -> Self: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def throw(self, exception: Any, value: Any = None, traceback: Any = None) -> Any: ...
    def close(self) -> None: ...

@final
class EventWait(Awaitable[_E]):
    """The result of `Context.wait_for_event` and `Context.sleep`: awaitable once."""

    def __await__(self) -> Generator[Any, Any, _E]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def throw(self, exception: Any, value: Any = None, traceback: Any = None) -> Any: ...
    def close(self) -> None: ...

@final
class Pause(Awaitable[None]):
    """The result of `Run.pause`: awaitable, until nothing of the run is active."""

    def __await__(self) -> Generator[Any, Any]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def throw(self, exception: Any, value: Any = None, traceback: Any = None) -> Any: ...
    def close(self) -> None: ...

@final
class MemoBegun:
    """A call of `Context.once` that is to be made."""

    def keep(
        self,
        value: object,
        is_failure: bool = False,
        thread_future: _Future[None] | None = None,
        *,
        waits: bool = True,
    ) -> Awaitable[None] | None:
        """Keep what the call gave.

        Return a future that is done when it is on disk, or nothing if it need not be, or unless the
        caller waits. Of a thread it is `thread_future`.
        """

    def check_running(self) -> None:
        """Raise `RunEnded` if the run is over."""

    @staticmethod
    def delay(retry: Retry, attempt: int, elapsed: float, raised: Exception) -> float | None:
        """Return in how many seconds another attempt follows one that failed, if one does."""

@final
class TransactionBegun:
    """A transaction of `Context.transaction` that may have to be carried out."""

    @property
    def memo(self) -> MemoBegun: ...
    @property
    def title(self) -> str: ...
    @property
    def which(self) -> tuple[str, tuple[str, str] | None]:
        """The statement that tells which database it is, and what it gives in the journal's."""

    @property
    def journal(self) -> str: ...
    def begin(self) -> tuple[str, list[str]]:
        """Return the first statement and its parameters."""

    def finish(self, value: object, id: str) -> tuple[str, list[str]]:
        """Return the last statement, which writes `value`, and its parameters."""

    def given(self, result: str) -> Any:
        """Return what the transaction gave before, as the database has it."""

    def written(self) -> Awaitable[None] | None:
        """Return a future that is done when all that the run did is on disk; `None` if it is."""

    def lose(self) -> Exception:
        """Stop the run, which another process has; return the error."""

@final
class ManualClock:
    """A manual clock for tests. Runs that are created while it is the current one use it."""

    def __new__(cls) -> Self: ...
    @property
    def now(self) -> float:
        """Seconds since the Unix epoch."""

    def next_deadline(self) -> float | None:
        """The next deadline of any run, in seconds since the Unix epoch."""

    def set(self, seconds: float) -> None:
        """Set the time forward, and tell every run what is due by then."""

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
        deadline: float | None,
        stream_limit: int,
        observers: tuple[Observer, ...] | None = None,
        max_runs: int | None = None,
    ) -> Self: ...
    def start(self, event: object, given: Options | None = None) -> Run: ...
    def resume(self, bytes: bytes, secrets: list[bytes], classes: dict[str, type]) -> Run: ...
    def problems(
        self, bytes: bytes, secrets: list[bytes], classes: dict[str, type]
    ) -> list[str]: ...

def archive(
    parts: list[LoadedRun],
    outcome: bytes | None,
    stream: list[tuple[int, bytes]],
    dead_letters: list[tuple[int, bytes, int, float, bytes, str]],
) -> bytes:
    """Return the bytes of an archive of a run: the parts of its history, the last one as loaded."""

@final
class LoadedRun:
    """A run as a journal stores it."""

    @property
    def id(self) -> str: ...
    @property
    def workflow(self) -> str: ...
    @property
    def folded(self) -> int:
        """How many of its records were folded into its checkpoint."""

    def problems(self, journal: Journal, plan: Plan, classes: dict[str, type]) -> list[str]:
        """List why a workflow could not continue the run."""

    @property
    def first(self) -> int:
        """The number of the first record after which the run is known."""

    @property
    def last(self) -> int:
        """The number of its last record."""

    @property
    def end(self) -> int:
        """The number of the last record that is here."""

    def inspect(
        self, journal: Journal, at: int | None = None, most: int | None = None
    ) -> dict[str, Any]:
        """Return the run as plain objects, with contents of up to `most` bytes."""

    def diff(
        self, journal: Journal, at: int, before: LoadedRun, before_at: int, most: int | None = None
    ) -> dict[str, Any]:
        """Return what differs between the run behind two records."""

    def why(self, journal: Journal) -> list[dict[str, Any]]:
        """Return the reasons for which the run waits."""

    def pending_at(
        self, journal: Journal, at: int | None = None
    ) -> dict[int, tuple[str | None, str, list[str] | None]]:
        """Return step, class and fields of the events that are pending where a fork begins."""

    def snapshot(self, journal: Journal, at: int | None = None) -> bytes:
        """Return the run as it was behind a record."""

    def go_on(
        self,
        journal: Journal,
        plan: Plan,
        classes: dict[str, type],
        standing: Run | None = None,
    ) -> Run | None:
        """Continue the run; `None` if it is to be renumbered first.

        It continues as `standing`, which was started here and stood for it, if that is given.
        """

    def renumber(
        self, journal: Journal, plan: Plan, classes: dict[str, type], limit: int
    ) -> Awaitable[Any]:
        """Write a checkpoint that has the steps of a plan, if it has at most `limit` bytes.

        Raises:
            IncompatibleSnapshot: The run does not fit the plan, or the checkpoint has more bytes.
        """

    def reopen(self, journal: Journal) -> Awaitable[Any]:
        """Continue a run that is over from where it failed."""

    def fork(
        self,
        journal: Journal,
        stream: list[tuple[int, bytes]],
        at: int | None = None,
        edits: tuple[dict[str, Any], list[str], dict[int, Any]] | None = None,
    ) -> tuple[str, Awaitable[Any]]:
        """Create a new run that continues from a point of this one."""

    def timeline(
        self,
        journal: Journal,
        after: int = 0,
        most: int | None = None,
        limit: int | None = None,
    ) -> list[dict[str, Any]]:
        """List up to `limit` records behind `after`, with contents of up to `most` bytes."""

    def state(self, journal: Journal, at: int | None = None) -> dict[str, Any]:
        """Return the keys and values behind a record, or now, with the changes in the inbox."""

@final
class RunCourse:
    """The attempts of a run, made from the parts of its history in their order."""

    def __new__(cls) -> RunCourse: ...
    def add(self, part: LoadedRun, journal: Journal) -> None:
        """Go on with the next part of the history; other threads run meanwhile."""

    def columns(
        self, is_completed: bool, finished: float | None, base: float, most: int
    ) -> dict[str, Any]:
        """Return names, failures and columns, with times relative to `base`."""

@final
class EngineCore:
    """The decisions of an engine: the lease, claims, inboxes, retention and the orderly end."""

    def __new__(
        cls,
        journal: Journal,
        host: Any,
        *,
        lease: float,
        workflows: list[str],
        concurrency: int | None,
        max_recoveries: int | None,
        keep: float | None,
        max_runs: dict[str, int] | None = None,
    ) -> EngineCore: ...
    def open(self) -> None: ...
    def close(self, grace: float) -> None: ...
    def stop(self) -> None: ...
    def heard(self, inbox: bool, work: bool, ends: bool) -> None: ...
    def follow(self, run: str) -> None: ...
    def unfollow(self, run: str) -> None: ...
    def look_at(self, run: str) -> None: ...
    def run_waits(self, run: str, waits: bool) -> None: ...
    def child_expected(self, run: str) -> None:
        """A commit is being made that makes a run, to be executed here."""

    def child_made(self, run: str, exists: bool | None, is_kept: bool, for_any: bool) -> bool:
        """The commit is answered that makes a run, to be executed here, or by any process.

        Returns whether the run begins, if it is kept.
        """

    def ask_for_place(self, run: str, workflow: str, has_begun: bool) -> bool: ...
    def insist_on_place(self, run: str, workflow: str) -> None: ...
    def leave_place(self, run: str) -> None: ...
    def begin_in_place(self, run: str, workflow: str) -> bool: ...
    def run_written(self, run: str, workflow: str, is_cancelled: bool) -> None: ...
    def run_started(self, run: str) -> None: ...
    def keyed_run_started(self, run: str, workflow: str, key: str, input: bytes) -> None: ...
    def run_of_key(self, workflow: str, key: str, input: bytes) -> str | None: ...
    def exists(
        self, run: str, other: str, input: bytes, is_same: bool, is_cancelled: bool
    ) -> None: ...
    def run_ended(self, run: str, end: str, epoch: int) -> None: ...
    def resumed(self, run: str, resumed: str, error: BaseException | None) -> None: ...
    def drained(self, run: str) -> None: ...
    def _tick(self) -> None: ...
    @property
    def requests(self) -> int: ...

def journal_path(url: str) -> str | None:
    """Return the path of the file in which the journal of a URL is, if it is in one.

    Raises:
        ValueError: no journal has such a URL.
    """

def journal_shown(url: str) -> str:
    """Return the URL of a journal as it is shown: without user and password.

    Raises:
        ValueError: no journal has such a URL.
    """

def journal_takes_password(url: str) -> None:
    """Check that a journal may ask for passwords that are given apart from its URL.

    Raises:
        ValueError: it connects to no server, or the URL has a password as well.
    """

def copy_runs(
    source: str,
    destination: str,
    secrets: tuple[list[bytes], list[bytes]],
    run: str | None,
    wait: float,
    tell: Callable[[str, str, str], None],
) -> tuple[int, int, int]:
    """Move the runs of a journal, or the family of one, to another journal. Blocks.

    Runs that a living process executes are waited for up to `wait` seconds. `tell` is called with
    "found", "written", "moved" or "stays", a run (or how many were found), and why.

    Returns:
        How many runs were moved, how many had been moved before, and how many stay.

    Raises:
        UnknownRun: `run` is in neither journal.
        JournalError: a journal cannot be used.
    """

def postgres_statements(schema: str, since: int) -> str:
    """Return the statements that lead from a version of the tables, 0 for none, to the newest."""

@final
class Journal:
    """A journal, for an event loop. Opening blocks. Times are in seconds."""

    def __new__(
        cls,
        url: str,
        signing: tuple[list[bytes], bool],
        *,
        patience: float,
        is_pipelined: bool,
        keeps_history: bool,
        only_looks: bool,
        host: tuple[object, AbstractEventLoop, tuple[Observer, ...]],
        password: Callable[[], str] | None = None,
    ) -> Self: ...
    @property
    def verifies(self) -> bool: ...
    def fileno(self) -> int: ...
    def _drain(self) -> None: ...
    def _drain_all(self) -> None: ...
    def _tick(self) -> None: ...
    def watch(self, task: Task[Any]) -> None: ...
    def tell_waits(self) -> None: ...
    def check_process(self) -> None: ...
    @property
    def most_commit_bytes(self) -> int: ...
    def queued_bytes(self) -> int: ...
    def close(self) -> None: ...
    def ends(
        self, after: bytes | None, limit: int
    ) -> Awaitable[tuple[list[str], bytes, bool, bool]]:
        """Return the runs that ended since, the cursor, whether there are more, or some missed."""
    def dead_letters(
        self, run: str
    ) -> Awaitable[list[tuple[int, bytes, int, float, bytes, str]]]: ...
    def redeliver(self, run: str) -> Awaitable[int]: ...
    def load(self, run: str) -> Awaitable[LoadedRun]: ...
    def send(self, run: str, message: bytes, kind: int, body: bytes) -> Awaitable[bool]: ...
    def get(self, run: str) -> Awaitable[tuple[dict[str, Any], bytes | None]]: ...
    def list_runs(
        self,
        *,
        workflow: str | None,
        status: str | None,
        since: float | None,
        after: str | None,
        limit: int,
        key: str | None = None,
        key_prefix: str | None = None,
        finished: tuple[float | None, float | None] = ...,
        family: tuple[str | None, str | None] = ...,
    ) -> Awaitable[list[dict[str, Any]]]: ...
    def records(
        self, run: str, after: int, limit: int
    ) -> Awaitable[tuple[list[tuple[int, bytes]], int]]: ...
    def segment(self, run: str, at: int) -> Awaitable[LoadedRun]:
        """Return the part of a run's history that has a record, or else the earliest."""

    def read_stream(
        self, run: str, after: int, limit: int
    ) -> Awaitable[tuple[list[tuple[int, bytes]], int, int, bool]]: ...
    def delete(self, run: str) -> Awaitable[None]: ...
    def start(
        self,
        plan: Plan,
        event: object,
        key: str | None,
        given: Options | None = None,
        *,
        is_bound: bool,
    ) -> Run: ...
    def submit_run(
        self, plan: Plan, event: object, key: str | None, given: Options | None = None
    ) -> tuple[str, Awaitable[Any]]: ...
    @staticmethod
    def input(event: object) -> bytes: ...
    @staticmethod
    def submitted(run: str, event: object, answer: object) -> str | None: ...
    def message(self, run: str, id: bytes, event: object) -> bytes: ...
    def wish(self, run: str, id: bytes, kind: int) -> bytes: ...
    def changes_message(
        self, run: str, name: bytes, set: dict[str, Any], removed: list[str]
    ) -> bytes: ...
    def outcome(
        self, status: str, run: str, seq: int, bytes: bytes, classes: dict[str, type]
    ) -> Any: ...
    def published(self, run: str, number: int, bytes: bytes, classes: dict[str, type]) -> Any: ...
    def peek_outcome(
        self, status: str, run: str, seq: int, bytes: bytes, most: int | None = None
    ) -> dict[str, Any]: ...
    def peek_message(
        self, run: str, id: bytes, kind: int, bytes: bytes, most: int | None = None
    ) -> dict[str, Any]: ...
    def peek_published(
        self, run: str, number: int, bytes: bytes, most: int | None = None
    ) -> dict[str, Any]: ...
    def failure(self, run: str, seq: int, bytes: bytes) -> dict[str, Any]: ...

def current_context() -> Context:
    """Return the context of the step below which the caller runs.

    The caller is the step itself, a function that it calls, or a task or a thread that has the
    step's context variables (those of `asyncio.create_task` and `asyncio.to_thread` have).

    Raises:
        OutsideStep: no step runs there.
    """

def _want_current_step() -> None:
    """Have every step that begins from now on be found by `current_context`."""

def _inspect(bytes: bytes) -> dict[str, Any]: ...

@final
class Lane:
    """Runs the steps of a run, one at a time, inside of one task."""

@final
class Gate:
    """Shares the time of an event loop between its runs."""

"""What users call: `Engine`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from .. import checks
from .._treadle import Run
from ..exceptions import KeyConflict
from ..starting import NOT_GIVEN, options_of
from ..workflow import Workflow
from .host import conflict
from .known import KnownRuns, check_key
from .session import Session
from .settings import Durability, History, Settings, Sign

if TYPE_CHECKING:
    import concurrent.futures

    from ..lifecycle import Observer


class Engine(KnownRuns):
    """Executes runs and writes them to a journal; continues the runs of processes that have ended.

    >>> from treadle import Engine, StartEvent, StopEvent, Workflow, step
    >>> @step
    ... async def greet(ev: StartEvent) -> StopEvent:
    ...     return StopEvent(result=f"Hello, {ev.name}!")
    >>> hello = Workflow("hello", [greet])
    >>> async def main():
    ...     async with Engine("memory:", workflows=[hello]) as engine:
    ...         print(await engine.run(hello, name="Ada", key="ada"))
    >>> import asyncio
    >>> asyncio.run(main())
    Hello, Ada!

    Args:
        url: where the journal is: "memory:", "sqlite:///runs.db" for a file (four slashes for an
            absolute path), which any number of processes of one machine may share,
            "postgresql://user@host/database?schema=treadle", for any number of machines, or
            "archive:///run.treadle", a file that `export` made, which is only looked into.
        workflows: the workflows whose runs this process executes.
        durability: "step": the successors of a step start when the step is on disk; "pipelined":
            they start at once, and only the result waits for the disk.
        password: a function that returns the password for a new connection to PostgreSQL, such as
            a token of a cloud. It is called for each connection, in a thread of its own; the URL
            has none then.
        secret: signs opaque values; one, or several of which the first one signs. The default is
            `TREADLE_SECRET`, else a file beside the database, which is created; beside PostgreSQL
            there is none, so that one of the two is needed.
        sign: "opaque": opaque values and messages are signed; "all": every part of a run, so that
            nothing of it can be changed, left out or moved in the file. A run that was not written
            with "all" is then refused with `InvalidSignature`.
        history: "folded": a checkpoint takes the place of the records before it, so that a journal
            has the last part of a long run's log; "full": all records stay, and any earlier state
            of a run can be looked at and forked. All processes of a journal should have the same:
            one that folds a run drops its history.
        lease: seconds, or a `timedelta`, after which the runs of a process that hangs or is stopped
            are taken over; a year at most. Those of a process that has ended continue at once.
        concurrency: how many runs that it has claimed from the journal this process executes at the
            same time, besides those that it starts itself; no limit if not given. A run that only
            waits does not count.
        keep: seconds, or a `timedelta`, for which runs are kept after their end; for ever if not
            given.
        max_recoveries: how often a run is taken over without progress after the end of its process;
            then it is stranded, until `retry` restarts it. `None`: no limit.
        observers: functions that are called with a `LifecycleEvent` of each run that this process
            executes, beside those of the run's workflow.

    Raises:
        JournalError: on entering: the journal cannot be opened.
        UnsignedValue: on entering: PostgreSQL, and no secret.
        TypeError, ValueError: an option is of a wrong type or out of range.
    """

    def __init__(
        self,
        url: str,
        *,
        workflows: Iterable[Workflow] = (),
        durability: Durability = "step",
        password: Callable[[], str] | None = None,
        secret: str | bytes | Sequence[str | bytes] | None = None,
        sign: Sign = "opaque",
        history: History = "folded",
        lease: float | timedelta = 10.0,
        concurrency: int | None = None,
        keep: float | timedelta | None = None,
        max_recoveries: int | None = 10,
        observers: "Iterable[Observer]" = (),
    ) -> None:
        self._settings = Settings(
            url,
            workflows=workflows,
            durability=durability,
            password=password,
            secret=secret,
            sign=sign,
            history=history,
            lease=lease,
            concurrency=concurrency,
            keep=keep,
            max_recoveries=max_recoveries,
            observers=observers,
        )
        self.url = self._settings.shown
        self._opened: Session | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Open the journal, and continue the runs that no process executes.

        The event loop continues meanwhile, also while another process has the file locked. If the
        opening is cancelled, or fails, the engine is closed.

        Raises:
            JournalError: the journal cannot be opened.
            RuntimeError: the engine is open already, or is being opened or closed.
        """
        await self._open_session(only_looks=self._settings.is_archive).open()

    def _open_session(self, *, only_looks: bool) -> Session:
        if self._opened is not None and not self._opened.is_closed:
            state = "being closed" if self._opened.is_closing else "open already"
            raise RuntimeError(f"the engine on {self.url} is {state}")
        self._opened = Session(self._settings, only_looks=only_looks)
        return self._opened

    @asynccontextmanager
    async def _looking(self) -> AsyncIterator["Engine"]:
        """Open the journal for reading: no run continues, and no file is created or changed."""
        session = self._open_session(only_looks=True)
        await session.open()
        try:
            yield self
        finally:
            await session.close(0)

    async def close(self, grace: float | timedelta = 10.0) -> None:
        """Stop executing runs, and hand them back: another process continues them.

        It may be called again, also by several tasks: each call returns when the engine is closed.
        When a call is cancelled, steps in flight get no more time, and `CancelledError` is raised
        when the engine is closed.

        Args:
            grace: seconds, or a `timedelta`, for which steps in flight may finish; then they are
                cancelled, and run again in another process.

        Raises:
            TypeError, ValueError: `grace` is not a time; the engine stays open.
        """
        limit = checks.duration("grace", grace, zero=True)
        if self._opened is not None:
            await self._opened.close(limit)

    def run(
        self,
        workflow: Workflow,
        event: object = None,
        /,
        *,
        key: str | None = None,
        bind: bool = False,
        timeout: float | timedelta | None = NOT_GIVEN,
        deadline: float | timedelta | None = NOT_GIVEN,
        state: Mapping[str, Any] | None = NOT_GIVEN,
        **fields: Any,
    ) -> Run:
        """Start a run and return it at once; await it for the result, which is on disk then.

        Args:
            workflow: one of the engine's workflows.
            event: the first event, or else the fields of the start event by keyword.
            key: another name for the run, unique in its workflow: the same key gives the same run,
                also in other processes and after a restart.
            bind: cancel the run when its last awaiter is cancelled, and with the run that starts
                it, like a run in memory; by default neither cancels it. If another call with the
                same key does not bind, the run is not bound.

        Raises:
            KeyConflict: when the run is awaited: a run of this key has another input.
            TypeError, UnroutedEvent: as of `Workflow.run`.
            EngineClosed: the engine is not open.
            EventLoopError: this is not the event loop that the engine was opened on: call
                `run_threadsafe`.
        """
        session = self._session("engine.run()")
        if session.is_closing:
            raise session.closes()
        self._settings.check_known(workflow)
        if not isinstance(bind, bool):
            raise TypeError(f"bind: a bool expected, not {bind!r}")
        options = options_of(timeout, deadline, state)
        named = _named(key, timeout, deadline, state, bind=bind or NOT_GIVEN)
        event = workflow._first_event(event, fields, named)
        journal, core = session.journal, session.core
        if key is None:
            run = session.executing.add(
                journal.start(workflow._plan, event, None, options, is_bound=bind)
            )
            core.run_started(run.id)
            return run
        check_key(key)
        given = journal.input(event)
        known = core.run_of_key(workflow.name, key, given)
        if known is not None:
            run = session.executing.made_as(known)
            return run if bind else run.detach()
        run = session.executing.add(
            journal.start(workflow._plan, event, key, options, is_bound=bind)
        )
        core.keyed_run_started(run.id, workflow.name, key, given)
        return run

    def run_threadsafe(
        self,
        workflow: Workflow,
        event: object = None,
        /,
        *,
        key: str | None = None,
        timeout: float | timedelta | None = NOT_GIVEN,
        deadline: float | timedelta | None = NOT_GIVEN,
        state: Mapping[str, Any] | None = NOT_GIVEN,
        **fields: Any,
    ) -> "concurrent.futures.Future[Any]":
        """Start a run from any thread; return a future of its result at once.

        The run is executed on the event loop of the engine. A thread without an event loop waits
        with `future.result()`, one with a loop of its own with `await asyncio.wrap_future(future)`.
        Cancelling the future does not cancel the run.

        Args:
            workflow: one of the engine's workflows.
            event: the first event, or else the fields of the start event by keyword.
            key, timeout, deadline, state: as of `run`.

        Raises:
            TypeError, UnroutedEvent: as of `Workflow.run`.
            EngineClosed: the engine is not open, or its event loop has ended.
        """
        session = self._opened
        if session is None:
            raise self._never_opened()
        if session.is_closing or session.loop.is_closed():
            raise session.closes()
        self._settings.check_known(workflow)
        options_of(timeout, deadline, state)
        first = workflow._first_event(event, fields, _named(key, timeout, deadline, state))

        async def result() -> Any:
            return await self.run(
                workflow, first, key=key, timeout=timeout, deadline=deadline, state=state
            )

        return asyncio.run_coroutine_threadsafe(result(), session.loop)

    async def submit(
        self,
        workflow: Workflow,
        event: object = None,
        /,
        *,
        key: str | None = None,
        timeout: float | timedelta | None = NOT_GIVEN,
        deadline: float | timedelta | None = NOT_GIVEN,
        state: Mapping[str, Any] | None = NOT_GIVEN,
        **fields: Any,
    ) -> str:
        """Write a run that any process of this journal may execute; return its id.

        The run is on disk when this returns. The arguments are those of `run`.

        Raises:
            KeyConflict: a run of this key has another input.
            TypeError, UnroutedEvent: as of `Workflow.run`.
        """
        session = self._session()
        journal = session.journal
        options = options_of(timeout, deadline, state)
        event = workflow._first_event(event, fields, _named(key, timeout, deadline, state))
        if key is not None:
            check_key(key)
        made_as, written = journal.submit_run(workflow._plan, event, key, options)
        run_id = journal.submitted(made_as, event, await written)
        if run_id is None:
            raise KeyConflict(conflict(workflow.name, key))
        session.changed()
        return run_id


def _named(
    key: str | None, timeout: Any, deadline: Any, state: Any, **others: Any
) -> dict[str, Any]:
    """Return the options that were given by keyword beside the fields of the start event."""
    named = NOT_GIVEN if key is None else key
    return {"key": named, "timeout": timeout, "deadline": deadline, "state": state, **others}

"""What users call: `Engine`."""

import asyncio
import functools
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Self

from .. import checks
from .._treadle import Run
from ..events import Lagged
from ..exceptions import EngineClosed, KeyConflict, UnknownRun
from ..runs import RunHandle, RunInfo
from ..starting import NOT_GIVEN, options_of
from ..workflow import Workflow
from . import looking
from .session import CANCEL, PAUSE, RESUME, Session, conflict
from .settings import Durability, Settings, Sign

if TYPE_CHECKING:
    import concurrent.futures


class Engine:
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
            absolute path), which any number of processes of one machine may share, or
            "postgresql://user@host/database?schema=treadle", for any number of machines.
        workflows: the workflows whose runs this process executes.
        durability: "step": the successors of a step start when the step is on disk; "pipelined":
            they start at once, and only the result waits for the disk.
        secret: signs opaque values; one, or several of which the first one signs. The default is
            `TREADLE_SECRET`, else a file beside the database, which is created; beside PostgreSQL
            there is none, so that one of the two is needed.
        sign: "opaque": opaque values and messages are signed; "all": every part of a run, so that
            nothing of it can be changed, left out or moved in the file. A run that was not written
            with "all" is then refused with `InvalidSignature`.
        lease: seconds, or a `timedelta`, after which the runs of a process that hangs or is stopped
            are taken over; a year at most. Those of a process that has ended continue at once.
        concurrency: how many runs this process claims from the journal at the same time, besides
            those that it starts itself; no limit if not given.
        keep: seconds, or a `timedelta`, for which runs are kept after their end; for ever if not
            given.
        max_recoveries: how often a run is taken over without progress after the end of its process;
            then it is stranded, until `retry` restarts it. `None`: no limit.

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
        secret: str | bytes | Sequence[str | bytes] | None = None,
        sign: Sign = "opaque",
        lease: float | timedelta = 10.0,
        concurrency: int | None = None,
        keep: float | timedelta | None = None,
        max_recoveries: int | None = 10,
    ) -> None:
        self._settings = Settings(
            url,
            workflows=workflows,
            durability=durability,
            secret=secret,
            sign=sign,
            lease=lease,
            concurrency=concurrency,
            keep=keep,
            max_recoveries=max_recoveries,
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
        await self._open_session(only_looks=False).open()

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
        journal, executing = session.journal, session.executing
        if key is None:
            run = journal.start(workflow._plan, event, None, options, is_bound=bind)
            return session.start_run(run)
        _check_key(key)
        given = journal.input(event)
        known = executing.of_key(workflow.name, key, given)
        if known is not None:
            return known if bind else known.detach()
        run = session.start_run(journal.start(workflow._plan, event, key, options, is_bound=bind))
        executing.add_keyed(run, key, given)
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
            _check_key(key)
        run_id, written = journal.submit_run(workflow._plan, event, key, options)
        answer = await written
        if isinstance(answer, tuple):
            run_id, given = answer
            if not journal.is_input(event, given):
                raise KeyConflict(conflict(workflow.name, key))
        session.changed()
        return str(run_id)

    def get(self, run_id: str) -> RunHandle:
        """Return a handle of a run, whichever process executes it."""
        return RunHandle(self, run_id)

    async def find(self, workflow: "Workflow | str", key: str) -> RunHandle | None:
        """Return a handle of the run of a key; `None` if there is none.

        Args:
            workflow: the workflow, or its name.
            key: the key that the run was started with.

        Raises:
            TypeError: an argument is of a wrong type.
        """
        _check_key(key)
        rows = await self._session().journal.list_runs(
            workflow=_name_of(workflow), status=None, since=None, after=None, limit=1, key=key
        )
        return RunHandle(self, rows[0]["id"]) if rows else None

    async def runs(
        self,
        *,
        workflow: str | None = None,
        status: str | Iterable[str] | None = None,
        since: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
        key_prefix: str | None = None,
        finished_since: datetime | None = None,
        finished_before: datetime | None = None,
        include: Literal["result"] | None = None,
    ) -> list[RunInfo]:
        """List runs, newest first.

        Args:
            workflow: only runs of this workflow, by name.
            status: only runs that are "ready", "waiting", "paused", "completed", "failed",
                "cancelled" or "stranded"; or that are any of several of these.
            since: only runs that were created then or later.
            after: only runs behind this one: the id of the last run of the page before.
            limit: the largest number of runs to return.
            key_prefix: only runs of which the key begins so.
            finished_since: only runs that ended then or later.
            finished_before: only runs that ended before that.
            include: "result": each run that is over has its `result`, or its `error`. That is one
                read of the journal more for each; what cannot be read is the error.

        Raises:
            TypeError, ValueError: an argument is of a wrong type or out of range.
        """
        limit = checks.whole("limit", limit)
        if include not in (None, "result"):
            raise ValueError(f"include: 'result' or None expected, not {include!r}")
        session = self._session()
        list_runs = functools.partial(
            session.journal.list_runs,
            workflow=workflow,
            since=_moment("since", since),
            after=after,
            limit=limit,
            key_prefix=key_prefix,
            finished=(
                _moment("finished_since", finished_since),
                _moment("finished_before", finished_before),
            ),
        )
        # Each status is a list of its own, which an index has in its order.
        asked = [list_runs(status=one) for one in _each(status)]
        pages = [await page for page in asked]
        rows = [row for page in pages for row in page]
        if len(pages) != 1:
            rows = sorted(rows, key=lambda row: str(row["id"]), reverse=True)[:limit]
        if include is not None:
            rows = await asyncio.gather(*(session.with_outcome(row) for row in rows))
        return [RunInfo(**row) for row in rows]

    async def send_event(
        self,
        run_id: str | None = None,
        event: object = NOT_GIVEN,
        *,
        id: str | None = None,
        key: str | None = None,
        workflow: "Workflow | str | None" = None,
    ) -> bool:
        """Send an event into a run, whichever process executes it; return once it is on disk.

        It is delivered once, and kept while no process executes the run. The run is given by its
        id, or by its key and its workflow.

        Args:
            run_id: the run.
            event: the event.
            id: a name for the message: an event that is sent again under the same name is not
                delivered again.
            key: the key of the run, in the place of its id.
            workflow: the workflow of that run, or its name.

        Returns:
            Whether it is new.

        Raises:
            UnknownRun: there is no such run.
            RunEnded: it is over.
            TypeError: the run is given in neither way, or in both; or there is no event.
        """
        if event is NOT_GIVEN:
            raise TypeError("send_event: an event expected")
        if (run_id is None) == (key is None) or (key is None) != (workflow is None):
            raise TypeError("send_event: the id of the run expected, or its key and its workflow")
        if key is not None and workflow is not None:
            found = await self.find(workflow, key)
            if found is None:
                raise UnknownRun(f"workflow {_name_of(workflow)!r} has no run of the key {key!r}")
            run_id = found.id
        assert run_id is not None
        name = uuid.uuid4() if id is None else uuid.uuid5(uuid.NAMESPACE_OID, id)
        return await self._session().send_event(run_id, event, name)

    async def cancel(self, run_id: str) -> None:
        """Request that the owner of a run cancels it; return when the request is on disk.

        Raises:
            UnknownRun: there is no such run.
            RunEnded: it is over.
        """
        await self._wish(run_id, CANCEL)

    async def pause(self, run_id: str) -> None:
        """Request that the owner of a run pauses it; return when the request is on disk.

        The run then starts no more steps, also after a restart, until it is resumed.

        Raises:
            UnknownRun: there is no such run.
            RunEnded: it is over.
        """
        await self._wish(run_id, PAUSE)

    async def resume(self, run_id: str) -> None:
        """Request that a paused run continues; return when the request is on disk.

        Raises:
            UnknownRun: there is no such run.
            RunEnded: it is over.
        """
        await self._wish(run_id, RESUME)

    async def _wish(self, run_id: str, kind: int) -> None:
        await self._session().wish(run_id, kind)

    async def retry(self, run_id: str) -> RunHandle:
        """Continue a run that failed, was cancelled or is stranded, from where that happened.

        Every step that was not finished begins at once, with all its attempts; time limits, waits
        and sleeps count from the beginning.

        Raises:
            UnknownRun: there is no such run.
            RunEnded: it is completed; its result is final.
            JournalConflict: it is not over.
        """
        session = self._session()
        journal = session.journal_with(run_id)
        await (await journal.load(run_id)).reopen(journal)
        session.changed()
        return self.get(run_id)

    async def fork(self, run_id: str, *, at: int | None = None) -> RunHandle:
        """Create a new run that continues from a point of another one.

        Its stream begins with the events that the other run had published at that point.

        Args:
            run_id: the other run.
            at: the number of the record of its log behind which the new run continues; the last
                record before its end if not given.

        Raises:
            UnknownRun: there is no such run.
            DamagedRun: what the journal has of it is incomplete or makes no sense.
            TypeError, ValueError: there is no such record, or it was folded into a checkpoint.
        """
        if at is not None:
            at = checks.whole("at", at, least=0)
        session = self._session()
        journal = session.journal_with(run_id)
        loaded = await journal.load(run_id)
        stream = await looking.kept_stream(session, run_id)
        new, written = loaded.fork(journal, stream, at)
        await written
        session.changed()
        return self.get(new)

    async def redeliver(self, run_id: str) -> int:
        """Send the dead letters of a run again: messages to it that could not be read.

        They are kept, and listed by `python -m treadle show`. A message that still cannot be read
        becomes a dead letter again.

        Returns:
            The number of dead letters.

        Raises:
            UnknownRun: there is no such run.
            RunEnded: it is over.
        """
        return await self._session().redeliver(run_id)

    async def delete(self, run_id: str) -> None:
        """Delete a run.

        Raises:
            UnknownRun: there is no such run.
            JournalConflict: it is being executed.
        """
        await self._session().delete(run_id)

    async def stream_events(self, run_id: str, after: int = 0) -> AsyncIterator[Any]:
        """Read the stream of a run from behind the event with the number `after` until its end.

        Raises:
            UnknownRun: there is no such run.
            TypeError, ValueError: `after` is not a number, or less than 0.
            RunStranded: no process continues the run.
        """
        after = checks.whole("after", after, least=0)
        session = self._session()
        name = (await looking.info(session, run_id)).workflow
        classes = self._settings.classes.get(name, {})
        async for missed, entries in looking.stream(session, run_id, after):
            if missed:
                yield Lagged(missed=missed)
            for number, body in entries:
                yield session.journal.published(run_id, number, body, classes)

    async def _info(self, run_id: str) -> RunInfo:
        return await looking.info(self._session(), run_id)

    async def _history(self, run_id: str) -> list[dict[str, Any]]:
        return await looking.history(self._session(), run_id)

    def _session(self, call: str = "a method of the engine") -> Session:
        session = self._opened
        if session is None:
            raise self._never_opened()
        session.check_loop(call)
        return session

    def _never_opened(self) -> EngineClosed:
        return EngineClosed(f"the engine on {self.url} is not open; use `async with Engine(...)`")


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise TypeError(f"key: a str expected, not {key!r}")


def _named(
    key: str | None, timeout: Any, deadline: Any, state: Any, **others: Any
) -> dict[str, Any]:
    """Return the options that were given by keyword beside the fields of the start event."""
    named = NOT_GIVEN if key is None else key
    return {"key": named, "timeout": timeout, "deadline": deadline, "state": state, **others}


def _name_of(workflow: "Workflow | str") -> str:
    if isinstance(workflow, Workflow):
        return workflow.name
    if not isinstance(workflow, str):
        raise TypeError(f"workflow: a workflow or its name expected, not {workflow!r}")
    return workflow


def _moment(name: str, moment: datetime | None) -> float | None:
    if moment is not None and not isinstance(moment, datetime):
        raise TypeError(f"{name}: a datetime expected, not {moment!r}")
    return None if moment is None else moment.timestamp()


def _each(status: str | Iterable[str] | None) -> list[str | None]:
    if status is None or isinstance(status, str):
        return [status]
    return list(dict.fromkeys(status))

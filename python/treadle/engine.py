"""The engine: many runs, and a journal from which they go on after a crash."""

import asyncio
import os
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Literal, Self

from ._treadle import Journal, LoadedRun, Run
from .events import Lagged
from .exceptions import EngineClosed, JournalConflict, JournalError, KeyConflict, TreadleError
from .log import log_exception, logger
from .pulse import Pulse
from .runs import RunHandle, RunInfo
from .signing import secrets_of
from .steps import check_seconds
from .workflow import Workflow

_EVENT, _CANCEL, _PAUSE, _RESUME = range(4)
_AT_ONCE = 256
# So many are loaded in one go that going on with them takes the loop a few milliseconds.
_LOADED_AT_ONCE = 32
_LOOK_AGAIN = 0.1
_PRUNE_EVERY = 60.0
_AFTER_AN_ERROR = 0.5

Durability = Literal["step", "pipelined"]


class Engine:
    """Executes runs and writes them to a journal; goes on with those of processes that have ended.

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
        url: where the journal is: "memory:", or "sqlite:///runs.db" for a file (four slashes for an
            absolute path). Any number of processes of one machine may share a file.
        workflows: those whose runs this process executes.
        durability: "step": what follows a step starts once the step is on disk; "pipelined": it
            starts at once, and only the result waits for the disk.
        secret: what opaque values are signed with; one, or several of which the first one signs.
            Without it `TREADLE_SECRET` counts, or a file beside the database, which is made.
        lease: seconds after which the runs of a process that has stopped are taken over.
        concurrency: how many runs this process takes from the journal at once, beside those that it
            starts itself.
        keep: how long runs are kept after their end; for good if not given.

    Raises:
        JournalError: on entering: the journal cannot be opened.
        TypeError, ValueError: an option is of a wrong type or out of range.
    """

    def __init__(
        self,
        url: str,
        *,
        workflows: Iterable[Workflow] = (),
        durability: Durability = "step",
        secret: str | bytes | Sequence[str | bytes] | None = None,
        lease: float = 10.0,
        concurrency: int | None = None,
        keep: timedelta | None = None,
    ) -> None:
        self._path = _path(url)
        self.url = url
        if durability not in ("step", "pipelined"):
            raise ValueError(f'durability: "step" or "pipelined" expected, not {durability!r}')
        check_seconds("lease", lease)
        if concurrency is not None and (isinstance(concurrency, bool) or concurrency < 1):
            raise ValueError(f"concurrency: at least 1 expected, not {concurrency!r}")
        if keep is not None and not isinstance(keep, timedelta):
            raise TypeError(f"keep: a timedelta expected, not {keep!r}")
        self._workflows = _by_name(workflows)
        self._classes = {name: wf._classes() for name, wf in self._workflows.items()}
        self._durability = durability
        # What is in memory never leaves the process, so that any secret will do.
        self._secrets = secrets_of(secret) or ([os.urandom(32)] if self._path is None else [])
        self._lease = float(lease)
        self._concurrency = concurrency
        self._keep = keep
        self._opened: Journal | None = None
        self._live: dict[str, Run] = {}
        # Whoever waits for the end of a run of this process.
        self._ends: dict[str, Pulse] = {}
        self._keyed: dict[tuple[str, str], Run] = {}
        # The key and the input of each run that has a key, and the id that it was made with.
        self._given: dict[Run, tuple[str, bytes, str]] = {}
        self._taken: set[str] = set()
        # Runs that are this process's and have not gone on yet.
        self._waiting_rows: deque[dict[str, Any]] = deque()
        # Those that are being loaded, and whether something was sent to them meanwhile: then they
        # are loaded again.
        self._loading: dict[str, bool] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._followers: set[asyncio.Task[None]] = set()
        self._pulse = Pulse()
        # Runs were lost: perhaps the lease was.
        self._losses = Pulse()
        self._is_closing = False
        self._cursor = 0
        self._polling = False
        self._poll_again = False

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Open the journal, and go on with the runs that nobody executes."""
        journal = self._open_journal(only_looks=False)
        loop = asyncio.get_running_loop()
        try:
            await journal.enlist(self._lease)
        except BaseException:
            await self._shut(journal)
            raise
        self._tasks = [
            loop.create_task(self._renew(), name="treadle: lease"),
            loop.create_task(self._work(), name="treadle: claims"),
        ]

    def _open_journal(self, *, only_looks: bool) -> Journal:
        if self._opened is not None:
            raise RuntimeError("the engine is open already")
        journal = Journal(
            self._path,
            self._secrets,
            is_pipelined=self._durability == "pipelined",
            only_looks=only_looks,
            listener=self,
        )
        self._opened = journal
        asyncio.get_running_loop().add_reader(journal.fileno(), journal._drain)
        return journal

    @asynccontextmanager
    async def _looking(self) -> AsyncIterator["Engine"]:
        """Open the journal to look into it: no run goes on, and no file is made or changed."""
        journal = self._open_journal(only_looks=True)
        try:
            yield self
        finally:
            await _stopped(*self._followers)
            await self._shut(journal)

    async def close(self, grace: float = 10.0) -> None:
        """Stop executing runs, and hand them back: another process goes on with them.

        Args:
            grace: seconds for which steps in flight may finish; then they are cancelled, and run
                again elsewhere.
        """
        journal = self._opened
        if journal is None or self._is_closing:
            return
        self._is_closing = True
        renew, work = self._tasks
        await _stopped(work, *self._followers)
        try:
            # The lease is renewed meanwhile: what the steps do is still to be written.
            await self._drain(grace)
        finally:
            await _stopped(renew)
            try:
                await journal.release()
            except JournalError as error:
                log_exception("the runs are not handed back; others take them over later", error)
            finally:
                await self._shut(journal)

    async def _drain(self, grace: float) -> None:
        runs = list(self._live.values())
        if not runs:
            return
        drained = {asyncio.ensure_future(run._drain(stop=False)): run for run in runs}
        _, moving = await asyncio.wait(drained, timeout=max(grace, 0))
        # A step that waits for an event or sleeps is left there: the run waits in the journal.
        stopped = [asyncio.ensure_future(drained[it]._drain(stop=True)) for it in moving]
        await asyncio.gather(*moving, *stopped)
        # All of them first: the end of one must not be written as the end of those that it started.
        for run in runs:
            run._let_go()
        for run in runs:
            run._end_here()
        ends = [asyncio.ensure_future(self._end_of(run_id)) for run_id in self._live]
        if ends:
            _, unwinding = await asyncio.wait(ends, timeout=max(grace, 1))
            await _stopped(*unwinding)

    async def _shut(self, journal: Journal) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, journal.close)
        journal._drain_all()
        loop.remove_reader(journal.fileno())
        self._opened = None
        self._is_closing = False
        self._tasks = []
        for known in (self._live, self._keyed, self._given, self._taken, self._waiting_rows):
            known.clear()
        self._cursor = 0
        for end in self._ends.values():
            end.beat()
        self._pulse.beat()

    def run(
        self,
        workflow: Workflow,
        event: object = None,
        /,
        *,
        key: str | None = None,
        **fields: Any,
    ) -> Run:
        """Start a run and return it at once; await it for the result, which is on disk then.

        Args:
            workflow: one of the engine's workflows.
            event: the first event, or else the fields of the start event by keyword.
            key: another name for the run, unique in its workflow: the same key gives the same run,
                also in other processes and after a restart.

        Raises:
            KeyConflict: when the run is awaited: a run of this key has another input.
            TypeError, UnroutedEvent: as of `Workflow.run`.
            EngineClosed: the engine is not open.
        """
        journal = self._journal()
        if self._is_closing:
            raise EngineClosed(f"the engine on {self.url} is being closed")
        self._check_known(workflow)
        event = workflow._first_event(event, fields)
        if key is None:
            return self._add(journal.start(workflow._plan, event, None))
        _check_key(key)
        given = journal.input(event)
        known = self._keyed.get((workflow.name, key))
        if known is not None and self._given[known][1] == given:
            return known
        run = self._add(journal.start(workflow._plan, event, key))
        self._given[run] = (key, given, run.id)
        if known is None:
            self._keyed[workflow.name, key] = run
        return run

    async def submit(
        self,
        workflow: Workflow,
        event: object = None,
        /,
        *,
        key: str | None = None,
        **fields: Any,
    ) -> str:
        """Write a run that any process of this journal may execute; return its id then.

        It is on disk by then.

        Raises:
            KeyConflict: a run of this key has another input.
            TypeError, UnroutedEvent: as of `Workflow.run`.
        """
        journal = self._journal()
        event = workflow._first_event(event, fields)
        if key is not None:
            _check_key(key)
        run_id, written = journal.submit_run(workflow._plan, event, key)
        answer = await written
        if isinstance(answer, tuple):
            run_id, given = answer
            if given != journal.input(event):
                raise KeyConflict(_conflict(workflow.name, key))
        self._pulse.beat()
        return str(run_id)

    def get(self, run_id: str) -> RunHandle:
        """Return a handle of a run, whichever process executes it."""
        return RunHandle(self, run_id)

    async def runs(
        self,
        *,
        workflow: str | None = None,
        status: str | None = None,
        since: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[RunInfo]:
        """List runs, newest first.

        Args:
            workflow: only those of this workflow, by name.
            status: only those that are "ready", "waiting", "paused", "completed", "failed" or
                "cancelled".
            since: only those that were made then or later.
            after: only those behind this one: the id of the last of the page before.
            limit: at most so many.
        """
        rows = await self._journal().list_runs(
            workflow=workflow,
            status=status,
            since=None if since is None else since.timestamp(),
            after=after,
            limit=limit,
        )
        return [RunInfo(**row) for row in rows]

    async def send_event(self, run_id: str, event: object, *, id: str | None = None) -> bool:
        """Send an event into a run, whichever process executes it; return once it is on disk.

        It is delivered once, and kept if nobody executes the run now.

        Args:
            run_id: the run.
            event: the event.
            id: a name for the sending: what is sent again under the same name is not delivered
                again.

        Returns:
            Whether it is new.

        Raises:
            UnknownRun: there is no such run.
            RunEnded: it is over.
        """
        journal = self._journal_with(run_id)
        name = uuid.uuid4() if id is None else uuid.uuid5(uuid.NAMESPACE_OID, id)
        is_new = await journal.send(run_id, name.bytes, _EVENT, journal.message(run_id, event))
        self._look()
        return bool(is_new)

    async def cancel(self, run_id: str) -> None:
        """Have a run cancelled by whoever executes it; return once the wish is on disk.

        Raises:
            UnknownRun: there is no such run.
            RunEnded: it is over.
        """
        await self._wish(run_id, _CANCEL)

    async def pause(self, run_id: str) -> None:
        """Have a run paused by whoever executes it; return once the wish is on disk.

        It starts no more steps then, also after a restart, until it is resumed.

        Raises:
            UnknownRun: there is no such run.
            RunEnded: it is over.
        """
        await self._wish(run_id, _PAUSE)

    async def resume(self, run_id: str) -> None:
        """Have a paused run go on; return once the wish is on disk.

        Raises:
            UnknownRun: there is no such run.
            RunEnded: it is over.
        """
        await self._wish(run_id, _RESUME)

    async def _wish(self, run_id: str, kind: int) -> None:
        await self._journal_with(run_id).send(run_id, uuid.uuid4().bytes, kind, b"")
        self._look()

    async def retry(self, run_id: str) -> RunHandle:
        """Have a run that failed or was cancelled go on from where that happened.

        Every step that was not done begins at once, with all its attempts; time limits, waits and
        sleeps count anew.

        Raises:
            UnknownRun: there is no such run.
            RunEnded: it is completed; its result stands.
            JournalConflict: it is not over.
        """
        journal = self._journal_with(run_id)
        await (await journal.load(run_id)).reopen(journal)
        self._pulse.beat()
        return self.get(run_id)

    async def fork(self, run_id: str, *, at: int | None = None) -> RunHandle:
        """Make a new run that goes on from where another one was.

        Args:
            run_id: the other one.
            at: the number of the record of its log behind which the new one goes on; the last one
                before its end if not given.

        Raises:
            UnknownRun: there is no such run.
            ValueError: there is no such record, or it was folded into a checkpoint.
        """
        journal = self._journal_with(run_id)
        new, written = (await journal.load(run_id)).fork(journal, at)
        await written
        self._pulse.beat()
        return self.get(new)

    async def delete(self, run_id: str) -> None:
        """Forget a run.

        Raises:
            UnknownRun: there is no such run.
            JournalConflict: it is being executed.
        """
        await self._journal_with(run_id).delete(run_id)

    async def stream_events(self, run_id: str, after: int = 0) -> AsyncIterator[Any]:
        """Read what a run publishes, from behind the event numbered `after`, until it is over.

        Raises:
            UnknownRun: there is no such run.
        """
        classes = await self._classes_of(run_id)
        while True:
            journal, seen = self._journal(), self._pulse.count
            entries, missed, _, ended = await journal.read_stream(run_id, after, _AT_ONCE)
            if missed:
                after += missed
                yield Lagged(missed=missed)
            for number, body in entries:
                after = number
                yield journal.published(run_id, body, classes)
            if not entries and not missed:
                if ended:
                    return
                await self._pulse.after(seen, _LOOK_AGAIN)

    async def _history(self, run_id: str) -> list[dict[str, Any]]:
        journal = self._journal_with(run_id)
        return list((await journal.load(run_id)).timeline(journal))

    async def _story(self, run_id: str) -> dict[str, Any]:
        """Return all that the journal knows of a run, as names, tags and sizes."""
        journal = self._journal_with(run_id)
        loaded = await journal.load(run_id)
        row, outcome = await journal.get(run_id)
        failed = outcome is not None and row["status"] == "failed"
        return {
            **row,
            "verified": journal.verifies,
            "folded": loaded.folded,
            "history": loaded.timeline(journal),
            "now": loaded.inspect(journal),
            "outcome": None if outcome is None else journal.peek(run_id, outcome),
            "failure": journal.failure(run_id, outcome or b"") if failed else None,
        }

    async def _peek_stream(self, run_id: str, after: int) -> AsyncIterator[dict[str, Any]]:
        """Yield what a run publishes, as names, tags and sizes; `missed` says what is not kept."""
        journal = self._journal()
        await self._info(run_id)
        while True:
            seen = self._pulse.count
            entries, missed, _, ended = await journal.read_stream(run_id, after, _AT_ONCE)
            after += missed
            if missed:
                yield {"missed": missed}
            for number, body in entries:
                after = number
                yield {"number": number, **journal.peek(run_id, body)}
            if not entries and not missed:
                if ended:
                    return
                await self._pulse.after(seen, _LOOK_AGAIN)

    async def _problems(self, info: RunInfo) -> list[str]:
        """List why this code could not go on with a run."""
        workflow = self._workflows.get(info.workflow)
        if workflow is None:
            return [f"the engine has no workflow {info.workflow!r}"]
        journal = self._journal()
        try:
            loaded = await journal.load(info.id)
            problems = loaded.problems(journal, workflow._plan, self._classes[info.workflow])
        except TreadleError as error:
            return [str(error)]
        return list(problems)

    # What runs and the journal tell.

    def changed(self) -> None:
        """Called by the journal: another process has written."""
        self._look()

    def ended(self, run: Run) -> None:
        """Called by a run of this process: it is over, here at least."""
        if self._live.get(run.id) is run:
            self._drop(run.id)
            if run._is_lost:
                self._losses.beat()
            if run._may_go_on and not self._is_closing:
                self._waiting_rows.append({"id": run.id, "workflow": run.workflow})
            if self._waiting_rows or self._concurrency is not None:
                self._pulse.beat()
        self._forget_key(run)

    def _drop(self, run_id: str) -> None:
        del self._live[run_id]
        self._taken.discard(run_id)
        end = self._ends.pop(run_id, None)
        if end is not None:
            end.beat()

    def _forget_key(self, run: Run) -> None:
        given = self._given.pop(run, None)
        if given is not None and self._keyed.get((run.workflow, given[0])) is run:
            del self._keyed[run.workflow, given[0]]

    def exists(self, run: Run, run_id: str, given: bytes, events: list[object]) -> None:
        """Called for a run of this process that the journal has already, under another id.

        `events` were sent into it meanwhile.
        """
        key, mine, made_as = self._given[run]
        self._drop(made_as)
        if given != mine:
            run._settle("failed", KeyConflict(_conflict(run.workflow, key)))
            return
        for event in events:
            self.forward(run_id, event)
        self._in_background(self._follow(run, run_id))

    def forward(self, run_id: str, event: object) -> None:
        """Called with an event for a run that stands for another one."""
        self._in_background(self._forward(run_id, event))

    async def _forward(self, run_id: str, event: object) -> None:
        try:
            await self.send_event(run_id, event)
        except TreadleError as error:
            log_exception(f"an event for run {run_id} cannot be delivered", error)

    async def _follow(self, run: Run, run_id: str) -> None:
        try:
            run._settle("completed", await self.get(run_id))
        except asyncio.CancelledError:
            if self._is_closing:
                text = f"run {run_id}: the engine was closed before it ended"
                run._settle("failed", EngineClosed(text))
            else:
                run._settle("cancelled", None)
        except Exception as error:
            run._settle("failed", error)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._followers.add(task)
        task.add_done_callback(self._followers.discard)

    # Going on with runs that nobody executes.

    async def _renew(self) -> None:
        journal = self._journal()
        while True:
            await self._losses.after(self._losses.count, self._lease / 3)
            try:
                await self._renew_now(journal)
            except JournalError as error:
                # As long as nobody takes the runs over, a later time will do.
                log_exception("the lease cannot be renewed", error)

    async def _renew_now(self, journal: Journal) -> None:
        try:
            await journal.renew(self._lease)
        except JournalConflict as lost:
            logger().warning("the lease was lost: other processes take the runs over")
            self._waiting_rows.clear()
            for run in list(self._live.values()):
                run._lose(lost)
            await journal.release()
            await journal.enlist(self._lease)
            self._pulse.beat()

    async def _work(self) -> None:
        journal = self._journal()
        names = list(self._workflows)
        pruned = 0.0
        while True:
            seen = self._pulse.count
            try:
                await self._go_on_with_all(journal)
                await self._claim(journal, names)
                due, lapse = await journal.next_due(names)
                if self._keep is not None and time.monotonic() - pruned > _PRUNE_EVERY:
                    pruned = time.monotonic()
                    await self._prune(journal, self._keep)
            except JournalConflict:
                # The lease was lost; it is had again when that is noticed.
                due, lapse = None, None
            except JournalError as error:
                log_exception("the journal cannot be read", error)
                due, lapse = None, None
                await asyncio.sleep(_AFTER_AN_ERROR)
            if not self._has_room():
                due = None
            times = [at - time.time() for at in (due, lapse) if at is not None]
            await self._pulse.after(seen, max(0.01, min([*times, self._lease / 3])))

    def _has_room(self) -> bool:
        return self._concurrency is None or len(self._taken) < self._concurrency

    async def _claim(self, journal: Journal, names: list[str]) -> None:
        more = True
        while more and names and self._has_room():
            room = _AT_ONCE
            if self._concurrency is not None:
                room = min(room, self._concurrency - len(self._taken))
            rows, more = await journal.claim(names, room)
            self._waiting_rows.extend(rows)
            await self._go_on_with_all(journal)

    async def _go_on_with_all(self, journal: Journal) -> None:
        while self._waiting_rows:
            count = min(len(self._waiting_rows), _LOADED_AT_ONCE)
            rows = [self._waiting_rows.popleft() for _ in range(count)]
            self._loading = {row["id"]: False for row in rows}
            answers = await _answers([journal.load(row["id"]) for row in rows])
            failure: JournalError | None = None
            for row, loaded in zip(rows, answers, strict=True):
                try:
                    await self._go_on(journal, row, loaded)
                except JournalError as error:
                    # It must lose none of them: they are this process's.
                    self._waiting_rows.append(row)
                    failure = error
            if failure is not None:
                raise failure

    async def _go_on(
        self, journal: Journal, row: dict[str, Any], loaded: LoadedRun | BaseException
    ) -> None:
        run_id, name = row["id"], row["workflow"]
        try:
            if isinstance(loaded, BaseException):
                raise loaded
            if loaded.owner != journal.owner or run_id in self._live:
                return
            plan, classes = self._workflows[name]._plan, self._classes[name]
            run = None if self._loading[run_id] else loaded.go_on(journal, plan, classes)
            if run is None:
                if not self._loading[run_id]:
                    await loaded.renumber(journal, plan, classes)
                # An event may have come for it meanwhile.
                self._waiting_rows.append(row)
                return
        except JournalError:
            raise
        except Exception as error:
            # It stays with this process, so that it is not tried again and again.
            log_exception(f"run {run_id} of workflow {name!r} cannot go on", error)
            return
        self._taken.add(run_id)
        self._add(run)
        logger().debug("run %s of workflow %r goes on here", run_id, name)

    async def _prune(self, journal: Journal, keep: timedelta) -> None:
        before = time.time() - keep.total_seconds()
        while await journal.prune(before, _AT_ONCE) == _AT_ONCE:
            continue

    def _look(self) -> None:
        self._pulse.beat()
        if self._polling:
            self._poll_again = True
        elif self._opened is not None and not self._is_closing:
            self._polling = True
            self._in_background(self._poll(self._opened))

    async def _poll(self, journal: Journal) -> None:
        try:
            more = True
            while more or self._poll_again:
                self._poll_again = False
                entries, self._cursor, more = await journal.poll(self._cursor, _AT_ONCE)
                for run_id, number, kind, body in entries:
                    self._take(run_id, number, kind, body)
        except JournalError as error:
            # Nothing is lost: what was not read now is there the next time.
            log_exception("the journal cannot be read", error)
        finally:
            self._polling = False

    def _take(self, run_id: str, number: int, kind: int, body: bytes) -> None:
        run = self._live.get(run_id)
        if run is None:
            if run_id in self._loading:
                self._loading[run_id] = True
            return
        try:
            run._take_entry(number, kind, body, self._classes[run.workflow])
        except TreadleError as error:
            log_exception(f"an event for run {run_id} cannot be delivered", error)

    # Helpers of the above.

    async def _outcome(self, run_id: str) -> tuple[str, Any] | None:
        journal = self._journal_with(run_id)
        row, outcome = await journal.get(run_id)
        if outcome is None or row["status"] not in ("completed", "failed", "cancelled"):
            return None
        classes = self._classes.get(row["workflow"], {})
        return row["status"], journal.outcome(row["status"], run_id, outcome, classes)

    async def _info(self, run_id: str) -> RunInfo:
        row, _ = await self._journal_with(run_id).get(run_id)
        return RunInfo(**row)

    async def _classes_of(self, run_id: str) -> dict[str, type]:
        return self._classes.get((await self._info(run_id)).workflow, {})

    async def _end_of(self, run_id: str) -> None:
        """Wait until a run of this process is over."""
        if run_id in self._live:
            await self._ends.setdefault(run_id, Pulse()).after(0)

    def _add(self, run: Run) -> Run:
        self._live[run.id] = run
        return run

    def _journal_with(self, run_id: str) -> Journal:
        """Return the journal, with a run of this process in it that was only just started."""
        journal = self._journal()
        run = self._live.get(run_id)
        if run is not None:
            run._flush()
        return journal

    def _journal(self) -> Journal:
        if self._opened is None:
            raise EngineClosed(
                f"the engine on {self.url} is not open; use `async with Engine(...)`"
            )
        return self._opened

    def _check_known(self, workflow: Workflow) -> None:
        if self._workflows.get(workflow.name) is not workflow:
            names = ", ".join(map(repr, self._workflows)) or "none"
            raise ValueError(
                f"workflow {workflow.name!r} is not one of the engine's workflows ({names}): give "
                f"it to Engine(workflows=[...]), so that its runs can go on after a restart"
            )


async def _answers(loading: list[Awaitable[LoadedRun]]) -> list[LoadedRun | BaseException]:
    return await asyncio.gather(*loading, return_exceptions=True)


async def _stopped(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _path(url: str) -> str | None:
    if not isinstance(url, str):
        raise TypeError(f"url: a str expected, not {url!r}")
    if url == "memory:":
        return None
    if url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
        return url.removeprefix("sqlite:///")
    raise ValueError(f'url: "memory:" or "sqlite:///PATH" expected, not {url!r}')


def _by_name(workflows: Iterable[Workflow]) -> dict[str, Workflow]:
    named: dict[str, Workflow] = {}
    for workflow in workflows:
        if not isinstance(workflow, Workflow):
            raise TypeError(f"workflows: Workflows expected, not {workflow!r}")
        if named.setdefault(workflow.name, workflow) is not workflow:
            raise ValueError(f"workflows: two of them have the name {workflow.name!r}")
    return named


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise TypeError(f"key: a str expected, not {key!r}")


def _conflict(workflow: str, key: str | None) -> str:
    named = "this key" if key is None else f"the key {key!r}"
    return f"a run of workflow {workflow!r} with {named} was started with another input"

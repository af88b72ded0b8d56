"""An engine that is open: its journal, its runs, opening and closing."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from .. import between
from .._treadle import EngineCore, Journal, Run
from ..exceptions import (
    EngineClosed,
    EventLoopError,
    JournalError,
    RunEnded,
    RunStranded,
    TreadleError,
    UnknownRun,
)
from ..log import log_exception
from ..pulse import Pulse
from ..runs import result_of
from ..workflow import Workflow
from . import looking
from .background import Background, stopped
from .closing import Closing
from .executing import ExecutedRuns
from .followers import Followers
from .host import Host
from .opening import Opening
from .reader import JournalReader, info_once_written
from .settings import Settings
from .whole import to_the_end

EVENT, CANCEL, PAUSE, RESUME, STATE = range(5)


class Session:
    """The state of an engine from its opening to its closing. The journal reports to it."""

    def __init__(self, settings: Settings, *, only_looks: bool) -> None:
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self.pulse = Pulse()
        self.background = Background()
        self.executing = ExecutedRuns()
        self.host = Host(self)
        self.followers = Followers(self)
        self._only_looks = only_looks
        self._journal: Journal | None = None
        self._core: EngineCore | None = None
        self._until_shut = asyncio.Event()
        self._watched: asyncio.Task[Any] | None = None
        self._closing: Closing | None = None
        self._closed: asyncio.Task[None] | None = None
        self._opened = self.loop.create_task(self._open(), name="treadle: opening")

    async def open(self) -> None:
        """Open the journal and begin to execute runs. What fails or is cancelled leaves nothing."""
        try:
            await to_the_end(self._opened, self._opened.cancel)
            if self._opened.cancelled():
                raise self.closes()
            self._opened.result()
        except BaseException:
            await self.close(0)
            raise

    async def _open(self) -> None:
        settings = self.settings
        make = partial(
            Journal,
            settings.url,
            (settings.secrets, settings.signs_all),
            patience=settings.lease,
            is_pipelined=settings.is_pipelined,
            keeps_history=settings.keeps_history,
            only_looks=self._only_looks,
            host=(self, self.loop, settings.observers),
            password=settings.password,
        )
        self._journal = await Opening(make).journal()
        self.loop.add_reader(self._journal.fileno(), self._journal._drain)
        if self._only_looks:
            return
        self._core = EngineCore(
            self._journal,
            self.host,
            lease=settings.lease,
            workflows=list(settings.workflows),
            concurrency=settings.concurrency,
            max_recoveries=settings.max_recoveries,
            keep=settings.keep,
            max_runs=settings.max_runs,
        )
        if settings.concurrency is not None:
            self._journal.tell_waits()
        self._core.open()
        await self.host.is_open
        self._watched = self.loop.create_task(self._until_shut.wait(), name="treadle: engine")
        self._journal.watch(self._watched)

    async def close(self, grace: float) -> None:
        """Hand the runs back and close the journal. A cancelled caller makes haste, and waits."""
        if self._closing is None:
            self._opened.cancel()
            self._closing = Closing(self, grace)
            self._closed = self.loop.create_task(self._closing.work(), name="treadle: closing")
        assert self._closed is not None
        await to_the_end(self._closed, self._closing.hurry)

    @property
    def journal(self) -> Journal:
        """The journal, while it is open."""
        if self._journal is None:
            raise EngineClosed(f"the engine on {self.settings.shown} {self._state()}")
        return self._journal

    @property
    def is_closing(self) -> bool:
        """Whether no run is started any more."""
        return self._closing is not None

    @property
    def is_closed(self) -> bool:
        """Whether everything is shut."""
        return self._closed is not None and self._closed.done()

    def check_open(self) -> None:
        """Refuse what needs the journal once that is closed."""
        _ = self.journal

    def check_loop(self, call: str) -> None:
        """Refuse a call from another event loop, or from none: its answer would never come."""
        try:
            is_here = asyncio.get_running_loop() is self.loop
        except RuntimeError:
            is_here = False
        if not is_here:
            self.journal.check_process()
            raise EventLoopError(
                f"{call} was called outside of the event loop that the engine on "
                f"{self.settings.shown} was opened on; start a run from another thread with "
                f"`engine.run_threadsafe(...)`, and call the other methods by "
                f"`asyncio.run_coroutine_threadsafe(engine.send_event(...), loop)`"
            )

    def closes(self) -> EngineClosed:
        """Return the error of what an engine does no more that is being closed."""
        return EngineClosed(f"the engine on {self.settings.shown} {self._state()}")

    def _state(self) -> str:
        if self._closing is None:
            return "is being opened: wait for that first"
        return "was closed" if self._journal is None else "is being closed"

    @property
    def core(self) -> EngineCore:
        """What decides, while the engine is open."""
        if self._core is None:
            self._check_writable()
            raise self.closes()
        return self._core

    # The stages of closing. Each may be begun again.

    async def stop_opening(self) -> None:
        """Open the engine no further."""
        await stopped(self._opened)

    def begin_to_close(self, grace: float) -> "asyncio.Future[None] | None":
        """Hand the runs back, after so many seconds at most; a second call hastens the first."""
        if self._core is None:
            return None
        self._core.close(grace)
        return self.host.is_closed

    async def shut(self) -> None:
        """Close the journal, and wake all waiters."""
        journal = self._journal
        if journal is not None:
            if self._core is not None:
                self._core.stop()
            await self.loop.run_in_executor(None, journal.close)
            journal._drain_all()
            self.loop.remove_reader(journal.fileno())
        self._until_shut.set()
        self._journal = None
        self.executing.abandon()
        self.followers.close()
        self.pulse.beat()

    def journal_with(self, run_id: str) -> Journal:
        """Return the journal, with a run of this process in it that was only just started."""
        run = self.executing.live.get(run_id)
        if run is not None:
            run._flush()
        return self.journal

    async def send(self, run_id: str, kind: int, body: bytes, name: uuid.UUID) -> bool:
        """Send a message into a run; return whether it is new, once it is on disk."""
        is_new = await self.journal_with(run_id).send(run_id, name.bytes, kind, body)
        self.changed()
        return bool(is_new)

    async def send_event(self, run_id: str, event: object, name: uuid.UUID) -> bool:
        """Send an event into a run; return whether it is new, once it is on disk."""
        self._check_writable()
        body = self.journal_with(run_id).message(run_id, name.bytes, event)
        return await self.send(run_id, EVENT, body, name)

    async def change(self, run_id: str, keys: dict[str, Any], removed: list[str]) -> None:
        """Change the state of a run; return once that is on disk."""
        self._check_writable()
        name = uuid.uuid4()
        body = self.journal_with(run_id).changes_message(run_id, name.bytes, keys, removed)
        await self.send(run_id, STATE, body, name)

    def _check_writable(self) -> None:
        """Refuse what nobody would ever read, before it is signed."""
        if self.settings.is_archive:
            raise JournalError(
                f"{self.settings.shown} is an archive of a run, which is only looked into; the run "
                f"itself is in the journal that it was exported from"
            )

    async def state_of(self, run_id: str, at: int | None) -> dict[str, Any]:
        """Return the keys and values of a run, as they are on disk or were behind a record."""
        journal = self.journal_with(run_id)
        loaded = journal.load(run_id) if at is None else journal.segment(run_id, at)
        return dict((await loaded).state(journal, at))

    async def wish(self, run_id: str, kind: int) -> None:
        """Ask the owner of a run to do something with it; return once that is on disk."""
        self._check_writable()
        name = uuid.uuid4()
        body = self.journal_with(run_id).wish(run_id, name.bytes, kind)
        await self.send(run_id, kind, body, name)

    async def with_outcome(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return what is known of a run with its result, or its error, if it is over."""
        if row["status"] not in ("completed", "failed", "cancelled"):
            return row
        try:
            # It may have been reopened, or deleted, since it was listed.
            now, outcome = await self.journal.get(row["id"])
            if now["status"] != row["status"]:
                return row
            classes = self.settings.classes.get(row["workflow"], {})
            ending = (row["status"], row["id"], now["seq"], outcome or b"")
            value = self.journal.outcome(*ending, classes)
            return {**row, "result": result_of(row["id"], row["status"], value)}
        except Exception as error:
            return {**row, "error": error}

    async def result_of(self, run_id: str) -> Any:
        """Wait for the end of a run, whichever process executes it, and return its result."""
        return result_of(run_id, *self.end_of(*await self.followers.end_of(run_id)))

    def end_of(self, row: dict[str, Any], outcome: bytes | None) -> tuple[str, Any]:
        """Return the status of a run of which nothing more comes, and its result or error."""
        run_id, status = row["id"], row["status"]
        if status == "stranded":
            return "failed", RunStranded(run_id, row["reason"])
        classes = self.settings.classes.get(row["workflow"], {})
        return status, self.journal.outcome(status, run_id, row["seq"], outcome or b"", classes)

    async def redeliver(self, run_id: str) -> int:
        """Put the dead letters of a run into its inbox again; return how many there were."""
        messages = await self.journal_with(run_id).redeliver(run_id)
        self.changed()
        return int(messages)

    async def delete(self, run_id: str) -> None:
        """Forget a run."""
        await self.journal_with(run_id).delete(run_id)
        self.core.look_at(run_id)

    async def ask_for_targets(self, run_ids: list[str], sender: str, value: Any) -> Any:
        """Return `value` once it is known that runs are there and not over.

        Raises:
            UnknownRun: One is not in the journal.
            RunEnded: One is over.
        """
        asked = [self.journal_with(run_id).get(run_id) for run_id in run_ids]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for run_id, answer in zip(run_ids, answers, strict=True):
            if isinstance(answer, UnknownRun):
                raise UnknownRun(
                    f"send_event: run {sender} sends to run {run_id}, which is not in this "
                    f'journal; missing="ignore" sends nothing then'
                )
            if isinstance(answer, BaseException):
                raise answer
            if answer[0]["finished"] is not None:
                raise between.ended(run_id, sender)
        return value

    # What runs and the journal tell.

    def heard(self, inbox: bool, work: bool, ends: bool) -> None:
        """Called by the journal: messages, runs to claim or ends of runs may be there."""
        self.pulse.beat()
        if self._core is not None:
            self._core.heard(inbox, work, ends)

    def changed(self) -> None:
        """Something was written here that may concern runs of this process, or others."""
        self.heard(True, True, True)

    def ended(self, run: Run) -> None:
        """Called by a run of this process: it is over, here at least."""
        if self.executing.drop(run):
            end = "busy" if run._may_go_on else "lost" if run._is_lost else "over"
            self.core.run_ended(run._made_as, end, run._epoch)

    def exists(
        self,
        run: Run,
        run_id: str,
        given: bytes,
        is_same: bool,
        events: list[object],
        is_cancelled: bool,
    ) -> None:
        """Called for a run of this process for whose key the journal has another run.

        `given` is the digest of the input of that run, and `is_same` whether it is the input of
        this one. `events` were sent into it meanwhile; perhaps it was cancelled.
        """
        made_as = run._made_as
        if self.executing.live.get(made_as) is run:
            self.executing.stand(made_as, events)
            self.core.exists(made_as, run_id, given, is_same, is_cancelled)

    def check_workflow(self, workflow: Workflow) -> None:
        """Called for the workflow of a child: refuse one of which no run is executed here."""
        self.settings.check_known(workflow)

    def run_waits(self, run_id: str, waits: bool) -> None:
        """Called when a run only waits from now on, or goes on, if runs are limited."""
        if not self.is_closing:
            self.core.run_waits(run_id, waits)
        self.pulse.beat()

    def ask_for_place(self, run_id: str, workflow: str, has_begun: bool) -> bool:
        """Called for a run of this process that is to execute something; return whether it may.

        If not, `Host.give_place` says when.
        """
        return self.core.ask_for_place(run_id, workflow, has_begun)

    def insist_on_place(self, run_id: str, workflow: str) -> None:
        """Called for a run of this process that executes something whether or not it may."""
        self.core.insist_on_place(run_id, workflow)

    def leave_place(self, run_id: str) -> None:
        """Called for a run of this process that executes nothing any more, or for now."""
        self.core.leave_place(run_id)

    def begin_in_place(self, run_id: str, workflow: str) -> bool:
        """Called for a run that is to be started here; return whether it may execute something."""
        return self.core.begin_in_place(run_id, workflow)

    def run_written(self, run: Run, events: list[object], is_cancelled: bool) -> None:
        """Called for a run that is written for any process, since there was no place for it here.

        `events` were sent into it meanwhile; perhaps it was cancelled.
        """
        run_id = run._made_as
        if self.executing.live.get(run_id) is run:
            self.executing.stand(run_id, events)
            self.core.run_written(run_id, run.workflow, is_cancelled)
        elif is_cancelled:
            self.forward_cancel(run_id)
        self.changed()

    def child_expected(self, run_id: str) -> None:
        """Called before the commit that makes a child, which is executed here."""
        if not self.is_closing:
            self.core.child_expected(run_id)

    def child_made(
        self, run_id: str, child: Run | None, exists: bool | None, for_any: bool
    ) -> None:
        """Called when the commit is answered that makes a child, for this process or `for_any`.

        A commit that was given up may have made it: then `exists` is `None`.
        """
        if not self.is_closing:
            # It is known before it begins: the core may have messages for it.
            kept = None if run_id in self.executing.live else child
            if kept is not None:
                self.executing.add(kept)
            begins = self.core.child_made(run_id, exists, kept is not None, for_any)
            if kept is not None:
                kept._begin() if begins else self.executing.drop(kept)
        self.pulse.beat()

    async def stream_of_child(self, run_id: str, after: int) -> AsyncIterator[Any]:
        """Read the stream of a child, once the commit of its parent has made it."""
        run = await info_once_written(self, run_id)
        async for event in looking.events(self, run, after):
            yield event

    def stream_in_journal(self, run_id: str, after: int) -> JournalReader:
        """Called for the stream of a run that was started here, and that any process may have."""
        return JournalReader(self, run_id, after)

    def forward_cancel(self, run_id: str) -> None:
        """Called when a run is cancelled that represents a run of another process."""
        self.background.start(self._forward_wish(run_id, CANCEL, "cancelled"))

    def forward_pause(self, run_id: str, is_paused: bool) -> None:
        """Called when a run is paused or resumed that represents a run of another process."""
        kind, what = (PAUSE, "paused") if is_paused else (RESUME, "resumed")
        self.background.start(self._forward_wish(run_id, kind, what))

    async def _forward_wish(self, run_id: str, kind: int, what: str) -> None:
        try:
            await self.wish(run_id, kind)
        except RunEnded:
            return
        except TreadleError as error:
            log_exception(f"run {run_id} cannot be {what}", error)

    def forward(self, run_id: str, event: object) -> None:
        """Called with an event for a run that represents a run of another process."""
        self.background.start(self._forward(run_id, event))

    async def _forward(self, run_id: str, event: object) -> None:
        try:
            await self.send_event(run_id, event, uuid.uuid4())
        except TreadleError as error:
            log_exception(f"an event for run {run_id} cannot be delivered", error)

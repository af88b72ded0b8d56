"""An engine that is open: its journal, its tasks, opening and closing."""

import asyncio
import uuid
from typing import Any

from .._treadle import Journal, Run
from ..exceptions import EngineClosed, JournalError, KeyConflict, TreadleError
from ..log import log_exception
from ..pulse import Pulse
from ..runs import result_of
from .background import Background, stopped
from .executing import ExecutedRuns
from .inboxes import Inboxes
from .lease import Lease
from .settings import Settings
from .takeover import TakeOver

EVENT, CANCEL, PAUSE, RESUME = range(4)
# Seconds.
_SOONEST = 0.005
_LATEST = 0.2
_LOOK_AGAIN = 0.5


class Session:
    """What an engine has from its opening to its closing. The journal tells it what happens."""

    def __init__(self, settings: Settings, *, only_looks: bool) -> None:
        self.settings = settings
        self.is_closing = False
        self._is_shut = False
        self.pulse = Pulse()
        self.background = Background()
        self.executing = ExecutedRuns()
        self.lease = Lease(self)
        self.takeover = TakeOver(self)
        self.inboxes = Inboxes(self)
        self._tasks: list[asyncio.Task[None]] = []
        self.journal = Journal(
            settings.path,
            settings.secrets,
            is_pipelined=settings.is_pipelined,
            only_looks=only_looks,
            listener=self,
        )
        asyncio.get_running_loop().add_reader(self.journal.fileno(), self.journal._drain)

    async def start(self) -> None:
        """Begin to execute runs."""
        await self.journal.enlist(self.settings.lease)
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self.lease.renew_always(), name="treadle: lease"),
            loop.create_task(self.takeover.work(), name="treadle: claims"),
        ]

    async def close(self, grace: float) -> None:
        """Stop executing runs, and hand them back."""
        self.is_closing = True
        renewing, working = self._tasks
        await stopped(working)
        await self.background.stop()
        try:
            # The lease is renewed meanwhile: what the steps do is still to be written.
            await self._drain(grace)
        finally:
            await stopped(renewing)
            try:
                await self.journal.release()
            except JournalError as error:
                log_exception("the runs are not handed back; others take them over later", error)
            finally:
                await self.shut()

    async def _drain(self, grace: float) -> None:
        runs = list(self.executing.live.values())
        if not runs:
            return
        drained = {asyncio.ensure_future(run._drain(stop=False)): run for run in runs}
        _, moving = await asyncio.wait(drained, timeout=max(grace, 0))
        # A step that waits for an event or sleeps is left there: the run waits in the journal.
        stopping = [asyncio.ensure_future(drained[it]._drain(stop=True)) for it in moving]
        await asyncio.gather(*moving, *stopping)
        # All of them first: the end of one must not be written as the end of those that it started.
        for run in runs:
            run._let_go()
        for run in runs:
            run._end_here()
        ends = [
            asyncio.ensure_future(self.executing.end_of(run_id)) for run_id in self.executing.live
        ]
        if ends:
            _, unwinding = await asyncio.wait(ends, timeout=max(grace, 1))
            await stopped(*unwinding)

    async def shut(self) -> None:
        """Close the journal, and wake all waiters."""
        journal = self.journal
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, journal.close)
        journal._drain_all()
        loop.remove_reader(journal.fileno())
        self.is_closing = self._is_shut = True
        self.executing.abandon()
        self.pulse.beat()

    def journal_with(self, run_id: str) -> Journal:
        """Return the journal, with a run of this process in it that was only just started."""
        if self._is_shut:
            raise closed(self.settings.url)
        run = self.executing.live.get(run_id)
        if run is not None:
            run._flush()
        return self.journal

    async def send(self, run_id: str, kind: int, body: bytes, name: uuid.UUID) -> bool:
        """Send a message into a run; return whether it is new, once it is on disk."""
        is_new = await self.journal_with(run_id).send(run_id, name.bytes, kind, body)
        self.pulse.beat()
        self.inboxes.look()
        return bool(is_new)

    async def send_event(self, run_id: str, event: object, name: uuid.UUID) -> bool:
        """Send an event into a run; return whether it is new, once it is on disk."""
        body = self.journal_with(run_id).message(run_id, event)
        return await self.send(run_id, EVENT, body, name)

    async def outcome(self, run_id: str) -> tuple[str, Any] | None:
        """Return how a run ended: its status, and its result or error."""
        journal = self.journal_with(run_id)
        row, outcome = await journal.get(run_id)
        if outcome is None or row["status"] not in ("completed", "failed", "cancelled"):
            return None
        classes = self.settings.classes.get(row["workflow"], {})
        return row["status"], journal.outcome(row["status"], run_id, outcome, classes)

    async def result_of(self, run_id: str) -> Any:
        """Wait for the end of a run, whichever process executes it."""
        delay = _SOONEST
        while True:
            # The run is not awaited itself: a waiter for a result by id may go away.
            await self.executing.end_of(run_id)
            seen = self.pulse.count
            outcome = await self.outcome(run_id)
            if outcome is not None:
                return result_of(run_id, *outcome)
            # Many may wait, and much may happen to others: each of them looks only now and then.
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, _LATEST)
            await self.pulse.after(seen, _LOOK_AGAIN)

    # What runs and the journal tell.

    def changed(self) -> None:
        """Called by the journal: another process has written."""
        self.pulse.beat()
        self.inboxes.look()

    def ended(self, run: Run) -> None:
        """Called by a run of this process: it is over, here at least."""
        if self.executing.live.get(run.id) is run:
            self.executing.drop(run.id)
            if run._is_lost:
                self.lease.losses.beat()
            has_work = not self.is_closing and self.takeover.go_on_later(run)
            if has_work or self.settings.concurrency is not None:
                self.pulse.beat()
        self.executing.forget_key(run)

    def exists(self, run: Run, run_id: str, given: bytes, events: list[object]) -> None:
        """Called for a run of this process that the journal has already, under another id.

        `events` were sent into it meanwhile.
        """
        key, mine, made_as = self.executing.given(run)
        self.executing.drop(made_as)
        if given != mine:
            run._settle("failed", KeyConflict(conflict(run.workflow, key)))
            return
        for event in events:
            self.forward(run_id, event)
        self.background.start(self._follow(run, run_id))

    def forward(self, run_id: str, event: object) -> None:
        """Called with an event for a run that stands for another one."""
        self.background.start(self._forward(run_id, event))

    async def _forward(self, run_id: str, event: object) -> None:
        try:
            await self.send_event(run_id, event, uuid.uuid4())
        except TreadleError as error:
            log_exception(f"an event for run {run_id} cannot be delivered", error)

    async def _follow(self, run: Run, run_id: str) -> None:
        try:
            run._settle("completed", await self.result_of(run_id))
        except asyncio.CancelledError:
            if self.is_closing:
                text = f"run {run_id}: the engine was closed before it ended"
                run._settle("failed", EngineClosed(text))
            else:
                run._settle("cancelled", None)
        except Exception as error:
            run._settle("failed", error)


def conflict(workflow: str, key: str | None) -> str:
    """Return why a key is refused."""
    named = "this key" if key is None else f"the key {key!r}"
    return f"a run of workflow {workflow!r} with {named} was started with another input"


def closed(url: str) -> EngineClosed:
    """Return the error of using an engine that is not open."""
    return EngineClosed(f"the engine on {url} is not open; use `async with Engine(...)`")

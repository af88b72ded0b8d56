"""What the core's engine decides, carried out on the event loop."""

import asyncio
from typing import TYPE_CHECKING, Any

from .._treadle import Journal, LoadedRun, Plan
from ..exceptions import EngineClosed, JournalError, KeyConflict
from ..log import log_exception, logger

if TYPE_CHECKING:
    from .session import Session

# Seconds.
_AFTER_AN_ERROR = 0.5


def room_of(journal: Journal) -> int:
    """Return how many bytes a commit may have."""
    return journal.most_commit_bytes


def conflict(workflow: str, key: str | None) -> str:
    """Return why a key is refused."""
    named = "this key" if key is None else f"the key {key!r}"
    return f"a run of workflow {workflow!r} with {named} was started with another input"


class Host:
    """Carries out the effects of `EngineCore`: one method for each of them."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self.is_open: asyncio.Future[None] = session.loop.create_future()
        self.is_closed: asyncio.Future[None] = session.loop.create_future()

    def opened(self, error: JournalError | None) -> None:
        """The journal knows this process, or does not take it."""
        if self.is_open.done():
            return
        if error is None:
            self.is_open.set_result(None)
        else:
            self.is_open.set_exception(error)

    def closed(self, error: JournalError | None) -> None:
        """All runs are handed back, or could not be."""
        if error is not None:
            log_exception("the runs are not handed back; others take them over later", error)
        if not self.is_closed.done():
            self.is_closed.set_result(None)

    def report(self, what: str, error: BaseException | None) -> None:
        """Log a warning or an error."""
        if error is None:
            logger().warning(what)
        else:
            log_exception(what, error)

    def stranded(self, row: dict[str, Any]) -> None:
        """A run is stranded: no process continues it until it is retried."""
        text = "run %s of workflow %r is stranded: %s"
        logger().error(text, row["id"], row["workflow"], row["reason"])

    def stands_for(self, run_id: str, other: str, cancel: bool) -> None:
        """The journal has another run of the key: hand on what was sent to this one."""
        session = self._session
        for event in session.executing.sent(run_id):
            session.forward(other, event)
        if cancel:
            session.forward_cancel(other)

    def key_taken(self, run_id: str, key: str) -> None:
        """The journal has a run of the key with another input."""
        run = self._session.executing.made_as(run_id)
        run._settle("failed", KeyConflict(conflict(run.workflow, key)))

    def closed_before(self, run_id: str, other: str) -> None:
        """The engine is closed before the end of a run that one of this process stands for."""
        session = self._session
        error = EngineClosed(
            f"run {other}: the engine on {session.settings.shown} was closed before the run ended; "
            f"the run goes on when an engine is opened on this journal, and the same key gives it "
            f"again"
        )
        session.executing.made_as(run_id)._settle("failed", error)

    def ended(
        self, run_id: str, standing: list[str], row: dict[str, Any], outcome: bytes | None
    ) -> None:
        """Nothing more comes of a run that is waited for, or that others stand for."""
        session = self._session
        session.followers.tell(run_id, (row, outcome))
        for run in map(session.executing.made_as, standing):
            try:
                end = session.end_of(row, outcome)
            except BaseException as error:
                # What the other run failed with, be it a `SystemExit`, is for the waiters of this.
                end = ("failed", error)
            run._settle(*end)

    def not_seen(self, run_id: str, standing: list[str], error: BaseException) -> None:
        """A run that is waited for, or that others stand for, cannot be looked at."""
        self._session.followers.fail(run_id, error)
        for run in map(self._session.executing.made_as, standing):
            run._settle("failed", error)

    def resume(self, loaded: LoadedRun) -> None:
        """Continue a run that was claimed."""
        session = self._session
        settings, journal = session.settings, session.journal
        plan, classes = settings.workflows[loaded.workflow]._plan, settings.classes[loaded.workflow]
        standing = session.executing.standing.get(loaded.id)
        try:
            run = loaded.go_on(journal, plan, classes, standing)
        except BaseException as error:
            # Whatever unpickling raises: it must end neither the engine nor the process.
            self._refuse(loaded, error)
            return
        if run is None:
            session.background.start(self._renumber(journal, loaded, plan, classes))
            return
        session.executing.execute(run)
        session.core.resumed(loaded.id, "started", None)
        logger().debug("run %s of workflow %r goes on here", loaded.id, loaded.workflow)

    def _refuse(self, loaded: LoadedRun, error: BaseException) -> None:
        text = f"run {loaded.id} of workflow {loaded.workflow!r} cannot go on here"
        log_exception(text, error)
        self._session.core.resumed(loaded.id, "refused", error)

    async def _renumber(
        self, journal: Journal, loaded: LoadedRun, plan: Plan, classes: dict[str, type]
    ) -> None:
        """Write a checkpoint with the steps of this version before anything more is recorded."""
        try:
            await loaded.renumber(journal, plan, classes, room_of(journal))
        except JournalError as error:
            log_exception(f"run {loaded.id} cannot be written", error)
            await asyncio.sleep(_AFTER_AN_ERROR)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._refuse(loaded, error)
            return
        self._session.core.resumed(loaded.id, "load again", None)

    def deliver(self, run_id: str, number: int, name: bytes, kind: int, body: bytes) -> None:
        """Hand a message to a run of this process."""
        session = self._session
        run = session.executing.live.get(run_id)
        if run is None:
            return
        try:
            run._take_entry(number, name, kind, body, session.settings.classes[run.workflow])
        except BaseException as error:
            # Unpickling may raise anything. It must keep no other message from its run.
            log_exception(f"an event for run {run_id} cannot be delivered", error)

    def lose(self, run_id: str, lost: JournalError) -> None:
        """Stop a run that other processes may have."""
        run = self._session.executing.live.get(run_id)
        if run is not None:
            run._lose(lost)

    def drain(self, run_id: str, stop: bool) -> None:
        """Let a run start no more steps; with `stop`, cancel those in flight."""
        session = self._session
        run = session.executing.live.get(run_id)

        async def drained() -> None:
            try:
                if run is not None:
                    await run._drain(stop=stop)
            finally:
                session.core.drained(run_id)

        session.background.start(drained())

    def give_place(self, run_id: str) -> None:
        """A run has the place that it has waited for."""
        run = self._session.executing.live.get(run_id)
        if run is not None:
            run._get_place()

    def let_go(self, run_id: str) -> None:
        """Write what a run has done, and nothing after it."""
        run = self._session.executing.live.get(run_id)
        if run is not None:
            run._let_go()

    def end_here(self, run_id: str) -> None:
        """End a run that continues in another process."""
        run = self._session.executing.live.get(run_id)
        if run is not None:
            run._end_here()

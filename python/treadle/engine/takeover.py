"""Claiming runs that no process executes, loading them and going on with them."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from .._treadle import MOST_COMMIT_BYTES, Journal, LoadedRun, Run
from ..exceptions import JournalConflict, JournalError, UnknownRun
from ..log import log_exception, logger

if TYPE_CHECKING:
    from .session import Session

_CLAIMED_AT_ONCE = 256
# So many are loaded in one go that going on with them takes the loop a few milliseconds.
_LOADED_AT_ONCE = 32
_PRUNE_EVERY = 60.0
_AFTER_AN_ERROR = 0.5


class TakeOver:
    """Goes on with the runs that no process executes."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._names = list(session.settings.workflows)
        # Runs that are this process's and have not gone on yet.
        self._claimed: deque[dict[str, Any]] = deque()
        # Those that are being loaded, and whether something was sent to them meanwhile: then they
        # are loaded again.
        self._loading: dict[str, bool] = {}
        self._pruned = 0.0

    def go_on_later(self, run: Run) -> bool:
        """Have a run of this process go on from the journal, if it may."""
        if run._may_go_on:
            self._claimed.append({"id": run.id, "workflow": run.workflow, "epoch": run._epoch})
        return bool(self._claimed)

    def forget_claimed(self) -> None:
        """The lease was lost: others have the runs that did not go on yet."""
        self._claimed.clear()

    def was_sent_to(self, run_id: str) -> None:
        """Something was sent to a run that is not executed here, or not yet."""
        if run_id in self._loading:
            self._loading[run_id] = True

    async def work(self) -> None:
        """Take runs over until cancelled."""
        session = self._session
        journal, lease = session.journal, session.settings.lease
        while True:
            seen = session.pulse.count
            try:
                await self._go_on_with_all(journal)
                await self._claim(journal)
                due, lapse = await journal.next_due(self._names)
                await self._prune_sometimes(journal)
            except JournalConflict:
                # The lease was lost; it is had again when that is noticed.
                due, lapse = None, None
            except JournalError as error:
                log_exception("the journal cannot be read", error)
                due, lapse = None, None
                await asyncio.sleep(_AFTER_AN_ERROR)
            if not self._has_room():
                due, lapse = None, None
            times = [after for after in (due, lapse) if after is not None]
            await session.pulse.after(seen, max(0.01, min([*times, lease / 3])))

    def _room(self) -> int:
        limit = self._session.settings.concurrency
        if limit is None:
            return _CLAIMED_AT_ONCE
        return min(_CLAIMED_AT_ONCE, limit - len(self._session.executing.taken))

    def _has_room(self) -> bool:
        return self._room() > 0

    async def _claim(self, journal: Journal) -> None:
        more = True
        while more and self._names and self._has_room():
            rows, stranded, more = await journal.claim(
                self._names, self._room(), self._session.settings.max_recoveries
            )
            self._claimed.extend(rows)
            for row in stranded:
                self._warn_of(row)
            await self._go_on_with_all(journal)

    async def _go_on_with_all(self, journal: Journal) -> None:
        while self._claimed:
            count = min(len(self._claimed), _LOADED_AT_ONCE)
            rows = [self._claimed.popleft() for _ in range(count)]
            self._loading = {row["id"]: False for row in rows}
            answers = await _answers([journal.load(row["id"]) for row in rows])
            failure: JournalError | None = None
            for row, loaded in zip(rows, answers, strict=True):
                try:
                    await self._go_on(journal, row, loaded)
                except JournalError as error:
                    # It must lose none of them: they are this process's.
                    self._claimed.append(row)
                    failure = error
            if failure is not None:
                raise failure

    async def _go_on(
        self, journal: Journal, row: dict[str, Any], loaded: LoadedRun | BaseException
    ) -> None:
        run_id, name = row["id"], row["workflow"]
        session = self._session
        if isinstance(loaded, JournalError):
            raise loaded
        if isinstance(loaded, UnknownRun):
            return
        if isinstance(loaded, BaseException):
            await self._refuse(journal, row, loaded)
            return
        if loaded.owner != journal.owner or run_id in session.executing.live:
            return
        plan, classes = session.settings.workflows[name]._plan, session.settings.classes[name]
        renumbered: Awaitable[Any] | None = None
        try:
            run = None if self._loading[run_id] else loaded.go_on(journal, plan, classes)
            if run is None and not self._loading[run_id]:
                renumbered = loaded.renumber(journal, plan, classes, MOST_COMMIT_BYTES)
        except BaseException as error:
            # Whatever unpickling raises: it must end neither this task nor the process.
            if isinstance(error, JournalError):
                raise
            await self._refuse(journal, {**row, "epoch": loaded.epoch}, error)
            return
        if run is None:
            if renumbered is not None:
                await renumbered
            # An event may have come for it meanwhile.
            self._claimed.append(row)
            return
        session.executing.add_taken(run)
        logger().debug("run %s of workflow %r goes on here", run_id, name)

    async def _refuse(self, journal: Journal, row: dict[str, Any], error: BaseException) -> None:
        """Hand a run back with which this process cannot go on."""
        run_id, name = row["id"], row["workflow"]
        log_exception(f"run {run_id} of workflow {name!r} cannot go on here", error)
        limit = self._session.settings.max_recoveries
        try:
            refused = await journal.refuse(run_id, row["epoch"], error, limit)
        except (JournalConflict, UnknownRun):
            # Another process has it, or nobody.
            return
        if refused["status"] == "stranded":
            self._warn_of(refused)

    def _warn_of(self, row: dict[str, Any]) -> None:
        text = "run %s of workflow %r is stranded: %s"
        logger().error(text, row["id"], row["workflow"], row["reason"])
        self._session.followers.look_at(row["id"])

    async def _prune_sometimes(self, journal: Journal) -> None:
        keep = self._session.settings.keep
        if keep is not None and time.monotonic() - self._pruned > _PRUNE_EVERY:
            self._pruned = time.monotonic()
            await _prune(journal, keep)


async def _prune(journal: Journal, keep: float) -> None:
    while await journal.prune(keep, _CLAIMED_AT_ONCE) == _CLAIMED_AT_ONCE:
        continue


async def _answers(loading: list[Awaitable[LoadedRun]]) -> list[LoadedRun | BaseException]:
    return await asyncio.gather(*loading, return_exceptions=True)

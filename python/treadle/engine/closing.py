"""Closing an engine: stage by stage, each of which may be begun again after it was cancelled."""

import asyncio
from typing import TYPE_CHECKING

from .._treadle import Run
from ..log import log_exception
from .background import stopped

if TYPE_CHECKING:
    from .session import Session

# Seconds that the cancelled steps of runs have to unwind, at least.
_UNWINDING = 1.0


class Closing:
    """Hands the runs of an engine back, and closes its journal."""

    def __init__(self, session: "Session", grace: float) -> None:
        self._session = session
        self._grace = grace
        self._hurried = asyncio.Event()

    def hurry(self) -> None:
        """Give steps in flight no more time to finish: the waiter for the closing was cancelled."""
        self._hurried.set()

    async def work(self) -> None:
        """Close the engine, whatever happens meanwhile."""
        session = self._session
        stages = [
            session.stop_claiming,
            session.background.stop,
            # The lease is renewed meanwhile: what the steps do is still to be written.
            self._drain,
            self._let_go,
            self._unwind,
            session.stop_renewing,
            session.release,
            session.shut,
        ]
        for stage in stages:
            while True:
                try:
                    await stage()
                except asyncio.CancelledError:
                    self.hurry()
                    continue
                except Exception as error:
                    log_exception(f"the engine on {session.settings.url} is being closed", error)
                break

    async def _drain(self) -> None:
        """Let steps in flight finish, or cancel them; those that wait are left there."""
        moving = await self._drained(self._runs(), stop=False, seconds=self._grace)
        # A step that does not end even so must not keep the engine open.
        await self._drained(moving, stop=True, seconds=self._seconds_to_unwind())

    async def _drained(self, runs: list[Run], *, stop: bool, seconds: float) -> list[Run]:
        """Start no more steps of runs; return those of which steps are still in flight then."""
        drains = [asyncio.ensure_future(run._drain(stop=stop)) for run in runs]
        await self._wait(drains, seconds, is_hurried=not stop)
        return [run for run, drain in zip(runs, drains, strict=True) if drain.cancelled()]

    async def _let_go(self) -> None:
        # All of them first: the end of one must not be written as the end of those that it started.
        for run in self._runs():
            run._let_go()
        for run in self._runs():
            run._end_here()

    async def _unwind(self) -> None:
        end_of = self._session.executing.end_of
        ends = [asyncio.ensure_future(end_of(run.id)) for run in self._runs()]
        await self._wait(ends, self._seconds_to_unwind(), is_hurried=False)

    def _runs(self) -> list[Run]:
        return list(self._session.executing.live.values())

    def _seconds_to_unwind(self) -> float:
        return _UNWINDING if self._hurried.is_set() else max(self._grace, _UNWINDING)

    async def _wait(
        self, tasks: list[asyncio.Task[None]], seconds: float, *, is_hurried: bool
    ) -> None:
        """Wait for tasks, at most so long; then cancel those that are not done."""
        if not tasks:
            return
        everything = asyncio.ensure_future(asyncio.wait(tasks))
        hurried = asyncio.ensure_future(self._hurried.wait())
        waits = [everything, hurried] if is_hurried else [everything]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await stopped(everything, hurried, *(task for task in tasks if not task.done()))

"""Waiting for the ends of runs, whichever processes execute them.

The journal is asked which runs have ended since it was asked before, once for each change, not once
for each run. A waiter is woken when its run is among them: so waiting costs what ends.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from ..log import log_exception

if TYPE_CHECKING:
    from .session import Session

_ENDS_AT_ONCE = 1024
_AFTER_AN_ERROR = 0.5


class Followers:
    """The waiters of one open engine, by run."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        # The end behind which the journal is asked for more; none without a waiter.
        self._cursor: bytes | None = None
        self._beginning: asyncio.Future[None] | None = None
        self._polling = False
        self._poll_again = False

    async def end_of(self, run_id: str) -> tuple[dict[str, Any], bytes | None]:
        """Wait until a run is over or stranded; return its row and its outcome."""
        session = self._session
        while True:
            session.check_open()
            # The run is not awaited itself: a waiter for a result by id may go away.
            await session.executing.end_of(run_id)
            woken = self._follow(run_id)
            try:
                await self._begin()
                row, outcome = await session.journal_with(run_id).get(run_id)
                if row["status"] not in ("ready", "waiting", "paused"):
                    return row, outcome
                if run_id not in session.executing.live:
                    await woken
            finally:
                self._unfollow(run_id, woken)

    def look(self) -> None:
        """Another process has written: perhaps runs have ended."""
        if not self._waiting:
            # Runs that end before the next wait are found by reading the run itself.
            self._cursor = None
        elif self._polling:
            self._poll_again = True
        elif not self._session.is_closing:
            self._polling = True
            self._session.background.start(self._poll())

    def look_at(self, run_id: str) -> None:
        """Wake the waiters for a run."""
        for waiting in self._waiting.get(run_id, ()):
            if not waiting.done():
                waiting.set_result(None)

    def wake_all(self) -> None:
        """Wake all waiters: each looks at its run."""
        for run_id in list(self._waiting):
            self.look_at(run_id)

    def _follow(self, run_id: str) -> "asyncio.Future[None]":
        woken: asyncio.Future[None] = self._session.loop.create_future()
        self._waiting.setdefault(run_id, set()).add(woken)
        return woken

    def _unfollow(self, run_id: str, woken: "asyncio.Future[None]") -> None:
        waiting = self._waiting[run_id]
        waiting.discard(woken)
        if not waiting:
            del self._waiting[run_id]

    async def _begin(self) -> None:
        """Find out where the ends are now, before a run is looked at: none may come between."""
        while self._cursor is None:
            if self._beginning is None:
                self._beginning = self._session.loop.create_task(self._ask_for_the_cursor())
            await asyncio.shield(self._beginning)

    async def _ask_for_the_cursor(self) -> None:
        try:
            _, self._cursor, _, _ = await self._session.journal.ends(None, 0)
        finally:
            self._beginning = None

    async def _poll(self) -> None:
        try:
            more = True
            while more or self._poll_again:
                self._poll_again = False
                try:
                    more = await self._poll_once()
                except Exception as error:
                    log_exception("the ends of runs cannot be read", error)
                    await asyncio.sleep(_AFTER_AN_ERROR)
        finally:
            self._polling = False

    async def _poll_once(self) -> bool:
        if self._cursor is None:
            return False
        ends = await self._session.journal.ends(self._cursor, _ENDS_AT_ONCE)
        ended, self._cursor, more, has_missed = ends
        if has_missed:
            self.wake_all()
        for run_id in ended:
            self.look_at(run_id)
        return more

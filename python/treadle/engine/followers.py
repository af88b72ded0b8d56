"""Waiters for the ends of runs, whichever processes execute them; the core tells them."""

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .session import Session

End = tuple[dict[str, Any], bytes | None]


class Followers:
    """The waiters of one open engine, by run."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._waiting: dict[str, set[asyncio.Future[End]]] = {}

    async def end_of(self, run_id: str) -> End:
        """Wait until nothing more comes of a run; return its row and its outcome."""
        session = self._session
        # A run of this process may have begun just now.
        session.journal_with(run_id)
        told: asyncio.Future[End] = session.loop.create_future()
        waiting = self._waiting.setdefault(run_id, set())
        waiting.add(told)
        session.core.follow(run_id)
        try:
            return await told
        finally:
            if told in waiting:
                waiting.discard(told)
                session.core.unfollow(run_id)

    def tell(self, run_id: str, end: End) -> None:
        """Nothing more comes of a run."""
        for told in self._pop(run_id):
            told.set_result(end)

    def fail(self, run_id: str, error: BaseException) -> None:
        """A run cannot be looked at."""
        for told in self._pop(run_id):
            told.set_exception(error)

    def close(self) -> None:
        """The engine is closed."""
        for run_id in list(self._waiting):
            self.fail(run_id, self._session.closes())

    def _pop(self, run_id: str) -> list["asyncio.Future[End]"]:
        waiting = self._waiting.pop(run_id, set())
        told = [one for one in waiting if not one.done()]
        waiting.clear()
        return told

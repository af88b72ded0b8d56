"""Closing an engine: stage by stage, each of which may be begun again after it was cancelled."""

import asyncio
from typing import TYPE_CHECKING

from ..log import log_exception

if TYPE_CHECKING:
    from .session import Session


class Closing:
    """Hands the runs of an engine back, and closes its journal."""

    def __init__(self, session: "Session", grace: float) -> None:
        self._session = session
        self._grace = max(grace, 0)

    def hurry(self) -> None:
        """Give steps in flight no more time to finish: the waiter for the closing was cancelled."""
        self._grace = 0
        self._session.begin_to_close(self._grace)

    async def work(self) -> None:
        """Close the engine, whatever happens meanwhile."""
        session = self._session
        stages = [session.stop_opening, session.background.stop, self._hand_back, session.shut]
        for stage in stages:
            while True:
                try:
                    await stage()
                except asyncio.CancelledError:
                    self.hurry()
                    continue
                except Exception as error:
                    log_exception(f"the engine on {session.settings.shown} is being closed", error)
                break

    async def _hand_back(self) -> None:
        closed = self._session.begin_to_close(self._grace)
        if closed is not None:
            # The next try waits for it as well.
            await asyncio.shield(closed)

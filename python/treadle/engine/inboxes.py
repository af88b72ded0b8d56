"""The messages to the runs of this process."""

import asyncio
from typing import TYPE_CHECKING

from .._treadle import Journal
from ..log import log_exception

if TYPE_CHECKING:
    from .session import Session

_POLLED_AT_ONCE = 256
_AFTER_AN_ERROR = 0.5


class Inboxes:
    """Polls the inboxes of the runs of this process, and hands on what is new."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._cursor = 0
        self._polling = False
        self._poll_again = False

    def look(self) -> None:
        """Poll soon: there may be something new."""
        if self._polling:
            self._poll_again = True
        elif not self._session.is_closing:
            self._polling = True
            self._session.background.start(self._poll())

    async def _poll(self) -> None:
        journal = self._session.journal
        more = True
        try:
            while more or self._poll_again:
                self._poll_again = False
                try:
                    more = await self._poll_once(journal)
                except Exception as error:
                    # Nothing is lost: the cursor is where it was.
                    log_exception("the inboxes cannot be read", error)
                    await asyncio.sleep(_AFTER_AN_ERROR)
        finally:
            self._polling = False

    async def _poll_once(self, journal: Journal) -> bool:
        entries, cursor, more = await journal.poll(self._cursor, _POLLED_AT_ONCE)
        for run_id, number, name, kind, body in entries:
            self._take(run_id, number, name, kind, body)
        self._cursor = cursor
        return more

    def _take(self, run_id: str, number: int, name: bytes, kind: int, body: bytes) -> None:
        session = self._session
        run = session.executing.live.get(run_id)
        if run is None:
            session.takeover.was_sent_to(run_id)
            return
        try:
            classes = session.settings.classes[run.workflow]
            run._take_entry(number, name, kind, body, classes)
        except BaseException as error:
            # Unpickling may raise anything. It must keep no other message from its run.
            log_exception(f"an event for run {run_id} cannot be delivered", error)

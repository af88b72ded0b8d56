"""The messages to the runs of this process."""

from typing import TYPE_CHECKING

from ..exceptions import JournalError, TreadleError
from ..log import log_exception

if TYPE_CHECKING:
    from .session import Session

_POLLED_AT_ONCE = 256


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
        try:
            more = True
            while more or self._poll_again:
                self._poll_again = False
                entries, self._cursor, more = await journal.poll(self._cursor, _POLLED_AT_ONCE)
                for run_id, number, kind, body in entries:
                    self._take(run_id, number, kind, body)
        except JournalError as error:
            # Nothing is lost: what was not read now is there the next time.
            log_exception("the journal cannot be read", error)
        finally:
            self._polling = False

    def _take(self, run_id: str, number: int, kind: int, body: bytes) -> None:
        session = self._session
        run = session.executing.live.get(run_id)
        if run is None:
            session.takeover.was_sent_to(run_id)
            return
        try:
            run._take_entry(number, kind, body, session.settings.classes[run.workflow])
        except TreadleError as error:
            log_exception(f"an event for run {run_id} cannot be delivered", error)

"""The lease, by which other processes know that this one lives."""

from typing import TYPE_CHECKING

from .._treadle import Journal
from ..exceptions import JournalConflict, JournalError
from ..log import log_exception, logger
from ..pulse import Pulse

if TYPE_CHECKING:
    from .session import Session


class Lease:
    """Renews the lease of an open engine, and begins another one when it was lost."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._seconds = session.settings.lease
        # Runs were lost: perhaps the lease was.
        self.losses = Pulse()

    async def renew_always(self) -> None:
        """Renew the lease until cancelled."""
        journal = self._session.journal
        while True:
            await self.losses.after(self.losses.count, self._seconds / 3)
            try:
                await self._renew(journal)
            except JournalError as error:
                # As long as nobody takes the runs over, a later time will do.
                log_exception("the lease cannot be renewed", error)

    async def _renew(self, journal: Journal) -> None:
        session = self._session
        try:
            await journal.renew(self._seconds)
        except JournalConflict as lost:
            logger().warning("the lease was lost: other processes take the runs over")
            session.takeover.forget_claimed()
            for run in list(session.executing.live.values()):
                run._lose(lost)
            await journal.release()
            await journal.enlist(self._seconds)
            session.pulse.beat()

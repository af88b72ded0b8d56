"""Opening a journal without blocking the event loop."""

import asyncio
import threading
from collections.abc import Callable

from .._treadle import Journal


class Opening:
    """A journal that is opened in another thread: another process may have the file locked."""

    def __init__(self, make: Callable[[], Journal]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._opened: Journal | None = None
        self._is_abandoned = False

    async def journal(self) -> Journal:
        """Open the journal. If the caller is cancelled, it is closed as soon as it is open."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(None, self._open)
        except asyncio.CancelledError:
            with self._lock:
                self._is_abandoned = True
                opened, self._opened = self._opened, None
            if opened is not None:
                loop.run_in_executor(None, opened.close)
            raise
        assert self._opened is not None
        return self._opened

    def _open(self) -> None:
        journal = self._make()
        with self._lock:
            if not self._is_abandoned:
                self._opened = journal
                return
        journal.close()

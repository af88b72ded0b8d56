"""Reading the stream of a run that was started here and may be executed by any process."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from ..exceptions import UnknownRun
from ..runs import RunInfo
from . import looking

if TYPE_CHECKING:
    from .session import Session


class JournalReader:
    """Reads what the journal has, as a `StreamReader` reads the stream of a run in memory."""

    def __init__(self, session: "Session", run_id: str, after: int) -> None:
        self.position = after
        self._events = self._read(session, run_id)

    def __aiter__(self) -> "JournalReader":
        return self

    async def __anext__(self) -> Any:
        return await anext(self._events)

    async def _read(self, session: "Session", run_id: str) -> AsyncIterator[Any]:
        run = await info_once_written(session, run_id)
        async for number, event in looking.numbered_events(session, run, self.position):
            self.position = number
            yield event


async def info_once_written(session: "Session", run_id: str) -> RunInfo:
    """Return what the journal knows of a run that is about to be written."""
    while True:
        seen = session.pulse.count
        try:
            return await looking.info(session, run_id)
        except UnknownRun:
            await session.pulse.after(seen)

"""Runs that may be executed anywhere: what is known of them, and handles to them."""

import asyncio
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import Engine

# Seconds.
_SOONEST = 0.005
_LATEST = 0.2
_LOOK_AGAIN = 0.5


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a journal knows of a run. Times are in seconds since the Unix epoch.

    `status` is "ready" (it can go on at once), "waiting" (for an event or a time), "paused",
    "completed", "failed" or "cancelled".
    """

    id: str
    workflow: str
    key: str | None
    status: str
    created: float
    updated: float
    finished: float | None
    due: float | None
    owner: str | None
    epoch: int
    seq: int
    inbox: int
    published: int


class RunHandle:
    """A run by its id, whichever process executes it. Await it for the result."""

    def __init__(self, engine: "Engine", run_id: str) -> None:
        self._engine = engine
        self.id = run_id

    def __await__(self) -> Generator[Any, None, Any]:
        return self._result().__await__()

    async def _result(self) -> Any:
        engine = self._engine
        delay = _SOONEST
        while True:
            # The run is not awaited itself: whoever asks for a result by its id may go away.
            await engine._end_of(self.id)
            seen = engine._pulse.count
            outcome = await engine._outcome(self.id)
            if outcome is not None:
                return _result_of(self.id, *outcome)
            # Many may wait, and much may happen to others: each of them looks only now and then.
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, _LATEST)
            await engine._pulse.after(seen, _LOOK_AGAIN)

    async def info(self) -> RunInfo:
        """Return what the journal knows of the run.

        Raises:
            UnknownRun: there is no such run.
        """
        return await self._engine._info(self.id)

    async def history(self) -> list[dict[str, Any]]:
        """Return what happened to the run, a dict for each record that was not folded.

        `what` is "queued", "started", "finished", "retried", "received", "paused", "resumed" or
        "ended"; `seq` is the number of the record; the rest depends on what happened.

        Raises:
            UnknownRun: there is no such run.
        """
        return await self._engine._history(self.id)

    async def pause(self) -> None:
        """As `Engine.pause`."""
        await self._engine.pause(self.id)

    async def resume(self) -> None:
        """As `Engine.resume`."""
        await self._engine.resume(self.id)

    async def send_event(self, event: object, *, id: str | None = None) -> bool:
        """As `Engine.send_event`."""
        return await self._engine.send_event(self.id, event, id=id)

    async def cancel(self) -> None:
        """As `Engine.cancel`."""
        await self._engine.cancel(self.id)

    def stream_events(self, after: int = 0) -> AsyncIterator[Any]:
        """As `Engine.stream_events`."""
        return self._engine.stream_events(self.id, after)

    def __repr__(self) -> str:
        return f"<RunHandle {self.id}>"


def _result_of(run_id: str, status: str, value: Any) -> Any:
    if status == "failed":
        raise value
    if status == "cancelled":
        raise asyncio.CancelledError(f"run {run_id} was cancelled")
    return value

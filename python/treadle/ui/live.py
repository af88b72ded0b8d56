"""What changes, told as it happens: one stream for each tab, of all that it shows."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from ..exceptions import EngineClosed, TreadleError, UnknownRun
from .http import Receive
from .listing import MOST_ROWS, Listing
from .query import parsed
from .shared import Shared

if TYPE_CHECKING:
    from ..engine import Engine

# Seconds: how often the journal is asked when something changes, and when nothing does.
_SOON, _LATER = 0.25, 1.0
_PING = 15.0
# A server that stops waits for answers that are under way: no stream lasts longer, and the tab asks
# again.
_LASTS = 30.0


class Live:
    """The streams of the tabs. Tabs that show the same share what is read for them."""

    def __init__(self, engine: "Engine", listing: Listing, shared: Shared) -> None:
        self._engine = engine
        self._listing = listing
        self._shared = shared

    async def check(self, query: str | None, run_id: str | None) -> None:
        """Refuse what makes no sense, before the stream begins.

        Raises:
            Refused: the filter makes no sense.
            UnknownRun: there is no such run.
        """
        if query is not None:
            parsed(query)
        if run_id is not None:
            await self._engine.get(run_id).info()

    async def events(
        self, query: str | None, run_id: str | None, receive: Receive
    ) -> AsyncIterator[bytes]:
        """Yield events of a stream until the tab leaves, or a while has passed."""
        gone = asyncio.ensure_future(_disconnected(receive))
        seen: dict[str, Any] = {}
        until, pinged = time.monotonic() + _LASTS, time.monotonic()
        pause = _SOON
        try:
            yield b"retry: 1000\n\n"
            while time.monotonic() < until and not gone.done():
                pulse = self._engine._session().pulse
                count = pulse.count
                try:
                    told = [event async for event in self._news(query, run_id, seen)]
                except EngineClosed:
                    yield _event("closed", {})
                    return
                except TreadleError as error:
                    yield _event("problem", {"text": str(error)})
                    return
                for event in told:
                    yield event
                if told:
                    pause, pinged = _SOON, time.monotonic()
                elif time.monotonic() - pinged > _PING:
                    yield b": ping\n\n"
                    pinged = time.monotonic()
                else:
                    pause = min(pause * 1.5, _LATER)
                await asyncio.wait([gone], timeout=_SOON)
                await pulse.after(count, max(pause - _SOON, 0))
        finally:
            gone.cancel()

    async def _news(
        self, query: str | None, run_id: str | None, seen: dict[str, Any]
    ) -> AsyncIterator[bytes]:
        if query is not None:
            rows = await self._shared.ask(("page", query), _SOON / 2, lambda: self._page(query))
            known = seen.get("rows", {})
            fresh = [row for row in rows if known.get(row["id"]) != _mark(row)]
            seen["rows"] = {row["id"]: _mark(row) for row in rows}
            if fresh or "told" not in seen:
                seen["told"] = True
                yield _event("runs", {"runs": fresh, "now": time.time()})
        if run_id is not None:
            row = await self._shared.ask(("row", run_id), _SOON / 2, lambda: self._row(run_id))
            if row is None:
                if not seen.get("gone"):
                    seen["gone"] = True
                    yield _event("gone", {"run": run_id})
            elif seen.get("run") != _mark(row):
                seen["run"] = _mark(row)
                yield _event("run", {"run": row, "now": time.time()})

    async def _page(self, query: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = (await self._listing.page(query, None, MOST_ROWS))["runs"]
        return rows

    async def _row(self, run_id: str) -> dict[str, Any] | None:
        try:
            return await self._listing.row(await self._engine.get(run_id).info())
        except UnknownRun:
            return None


def _mark(row: dict[str, Any]) -> tuple[Any, ...]:
    names = (
        "status",
        "seq",
        "updated",
        "inbox",
        "published",
        "owner",
        "dead_letters",
        "is_damaged",
    )
    return tuple(row[name] for name in names)


def _event(name: str, data: dict[str, Any]) -> bytes:
    text = json.dumps(data, separators=(",", ":"))
    return f"event: {name}\ndata: {text}\n\n".encode()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

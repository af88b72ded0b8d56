"""Lists of runs: page by page behind a run, newest first, and counts up to a limit."""

import asyncio
import time
from typing import TYPE_CHECKING, Any

from ..exceptions import TreadleError
from ..runs import RunInfo
from .http import Refused
from .query import Query, lasted, parsed
from .shared import Shared
from .showing import Redact, Showing

if TYPE_CHECKING:
    from ..engine import Engine

MOST_COUNTED = 10_000
MOST_ROWS = 100
# What is made of rows holds the event loop: a few at a time leave room for others.
_AT_ONCE = 200
# How many runs one answer looks through for those that a filter takes.
_MOST_SCANNED = 2000
_MOST_TEXT = 200


class Listing:
    """The lists of the runs of a journal."""

    def __init__(self, engine: "Engine", redact: Redact | None, shared: Shared) -> None:
        self._engine = engine
        self._redact = redact
        self._shared = shared

    async def page(self, text: str, after: str | None, limit: int) -> dict[str, Any]:
        """Return the runs behind one, and the one behind which the next page begins.

        A filter that leaves out runs may give a page that is not full, and has a next one.
        """
        query = parsed(text)
        rows: list[dict[str, Any]] = []
        scanned, last, is_end = 0, after, False
        while len(rows) < limit and scanned < _MOST_SCANNED and not is_end:
            asked = _AT_ONCE if query.is_scan else limit
            infos = await self._engine.runs(after=last, limit=asked, **query.filters)
            is_end = len(infos) < asked
            now = time.time()
            for info in infos:
                last = info.id
                scanned += 1
                row = await self._taken(query, info, now)
                if row is not None:
                    rows.append(row)
                if len(rows) == limit:
                    # There may be more of these.
                    is_end = is_end and info is infos[-1]
                    break
        return {"runs": rows, "next": None if is_end else last, "scanned": scanned}

    async def _taken(self, query: Query, info: RunInfo, now: float) -> dict[str, Any] | None:
        if not query.takes(info, now):
            return None
        row = await self.row(info)
        if query.error is not None and query.error not in str(row["failure"]).casefold():
            return None
        return row

    async def rows(self, ids: list[str]) -> list[dict[str, Any]]:
        """Return runs by their ids; those that are not there are left out."""
        if len(ids) > MOST_ROWS:
            raise Refused(400, f"ids: at most {MOST_ROWS} expected, not {len(ids)}")
        found = await asyncio.gather(*map(self._row_of, ids))
        return [row for row in found if row is not None]

    async def _row_of(self, run_id: str) -> dict[str, Any] | None:
        try:
            return await self.row(await self._engine.get(run_id).info())
        except (TreadleError, ValueError):
            return None

    async def row(self, info: RunInfo) -> dict[str, Any]:
        """Return what a list says of a run."""
        shown = {**vars(info), "failure": None, "lasted": lasted(info, time.time())}
        del shown["result"], shown["error"]
        if info.status == "failed":
            failure = await self._shared.ask(
                ("failure", info.id, info.seq), 3600, lambda: self._failure(info)
            )
            shown["failure"] = failure
        elif info.status == "stranded":
            shown["failure"] = info.reason
        row: dict[str, Any] = Showing(self._redact, info.workflow).plain(shown)
        return row

    async def _failure(self, info: RunInfo) -> str | None:
        """Return the first line of what a run failed with."""
        journal = self._engine._session().journal
        row, outcome = await journal.get(info.id)
        if row["status"] != "failed":
            return None
        try:
            failure = journal.failure(info.id, row["seq"], outcome or b"")
        except TreadleError as error:
            return str(error)
        name = str(failure["class"]).rpartition(":")[2]
        text = str(failure.get("text", "")).partition("\n")[0]
        line = f"{name}: {text}" if text else name
        return line if len(line) <= _MOST_TEXT else f"{line[: _MOST_TEXT - 1]}…"

    async def count(self, text: str) -> dict[str, Any]:
        """Return how many runs there are, up to a limit."""
        query = parsed(text)
        if query.is_scan:
            # Nobody knows without looking at each of them.
            return {"count": None, "is_capped": False}
        count = await self._shared.ask(("count", text), 5, lambda: self._counted(query))
        return {"count": min(count, MOST_COUNTED), "is_capped": count > MOST_COUNTED}

    async def _counted(self, query: Query) -> int:
        count, last = 0, None
        while count <= MOST_COUNTED:
            infos = await self._engine.runs(after=last, limit=_AT_ONCE, **query.filters)
            count += len(infos)
            if len(infos) < _AT_ONCE:
                break
            last = infos[-1].id
        return count

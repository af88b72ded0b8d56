"""One run: what it is, its records, its states, its attempts and its stream."""

import asyncio
import json
import struct
from typing import TYPE_CHECKING, Any

from .._treadle import RunCourse
from ..engine import looking
from ..exceptions import DamagedRun, SnapshotError
from .http import Refused
from .listing import Listing
from .showing import Redact, Showing

if TYPE_CHECKING:
    from ..engine import Engine

MOST_RECORDS = 500
MOST_STREAM = 500
# Larger values are shown by their size, until they are asked for.
USUAL_BYTES, MOST_VALUE = 65_536, 8 << 20
# How many failures a timeline has, and how much of each.
_MOST_FAILURES = 500


class Reading:
    """Reads runs. Nothing is unpickled."""

    def __init__(self, engine: "Engine", redact: Redact | None, listing: Listing) -> None:
        self._engine = engine
        self._redact = redact
        self._listing = listing

    async def head(self, run_id: str) -> dict[str, Any]:
        """Return what is known of a run without reading its records, and how it ended."""
        session = self._engine._session()
        info = await self._engine.get(run_id).info()
        journal = session.journal_with(run_id)
        row, outcome = await journal.get(run_id)
        showing = Showing(self._redact, info.workflow)
        shown = await self._listing.row(info)
        shown["outcome"] = shown["trace"] = None
        shown["verified"] = journal.verifies
        if outcome is not None and row["status"] == "failed":
            shown["trace"] = self._trace(showing, journal.failure(run_id, row["seq"], outcome))
        elif outcome is not None and row["status"] == "completed":
            ending = (row["status"], run_id, row["seq"], outcome)
            shown["outcome"] = showing.plain(journal.peek_outcome(*ending, USUAL_BYTES))
        shown["letters"] = showing.plain(await looking.dead_letters(session, run_id))
        shown["first"] = await self._first(run_id)
        return shown

    async def _first(self, run_id: str) -> int | None:
        try:
            return (await self._engine._session().journal_with(run_id).segment(run_id, 0)).first
        except (DamagedRun, SnapshotError):
            return None

    def _trace(self, showing: Showing, failure: dict[str, Any]) -> dict[str, Any]:
        found = {name: failure[name] for name in failure}
        if "text" in found:
            found["text"] = showing.text("failure", str(found["text"]))
        if showing.text("failure", "") != "":
            found = {name: found[name] for name in ("class", "text") if name in found}
        trace: dict[str, Any] = showing.plain(found)
        return trace

    async def records(self, run_id: str, after: int, limit: int, most: int) -> dict[str, Any]:
        """Return records behind one, and the number behind which the next ones are."""
        info = await self._engine.get(run_id).info()
        lines = await self._engine.get(run_id).history(after=after, limit=limit, most_bytes=most)
        last = lines[-1]["seq"] if len(lines) == limit else None
        shown = Showing(self._redact, info.workflow).plain(lines)
        return {"records": shown, "next": last, "last": info.seq}

    async def state(self, run_id: str, at: int | None, most: int) -> dict[str, Any]:
        """Return the run behind a record, or as it is now."""
        found = await self._engine.get(run_id).inspect(at=at, most_bytes=most)
        shown: dict[str, Any] = Showing(self._redact, found["workflow"]).plain(found)
        return shown

    async def diff(self, run_id: str, a: int, b: int, most: int) -> dict[str, Any]:
        """Return what differs between two records."""
        info = await self._engine.get(run_id).info()
        found = await self._engine.get(run_id).diff(a, b, most_bytes=most)
        shown: dict[str, Any] = Showing(self._redact, info.workflow).plain(found)
        return shown

    async def why(self, run_id: str) -> list[dict[str, Any]]:
        """Return why a run waits."""
        info = await self._engine.get(run_id).info()
        shown: list[dict[str, Any]] = Showing(self._redact, info.workflow).plain(
            await self._engine.get(run_id).why()
        )
        return shown

    async def stream(self, run_id: str, after: int, limit: int) -> dict[str, Any]:
        """Return what a run has published behind an event, as far as it is kept."""
        session = self._engine._session()
        info = await self._engine.get(run_id).info()
        journal = session.journal_with(run_id)
        entries, missed, published, _ = await journal.read_stream(run_id, after, limit)
        events = [
            {"number": number, **journal.peek_published(run_id, number, body, USUAL_BYTES)}
            for number, body in entries
        ]
        shown = Showing(self._redact, info.workflow).plain(events)
        return {"events": shown, "missed": missed, "published": published}

    async def course(self, run_id: str) -> bytes:
        """Return the attempts of a run: the length of a head, the head in JSON, and columns."""
        journal = self._engine._session().journal_with(run_id)
        info = await self._engine.get(run_id).info()
        course, loop, after = RunCourse(), asyncio.get_running_loop(), 0
        while True:
            part = await journal.segment(run_id, after)
            # The parts of a long history take a while.
            await loop.run_in_executor(None, course.add, part, journal)
            if part.end <= after or part.end >= part.last:
                break
            after = part.end
        is_completed = info.status == "completed"
        found = await loop.run_in_executor(
            None, course.columns, is_completed, info.finished, info.created, _MOST_FAILURES
        )
        columns: bytes = found.pop("columns")
        showing = Showing(self._redact, info.workflow)
        failures = [(place, showing.text("failure", text)) for place, text in found.pop("failures")]
        facts = {"created": info.created, "finished": info.finished, "updated": info.updated}
        head = json.dumps({**found, **facts, "failures": failures, "last": part.end}).encode()
        # The columns begin at a multiple of eight, as a browser wants them.
        head += b" " * (-(len(head) + 4) % 8)
        return struct.pack("<I", len(head)) + head + columns

    async def export(self, run_id: str) -> bytes:
        """Return an archive of a run.

        Raises:
            Refused: values of it are redacted, and an archive has them all.
        """
        if self._redact is not None:
            raise Refused(403, "an archive has all values of a run, and this page redacts some")
        return await self._engine.export(run_id)

"""Archives: all that a journal has of a run, as one file."""

from typing import TYPE_CHECKING

from .._treadle import archive
from ..exceptions import JournalError
from . import looking

if TYPE_CHECKING:
    from .session import Session

_TRIES = 20


async def exported(session: "Session", run_id: str) -> bytes:
    """Return the bytes of an archive of a run, as it is at one of its records."""
    for _ in range(_TRIES):
        journal = session.journal_with(run_id)
        row, outcome = await journal.get(run_id)
        letters = list(await journal.dead_letters(run_id))
        loaded = await journal.load(run_id)
        part = await journal.segment(run_id, 0)
        parts = []
        while part.folded < loaded.folded:
            parts.append(part)
            part = await journal.segment(run_id, part.end)
        stream = await looking.kept_stream(session, run_id)
        now, _ = await journal.get(run_id)
        is_same = all(now[name] == row[name] for name in ("seq", "status", "updated", "inbox"))
        if is_same and loaded.last == row["seq"] and len(letters) == row["dead_letters"]:
            return archive([*parts, loaded], outcome, stream, letters)
    raise JournalError(f"run {run_id} moves on all the time: pause it to export it")

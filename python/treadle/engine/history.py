"""The history of a run: its records, the run behind any of them, and why it waits."""

from typing import TYPE_CHECKING, Any

from ..reasons import sentence

if TYPE_CHECKING:
    from .session import Session


async def lines(
    session: "Session", run_id: str, after: int, limit: int | None, most: int | None
) -> list[dict[str, Any]]:
    """Return what happened to a run, part by part of its history."""
    journal = session.journal_with(run_id)
    found: list[dict[str, Any]] = []
    while True:
        part = await journal.segment(run_id, after)
        left = None if limit is None else limit - len(found)
        found += part.timeline(journal, after, most, left)
        if limit is not None and len(found) >= limit:
            return found[:limit]
        if part.end <= after or part.end >= part.last:
            return found
        after = part.end


async def at_record(
    session: "Session", run_id: str, at: int | None, most: int | None
) -> dict[str, Any]:
    """Return a run as plain objects, behind a record or as it is now."""
    journal = session.journal_with(run_id)
    loaded = await (journal.load(run_id) if at is None else journal.segment(run_id, at))
    return {"record": loaded.end if at is None else at, **loaded.inspect(journal, at, most)}


async def diff(session: "Session", run_id: str, a: int, b: int, most: int | None) -> dict[str, Any]:
    """Return what differs between the run behind record `a` and behind record `b`."""
    journal = session.journal_with(run_id)
    before, after = await journal.segment(run_id, a), await journal.segment(run_id, b)
    return after.diff(journal, b, before, a, most)


async def why(session: "Session", run_id: str) -> list[dict[str, Any]]:
    """Return why a run waits, or does not continue."""
    journal = session.journal_with(run_id)
    row, _ = await journal.get(run_id)
    if row["status"] in ("stranded", "copying"):
        # What is damaged, or not all here, cannot be loaded.
        reasons: list[dict[str, Any]] = [{"kind": row["status"], "reason": row["reason"]}]
    else:
        reasons = (await journal.load(run_id)).why(journal)
    return [{**reason, "text": sentence(reason)} for reason in reasons]

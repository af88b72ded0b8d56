"""Facts about the runs of a journal, for people."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from ..events import Lagged
from ..exceptions import DamagedRun, RunStranded, SnapshotError, TreadleError
from ..runs import RunInfo
from . import history

if TYPE_CHECKING:
    from .session import Session

_READ_AT_ONCE = 256
_LOOK_AGAIN = 0.1


async def info(session: "Session", run_id: str) -> RunInfo:
    """Return what the journal knows of a run without reading its records."""
    row, _ = await session.journal_with(run_id).get(run_id)
    return RunInfo(**row)


async def story(session: "Session", run_id: str) -> dict[str, Any]:
    """Return all that the journal knows of a run, as names, tags and sizes.

    Of a damaged run what can be read; `unreadable` says what cannot.
    """
    journal = session.journal_with(run_id)
    row, outcome = await journal.get(run_id)
    status, seq = row["status"], row["seq"]
    is_over = outcome is not None
    shown: dict[str, Any] = {
        **row,
        "verified": journal.verifies,
        "undelivered": await dead_letters(session, run_id),
        "outcome": journal.peek_outcome(status, run_id, seq, outcome or b"") if is_over else None,
        "failure": journal.failure(run_id, seq, outcome or b"")
        if is_over and status == "failed"
        else None,
        "unreadable": None,
    }
    try:
        loaded = await journal.load(run_id)
        shown |= {
            "folded": (await journal.segment(run_id, 0)).first,
            "history": await history.lines(session, run_id, 0, None, None),
            "now": loaded.inspect(journal),
        }
    except (DamagedRun, SnapshotError) as error:
        if row["status"] not in ("stranded", "copying"):
            raise
        shown |= {"folded": 0, "history": [], "now": None, "unreadable": str(error)}
    return shown


async def dead_letters(session: "Session", run_id: str) -> list[dict[str, Any]]:
    """Return the messages to a run that could not be delivered, as names, tags and sizes."""
    journal = session.journal_with(run_id)
    letters = []
    for number, name, kind, at, body, why in await journal.dead_letters(run_id):
        letter = {"number": number, "kind": kind, "at": at, "size": len(body), "why": why}
        try:
            letter["event"] = journal.peek_message(run_id, name, kind, body)
        except TreadleError:
            # It may be undeliverable because it is damaged.
            letter["event"] = None
        letters.append(letter)
    return letters


async def kept_stream(session: "Session", run_id: str) -> list[tuple[int, bytes]]:
    """Return what is kept of what a run has published so far."""
    kept: list[tuple[int, bytes]] = []
    last, published = 0, 1
    while last < published:
        entries, missed, published, _ = await session.journal.read_stream(
            run_id, last, _READ_AT_ONCE
        )
        kept += entries
        last = entries[-1][0] if entries else max(last + missed, published)
    return kept


async def stream(
    session: "Session", run_id: str, after: int
) -> AsyncIterator[tuple[int, list[tuple[int, bytes]]]]:
    """Yield what a run publishes until it is over: how many entries are not kept, then the next."""
    while True:
        journal, seen = session.journal_with(run_id), session.pulse.count
        entries, missed, _, ended = await journal.read_stream(run_id, after, _READ_AT_ONCE)
        after = entries[-1][0] if entries else after + missed
        if entries or missed:
            yield missed, entries
        elif ended:
            row, _ = await journal.get(run_id)
            if row["status"] == "stranded":
                raise RunStranded(run_id, row["reason"])
            return
        else:
            await session.pulse.after(seen, _LOOK_AGAIN)


async def numbered_events(
    session: "Session", run: RunInfo, after: int
) -> AsyncIterator[tuple[int, Any]]:
    """Yield the events that a run publishes until it is over, each with the number of the last."""
    classes = session.settings.classes.get(run.workflow, {})
    async for missed, entries in stream(session, run.id, after):
        if missed:
            after += missed
            yield after, Lagged(missed=missed)
        for number, body in entries:
            after = number
            yield number, session.journal.published(run.id, number, body, classes)


async def events(session: "Session", run: RunInfo, after: int) -> AsyncIterator[Any]:
    """Yield the events that a run publishes until it is over."""
    async for _, event in numbered_events(session, run, after):
        yield event


async def peek_stream(session: "Session", run_id: str, after: int) -> AsyncIterator[dict[str, Any]]:
    """Yield what a run publishes, as names, tags and sizes; `missed` says what is not kept."""
    await info(session, run_id)
    async for missed, entries in stream(session, run_id, after):
        if missed:
            yield {"missed": missed}
        for number, body in entries:
            yield {"number": number, **session.journal.peek_published(run_id, number, body)}


async def problems(session: "Session", run: RunInfo) -> list[str]:
    """List why this code could not continue a run."""
    if run.status == "stranded":
        return [f"stranded: {run.reason}"]
    workflow = session.settings.workflows.get(run.workflow)
    if workflow is None:
        return [f"the engine has no workflow {run.workflow!r}"]
    journal = session.journal
    try:
        loaded = await journal.load(run.id)
        classes = session.settings.classes[run.workflow]
        return list(loaded.problems(journal, workflow._plan, classes))
    except TreadleError as error:
        return [str(error)]

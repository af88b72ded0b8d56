"""The course of a run: its records, put together to attempts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

HEAD = ("record", "delivery", "step", "event", "attempt", "began", "seconds", "end")
_MOST = 100
_OF_THE_RUN = {
    "paused": "the run was paused",
    "resumed": "the run was resumed",
    "ended": "the run ended",
}


@dataclass
class Attempt:
    """One attempt of a step for one event."""

    record: int
    delivery: int
    step: str | None
    event: str
    number: int = 1
    began: float | None = None
    ended: float | None = None
    end: str = "queued"

    def row(self, created: float) -> tuple[object, ...]:
        """Show it as a row of a table, for a run that was made then."""
        seconds = self.ended - self.began if self.began and self.ended else None
        return (
            self.record,
            self.delivery,
            self.step or "?",
            self.event,
            self.number,
            f"+{max(self.began - created, 0):.3f}" if self.began else "",
            "" if seconds is None else f"{max(seconds, 0):.3f}",
            self.end if len(self.end) <= _MOST else self.end[: _MOST - 1] + "…",
        )


def attempts(story: dict[str, Any]) -> list[Attempt]:
    """Return the attempts of a run in the order of their beginning."""
    finished = story["finished"]
    found: list[Attempt] = []
    # The last attempt of each delivery.
    last: dict[int, Attempt] = {}
    for record in story["history"]:
        delivery, what = record.get("delivery"), record["what"]
        if what == "queued":
            attempt = Attempt(record["seq"], record["delivery"], record["step"], record["event"])
            attempt.number = record.get("attempt", 1)
            attempt.began = record.get("since") if attempt.number == 1 else None
            last[attempt.delivery] = attempt
            found.append(attempt)
        elif delivery in last:
            last[delivery] = _after(last[delivery], record, found)
    running = [attempt for attempt in last.values() if attempt.end == "running"]
    is_last = len(running) == 1 and story["status"] == "completed"
    for attempt in last.values():
        if attempt.end == "running" and finished is not None:
            attempt.end = "ended the run" if is_last else "running when the run ended"
            attempt.ended = finished
        elif attempt.end == "queued" and finished is not None:
            attempt.end = "queued when the run ended"
    return found


def _after(attempt: Attempt, record: dict[str, Any], found: list[Attempt]) -> Attempt:
    what, at = record["what"], record.get("at") or None
    if what == "started":
        if attempt.end == "running":
            # The process was lost in the middle, or the run was paused: the body runs again.
            attempt.end = "begun again"
            attempt = _next(attempt, record, found, attempt.number)
        elif attempt.end != "queued":
            attempt = _next(attempt, record, found, attempt.number + 1)
        attempt.began, attempt.end = at, "running"
    elif what == "retried":
        attempt.ended, attempt.end = at, _failure(record["failure"])
    elif what == "finished":
        attempt.ended, attempt.end = at, "finished"
    return attempt


def _next(attempt: Attempt, record: dict[str, Any], found: list[Attempt], number: int) -> Attempt:
    after = Attempt(record["seq"], attempt.delivery, attempt.step, attempt.event, number)
    found.append(after)
    return after


def _failure(text: str) -> str:
    # The number of the attempt has a column of its own.
    return text.partition(": ")[2] if text.startswith("attempt ") else text


def others(history: list[dict[str, Any]]) -> Iterator[tuple[int, str]]:
    """Yield what happened to the run itself, and what its steps received: number and text."""
    for record in history:
        if record["what"] in _OF_THE_RUN:
            yield record["seq"], _OF_THE_RUN[record["what"]]
        elif record["what"] == "received":
            yield record["seq"], f"delivery {record['delivery']} received {record['event']}"

"""Looking at a snapshot without trusting it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ._treadle import _inspect


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What is in a snapshot. Nothing of it was verified, imported or unpickled.

    Attributes:
        run: the run's id.
        workflow: the workflow's name.
        version: the version of the format.
        size: bytes of the snapshot.
        key: the id of the key that it says it is signed with; `None` if it is not signed.
        is_intact: whether the checksum of an unsigned snapshot matches; `None` if it is signed.
        status: "running" or "paused".
        created: when the run began, in seconds since the Unix epoch, if that is known.
        deadline: when the run has taken too long, likewise.
        steps: the names of the workflow's steps.
        published: how many events the run has published.
        state: key, tag, type and size of each value.
        pending: deliveries that are not done: step, attempt, event with the tag and size of each
            field, when it is due, earlier failures, events received, number of events sent.
        waits: who waits for which class of events, or sleeps, and until when.
        groups: events that steps collect: how many are expected, how many are there.
        kept: events from outside that no waiter has taken yet.
        held: deferred events: they came while the run was paused, or before a step waited again.
    """

    run: str
    workflow: str
    version: int
    size: int
    key: str | None
    is_intact: bool | None
    status: str
    created: float | None
    deadline: float | None
    steps: list[str]
    published: int
    state: list[dict[str, Any]]
    pending: list[dict[str, Any]]
    waits: list[dict[str, Any]]
    groups: list[dict[str, Any]]
    kept: list[dict[str, Any]]
    held: list[dict[str, Any]]

    def __str__(self) -> str:
        return "\n".join([*self._head(), *lines_of(vars(self))])

    def _head(self) -> list[str]:
        if self.key is not None:
            trust = f"signed with key {self.key}, not verified"
        else:
            trust = "not signed, intact" if self.is_intact else "not signed, DAMAGED"
        return [
            f"run {self.run} of workflow {self.workflow!r}: {self.status}",
            f"format {self.version}, {self.size} bytes, {trust}",
            f"steps: {', '.join(self.steps)}",
            *([f"began {moment(self.created)}"] if self.created else []),
            *([f"has until {moment(self.deadline)}"] if self.deadline else []),
            f"published: {self.published} events",
        ]


def inspect(snapshot: bytes) -> Inspection:
    """Look at a snapshot: nothing of it is trusted, imported or unpickled.

    Raises:
        SnapshotError: the bytes are not a snapshot.
        TypeError: they are not bytes.
    """
    if not isinstance(snapshot, (bytes, bytearray, memoryview)):
        raise TypeError(f"snapshot: bytes expected, not {type(snapshot).__name__}")
    return Inspection(**_inspect(bytes(snapshot)))


def lines_of(run: dict[str, Any]) -> list[str]:
    """Show the parts of a run, a line each."""
    lines = [f"state: {len(run['state'])} keys"]
    lines += [f"  {value['key']}: {shown(value)}" for value in run["state"]]
    lines.append(f"pending: {len(run['pending'])} deliveries")
    for pending in run["pending"]:
        due = f", due {moment(pending['due'])}" if pending["due"] else ""
        lines.append(
            f"  {pending['delivery']}: {_event(pending)} for step {pending['step']!r}, "
            f"attempt {pending['attempt']}{due}"
        )
        lines += [f"    {failure}" for failure in pending["failures"]]
        lines += [f"    received {_event(event)}" for event in pending["received"]]
    for wait in run["waits"]:
        what = f"waits for {wait['class']}" if wait["class"] else "sleeps"
        until = f" until {moment(wait['due'])}" if wait["due"] else ""
        lines.append(f"  {wait['delivery']}: {what}{until}")
    for group in run["groups"]:
        named = f" as {group['key']!r}" if group["key"] is not None else ""
        lines.append(
            f"collects: step {group['step']!r}{named}, "
            f"{group['collected']} of {group['expected']} events"
        )
    for name in ("kept", "held"):
        lines += [f"{name}: {_event(event)}" for event in run[name]]
    return lines


def _event(event: dict[str, Any]) -> str:
    fields = event.get("fields", {})
    parts = ", ".join(f"{name}: {shown(value)}" for name, value in fields.items())
    inside = parts if "fields" in event else shown(event["whole"])
    return f"{event['class']}({inside})"


# What a line shows of a JSON value.
_MOST = 80


def shown(value: dict[str, Any]) -> str:
    """Show a value by its tag, its type and its size, or as JSON text if that is there."""
    if "json" in value:
        text: str = value["json"]
        return text if len(text) <= _MOST else f"{text[: _MOST - 1]}…"
    type_name = f" {value['type']}" if value["type"] else ""
    return f"{value['tag']}{type_name}, {value['size']} B"


def brief(seconds: float) -> str:
    """Show a time in a table, where it may be broken in two."""
    return moment(seconds).replace("T", " ").replace("+00:00", "Z")


def moment(seconds: float) -> str:
    """Show a time."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError):
        return f"{seconds} s"

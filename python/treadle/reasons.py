"""Why a run waits, in words."""

from collections.abc import Callable
from typing import Any

from .inspection import moment


def sentence(reason: dict[str, Any]) -> str:
    """Say one of the reasons that `RunHandle.why` returns."""
    return _SENTENCES[reason["kind"]](reason)


def _over(it: dict[str, Any]) -> str:
    return f"it is over: {it['status']}"


def _stranded(it: dict[str, Any]) -> str:
    return f"no process continues it until it is retried: {it['reason']}"


def _copying(it: dict[str, Any]) -> str:
    reason = f": {it['reason']}" if it["reason"] else ""
    return f"no process continues it until `python -m treadle copy` has ended{reason}"


def _executed(it: dict[str, Any]) -> str:
    here = ", which is this one" if it["is_here"] else ""
    return f"process {it['process']} executes it{here}"


def _not_taken(it: dict[str, Any]) -> str:
    text = "no process has taken it: an engine with its workflow, and with room for it, is needed"
    if it["not_before"]:
        text += f"; not before {moment(it['not_before'])}, since it lost its processes"
    if it["refused"]:
        text += f"; a process could not continue it: {it['refused']}"
    return text


def _inbox(it: dict[str, Any]) -> str:
    one = it["messages"] == 1
    return f"{it['messages']} message{'' if one else 's'} to it {'is' if one else 'are'} not taken"


def _event(it: dict[str, Any]) -> str:
    return f"{_step(it)} waits for an event {it['class']}{_until(it['due'])}"


def _sleep(it: dict[str, Any]) -> str:
    return f"{_step(it)} sleeps{_until(it['due'])}"


def _retry(it: dict[str, Any]) -> str:
    failure = f"; {it['failure']}" if it["failure"] else ""
    return f"{_step(it)} is tried again at {moment(it['due'])}, attempt {it['attempt']}{failure}"


def _child(it: dict[str, Any]) -> str:
    workflow = f" of workflow {it['workflow']!r}" if it["workflow"] else ""
    return f"{_step(it)} has started run {it['child']}{workflow}, which has not ended"


def _running(it: dict[str, Any]) -> str:
    attempt = f", attempt {it['attempt']}" if it["attempt"] > 1 else ""
    return f"{_step(it)} has been running since {moment(it['since'])}{attempt}"


def _queued(it: dict[str, Any]) -> str:
    return f"{_step(it)} has not begun: an event {it['class']} is queued for it"


def _collecting(it: dict[str, Any]) -> str:
    named = f" as {it['key']!r}" if it["key"] is not None else ""
    return (
        f"step {it['step']!r} collects events{named}: {it['collected']} there, "
        f"missing {_counted(it['events'])}"
    )


def _deferred(it: dict[str, Any]) -> str:
    return f"deferred events: {_counted(it['events'])}"


def _kept(it: dict[str, Any]) -> str:
    return f"kept events that nothing waits for: {_counted(it['events'])}"


def _deadline(it: dict[str, Any]) -> str:
    return f"it has time until {moment(it['at'])}"


_SENTENCES: dict[str, Callable[[dict[str, Any]], str]] = {
    "over": _over,
    "stranded": _stranded,
    "copying": _copying,
    "paused": lambda _: "it is paused: no step starts until it is resumed",
    "executed": _executed,
    "not taken": _not_taken,
    "inbox": _inbox,
    "event": _event,
    "sleep": _sleep,
    "retry": _retry,
    "child": _child,
    "running": _running,
    "queued": _queued,
    "collecting": _collecting,
    "deferred": _deferred,
    "kept": _kept,
    "deadline": _deadline,
}


def _step(it: dict[str, Any]) -> str:
    return f"step {it['step']!r} (delivery {it['delivery']})"


def _until(due: float | None) -> str:
    return f" until {moment(due)}" if due else ""


def _counted(events: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" if count > 1 else name for name, count in events.items())

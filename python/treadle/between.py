"""Runs in memory, found by their ids: for those who send events to them."""

import weakref
from collections.abc import Iterable
from typing import Any

from ._treadle import Run
from .exceptions import RunEnded, UnknownRun
from .log import log_exception

_known: "weakref.WeakValueDictionary[str, Run]" = weakref.WeakValueDictionary()


def remember(run: Run, run_id: str) -> None:
    """Note a run whose id was asked for: only its id tells others of it."""
    _known[run_id] = run


def check(run_ids: Iterable[str], sender: str) -> None:
    """Refuse to send to runs in memory that are not there, or are over.

    Raises:
        UnknownRun: One is not in this process.
        RunEnded: One is over.
    """
    for run_id in run_ids:
        run = _known.get(run_id)
        if run is None:
            raise UnknownRun(
                f"send_event: run {sender} sends to run {run_id}, and no run in the memory of this "
                f'process has this id; missing="ignore" sends nothing then'
            )
        if run.status in ("completed", "failed", "cancelled"):
            raise ended(run_id, sender)


def ended(run_id: str, sender: str) -> RunEnded:
    """Return the error of a step that sends to a run that is over."""
    error = RunEnded(
        f"send_event: run {sender} sends to run {run_id}, which is over; "
        f'missing="ignore" sends nothing then'
    )
    error.run_id = run_id
    return error


def deliver(events: Iterable[tuple[str, Any, bool]], sender: str) -> None:
    """Give events to runs in memory; log those that were not to be lost and have come too late."""
    for run_id, event, is_needed in events:
        run = _known.get(run_id)
        try:
            if run is not None:
                run.send_event(event)
            elif is_needed:
                raise UnknownRun(f"run {run_id} is not in this process any more")
        except Exception as error:
            if is_needed:
                log_exception(f"an event of run {sender} for run {run_id} was lost", error)

"""What the command line does to runs: starting them, sending to them, pausing and deleting them."""

import dataclasses
import json
import typing
from collections.abc import Sequence
from typing import Any

from .commands import DONE, WrongUse, engine_with, load
from .engine import Engine
from .engine.edits import fits
from .events import Event
from .tables import say
from .workflow import Workflow


def start(url: str, target: str, fields: Sequence[str], key: str | None) -> int:
    """Write a run that any process of the journal may execute; print its id."""
    workflow = load(target)
    if not isinstance(workflow, Workflow):
        raise WrongUse(f"{target} is not a Workflow, but {workflow!r}")
    given = assigned(fields)

    async def work(engine: Engine) -> int:
        try:
            event = workflow._first_event(None, given)
        except TypeError as error:
            raise WrongUse(f"{target}: {error}") from error
        say(await engine.submit(workflow, event, key=key))
        return DONE

    return engine_with(url, work)


def send(url: str, run_id: str, target: str, fields: Sequence[str], id: str | None) -> int:
    """Send an event to a run, whichever process executes it."""
    event = _event(target, assigned(fields))

    async def work(engine: Engine) -> int:
        is_new = await engine.send_event(run_id, event, id=id)
        say(f"sent to run {run_id}" if is_new else f"run {run_id} was sent {id!r} before")
        return DONE

    return engine_with(url, work)


def pause(url: str, run_id: str) -> int:
    """Request that the owner of a run pauses it."""

    async def work(engine: Engine) -> int:
        await engine.pause(run_id)
        say(f"run {run_id} is paused by whoever executes it")
        return DONE

    return engine_with(url, work)


def resume(url: str, run_id: str) -> int:
    """Request that a paused run continues."""

    async def work(engine: Engine) -> int:
        await engine.resume(run_id)
        say(f"run {run_id} is resumed by whoever executes it")
        return DONE

    return engine_with(url, work)


def delete(url: str, run_id: str) -> int:
    """Delete a run, and all that the journal has of it."""

    async def work(engine: Engine) -> int:
        await engine.delete(run_id)
        say(f"run {run_id} is deleted")
        return DONE

    return engine_with(url, work)


def fork(
    url: str,
    run_id: str,
    at: int | None,
    set_keys: Sequence[str],
    remove: Sequence[str],
    set_fields: Sequence[str],
) -> int:
    """Create a new run that continues from a point of another one; print its id."""
    state, events = assigned(set_keys), _of_deliveries(set_fields)

    async def work(engine: Engine) -> int:
        try:
            forked = await engine.fork(run_id, at=at, state=state, remove=remove, events=events)
        except TypeError as error:
            raise WrongUse(str(error)) from error
        say(forked.id)
        return DONE

    return engine_with(url, work)


def graph(target: str) -> int:
    """Print the graph of a workflow, for Mermaid."""
    workflow = load(target)
    if not isinstance(workflow, Workflow):
        raise WrongUse(f"{target} is not a Workflow, but {workflow!r}")
    print(workflow.to_mermaid(), end="")
    return DONE


def assigned(pairs: Sequence[str]) -> dict[str, Any]:
    """Read NAME=VALUE: a value is JSON, or else a text as it stands."""
    values: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name:
            raise WrongUse(f"NAME=VALUE expected, not {pair!r}")
        if name in values:
            raise WrongUse(f"{name!r} is given twice")
        values[name] = _json_or_text(text)
    return values


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _of_deliveries(pairs: Sequence[str]) -> dict[int, dict[str, Any]]:
    events: dict[int, dict[str, Any]] = {}
    for place, value in assigned(pairs).items():
        number, dot, field = place.partition(".")
        if not dot or not field or not number.isdecimal():
            raise WrongUse(f"DELIVERY.FIELD=VALUE expected, such as 3.amount=10, not {place!r}")
        events.setdefault(int(number), {})[field] = value
    return events


def _event(target: str, fields: dict[str, Any]) -> Event:
    cls = load(target)
    if not isinstance(cls, type) or not issubclass(cls, Event):
        raise WrongUse(f"{target} is not a class of events, but {cls!r}")
    hints = _hints(cls)
    for name, value in fields.items():
        if name in hints and not fits(value, hints[name]):
            raise WrongUse(f"{target}: {name} is {hints[name]}, not {value!r}")
    try:
        return cls(**fields)
    except TypeError as error:
        raise WrongUse(f"{target}: {error}") from error


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls) if dataclasses.is_dataclass(cls) else {}
    except Exception:
        # Annotations that only a type checker can resolve.
        return {}

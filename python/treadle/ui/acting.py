"""What changes runs: each action is checked, carried out, and logged with its user."""

import dataclasses
import typing
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..engine.edits import fits
from ..events import Event
from ..log import logger
from .http import Refused, Request, Scope

if TYPE_CHECKING:
    from ..engine import Engine


class Acting:
    """The actions of a page on the runs of a journal."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._of: dict[str, Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "cancel": self._cancel,
            "pause": self._pause,
            "resume": self._resume,
            "retry": self._retry,
            "fork": self._fork,
            "send": self._send,
            "delete": self._delete,
        }

    async def act(
        self, request: Request, allowed: frozenset[str], run_id: str, action: str
    ) -> dict[str, Any]:
        """Carry out an action.

        Raises:
            Refused: it may not be taken, or there is none of this name, or it makes no sense.
        """
        work = self._of.get(action)
        if work is None:
            raise Refused(404, f"there is no action {action!r}")
        if action not in allowed:
            raise Refused(403, f"this page may not {action} runs")
        given = {} if request.method == "DELETE" else await request.json()
        user = _user(request.scope)
        try:
            done = await work(run_id, given)
        except Exception as error:
            logger().warning("ui: %s: %s run %s: %s", user, action, run_id, type(error).__name__)
            raise
        logger().info("ui: %s: %s run %s", user, action, run_id)
        return done

    async def _cancel(self, run_id: str, given: dict[str, Any]) -> dict[str, Any]:
        _only(given)
        await self._engine.cancel(run_id)
        return {}

    async def _pause(self, run_id: str, given: dict[str, Any]) -> dict[str, Any]:
        _only(given)
        await self._engine.pause(run_id)
        return {}

    async def _resume(self, run_id: str, given: dict[str, Any]) -> dict[str, Any]:
        _only(given)
        await self._engine.resume(run_id)
        return {}

    async def _retry(self, run_id: str, given: dict[str, Any]) -> dict[str, Any]:
        _only(given)
        await self._engine.retry(run_id)
        return {}

    async def _delete(self, run_id: str, given: dict[str, Any]) -> dict[str, Any]:
        _only(given)
        await self._engine.delete(run_id)
        return {}

    async def _fork(self, run_id: str, given: dict[str, Any]) -> dict[str, Any]:
        _only(given, at=(int, type(None)), events=dict, state=dict, remove=list)
        events = {}
        for delivery, fields in given.get("events", {}).items():
            if not delivery.isdecimal() or len(delivery) > 19:
                raise Refused(400, f"events: the number of a delivery expected, not {delivery!r}")
            events[int(delivery)] = fields
        forked = await self._engine.fork(
            run_id,
            at=given.get("at"),
            events=events,
            state=given.get("state", {}),
            remove=given.get("remove", []),
        )
        return {"run": forked.id}

    async def _send(self, run_id: str, given: dict[str, Any]) -> dict[str, Any]:
        _only(given, event=str, fields=dict, id=(str, type(None)))
        if "event" not in given:
            raise Refused(400, "event: the class of an event expected")
        info = await self._engine.get(run_id).info()
        cls = self._class(info.workflow, given["event"])
        event = _made(cls, given.get("fields", {}))
        is_new = await self._engine.send_event(run_id, event, id=given.get("id"))
        return {"is_new": is_new}

    def _class(self, workflow: str, label: str) -> type[Event]:
        """Find a class among those of the workflow; nothing is imported for a request."""
        classes = self._engine._settings.classes.get(workflow, {})
        cls = classes.get(label)
        if cls is None:
            named = [one for one in classes.values() if one.__name__ == label]
            cls = named[0] if len(named) == 1 else None
        if cls is None or not issubclass(cls, Event):
            raise Refused(
                400,
                f"this process has no class {label!r} of events of workflow {workflow!r}: send it "
                f"from a process that has, as with `python -m treadle send`",
            )
        return cls


def _only(given: dict[str, Any], **kinds: Any) -> None:
    for name, value in given.items():
        if name not in kinds:
            raise Refused(400, f"there is no {name!r} in this action")
        if not isinstance(value, kinds[name]) or isinstance(value, bool):
            raise Refused(400, f"{name}: this is of another type: {value!r}")


def _made(cls: type[Event], fields: dict[str, Any]) -> Event:
    try:
        hints: dict[str, Any] = typing.get_type_hints(cls) if dataclasses.is_dataclass(cls) else {}
    except Exception:
        # Annotations that only a type checker can resolve.
        hints = {}
    for name, value in fields.items():
        if name in hints and not fits(value, hints[name]):
            raise Refused(400, f"{cls.__name__}.{name} is {hints[name]}, not {value!r}", word=name)
    try:
        return cls(**fields)
    except (TypeError, ValueError) as error:
        raise Refused(400, f"{cls.__name__}: {error}") from None


def _user(scope: Scope) -> str:
    """Name whoever acts: the user that a middleware has found, or else the address."""
    user = scope.get("user")
    name = getattr(user, "display_name", None) or getattr(user, "username", None)
    if isinstance(name, str) and name:
        return ascii(name)
    client = scope.get("client")
    return str(client[0]) if client else "somebody"

"""Values as they are sent to the page: exact, and without what is redacted.

A JSON value is sent as its text, so that neither its numbers nor the order of its keys change on
the way. Nothing is unpickled: of an opaque value there are its class, its size and the id of the
key that it says it is signed with.
"""

import math
from collections.abc import Callable
from typing import Any

from ..log import log_exception

Redact = Callable[[str, str], bool]

# What a browser counts exactly; beyond that, a number is sent as a text.
_EXACT = 2**53 - 1
# How much of a binary value is shown.
_MOST_BYTES = 256
_LEFT_OUT = "(redacted)"


class Showing:
    """Makes JSON of what an engine tells of the runs of a workflow."""

    def __init__(self, redact: Redact | None, workflow: str) -> None:
        self._redact = redact
        self._workflow = workflow

    def text(self, name: str, text: str) -> str:
        """Return a text that steps wrote, such as that of an exception."""
        return _LEFT_OUT if self._is_redacted(name) else text

    def plain(self, it: Any) -> Any:
        """Return the same for JSON."""
        if isinstance(it, dict):
            return self._value(it, None) if _is_value(it) else self._dict(it)
        if isinstance(it, (list, tuple)):
            return [self.plain(one) for one in it]
        if isinstance(it, bytes):
            return {"hex": it[:_MOST_BYTES].hex(" "), "size": len(it)}
        if isinstance(it, bool) or it is None or isinstance(it, str):
            return it
        if isinstance(it, int):
            return it if -_EXACT <= it <= _EXACT else str(it)
        if isinstance(it, float):
            return it if math.isfinite(it) else None
        return str(it)

    def _dict(self, it: dict[str, Any]) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        event = str(it.get("event", it.get("class", "event"))).rpartition(":")[2]
        for name, one in it.items():
            if name == "fields" and isinstance(one, dict):
                shown[name] = {
                    key: self._value(field, f"{event}.{key}") for key, field in one.items()
                }
            elif isinstance(one, dict) and _is_value(one):
                shown[name] = self._value(one, event if name == "whole" else _owner(it))
            elif name in _FAILURES and one is not None:
                shown[name] = self._texts(one)
            elif name == "text" and it.get("kind") == "retry":
                shown[name] = self.text("failure", str(one))
            else:
                shown[name] = self.plain(one)
        return shown

    def _texts(self, texts: Any) -> Any:
        if isinstance(texts, list):
            return [self.text("failure", str(text)) for text in texts]
        return self.text("failure", str(texts))

    def _value(self, value: dict[str, Any], place: str | None) -> dict[str, Any]:
        is_redacted = self._is_redacted(_owner(value) if place is None else place)
        left_out = ("json", "binary") if is_redacted else ()
        shown = {name: self.plain(one) for name, one in value.items() if name not in left_out}
        return {**shown, "is_redacted": True} if is_redacted else shown

    def _is_redacted(self, place: str) -> bool:
        if self._redact is None:
            return False
        try:
            return bool(self._redact(self._workflow, place))
        except Exception as error:
            # What cannot be decided is not shown.
            log_exception(f"redact({self._workflow!r}, {place!r}) raised", error)
            return True


_FAILURES = ("failures", "failure", "refused", "reason")


def _is_value(it: dict[str, Any]) -> bool:
    return "tag" in it and "size" in it


def _owner(it: dict[str, Any]) -> str:
    """Name a value by what it is beside: a key of the state, a memo or a child."""
    if "key" in it:
        return f"state.{it['key']}"
    if "memo" in it or "name" in it:
        return f"memo.{it.get('memo', it.get('name'))}"
    return "child" if "child" in it else "value"

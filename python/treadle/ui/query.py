"""The language of the filter: words, and qualifiers such as `status:failed since:2h`."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..runs import RunInfo
from .http import Refused

STATUSES = ("running", "waiting", "paused", "completed", "failed", "cancelled", "stranded")
QUALIFIERS = ("workflow", "status", "key", "error", "since", "longer", "parent", "root")

_PART = re.compile(r'([a-z]+:)?(?:"((?:[^"\\]|\\.)*)"|(\S*))')
_LASTS = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.I)
_MOST_TEXT = 1000


@dataclass
class Query:
    """Which runs are asked for.

    `filters` are those that the journal applies. The others are applied to what it gives: `longer`
    (seconds) to the time that a run took so far, `error` to what it failed with.
    """

    filters: dict[str, Any] = field(default_factory=dict)
    longer: float | None = None
    error: str | None = None

    @property
    def is_scan(self) -> bool:
        """Whether runs are left out of what the journal gives."""
        return self.longer is not None or self.error is not None

    def takes(self, info: RunInfo, now: float) -> bool:
        """Tell whether a run is asked for, as far as that is known without its failure."""
        if self.error is not None and info.status not in ("failed", "stranded"):
            return False
        return self.longer is None or lasted(info, now) >= self.longer


def lasted(info: RunInfo, now: float) -> float:
    """Return for how many seconds a run has been there, or was until its end."""
    return max((now if info.finished is None else info.finished) - info.created, 0)


def parsed(text: str) -> Query:
    """Read a filter.

    Raises:
        Refused: a part of it makes no sense.
    """
    if len(text) > _MOST_TEXT:
        raise Refused(400, f"the filter has more than {_MOST_TEXT} characters")
    query = Query()
    for part in _PART.finditer(text):
        name, quoted, plain = part.groups()
        value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        if part[0]:
            _add(query, name and name[:-1], value)
    return query


def _add(query: Query, name: str | None, value: str) -> None:
    if name is None:
        # A word by itself is the beginning of a key.
        _once(query, "key_prefix", value, value)
        return
    reader = _READERS.get(name)
    if reader is None:
        names = ", ".join(QUALIFIERS)
        raise Refused(400, f"there is no qualifier {name!r}; these are: {names}", word=name)
    if not value:
        raise Refused(400, f"{name}: a value expected", word=name)
    reader(query, value)


def _once(query: Query, name: str, value: Any, shown: str) -> None:
    if name in query.filters:
        raise Refused(400, f"{shown!r}: this is asked for twice", word=shown)
    query.filters[name] = value


def _workflow(query: Query, value: str) -> None:
    _once(query, "workflow", value, value)


def _key(query: Query, value: str) -> None:
    _once(query, "key_prefix", value.removesuffix("*"), value)


def _status(query: Query, value: str) -> None:
    for status in value.split(","):
        if status not in STATUSES:
            raise Refused(
                400, f"status: one of {', '.join(STATUSES)} expected, not {status!r}", word=status
            )
        query.filters.setdefault("status", []).append(status)


def _run(name: str) -> Callable[[Query, str], None]:
    def read(query: Query, value: str) -> None:
        if not _ID.fullmatch(value):
            raise Refused(400, f"{name}: the id of a run expected, not {value!r}", word=value)
        _once(query, name, value, value)

    return read


def _error(query: Query, value: str) -> None:
    if query.error is not None:
        raise Refused(400, f"{value!r}: this is asked for twice", word=value)
    query.error = value.casefold()


def _longer(query: Query, value: str) -> None:
    query.longer = _seconds("longer", value)


def _since(query: Query, value: str) -> None:
    if _LASTS.fullmatch(value):
        moment = datetime.fromtimestamp(max(time.time() - _seconds("since", value), 0), UTC)
    else:
        try:
            moment = datetime.fromisoformat(value)
            moment.timestamp()
        except (ValueError, OverflowError):
            raise Refused(
                400, f"since: 30m, 2h, 7d or a date expected, not {value!r}", word=value
            ) from None
    _once(query, "since", moment, value)


def _seconds(name: str, value: str) -> float:
    found = _LASTS.fullmatch(value)
    if found is None or len(value) > 12:
        raise Refused(
            400, f"{name}: a time such as 30s, 5m or 2h expected, not {value!r}", word=value
        )
    return float(found[1]) * _UNITS[found[2]]


_READERS: dict[str, Callable[[Query, str], None]] = {
    "workflow": _workflow,
    "status": _status,
    "key": _key,
    "error": _error,
    "since": _since,
    "longer": _longer,
    "parent": _run("parent"),
    "root": _run("root"),
}

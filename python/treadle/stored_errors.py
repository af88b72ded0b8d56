"""Exceptions that are stored: the end of a failed run, and the failure that an event carries.

Nothing that an exception's own methods raise may keep a run from ending. A `KeyboardInterrupt` may:
it is not of the exception, but of who wants the program to end.
"""

import pickle
import traceback
from typing import Any

from .exceptions import StoredError
from .failures import add_note, notes_of, record_of, set_record, text_of

_MOST_TRACEBACK = 20_000


def fields_of(error: BaseException) -> dict[str, Any]:
    """Return what is stored of an exception: its text, and itself if it pickles."""
    fields: dict[str, Any] = {
        "text": text_of(error),
        "notes": notes_of(error),
        "traceback": _traceback_of(error)[-_MOST_TRACEBACK:],
    }
    record = record_of(error)
    if record is not None:
        fields["failure"] = record
    if _read_back(error) is not None:
        # In a tuple, so that it is stored as an opaque value whatever it is.
        fields["error"] = (error,)
    return fields


def from_fields(name: str, fields: dict[str, Any]) -> BaseException:
    """Make an exception of what was stored of it."""
    error = fields.get("error")
    if isinstance(error, tuple):
        found: BaseException = error[0]
    else:
        found = StoredError(name.rpartition(":")[2], fields.get("text", ""))
        found.__cause__ = fields.get("unreadable")
    for note in fields.get("notes", ()):
        add_note(found, note)
    record = fields.get("failure")
    if isinstance(record, dict):
        set_record(found, record)
    return found


def storable(error: BaseException) -> object:
    """Return what is stored of an exception that an event carries: it is read back as an exception.

    That is the exception itself if it can be stored and read back, else one that says what it was.
    """
    again = _read_back(error)
    if again is None:
        return stand_in(error)
    record = record_of(error)
    return error if record == record_of(again) else _Located(error, record)


def stand_in(error: BaseException) -> object:
    """Return what is stored of an exception that cannot be: it says what the exception was."""
    stored = StoredError(type(error).__qualname__, text_of(error))
    record = record_of(error)
    return stored if record is None else _Located(stored, record)


def _read_back(error: BaseException) -> BaseException | None:
    """Return the exception as it is read back; nothing if it is not."""
    try:
        again = pickle.loads(pickle.dumps(error))
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None
    return again if type(again) is type(error) else None


class _Located:
    """Pickles as an exception that would forget where it was raised."""

    def __init__(self, error: BaseException, record: dict[str, Any] | None) -> None:
        self._parts = (error, record or {})

    def __reduce__(self) -> tuple[Any, ...]:
        return _located, self._parts


def _located(error: BaseException, record: dict[str, Any]) -> BaseException:
    set_record(error, record)
    return error


def _traceback_of(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(error))
    except KeyboardInterrupt:
        raise
    except BaseException:
        return ""
    return text.encode("utf-8", "backslashreplace").decode()

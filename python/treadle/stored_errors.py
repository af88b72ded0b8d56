"""Exceptions that are stored: the end of a failed run, and the failure that an event carries."""

import pickle
import traceback
from typing import Any

from .exceptions import StoredError

_MOST_TRACEBACK = 20_000


def fields_of(error: BaseException) -> dict[str, Any]:
    """Return what is stored of an exception: its text, and itself if it pickles."""
    fields: dict[str, Any] = {
        "text": str(error),
        "notes": [str(note) for note in getattr(error, "__notes__", ())],
        "traceback": "".join(traceback.format_exception(error))[-_MOST_TRACEBACK:],
    }
    if storable(error) is error:
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
    for note in fields.get("notes", ()):
        if note not in getattr(found, "__notes__", ()):
            found.add_note(note)
    return found


def storable(error: BaseException) -> BaseException:
    """Return the exception if it can be stored and read back, else one that says what it was."""
    try:
        again = pickle.loads(pickle.dumps(error))
    except Exception:
        return StoredError(type(error).__qualname__, str(error))
    return (
        error if type(again) is type(error) else StoredError(type(error).__qualname__, str(error))
    )

"""What is known of a failure beside the exception itself: where it happened, its text, its notes.

All of it is there although an exception's own methods raise, or are not what they should be.
"""

import contextlib
import copy
from typing import Any

from .exceptions import NonRetryable

# The record is a plain dict, so that an exception that is pickled can be read without treadle.
RECORD = "__treadle_failure__"


class Failure:
    """Why an object could not be made, for several askers.

    Each gets an exception of its own, because it is raised, and given notes, in runs of their own.
    """

    def __init__(self, error: BaseException) -> None:
        self._error = error
        self._notes = notes_of(error)
        self._traceback = error.__traceback__
        self._was_given = False

    def for_next_asker(self) -> BaseException:
        """Return the exception; a copy of it if it was raised before."""
        if not self._was_given:
            self._was_given = True
            return self._error
        error, twin = self._error, _copied(self._error)
        if twin is None:
            return error
        twin.__notes__ = list(self._notes)
        twin.__cause__ = error.__cause__
        twin.__context__ = error.__context__
        twin.__suppress_context__ = error.__suppress_context__
        return twin.with_traceback(self._traceback)


def text_of(error: BaseException) -> str:
    """Return the text of an exception; the name of its class if it has none."""
    try:
        text = str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return f"<{type(error).__qualname__}>"
    return _storable_text(text)


def notes_of(error: BaseException) -> list[str]:
    """Return the notes of an exception that are texts."""
    try:
        notes = error.__notes__
    except KeyboardInterrupt:
        raise
    except BaseException:
        return []
    if not isinstance(notes, (list, tuple)):
        return []
    return [_storable_text(note) for note in notes if isinstance(note, str)]


def _storable_text(text: str) -> str:
    """Return the text as a plain `str` without lone surrogates."""
    return str.encode(text, "utf-8", "backslashreplace").decode()


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception, once: a factory may raise the same object again.

    An exception whose `__notes__` are no list goes without.
    """
    if note in notes_of(error):
        return
    with contextlib.suppress(Exception):
        error.add_note(note)


def record_of(error: BaseException) -> dict[str, Any] | None:
    """Return what is recorded of where an exception was raised."""
    record = _dict_of(error).get(RECORD)
    return record if isinstance(record, dict) else None


def set_record(error: BaseException, record: dict[str, Any]) -> None:
    """Record where an exception was raised, in the place of what was recorded before.

    The members of a group that were raised elsewhere, such as in another run, keep their own.
    """
    _dict_of(error)[RECORD] = record
    for member in members_of(error):
        _dict_of(member).setdefault(RECORD, record)


def set_own_record(error: BaseException, record: dict[str, Any]) -> None:
    """As `set_record`, and the members of a group are left alone: they may be raised again."""
    _dict_of(error)[RECORD] = record


def members_of(error: BaseException) -> list[BaseException]:
    """Return the exceptions in a group, and in the groups that are in it."""
    found: list[BaseException] = []
    groups = [error] if isinstance(error, BaseExceptionGroup) else []
    while groups:
        members = BaseExceptionGroup.exceptions.__get__(groups.pop())
        found += members
        groups += [member for member in members if isinstance(member, BaseExceptionGroup)]
    return found


def is_final(error: BaseException) -> bool:
    """Tell whether an exception says that no further attempt will do, or one in its group does."""
    return any(isinstance(one, NonRetryable) for one in (error, *members_of(error)))


def _dict_of(error: BaseException) -> dict[str, Any]:
    # Every exception has one; whatever the class makes of its attributes is none of our business.
    attributes: dict[str, Any] = BaseException.__dict__["__dict__"].__get__(error)
    return attributes


def _copied(error: BaseException) -> BaseException | None:
    """Copy an exception; some cannot be copied faithfully."""
    with contextlib.suppress(Exception):
        twin = copy.copy(error)
        if type(twin) is type(error) and twin.args == error.args:
            return twin
    return None

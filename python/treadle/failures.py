"""Exceptions that several steps are given: notes, and a copy for each."""

import contextlib
import copy


class Failure:
    """Why an object could not be made, for several askers.

    Each gets an exception of its own, because it is raised, and given notes, in runs of their own.
    """

    def __init__(self, error: BaseException) -> None:
        self._error = error
        self._notes = list(getattr(error, "__notes__", ()))
        self._traceback = error.__traceback__
        self._was_given = False

    def for_next_asker(self) -> BaseException:
        """Return the exception; a copy of it if somebody got it before."""
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


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception, once: a factory may raise the same object again."""
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def _copied(error: BaseException) -> BaseException | None:
    """Copy an exception; some cannot be copied faithfully."""
    with contextlib.suppress(Exception):
        twin = copy.copy(error)
        if type(twin) is type(error) and twin.args == error.args:
            return twin
    return None

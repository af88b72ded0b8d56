"""Numbers that users give. Each is checked where it enters; an error names the argument.

Times are floats in seconds from here on. The core counts in microseconds and saturates: a time that
is too long to count is as good as for ever.
"""

import math
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Any

MOST_UINT32 = 2**32 - 1
# What SQLite and the wire formats can hold.
MOST_INT64 = 2**63 - 1
MOST_UINT64 = 2**64 - 1
A_YEAR = 366 * 86_400.0


def duration(
    name: str, value: "float | timedelta", *, zero: bool = False, most: float = math.inf
) -> float:
    """Return a time in seconds, which is more than 0, or with `zero` at least 0.

    It may be a number or a `timedelta`. Infinity is a time without end.

    Raises:
        TypeError: this is no time; a `bool` is none either.
        ValueError: it is too short, longer than `most`, or no number at all.
    """
    # The usual case first, since steps call this as they go.
    seconds = value if type(value) is float else _seconds(name, value)
    if seconds > 0 or (zero and seconds == 0):
        if seconds > most:
            raise ValueError(f"{name}: at most {most:g} seconds expected, not {shown(value)}")
        return seconds
    least = "0 seconds or more" if zero else "more than 0 seconds"
    raise ValueError(f"{name}: {least} expected, not {shown(value)}")


def whole(name: str, value: int, *, least: int = 1, most: int = MOST_INT64) -> int:
    """Return a whole number in a range.

    Raises:
        TypeError: this is no whole number; a `bool` is none either.
        ValueError: it is out of range.
    """
    number = _index(value)
    if number is None:
        raise TypeError(f"{name}: an int expected, not {shown(value)}")
    if number < least:
        raise ValueError(f"{name}: at least {least} expected, not {shown(value)}")
    if number > most:
        raise ValueError(f"{name}: at most {most} expected, not {shown(value)}")
    return number


def ratio(name: str, value: float, *, least: float, most: float = math.inf) -> float:
    """Return a number in a range, as a float.

    Raises:
        TypeError: this is no number; a `bool` is none either.
        ValueError: it is out of range, or no number at all.
    """
    number = _float(value)
    if number is None:
        raise TypeError(f"{name}: a number expected, not {shown(value)}")
    if not least <= number <= most or (number == math.inf and _index(value) is not None):
        raise ValueError(f"{name}: {least:g} to {most:g} expected, not {shown(value)}")
    return number


def shown(value: object) -> str:
    """Return how an error shows a value: Python refuses to print the largest numbers."""
    try:
        return repr(value)
    except ValueError:
        return f"a number of {int(value).bit_length()} bits"  # type: ignore[call-overload]


def _seconds(name: str, value: "Any") -> float:
    seconds = _float(value)
    if seconds is None:
        from datetime import timedelta

        if not isinstance(value, timedelta):
            raise TypeError(
                f"{name}: a number of seconds or a timedelta expected, not {shown(value)}"
            )
        return value.total_seconds()
    if seconds == math.inf and _index(value) is not None:
        raise ValueError(f"{name}: fewer seconds expected than {shown(value)}")
    return seconds


def _float(value: object) -> float | None:
    """Return a number as a float, and an int that is too large for one as infinity."""
    if isinstance(value, float):
        return float(value)
    number = _index(value)
    if number is None:
        return None
    if abs(number) > sys.float_info.max:
        return math.inf if number > 0 else -math.inf
    return float(number)


def _index(value: "Any") -> int | None:
    """Return a whole number; those of other libraries, such as numpy, count as well."""
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        return None
    try:
        return int(value.__index__())
    except TypeError:
        # An array has the method as well, and no answer.
        return None

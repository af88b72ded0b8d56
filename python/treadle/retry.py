"""Retries: when a step that failed is tried again."""

from . import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from typing import Any, Literal

BACKOFFS = ("constant", "linear", "exponential")


# Seconds.
_LONGEST = 60.0


class Retry:
    """Has a step tried again after a failure. Times are in seconds, or a `timedelta`.

    While it waits, a retry holds neither a thread nor a place in the step's `concurrency`. The
    exception of the last attempt reaches the user, with a note for each earlier one.

    Args:
        attempts: how many there are in all, the first one included.
        backoff: how the delay grows: "constant", "linear" or "exponential".
        initial: the delay after the first attempt.
        factor: what an exponential delay is multiplied by after each attempt.
        max: the longest delay; 60 if not given, or `initial` if that is longer.
        jitter: the part of a delay by which it varies at random, up and down: 0 to 1.
        on: the exceptions that are worth another attempt. What is no `Exception`, such as a
            cancellation, never is.
        unless: exceptions that are not, though `on` names them.
        retry_if: called with the exception; another attempt only if it returns true.
        delay: called with the exception and the attempt that raised it, if there is to be another
            one. It returns the delay, which is taken as it is, without `max` and `jitter`, or
            `None` for that of the policy; a year at most. If it raises, or returns anything else,
            the run fails with `RetryFailed`.
        total_timeout: no attempt is due later than this after the first one began.

    Raises:
        TypeError, ValueError: an option is of a wrong type or out of range.

    >>> Retry(attempts=5, initial=0.2, on=(ConnectionError, TimeoutError))
    Retry(attempts=5, initial=0.2, on=(ConnectionError, TimeoutError))
    """

    __slots__ = (
        "attempts",
        "backoff",
        "delay",
        "factor",
        "initial",
        "jitter",
        "max",
        "on",
        "retry_if",
        "total_timeout",
        "unless",
    )

    def __init__(
        self,
        attempts: int = 3,
        *,
        backoff: "Literal['constant', 'linear', 'exponential']" = "exponential",
        initial: "float | timedelta" = 0.1,
        factor: float = 2.0,
        max: "float | timedelta | None" = None,
        jitter: float = 0.1,
        on: "type[Exception] | tuple[type[Exception], ...]" = Exception,
        unless: "type[BaseException] | tuple[type[BaseException], ...]" = (),
        retry_if: "Callable[[Any], bool] | None" = None,
        delay: "Callable[[Any, int], float | timedelta | None] | None" = None,
        total_timeout: "float | timedelta | None" = None,
    ) -> None:
        self.attempts = checks.whole("attempts", attempts, most=checks.MOST_UINT32)
        if backoff not in BACKOFFS:
            raise ValueError(f"backoff: one of {', '.join(BACKOFFS)} expected, not {backoff!r}")
        self.initial = checks.duration("initial", initial, zero=True)
        longest = _LONGEST if self.initial <= _LONGEST else self.initial
        self.max = longest if max is None else checks.duration("max", max)
        self.factor = checks.ratio("factor", factor, least=1.0)
        self.jitter = checks.ratio("jitter", jitter, least=0.0, most=1.0)
        if retry_if is not None and not callable(retry_if):
            raise TypeError(f"retry_if: a function of the exception expected, not {retry_if!r}")
        if delay is not None and not callable(delay):
            raise TypeError(
                f"delay: a function of the exception and the attempt expected, not {delay!r}; "
                f"a time is given as `initial`"
            )
        self.total_timeout = (
            None if total_timeout is None else checks.duration("total_timeout", total_timeout)
        )
        self.backoff = backoff
        self.on = _classes("on", on, Exception)
        self.unless = _classes("unless", unless, BaseException)
        self.retry_if = retry_if
        self.delay = delay

    def __repr__(self) -> str:
        default = type(self)()
        given = [
            f"{name}={_shown(getattr(self, name))}"
            for name in ("attempts", *sorted(set(self.__slots__) - {"attempts"}))
            if name == "attempts" or getattr(self, name) != getattr(default, name)
        ]
        return f"Retry({', '.join(given)})"


def delay_of(answer: "Any") -> float | None:
    """Return what a `delay` has returned, in seconds; `None` leaves it to the policy.

    Raises:
        TypeError, ValueError: it is no time, or longer than a year.
    """
    if answer is None:
        return None
    if hasattr(answer, "__await__"):
        # Of an `async def`: Python would warn of a coroutine that is not awaited.
        getattr(answer, "close", lambda: None)()
        raise TypeError("delay: a plain function expected, not an async one")
    return checks.duration("delay", answer, zero=True, most=checks.A_YEAR)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        names = ", ".join(cls.__name__ for cls in value)
        return f"({names},)" if len(value) == 1 else f"({names})"
    return repr(value)


def _classes(name: str, given: "Any", base: type) -> "tuple[type[BaseException], ...]":
    classes = given if isinstance(given, tuple) else (given,)
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            raise TypeError(f"{name}: classes of exceptions expected, not {cls!r}")
        if not issubclass(cls, base):
            raise TypeError(
                f"{name}: {cls.__name__} is not an Exception, and is never worth another attempt"
            )
    return classes

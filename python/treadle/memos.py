"""Memos: calls that a step makes once, and whose results a body that runs again is given."""

import asyncio
import functools
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent import futures
from contextvars import copy_context
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from . import checks
from ._treadle import MemoBegun, _want_current_step, current_context
from .exceptions import EventLoopError, MemoTimeout
from .failures import add_note
from .steps import check_retry
from .stored_errors import fields_of, from_fields
from .waiting import finished

if TYPE_CHECKING:
    from ._treadle import Context
    from .retry import Retry

P = ParamSpec("P")
T = TypeVar("T")

_COROUTINE = inspect.CO_COROUTINE

# How often a thread that waits for the journal looks whether its run is over.
_LOOK = 1.0


class _Options:
    """How a call is made. Times are in seconds."""

    __slots__ = ("keep_failures", "retry", "timeout")

    def __init__(
        self,
        retry: "Retry | None" = None,
        timeout: "float | timedelta | None" = None,
        keep_failures: bool = False,
    ) -> None:
        check_retry(retry)
        if type(keep_failures) is not bool:
            raise TypeError(f"keep_failures: a bool expected, not {keep_failures!r}")
        self.retry = retry
        self.timeout = None if timeout is None else checks.duration("timeout", timeout)
        self.keep_failures = keep_failures


_PLAIN = _Options()


async def once_in(
    context: "Context",
    name: str,
    function: Callable[..., Any],
    /,
    *args: Any,
    retry: "Retry | None" = None,
    timeout: "float | timedelta | None" = None,
    keep_failures: bool = False,
    **kwargs: Any,
) -> Any:
    """Call `function(*args, **kwargs)` once for this step and this event, and return its result.

    The result is on disk before this returns, if the run has a journal. A body that runs again
    (after a crash, a retry, a pause, in a run that was resumed or forked) is given it, and the
    function is not called. The arguments of a call are compared by their contents.

    Args:
        name: names the memo, together with the arguments.
        function: an `async def`, or a function that is called in a thread.
        retry: when the function is called again after it has raised.
        timeout: seconds, or a `timedelta`, that one call may take; then it is cancelled. A thread
            cannot be: its end is awaited, and its result dropped.
        keep_failures: keep also what the function raises after its last attempt: a body that runs
            again is given the exception.

    Raises:
        MemoTimeout: the call took longer than its `timeout`.
        UnstorableValue: the result cannot be pickled. Nothing is kept.
        OutsideStep: the body of the step is over.
        RunEnded: the run is over.
    """
    if retry is not None or timeout is not None or keep_failures:
        options = _Options(retry, timeout, keep_failures)
        return await _once(context, name, function, args, kwargs, options)
    # The usual call: each coroutine around it would cost as much as the rest.
    begun: Any = context._begin_memo(name, args, kwargs)
    if type(begun) is tuple:
        return _given(begun)
    code = getattr(function, "__code__", None)
    if code is not None and code.co_flags & _COROUTINE:
        result = await function(*args, **kwargs)
    else:
        result = await _call(function, args, kwargs)
    written = begun.keep(result)
    if written is not None:
        await written
    return result


async def _once(
    context: "Context",
    name: str,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: _Options,
) -> Any:
    begun = context._begin_memo(name, args, kwargs)
    if type(begun) is tuple:
        return _given(begun)
    begun = cast("MemoBegun", begun)
    try:
        if options is _PLAIN:
            result = await _call(function, args, kwargs)
        else:
            result = await _tried(name, function, args, kwargs, options)
    except Exception as error:
        if options.keep_failures:
            written = begun.keep(_fields(error), True)
            if written is not None:
                await written
        raise
    written = begun.keep(result)
    if written is not None:
        await written
    return result


def _given(begun: tuple[bool, Any]) -> Any:
    is_result, value = begun
    if is_result:
        return value
    raise from_fields(value["class"], value)


def _fields(error: Exception) -> dict[str, Any]:
    return {"class": type(error).__qualname__, **fields_of(error)}


async def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if _is_async(function):
        return await function(*args, **kwargs)
    result = await _in_thread(functools.partial(function, *args, **kwargs))
    # A function that only makes a coroutine leaves it to its caller.
    return await result if inspect.isawaitable(result) else result


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  (the method itself is wanted)
    )


async def _in_thread(call: Callable[[], Any]) -> Any:
    """Call a function in the loop's default executor, and see to its end."""
    inside = copy_context()
    loop = asyncio.get_running_loop()
    return await finished(loop.run_in_executor(None, lambda: inside.run(_guarded, call)))


def _guarded(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (StopIteration, GeneratorExit) as error:
        # From a future they would end or close what waits for it (PEP 479).
        raise RuntimeError(f"a memo's function raised {error!r}") from error


async def _tried(
    name: str,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: _Options,
) -> Any:
    attempts = Attempts(name, options.retry)
    while True:
        try:
            return await _in_time(name, function, args, kwargs, options.timeout)
        except Exception as error:
            delay = attempts.delay_after(error)
            if delay is None:
                raise
        await asyncio.sleep(delay)


class Attempts:
    """The attempts of one call."""

    __slots__ = ("_began", "_name", "_number", "_retry")

    def __init__(self, name: str, retry: "Retry | None") -> None:
        self._name = name
        self._retry = retry
        self._began = time.monotonic()
        self._number = 1

    def delay_after(self, error: Exception) -> float | None:
        """Return the seconds before the next attempt; `None` if the error stays, which tells it."""
        delay = None
        if self._retry is not None:
            elapsed = time.monotonic() - self._began
            delay = MemoBegun.delay(self._retry, self._number, elapsed, error)
        if delay is not None:
            self._number += 1
        elif self._number > 1:
            add_note(error, f"in memo {self._name!r}, attempt {self._number}")
        return delay


async def _in_time(
    name: str,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    timeout: float | None,
) -> Any:
    if timeout is None:
        return await _call(function, args, kwargs)
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            return await _call(function, args, kwargs)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise MemoTimeout(f"memo {name!r} took longer than its timeout of {timeout:g} s") from error


def once_sync_in(
    context: "Context",
    name: str,
    function: Callable[..., Any],
    /,
    *args: Any,
    retry: "Retry | None" = None,
    keep_failures: bool = False,
    **kwargs: Any,
) -> Any:
    """Do as `once`, in a thread: in a step that is a plain `def`, or below `asyncio.to_thread`.

    The function is called in the thread of the caller, which waits until the result is on disk.

    Raises:
        EventLoopError: the caller is the thread of an event loop, which must not wait.
        TypeError: the function is an `async def`.
        UnstorableValue, OutsideStep, RunEnded: as of `once`.
        StepCancelled: the step was cancelled while its thread went on.
    """
    options = _PLAIN
    if retry is not None or keep_failures:
        options = _Options(retry, None, keep_failures)
    return _once_sync(context, name, function, args, kwargs, options)


def _once_sync(
    context: "Context",
    name: str,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: _Options,
) -> Any:
    if asyncio._get_running_loop() is not None:
        raise EventLoopError(
            f"memo {name!r}: once_sync waits for the journal, and an event loop must not; "
            "say `await ctx.once(...)`"
        )
    if _is_async(function):
        raise TypeError(f"memo {name!r}: once_sync calls no `async def`; say `await ctx.once(...)`")
    begun = context._begin_memo(name, args, kwargs)
    if type(begun) is tuple:
        return _given(begun)
    begun = cast("MemoBegun", begun)
    try:
        result = _tried_sync(name, function, args, kwargs, options)
    except Exception as error:
        if options.keep_failures:
            _keep_sync(begun, _fields(error), True)
        raise
    _keep_sync(begun, result, False)
    return result


def _tried_sync(
    name: str,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: _Options,
) -> Any:
    attempts = Attempts(name, options.retry)
    while True:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            delay = attempts.delay_after(error)
            if delay is None:
                raise
        time.sleep(delay)


def _keep_sync(begun: MemoBegun, value: object, is_failure: bool) -> None:
    written: futures.Future[None] = futures.Future()
    if begun.keep(value, is_failure, written) is None:
        return
    # A run whose event loop was closed tells nothing.
    while not futures.wait([written], _LOOK).done:
        begun.check_running()
    written.result()


@overload
def once(
    function: Callable[P, Coroutine[Any, Any, T]], /
) -> Callable[P, Coroutine[Any, Any, T]]: ...
@overload
def once(function: Callable[P, T], /) -> Callable[P, T]: ...
@overload
def once(
    *,
    name: str | None = None,
    retry: "Retry | None" = None,
    timeout: "float | timedelta | None" = None,
    keep_failures: bool = False,
) -> Callable[[Callable[P, T]], Callable[P, T]]: ...


def once(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retry: "Retry | None" = None,
    timeout: "float | timedelta | None" = None,
    keep_failures: bool = False,
) -> Any:
    """Make each call of a function below a step a memo of that step.

    A call of an `async def` is `await ctx.once(name, function, ...)`, of a plain `def`
    `ctx.once_sync(name, function, ...)`, where `ctx` is `treadle.current_context()`.

    Args:
        name: the name of the memos; module and qualified name of the function if not given.
        retry: as of `Context.once`.
        timeout: as of `Context.once`; only of an `async def`.
        keep_failures: as of `Context.once`.

    Raises:
        TypeError, ValueError: an option is of a wrong type or out of range.
        OutsideStep: by a call that no step runs.
    """
    if name is not None and not isinstance(name, str):
        raise TypeError(f"@once: name: a str expected, not {name!r}")
    options = _Options(retry, timeout, keep_failures)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(function):
            raise TypeError(f"@once: a function expected, not {function!r}")
        _want_current_step()
        named = name or f"{function.__module__}:{function.__qualname__}"
        if _is_async(function):
            return _async_memo(named, function, options)
        if options.timeout is not None:
            raise TypeError(f"@once: {named}: timeout: a plain `def` cannot be interrupted")
        return _sync_memo(named, function, options)

    return decorate if function is None else decorate(function)


def _async_memo(
    name: str, function: Callable[..., Awaitable[Any]], options: _Options
) -> Callable[..., Coroutine[Any, Any, Any]]:
    @functools.wraps(function)
    async def memo(*args: Any, **kwargs: Any) -> Any:
        return await _once(current_context(), name, function, args, kwargs, options)

    return memo


def _sync_memo(name: str, function: Callable[..., Any], options: _Options) -> Callable[..., Any]:
    @functools.wraps(function)
    def memo(*args: Any, **kwargs: Any) -> Any:
        return _once_sync(current_context(), name, function, args, kwargs, options)

    return memo

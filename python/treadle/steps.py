"""Steps: functions that take an event and emit others."""

import sys

from . import checks
from .lazy_annotations import annotations_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta
    from types import FrameType
    from typing import Any, TypeVar, overload

    from .retry import Retry

    F = TypeVar("F", bound=Callable[..., Any])

MARK = "__treadle_step__"


class StepOptions:
    """What `@step` was given. Times are in seconds."""

    __slots__ = (
        "concurrency",
        "external",
        "inline",
        "name",
        "namespace",
        "on_error",
        "process",
        "retry",
        "timeout",
    )

    def __init__(
        self,
        *,
        name: str | None,
        timeout: float | None,
        concurrency: int | None,
        inline: bool,
        process: bool,
        external: bool,
        retry: "Retry | None",
        on_error: "Callable[..., Any] | str | None",
        namespace: "dict[str, Any]",
    ) -> None:
        self.name = name
        self.timeout = timeout
        self.concurrency = concurrency
        self.inline = inline
        self.process = process
        self.external = external
        self.retry = retry
        self.on_error = on_error
        self.namespace = namespace


if TYPE_CHECKING:

    @overload
    def step(function: F, /) -> F: ...

    @overload
    def step(
        *,
        name: str | None = None,
        timeout: float | timedelta | None = None,
        concurrency: int | None = None,
        inline: bool = False,
        process: bool = False,
        external: bool = False,
        retry: Retry | None = None,
        on_error: Callable[..., Any] | str | None = None,
    ) -> Callable[[F], F]: ...


def step(
    function: "Callable[..., Any] | None" = None,
    /,
    *,
    name: str | None = None,
    timeout: "float | timedelta | None" = None,
    concurrency: int | None = None,
    inline: bool = False,
    process: bool = False,
    external: bool = False,
    retry: "Retry | None" = None,
    on_error: "Callable[..., Any] | str | None" = None,
) -> "Any":
    """Make a function, or a method of a `Workflow`, a step. The function is not changed.

    An `async def` runs on the event loop, a plain `def` in a worker thread with the caller's
    context variables. The annotation of its event parameter says what the step accepts.

    Args:
        name: unique in the workflow; the name of the function if not given.
        timeout: seconds, or a `timedelta`, that one attempt may take; then it is
            cancelled, and the run fails with `StepTimeout`.
        concurrency: how many bodies of this step may run at once in one run; no limit if not given.
        inline: run a plain `def` on the event loop; for functions that return at once.
        process: run a plain `def` of an event in another process, which may keep a CPU busy; it is
            found there by module and name, and the event and the result are pickled.
        external: the step's events are sent from outside, with `Run.send_event`: no other step has
            to emit them, and a run that has nothing else to do waits for them.
        retry: attempts after a failure; the `retry` of the workflow if not given.
        on_error: another step, or its name, that gets a `StepFailed` when all attempts have failed;
            then the run continues.

    Raises:
        TypeError, ValueError: an option is of a wrong type or out of range.
    """
    longest = None if timeout is None else checks.duration("timeout", timeout)
    most = None
    if concurrency is not None:
        most = checks.whole("concurrency", concurrency, most=checks.MOST_UINT32)
    check_retry(retry)
    if on_error is not None and not callable(on_error) and not isinstance(on_error, str):
        raise TypeError(f"on_error: a step or its name expected, not {on_error!r}")
    frame = sys._getframe(1)

    def mark(function: "Any") -> "Any":
        if not callable(function):
            raise TypeError(f"@step: a function expected, not {function!r}")
        if isinstance(function, (staticmethod, classmethod)):
            mark(function.__func__)
            return function
        options = StepOptions(
            name=name,
            timeout=longest,
            concurrency=most,
            inline=inline,
            process=process,
            external=external,
            retry=retry,
            on_error=on_error,
            namespace=_names_in_annotations(function, frame),
        )
        try:
            setattr(function, MARK, options)
        except AttributeError:
            # A bound method takes no attributes.
            from functools import partial

            function = partial(function)
            setattr(function, MARK, options)
        return function

    return mark if function is None else mark(function)


def check_retry(retry: "Retry | None") -> None:
    """Raise unless this is a `Retry`, or nothing."""
    from .retry import Retry

    if retry is not None and not isinstance(retry, Retry):
        raise TypeError(f"retry: a Retry expected, not {retry!r}; say Retry(attempts=...)")


def _names_in_annotations(function: "Any", frame: "FrameType") -> "dict[str, Any]":
    """Find the local names that annotations given as strings use, while their scope is alive."""
    annotations = annotations_of(function)
    names: set[str] = set()
    for annotation in annotations.values():
        if isinstance(annotation, str):
            try:
                names.update(compile(annotation, "<annotation>", "eval").co_names)
            except SyntaxError:
                continue
    if not names:
        return {}
    return {name: value for name, value in local_names(function, frame) if name in names}


def local_names(function: "Any", frame: "FrameType | None") -> "Iterator[tuple[str, Any]]":
    """Yield the variables of the functions and classes inside of which a function is defined.

    Those are on the stack while the function is defined, and often while its workflow is made. The
    innermost comes last.
    """
    scopes = getattr(function, "__qualname__", "").split(".")[:-1]
    enclosing = {name for name in scopes if name != "<locals>"}
    module = getattr(function, "__globals__", None)
    frames = []
    while frame is not None and "<locals>" in scopes:
        if frame.f_globals is module and frame.f_code.co_name in enclosing:
            frames.append(frame)
        frame = frame.f_back
    for scope in reversed(frames):
        yield from list(scope.f_locals.items())

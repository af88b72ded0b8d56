"""Workflows: steps whose annotations make a graph, which is checked when the workflow is made."""

from . import checks
from ._treadle import Plan, Run
from .events import StopEvent
from .exceptions import WorkflowDefinitionError, WorkflowWarning
from .signing import secrets_of
from .starting import NOT_GIVEN, check_names, options_of
from .steps import check_retry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import timedelta
    from typing import Any

    from .lifecycle import Observer
    from .retry import Retry


class Workflow:
    """Steps that send each other events.

    Give the steps as a list, or make a subclass whose methods are steps:

    >>> from treadle import StartEvent, StopEvent, Workflow, step
    >>> class Greet(Workflow):
    ...     @step
    ...     async def greet(self, ev: StartEvent) -> StopEvent:
    ...         return StopEvent(result=f"Hello, {ev.name}!")
    >>> import asyncio
    >>> async def main():
    ...     print(await Greet(timeout=60).run(name="Ada"))
    >>> asyncio.run(main())
    Hello, Ada!

    Args:
        name: for logs and errors; the name of the class if not given.
        steps: functions decorated with `step`; a subclass has them in addition to its methods.
        timeout: seconds, or a `timedelta`, that a run may take from the start of its first step;
            then it fails with `WorkflowTimeout`. The time before, in a queue, does not count.
        deadline: seconds, or a `timedelta`, from the creation of a run, its time in a queue
            included; then it fails with `WorkflowTimeout`.
        stream_limit: the number of published events of a run that are kept for its readers.
        retry: for steps without a `retry` of their own.
        observers: functions that are called with a `LifecycleEvent` whenever something happens to a
            run: it starts, waits, fails, a step is tried again. What one raises is logged.
        max_runs: how many runs execute at the same time: in memory those of this object, with a
            journal those of one engine. Others start when it is their turn, in the order in which
            they were started. A run that only waits or is paused does not count. No limit if not
            given.

    Raises:
        WorkflowDefinitionError: the graph is wrong; lists every problem.
        TypeError, ValueError: an option is of a wrong type or out of range.

    Warns:
        WorkflowWarning: the graph works, but is seldom intended.
    """

    def __init__(
        self,
        name: str | None = None,
        steps: "Iterable[Callable[..., Any]]" = (),
        *,
        timeout: "float | timedelta | None" = None,
        deadline: "float | timedelta | None" = None,
        stream_limit: int = 65_536,
        retry: "Retry | None" = None,
        observers: "Iterable[Observer]" = (),
        max_runs: int | None = None,
    ) -> None:
        from .graph import Graph, methods_of

        if name is not None and not isinstance(name, str):
            raise TypeError(
                f"name: a str expected, not {name!r}; the steps are the second argument"
            )
        if callable(steps) or isinstance(steps, str):
            raise TypeError(f"steps: a list of functions expected, not {steps!r}")
        longest = None if timeout is None else checks.duration("timeout", timeout)
        end = None if deadline is None else checks.duration("deadline", deadline)
        kept = checks.whole("stream_limit", stream_limit)
        most = None if max_runs is None else checks.whole("max_runs", max_runs)
        check_retry(retry)
        self.name = type(self).__name__ if name is None else name
        methods, problems = methods_of(self)
        self._graph = Graph(self.name, [*methods, *steps], problems)
        if self._graph.problems:
            raise WorkflowDefinitionError(self.name, self._graph.problems)
        for warning in self._graph.warnings():
            import warnings

            warnings.warn(warning, WorkflowWarning, stacklevel=2)
        self._start_class = self._graph.start_class()
        self._plan = Plan(
            self.name,
            self._graph.descriptions(retry),
            stop_event=StopEvent,
            timeout=longest,
            deadline=end,
            stream_limit=kept,
            observers=_observers(observers),
            max_runs=most,
        )
        self._max_runs = most

    def run(
        self,
        event: object = None,
        /,
        *,
        timeout: "float | timedelta | None" = NOT_GIVEN,
        deadline: "float | timedelta | None" = NOT_GIVEN,
        state: "Mapping[str, Any] | None" = NOT_GIVEN,
        **fields: "Any",
    ) -> Run:
        """Start a run and return it at once; await it for the result.

        Give either the first event, or the fields of the start event. The options take the place of
        what the workflow says; a start event that has a field of such a name is given as an event.

        Args:
            event: the first event.
            timeout: seconds, or a `timedelta`, that this run may take from its first step on;
                `math.inf` for no limit. `None`: as the workflow says.
            deadline: seconds, or a `timedelta`, after which this run has to be over, counted from
                now; likewise.
            state: keys and values that are set before the first step.
            fields: the fields of the start event.

        Raises:
            TypeError: fields that the start event does not have, or lacks; an option is of a wrong
                type, or a field of the start event as well.
            ValueError: an option is out of range.
            UnstorableValue: a value of `state` cannot be pickled.
            UnroutedEvent: no step accepts the event.
            EventLoopError: no event loop is running.
        """
        # Most runs have no options, and every run comes by here.
        if timeout is NOT_GIVEN and deadline is NOT_GIVEN and state is NOT_GIVEN:
            event = self._first_event(event, fields)
            return self._plan.start(event)
        options = options_of(timeout, deadline, state)
        named = {"timeout": timeout, "deadline": deadline, "state": state}
        first = self._first_event(event, fields, named)
        return self._plan.start(first, options)

    def _first_event(
        self, event: object, fields: "dict[str, Any]", options: "dict[str, Any] | None" = None
    ) -> object:
        """Return the first event; `options` are those that were given by keyword beside it."""
        try:
            start_class = self._start_class
        except AttributeError:
            name = type(self).__name__
            raise TypeError(f"{name}.__init__() did not call super().__init__()") from None
        if event is None:
            if options is not None:
                check_names(start_class, **options)
            if start_class is None:
                raise TypeError(
                    f"workflow {self.name!r} starts with any of {self._graph.start_names()}: "
                    f"give run() one of these events"
                )
            return start_class(**fields)
        if fields:
            raise TypeError("run() takes an event or the fields of the start event, not both")
        return event

    def resume(
        self, snapshot: bytes, *, secret: "str | bytes | Sequence[str | bytes] | None" = None
    ) -> Run:
        """Continue a run from its snapshot, in this process or another; return it at once.

        A step that was in flight runs its body again; a paused run continues.

        Args:
            snapshot: the result of `await run.snapshot()`.
            secret: as for `Run.snapshot`; each of several verifies.

        Raises:
            SnapshotError: the bytes are not a snapshot, or are damaged.
            InvalidSignature: the bytes were changed, or signed with another secret.
            UnsignedValue: there is no secret to verify them with.
            IncompatibleSnapshot: this workflow cannot continue it; lists all reasons.
            UnreadableValue: an opaque event cannot be unpickled.
            EventLoopError: no event loop is running.
        """
        return self._plan.resume(_checked(snapshot), secrets_of(secret), self._classes())

    def check(
        self, snapshot: bytes, *, secret: "str | bytes | Sequence[str | bytes] | None" = None
    ) -> list[str]:
        """Return every reason for which `resume` would refuse a snapshot.

        Nothing is run or unpickled.

        Raises:
            SnapshotError, InvalidSignature, UnsignedValue: as of `resume`.
        """
        return self._plan.problems(_checked(snapshot), secrets_of(secret), self._classes())

    def _classes(self) -> "dict[str, type]":
        from .classes import named_classes

        return named_classes(self._graph.steps)

    def to_mermaid(self) -> str:
        """Return the graph as a Mermaid flowchart."""
        return self._graph.to_mermaid()

    def _repr_markdown_(self) -> str:
        return f"```mermaid\n{self.to_mermaid()}```\n"

    def __repr__(self) -> str:
        steps = ", ".join(step.name for step in self._graph.steps)
        return f"<{type(self).__name__} {self.name!r}: {steps}>"


def _observers(observers: "Iterable[Observer]") -> "tuple[Observer, ...]":
    # Without observers, their module is not imported.
    if observers == () or observers == []:
        return ()
    from .lifecycle import observers_of

    return observers_of(observers)


def _checked(snapshot: object) -> bytes:
    if isinstance(snapshot, (bytearray, memoryview)):
        return bytes(snapshot)
    if not isinstance(snapshot, bytes):
        raise TypeError(f"snapshot: bytes expected, not {type(snapshot).__name__}")
    return snapshot

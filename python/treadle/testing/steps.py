"""One step alone."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._treadle import Context, Plan, Run
from ..annotations import StepInfo
from ..events import StartEvent, StopEvent
from ..exceptions import RunStalled, WorkflowDefinitionError
from ..providers import Providers
from ..signatures import Problem


@dataclass(kw_only=True)
class StepRun:
    """What a step did.

    Attributes:
        emitted: the events that it returned, yielded or sent, in order.
        published: the events that it wrote to the stream.
        state: the keys and values afterwards.
        error: the exception that it raised, if it did.
    """

    emitted: list[Any] = field(default_factory=list)
    published: list[Any] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None

    @property
    def result(self) -> Any:
        """The only event that it emitted; `None` if there is none.

        Raises:
            ValueError: it emitted several.
        """
        if len(self.emitted) > 1:
            raise ValueError(f"the step emitted {len(self.emitted)} events: {self.emitted!r}")
        return self.emitted[0] if self.emitted else None


class _Begin(StartEvent):
    """Begins the run of one step."""


class _Never(StopEvent):
    """What would end the run: a `StopEvent` of the step is taken as any other event."""


async def run_step(
    step: Callable[..., Any],
    event: object,
    *,
    state: Mapping[str, Any] | None = None,
    session: Mapping[str, Any] | None = None,
    send: Iterable[object] = (),
) -> StepRun:
    """Run one step with one event, and return what it did.

    The step runs as it does in a workflow, in a run of its own: with its Context, its resources and
    its time limit. It is tried once.

    Args:
        step: a function decorated with `step`, or a step method of a workflow object.
        event: what the step gets.
        state: keys and values to begin with.
        session: live objects for `ctx.session`.
        send: events that are sent in from outside, for a step that waits for them.

    Raises:
        WorkflowDefinitionError: the function is not a step, or something is wrong with it.

    >>> import asyncio
    >>> from treadle import Context, Event, step
    >>> class Page(Event):
    ...     size: int
    >>> class Big(Event):
    ...     total: int
    >>> @step
    ... async def add(ctx: Context, ev: Page) -> Big:
    ...     return Big(total=ctx.increment("total", ev.size))
    >>> done = asyncio.run(run_step(add, Page(size=2), state={"total": 40}))
    >>> done.result, done.state
    (Big(total=42), {'total': 42})
    """
    done = StepRun()
    outside = _Outside(send)
    plan = _plan(step, event, dict(state or {}), dict(session or {}), done, outside)
    run = plan.start(_Begin())
    run._probe(outside.look)
    try:
        await run
    except RunStalled:
        # All that the step emitted was taken, and nothing more is there to do.
        pass
    except Exception as error:
        done.error = error
    done.state = run._state()
    done.published = [published async for published in run.stream_events()]
    return done


class _Outside:
    """Events from outside: each is sent when the step waits."""

    def __init__(self, send: Iterable[object]) -> None:
        self.waiting = list(send)
        self.known = {id(event): event for event in self.waiting}

    def look(self, run: Run, word: str) -> None:
        if word == "waiting" and self.waiting:
            asyncio.get_running_loop().call_soon(self._send, run)

    def _send(self, run: Run) -> None:
        if self.waiting and run.status in ("running", "waiting"):
            run.send_event(self.waiting.pop(0))

    def takes_back(self, event: object) -> bool:
        """Tell whether an event came from here, and the step did not wait for it."""
        if id(event) not in self.known:
            return False
        self.waiting.append(event)
        return True


def _plan(
    step: Callable[..., Any],
    event: object,
    state: dict[str, Any],
    session: dict[str, Any],
    done: StepRun,
    outside: _Outside,
) -> Plan:
    providers = Providers()
    try:
        info = StepInfo(step, providers)
        description = info.description()
    except Problem as problem:
        raise WorkflowDefinitionError("run_step", [str(problem)]) from None
    if providers.problems:
        raise WorkflowDefinitionError("run_step", providers.problems)

    def begin(context: Context, _: Any) -> Any:
        for key, value in state.items():
            context.set(key, value)
        context.session.update(session)
        return event

    original, arguments = description["function"], description["arguments"]
    is_first = True

    def once(context: Context, got: Any) -> Any:
        nonlocal is_first
        if not is_first:
            # It emits what it accepts itself: that is for others, here.
            done.emitted.append(got)
            return _nothing() if description["awaitable"] else None
        is_first = False
        given = {"context": context, "event": got}
        return original(*(given[name] for name in arguments.split(", ")))

    def take(_: Context, emitted: Any) -> None:
        if not outside.takes_back(emitted):
            done.emitted.append(emitted)

    common = {"concurrency": None, "timeout": None, "external": False, "retry": None}
    common |= {"on_error": None, "takes_failures": False}
    inline = {**common, "arguments": "context, event", "awaitable": False}
    tested = {**description, **common, "timeout": description["timeout"]}
    tested |= {"arguments": "context, event", "function": once, "accepts": [type(event)]}
    steps = [
        {**inline, "name": "run_step: begin", "function": begin, "accepts": [_Begin]},
        tested,
        {**inline, "name": "run_step: take", "function": take, "accepts": [object]},
    ]
    return Plan(
        "run_step", steps, stop_event=_Never, timeout=None, deadline=None, stream_limit=65_536
    )


async def _nothing() -> None:
    return None

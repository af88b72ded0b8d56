"""A run that crashes at each of its points, and continues from there."""

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .._treadle import Run
from ..exceptions import RunEnded
from ..workflow import Workflow
from .clock import ManualClock, settle

_PATIENCE = 5.0
_PAUSE = 0.002


@dataclass(frozen=True)
class CrashPoint:
    """A point at which a run was stopped.

    Attributes:
        number: the place of the point in the run, from 1.
        after: what had just happened: "started", "finished", "stored", "sent", "waiting", …
        snapshot: the run at that point.
        sent: the number of events from outside that had been sent.
    """

    number: int
    after: str
    snapshot: bytes = field(repr=False)
    sent: int


@dataclass
class CrashReport:
    """The results of continuing from every point.

    Attributes:
        outcome: how the undisturbed run ended, with its state.
        points: all points, in order.
        differences: a line for each point from which the run ended in another way.
    """

    outcome: tuple[Any, ...]
    points: list[CrashPoint]
    differences: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Raise unless the run ends in the same way from every point.

        Raises:
            AssertionError: it does not; lists where and how.
        """
        if self.differences:
            lines = "".join(f"\n  - {line}" for line in self.differences)
            raise AssertionError(f"undisturbed, the run gave {self.outcome!r}, but{lines}")


async def crash_points(
    workflow: Workflow,
    event: object = None,
    /,
    *,
    send: Iterable[object] = (),
    secret: str | bytes | None = None,
    **fields: Any,
) -> CrashReport:
    """Stop a run at each of its points, continue from each, and compare how it ends.

    The run gets a clock of its own that jumps to whatever is due next, so that sleeps and retries
    take no time. What steps do outside of the run happens again for each point.

    Args:
        workflow: the workflow.
        event: the first event, or else the fields of the start event by keyword.
        send: events from outside. Each is sent once the run has nothing else to do.
        secret: what snapshots are signed with; one of this process if not given.

    Returns:
        A report; call its `check()`.

    >>> import asyncio
    >>> from treadle import Context, StartEvent, StopEvent, Workflow, step
    >>> @step
    ... async def count(ctx: Context, ev: StartEvent) -> StopEvent:
    ...     return StopEvent(result=ctx.increment("visits"))
    >>> report = asyncio.run(crash_points(Workflow("count", [count])))
    >>> print(report.differences[0])
    point 2 (after stored): ('completed', 2, {'visits': 2})
    """
    signing = os.urandom(32) if secret is None else secret
    events = list(send)
    points: list[CrashPoint] = []
    driver = _Driver(events)

    def note(run: Run, word: str) -> None:
        driver.changes += 1
        try:
            snapshot = run._snapshot(signing)
        except RunEnded:
            return
        points.append(CrashPoint(len(points) + 1, word, snapshot, driver.sent))

    with ManualClock() as clock:
        run = workflow.run(event, **fields)
        run._probe(note)
        outcome = await driver.drive(run, clock)
    report = CrashReport(outcome, points)
    for point in points:
        with ManualClock() as clock:
            resumed = workflow.resume(point.snapshot, secret=signing)
            again = _Driver(events, point.sent)
            resumed._probe(again.count)
            ended = await again.drive(resumed, clock)
        if ended != outcome:
            report.differences.append(f"point {point.number} (after {point.after}): {ended!r}")
    return report


class _Driver:
    """Sends events into a run and turns its clock, until it ends."""

    def __init__(self, events: list[object], sent: int = 0) -> None:
        self.events = events
        self.sent = sent
        self.changes = 0

    def count(self, _: Run, __: str) -> None:
        self.changes += 1

    async def drive(self, run: Run, clock: ManualClock) -> tuple[Any, ...]:
        waited = 0.0
        awaiting = asyncio.ensure_future(_outcome(run))
        while not awaiting.done():
            before = self.changes
            await settle()
            if awaiting.done() or self.changes != before:
                continue
            if self.sent < len(self.events):
                self.sent += 1
                run.send_event(self.events[self.sent - 1])
            elif not await clock.advance_to_next():
                # It waits for something of the outside: real input or output, a thread.
                await asyncio.sleep(_PAUSE)
                waited += _PAUSE
                if waited > _PATIENCE:
                    run.cancel()
        return (*await awaiting, run._state())


async def _outcome(run: Run) -> tuple[Any, ...]:
    try:
        return ("completed", await run)
    except asyncio.CancelledError:
        return ("cancelled",)
    except Exception as error:
        return ("failed", type(error), str(error))

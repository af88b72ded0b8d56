"""A manual clock for tests."""

import asyncio
from contextvars import ContextVar, Token
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from .. import _treadle, checks

current_clock: ContextVar[_treadle.ManualClock] = ContextVar("treadle_clock")

_PASSES = 32
# The last second that a `datetime` can show.
_END = 253_402_300_799.0


class ManualClock:
    """The time of runs that are created inside a `with`: it passes when the test says so.

    It is the clock of `ctx.sleep`, of the timeouts of waits, steps and runs, and of the
    delays of retries. `asyncio.sleep`, `asyncio.timeout` and real input and output do not.

    >>> import asyncio
    >>> from treadle import Context, StartEvent, StopEvent, Workflow, step
    >>> @step
    ... async def remind(ctx: Context, ev: StartEvent) -> StopEvent:
    ...     await ctx.sleep(3 * 86_400)
    ...     return StopEvent(result="three days later")
    >>> async def main():
    ...     with ManualClock() as clock:
    ...         run = Workflow("remind", [remind]).run()
    ...         await clock.advance(days=3)
    ...         print(await run)
    >>> asyncio.run(main())
    three days later
    """

    def __init__(self) -> None:
        self._clock = _treadle.ManualClock()
        self._tokens: list[Token[_treadle.ManualClock]] = []

    def __enter__(self) -> Self:
        self._tokens.append(current_clock.set(self._clock))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        current_clock.reset(self._tokens.pop())

    @property
    def now(self) -> datetime:
        """The time by this clock."""
        return datetime.fromtimestamp(self._clock.now, UTC)

    @property
    def next_deadline(self) -> datetime | None:
        """The next deadline of any run on this clock."""
        due = self._clock.next_deadline()
        return None if due is None else datetime.fromtimestamp(due, UTC)

    async def advance(
        self,
        seconds: float | timedelta = 0,
        *,
        minutes: float = 0,
        hours: float = 0,
        days: float = 0,
    ) -> None:
        """Let time pass. What is due in between happens at its time, in order.

        Raises:
            TypeError, ValueError: not a time, negative or infinite.
        """
        by = (
            checks.duration("seconds", seconds, zero=True)
            + 60 * checks.ratio("minutes", minutes, least=0)
            + 3600 * checks.ratio("hours", hours, least=0)
            + 86_400 * checks.ratio("days", days, least=0)
        )
        if self._clock.now + by > _END:
            raise ValueError(f"a clock ends with the year 9999; {by:g} seconds are too many")
        await settle()
        until = self._clock.now + by
        while (due := self._clock.next_deadline()) is not None and due <= until:
            await self._turn(due)
        await self._turn(until)

    async def advance_to_next(self) -> bool:
        """Let time pass until the next deadline. Return whether there was one."""
        await settle()
        due = self._clock.next_deadline()
        if due is not None:
            await self._turn(due)
        return due is not None

    async def _turn(self, to: float) -> None:
        self._clock.set(to)
        await settle()


async def settle() -> None:
    """Give the runs of the event loop the turns that they need until they wait again."""
    for _ in range(_PASSES):
        await asyncio.sleep(0)

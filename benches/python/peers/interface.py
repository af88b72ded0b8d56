"""What each engine module offers.

A workload is a module-level function. It builds whatever a user builds once (a workflow, a graph)
and returns a `Run`: calling that makes one run, awaiting it gives the run's result, which the
harness checks. A workload an engine cannot express is named in `LACKS` with the reason.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Protocol

Run = Callable[[], Awaitable[object]]


class Store(Protocol):
    """An engine's keyed values, seen from inside a step."""

    def setter(self, key: str, value: Any) -> Callable[[], Any]:
        """A call without arguments that stores `value` under `key`."""

    def getter(self, key: str) -> Callable[[], Any]:
        """A call without arguments that reads what is stored under `key`."""


class Engine(Protocol):
    """The shape of a module in this package."""

    LACKS: dict[str, str]  # workload -> why this engine has no function for it

    def chain(self) -> Run:
        """Three steps, start -> A -> B -> stop, each adding 1 to a number: the result is 3."""

    def loop(self, steps: int) -> Run:
        """One run in which a step hands itself a counter `steps` times: the result is `steps`."""

    def fan_out(self, workers: int, suspend: bool) -> Run:
        """One step starts `workers` steps and one joins them: the result is `workers`.

        With `suspend` each worker awaits `asyncio.sleep(0)` once.
        """

    def memos(self, calls: int) -> Run:
        """One step awaits a coroutine function `calls` times, so that a retry would not call again.

        The measure makes the bare calls. The result is the sum of the numbers that they return.
        """

    def children(self, runs: int) -> Run:
        """One step starts `runs` runs of one step at once, and awaits them.

        The result is the sum of their results, which are the numbers that they were given.
        """

    def stream(self, events: int) -> Run:
        """A step writes `events` events without a pause, a reader outside takes them.

        The result is the number of events that the reader got.
        """

    def waiting(self, runs: int) -> AsyncGenerator[None, None]:
        """Starts `runs` runs, yields when each of them waits inside a step, then ends them all."""

    def context(self, measure: Callable[[Store], Awaitable[None]]) -> Awaitable[object]:
        """One run whose only step awaits `measure(store)`."""

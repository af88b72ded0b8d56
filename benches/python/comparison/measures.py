"""How one number is taken: each function runs inside the engine's own process."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence
from itertools import repeat
from time import perf_counter

Run = Callable[[], Awaitable[object]]


class WrongResult(Exception):
    """A run ended with something else than the workload's result."""


async def batch(run: Run, times: int) -> tuple[float, object]:
    """Seconds for `times` runs, one after another, and the result of the last."""
    result: object = None
    gc.collect()
    begin = perf_counter()
    for _ in repeat(None, times):
        result = await run()
    return perf_counter() - begin, result


async def timed(run: Run, expected: object, budget: float, times: int) -> tuple[float, int, object]:
    """Seconds of one run, the batch size and a run's result.

    With `times` 0 the batch grows until it fills `budget` seconds.
    """
    taken, result = await batch(run, times or 1)
    if not times:
        times = 1
        while taken < budget:
            times = max(times * 2, int(1.2 * times * budget / max(taken, 1e-9)))
            taken, result = await batch(run, times)
    check(result, expected)
    return taken / times, times, result


def check(result: object, expected: object) -> None:
    if expected is not None and result != expected:
        raise WrongResult(f"the result is {result!r} instead of {expected!r}")


async def lengths(make: Callable[[int], Run], steps: Sequence[int]) -> dict[str, float]:
    """How far the time per step depends on the run's length: the slowest over the quickest.

    Each length gets as many runs as make the steps of the longest, three times in turn; the least
    of the three counts, as what else the machine does only adds.
    """
    runs = {length: make(length) for length in steps}
    least = dict.fromkeys(steps, float("inf"))
    for _ in range(3):
        for length, run in runs.items():
            taken, result = await batch(run, max(steps) // length)
            check(result, length)
            least[length] = min(least[length], taken / max(steps))
    return {"spread": max(least.values()) / min(least.values())}


async def gathered(run: Run, expected: object, runs: int) -> float:
    """Seconds until `runs` runs started together have all ended, divided by `runs`."""

    async def one() -> object:
        return await run()

    gc.collect()
    begin = perf_counter()
    results = await asyncio.gather(*[one() for _ in range(runs)])
    taken = perf_counter() - begin
    check(results, [expected] * runs)
    return taken / runs


async def clients(run: Run, count: int, seconds: float) -> dict[str, float]:
    """`count` clients that start a run as soon as their last one ended, for `seconds`.

    `seconds` of the answer is the 99th percentile of a run's time as its client sees it, `late` the
    longest that a task sleeping 5 ms on the same loop overslept, `served` the share of the clients
    that got at least one run.
    """
    latencies: list[float] = []
    served = 0
    gc.collect()
    end = perf_counter() + seconds

    async def client() -> None:
        nonlocal served
        first = True
        while (begin := perf_counter()) < end:
            await run()
            latencies.append(perf_counter() - begin)
            served += first
            first = False

    async def heartbeat() -> float:
        worst = 0.0
        while (begin := perf_counter()) < end:
            await asyncio.sleep(0.005)
            worst = max(worst, perf_counter() - begin - 0.005)
        return worst

    late, *_ = await asyncio.gather(heartbeat(), *[client() for _ in range(count)])
    latencies.sort()
    return {
        "seconds": latencies[int(len(latencies) * 0.99)],
        "late": late,
        "served": served / count,
        "runs": len(latencies) / seconds,
    }

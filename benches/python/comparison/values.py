"""The context table: the time of one `set` and one `get` inside a step, by kind of value."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import repeat
from statistics import median
from time import perf_counter
from typing import Any

from pydantic import BaseModel

MEGABYTE = 1_000_000


class Profile(BaseModel):
    name: str
    age: int
    tags: list[str]


def kinds(gigabyte: bool) -> dict[str, Any]:
    """The values, by the name of their row."""
    many = {f"key {n}": {"a": n, "b": [1, 2, 3], "c": "hello"} for n in range(200)}
    values: dict[str, Any] = {
        "int": 123_456,
        "short str": "user_123",
        "small dict": {"a": 1, "b": [1, 2, 3], "c": "hello"},
        "200 dicts": many,
        "1 MB bytes": b"x" * MEGABYTE,
        "pydantic model": Profile(name="Alice", age=42, tags=["a", "b"]),
    }
    if gigabyte:
        values["1 GB bytes"] = b"x" * (1000 * MEGABYTE)
    return values


async def seconds(call: Callable[[], Any], budget: float) -> float:
    """Seconds of one call: the median of five batches that take `budget` each.

    A call that gives a coroutine is awaited in the same loop.
    """
    first = call()
    wait = inspect.isawaitable(first)
    if wait:
        await first
    times, taken = 1, 0.0
    while taken < budget:
        times = times * 2 if taken < budget / 10 else int(times * budget / taken) + 1
        taken = await _batch(call, times, wait)
    return median([taken, *[await _batch(call, times, wait) for _ in range(4)]]) / times


async def _batch(call: Callable[[], Any], times: int, wait: bool) -> float:
    begin = perf_counter()
    if wait:
        for _ in repeat(None, times):
            await call()
    else:
        for _ in repeat(None, times):
            call()
    return perf_counter() - begin


async def measure(store: Any, budget: float, gigabyte: bool) -> dict[str, float]:
    """Seconds by `<kind>.set` and `<kind>.get`; what comes out must equal what went in."""
    answer: dict[str, float] = {}
    for kind, value in kinds(gigabyte).items():
        setter, getter = store.setter(kind, value), store.getter(kind)
        answer[f"{kind}.set"] = await seconds(setter, budget)
        answer[f"{kind}.get"] = await seconds(getter, budget)
        found = getter()
        if inspect.isawaitable(found):
            found = await found
        if found != value:
            raise ValueError(f"{kind}: {found!r:.60} came back")
    return answer

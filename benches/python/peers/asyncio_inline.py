"""The floor `inline`: each step is awaited where it stands, without a task or a dispatch."""

from __future__ import annotations

import asyncio

from .asyncio_tasks import A, B, Start, Stop
from .interface import Run

LACKS = {
    "stream": "a reader needs a second task: that is the measure `task`",
    "waiting": "a run that waits is a task: that is the measure `task`",
    "context": "has no store of its own; the floors are a plain dict, orjson and pickle",
}


def chain() -> Run:
    async def start(event: Start) -> A:
        return A(event.n + 1)

    async def a(event: A) -> B:
        return B(event.n + 1)

    async def b(event: B) -> Stop:
        return Stop(event.n + 1)

    async def run() -> object:
        return (await b(await a(await start(Start(0))))).result

    return run


def loop(steps: int) -> Run:
    async def tick(event: A) -> A | Stop:
        n = event.n + 1
        return A(n) if n < steps else Stop(n)

    async def run() -> object:
        event: A | Stop = A(0)
        while isinstance(event, A):
            event = await tick(event)
        return event.result

    return run


def fan_out(workers: int, suspend: bool) -> Run:
    async def work(event: A) -> B:
        if suspend:
            await asyncio.sleep(0)
        return B(event.n)

    async def run() -> object:
        return len([await work(A(n)) for n in range(workers)])

    return run

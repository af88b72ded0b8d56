"""The measure `task`: a dispatch loop written by hand, with one asyncio task for every step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from .interface import Run

LACKS = {"context": "has no store of its own; the floors are a plain dict, orjson and pickle"}

Step = Callable[[Any], Coroutine[Any, Any, Any]]


@dataclass(slots=True)
class Start:
    n: int


@dataclass(slots=True)
class A:
    n: int


@dataclass(slots=True)
class B:
    n: int


@dataclass(slots=True)
class Joined:
    events: list[Any]


@dataclass(slots=True)
class Stop:
    result: Any


async def dispatch(steps: dict[type, Step], event: Any) -> Any:
    """Hands each event to the step for its class; a list runs as so many tasks, then joins."""
    loop = asyncio.get_running_loop()
    while type(event) is not Stop:
        if type(event) is list:
            tasks = [loop.create_task(steps[type(each)](each)) for each in event]
            event = Joined(await asyncio.gather(*tasks))
        else:
            event = await loop.create_task(steps[type(event)](event))
    return event.result


def chain() -> Run:
    async def start(event: Start) -> A:
        return A(event.n + 1)

    async def a(event: A) -> B:
        return B(event.n + 1)

    async def b(event: B) -> Stop:
        return Stop(event.n + 1)

    steps: dict[type, Step] = {Start: start, A: a, B: b}

    async def run() -> Any:
        return await dispatch(steps, Start(0))

    return run


def loop(steps: int) -> Run:
    async def start(event: Start) -> A:
        return A(event.n)

    async def tick(event: A) -> A | Stop:
        n = event.n + 1
        return A(n) if n < steps else Stop(n)

    table: dict[type, Step] = {Start: start, A: tick}

    async def run() -> Any:
        return await dispatch(table, Start(0))

    return run


def fan_out(workers: int, suspend: bool) -> Run:
    async def start(event: Start) -> list[A]:
        return [A(n) for n in range(workers)]

    async def work(event: A) -> B:
        if suspend:
            await asyncio.sleep(0)
        return B(event.n)

    async def join(event: Joined) -> Stop:
        return Stop(len(event.events))

    table: dict[type, Step] = {Start: start, A: work, Joined: join}

    async def run() -> Any:
        return await dispatch(table, Start(0))

    return run


async def number_of(number: int) -> int:
    return number


def memos(calls: int) -> Run:
    async def start(event: Start) -> Stop:
        return Stop(sum([await number_of(n) for n in range(calls)]))

    async def run() -> Any:
        return await dispatch({Start: start}, Start(0))

    return run


def children(runs: int) -> Run:
    async def one(event: Start) -> Stop:
        return Stop(event.n)

    async def start(event: Start) -> Stop:
        started = [dispatch({Start: one}, Start(n)) for n in range(runs)]
        return Stop(sum(await asyncio.gather(*started)))

    async def run() -> Any:
        return await dispatch({Start: start}, Start(0))

    return run


def stream(events: int) -> Run:
    async def run() -> int:
        queue: asyncio.Queue[A | None] = asyncio.Queue()

        async def start(event: Start) -> Stop:
            for n in range(events):
                queue.put_nowait(A(n))
            queue.put_nowait(None)
            return Stop(events)

        running = asyncio.create_task(dispatch({Start: start}, Start(0)))
        taken = 0
        while await queue.get() is not None:
            taken += 1
        await running
        return taken

    return run


async def waiting(runs: int) -> AsyncGenerator[None, None]:
    """The bare case: each run is one task that awaits a future of its own."""
    loop = asyncio.get_running_loop()

    async def wait(answer: asyncio.Future[None]) -> None:
        await answer

    answers = [loop.create_future() for _ in range(runs)]
    tasks = [loop.create_task(wait(answer)) for answer in answers]
    await asyncio.sleep(0)
    yield
    for answer in answers:
        answer.set_result(None)
    for task in tasks:
        await task

"""treadle: plain steps in a `Workflow`, fan-out by returning a list, `collect_events` as join."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from treadle import Context, Event, StartEvent, StopEvent, Workflow, step

from .interface import Run
from .interface import Store as StoreShape

LACKS: dict[str, str] = {}


class A(Event):
    n: int


class B(Event):
    n: int


def chain() -> Run:
    @step
    async def start(ev: StartEvent) -> A:
        return A(n=ev.n + 1)

    @step
    async def a(ev: A) -> B:
        return B(n=ev.n + 1)

    @step
    async def b(ev: B) -> StopEvent:
        return StopEvent(result=ev.n + 1)

    workflow = Workflow("chain", [start, a, b])

    async def run() -> object:
        return await workflow.run(n=0)

    return run


def loop(steps: int) -> Run:
    @step
    async def start(ev: StartEvent) -> A:
        return A(n=0)

    @step
    async def tick(ev: A) -> A | StopEvent:
        n = ev.n + 1
        return A(n=n) if n < steps else StopEvent(result=n)

    workflow = Workflow("loop", [start, tick])

    async def run() -> object:
        return await workflow.run()

    return run


def fan_out(workers: int, suspend: bool) -> Run:
    expected = [B] * workers

    @step
    async def start(ev: StartEvent) -> list[A]:
        return [A(n=n) for n in range(workers)]

    @step
    async def work(ev: A) -> B:
        if suspend:
            await asyncio.sleep(0)
        return B(n=ev.n)

    @step
    async def join(ctx: Context, ev: B) -> StopEvent | None:
        done = ctx.collect_events(ev, expected)
        return None if done is None else StopEvent(result=len(done))

    workflow = Workflow("fan_out", [start, work, join])

    async def run() -> object:
        return await workflow.run()

    return run


async def number_of(number: int) -> int:
    return number


def memos(calls: int) -> Run:
    @step
    async def start(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=sum([await ctx.once("ask", number_of, n) for n in range(calls)]))

    workflow = Workflow("memos", [start])

    async def run() -> object:
        return await workflow.run()

    return run


def children(runs: int) -> Run:
    @step
    async def one(ev: StartEvent) -> StopEvent:
        return StopEvent(result=ev.n)

    small = Workflow("small", [one])

    @step
    async def start(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(
            result=sum(await asyncio.gather(*[ctx.run(small, n=n) for n in range(runs)]))
        )

    workflow = Workflow("children", [start])

    async def run() -> object:
        return await workflow.run()

    return run


def stream(events: int) -> Run:
    @step
    async def start(ctx: Context, ev: StartEvent) -> StopEvent:
        for n in range(events):
            ctx.write_event_to_stream(A(n=n))
        return StopEvent(result=events)

    workflow = Workflow("stream", [start])

    async def run() -> int:
        run = workflow.run()
        taken = 0
        async for event in run.stream_events():
            taken += type(event) is A
        await run
        return taken

    return run


async def waiting(runs: int) -> AsyncGenerator[None, None]:
    arrived = 0

    @step
    async def start(ctx: Context, ev: StartEvent) -> StopEvent:
        nonlocal arrived
        arrived += 1
        answer = await ctx.wait_for_event(A)
        return StopEvent(result=answer.n)

    workflow = Workflow("waiting", [start])
    waiters = [workflow.run() for _ in range(runs)]
    while arrived < runs:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    yield
    for waiter in waiters:
        waiter.send_event(A(n=1))
    for waiter in waiters:
        await waiter


class Store:
    """The context itself, whose calls are synchronous."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx

    def setter(self, key: str, value: Any) -> Callable[[], Any]:
        ctx = self.ctx
        return lambda: ctx.set(key, value)

    def getter(self, key: str) -> Callable[[], Any]:
        ctx = self.ctx
        return lambda: ctx.get(key)


async def context(measure: Callable[[StoreShape], Awaitable[None]]) -> object:
    @step
    async def start(ctx: Context, ev: StartEvent) -> StopEvent:
        await measure(Store(ctx))
        return StopEvent()

    return await Workflow("context", [start]).run()

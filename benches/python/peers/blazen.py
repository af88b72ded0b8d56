"""Blazen: steps in a `Workflow`, fan-out by returning a list, a count in the context as join."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from blazen import Context, Event, StartEvent, StopEvent, Workflow, step

from .interface import Run
from .interface import Store as StoreShape

LACKS: dict[str, str] = {}


class A(Event):
    n: int


class B(Event):
    n: int


def chain() -> Run:
    @step
    async def start(ctx: Context, ev: StartEvent) -> Event:
        return A(n=ev.n + 1)

    @step
    async def a(ctx: Context, ev: A) -> Event:
        return B(n=ev.n + 1)

    @step
    async def b(ctx: Context, ev: B) -> Event:
        return StopEvent(result=ev.n + 1)

    workflow = Workflow("chain", [start, a, b])

    async def run() -> object:
        return (await workflow.run(n=0)).result

    return run


def loop(steps: int) -> Run:
    @step
    async def start(ctx: Context, ev: StartEvent) -> Event:
        return A(n=0)

    @step
    async def tick(ctx: Context, ev: A) -> Event:
        n = ev.n + 1
        return A(n=n) if n < steps else StopEvent(result=n)

    workflow = Workflow("loop", [start, tick])

    async def run() -> object:
        return (await workflow.run()).result

    return run


def fan_out(workers: int, suspend: bool) -> Run:
    @step
    async def start(ctx: Context, ev: StartEvent) -> list[A]:
        return [A(n=n) for n in range(workers)]

    @step
    async def work(ctx: Context, ev: A) -> Event:
        if suspend:
            await asyncio.sleep(0)
        return B(n=ev.n)

    @step
    async def join(ctx: Context, ev: B) -> Event | None:
        done = ctx.get("done", 0) + 1
        ctx.set("done", done)
        return StopEvent(result=done) if done == workers else None

    workflow = Workflow("fan_out", [start, work, join])

    async def run() -> object:
        return (await workflow.run()).result

    return run


def stream(events: int) -> Run:
    @step
    async def start(ctx: Context, ev: StartEvent) -> Event:
        for n in range(events):
            ctx.write_event_to_stream(A(n=n))
        return StopEvent(result=events)

    workflow = Workflow("stream", [start])

    async def run() -> int:
        handler = await workflow.run_with_handler()
        taken = 0
        async for event in handler.stream_events():
            taken += event.event_type == "A"
        await handler.result()
        return taken

    return run


async def waiting(runs: int) -> AsyncGenerator[None, None]:
    """Each run's step awaits a future of the event loop."""
    loop = asyncio.get_running_loop()
    answers = [loop.create_future() for _ in range(runs)]
    arrived = asyncio.Semaphore(0)

    @step
    async def start(ctx: Context, ev: StartEvent) -> Event:
        arrived.release()
        await answers[ev.n]
        return StopEvent(result=ev.n)

    workflow = Workflow("waiting", [start])
    handlers = [await workflow.run_with_handler(n=n) for n in range(runs)]
    for _ in range(runs):
        await arrived.acquire()
    yield
    for answer in answers:
        answer.set_result(None)
    for handler in handlers:
        await handler.result()


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
    async def start(ctx: Context, ev: StartEvent) -> Event:
        await measure(Store(ctx))
        return StopEvent(result=0)

    return (await Workflow("context", [start]).run()).result

"""LlamaIndex Workflows: steps of a `Workflow` class, fan-out by returning a list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from .interface import Run
from .interface import Store as StoreShape

LACKS: dict[str, str] = {}


class A(Event):
    n: int


class B(Event):
    n: int


def chain() -> Run:
    class Chain(Workflow):
        @step
        async def start(self, ev: StartEvent) -> A:
            return A(n=ev.n + 1)

        @step
        async def a(self, ev: A) -> B:
            return B(n=ev.n + 1)

        @step
        async def b(self, ev: B) -> StopEvent:
            return StopEvent(result=ev.n + 1)

    workflow = Chain(timeout=None)

    async def run() -> object:
        return await workflow.run(n=0)

    return run


def loop(steps: int) -> Run:
    class Loop(Workflow):
        @step
        async def start(self, ev: StartEvent) -> A:
            return A(n=0)

        @step
        async def tick(self, ev: A) -> A | StopEvent:
            n = ev.n + 1
            return A(n=n) if n < steps else StopEvent(result=n)

    workflow = Loop(timeout=None)

    async def run() -> object:
        return await workflow.run()

    return run


def fan_out(workers: int, suspend: bool) -> Run:
    """A list out, a list in; `num_workers` stays at its default: more are slower here."""

    class FanOut(Workflow):
        @step
        async def start(self, ev: StartEvent) -> list[A]:
            return [A(n=n) for n in range(workers)]

        @step
        async def work(self, ev: A) -> B:
            if suspend:
                await asyncio.sleep(0)
            return B(n=ev.n)

        @step
        async def join(self, events: list[B]) -> StopEvent:
            return StopEvent(result=len(events))

    workflow = FanOut(timeout=None)

    async def run() -> object:
        return await workflow.run()

    return run


def stream(events: int) -> Run:
    class Stream(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            for n in range(events):
                ctx.write_event_to_stream(A(n=n))
            return StopEvent(result=events)

    workflow = Stream(timeout=None)

    async def run() -> int:
        handler = workflow.run()
        taken = 0
        async for event in handler.stream_events():
            taken += type(event) is A
        await handler
        return taken

    return run


async def waiting(runs: int) -> AsyncGenerator[None, None]:
    arrived = 0

    class Waiting(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            nonlocal arrived
            arrived += 1
            answer = await ctx.wait_for_event(A, timeout=None)
            return StopEvent(result=answer.n)

    workflow = Waiting(timeout=None)
    handlers = [workflow.run() for _ in range(runs)]
    while arrived < runs:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)
    yield
    for handler in handlers:
        handler.ctx.send_event(A(n=1))
    for handler in handlers:
        await handler


class Store:
    """`ctx.store`, whose calls are coroutines."""

    def __init__(self, ctx: Context) -> None:
        self.store = ctx.store

    def setter(self, key: str, value: Any) -> Callable[[], Any]:
        store = self.store
        return lambda: store.set(key, value)

    def getter(self, key: str) -> Callable[[], Any]:
        store = self.store
        return lambda: store.get(key)


async def context(measure: Callable[[StoreShape], Awaitable[None]]) -> object:
    class Values(Workflow):
        @step
        async def start(self, ctx: Context, ev: StartEvent) -> StopEvent:
            await measure(Store(ctx))
            return StopEvent()

    return await Values(timeout=None).run()

"""pydantic-graph: steps and edges of a `GraphBuilder`, fan-out by `map`, a reducing join."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from pydantic_graph import GraphBuilder, StepContext, TypeExpression, reduce_list_append

from .interface import Run

LACKS = {
    "stream": "no events to the outside: a `stream` step feeds other steps",
    "context": "the state is one live object of the user",
}

Number = StepContext[None, None, int]


def chain() -> Run:
    graph = GraphBuilder(input_type=int, output_type=int)

    @graph.step
    async def start(ctx: Number) -> int:
        return ctx.inputs + 1

    @graph.step
    async def a(ctx: Number) -> int:
        return ctx.inputs + 1

    @graph.step
    async def b(ctx: Number) -> int:
        return ctx.inputs + 1

    graph.add(
        graph.edge_from(graph.start_node).to(start),
        graph.edge_from(start).to(a),
        graph.edge_from(a).to(b),
        graph.edge_from(b).to(graph.end_node),
    )
    built = graph.build()

    async def run() -> object:
        return await built.run(inputs=0)

    return run


def loop(steps: int) -> Run:
    graph = GraphBuilder(input_type=int, output_type=int)

    @graph.step
    async def tick(ctx: Number) -> int:
        return ctx.inputs + 1

    again = graph.match(TypeExpression[int], matches=lambda n: n < steps).to(tick)
    done = graph.match(TypeExpression[int]).to(graph.end_node)
    graph.add(
        graph.edge_from(graph.start_node).to(tick),
        graph.edge_from(tick).to(graph.decision().branch(again).branch(done)),
    )
    built = graph.build()

    async def run() -> object:
        return await built.run(inputs=0)

    return run


def fan_out(workers: int, suspend: bool) -> Run:
    graph = GraphBuilder(input_type=int, output_type=int)

    @graph.step
    async def start(ctx: Number) -> list[int]:
        return list(range(ctx.inputs))

    @graph.step
    async def work(ctx: Number) -> int:
        if suspend:
            await asyncio.sleep(0)
        return ctx.inputs

    @graph.step
    async def count(ctx: StepContext[None, None, list[int]]) -> int:
        return len(ctx.inputs)

    join = graph.join(reduce_list_append, initial_factory=list[int])
    graph.add(
        graph.edge_from(graph.start_node).to(start),
        graph.edge_from(start).map().to(work),
        graph.edge_from(work).to(join),
        graph.edge_from(join).to(count),
        graph.edge_from(count).to(graph.end_node),
    )
    built = graph.build()

    async def run() -> object:
        return await built.run(inputs=workers)

    return run


async def waiting(runs: int) -> AsyncGenerator[None, None]:
    """Each run's step awaits a future: there is no call that waits for an event."""
    loop = asyncio.get_running_loop()
    answers = [loop.create_future() for _ in range(runs)]
    arrived = asyncio.Semaphore(0)
    graph = GraphBuilder(input_type=int, output_type=int)

    @graph.step
    async def wait(ctx: Number) -> int:
        arrived.release()
        await answers[ctx.inputs]
        return ctx.inputs

    graph.add(
        graph.edge_from(graph.start_node).to(wait),
        graph.edge_from(wait).to(graph.end_node),
    )
    built = graph.build()

    tasks = [loop.create_task(built.run(inputs=n)) for n in range(runs)]
    for _ in range(runs):
        await arrived.acquire()
    yield
    for answer in answers:
        answer.set_result(None)
    for task in tasks:
        await task

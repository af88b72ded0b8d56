"""Burr: a graph of actions built once, one `Application` for each run, fan-out by `MapStates`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from burr.core import Application, ApplicationBuilder, GraphBuilder, State, action, expr
from burr.core.action import streaming_action
from burr.core.graph import Graph
from burr.core.parallelism import MapStates, RunnableGraph

from .interface import Run

LACKS = {"context": "the state is an immutable mapping, replaced as a whole by each action"}


def application(graph: Graph, entrypoint: str, **state: Any) -> Application:
    return (
        ApplicationBuilder().with_graph(graph).with_entrypoint(entrypoint).with_state(**state)
    ).build()


@action(reads=["n"], writes=["n"])
async def increment(state: State) -> State:
    return state.update(n=state["n"] + 1)


def chain() -> Run:
    graph = (
        GraphBuilder()
        .with_actions(start=increment, a=increment, b=increment)
        .with_transitions(("start", "a"), ("a", "b"))
        .build()
    )

    async def run() -> object:
        _, _, state = await application(graph, "start", n=0).arun(halt_after=["b"])
        return state["n"]

    return run


def loop(steps: int) -> Run:
    @action(reads=["n"], writes=["n"])
    async def finish(state: State) -> State:
        return state

    graph = (
        GraphBuilder()
        .with_actions(tick=increment, finish=finish)
        .with_transitions(("tick", "tick", expr(f"n < {steps}")), ("tick", "finish"))
        .build()
    )

    async def run() -> object:
        _, _, state = await application(graph, "tick", n=0).arun(halt_after=["finish"])
        return state["n"]

    return run


def fan_out(workers: int, suspend: bool) -> Run:
    @action(reads=["n"], writes=["done"])
    async def work(state: State) -> State:
        if suspend:
            await asyncio.sleep(0)
        return state.update(done=state["n"])

    worker = RunnableGraph(GraphBuilder().with_actions(work=work).build(), "work", ["work"])

    class Workers(MapStates):
        def action(self, state: State, inputs: dict[str, Any]) -> RunnableGraph:
            return worker

        async def states(self, state: State, context: Any, inputs: dict[str, Any]) -> Any:
            for n in range(workers):
                yield state.update(n=n)

        async def reduce(self, state: State, states: Any) -> State:
            return state.update(done=len([each["done"] async for each in states]))

        def is_async(self) -> bool:
            return True

        @property
        def reads(self) -> list[str]:
            return ["n"]

        @property
        def writes(self) -> list[str]:
            return ["done"]

    graph = (
        GraphBuilder()
        .with_actions(start=increment, workers=Workers())
        .with_transitions(("start", "workers"))
        .build()
    )

    async def run() -> object:
        _, _, state = await application(graph, "start", n=0).arun(halt_after=["workers"])
        return state["done"]

    return run


def stream(events: int) -> Run:
    """A streaming action is a generator: the reader pulls each event out of it."""

    @streaming_action(reads=["n"], writes=["n"])
    async def start(state: State) -> AsyncGenerator[tuple[dict[str, int], State | None], None]:
        for n in range(events):
            yield {"n": n}, None
        yield {"n": events}, state.update(n=events)

    graph = GraphBuilder().with_actions(start=start).build()

    async def run() -> int:
        _, container = await application(graph, "start", n=0).astream_result(halt_after=["start"])
        taken = 0
        async for _ in container:
            taken += 1
        return taken

    return run


async def waiting(runs: int) -> AsyncGenerator[None, None]:
    """Each run's action awaits a future: there is no call that waits for an event."""
    loop = asyncio.get_running_loop()
    answers = [loop.create_future() for _ in range(runs)]
    arrived = asyncio.Semaphore(0)

    @action(reads=["n"], writes=["n"])
    async def wait(state: State) -> State:
        arrived.release()
        await answers[state["n"]]
        return state

    graph = GraphBuilder().with_actions(wait=wait).build()
    tasks = [
        loop.create_task(application(graph, "wait", n=n).arun(halt_after=["wait"]))
        for n in range(runs)
    ]
    for _ in range(runs):
        await arrived.acquire()
    yield
    for answer in answers:
        answer.set_result(None)
    for task in tasks:
        await task

"""LangGraph: a compiled `StateGraph`, fan-out by `Send`, events by the custom stream."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncGenerator
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, StreamWriter

from .interface import Run

LACKS = {"context": "the state is a typed dict of live objects, merged once a step"}


class Counter(TypedDict):
    n: int


class Joined(TypedDict):
    n: int
    done: Annotated[list[int], operator.add]


async def increment(state: Counter) -> Counter:
    return {"n": state["n"] + 1}


def chain() -> Run:
    graph = StateGraph(Counter)
    for name in ("start", "a", "b"):
        graph.add_node(name, increment)
    graph.add_edge(START, "start")
    graph.add_edge("start", "a")
    graph.add_edge("a", "b")
    graph.add_edge("b", END)
    app = graph.compile()

    async def run() -> object:
        return (await app.ainvoke({"n": 0}))["n"]

    return run


def loop(steps: int) -> Run:
    graph = StateGraph(Counter)
    graph.add_node("tick", increment)
    graph.add_edge(START, "tick")
    graph.add_conditional_edges("tick", lambda state: "tick" if state["n"] < steps else END)
    app = graph.compile()

    async def run() -> object:
        return (await app.ainvoke({"n": 0}, {"recursion_limit": steps + 10}))["n"]

    return run


def fan_out(workers: int, suspend: bool) -> Run:
    async def start(state: Joined) -> dict[str, Any]:
        return {"n": 0}

    async def work(state: Counter) -> dict[str, Any]:
        if suspend:
            await asyncio.sleep(0)
        return {"done": [state["n"]]}

    async def join(state: Joined) -> dict[str, Any]:
        return {"n": len(state["done"])}

    graph = StateGraph(Joined)
    graph.add_node("start", start)
    graph.add_node("work", work)
    graph.add_node("join", join)
    graph.add_edge(START, "start")
    graph.add_conditional_edges(
        "start", lambda state: [Send("work", {"n": n}) for n in range(workers)], ["work"]
    )
    graph.add_edge("work", "join")
    graph.add_edge("join", END)
    app = graph.compile()

    async def run() -> object:
        return (await app.ainvoke({"n": 0, "done": []}))["n"]

    return run


def stream(events: int) -> Run:
    async def start(state: Counter, writer: StreamWriter) -> Counter:
        for n in range(events):
            writer({"n": n})
        return {"n": events}

    graph = StateGraph(Counter)
    graph.add_node("start", start)
    graph.add_edge(START, "start")
    graph.add_edge("start", END)
    app = graph.compile()

    async def run() -> int:
        taken = 0
        async for _ in app.astream({"n": 0}, stream_mode="custom"):
            taken += 1
        return taken

    return run


async def waiting(runs: int) -> AsyncGenerator[None, None]:
    """Each run's node awaits a future; `interrupt` would end the run and keep a checkpoint."""
    loop = asyncio.get_running_loop()
    answers = [loop.create_future() for _ in range(runs)]
    arrived = asyncio.Semaphore(0)

    async def wait(state: Counter) -> Counter:
        arrived.release()
        await answers[state["n"]]
        return state

    graph = StateGraph(Counter)
    graph.add_node("wait", wait)
    graph.add_edge(START, "wait")
    graph.add_edge("wait", END)
    app = graph.compile()

    tasks = [loop.create_task(app.ainvoke({"n": n})) for n in range(runs)]
    for _ in range(runs):
        await arrived.acquire()
    yield
    for answer in answers:
        answer.set_result(None)
    for task in tasks:
        await task

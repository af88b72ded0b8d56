"""LangGraph with its SQLite saver, synchronous=FULL."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TypedDict


class State(TypedDict):
    n: int


async def one_after_another(path: Path, runs: int) -> float:
    """A graph of three nodes, each checkpointed."""
    return await _measure(path, runs, at_once=False)


async def at_once(path: Path, runs: int) -> float:
    """The same, all at once."""
    return await _measure(path, runs, at_once=True)


async def _measure(path: Path, runs: int, at_once: bool) -> float:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
    from langgraph.graph import END, START, StateGraph

    async def work(state: State) -> State:
        return {"n": state["n"]}

    graph = StateGraph(State)
    for name in ("a", "b", "c"):
        graph.add_node(name, work)
    graph.add_edge(START, "a")
    graph.add_edge("a", "b")
    graph.add_edge("b", "c")
    graph.add_edge("c", END)
    async with AsyncSqliteSaver.from_conn_string(str(path / "graph.db")) as saver:
        await saver.setup()
        await saver.conn.execute("PRAGMA synchronous = FULL")
        compiled = graph.compile(checkpointer=saver)

        async def one(n: int) -> None:
            config = {"configurable": {"thread_id": str(n)}}
            await compiled.ainvoke({"n": n}, config, durability="sync")

        await one(-1)
        begin = time.perf_counter()
        if at_once:
            await asyncio.gather(*[one(n) for n in range(runs)])
        else:
            for n in range(runs):
                await one(n)
        return time.perf_counter() - begin

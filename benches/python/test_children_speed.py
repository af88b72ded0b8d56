"""Children beside runs started by hand: in memory, and in a journal beside independent runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from treadle import Context, Engine, StartEvent, StopEvent, Workflow, step

IN_MEMORY = 10_000
IN_A_JOURNAL = 2_000


@step
async def one(ev: StartEvent) -> StopEvent:
    return StopEvent(result=ev.n)


SMALL = Workflow("small", [one])


@step
async def children(ctx: Context, ev: StartEvent) -> StopEvent:
    return StopEvent(result=sum(await asyncio.gather(*[ctx.run(SMALL, n=n) for n in range(ev.n)])))


@step
async def by_hand(ctx: Context, ev: StartEvent) -> StopEvent:
    return StopEvent(result=sum(await asyncio.gather(*[SMALL.run(n=n) for n in range(ev.n)])))


@pytest.mark.parametrize("body", [by_hand, children])
def test_runs_of_one_parent_in_memory(body: Any, time_runs: Callable[..., None]) -> None:
    workflow = Workflow("w", [body])
    expected = IN_MEMORY * (IN_MEMORY - 1) // 2
    time_runs(f"{IN_MEMORY:,} runs of one parent", lambda: workflow.run(n=IN_MEMORY), expected)


@pytest.mark.parametrize("how", ["independent", "children"])
def test_runs_in_a_journal(
    how: str, benchmark: Any, runner: asyncio.Runner, tmp_path: Path
) -> None:
    benchmark.group = f"{IN_A_JOURNAL:,} runs in a journal"
    workflow = Workflow("w", [children])
    engine = Engine(f"sqlite:///{tmp_path}/runs.db", workflows=[workflow, SMALL])
    runner.run(engine.open())

    async def all_of_them() -> object:
        if how == "children":
            return await engine.run(workflow, n=IN_A_JOURNAL)
        return await asyncio.gather(*[engine.run(SMALL, n=n) for n in range(IN_A_JOURNAL)])

    benchmark.pedantic(lambda: runner.run(all_of_them()), rounds=3)
    runner.run(engine.close())

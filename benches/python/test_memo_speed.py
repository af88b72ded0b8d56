"""Memos beside bare calls: one after another in memory, then in a journal, alone and together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from treadle import Context, Engine, StartEvent, StopEvent, Workflow, step

CALLS = 1_000


async def model(number: int) -> int:
    return number


@step
async def bare(ctx: Context, ev: StartEvent) -> StopEvent:
    return StopEvent(result=sum([await model(number) for number in range(CALLS)]))


@step
async def memos(ctx: Context, ev: StartEvent) -> StopEvent:
    return StopEvent(result=sum([await ctx.once("ask", model, n) for n in range(CALLS)]))


@step
async def gathered(ctx: Context, ev: StartEvent) -> StopEvent:
    asked = (ctx.once("ask", model, number) for number in range(CALLS))
    return StopEvent(result=sum(await asyncio.gather(*asked)))


@pytest.mark.parametrize("body", [bare, memos, gathered])
def test_calls_in_memory(body: Any, time_runs: Callable[..., None]) -> None:
    time_runs(f"{CALLS:,} calls in memory", Workflow("w", [body]).run, CALLS * (CALLS - 1) // 2)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("body", [memos, gathered])
def test_calls_in_a_journal(
    body: Any, benchmark: Any, runner: asyncio.Runner, tmp_path: Path
) -> None:
    # One after another, each waits for the disk.
    benchmark.group = f"{CALLS:,} calls in a journal"
    workflow = Workflow("w", [body])
    engine = Engine(f"sqlite:///{tmp_path}/runs.db", workflows=[workflow])
    runner.run(engine.open())

    async def once() -> object:
        return await engine.run(workflow)

    benchmark.pedantic(lambda: runner.run(once()), rounds=5)
    runner.run(engine.close())

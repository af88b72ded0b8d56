"""A run that is over is not kept by what its steps leave behind."""

import asyncio
import contextvars
import gc
import weakref
from typing import Any

import pytest

from treadle import Context, StartEvent, StopEvent, Workflow, step

MEGABYTE = 1 << 20


async def timer(left: list[Any]) -> None:
    left.append(asyncio.get_running_loop().call_later(1000, int))


async def task(left: list[Any]) -> None:
    left.append(asyncio.create_task(asyncio.sleep(1000)))


async def time_limit(left: list[Any]) -> None:
    async with asyncio.timeout(1000):
        await asyncio.sleep(0)


async def context(left: list[Any]) -> None:
    left.append(contextvars.copy_context())


async def future_callback(left: list[Any]) -> None:
    future = asyncio.get_running_loop().create_future()
    future.add_done_callback(id)
    left.append(future)


@pytest.mark.parametrize("leave", [timer, task, time_limit, context, future_callback])
@pytest.mark.parametrize("driven", [True, False])
async def test_what_a_step_leaves_behind_holds_no_run(leave: Any, driven: bool):
    left: list[Any] = []
    runs: list[weakref.ref[Any]] = []

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.set_bytes("state", bytes(MEGABYTE))
        await leave(left)
        return StopEvent()

    workflow = Workflow("work", [work])
    for _ in range(20):
        run = workflow.run()
        if not driven:
            while run.status in ("running", "waiting"):
                await asyncio.sleep(0)
        await run
        runs.append(weakref.ref(run))
        del run
    gc.collect()
    assert [ref() for ref in runs] == [None] * 20
    for one in left:
        if isinstance(one, asyncio.Task | asyncio.TimerHandle):
            one.cancel()
    await asyncio.sleep(0)


async def test_a_task_that_a_finished_run_left_behind_may_start_runs_of_its_own():
    results: list[Any] = []

    @step
    async def late(ev: StartEvent) -> StopEvent:
        return StopEvent(result="late")

    async def after() -> None:
        await asyncio.sleep(0.01)
        results.append(await Workflow("late", [late]).run())

    @step
    async def work(ev: StartEvent) -> StopEvent:
        results.append(asyncio.create_task(after()))
        return StopEvent()

    await Workflow("work", [work]).run()
    gc.collect()
    await results[0]
    assert results[1] == "late"

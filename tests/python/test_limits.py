"""The time limit of a run counts from its first step; its deadline from when it was made."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from processes import Process

from treadle import (
    Context,
    Engine,
    Event,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowTimeout,
    step,
)
from treadle.testing import ManualClock


class Next(Event):
    pass


@step
async def wait(ev: StartEvent) -> StopEvent:
    await asyncio.sleep(ev.seconds)
    return StopEvent(result="done")


@step
async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
    await ctx.wait_for_event(Next)
    return StopEvent(result="asked")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/runs.db"


async def results(engine: Engine, ids: list[str]) -> list[Any]:
    return await asyncio.gather(*(engine.get(one) for one in ids), return_exceptions=True)


async def test_the_time_in_the_queue_does_not_count(url: str):
    workflow = Workflow("waiting", [wait], timeout=1.5)
    async with Engine(url) as engine:
        ids = [await engine.submit(workflow, seconds=0.6) for _ in range(4)]
    async with Engine(url, workflows=[workflow], concurrency=1) as engine:
        assert await results(engine, ids) == ["done"] * 4


async def test_a_deadline_counts_the_time_in_the_queue(url: str):
    begun: list[int] = []

    @step
    async def work(ev: StartEvent) -> StopEvent:
        begun.append(ev.number)
        await asyncio.sleep(0.3)
        return StopEvent(result="done")

    workflow = Workflow("working", [work], deadline=0.05)
    async with Engine(url) as engine:
        ids = [await engine.submit(workflow, number=number) for number in range(3)]
    await asyncio.sleep(0.1)
    async with Engine(url, workflows=[workflow], concurrency=1) as engine:
        ended = await results(engine, ids)
    assert [type(one) for one in ended] == [WorkflowTimeout] * 3
    assert "was not over by its deadline, 0.05 s after it was made" in str(ended[0])
    assert begun == []


@pytest.mark.parametrize(("limit", "text"), [("timeout", "longer than"), ("deadline", "deadline")])
@pytest.mark.parametrize("durable", [True, False])
async def test_each_stops_a_run_that_waits(url: str, durable: bool, limit: str, text: str):
    options: dict[str, Any] = {limit: timedelta(seconds=0.05)}
    workflow = Workflow("asking", [ask], **options)
    if not durable:
        with pytest.raises(WorkflowTimeout, match=text):
            await workflow.run()
        return
    async with Engine(url, workflows=[workflow]) as engine:
        with pytest.raises(WorkflowTimeout, match=text):
            await engine.run(workflow)


@pytest.mark.parametrize("limit", ["timeout", "deadline"])
async def test_a_snapshot_keeps_the_point_in_time(limit: str):
    options: dict[str, Any] = {limit: 100}
    with ManualClock() as clock:
        workflow = Workflow("asking", [ask], **options)
        run = workflow.run()
        for _ in range(5):
            await asyncio.sleep(0)
        await clock.advance(60)
        again = workflow.resume(await run.snapshot())
        run.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        await clock.advance(39)
        await asyncio.sleep(0)
        assert again.status == "waiting"
        await clock.advance(2)
        with pytest.raises(WorkflowTimeout):
            await again


HOLDER = """
import asyncio
from treadle import *
class Next(Event): pass
@step
async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
    await ctx.wait_for_event(Next)
    return StopEvent(result="asked")
async def main():
    workflow = Workflow("asking", [ask], {limit}=1.0)
    async with Engine(f"sqlite:///{{sys.argv[1]}}", workflows=[workflow], lease=0.5) as engine:
        say(engine.run(workflow).id)
        await asyncio.sleep(1000)
asyncio.run(main())
"""


@pytest.mark.parametrize("limit", ["timeout", "deadline"])
async def test_a_take_over_gives_no_new_time(tmp_path: Path, limit: str):
    path = tmp_path / "runs.db"
    options: dict[str, Any] = {limit: 1.0}
    workflow = Workflow("asking", [ask], **options)
    with Process(path, HOLDER.format(limit=limit)) as process:
        run_id = process.line()
        await asyncio.sleep(0.3)
        process.kill()
    await asyncio.sleep(1.0)
    async with Engine(f"sqlite:///{path}", workflows=[workflow], lease=0.5) as engine:
        with pytest.raises(WorkflowTimeout):
            await engine.get(run_id)
        assert [one["what"] for one in await engine.get(run_id).history()][-1] == "ended"


async def test_a_retry_counts_both_anew(url: str):
    workflow = Workflow("asking", [ask], timeout=0.5, deadline=0.6)
    async with Engine(url, workflows=[workflow]) as engine:
        run = engine.run(workflow)
        with pytest.raises(WorkflowTimeout):
            await run
        again = await engine.retry(run.id)
        await engine.send_event(run.id, Next())
        assert await again == "asked"


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), "soon", True])
def test_a_deadline_is_a_number_of_seconds(deadline: Any):
    with pytest.raises((TypeError, ValueError), match="deadline"):
        Workflow("waiting", [wait], deadline=deadline)

"""Runs on an event loop whose tasks begin at once, which asyncio has from Python 3.12 on."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from treadle import (
    Context,
    Engine,
    Event,
    Retry,
    RunStalled,
    StartEvent,
    StepTimeout,
    StopEvent,
    Workflow,
    step,
)

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="asyncio has no eager tasks before Python 3.12"
)


class Item(Event):
    n: int = 0


class Go(Event):
    pass


def run_eagerly(main: Any) -> Any:
    async def begin() -> Any:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        return await main()

    return asyncio.run(begin())


@step
async def spread(ev: StartEvent) -> list[Item]:
    return [Item(n=n) for n in range(20)]


@step
async def work(ctx: Context, ev: Item) -> StopEvent | None:
    # Some suspend, some do not.
    if ev.n % 2:
        await asyncio.sleep(0.001 * (ev.n % 3))
    ctx.increment("sum", ev.n)
    if ctx.increment("done") < 20:
        return None
    return StopEvent(result=ctx.get("sum"))


fan = Workflow("fan", [spread, work])


def test_a_run_that_is_awaited_ends():
    async def main() -> Any:
        return await fan.run()

    assert run_eagerly(main) == 190


def test_a_run_may_be_awaited_by_eager_tasks():
    async def main() -> Any:
        run = fan.run()

        async def wait() -> Any:
            return await run

        return await asyncio.gather(*(asyncio.create_task(wait()) for _ in range(3)))

    assert run_eagerly(main) == [190] * 3


def test_a_run_is_a_task_of_its_own():
    async def main() -> Any:
        return await asyncio.gather(*(asyncio.create_task(fan.run()) for _ in range(10)))

    assert run_eagerly(main) == [190] * 10


def test_a_run_that_nobody_awaits_goes_on():
    async def main() -> Any:
        run = fan.run()
        run.detach()
        while run.status in ("running", "waiting"):
            await asyncio.sleep(0.001)
        return await run

    assert run_eagerly(main) == 190


def test_a_step_may_start_tasks_and_runs():
    @step
    async def nested(ev: StartEvent) -> StopEvent:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0, n)) for n in range(3)]
            run = group.create_task(_awaited(fan.run()))
        return StopEvent(result=([task.result() for task in tasks], run.result()))

    async def main() -> Any:
        return await Workflow("nested", [nested]).run()

    assert run_eagerly(main) == ([0, 1, 2], 190)


async def _awaited(run: Any) -> Any:
    return await run


def test_a_step_is_in_the_task_that_it_sees():
    @step
    async def look(ev: StartEvent) -> StopEvent:
        before = asyncio.current_task()
        async with asyncio.timeout(10):
            await asyncio.sleep(0)
        return StopEvent(result=asyncio.current_task() is before and before is not None)

    async def main() -> Any:
        return await asyncio.create_task(_awaited(Workflow("look", [look]).run()))

    assert run_eagerly(main)


def test_waits_sleeps_time_limits_and_retries_work():
    @step(retry=Retry(2, initial=0))
    async def first(ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.wait_for_event(Go)
        await ctx.sleep(0.001)
        if ctx.attempt == 1:
            raise ConnectionError
        return StopEvent(result=ctx.attempt)

    @step(timeout=0.01)
    async def slow(ev: StartEvent) -> StopEvent:
        await asyncio.sleep(10)
        return StopEvent()

    @step
    async def nowhere(ev: StartEvent): ...

    async def main() -> Any:
        run = Workflow("first", [first]).run()
        task = asyncio.create_task(_awaited(run))
        await asyncio.sleep(0.001)
        run.send_event(Go())
        with pytest.raises(StepTimeout):
            await Workflow("slow", [slow]).run()
        with pytest.raises(RunStalled):
            await Workflow("nowhere", [nowhere]).run()
        return await task

    assert run_eagerly(main) == 2


def test_cancelling_an_eager_task_cancels_the_run_that_it_awaits():
    undone = []

    @step
    async def long(ev: StartEvent) -> StopEvent:
        try:
            await asyncio.sleep(10)
        finally:
            undone.append(1)
        return StopEvent()

    async def main() -> Any:
        run = Workflow("long", [long]).run()
        task = asyncio.create_task(_awaited(run))
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return run.status

    assert run_eagerly(main) == "cancelled"
    assert undone == [1]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_an_engine_executes_runs(kind: str, tmp_path: Path):
    url = "memory:" if kind == "memory" else f"sqlite:///{tmp_path}/runs.db"

    async def main() -> Any:
        async with Engine(url, workflows=[fan]) as engine:
            runs = [engine.run(fan, key=str(n)) for n in range(5)]
            handle = engine.get(await engine.submit(fan))
            return [*await asyncio.gather(*runs), await handle]

    assert run_eagerly(main) == [190] * 6

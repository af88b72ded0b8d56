"""A run of an engine is bound to no awaiter, unless it is asked to be."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from durable_work import ALL, Go, asking
from journals import POSTGRES, journal_url

from treadle import Engine, RunCancelled, StartEvent, StopEvent, Workflow, step


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return journal_url(request.param, request, tmp_path)


async def result_of(run: Any) -> Any:
    return await run


async def cancel_soon(task: "asyncio.Task[Any]") -> None:
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def waits(run: Any) -> bool:
    """Whether the run comes to wait, however long that takes; a cancelled one never does."""
    while run.status == "running":
        await asyncio.sleep(0.005)
    return bool(run.status == "waiting")


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("early", [True, False])
async def test_a_run_outlives_every_awaiter(url: str, key: str | None, early: bool):
    async with Engine(url, workflows=ALL) as engine:
        run = engine.run(asking, key=key)
        if not early:
            await asyncio.sleep(0.02)
        for _ in range(2):
            await cancel_soon(asyncio.create_task(result_of(run)))
            assert await waits(run)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run, 0.02)
        await cancel_soon(asyncio.create_task(result_of(engine.get(run.id))))
        run.send_event(Go(number=1))
        # Its step was not touched: the body ran once.
        assert (await run)[:2] == (1, 1)


async def test_a_run_that_is_bound_is_cancelled_with_its_last_awaiter(url: str):
    async with Engine(url, workflows=ALL) as engine:
        run = engine.run(asking, bind=True)
        one, other = (asyncio.create_task(result_of(run)) for _ in range(2))
        await cancel_soon(other)
        assert await waits(run)
        await cancel_soon(one)
        assert run.status == "cancelled"
        with pytest.raises(RunCancelled):
            await engine.get(run.id)


@pytest.mark.parametrize("binds", [(True, False), (False, True)])
async def test_a_key_is_bound_if_all_its_requests_are(url: str, binds: tuple[bool, bool]):
    async with Engine(url, workflows=ALL) as engine:
        runs = [engine.run(asking, key="k", bind=bind) for bind in binds]
        assert runs[0] is runs[1]
        await cancel_soon(asyncio.create_task(result_of(runs[0])))
        assert await waits(runs[0])
        runs[0].send_event(Go(number=1))
        assert (await runs[0])[0] == 1


async def test_a_bound_awaiter_cancels_its_run_in_the_process_that_executes_it(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/runs.db"
    async with Engine(url, workflows=ALL) as one, Engine(url, workflows=ALL) as other:
        first = one.run(asking, key="k")
        await asyncio.sleep(0.1)
        unbound, bound = other.run(asking, key="k"), None
        await cancel_soon(asyncio.create_task(result_of(unbound)))
        assert await waits(first)
        async with Engine(url, workflows=ALL) as third:
            bound = third.run(asking, key="k", bind=True)
            await asyncio.sleep(0.1)
            await cancel_soon(asyncio.create_task(result_of(bound)))
            for waiting in (first, unbound, one.get(first.id), third.get(first.id)):
                with pytest.raises(RunCancelled):
                    await waiting
        assert first.status == "cancelled"


@pytest.mark.parametrize("bind", [False, True])
async def test_a_run_that_a_step_starts_is_cancelled_with_it_only_if_bound(url: str, bind: bool):
    started: list[Any] = []

    @step
    async def start(ev: StartEvent) -> StopEvent:
        started.append(engine.run(asking, bind=bind))
        return StopEvent(result=await started[0])

    starting = Workflow("starting", [start])
    async with Engine(url, workflows=[*ALL, starting]) as engine:
        run = engine.run(starting)
        await asyncio.sleep(0.05)
        run.cancel()
        with pytest.raises(RunCancelled):
            await run
        (child,) = started
        if not bind:
            assert await waits(child)
            child.send_event(Go(number=2))
            assert (await child)[0] == 2
        else:
            with pytest.raises(RunCancelled):
                await child


async def test_binding_is_yes_or_no(url: str):
    async with Engine(url, workflows=ALL) as engine:
        wrong: Any = "yes"
        with pytest.raises(TypeError, match="bind: a bool expected"):
            engine.run(asking, bind=wrong)

"""The asyncio tasks in which an engine drives its runs."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from treadle import Engine, Event, RunCancelled, StartEvent, StopEvent, Workflow, step

AT_ONCE = 200


class Page(Event):
    number: int


@step
async def begin(ev: StartEvent) -> Page:
    return Page(number=ev.number)


@step
async def end(ev: Page) -> StopEvent:
    return StopEvent(result=ev.number)


seen: dict[int, "asyncio.Task[object] | None"] = {}
is_released: list[asyncio.Event] = []


@step
async def wait(ev: StartEvent) -> StopEvent:
    seen[ev.number] = asyncio.current_task()
    await is_released[0].wait()
    assert asyncio.current_task() is seen[ev.number]
    return StopEvent(result=ev.number)


quick = Workflow("quick", [begin, end])
waiting = Workflow("waiting", [wait])


@pytest.fixture
def release() -> Iterator[asyncio.Event]:
    seen.clear()
    is_released[:] = [asyncio.Event()]
    yield is_released[0]
    is_released.clear()


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine("memory:", workflows=[quick, waiting]) as opened:
        yield opened


async def all_have_begun() -> None:
    while len(seen) < AT_ONCE:
        await asyncio.sleep(0)


async def test_runs_of_which_no_step_waits_share_tasks(engine: Engine) -> None:
    made = 0

    def counting(loop: asyncio.AbstractEventLoop, coroutine: object, **options: object) -> object:
        nonlocal made
        made += 1
        return asyncio.Task(coroutine, loop=loop, **options)  # type: ignore[arg-type]

    runs = [engine.run(quick, number=number) for number in range(AT_ONCE)]
    asyncio.get_running_loop().set_task_factory(counting)  # type: ignore[arg-type]
    try:
        # One task more for each, to await it.
        assert await asyncio.gather(*runs) == list(range(AT_ONCE))
    finally:
        asyncio.get_running_loop().set_task_factory(None)
    assert made < 1.5 * AT_ONCE


async def test_each_step_that_waits_has_a_task_of_its_own(
    engine: Engine, release: asyncio.Event
) -> None:
    runs = [engine.run(waiting, number=number) for number in range(AT_ONCE)]
    await all_have_begun()
    assert len({id(task) for task in seen.values()}) == AT_ONCE
    release.set()
    assert await asyncio.gather(*runs) == list(range(AT_ONCE))


async def test_runs_go_on_beside_steps_that_wait(engine: Engine, release: asyncio.Event) -> None:
    held = [engine.run(waiting, number=number) for number in range(AT_ONCE)]
    others = [engine.run(quick, number=number) for number in range(AT_ONCE)]
    assert await asyncio.gather(*others) == list(range(AT_ONCE))
    release.set()
    assert await asyncio.gather(*held) == list(range(AT_ONCE))


async def test_a_run_that_is_cancelled_takes_no_other_with_it(
    engine: Engine, release: asyncio.Event
) -> None:
    runs = [engine.run(waiting, number=number) for number in range(AT_ONCE)]
    await all_have_begun()
    for run in runs[::2]:
        run.cancel()
    release.set()
    results = await asyncio.gather(*runs, return_exceptions=True)
    assert all(isinstance(result, RunCancelled) for result in results[::2])
    assert results[1::2] == list(range(1, AT_ONCE, 2))


async def test_a_cancelled_task_of_a_step_cancels_its_run_alone(
    engine: Engine, release: asyncio.Event
) -> None:
    runs = [engine.run(waiting, number=number) for number in range(AT_ONCE)]
    await all_have_begun()
    task = seen[0]
    assert task is not None
    task.cancel()
    release.set()
    results = await asyncio.gather(*runs, return_exceptions=True)
    assert isinstance(results[0], RunCancelled)
    assert results[1:] == list(range(1, AT_ONCE))


async def test_runs_that_wait_for_their_turn_are_cancelled_with_all_tasks(engine: Engine) -> None:
    runs = [engine.run(quick, number=number) for number in range(AT_ONCE)]
    # By now a task is there that is to drive them, and has not begun.
    awaiting = [asyncio.ensure_future(run) for run in runs]
    others = asyncio.all_tasks()
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - others:
        task.cancel()
    results = await asyncio.gather(*awaiting, return_exceptions=True)
    assert all(isinstance(result, RunCancelled) for result in results)
    # The engine drives others.
    assert await engine.run(quick, number=7) == 7

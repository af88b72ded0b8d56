"""Engines that are called from other threads and other event loops."""

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from treadle import (
    Engine,
    EngineClosed,
    EventLoopError,
    KeyConflict,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)

ran_in: list[int] = []


@step
async def double(ev: StartEvent) -> StopEvent:
    await asyncio.sleep(0)
    ran_in.append(threading.get_ident())
    if ev.number < 0:
        raise ValueError("negative")
    return StopEvent(result=2 * ev.number)


doubling = Workflow("doubling", [double])


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine("memory:", workflows=[doubling]) as engine:
        yield engine


async def in_thread(call: Callable[[], Any]) -> Any:
    """Call a function in a thread of its own."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        async with asyncio.timeout(20):
            return await asyncio.get_running_loop().run_in_executor(pool, call)


@pytest.mark.parametrize("has_loop", [False, True])
async def test_a_call_from_another_thread_is_refused_and_told_what_to_call(
    engine: Engine, has_loop: bool
):
    async def there() -> None:
        engine.run(doubling, number=1)

    def call() -> None:
        if has_loop:
            asyncio.run(there())
        else:
            engine.run(doubling, number=1)

    with pytest.raises(EventLoopError, match=r"engine\.run\(\).*run_threadsafe"):
        await in_thread(call)
    assert engine._session().executing.live == {}


@pytest.mark.parametrize("name", ["submit", "runs", "cancel", "send_event", "get", "retry"])
async def test_the_other_methods_are_refused_from_another_loop(engine: Engine, name: str):
    run = engine.run(doubling, number=1)
    calls: dict[str, Callable[[], Any]] = {
        "submit": lambda: engine.submit(doubling, number=1),
        "runs": engine.runs,
        "cancel": lambda: engine.cancel(run.id),
        "send_event": lambda: engine.send_event(run.id, StartEvent()),
        "get": lambda: engine.get(run.id),
        "retry": lambda: engine.retry(run.id),
    }

    async def there() -> None:
        async with asyncio.timeout(10):
            await calls[name]()

    with pytest.raises(EventLoopError, match="run_coroutine_threadsafe"):
        await in_thread(lambda: asyncio.run(there()))
    assert await run == 2


async def test_a_thread_without_a_loop_starts_a_run_and_waits_for_its_result(engine: Engine):
    ran_in.clear()
    assert await in_thread(lambda: engine.run_threadsafe(doubling, number=4).result(10)) == 8
    assert ran_in == [threading.get_ident()]


async def test_a_thread_with_a_loop_of_its_own_starts_a_run_and_awaits_its_result(engine: Engine):
    async def there() -> list[int]:
        futures = [engine.run_threadsafe(doubling, number=number) for number in range(50)]
        return await asyncio.gather(*map(asyncio.wrap_future, futures))

    assert await in_thread(lambda: asyncio.run(there())) == [2 * number for number in range(50)]


async def test_a_failure_reaches_the_other_thread_as_itself(engine: Engine):
    with pytest.raises(ValueError, match="negative"):
        await in_thread(lambda: engine.run_threadsafe(doubling, number=-1).result(10))


async def test_a_wrong_argument_is_refused_at_the_call(engine: Engine):
    other = Workflow("other", [double])
    with pytest.raises(ValueError, match="not one of the engine's workflows"):
        await in_thread(lambda: engine.run_threadsafe(other, number=1))
    with pytest.raises(TypeError):
        await in_thread(lambda: engine.run_threadsafe(doubling, "a", "b"))  # type: ignore[call-arg]


async def test_a_key_gives_the_same_run_from_every_thread(engine: Engine):
    def twice() -> tuple[int, int]:
        futures = [engine.run_threadsafe(doubling, number=3, key="k") for _ in range(2)]
        return futures[0].result(10), futures[1].result(10)

    ran_in.clear()
    assert await in_thread(twice) == (6, 6)
    assert len(ran_in) == 1
    with pytest.raises(KeyConflict):
        await in_thread(lambda: engine.run_threadsafe(doubling, number=5, key="k").result(10))


async def test_an_engine_that_is_not_open_refuses_the_call_of_a_thread():
    engine = Engine("memory:", workflows=[doubling])
    with pytest.raises(EngineClosed, match="is not open"):
        await in_thread(lambda: engine.run_threadsafe(doubling, number=1))
    async with engine:
        pass
    with pytest.raises(EngineClosed, match="was closed"):
        await in_thread(lambda: engine.run_threadsafe(doubling, number=1))


def test_a_loop_that_ended_without_closing_the_engine_refuses_the_call():
    engine = Engine("memory:", workflows=[doubling])
    asyncio.run(engine.open())
    with pytest.raises(EngineClosed):
        engine.run_threadsafe(doubling, number=1)

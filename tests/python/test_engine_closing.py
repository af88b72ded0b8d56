"""Opening and closing an engine, and being cancelled at every point of it."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from journals import POSTGRES, journal_url

from treadle import Engine, EngineClosed, Event, JournalError, StartEvent, StopEvent, Workflow, step
from treadle.context import Context

POINTS = 60


class Go(Event):
    number: int = 0


@step
async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
    return StopEvent(result=(await ctx.wait_for_event(Go)).number)


@step
async def nap(ev: StartEvent) -> StopEvent:
    await asyncio.sleep(0.1)
    return StopEvent(result="rested")


@step
async def sleep_long(ev: StartEvent) -> StopEvent:
    await asyncio.sleep(0 if long_sleeps.pop() else 3600)
    return StopEvent(result="awake")


long_sleeps: list[bool] = []
asking, napping = Workflow("asking", [ask]), Workflow("napping", [nap])
sleeping = Workflow("sleeping", [sleep_long])
ALL = [asking, napping, sleeping]


@pytest.fixture(params=["sqlite", POSTGRES])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return journal_url(request.param, request, tmp_path)


async def cancelled_after(passes: int, call: Callable[[], Awaitable[None]]) -> bool:
    """Cancel a call after so many passes of the loop; return whether it was."""

    async def work() -> None:
        await call()

    task = asyncio.get_running_loop().create_task(work())
    for _ in range(passes):
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


async def is_shut(engine: Engine) -> None:
    """Make sure that nothing is left of an open engine."""
    with pytest.raises(EngineClosed):
        engine.run(napping)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    # What was cancelled and is done is forgotten in the next passes of the loop.
    for _ in range(5):
        await asyncio.sleep(0)
    left = [task for task in others if not task.done() and "treadle" in task.get_name()]
    assert left == []


async def goes_on(url: str, engine: Engine) -> None:
    """Open the engine again, and make sure that it executes runs."""
    async with engine, asyncio.timeout(20):
        assert await engine.run(napping) == "rested"


@pytest.mark.parametrize("with_runs", [False, True])
async def test_a_close_that_is_cancelled_at_any_point_leaves_a_closed_engine(
    url: str, with_runs: bool
):
    cancelled = 0
    engine = Engine(url, workflows=ALL)
    # The task of the call has begun after one pass.
    for passes in range(1, POINTS):
        await engine.open()
        if with_runs:
            engine.run(asking)
            engine.run(napping)
            await asyncio.sleep(0)
        cancelled += await cancelled_after(passes, engine.close)
        await is_shut(engine)
    assert cancelled > 5
    await goes_on(url, engine)


async def test_an_open_that_is_cancelled_at_any_point_leaves_a_closed_engine(url: str):
    cancelled = 0
    engine = Engine(url, workflows=ALL)
    for passes in range(POINTS):
        cancelled += await cancelled_after(passes, engine.open)
        await engine.close()
        await is_shut(engine)
    assert cancelled > 1
    await goes_on(url, engine)


async def test_an_engine_that_is_cancelled_inside_of_async_with_is_closed_whole(url: str):
    engine = Engine(url, workflows=ALL)

    async def use() -> None:
        async with engine:
            engine.run(asking)
            await engine.run(napping)

    for passes in range(0, POINTS * 4, 3):
        await cancelled_after(passes, use)
        await is_shut(engine)
    await goes_on(url, engine)


async def test_all_tasks_are_cancelled_while_an_engine_is_closed(url: str):
    engine = Engine(url, workflows=ALL)
    # The task of the call has begun after one pass.
    for passes in range(1, POINTS):
        await engine.open()
        engine.run(asking)
        closing = asyncio.ensure_future(engine.close())
        for _ in range(passes):
            await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await closing
        await is_shut(engine)
    await goes_on(url, engine)


async def test_a_second_close_waits_for_the_first(url: str):
    engine = Engine(url, workflows=ALL)
    await engine.open()
    first = asyncio.ensure_future(engine.close())
    await asyncio.sleep(0)
    await engine.close()
    assert first.done()
    await engine.close()
    await goes_on(url, engine)


async def test_a_cancelled_close_gives_steps_no_more_time_and_their_runs_go_on_later(url: str):
    engine = Engine(url, workflows=ALL)
    long_sleeps[:] = [True, False]
    await engine.open()
    run = engine.run(sleeping)
    while long_sleeps != [True]:
        await asyncio.sleep(0.01)
    closing = asyncio.ensure_future(engine.close(grace=3600))
    await asyncio.sleep(0.05)
    closing.cancel()
    async with asyncio.timeout(20):
        with pytest.raises(asyncio.CancelledError):
            await closing
    with pytest.raises(EngineClosed):
        await run
    async with engine, asyncio.timeout(20):
        assert await engine.get(run.id) == "awake"


async def test_an_engine_is_closed_while_another_task_opens_it(url: str):
    engine = Engine(url, workflows=ALL)
    for passes in range(20):
        opening = asyncio.ensure_future(engine.open())
        for _ in range(passes):
            await asyncio.sleep(0)
        await engine.close()
        with contextlib.suppress(EngineClosed):
            await opening
        if passes:
            await is_shut(engine)
        await engine.close()
    await goes_on(url, engine)


async def test_a_step_may_close_its_own_engine(url: str):
    @step
    async def close(ev: StartEvent) -> StopEvent:
        await engine.close(grace=0.1)
        return StopEvent()

    engine = Engine(url, workflows=[Workflow("close", [close])])
    await engine.open()
    run = engine.run(engine._settings.workflows["close"])
    async with asyncio.timeout(20):
        with pytest.raises(EngineClosed):
            await run
        await engine.close()


async def test_the_loop_goes_on_while_another_process_has_the_file_locked(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    async with Engine(url, workflows=ALL):
        pass
    script = f"""
import sqlite3
connection = sqlite3.connect({str(tmp_path / "runs.db")!r}, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
input()
"""
    command = [sys.executable, "-c", script]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as locker:  # noqa: ASYNC220
        assert locker.stdout is not None
        assert locker.stdout.readline() == "locked\n"
        engine = Engine(url, workflows=ALL)
        opening = asyncio.ensure_future(engine.open())
        longest = 0.0
        for _ in range(50):
            begin = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - begin)
        assert not opening.done()
        # Blocked, it would be ten seconds.
        assert longest < 5
        with pytest.raises(EngineClosed, match="is being opened"):
            engine.run(napping)
        # Giving up waits for nothing.
        opening.cancel()
        async with asyncio.timeout(5):
            with pytest.raises(asyncio.CancelledError):
                await opening
        assert locker.poll() is None
        again = asyncio.ensure_future(engine.open())
        await asyncio.sleep(0.1)
        locker.communicate("\n")
        await again
        assert await engine.run(napping) == "rested"
        await engine.close()


async def test_a_journal_that_cannot_be_opened_leaves_a_closed_engine(tmp_path: Path):
    engine = Engine(f"sqlite:///{tmp_path / 'none' / 'runs.db'}", workflows=ALL)
    for _ in range(2):
        with pytest.raises(JournalError, match="does not exist"):
            await engine.open()
        await is_shut(engine)
    (tmp_path / "none").mkdir()
    await goes_on(engine.url, engine)


async def test_a_request_for_a_known_key_that_is_answered_while_the_engine_closes_says_so(
    url: str,
):
    async with Engine(url, workflows=ALL) as engine:
        known = engine.run(asking, key="one")
        while (await engine.get(known.id).info()).status != "waiting":
            await asyncio.sleep(0.01)
    async with Engine(url, workflows=ALL) as engine:
        # While this one has time to finish, the answer comes.
        engine.run(napping)
        await asyncio.sleep(0.01)
        run = engine.run(asking, key="one")
    with pytest.raises(EngineClosed, match="closed before the run ended") as caught:
        await run
    assert "async with" not in str(caught.value)


async def test_an_engine_that_was_closed_says_so(url: str):
    engine = Engine(url, workflows=ALL)
    with pytest.raises(EngineClosed, match="is not open; use `async with"):
        engine.run(napping)
    async with engine:
        run = engine.run(asking)
    for call in (lambda: engine.run(napping), lambda: engine.get(run.id).__await__().send(None)):
        with pytest.raises(EngineClosed, match="was closed"):
            call()

"""A journal that is away for a while: nothing fails, and what was sent is sent again."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from treadle import (
    Context,
    Engine,
    Event,
    JournalError,
    Run,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)

# What SQLite waits for a lock is short: then the journal is away.
SHORT = "busy_timeout=0.01"


class Go(Event):
    number: int


@step
async def count(ctx: Context, ev: StartEvent) -> Go:
    ctx.set("bodies", ctx.get("bodies", 0) + 1)
    return Go(number=1)


@step
async def count_on(ctx: Context, ev: Go) -> Go | StopEvent:
    ctx.set("bodies", ctx.get("bodies") + 1)
    return Go(number=ev.number + 1) if ev.number < 5 else StopEvent(result=ctx.get("bodies"))


@step
async def wait(ctx: Context, ev: StartEvent) -> StopEvent:
    return StopEvent(result=(await ctx.wait_for_event(Go)).number)


counting = Workflow("counting", [count, count_on])
waiting = Workflow("waiting", [wait])
ALL = [counting, waiting]


async def result(run: Run) -> object:
    return await run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@asynccontextmanager
async def away(path: Path) -> AsyncIterator[None]:
    """Another process holds a transaction open."""
    script = f"""
import sqlite3
connection = sqlite3.connect({str(path)!r}, isolation_level=None, timeout=60)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
input()
"""
    pipe = subprocess.PIPE
    locker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdin=pipe, stdout=pipe
    )
    assert locker.stdout is not None
    assert await locker.stdout.readline() == b"locked\n"
    try:
        yield
    finally:
        await locker.communicate(b"\n")


@pytest.mark.parametrize("durability", ["step", "pipelined"])
async def test_runs_hold_while_the_journal_is_away_and_go_on_when_it_is_back(path, durability):
    url = f"sqlite:///{path}?{SHORT}"
    async with Engine(url, workflows=ALL, durability=durability) as engine:
        async with away(path):
            runs = [engine.run(counting) for _ in range(20)] + [engine.run(counting, key="one")]
            results = [asyncio.ensure_future(result(run)) for run in runs]
            await asyncio.sleep(0.5)
            assert not any(it.done() for it in results)
        async with asyncio.timeout(20):
            assert await asyncio.gather(*results) == [6] * 21
        assert all([await engine.get(run.id) == 6 for run in runs])


async def test_what_is_sent_and_asked_while_the_journal_is_away_is_answered_later(path):
    async with Engine(f"sqlite:///{path}?{SHORT}", workflows=ALL) as engine:
        run = engine.run(waiting)
        await engine.get(run.id).info()
        async with away(path):
            sent = asyncio.ensure_future(engine.send_event(run.id, Go(number=3)))
            submitted = asyncio.ensure_future(engine.submit(counting))
            await asyncio.sleep(0.3)
            assert not sent.done()
            assert not submitted.done()
        async with asyncio.timeout(20):
            assert await sent
            assert await run == 3
            assert await engine.get(await submitted) == 6


async def test_a_journal_that_is_away_for_longer_than_the_lease_is_an_error_and_loses_nothing(path):
    async with Engine(f"sqlite:///{path}?{SHORT}", workflows=ALL, lease=0.3) as engine:
        run = engine.run(waiting)
        await engine.get(run.id).info()
        async with away(path):
            lost = engine.run(counting)
            with pytest.raises(JournalError, match="locked"):
                await asyncio.wait_for(lost, 20)
        async with asyncio.timeout(20):
            await engine.send_event(run.id, Go(number=4))
            assert await engine.get(run.id) == 4
            assert await engine.run(counting) == 6


async def test_a_journal_that_is_away_is_closed_after_the_lease(path):
    engine = Engine(f"sqlite:///{path}?{SHORT}", workflows=ALL, lease=0.3)
    await engine.open()
    run = engine.run(waiting)
    await engine.get(run.id).info()
    async with away(path), asyncio.timeout(20):
        await engine.close(grace=0)
    async with asyncio.timeout(20), Engine(f"sqlite:///{path}", workflows=ALL) as engine:
        await engine.send_event(run.id, Go(number=5))
        assert await engine.get(run.id) == 5


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("sqlite:///runs.db?timeout=1", "busy_timeout"),
        ("sqlite:///runs.db?busy_timeout=soon", "seconds"),
        ("sqlite:///runs.db?busy_timeout=1&busy_timeout=2", "twice"),
        ("memory:?size=3", "none"),
        ("nats://user:secret@host", "sqlite:///PATH"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused_with_what_is_known(url: str, text: str) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        Engine(url)
    assert "secret" not in str(caught.value)

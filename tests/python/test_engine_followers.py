"""Waiting for many runs that another process executes."""

import asyncio
from pathlib import Path

import pytest
from durable_work import pages
from processes import Process

from treadle import Engine, UnknownRun

MANY = 300

WORKER = """
async def main():
    async with here() as engine:
        say("open")
        await asyncio.sleep(3600)
asyncio.run(main())
"""


async def test_a_waiter_looks_at_its_run_at_first_and_at_its_end_whatever_others_do(
    tmp_path: Path,
):
    path = tmp_path / "runs.db"
    async with Engine(f"sqlite:///{path}") as engine, asyncio.timeout(60):
        ids = [await engine.submit(pages, number=number) for number in range(MANY)]
        session = engine._session()
        before = session.core.requests
        waiting = asyncio.gather(*map(engine.get, ids))
        with Process(path, WORKER) as worker:
            assert worker.line() == "open"
            results = await waiting
        assert [result[0] for result in results] == list(range(MANY))
        # Each is looked at at first and at its end; the rest is asked for once for all of them.
        assert session.core.requests - before <= 2 * MANY + MANY // 2
        assert session.followers._waiting == {}


async def test_a_waiter_is_told_that_its_run_was_deleted(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    async with Engine(url) as engine, Engine(url) as other, asyncio.timeout(20):
        for deleting in (engine, other):
            run_id = await engine.submit(pages, number=1)
            waiting = asyncio.ensure_future(asyncio.wait_for(engine.get(run_id), 15))
            await asyncio.sleep(0.1)
            await deleting.delete(run_id)
            with pytest.raises(UnknownRun):
                await waiting

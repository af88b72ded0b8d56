"""Waiting for many runs that another process executes."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from durable_work import pages
from processes import Process

from treadle import Engine, UnknownRun
from treadle._treadle import Journal

MANY = 300

WORKER = """
async def main():
    async with here() as engine:
        say("open")
        await asyncio.sleep(3600)
asyncio.run(main())
"""


async def test_a_waiter_looks_at_its_run_at_first_and_at_its_end_whatever_others_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "runs.db"
    async with Engine(f"sqlite:///{path}") as engine, asyncio.timeout(60):
        ids = [await engine.submit(pages, number=number) for number in range(MANY)]
        session, looks = engine._session(), Counter[str]()

        def counted(run_id: str) -> Journal:
            looks[run_id] += 1
            return session.journal

        monkeypatch.setattr(session, "journal_with", counted)
        waiting = asyncio.gather(*map(engine.get, ids))
        with Process(path, WORKER) as worker:
            assert worker.line() == "open"
            results = await waiting
        assert [result[0] for result in results] == list(range(MANY))
        assert set(looks) == set(ids)
        assert max(looks.values()) <= 2
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

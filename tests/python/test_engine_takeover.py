"""Who has a run when a process ends or stops, or the clock is set; lost and damaged files."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from durable_work import ALL, Go, Page, asking, beside_work, long, pages
from processes import Process

from treadle import DamagedRun, Engine, JournalError

WORKER = """
async def main():
    async with here(lease=600) as engine:
        say("open")
        await asyncio.sleep(60)
asyncio.run(main())
"""
# So long that no test waits for its end.
LEASE = 600


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def engine_on(path: Path, **options: object) -> Engine:
    given = {"workflows": ALL, "lease": LEASE, **options}
    return Engine(f"sqlite:///{path}", **given)  # type: ignore[arg-type]


async def begun(engine: Engine, run_id: str) -> None:
    async with asyncio.timeout(20):
        while (await engine.get(run_id).info()).seq == 0:
            await asyncio.sleep(0.01)


async def test_runs_of_a_killed_process_go_on_elsewhere_whatever_its_lease(path: Path):
    async with engine_on(path, workflows=[]) as sender:
        with Process(path, WORKER) as worker:
            assert worker.line() == "open"
            run_id = await sender.submit(long, seconds=60)
            await begun(sender, run_id)
            async with engine_on(path), asyncio.timeout(20):
                worker.kill()
                assert await sender.get(run_id) == (2, os.getpid())


async def test_runs_of_a_killed_process_go_on_when_the_next_one_is_opened(path: Path):
    with Process(path, WORKER) as worker:
        assert worker.line() == "open"
        async with engine_on(path, workflows=[]) as sender:
            run_id = await sender.submit(long, seconds=60)
            await begun(sender, run_id)
    async with engine_on(path) as engine, asyncio.timeout(20):
        assert await engine.get(run_id) == (2, os.getpid())


async def test_a_task_of_a_step_goes_on_elsewhere_while_another_one_of_it_waits(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with engine_on(path, workflows=[]) as sender:
        monkeypatch.setenv("IS_SLOW", "yes")
        with Process(path, WORKER) as worker:
            assert worker.line() == "open"
            run_id = await sender.submit(beside_work)
            await sender.send_event(run_id, Page(number=7))
            async with asyncio.timeout(20):
                # Until the event is consumed, so that nothing but the task is left to do.
                while (info := await sender.get(run_id).info()).inbox or info.seq < 4:
                    await asyncio.sleep(0.01)
            worker.kill()
        monkeypatch.delenv("IS_SLOW")
        async with engine_on(path) as engine, asyncio.timeout(20):
            async for event in engine.get(run_id).stream_events():
                assert event.done == 7
                break
            assert (await engine.get(run_id).info()).status == "waiting"
            await engine.send_event(run_id, Go(number=1))
            assert await engine.get(run_id) == ("worked", 1)


async def test_a_stopped_process_keeps_its_runs_as_long_as_its_lease_lasts(path: Path):
    async with engine_on(path, workflows=[]) as sender:
        with Process(path, WORKER) as worker:
            assert worker.line() == "open"
            run_id = await sender.submit(long, seconds=4)
            await begun(sender, run_id)
            # A process that is stopped within a transaction would keep the lock of the file.
            await asyncio.sleep(1)
            worker.signal(signal.SIGSTOP)
            async with engine_on(path):
                await asyncio.sleep(1)
                assert (await sender.get(run_id).info()).epoch == 1
                worker.signal(signal.SIGCONT)
                async with asyncio.timeout(20):
                    assert await sender.get(run_id) == (1, worker.pid)


async def test_a_child_that_lives_on_keeps_no_run_of_the_process_that_forked_it(path: Path):
    source = """
    async def main():
        async with here(lease=600) as engine:
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            say(child)
            await asyncio.sleep(60)
    asyncio.run(main())
    """
    async with engine_on(path, workflows=[]) as sender:
        with Process(path, source) as worker:
            child = int(worker.line())
            try:
                run_id = await sender.submit(long, seconds=60)
                await begun(sender, run_id)
                async with engine_on(path), asyncio.timeout(20):
                    worker.signal(signal.SIGKILL)
                    assert await sender.get(run_id) == (2, os.getpid())
            finally:
                os.kill(child, signal.SIGKILL)


async def test_an_engine_that_is_closed_leaves_no_lock_behind(path: Path):
    async with engine_on(path) as engine:
        await engine.run(pages, number=1)
        assert len(list((path.parent / "runs.db-owners").iterdir())) == 1
    names = sorted(file.name for file in path.parent.iterdir())
    assert names == ["runs.db", "runs.db.secret"]


@pytest.mark.parametrize("step", [3600.0, -3600.0])
async def test_a_step_of_the_wall_clock_costs_no_run_and_no_busy_loop(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: float
):
    async with engine_on(path, lease=1) as engine, engine_on(path, lease=1) as other:
        held = [engine.run(asking) for _ in range(20)]
        ids = [await engine.submit(long, seconds=2.5) for _ in range(10)]
        for run_id in ids:
            await begun(engine, run_id)
        wall = time.time
        monkeypatch.setattr(time, "time", lambda: wall() + step)
        cores = [engine._session().core, other._session().core]
        before = sum(core.requests for core in cores)
        await asyncio.sleep(2)
        # Each sees the renewals of the other: it polls, claims and asks for the next time then.
        assert sum(core.requests for core in cores) - before < 180
        for run in held:
            run.send_event(Go(number=1))
        async with asyncio.timeout(20):
            assert [(await run)[:2] for run in held] == [(1, 1)] * len(held)
            assert {await engine.get(run_id) for run_id in ids} == {(1, os.getpid())}


async def test_a_lost_file_ends_its_runs_with_an_error(path: Path):
    async with engine_on(path) as engine:
        run = engine.run(asking)
        await begun(engine, run.id)
        for file in path.parent.iterdir():
            if file.is_file():
                file.unlink()
        with pytest.raises(JournalError, match="removed, moved away or replaced"):
            await engine.submit(pages, number=1)
        run.send_event(Go(number=1))
        async with asyncio.timeout(20):
            with pytest.raises(JournalError):
                await run


async def test_nothing_is_acknowledged_once_the_directory_is_gone(tmp_path: Path):
    place = tmp_path / "place"
    place.mkdir()
    async with engine_on(place / "runs.db") as engine:
        acknowledged = [await engine.submit(pages, number=1)]
        shutil.rmtree(place)
        for number in range(40):
            with pytest.raises(JournalError):
                acknowledged.append(await engine.submit(pages, number=number))
    assert len(acknowledged) == 1


async def damaged(path: Path) -> tuple[str, str]:
    """Return a run whose last records are missing, and one that is whole."""
    async with engine_on(path) as engine:
        runs = [await engine.submit(asking) for _ in range(2)]
        for run_id in runs:
            await begun(engine, run_id)
            while (await engine.get(run_id).info()).status != "waiting":
                await asyncio.sleep(0.01)
    # In another process, since two copies of SQLite in one drop each other's locks.
    code = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
run, = db.execute("SELECT n FROM runs ORDER BY id LIMIT 1").fetchone()
last = "(SELECT max(seq) FROM commits WHERE run = ?)"
db.execute(f"DELETE FROM commits WHERE run = ? AND seq = {last}", (run, run))
db.commit()
"""
    command = [sys.executable, "-c", code, str(path)]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=30)
    first, second = sorted(runs)
    return first, second


async def test_a_run_whose_last_records_are_missing_does_not_go_on_and_others_do(path: Path):
    short, whole = await damaged(path)
    async with engine_on(path) as engine:
        with pytest.raises(DamagedRun, match=rf"run {short} .* missing"):
            await engine.get(short).history()
        rows = {info.id: info.is_damaged for info in await engine.runs()}
        assert rows == {short: True, whole: False}
        await engine.send_event(short, Go(number=1))
        await engine.send_event(whole, Go(number=2))
        async with asyncio.timeout(20):
            assert (await engine.get(whole))[0] == 2
        assert (await engine.get(short).info()).status == "stranded"


async def test_the_command_line_says_what_is_missing(path: Path):
    short, whole = await damaged(path)
    await asyncio.to_thread(_says_what_is_missing, f"sqlite:///{path}", short, whole)


def _says_what_is_missing(url: str, short: str, whole: str) -> None:
    def treadle(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "treadle", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    listed = {line.split()[0]: line for line in treadle("runs", url).stdout.splitlines()}
    assert "damaged" in listed[short]
    assert "damaged" not in listed[whole]
    shown = treadle("show", url, short)
    assert shown.returncode == 1
    assert "missing" in shown.stderr
    assert len(shown.stderr.splitlines()) == 1
    assert treadle("show", url, whole).returncode == 0

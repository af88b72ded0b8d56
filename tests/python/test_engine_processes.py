"""Several processes and one journal: who executes a run, and who takes it over when."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from durable_work import ALL, Go, asking, limited, long, napping, pages, stumbling, twice
from journals import POSTGRES, journal_url, url_of
from processes import Process

from treadle import Engine, RunHandle, WorkflowTimeout
from treadle._treadle import LoadedRun
from treadle.engine.host import Host

WORKER = """
async def main():
    async with here() as engine:
        say("open")
        await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.fixture(params=["sqlite", POSTGRES])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """The journal: a file, or a URL."""
    if request.param == "sqlite":
        return tmp_path / "runs.db"
    return journal_url(request.param, request, tmp_path)


def engine_on(path: Path | str, **options: object) -> Engine:
    return Engine(url_of(path), **{"workflows": ALL, "lease": 1, **options})  # type: ignore[arg-type]


async def is_(handle: RunHandle, *statuses: str, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while (await handle.info()).status not in statuses:
            await asyncio.sleep(0.01)


async def test_a_run_that_is_submitted_is_executed_by_a_process_that_knows_its_workflow(
    path: Path | str,
):
    async with engine_on(path, workflows=[]) as engine:
        with Process(path, WORKER) as worker:
            assert worker.line() == "open"
            run_id = await engine.submit(pages, number=3)
            assert await engine.get(run_id) == (3, worker.pid)


async def test_an_event_reaches_a_run_that_another_process_executes(path: Path | str):
    async with engine_on(path, workflows=[]) as engine:
        with Process(path, WORKER) as worker:
            assert worker.line() == "open"
            handle = engine.get(await engine.submit(asking))
            await is_(handle, "waiting")
            begin = time.monotonic()
            await handle.send_event(Go(number=4))
            assert await handle == (4, 1, worker.pid)
            assert time.monotonic() - begin < 2


async def test_an_event_for_a_run_that_nobody_executes_is_kept(path: Path | str):
    async with engine_on(path, workflows=[]) as engine:
        run_id = await engine.submit(twice)
        assert await engine.send_event(run_id, Go(number=1), id="one")
        assert await engine.send_event(run_id, Go(number=2), id="two")
        assert not await engine.send_event(run_id, Go(number=3), id="one")
        assert (await engine.get(run_id).info()).inbox == 2
    async with engine_on(path) as engine:
        assert await engine.get(run_id) == (1, 2, 1)


async def test_an_event_reaches_a_run_that_is_being_taken_over(
    path: Path | str, monkeypatch: pytest.MonkeyPatch
):
    resumes: list[str] = []
    resume = Host.resume

    def resumed_late(host: Host, loaded: LoadedRun) -> None:
        resumes.append(loaded.id)
        host._session.loop.call_later(0.3, resume, host, loaded)

    monkeypatch.setattr(Host, "resume", resumed_late)
    async with engine_on(path, workflows=[]) as sender:
        run_id = await sender.submit(asking)
        async with engine_on(path, workflows=[asking]) as engine:
            while run_id not in resumes:
                await asyncio.sleep(0.01)
            await sender.send_event(run_id, Go(number=6))
            async with asyncio.timeout(20):
                assert await engine.get(run_id) == (6, 1, os.getpid())


async def test_runs_of_a_process_that_lives_are_left_alone(path: Path | str):
    with Process(path, WORKER) as worker:
        assert worker.line() == "open"
        async with engine_on(path, workflows=[]) as sender:
            handle = sender.get(await sender.submit(long, seconds=2.5))
            await is_(handle, "running")
            while (owner := (await handle.info()).owner) is None:
                await asyncio.sleep(0.01)
            async with engine_on(path):
                await asyncio.sleep(2)
                info = await handle.info()
                assert (info.owner, info.epoch) == (owner, 1)
            assert await handle == (1, worker.pid)


async def test_runs_of_a_process_that_was_killed_are_taken_over_within_the_lease(path: Path | str):
    with Process(path, WORKER) as worker:
        assert worker.line() == "open"
        async with engine_on(path, workflows=[]) as sender:
            handle = sender.get(await sender.submit(long, seconds=60))
            while (await handle.info()).seq == 0:
                await asyncio.sleep(0.01)
            async with engine_on(path):
                worker.kill()
                killed = time.monotonic()
                assert await handle == (2, os.getpid())
                assert time.monotonic() - killed < 1 + 1


async def test_an_engine_that_is_closed_hands_over_within_a_second(path: Path | str):
    source = """
    import signal
    async def main():
        async with here(lease=60) as engine:
            done = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
            say("open")
            await done.wait()
            await engine.close(grace=0.1)
            say("closed")
    asyncio.run(main())
    """
    async with engine_on(path, workflows=[], lease=60) as sender:
        with Process(path, source) as worker:
            assert worker.line() == "open"
            working = sender.get(await sender.submit(long, seconds=60))
            waiting = sender.get(await sender.submit(asking))
            await is_(waiting, "waiting")
            while (await working.info()).seq == 0:
                await asyncio.sleep(0.01)
            async with engine_on(path, lease=60) as other:
                worker.signal(signal.SIGTERM)
                assert worker.line() == "closed"
                closed = time.monotonic()
                assert await working == (2, os.getpid())
                assert time.monotonic() - closed < 1
                # One that only waits stays in the journal.
                assert list(other._session().executing.live) == []
                assert (await waiting.info()).status == "waiting"
                await waiting.send_event(Go(number=1))
                assert (await waiting)[:2] == (1, 2)
            assert worker.wait() == 0


async def test_a_process_that_was_frozen_for_longer_than_its_lease_appends_nothing(
    path: Path | str,
):
    source = """
    class Count(Event):
        done: int
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        if ctx.increment("bodies") > 1:
            return StopEvent(result="taken over")
        say("works")
        await asyncio.sleep(1.5)
        ctx.set("zombie", True)
        return StopEvent(result="by the zombie")
    frozen = Workflow("frozen", [work])
    async def main():
        async with Engine(url_of(path), workflows=[frozen, pages], lease=0.5) as engine:
            run = engine.run(frozen)
            say(run.id)
            try:
                say("ended", await run)
            except JournalConflict:
                say("conflict")
            # It is a process like any other soon afterwards.
            await asyncio.sleep(0.05)
            say("goes on", (await engine.run(pages, number=2))[0])
    asyncio.run(main())
    """
    from treadle import Context, StartEvent, StopEvent, Workflow, step

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.increment("bodies")
        await asyncio.sleep(0.1)
        return StopEvent(result=("here", sorted(ctx.keys())))

    frozen = Workflow("frozen", [work])
    with Process(path, source) as zombie:
        run_id = zombie.line()
        assert zombie.line() == "works"
        await asyncio.sleep(0.3)
        zombie.signal(signal.SIGSTOP)
        stopped = time.monotonic()
        try:
            async with Engine(url_of(path), workflows=[frozen], lease=0.5) as engine:
                handle = engine.get(run_id)
                assert await handle == ("here", ["bodies"])
                assert time.monotonic() - stopped < 0.5 + 1
                info = await handle.info()
                zombie.signal(signal.SIGCONT)
                assert zombie.line() == "conflict"
                assert zombie.line() == "goes on 2"
                assert await handle.info() == info
                assert info.epoch == 2
        except BaseException:
            zombie.kill()
            raise


async def test_what_was_due_while_nobody_ran_is_done_at_once(path: Path | str):
    async with engine_on(path) as engine:
        ids = [
            await engine.submit(napping, seconds=0.3),
            await engine.submit(stumbling),
            await engine.submit(limited),
        ]
        for run_id in ids:
            await is_(engine.get(run_id), "waiting")
    await asyncio.sleep(0.8)
    async with engine_on(path) as engine:
        begin = time.monotonic()
        assert await engine.get(ids[0]) == "awake"
        assert await engine.get(ids[1]) == 2
        with pytest.raises(WorkflowTimeout):
            await engine.get(ids[2])
        assert time.monotonic() - begin < 1


async def test_what_is_due_after_a_restart_is_done_in_time(path: Path | str):
    async with engine_on(path) as engine:
        begin = time.monotonic()
        run_id = await engine.submit(napping, seconds=1)
        await is_(engine.get(run_id), "waiting")
    async with engine_on(path) as engine:
        await asyncio.sleep(0.3)
        assert engine._session().executing.live == {}
        assert await engine.get(run_id) == "awake"
        assert 1 <= time.monotonic() - begin < 1.8


async def test_a_forked_process_is_told_to_open_an_engine_of_its_own(path: Path | str):
    source = """
    import signal
    async def main():
        async with here() as engine:
            child = os.fork()
            if child == 0:
                for use in (engine.submit(pages, number=1), engine.runs()):
                    try:
                        asyncio.run(use)
                    except JournalError as error:
                        say("refused:", error)
                import gc
                del engine
                gc.collect()
                os._exit(0)
            _, status = os.waitpid(child, 0)
            say(status, (await engine.run(pages, number=2))[0])
    asyncio.run(main())
    """
    with Process(path, source) as parent:
        for _ in range(2):
            assert f"opened by process {parent.pid}" in parent.line()
        assert parent.line() == "0 2"
        assert parent.wait() == 0


async def test_a_run_in_flight_when_its_loop_ends_without_closing_the_engine_goes_on(
    path: Path | str,
):
    source = """
    async def main():
        engine = here()
        await engine.open()
        run_id = await engine.submit(asking)
        started = engine.run(asking)
        while [info.status for info in await engine.runs()] != ["waiting"] * 2:
            await asyncio.sleep(0.01)
        say(run_id)
        say(started.id)
    asyncio.run(main())
    say("ends")
    """
    with Process(path, source) as process:
        ids = [process.line(), process.line()]
        assert process.line() == "ends"
        assert process.wait() == 0
    async with engine_on(path) as engine:
        assert [info.status for info in await engine.runs()] == ["waiting"] * 2
        for run_id in ids:
            await engine.send_event(run_id, Go(number=6))
            assert (await engine.get(run_id))[0] == 6


async def test_a_loop_that_ends_without_closing_the_engine_loses_nothing(path: Path | str):
    source = """
    async def main():
        engine = here(lease=0.5)
        await engine.open()
        run_id = await engine.submit(asking)
        await engine.send_event(run_id, Go(number=6))
        say(run_id)
        kept.append((engine, engine.run(asking)))
    kept = []
    asyncio.run(main())
    engine, run = kept.pop()
    run.cancel()
    del engine, run
    say("ends")
    """
    with Process(path, source) as process:
        run_id = process.line()
        assert process.line() == "ends"
        assert process.wait() == 0
    async with engine_on(path) as engine:
        assert (await engine.get(run_id))[0] == 6

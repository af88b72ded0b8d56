"""Runs in PostgreSQL: several processes, a server that goes away, and what is only there."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from durable_work import ALL, Go, asking, napping, pages
from postgres_server import NoServer, Server, query
from processes import Process

from treadle import (
    Engine,
    JournalError,
    RunCancelled,
    RunHandle,
    StartEvent,
    UnsignedValue,
)

pytestmark = pytest.mark.postgres

WORKER = """
async def main():
    async with here(lease=float(sys.argv[2]) if len(sys.argv) > 2 else 1) as engine:
        say("open")
        await asyncio.sleep(60)
asyncio.run(main())
"""


def engine_on(url: str, **options: object) -> Engine:
    return Engine(url, **{"workflows": ALL, "lease": 1, **options})  # type: ignore[arg-type]


async def is_(handle: RunHandle, *statuses: str, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while (await handle.info()).status not in statuses:
            await asyncio.sleep(0.01)


def treadle(*arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "treadle", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that a test may end."""
    monkeypatch.setenv("TREADLE_SECRET", "a-secret-of-the-tests-on-PostgreSQL")
    try:
        server = Server()
    except NoServer as error:
        pytest.fail(str(error), pytrace=False)
    yield server
    server.remove()


async def test_without_a_secret_nothing_is_executed(postgres: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TREADLE_SECRET")
    with pytest.raises(UnsignedValue, match="TREADLE_SECRET"):
        await engine_on(postgres).open()


async def test_no_text_shows_a_password():
    url = "postgresql://somebody:hunter2@127.0.0.1:1/nowhere?connect_timeout=0.1"
    engine = engine_on(url)
    assert "hunter2" not in f"{engine!r} {engine.url} {vars(engine)}"
    with pytest.raises(ValueError, match="there is no parameter") as raised:
        engine_on("postgresql://somebody:hunter2@h/d?sslmod=require")
    assert "hunter2" not in str(raised.value)


async def test_a_killed_process_is_taken_over_within_its_lease(postgres: str):
    async with engine_on(postgres, workflows=[]) as engine:
        with Process(postgres, WORKER) as dead:
            assert dead.line() == "open"
            handles = [engine.get(await engine.submit(asking)) for _ in range(5)]
            for handle in handles:
                await is_(handle, "waiting")
        killed = time.monotonic()
        with Process(postgres, WORKER) as worker:
            for handle in handles:
                await handle.send_event(Go(number=3))
            assert [await handle for handle in handles] == [(3, 2, worker.pid)] * 5
        assert time.monotonic() - killed < 20


# Commits a message to each of `RUNS`, and is gone before it tells of them.
SENDER = """
async def main():
    engine = Engine(sys.argv[1], workflows=ALL)
    await engine.open()
    await asyncio.gather(*[engine.send_event(run_id, Go(number=3)) for run_id in RUNS])
    os._exit(0)
asyncio.run(main())
"""


async def test_a_message_arrives_whose_sender_was_gone_before_it_told_of_it(postgres: str):
    async with engine_on(postgres) as engine:
        is_over = asyncio.Event()

        # Commits of this process, after each of which it looks for those of others.
        async def commit() -> None:
            while not is_over.is_set():
                await engine.run(pages, number=1)

        noise = [asyncio.create_task(commit()) for _ in range(3)]
        for _ in range(8):
            handles = [engine.get(await engine.submit(asking)) for _ in range(3)]
            for handle in handles:
                await is_(handle, "waiting")
            runs = f"RUNS = {[handle.id for handle in handles]}\n"
            with Process(postgres, runs + SENDER) as sender:
                await asyncio.to_thread(sender.wait)
            async with asyncio.timeout(10):
                assert [(await handle)[0] for handle in handles] == [3, 3, 3]
        is_over.set()
        await asyncio.gather(*noise)


async def test_a_stream_is_read_in_another_process(postgres: str):
    async with engine_on(postgres, workflows=[]) as engine:
        with Process(postgres, WORKER) as worker:
            assert worker.line() == "open"
            run_id = await engine.submit(pages, number=1)
            async with asyncio.timeout(20):
                # The reader could execute it as well.
                while (await engine.get(run_id).info()).seq < 3:
                    await asyncio.sleep(0.01)
            async with engine_on(postgres) as reader, asyncio.timeout(20):
                assert [event.done async for event in reader.stream_events(run_id)] == [1, 2]
            assert await engine.get(run_id) == (1, worker.pid)


async def test_the_command_line_works_as_with_a_file(postgres: str):
    async with engine_on(postgres) as engine:
        waiting = engine.run(asking, StartEvent())
        assert await engine.run(pages, number=1) == (1, os.getpid())
        await is_(engine.get(waiting.id), "waiting")
    listed = await asyncio.to_thread(treadle, "runs", postgres)
    assert waiting.id in listed
    assert "completed" in listed
    assert waiting.id in await asyncio.to_thread(treadle, "show", postgres, waiting.id)
    await asyncio.to_thread(treadle, "cancel", postgres, waiting.id)
    async with engine_on(postgres) as engine:
        with pytest.raises(RunCancelled):
            await engine.get(waiting.id)


def test_the_statements_are_printed(postgres_server: str):
    statements = treadle("sql", "--schema", "treadle_test_of_sql")
    assert 'CREATE TABLE "treadle_test_of_sql".runs' in statements
    try:
        query(postgres_server, statements)
        url = f"{postgres_server}{'&' if '?' in postgres_server else '?'}schema=treadle_test_of_sql"
        assert treadle("runs", url) is not None
    finally:
        query(postgres_server, "DROP SCHEMA IF EXISTS treadle_test_of_sql CASCADE")


async def test_looking_makes_no_tables(postgres: str):
    said = await asyncio.to_thread(lambda: treadle("runs", postgres, code=1))
    assert "no journal of this version" in said


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
async def test_runs_go_on_when_the_server_was_restarted(server: Server, how: signal.Signals):
    async with engine_on(server.url, lease=30) as engine:
        async with asyncio.timeout(60):
            napped = [engine.run(napping, seconds=0.5) for _ in range(50)]
            waiting = [engine.run(asking, StartEvent()) for _ in range(150)]
            for run in waiting:
                await is_(engine.get(run.id), "waiting")
            await asyncio.to_thread(server.restart, how)
            for run in waiting:
                run.send_event(Go(number=1))
            results = await asyncio.gather(*waiting)
            assert [(number, bodies) for number, bodies, _ in results] == [(1, 1)] * 150
            await asyncio.gather(*napped)
            assert await engine.run(pages, number=7) == (7, os.getpid())


async def test_a_server_that_is_not_there_is_said_so():
    nowhere = "postgresql://me@127.0.0.1:1/nowhere?connect_timeout=0.1"
    with pytest.raises(JournalError, match=r"127\.0\.0\.1:1/nowhere"):
        await Engine(nowhere, secret="a secret of the tests").open()


@pytest.mark.timeout(120)
async def test_a_run_of_a_stopped_process_goes_on_elsewhere(postgres: str):
    async with engine_on(postgres, workflows=[]) as engine:
        with Process(postgres, WORKER) as frozen:
            assert frozen.line() == "open"
            handle = engine.get(await engine.submit(asking))
            await is_(handle, "waiting")
            frozen.signal(signal.SIGSTOP)
            await handle.send_event(Go(number=4))
            with Process(postgres, WORKER) as worker:
                async with asyncio.timeout(50):
                    assert await handle == (4, 2, worker.pid)
            frozen.signal(signal.SIGCONT)

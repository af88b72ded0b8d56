"""The engine: many runs and a journal."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from journals import POSTGRES, journal_url

from treadle import (
    Context,
    Engine,
    EngineClosed,
    Event,
    JournalConflict,
    JournalError,
    KeyConflict,
    Lagged,
    Retry,
    RunCancelled,
    RunEnded,
    StartEvent,
    StopEvent,
    StoredError,
    UnknownRun,
    UnstorableValue,
    Workflow,
    step,
)


class Page(Event):
    number: int


class Go(Event):
    number: int = 0


class Progress(Event):
    done: int


@step
async def begin(ctx: Context, ev: StartEvent) -> Page:
    ctx.set("pair", (1, ev.number))
    ctx.write_event_to_stream(Progress(done=1))
    return Page(number=ev.number)


@step
async def end(ctx: Context, ev: Page) -> StopEvent:
    ctx.write_event_to_stream(Progress(done=2))
    return StopEvent(result=(ev.number, ctx.get("pair"), ctx.run_id()))


@step
async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
    ctx.increment("asked")
    go = await ctx.wait_for_event(Go)
    return StopEvent(result=(go.number, ctx.get("asked")))


tries: list[int] = []


@step
async def first(ev: StartEvent) -> Page:
    tries.append(0)
    return Page(number=1)


@step
async def fail(ev: Page) -> StopEvent:
    tries.append(1)
    if len(tries) < 3:
        raise ConnectionError("not yet")
    return StopEvent(result=tries.copy())


chain = Workflow("chain", [begin, end])
asking = Workflow("asking", [ask])
failing = Workflow("failing", [first, fail])
ALL = [chain, asking, failing]


@pytest.fixture(params=["memory", "sqlite", "pipelined", POSTGRES])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return journal_url(request.param, request, tmp_path)


@pytest.fixture
async def engine(url: str, request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    durability = "pipelined" if "pipelined" in request.node.callspec.id else "step"
    async with Engine(url, workflows=ALL, durability=durability) as engine:
        yield engine


@pytest.fixture
def file(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'runs.db'}"


def python(script: str, *arguments: object) -> str:
    """Run a script in another process: two SQLites in one would drop each other's locks."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, check=True, timeout=20, capture_output=True, text=True).stdout


async def until(condition, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


async def status_is(engine: Engine, run_id: str, *statuses: str) -> bool:
    return (await engine.get(run_id).info()).status in statuses


async def test_a_run_gives_its_result(engine: Engine):
    run = engine.run(chain, number=4)
    assert await run == (4, (1, 4), run.id)
    assert run.status == "completed"
    assert await engine.get(run.id) == (4, (1, 4), run.id)
    info = await engine.get(run.id).info()
    assert (info.status, info.workflow, info.published) == ("completed", "chain", 2)


async def test_a_thousand_runs_at_once(engine: Engine):
    runs = [engine.run(chain, number=number) for number in range(1000)]
    results = await asyncio.gather(*runs)
    assert [result[0] for result in results] == list(range(1000))


async def test_the_same_key_is_the_same_run(engine: Engine):
    one = engine.run(chain, number=1, key="order-42")
    assert engine.run(chain, number=1, key="order-42") is one
    result = await one
    again = engine.run(chain, number=1, key="order-42")
    assert await again == result
    assert await engine.submit(chain, number=1, key="order-42") == one.id
    with pytest.raises(KeyConflict):
        await engine.run(chain, number=2, key="order-42")
    with pytest.raises(KeyConflict, match="order-42"):
        await engine.submit(chain, number=2, key="order-42")
    assert (await engine.run(chain, number=2, key="order-43"))[0] == 2


async def test_events_reach_a_run_once(engine: Engine):
    run_id = await engine.submit(asking)
    assert await engine.send_event(run_id, Go(number=5), id="the answer")
    assert not await engine.send_event(run_id, Go(number=6), id="the answer")
    assert await engine.get(run_id) == (5, 1)
    with pytest.raises(RunEnded):
        await engine.send_event(run_id, Go())
    with pytest.raises(UnknownRun):
        await engine.send_event("0198c0de-0000-7000-8000-000000000000", Go())


async def test_a_run_is_cancelled_through_the_journal(engine: Engine):
    run_id = await engine.submit(asking)
    await engine.cancel(run_id)
    with pytest.raises(RunCancelled):
        await engine.get(run_id)
    assert await status_is(engine, run_id, "cancelled")


async def test_a_failed_run_goes_on_from_where_it_failed(engine: Engine):
    tries.clear()
    run = engine.run(failing)
    with pytest.raises(ConnectionError, match="not yet"):
        await run
    with pytest.raises(ConnectionError) as raised:
        await engine.get(run.id)
    assert any("in step" in note for note in raised.value.__notes__)
    handle = await engine.retry(run.id)
    assert await handle == [0, 1, 1]


async def test_a_run_that_goes_on_is_not_tried_again(engine: Engine):
    run_id = await engine.submit(asking)
    with pytest.raises(JournalConflict):
        await engine.retry(run_id)


async def test_a_fork_goes_on_from_a_point_of_another_run(engine: Engine):
    run = engine.run(chain, number=7)
    await run
    history = await engine.get(run.id).history()
    at = next(line["seq"] for line in history if line["what"] == "finished")
    handle = await engine.fork(run.id, at=at)
    assert handle.id != run.id
    assert await handle == (7, (1, 7), handle.id)


async def test_runs_are_listed_page_by_page(engine: Engine):
    ids = [engine.run(chain, number=number) for number in range(7)]
    await asyncio.gather(*ids)
    waiting = await engine.submit(asking)
    await until(lambda: status_is(engine, waiting, "waiting"))
    found: list[str] = []
    while page := await engine.runs(workflow="chain", limit=3, after=found[-1] if found else None):
        found += [info.id for info in page]
    assert found == sorted((run.id for run in ids), reverse=True)
    assert [info.id for info in await engine.runs(status="waiting")] == [waiting]
    with pytest.raises(ValueError, match="status"):
        await engine.runs(status="odd")


async def test_a_run_is_deleted(engine: Engine):
    run = engine.run(chain, number=1)
    await run
    await engine.delete(run.id)
    with pytest.raises(UnknownRun):
        await engine.get(run.id)


async def test_a_stream_is_read_from_any_number(engine: Engine):
    run = engine.run(chain, number=1)
    await run
    assert [ev async for ev in engine.stream_events(run.id)] == [Progress(done=1), Progress(done=2)]
    assert [ev async for ev in engine.stream_events(run.id, after=1)] == [Progress(done=2)]


async def test_a_stream_that_was_trimmed_says_so(file: str):
    @step
    async def publish(ctx: Context, ev: StartEvent) -> StopEvent:
        for done in range(10):
            ctx.write_event_to_stream(Progress(done=done))
        return StopEvent()

    workflow = Workflow("publish", [publish], stream_limit=3)
    async with Engine(file, workflows=[workflow]) as engine:
        run = engine.run(workflow)
        await run
        events = [ev async for ev in engine.stream_events(run.id)]
        assert isinstance(events[0], Lagged)
        assert events[0].missed == 7
        assert [ev.done for ev in events[1:]] == [7, 8, 9]


async def test_a_result_that_cannot_be_stored_is_no_result(engine: Engine):
    @step
    async def odd(ev: StartEvent) -> StopEvent:
        return StopEvent(result=asyncio.get_running_loop())

    with pytest.raises(ValueError, match="not one of the engine's workflows"):
        engine.run(Workflow("odd", [odd]))


async def test_what_cannot_be_stored_fails_the_run(file: str):
    class Live(Event):
        handle: object

    @step
    async def odd(ev: StartEvent) -> StopEvent | Live:
        loop = asyncio.get_running_loop()
        return Live(handle=loop) if ev.as_event else StopEvent(result=loop)

    @step
    async def take(ev: Live) -> StopEvent:
        return StopEvent(result="taken")

    workflow = Workflow("odd", [odd, take])
    async with Engine(file, workflows=[workflow]) as engine:
        for as_event in (True, False):
            run = engine.run(workflow, as_event=as_event)
            with pytest.raises(UnstorableValue):
                await run
            with pytest.raises(UnstorableValue):
                await engine.get(run.id)
            assert await status_is(engine, run.id, "failed")


async def test_an_exception_that_does_not_pickle_is_given_as_text(file: str):
    class Odd(Exception):
        pass

    @step
    async def odd(ev: StartEvent) -> StopEvent:
        raise Odd("very odd")

    workflow = Workflow("odd", [odd])
    async with Engine(file, workflows=[workflow]) as engine:
        run = engine.run(workflow)
        with pytest.raises(Odd):
            await run
        with pytest.raises(StoredError, match="very odd"):
            await engine.get(run.id)


async def test_runs_go_on_after_a_restart(file: str):
    async with Engine(file, workflows=ALL) as engine:
        run = engine.run(asking)
        await until(lambda: status_is(engine, run.id, "waiting"))
    with pytest.raises(EngineClosed, match="goes on"):
        await run
    with pytest.raises(EngineClosed):
        engine.run(asking)
    async with Engine(file, workflows=ALL) as engine:
        # It waits in the journal until something comes for it.
        await asyncio.sleep(0.1)
        assert engine._session().executing.live == {}
        await engine.send_event(run.id, Go(number=3))
        assert await engine.get(run.id) == (3, 2)


async def test_a_key_is_known_after_a_restart(file: str):
    async with Engine(file, workflows=ALL) as engine:
        result = await engine.run(chain, number=1, key="k")
    async with Engine(file, workflows=ALL) as engine:
        assert await engine.run(chain, number=1, key="k") == result
        with pytest.raises(KeyConflict):
            await engine.run(chain, number=2, key="k")


async def test_sleeps_and_retries_are_due_after_a_restart(file: str):
    attempts: list[int] = []

    @step(retry=Retry(attempts=2, initial=0.4, jitter=0))
    async def nap(ctx: Context, ev: StartEvent) -> StopEvent:
        attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            raise ConnectionError
        await ctx.sleep(0.4)
        return StopEvent(result=ctx.attempt)

    workflow = Workflow("nap", [nap])
    begin = time.monotonic()
    async with Engine(file, workflows=[workflow]) as engine:
        run_id = await engine.submit(workflow)
        await until(lambda: status_is(engine, run_id, "waiting"))
    async with Engine(file, workflows=[workflow]) as engine:
        await asyncio.sleep(0.5)
        await until(lambda: status_is(engine, run_id, "waiting"))
    async with Engine(file, workflows=[workflow]) as engine:
        assert await engine.get(run_id) == 2
    assert 0.8 <= time.monotonic() - begin < 5
    assert attempts[0] == 1
    assert set(attempts[1:]) == {2}


async def test_two_engines_share_the_work_of_one_file(file: str):
    async with Engine(file, workflows=ALL) as one, Engine(file, workflows=ALL) as other:
        ids = [await one.submit(chain, number=number) for number in range(50)]
        results = await asyncio.gather(*[other.get(run_id) for run_id in ids])
        assert [result[0] for result in results] == list(range(50))
        run = one.run(asking)
        await until(lambda: status_is(one, run.id, "waiting"))
        await other.send_event(run.id, Go(number=9))
        assert await run == (9, 1)


async def test_the_same_key_in_two_engines_is_one_run(file: str):
    async with Engine(file, workflows=ALL) as one, Engine(file, workflows=ALL) as other:
        results = await asyncio.gather(
            *[engine.run(chain, number=1, key="k") for engine in (one, other, one, other)]
        )
        assert len(set(results)) == 1


async def test_a_closed_engine_hands_its_runs_over_at_once(file: str):
    started: list[int] = []

    @step
    async def slow(ctx: Context, ev: StartEvent) -> StopEvent:
        started.append(1)
        if len(started) == 1:
            await asyncio.sleep(3600)
        return StopEvent(result=len(started))

    workflow = Workflow("slow", [slow])
    async with Engine(file, workflows=[workflow], lease=60) as other:
        one = Engine(file, workflows=[workflow], lease=60)
        await one.open()
        other._workflows = {}
        run = one.run(workflow)
        await until(lambda: asyncio.sleep(0, bool(started)))
        other._workflows = {"slow": workflow}
        begin = time.monotonic()
        await one.close(grace=0.05)
        with pytest.raises(EngineClosed):
            await run
    async with Engine(file, workflows=[workflow], lease=60) as another:
        assert await another.get(run.id) == 2
        assert time.monotonic() - begin < 3


async def test_a_workflow_that_has_changed_leaves_the_run_alone(
    file: str, caplog: pytest.LogCaptureFixture
):
    async with Engine(file, workflows=ALL) as engine:
        run_id = await engine.submit(asking)
        await until(lambda: status_is(engine, run_id, "waiting"))

    @step
    async def renamed(ev: Page) -> StopEvent:
        return StopEvent()

    @step
    async def begin(ev: StartEvent) -> Page:
        return Page(number=1)

    @step(name="begin too")
    async def begin_too(ev: StartEvent) -> Page:
        return Page(number=1)

    changed = Workflow("asking", [begin, begin_too, renamed])
    async with Engine(file, workflows=[changed]) as engine:
        await engine.cancel(run_id)
        await until(lambda: asyncio.sleep(0, "cannot go on" in caplog.text))
        assert not await status_is(engine, run_id, "completed", "cancelled", "failed")
    async with Engine(file, workflows=ALL) as engine:
        with pytest.raises(RunCancelled):
            await engine.get(run_id)


async def test_finished_runs_are_kept_for_a_time(file: str):
    async with Engine(file, workflows=ALL, keep=timedelta(0)) as engine:
        run = engine.run(chain, number=1)
        await run

        async def is_gone() -> bool:
            return not await engine.runs()

        await until(is_gone)


async def test_a_paused_run_stays_paused(file: str):
    async with Engine(file, workflows=ALL) as engine:
        run = engine.run(asking)
        await until(lambda: status_is(engine, run.id, "waiting"))
        await run.pause()
        await until(lambda: status_is(engine, run.id, "paused"))
        run.resume()
        await until(lambda: status_is(engine, run.id, "waiting"))
        await engine.send_event(run.id, Go(number=1))
        assert await run == (1, 1)


async def test_the_secret_is_made_beside_the_file(tmp_path: Path, file: str):
    async with Engine(file, workflows=ALL) as engine:
        await engine.run(chain, number=1)
    secret = tmp_path / "runs.db.secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert len(secret.read_bytes()) == 32
    assert b"treadle" not in secret.read_bytes()


async def test_a_wrong_secret_reads_nothing(file: str):
    async with Engine(file, workflows=ALL, secret="a secret of the tests") as engine:
        run_id = await engine.submit(asking)
        await until(lambda: status_is(engine, run_id, "waiting"))
        run = engine.run(chain, number=1)
        await run
    async with Engine(file, workflows=ALL, secret="another secret, also long") as engine:
        with pytest.raises(Exception, match="secret"):
            await engine.get(run.id)


@pytest.mark.parametrize("kind", ["directory", "text", "foreign", "nowhere", "newer"])
async def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, kind: str):
    path = tmp_path / "runs.db"
    if kind == "directory":
        path.mkdir()
    elif kind == "text":
        path.write_text("hello " * 1000)
    elif kind in ("foreign", "newer"):
        if kind == "newer":
            async with Engine(f"sqlite:///{path}"):
                pass
        script = (
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
            "c.execute(sys.argv[2]); c.commit()"
        )
        change = "CREATE TABLE t (a)" if kind == "foreign" else "PRAGMA user_version = 99"
        python(script, path, change)
    else:
        path = tmp_path / "nowhere" / "runs.db"
    with pytest.raises(JournalError, match=path.name if kind != "nowhere" else "nowhere"):
        async with Engine(f"sqlite:///{path}"):
            pass


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"url": "mysql://x"}, ValueError, "memory:"),
        ({"url": "sqlite:///"}, ValueError, "PATH"),
        ({"url": 3}, TypeError, "url"),
        ({"durability": "none"}, ValueError, "durability"),
        ({"lease": 0}, ValueError, "lease"),
        ({"workflows": [chain, Workflow("chain", [begin, end])]}, ValueError, "chain"),
        ({"workflows": [begin]}, TypeError, "workflows"),
        ({"concurrency": 0}, ValueError, "concurrency"),
        ({"keep": "3"}, TypeError, "keep"),
        ({"secret": "short"}, ValueError, "secret"),
    ],
)
def test_a_wrong_option_is_named(options, error, text):
    with pytest.raises(error, match=text):
        Engine(**{"url": "memory:", **options})


async def test_the_settings_of_the_file_are_the_safe_ones(tmp_path: Path, file: str):
    async with Engine(file, workflows=ALL) as engine:
        await engine.run(chain, number=1)
        script = (
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
            "print(c.execute('PRAGMA journal_mode').fetchone()[0])"
        )
        assert python(script, tmp_path / "runs.db").strip() == "wal"


async def test_a_run_that_sets_many_keys_is_written_as_it_goes(file: str):
    @step
    async def many(ctx: Context, ev: StartEvent) -> StopEvent:
        for number in range(5000):
            ctx.set(f"key {number % 100}", number)
        return StopEvent(result=len(ctx))

    workflow = Workflow("many", [many])
    async with Engine(file, workflows=[workflow]) as engine:
        assert await engine.run(workflow) == 100


async def test_cancelling_the_awaiter_cancels_a_bound_run(file: str):
    async with Engine(file, workflows=ALL) as engine:
        run = engine.run(asking, bind=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await run
        assert run.status == "cancelled"
        assert await status_is(engine, run.id, "cancelled")

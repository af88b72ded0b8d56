"""Runs that end their process or are damaged, and messages that cannot be read."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import HERE, Process

from treadle import (
    Context,
    DamagedRun,
    Engine,
    Event,
    RunEnded,
    RunStranded,
    StartEvent,
    StopEvent,
    UnknownRun,
    Workflow,
    step,
)
from treadle.engine import looking

DEADLY = """
@step
async def die(ctx: Context, ev: StartEvent) -> StopEvent:
    ctx.increment("begun")
    ctx.set("keys", [0] * 10)
    for number in range(3000):
        ctx.set(f"key {number}", number)
    os._exit(9)

deadly = Workflow("deadly", [die])

async def main():
    url = f"sqlite:///{path}"
    async with Engine(url, workflows=[deadly], lease=0.3, max_recoveries=2) as engine:
        say("open", *[info.id for info in await engine.runs()])
        if not await engine.runs():
            await engine.submit(deadly)
        await asyncio.sleep(3600)
asyncio.run(main())
"""


@step
async def survive(ctx: Context, ev: StartEvent) -> StopEvent:
    return StopEvent(result=ctx.get("begun"))


deadly = Workflow("deadly", [survive])


class Go(Event):
    number: Any = 0


class Bomb:
    """What raises when it is unpickled."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        return _explode, (self.kind,)


is_defused: list[bool] = []


def _explode(kind: str) -> object:
    if is_defused:
        return f"defused {kind}"
    raise {
        "SystemExit": SystemExit(3),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "CancelledError": asyncio.CancelledError(),
        "StopIteration": StopIteration(),
        "GeneratorExit": GeneratorExit(),
        "ValueError": ValueError("bad"),
    }[kind]


@step
async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
    return StopEvent(result=(await ctx.wait_for_event(Go)).number)


@step
async def rest(ev: StartEvent) -> StopEvent:
    return StopEvent(result="rested")


asking, resting = Workflow("asking", [ask]), Workflow("resting", [rest])
ALL = [asking, resting]
KINDS = [
    "SystemExit",
    "KeyboardInterrupt",
    "CancelledError",
    "StopIteration",
    "GeneratorExit",
    "ValueError",
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture(autouse=True)
def _armed() -> None:
    is_defused.clear()


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, path: Path) -> str:
    return "memory:" if request.param == "memory" else f"sqlite:///{path}"


def in_sqlite(path: Path, *statements: str) -> None:
    """Change a file in another process: two SQLites in one would drop each other's locks."""
    script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\n"
    script += "".join(f"c.execute({statement!r})\n" for statement in statements) + "c.commit()"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=20)


async def test_a_run_that_ends_its_process_each_time_is_stranded_and_restarted_by_retry(
    path: Path,
):
    for _ in range(3):
        with Process(path, DEADLY) as process:
            assert process.line().startswith("open")
            assert process.wait(30) == 9
    url = f"sqlite:///{path}"
    async with Engine(url, workflows=[deadly], max_recoveries=2, lease=0.3) as engine:
        (info,) = await engine.runs()
        async with asyncio.timeout(20):
            with pytest.raises(RunStranded, match="taken over 2 times without progress") as caught:
                await engine.get(info.id)
        assert caught.value.run_id == info.id
        (info,) = await engine.runs(status="stranded")
        assert (info.status, info.owner, info.reason) == ("stranded", None, caught.value.reason)
        with pytest.raises(RunStranded):
            async for _ in engine.stream_events(info.id):
                pass
        story = await looking.story(engine._session(), info.id)
        assert story["reason"] == info.reason


async def test_a_take_over_with_progress_counts_anew(path: Path):
    # Each process gets one step further before it is killed.
    script = """
    class Page(Event):
        number: int

    @step
    async def walk(ctx: Context, ev: StartEvent | Page) -> Page | StopEvent:
        number = getattr(ev, "number", 0)
        reached = f"{path}.{number}"
        if not os.path.exists(reached):
            open(reached, "w").close()
            say("at", number)
            await asyncio.sleep(3600)
        return Page(number=number + 1) if number < 4 else StopEvent(result=number)

    walking = Workflow("walking", [walk])
    async def main():
        url = f"sqlite:///{path}"
        async with Engine(url, workflows=[walking], lease=0.3, max_recoveries=1) as engine:
            if not await engine.runs():
                await engine.submit(walking)
            (info,) = await engine.runs()
            say(*[await engine.get(info.id)])
    asyncio.run(main())
    """
    for number in range(5):
        with Process(path, script) as process:
            assert process.line(40).startswith(f"at {number}")
    with Process(path, script) as process:
        assert process.line(40) == "4"


async def damaged(path: Path) -> tuple[str, str]:
    """Make two unfinished runs, of which the first is damaged."""
    async with Engine(f"sqlite:///{path}") as engine:
        run_id, other = await engine.submit(asking), await engine.submit(resting)
    in_sqlite(
        path,
        "UPDATE checkpoints SET state = CAST(substr(state, 1, 20) || x'ffff' || substr(state, 23) "
        "AS BLOB) "
        f"WHERE run = (SELECT n FROM runs WHERE hex(id) = '{run_id.replace('-', '').upper()}')",
    )
    return run_id, other


async def test_a_damaged_run_tells_its_waiters_and_leaves_the_others_alone(
    path: Path, caplog: pytest.LogCaptureFixture
):
    run_id, other = await damaged(path)
    async with Engine(f"sqlite:///{path}", workflows=ALL) as engine:
        async with asyncio.timeout(20):
            with pytest.raises(RunStranded, match="damaged"):
                await engine.get(run_id)
            assert await engine.get(other) == "rested"
        info = await engine.get(run_id).info()
        assert info.status == "stranded"
        assert info.reason is not None
        assert info.reason.startswith("damaged: ")
        assert run_id in caplog.text
        with pytest.raises(DamagedRun):
            await engine.retry(run_id)
        assert (await engine.get(run_id).info()).status == "stranded"
    # A waiter in a process that executes nothing is told as well.
    async with Engine(f"sqlite:///{path}") as looker, asyncio.timeout(20):
        with pytest.raises(RunStranded, match="damaged"):
            await looker.get(run_id)


async def test_a_waiter_elsewhere_is_told_when_a_run_is_stranded(path: Path):
    run_id, _ = await damaged(path)
    async with Engine(f"sqlite:///{path}") as looker:
        waiting = asyncio.ensure_future(_awaited(looker, run_id))
        await asyncio.sleep(0.1)
        async with Engine(f"sqlite:///{path}", workflows=ALL), asyncio.timeout(20):
            with pytest.raises(RunStranded):
                await waiting


async def _awaited(engine: Engine, run_id: str) -> Any:
    return await engine.get(run_id)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_message_that_cannot_be_read_is_a_dead_letter_until_it_is_sent_again(
    url: str, kind: str, caplog: pytest.LogCaptureFixture
):
    async with Engine(url, workflows=ALL) as engine, asyncio.timeout(20):
        run = engine.run(asking)
        await engine.send_event(run.id, Go(number=Bomb(kind)))
        while (info := await engine.get(run.id).info()).dead_letters != 1:
            await asyncio.sleep(0.01)
        assert info.inbox == 0
        assert info.status == "waiting"
        assert "dead letter" in caplog.text
        (letter,) = (await looking.story(engine._session(), run.id))["undelivered"]
        assert kind in letter["why"]
        assert letter["event"]["class"].endswith("Go")
        # The engine goes on.
        assert await engine.run(resting) == "rested"
        assert await engine.redeliver(run.id) == 1
        while (await engine.get(run.id).info()).dead_letters != 1:
            await asyncio.sleep(0.01)
        is_defused.append(True)
        assert await engine.redeliver(run.id) == 1
        assert await run == f"defused {kind}"
        with pytest.raises(RunEnded):
            await engine.redeliver(run.id)
        with pytest.raises(UnknownRun):
            await engine.redeliver("01a2281c-6705-7f07-a609-33aa598fc487")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_message_that_cannot_be_read_keeps_no_run_from_being_taken_over(
    path: Path, kind: str
):
    url = f"sqlite:///{path}"
    async with Engine(url) as sender:
        run_id = await sender.submit(asking)
        await sender.send_event(run_id, Go(number=Bomb(kind)))
        await sender.send_event(run_id, Go(number=7))
    async with Engine(url, workflows=ALL) as engine, asyncio.timeout(20):
        assert await engine.get(run_id) == 7
        info = await engine.get(run_id).info()
        assert (info.inbox, info.dead_letters) == (0, 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_pending_event_that_cannot_be_read_strands_its_run_alone(path: Path, kind: str):
    url = f"sqlite:///{path}"
    async with Engine(url) as sender:
        run_id = await sender.submit(asking, StartEvent(bomb=Bomb(kind)))
    async with Engine(url, workflows=ALL, max_recoveries=1) as engine, asyncio.timeout(20):
        with pytest.raises(RunStranded, match=f"2 attempts to go on with it were in vain.*{kind}"):
            await engine.get(run_id)
        assert await engine.run(resting) == "rested"
        is_defused.append(True)
        await engine.retry(run_id)
        await engine.send_event(run_id, Go(number=1))
        assert await engine.get(run_id) == 1
        assert (await engine.get(run_id).info()).recoveries == 0


async def test_a_dead_letter_survives_the_process(path: Path):
    url = f"sqlite:///{path}"
    async with Engine(url, workflows=ALL) as engine, asyncio.timeout(20):
        run = engine.run(asking)
        await engine.send_event(run.id, Go(number=Bomb("ValueError")), id="once")
        while (await engine.get(run.id).info()).dead_letters != 1:
            await asyncio.sleep(0.01)
        assert not await engine.send_event(run.id, Go(number=2), id="once")
    is_defused.append(True)
    async with Engine(url) as other:
        assert await other.redeliver(run.id) == 1
    async with Engine(url, workflows=ALL) as engine, asyncio.timeout(20):
        assert await engine.get(run.id) == "defused ValueError"


def treadle(*arguments: str) -> str:
    """Run the command line; return what it prints."""
    command = [sys.executable, "-m", "treadle", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=HERE)
    return done.stdout + done.stderr


async def test_the_command_line_shows_stranded_runs_and_dead_letters(path: Path):
    run_id, _ = await damaged(path)
    url = f"sqlite:///{path}"
    async with Engine(url, workflows=ALL) as engine, asyncio.timeout(20):
        with pytest.raises(RunStranded):
            await engine.get(run_id)
        run = engine.run(asking)
        await engine.send_event(run.id, Go(number=Bomb("ValueError")))
        while (await engine.get(run.id).info()).dead_letters != 1:
            await asyncio.sleep(0.01)
    assert run_id in await asyncio.to_thread(treadle, "runs", url, "--status", "stranded")
    shown = await asyncio.to_thread(treadle, "show", url, run_id)
    assert "stranded" in shown
    assert "damaged: " in shown
    shown = await asyncio.to_thread(treadle, "show", url, run.id)
    assert "1 dead letter" in shown
    assert "ValueError: bad" in shown
    assert "Go" in shown
    assert "sent again" in await asyncio.to_thread(treadle, "redeliver", url, run.id)

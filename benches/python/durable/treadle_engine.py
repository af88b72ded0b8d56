"""treadle's engine on SQLite."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from comparison.memory import resident

from treadle import Context, Engine, Event, StartEvent, StopEvent, Workflow, step


class A(Event):
    n: int


class B(Event):
    n: int


class Next(Event):
    n: int


class Answer(Event):
    n: int


@step
async def first(ev: StartEvent) -> A:
    return A(n=ev.n)


@step
async def second(ev: A) -> B:
    return B(n=ev.n)


@step
async def third(ev: B) -> StopEvent:
    return StopEvent(result=ev.n)


@step
async def begin(ev: StartEvent) -> Next:
    return Next(n=ev.n)


@step
async def go_round(ctx: Context, ev: Next) -> Next | StopEvent:
    if ev.n % 1000 == 0:
        times.append(time.perf_counter())
    return Next(n=ev.n - 1) if ev.n else StopEvent()


@step
async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
    answer = await ctx.wait_for_event(Answer)
    return StopEvent(result=answer.n)


HERE = Path(__file__).parents[1]
chain = Workflow("chain", [first, second, third])
loop = Workflow("loop", [begin, go_round])
waiting = Workflow("waiting", [ask])
WORKFLOWS = [chain, loop, waiting]
times: list[float] = []


@asynccontextmanager
async def engine(path: Path, durability: str) -> AsyncIterator[Engine]:
    """An engine on a new file, that has done something already."""
    url = f"sqlite:///{path / 'runs.db'}"
    async with Engine(url, workflows=WORKFLOWS, durability=durability) as opened:
        await opened.run(chain, n=0)
        yield opened


async def _after_another(path: Path, runs: int, durability: str) -> float:
    async with engine(path, durability) as opened:
        begin = time.perf_counter()
        for n in range(runs):
            await opened.run(chain, n=n)
        return time.perf_counter() - begin


async def _at_once(path: Path, runs: int, durability: str) -> float:
    async with engine(path, durability) as opened:
        begin = time.perf_counter()
        await asyncio.gather(*[opened.run(chain, n=n) for n in range(runs)])
        return time.perf_counter() - begin


async def step_after_another(path: Path, runs: int) -> float:
    """Each step waits for the one before it to be on disk."""
    return await _after_another(path, runs, "step")


async def pipelined_after_another(path: Path, runs: int) -> float:
    """The result alone waits for the disk."""
    return await _after_another(path, runs, "pipelined")


async def step_at_once(path: Path, runs: int) -> float:
    """As `step_after_another`, all at once."""
    return await _at_once(path, runs, "step")


async def pipelined_at_once(path: Path, runs: int) -> float:
    """As `pipelined_after_another`, all at once."""
    return await _at_once(path, runs, "pipelined")


async def commit_latency(commits: int = 1000) -> tuple[float, float]:
    """Milliseconds of `submit`, which returns with the run on disk: p50 and p99."""
    with tempfile.TemporaryDirectory() as directory:
        # It executes nothing: what it submits stays in the file.
        async with Engine(f"sqlite:///{directory}/runs.db") as idle:
            took = []
            for n in range(commits):
                begin = time.perf_counter()
                await idle.submit(chain, n=n)
                took.append((time.perf_counter() - begin) * 1e3)
    took.sort()
    return took[len(took) // 2], took[len(took) * 99 // 100]


async def loop_lag(runs: int = 1000, seconds: float = 5) -> tuple[float, float]:
    """Milliseconds that a heartbeat comes late with so many runs in flight: p99.9, the most.

    It begins once all of them are: to start a thousand in one go takes its own time.
    """
    late: list[float] = []

    async def heartbeat() -> None:
        await asyncio.sleep(0.5)
        while True:
            due = time.perf_counter() + 0.001
            await asyncio.sleep(0.001)
            late.append((time.perf_counter() - due) * 1e3)

    with tempfile.TemporaryDirectory() as directory:
        async with engine(Path(directory), "step") as opened:
            beating = asyncio.create_task(heartbeat())
            until = time.perf_counter() + seconds

            async def keep_going() -> None:
                while time.perf_counter() < until:
                    await opened.run(chain, n=1)

            await asyncio.gather(*[keep_going() for _ in range(runs)])
            beating.cancel()
    late.sort()
    return late[len(late) * 999 // 1000], late[-1]


async def long_loop(steps: int = 100_000) -> tuple[float, float, int]:
    """Microseconds of a step: of the first and the last thousand, and how many there were."""
    times.clear()
    with tempfile.TemporaryDirectory() as directory:
        async with engine(Path(directory), "pipelined") as opened:
            await opened.run(loop, n=steps)
    return (times[1] - times[0]) * 1e3, (times[-1] - times[-2]) * 1e3, steps


async def opening(workflow: Workflow, runs: int, at_once: int = 5_000) -> tuple[float, float]:
    """Make a journal with so many runs, and open it in a new process: seconds and MB of that."""
    with tempfile.TemporaryDirectory() as directory:
        async with engine(Path(directory), "step") as opened:
            for begin in range(0, runs, at_once):
                count = min(at_once, runs - begin)
                if workflow is waiting:
                    await asyncio.gather(*[opened.submit(waiting, n=0) for _ in range(count)])
                else:
                    await asyncio.gather(*[opened.run(workflow, n=0) for _ in range(count)])
            while await opened.runs(status="ready", limit=1):
                await asyncio.sleep(0.05)
        ask = "from durable.treadle_engine import open_it; open_it()"
        command = [sys.executable, "-c", ask, f"{directory}/runs.db"]
        said = await asyncio.to_thread(
            subprocess.run, command, cwd=HERE, capture_output=True, text=True, check=True
        )
    seconds, megabytes = said.stdout.split()
    return float(seconds), float(megabytes)


def open_it() -> None:
    """Open the journal that the command line names; print the seconds and the MB that it takes."""

    async def main() -> None:
        before = resident()
        begin = time.perf_counter()
        async with Engine(f"sqlite:///{sys.argv[1]}", workflows=WORKFLOWS) as opened:
            await opened.runs(limit=1)
            seconds = time.perf_counter() - begin
            # What goes on by itself has begun to by then.
            await asyncio.sleep(1)
        after = resident()
        print(seconds, (after - before) / 1e6)

    asyncio.run(main())

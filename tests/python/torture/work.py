"""A process that executes durable runs until it is killed. What it was promised it writes down.

Its arguments: the journal, the log, a name, the workflow runs to start, "honest" or "lying".
"""

import asyncio
import os
import random
import sys

from treadle import (
    Context,
    Engine,
    Event,
    Retry,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)


class Job(Event):
    number: int


class Done(Event):
    number: int
    total: int


class Ping(Event):
    number: int


class Answer(Event):
    number: int


LOG: int = -1


def open_log(path: object) -> None:
    """Write down from now on what is promised."""
    global LOG
    LOG = os.open(str(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def log(*words: object) -> None:
    """Write a line whole: the kernel appends it even if the process is killed right after."""
    os.write(LOG, (" ".join(map(str, words)) + "\n").encode())


@step
async def begin(ctx: Context, ev: StartEvent) -> list[Job]:
    ctx.set("jobs", ev.jobs)
    return [Job(number=number) for number in range(ev.jobs)]


@step(retry=Retry(attempts=3, initial=0.001), concurrency=3)
async def work(ctx: Context, ev: Job) -> Done:
    log("body", ctx.run_id(), ev.number)
    if ev.number % 3 == 1 and ctx.attempt == 1:
        raise ConnectionError(ev.number)
    if ev.number % 3 == 2:
        await ctx.sleep(0.002)
    ctx.set(f"done {ev.number}", True)
    return Done(number=ev.number, total=ev.number * 10)


@step
async def join(ctx: Context, ev: Done) -> Ping | None:
    # The run sees each Done once, whatever was killed: else it would count twice here.
    every = ctx.collect_events(ev, [Done] * ctx.get("jobs"))
    return Ping(number=sum(done.total for done in every)) if every else None


@step
async def finish(ctx: Context, ev: Ping) -> StopEvent:
    answer = await ctx.wait_for_event(Answer)
    return StopEvent(result=(ev.number, answer.number, sorted(ctx.keys())))


jobs = Workflow("jobs", [begin, work, join, finish])


def expected(count: int) -> tuple[int, int, list[str]]:
    """What a run of this many jobs gives."""
    keys = sorted(["jobs", *(f"done {number}" for number in range(count))])
    return sum(number * 10 for number in range(count)), -1, keys


async def one(engine: Engine, chance: random.Random, number: int, name: str) -> None:
    count = chance.randint(1, 5)
    run_id = await engine.submit(jobs, jobs=count, key=f"{name} {number}")
    log("submitted", run_id, count)
    await asyncio.sleep(chance.random() * 0.02)
    await engine.send_event(run_id, Answer(number=-1), id=f"{run_id} answer")
    log("answered", run_id)
    result = await engine.get(run_id)
    log("ended", run_id, result == expected(count))


async def main(path: str, name: str, runs: int, is_lying: bool) -> None:
    chance = random.Random(name)
    async with Engine(f"sqlite:///{path}", workflows=[jobs], lease=1) as engine:
        if is_lying:
            for number in range(runs):
                log("submitted", f"00000000-0000-7000-8000-{number:012}", 1)
        log("opened", name)
        await asyncio.gather(*[one(engine, chance, number, name) for number in range(runs)])
        log("closing", name)


def run() -> None:
    """Run as the arguments say."""
    path, log_path, name, runs, mood = sys.argv[1:]
    open_log(log_path)
    asyncio.run(main(path, name, int(runs), mood == "lying"))

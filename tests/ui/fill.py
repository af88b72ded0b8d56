"""Fills a journal with the runs that the tests of the page look at: `fill.py URL KIND`."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "python"))

import demo_work
from ui_work import ALL, Answer, asks, filled

from treadle import Context, Engine, Event, StartEvent, StopEvent, Workflow, step


class Part(Event):
    number: int


@step
async def split(ctx: Context, ev: StartEvent) -> list[Part]:
    return [Part(number=n) for n in range(ev.parts)]


@step
async def take(ctx: Context, ev: Part) -> StopEvent | None:
    return StopEvent() if ctx.increment("taken") == ctx.get("parts") else None


@step
async def nothing(ev: StartEvent) -> StopEvent:
    return StopEvent()


wide = Workflow("wide", [split, take])
small = Workflow("small", [nothing])


@step
async def slow(ctx: Context, ev: StartEvent) -> StopEvent:
    for n in range(10_000):
        ctx.set("turn", n)
        ctx.write_event_to_stream(Part(number=n))
        await ctx.sleep(0.05)
    return StopEvent()


slowly = Workflow("slowly", [slow])


async def many_runs(url: str, count: int) -> None:
    async with Engine(url) as engine:
        for begin in range(0, count, 2000):
            runs = range(begin, min(begin + 2000, count))
            await asyncio.gather(*(engine.submit(small, key=f"run {n:06}") for n in runs))


async def fan_out(url: str, parts: int) -> None:
    async with Engine(url, workflows=[wide], history="full") as engine:
        await engine.run(wide, key="wide", parts=parts, state={"parts": parts})


async def live(url: str) -> None:
    """Execute a run that goes on, until the process is killed."""
    async with Engine(url, workflows=[*ALL, slowly], lease=1) as engine:
        engine.run(slowly, key="slow").detach()
        print("going on", flush=True)
        await asyncio.sleep(3600)


async def answered(url: str, run: str) -> None:
    async with Engine(url, workflows=[asks]) as engine:
        await engine.send_event(run, Answer(by="Ada"))
        await engine.get(run)


if __name__ == "__main__":
    url, kind, *more = sys.argv[1:]
    if kind == "few":
        asyncio.run(filled(url))
    elif kind == "demo":
        asyncio.run(demo_work.filled(url))
    elif kind == "runs":
        asyncio.run(many_runs(url, int(more[0])))
    elif kind == "wide":
        asyncio.run(fan_out(url, int(more[0])))
    elif kind == "live":
        asyncio.run(live(url))
    elif kind == "answer":
        asyncio.run(answered(url, more[0]))

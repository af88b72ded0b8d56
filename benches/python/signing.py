"""What `Engine(sign="all")` costs: durable runs of three steps a second, with it and without.

python benches/python/signing.py [RUNS] [ROUNDS]
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from treadle import Context, Engine, Event, StartEvent, StopEvent, Workflow, step


class Page(Event):
    number: int


class Words(Event):
    number: int


@step
async def fetch(ctx: Context, ev: StartEvent) -> Page:
    ctx.set("number", ev.number)
    return Page(number=ev.number)


@step
async def count(ctx: Context, ev: Page) -> Words:
    return Words(number=ev.number)


@step
async def finish(ctx: Context, ev: Words) -> StopEvent:
    return StopEvent(result=ev.number)


three = Workflow("three", [fetch, count, finish])


async def runs_a_second(folder: Path, sign: str, count: int) -> float:
    async with Engine(f"sqlite:///{folder / sign}.db", workflows=[three], sign=sign) as engine:
        began = time.perf_counter()
        await asyncio.gather(*[engine.run(three, number=number) for number in range(count)])
        return count / (time.perf_counter() - began)


def main(count: int, rounds: int) -> None:
    ratios = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            opaque, every = (
                asyncio.run(runs_a_second(Path(folder), sign, count)) for sign in ("opaque", "all")
            )
        ratios.append(every / opaque)
        print(f"opaque {opaque:8,.0f}  all {every:8,.0f}  ratio {ratios[-1]:.3f}")
    print(f"median ratio {statistics.median(ratios):.3f}")


main(*[int(given) for given in sys.argv[1:]] or [3000, 9])

"""Measures what a whole history costs: throughput, the latency of commits, size, and looking back.

python benches/python/history.py
"""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median, quantiles

from treadle import Context, Engine, Event, StartEvent, StopEvent, Workflow, step

ROUNDS = 5
LOOKS = 60


class A(Event):
    n: int


class Next(Event):
    n: int


@step
async def first(ev: StartEvent) -> A:
    return A(n=ev.n)


@step
async def second(ev: A) -> Next:
    return Next(n=ev.n)


@step
async def third(ev: Next) -> StopEvent:
    return StopEvent(result=ev.n)


@step
async def begin(ev: StartEvent) -> Next:
    return Next(n=ev.n)


times: list[float] = []


@step
async def go_round(ctx: Context, ev: Next) -> Next | StopEvent:
    times.append(time.perf_counter())
    ctx.set(f"key {ev.n % 50}", {"number": ev.n, "text": "x" * 100})
    return Next(n=ev.n - 1) if ev.n else StopEvent()


chain = Workflow("chain", [first, second, third])
loop = Workflow("loop", [begin, go_round])


def engine_on(directory: Path, history: str) -> Engine:
    url = f"sqlite:///{directory / 'runs.db'}"
    return Engine(url, workflows=[chain, loop], history=history)  # type: ignore[arg-type]


async def after_another(engine: Engine) -> float:
    """Runs of three steps a second, one after another."""
    began = time.perf_counter()
    for n in range(200):
        await engine.run(chain, n=n)
    return 200 / (time.perf_counter() - began)


async def at_once(engine: Engine) -> float:
    """Runs of three steps a second, 1,000 at once."""
    began = time.perf_counter()
    await asyncio.gather(*[engine.run(chain, n=n) for n in range(1000)])
    return 1000 / (time.perf_counter() - began)


async def long_run(engine: Engine) -> float:
    """Steps a second of a run that is folded many times."""
    times.clear()
    await engine.run(loop, n=5_000)
    return 5_000 / (times[-1] - times[0])


async def many_long_runs(engine: Engine) -> float:
    """Steps a second of 50 runs at once that are folded several times each."""
    times.clear()
    await asyncio.gather(*[engine.run(loop, n=1_000) for _ in range(50)])
    return 50_000 / (times[-1] - times[0])


async def measured(measure: Callable[[Engine], Awaitable[float]]) -> None:
    """Print the figures of both histories, measured in turn, and their ratio."""
    found: dict[str, list[float]] = {"folded": [], "full": []}
    between: dict[str, list[float]] = {"folded": [], "full": []}
    # What other programs do to the disk and the processor does not change it.
    cpu: dict[str, list[float]] = {"folded": [], "full": []}
    sizes: dict[str, int] = {}
    for _ in range(ROUNDS):
        for history, figures in found.items():
            with tempfile.TemporaryDirectory() as directory:
                async with engine_on(Path(directory), history) as engine:
                    await engine.run(chain, n=0)
                    used = time.process_time()
                    figures.append(await measure(engine))
                    cpu[history].append(time.process_time() - used)
                sizes[history] = (Path(directory) / "runs.db").stat().st_size
            if measure is long_run:
                pairs = itertools.pairwise(times)
                between[history] += [after - before for before, after in pairs]
    folded, full = median(found["folded"]), median(found["full"])
    print(f"{measure.__doc__}")
    print(f"  folded {folded:,.0f}, full {full:,.0f}: {full / folded - 1:+.1%}")
    folded, full = median(cpu["folded"]), median(cpu["full"])
    print(f"  processor: folded {folded:.2f} s, full {full:.2f} s: {full / folded - 1:+.1%}")
    print(f"  size: folded {sizes['folded']:,} B, full {sizes['full']:,} B")
    if measure is long_run:
        for history, gaps in between.items():
            cuts = quantiles(gaps, n=1000)
            shown = (f"p{name} {cuts[at] * 1e3:.2f}" for name, at in (("50", 499), ("99", 989)))
            print(f"  a step, {history}: {', '.join(shown)}, p99.9 {cuts[998] * 1e3:.2f} ms")


async def looking_back() -> None:
    """Print how long any state of a run of 100,000 records takes."""
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{Path(directory) / 'runs.db'}"
        durability = "pipelined"
        async with Engine(url, workflows=[loop], history="full", durability=durability) as engine:  # type: ignore[arg-type]
            run = engine.run(loop, n=25_000)
            await run
            handle = engine.get(run.id)
            last = (await handle.info()).seq
            shown = []
            for call in (lambda at: handle.state(at=at), lambda at: handle.inspect(at=at)):
                taken = []
                for at in random.Random(1).sample(range(last + 1), LOOKS):
                    began = time.perf_counter()
                    await call(at)
                    taken.append((time.perf_counter() - began) * 1e3)
                shown.append(f"median {median(taken):.1f}, at most {max(taken):.1f} ms")
            began = time.perf_counter()
            lines = await handle.history()
            whole = time.perf_counter() - began
            began = time.perf_counter()
            await handle.history(after=last // 2, limit=500)
            page = (time.perf_counter() - began) * 1e3
            print(f"a run of {last:,} records: state(at=) {shown[0]}; inspect(at=) {shown[1]}")
            print(f"  history() of {len(lines):,} lines {whole:.2f} s, a page of 500 {page:.1f} ms")


async def main() -> None:
    """Measure everything."""
    await looking_back()
    for measure in (after_another, at_once, long_run, many_long_runs):
        await measured(measure)


if __name__ == "__main__":
    asyncio.run(main())

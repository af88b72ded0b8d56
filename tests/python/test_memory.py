"""What is kept, and what is not. Each test that measures runs in a process of its own."""

import asyncio
import gc
import weakref
from typing import Any

import pytest
from isolated import run_script

from treadle import Context, Event, StartEvent, StopEvent, Workflow, step

MEASURE = """
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4
@step
async def begin(ctx: Context, ev: StartEvent) -> A:
    ctx.set("k", [1, 2, 3])
    return A(n=1)
@step
async def end(ctx: Context, ev: A) -> StopEvent:
    ctx.write_event_to_stream(ev)
    if PAUSE:
        await asyncio.sleep(0)
    return StopEvent(result=ctx.get("k"))
"""


def test_a_hundred_thousand_runs_leave_memory_flat():
    printed = run_script(
        "PAUSE = False\n"
        + MEASURE
        + """
async def main():
    flow = Workflow("w", [begin, end])
    async def some(count):
        for _ in range(count):
            await flow.run()
    await some(10_000)
    gc.collect()
    before = resident()
    await some(100_000)
    gc.collect()
    print(resident() - before)
asyncio.run(main())
""",
        timeout=30,
    )
    assert int(printed) < 3000  # KiB: 30 bytes a run would show


def test_runs_that_wait_and_fail_and_are_cancelled_leave_memory_flat():
    printed = run_script(
        "PAUSE = True\n"
        + MEASURE
        + """
@step
async def fail(ctx: Context, ev: StartEvent) -> StopEvent:
    raise ValueError
@step
async def wait(ctx: Context, ev: StartEvent) -> StopEvent:
    await ctx.wait_for_event(B, timeout=100)
async def main():
    flow, bad = Workflow("w", [begin, end]), Workflow("b", [fail])
    waiting = Workflow("x", [wait], timeout=100)
    async def some(count):
        for _ in range(count):
            run = waiting.run()
            reader = run.stream_events()
            await asyncio.gather(flow.run(), bad.run(), flow.run(), return_exceptions=True)
            run.cancel()
            async for _ in reader: pass
    await some(1000)
    gc.collect()
    before = resident()
    await some(8000)
    gc.collect()
    print(resident() - before)
asyncio.run(main())
""",
        timeout=30,
    )
    assert int(printed) < 3000


def test_one_run_of_many_steps_keeps_nothing_of_them():
    printed = run_script(
        "PAUSE = True\n"
        + MEASURE
        + """
@step
async def first(ev: StartEvent) -> A:
    return A(n=0)
@step
async def again(ctx: Context, ev: A) -> A | StopEvent:
    ctx.set("n", ev.n)
    ctx.write_event_to_stream(B(n=ev.n))
    ctx.collect_events(ev, [A])
    if ev.n in (20_000, 100_000):
        gc.collect()
        sizes.append(resident())
    return StopEvent() if ev.n == 100_000 else A(n=ev.n + 1)
sizes = []
async def main():
    await Workflow("w", [first, again], stream_limit=100).run()
    print(sizes[1] - sizes[0])
asyncio.run(main())
""",
        timeout=30,
    )
    assert int(printed) < 3000


def test_groups_of_collected_events_that_are_complete_are_not_kept():
    printed = run_script(
        "PAUSE = True\n"
        + MEASURE
        + """
@step
async def work(ctx: Context, ev: StartEvent) -> list[A]:
    return [A(n=0)]
@step
async def collect(ctx: Context, ev: A) -> A | StopEvent:
    assert ctx.collect_events(ev, [A], key=str(ev.n))
    if ev.n == 2000:
        ctx.set("before", resident())
    if ev.n < 12_000:
        return A(n=ev.n + 1)
    return StopEvent(result=resident() - ctx.get("before"))
async def main():
    print(await Workflow("w", [work, collect]).run())
asyncio.run(main())
""",
        timeout=20,
    )
    assert int(printed) < 1000


class Held(Event):
    pass


async def references(steps: Any) -> list[weakref.ref[Any]]:
    """Run a workflow to its end, and give weak references to all that it was made of."""
    workflow = Workflow("w", steps)
    event = Held()
    run = workflow.run(event)
    await asyncio.gather(run, return_exceptions=True)
    return [weakref.ref(thing) for thing in (workflow, event, run)]


@pytest.mark.parametrize("end", ["stop", "raise", "cancel"])
@pytest.mark.parametrize("pause", [False, True])
async def test_nothing_is_kept_of_a_run_that_is_over(end: str, pause: bool):
    @step
    async def work(ctx: Context, ev: Held | StartEvent) -> StopEvent:
        ctx.session["ctx"] = ctx
        ctx.set("k", "v")
        ctx.write_event_to_stream(ev)
        if pause:
            await asyncio.sleep(0)
        if end == "raise":
            raise ValueError
        if end == "cancel":
            raise asyncio.CancelledError
        return StopEvent(result=ctx)

    kept = await references([work])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    gc.collect()
    assert [ref() for ref in kept] == [None, None, None]


async def test_a_run_that_is_awaited_at_once_is_freed_without_the_collector():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=1)

    workflow = Workflow("w", [work])
    gc.collect()
    gc.disable()
    try:
        run = workflow.run()
        await run
        ref = weakref.ref(run)
        del run
        for _ in range(3):
            await asyncio.sleep(0)
        assert ref() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("how", ["sleep", "wait_for_event", "thread-less fan-out", "child"])
def test_runs_of_a_loop_that_was_closed_under_them_are_collected(how: str):
    printed = run_script(
        f"""
        how = {how!r}
        @step
        async def child(ctx: Context, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(1000)
        inner = Workflow("inner", [child])
        @step
        async def begin(ctx: Context, ev: StartEvent) -> list[A]:
            return [A(n=n) for n in range(5)]
        @step(concurrency=3)
        async def work(ctx: Context, ev: A) -> StopEvent:
            ctx.session["ctx"] = ctx
            if how == "wait_for_event":
                await ctx.wait_for_event(B, timeout=1000)
            elif how == "child":
                await inner.run()
            else:
                await asyncio.sleep(1000)
        async def main():
            runs = [Workflow("w", [begin, work], timeout=1000).run() for _ in range(10)]
            waiting = asyncio.ensure_future(asyncio.wait([asyncio.ensure_future(runs[0])]))
            reading = asyncio.ensure_future(asyncio.wait_for(anext(runs[1].stream_events()), 1000))
            await asyncio.sleep(0.02)
            return [weakref.ref(run) for run in runs]
        loop = asyncio.new_event_loop()
        refs = loop.run_until_complete(main())
        loop.close()
        del loop
        for _ in range(3):
            gc.collect()
        print([ref() is None for ref in refs].count(True))
        """,
        noise=True,
    )
    assert printed == "10"


def test_the_collector_may_run_at_any_moment():
    printed = run_script(
        """
        class Cycle:
            def __init__(self, call):
                self.me, self.call = self, call
            def __del__(self):
                self.call()
        classes = [type(f"E{n}", (Event,), {}) for n in range(60)]
        calls = []
        @step
        async def work(ctx: Context, ev: StartEvent) -> StopEvent:
            def use():
                calls.append(ctx.get("k"))
            ctx.set("k", [])
            gc.set_threshold(1)
            for n in range(300):
                Cycle(use)
                ctx.set("k", {"n": [n]})
                ctx.increment("n")
                ctx.write_event_to_stream(A(n=n))
                ctx.send_event(A(n=n))
                ctx.collect_events(classes[0](), classes[: 25 + n % 30], key=str(n))
                list(ctx.keys()), ctx.session, repr(ctx)
            gc.set_threshold(700)
            return StopEvent()
        @step
        async def take(ev: A) -> None: ...
        async def main():
            await Workflow("w", [work, take]).run()
        asyncio.run(main())
        print(len(calls) > 200)
        """
    )
    assert printed == "True"

"""Workflows that tests run in several processes."""

import asyncio
import os

from treadle import Context, Event, Retry, StartEvent, StopEvent, Workflow, step


class Go(Event):
    number: int = 0


class Page(Event):
    number: int


class Count(Event):
    done: int


@step
async def open_page(ctx: Context, ev: StartEvent) -> Page:
    ctx.write_event_to_stream(Count(done=1))
    return Page(number=ev.number)


@step
async def read_page(ctx: Context, ev: Page) -> StopEvent:
    ctx.write_event_to_stream(Count(done=2))
    return StopEvent(result=(ev.number, os.getpid()))


@step
async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
    ctx.increment("bodies")
    go = await ctx.wait_for_event(Go)
    return StopEvent(result=(go.number, ctx.get("bodies"), os.getpid()))


@step
async def ask_twice(ctx: Context, ev: StartEvent) -> StopEvent:
    ctx.increment("bodies")
    one = await ctx.wait_for_event(Go)
    other = await ctx.wait_for_event(Go)
    return StopEvent(result=(one.number, other.number, ctx.get("bodies")))


@step
async def ask_in_time(ctx: Context, ev: StartEvent) -> StopEvent:
    try:
        go = await ctx.wait_for_event(Go, timeout=ev.seconds)
    except TimeoutError:
        return StopEvent(result="too late")
    return StopEvent(result=go.number)


@step
async def ask_beside_work(ctx: Context, ev: StartEvent) -> StopEvent:
    """One task waits, while another one works that has waited as well."""

    async def work() -> str:
        page = await ctx.wait_for_event(Page)
        if os.environ.get("IS_SLOW"):
            await asyncio.sleep(60)
        ctx.write_event_to_stream(Count(done=page.number))
        return "worked"

    worked, go = await asyncio.gather(work(), ctx.wait_for_event(Go))
    return StopEvent(result=(worked, go.number))


@step
async def nap(ctx: Context, ev: StartEvent) -> StopEvent:
    await ctx.sleep(ev.seconds)
    return StopEvent(result="awake")


@step
async def work_long(ctx: Context, ev: StartEvent) -> StopEvent:
    if ctx.increment("bodies") == 1:
        ctx.send_event(Page(number=1))
        await asyncio.sleep(ev.seconds)
    return StopEvent(result=(ctx.get("bodies"), os.getpid()))


@step
async def ignore(ev: Page) -> None: ...


@step(retry=Retry(attempts=2, backoff="constant", initial=0.5, jitter=0))
async def stumble(ctx: Context, ev: StartEvent) -> StopEvent:
    if ctx.attempt == 1:
        raise ConnectionError("stumbled")
    return StopEvent(result=ctx.attempt)


pages = Workflow("pages", [open_page, read_page])
asking = Workflow("asking", [ask])
twice = Workflow("twice", [ask_twice])
in_time = Workflow("in_time", [ask_in_time])
napping = Workflow("napping", [nap])
limited = Workflow("limited", [ask], timeout=0.6)
beside_work = Workflow("beside_work", [ask_beside_work])
long = Workflow("long", [work_long, ignore])
stumbling = Workflow("stumbling", [stumble])
ALL = [pages, asking, twice, in_time, napping, limited, long, stumbling, beside_work]

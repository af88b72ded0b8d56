"""A workflow that does everything that a snapshot must hold, for the tests of snapshots."""

import asyncio

from treadle import Context, Event, Retry, StartEvent, StopEvent, Workflow, step


class Page(Event):
    number: int
    body: bytes


class Words(Event):
    number: int
    count: int


class Note(Event):
    number: int


class Approval(Event):
    number: int


class Summary(Event):
    total: int


@step
async def fetch(ctx: Context, ev: StartEvent) -> list[Page]:
    ctx.set("pages", ev.pages)
    ctx.set("pair", (1, 2))
    ctx.write_event_to_stream(Note(number=0))
    return [Page(number=number, body=b"a b " * number) for number in range(1, ev.pages + 1)]


@step(retry=Retry(attempts=3, initial=60))
async def count(ctx: Context, ev: Page) -> Words:
    await asyncio.sleep(0)
    if ev.number % 2 and ctx.attempt == 1:
        raise ConnectionError(f"page {ev.number} is not there yet")
    await ctx.sleep(3600)
    ctx.set(f"page {ev.number}", len(ev.body))
    ctx.send_event(Note(number=ev.number))
    ctx.write_event_to_stream(Note(number=ev.number))
    await asyncio.sleep(0)
    return Words(number=ev.number, count=len(ev.body.split()))


@step
async def note(ctx: Context, ev: Note) -> None:
    ctx.set(f"note {ev.number}", ctx.get(f"note {ev.number}", 0) + 1)


@step(concurrency=2)
async def join(ctx: Context, ev: Words) -> Summary | None:
    every = ctx.collect_events(ev, [Words] * ctx.get("pages"))
    if every is None:
        return None
    await asyncio.sleep(0)
    return Summary(total=sum(words.count for words in every))


@step
async def approve(ctx: Context, ev: Summary) -> StopEvent:
    first = await ctx.wait_for_event(Approval, match={"number": 1}, timeout=86_400)
    await ctx.sleep(10)
    second = await ctx.wait_for_event(Approval, match=lambda approval: approval.number == 2)
    return StopEvent(result=(ev.total, first.number, second.number, ctx.get("pair")))


everything = Workflow("everything", [fetch, count, note, join, approve], timeout=10**7)
APPROVALS = [Approval(number=2), Approval(number=1)]

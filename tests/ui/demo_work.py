"""The workflows of the pictures: a crawl that fans out, and orders that wait for an approval."""

import asyncio
import random

from treadle import Context, Engine, Event, Retry, StartEvent, StopEvent, Workflow, step

PAGES = 16


class Fetch(Event):
    page: str


class Page(Event):
    page: str
    words: int


class Approval(Event):
    by: str
    note: str = ""


class Charge(Event):
    amount: int


@step
async def plan(ctx: Context, ev: StartEvent) -> list[Fetch]:
    ctx.set("site", ev.site)
    ctx.set("settings", {"depth": 2, "skip": ["/private", "/search"], "agent": "example"})
    return [Fetch(page=f"/{n}") for n in range(PAGES)]


@step(concurrency=4, retry=Retry(4, initial=0.1))
async def fetch(ctx: Context, ev: Fetch) -> Page:
    number = int(ev.page[1:])
    await asyncio.sleep(0.04 + 0.17 * ((number * 7) % 10) / 10)
    if number in (5, 11) and ctx.increment(f"tries of {ev.page}") < 3:
        raise ConnectionError(f"{ev.page} does not answer")
    return Page(page=ev.page, words=100 + number * 37)


@step
async def count(ctx: Context, ev: Page) -> StopEvent | None:
    ctx.write_event_to_stream(ev)
    ctx.increment("words", ev.words)
    if ctx.increment("pages") < PAGES:
        return None
    return StopEvent(result={"pages": PAGES, "words": ctx.get("words")})


crawl = Workflow("crawl", [plan, fetch, count])


@step
async def approve(ctx: Context, ev: StartEvent) -> Charge:
    ctx.set("amount", ev.amount)
    answer = await ctx.wait_for_event(Approval, timeout=86_400)
    ctx.set("approved by", answer.by)
    return Charge(amount=ev.amount)


@step(retry=Retry(3, initial=0.05))
async def charge(ctx: Context, ev: Charge) -> StopEvent:
    await asyncio.sleep(0.12)
    if ev.amount > 900:
        raise ValueError(f"the bank declines {ev.amount}")
    return StopEvent(result="paid")


order = Workflow("order", [approve, charge])
WORKFLOWS = [crawl, order]


async def filled(url: str) -> None:
    """Make the runs of the pictures."""
    chosen = random.Random(7)
    async with Engine(url, workflows=WORKFLOWS, history="full") as engine:
        sites = ["docs.example", "news.example", "shop.example"]
        crawls = [engine.run(crawl, key=site, site=site) for site in sites]
        amounts = [chosen.randrange(20, 1200) for _ in range(24)]
        orders = [
            engine.run(order, key=f"order-{n}", amount=amount) for n, amount in enumerate(amounts)
        ]
        await asyncio.gather(*crawls)
        await asyncio.sleep(6)
        for run in orders[:18]:
            await engine.send_event(run.id, Approval(by="Ada"))
        await asyncio.gather(*orders[:18], return_exceptions=True)
        await engine.cancel(orders[19].id)
        await engine.pause(orders[20].id)
        for run in orders[18:]:
            run.detach()
        await asyncio.sleep(0.5)

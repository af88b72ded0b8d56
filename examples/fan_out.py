"""Fan out and join: a step returns a list, workers take its items, a join gathers the results."""

import asyncio

from treadle import Context, Event, StartEvent, StopEvent, Workflow, step

PAGES = {"/": 900, "/about": 150, "/blog": 2_400, "/blog/1": 700, "/blog/2": 1_200, "/contact": 80}


class Link(Event):
    url: str


class Page(Event):
    url: str
    size: int


@step
async def links(ctx: Context, ev: StartEvent) -> list[Link]:
    """Return a list: each item is an event of its own."""
    ctx.set("expected", len(ev.urls))
    return [Link(url=url) for url in ev.urls]


@step(concurrency=3)
async def fetch(ev: Link) -> Page:
    """Work on an item. Of this step, three at most run at once."""
    await asyncio.sleep(0.01)
    return Page(url=ev.url, size=PAGES[ev.url])


@step
async def join(ctx: Context, ev: Page) -> StopEvent | None:
    """Keep each page; once all are there, end the run."""
    pages = ctx.collect_events(ev, [Page] * ctx.get("expected"))
    if pages is None:
        return None
    return StopEvent(result={page.url: page.size for page in pages})


async def main() -> None:
    """Run the workflow over all pages."""
    workflow = Workflow("fan-out", [links, fetch, join], timeout=60)
    sizes = await workflow.run(urls=list(PAGES))
    for url, size in sorted(sizes.items()):
        print(f"{url:10} {size:6,}")
    print(f"{len(sizes)} pages, {sum(sizes.values()):,} bytes")


if __name__ == "__main__":
    asyncio.run(main())

"""A web service: a request starts a run, and the answer streams the run's events (SSE).

    python -m uvicorn fastapi_sse:app --app-dir examples
    curl -N 'http://127.0.0.1:8000/crawl?pages=5'

A client that goes away stops the work: the generator of the answer ends, and cancels its run.
"""

import asyncio
import json
from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse

from treadle import Context, Event, Run, StartEvent, StopEvent, Workflow, step


class Crawl(StartEvent):
    pages: int
    delay: float = 0.01


class Link(Event):
    number: int


class Fetched(Event):
    number: int


@step
async def links(ctx: Context, ev: Crawl) -> list[Link]:
    """Fan out over the pages."""
    ctx.set("crawl", {"pages": ev.pages, "delay": ev.delay})
    return [Link(number=number) for number in range(ev.pages)]


@step(concurrency=2)
async def fetch(ctx: Context, ev: Link) -> StopEvent | None:
    """Fetch a page, or pretend to, and publish that it is there."""
    asked = ctx.get("crawl")
    await asyncio.sleep(asked["delay"])
    ctx.write_event_to_stream(Fetched(number=ev.number))
    done = ctx.increment("done")
    return StopEvent(result={"pages": done}) if done == asked["pages"] else None


app = FastAPI()
crawl = Workflow("crawl", [links, fetch], timeout=300)
runs: dict[str, Run] = {}


def message(event: str, data: object) -> str:
    """Format one message of a `text/event-stream`."""
    return f"event: {event}\ndata: {json.dumps(data)}\n\n"


async def events(start: Crawl) -> AsyncIterator[str]:
    """Start a run, and stream it from its first event to its result."""
    run = crawl.run(start)
    runs[run.id] = run
    try:
        yield message("started", {"run": run.id})
        async for ev in run.stream_events():
            yield message(type(ev).__name__.lower(), vars(ev))
        try:
            yield message("result", await run)
        except Exception as error:
            yield message("error", {"error": repr(error)})
    finally:
        # The client has gone, or the run is over; then this does nothing.
        run.cancel()
        del runs[run.id]


@app.get("/crawl")
async def start(pages: int, delay: float = 0.01) -> StreamingResponse:
    """Answer with the events of a new run."""
    if not 1 <= pages <= 10_000:
        raise HTTPException(422, "pages: 1 to 10,000 expected")
    return StreamingResponse(
        events(Crawl(pages=pages, delay=delay)), media_type="text/event-stream"
    )


@app.get("/runs")
async def running() -> dict[str, str]:
    """List the runs that have a reader."""
    return {run_id: run.status for run_id, run in runs.items()}

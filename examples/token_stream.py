"""Tokens of a language model as server-sent events, from a durable run.

    python -m uvicorn token_stream:app --app-dir examples
    curl -X POST 'http://127.0.0.1:8000/chats/first?prompt=hello'
    curl -N http://127.0.0.1:8000/chats/first/tokens

A browser that reconnects sends `Last-Event-ID`, and gets the tokens behind it. Kill the server
and start it again: the run continues, and so does the stream, without a token missing or twice.

Each token is one step: it publishes the token and returns the event for the next one, both in
the same commit. A client that leaves does not stop the run; others may read it.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Header, HTTPException
from fastapi.responses import StreamingResponse

from treadle import (
    Context,
    Engine,
    Event,
    KeyConflict,
    Lagged,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)


class Prompt(StartEvent):
    text: str


class Next(Event):
    number: int


class Token(Event):
    text: str


@step
async def begin(ctx: Context, ev: Prompt) -> Next:
    """Keep the prompt."""
    ctx.set("words", f"You said {ev.text} and I repeat it: {ev.text}.".split())
    return Next(number=0)


@step
async def generate(ctx: Context, ev: Next) -> Next | StopEvent:
    """Publish one token. A real model would be asked here."""
    words = ctx.get("words")
    if ev.number == len(words):
        return StopEvent(result=len(words))
    await ctx.sleep(0.05)
    ctx.write_event_to_stream(Token(text=words[ev.number]))
    return Next(number=ev.number + 1)


chats = Workflow("chats", [begin, generate])
engine = Engine(os.environ.get("JOURNAL", "sqlite:///chats.db"), workflows=[chats])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the engine with the server, and hand its runs back at the end."""
    async with engine:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/chats/{name}")
async def chat(name: str, prompt: str) -> dict[str, str]:
    """Start a run, once for each name; it is on disk when this answers."""
    try:
        return {"run": await engine.submit(chats, text=prompt, key=name)}
    except KeyConflict as error:
        raise HTTPException(409, str(error)) from error


@app.get("/chats/{name}/tokens")
async def tokens(name: str, last_event_id: int = Header(0)) -> StreamingResponse:
    """Stream the tokens of a run, from behind the last one that the client has."""
    for info in await engine.runs(workflow="chats"):
        if info.key == name:
            return StreamingResponse(
                messages(info.id, last_event_id),
                media_type="text/event-stream",
                headers={"Cache-Control": "no-store"},
            )
    raise HTTPException(404, f"no chat {name!r}")


async def messages(run_id: str, after: int) -> AsyncIterator[str]:
    """Format the events of a stream; the number of an event is its `id`."""
    number = after
    async for ev in engine.stream_events(run_id, after):
        number += ev.missed if isinstance(ev, Lagged) else 1
        if isinstance(ev, Token):
            yield f"id: {number}\nevent: token\ndata: {json.dumps(ev.text)}\n\n"
    yield f"id: {number}\nevent: end\ndata: null\n\n"

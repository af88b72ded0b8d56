"""The page that started the project, as its author typed it."""

import uuid
from typing import Any

from pydantic import BaseModel

from treadle import Context, Event, StopEvent, Workflow, step


class UserProfile(BaseModel):
    name: str
    score: float


class NextEvent(Event):
    pass


class ProgressEvent(Event):
    done: int


class ContinueEvent(Event):
    pass


seen: list[Any] = []


@step
async def store_data(ctx: Context, ev: Event):  # type: ignore[no-untyped-def]
    ctx.set("user_id", "user_123")  # JSON
    ctx.set("doc_count", 5)
    ctx.set("tags", ["admin", "active"])
    ctx.set("thumbnail", b"\x89PNG\r\n...")  # binary
    ctx.set("profile", UserProfile(name="Alice", score=0.95))  # pickled
    return NextEvent()


@step
async def use_data(ctx: Context, ev: NextEvent):  # type: ignore[no-untyped-def]
    seen.extend(map(ctx.get, ("user_id", "doc_count", "tags", "thumbnail", "profile")))
    ctx.set_bytes("model", b"\x00\x01\x02")
    seen.extend([ctx.get_bytes("model"), ctx.get("model")])
    seen.append(ctx.run_id())
    ctx.write_event_to_stream(ProgressEvent(done=1))
    ctx.send_event(ContinueEvent())  # routes by hand, so the step returns None
    return None  # noqa: RET501


@step
async def finish(ctx: Context, ev: ContinueEvent) -> StopEvent:
    return StopEvent(result=ctx.run_id())


async def test_the_first_page_runs_as_typed():
    seen.clear()
    run = Workflow("first page", [store_data, use_data, finish]).run()
    assert [ev async for ev in run.stream_events()] == [ProgressEvent(done=1)]
    assert await run == run.id
    *values, run_id = seen
    profile = UserProfile(name="Alice", score=0.95)
    tags = ["admin", "active"]
    model = b"\x00\x01\x02"
    assert values == ["user_123", 5, tags, b"\x89PNG\r\n...", profile, model, model]
    assert uuid.UUID(run_id).version == 7

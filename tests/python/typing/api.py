"""What type checkers must know of treadle. Read by mypy and pyright, never run.

A line that ends with `type: ignore` must be an error: an ignore that is not needed is one itself.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, assert_type

from treadle import (
    Context,
    Event,
    Lagged,
    Resource,
    Retry,
    Run,
    StartEvent,
    StepFailed,
    StopEvent,
    StreamReader,
    TreadleError,
    UnstorableValue,
    Workflow,
    WorkflowDefinitionError,
    close_resources,
    current_context,
    once,
    step,
)
from treadle.testing import override


class Page(Event):
    url: str
    size: int = 0
    tags: list[str] = field(default_factory=list[str])
    kind: ClassVar[str] = "page"


class LongPage(Page):
    chapters: int


class Start(StartEvent):
    url: str


class Done(StopEvent):
    pages: int


@dataclass
class Foreign:
    number: int


class Approval(Event):
    approved: bool


def events() -> None:
    page = Page(url="https://example.org")
    assert_type(page.url, str)
    assert_type(page.size, int)
    assert_type(page.tags, list[str])
    assert_type(LongPage(url="https://example.org", chapters=2).chapters, int)
    Page()  # type: ignore[call-arg]
    Page("https://example.org")  # type: ignore[call-arg]
    Page(url=b"https://example.org")  # type: ignore[arg-type]
    Page(url="https://example.org", sise=1)  # type: ignore[call-arg]
    print(page.sise)  # type: ignore[attr-defined]

    assert_type(StartEvent(anything=1).anything, Any)
    assert_type(Start(url="https://example.org").url, str)
    Start()  # type: ignore[call-arg]

    assert_type(StopEvent(result=1).result, Any)
    StopEvent()
    StopEvent(1)  # type: ignore[call-arg]
    assert_type(Done(pages=3).pages, int)
    Done(pages=3, result=1)  # type: ignore[call-arg]
    assert_type(Lagged(missed=1).missed, int)


@step
async def fetch(ctx: Context, ev: Start) -> Page | None:
    return Page(url=ev.url)


@step(timeout=30, concurrency=8, name="read", external=True)
def read(ev: Page) -> list[Foreign]:
    return [Foreign(1)]


@step(inline=True)
def finish(ctx: Context, ev: Foreign) -> StopEvent:
    return StopEvent(result=ev.number)


@step
async def many(ev: Foreign) -> AsyncIterator[Page]:
    yield Page(url="https://example.org")


class Crawl(Workflow):
    @step
    async def fetch(self, ctx: Context, ev: Start) -> Page:
        return Page(url=ev.url)

    @step(timeout=1.5)
    async def finish(self, ev: Page) -> StopEvent:
        return StopEvent(result=ev.url)


async def steps(ctx: Context) -> None:
    # A step keeps the type of its function.
    assert_type(await fetch(ctx, Start(url="")), Page | None)
    assert_type(read(Page(url="")), list[Foreign])
    assert_type(finish(ctx, Foreign(1)), StopEvent)
    assert_type(await Crawl().fetch(ctx, Start(url="")), Page)
    assert_type(await Crawl().finish(Page(url="")), StopEvent)
    read(Foreign(1))  # type: ignore[arg-type]
    step(retries=3)  # type: ignore[call-overload]
    step(timeout="1")  # type: ignore[call-overload]


async def ask(question: str, *, loud: bool = False) -> int:
    return len(question)


def count(text: str) -> int:
    return len(text)


@once
async def ask_once(question: str, *, loud: bool = False) -> int:
    return len(question)


@once(name="count", retry=Retry(3), timeout=None, keep_failures=True)
def count_once(text: str) -> int:
    return len(text)


async def memos(ctx: Context) -> None:
    # A call has the type that the function returns.
    assert_type(await ctx.once("ask", ask, "why", loud=True), int)
    assert_type(await ctx.once("ask", ask, "why", retry=Retry(3), timeout=5), int)
    assert_type(await ctx.once("count", count, "why", keep_failures=True), int)
    assert_type(ctx.once_sync("count", count, "why"), int)
    assert_type(await asyncio.create_task(ctx.once("ask", ask, "why")), int)
    ctx.once(ask, "why")  # type: ignore[call-overload]
    # A decorated function keeps its type.
    assert_type(await ask_once("why", loud=True), int)
    assert_type(count_once("why"), int)
    count_once(5)  # type: ignore[arg-type]
    once(retries=3)  # type: ignore[call-overload]
    assert_type(current_context(), Context)


def context(ctx: Context) -> None:
    ctx.set("key", object())
    ctx.set(1, "value")  # type: ignore[arg-type]
    assert_type(ctx.get("key"), Any)
    assert_type(ctx.get("key", 1), Any)
    ctx.set_bytes("key", b"")
    ctx.set_bytes("key", bytearray())
    ctx.set_bytes("key", memoryview(b""))
    ctx.set_bytes("key", "text")  # type: ignore[arg-type]
    assert_type(ctx.get_bytes("key", b""), bytes | bytearray)
    assert_type(ctx.delete("key"), bool)
    assert_type("key" in ctx, bool)
    assert_type(len(ctx), int)
    assert_type(ctx.keys(), list[str])
    assert_type(ctx.state["key"], Any)
    ctx.state["key"] = 1
    assert_type(ctx.update("key", str), str)
    assert_type(ctx.update("key", len, default=""), int)
    ctx.update("key", 1)  # type: ignore[call-overload]
    assert_type(ctx.increment("key"), int)
    assert_type(ctx.increment("key", 2), int)
    assert_type(ctx.increment("key", by=0.5), float)
    assert_type(ctx.session, dict[str, Any])
    assert_type(ctx.run_id(), str)
    assert_type(ctx.attempt, int)
    assert_type(ctx.idempotency_key, str)
    ctx.send_event(Foreign(1))
    ctx.write_event_to_stream(Page(url=""))
    ctx.attempt = 2  # type: ignore[misc]


async def waiting(ctx: Context) -> None:
    assert_type(await ctx.wait_for_event(Approval), Approval)
    assert_type(await ctx.wait_for_event(Foreign, timeout=1), Foreign)
    assert_type(await ctx.wait_for_event(Approval, match={"approved": True}), Approval)
    assert_type(await ctx.wait_for_event(Approval, match=lambda ev: ev.approved), Approval)
    await ctx.wait_for_event(Approval, match=lambda ev: ev.aproved)  # type: ignore[attr-defined]
    await ctx.wait_for_event("Approval")  # type: ignore[arg-type]
    assert_type(await asyncio.wait_for(ctx.wait_for_event(Approval), 1), Approval)
    assert_type(await ctx.sleep(0.5), None)
    await ctx.sleep("1")  # type: ignore[arg-type]
    assert_type(ctx.collect_events(Page(url=""), [Page, Page, Foreign]), list[Any] | None)


async def runs() -> None:
    workflow = Workflow("crawl", [fetch, read, finish], timeout=60, stream_limit=100)
    run = workflow.run(url="https://example.org")
    assert_type(run, Run)
    assert_type(Crawl(timeout=60).run(Start(url="")), Run)
    assert_type(await run, Any)
    assert_type(run.id, str)
    assert_type(
        run.status, Literal["running", "waiting", "paused", "completed", "failed", "cancelled"]
    )
    assert_type(run.stream_events(after=3), StreamReader)
    async for ev in run.stream_events():
        assert_type(ev, Any)
    run.send_event(Approval(approved=True))
    assert_type(await run.pause(), None)
    assert_type(await asyncio.wait_for(run.pause(wait=False), 1), None)
    assert_type(run.resume(), None)
    assert_type(run.cancel(), bool)
    assert_type(run.detach(), Run)
    assert_type(await asyncio.wait_for(run, 1), Any)
    assert_type(await asyncio.gather(run), tuple[Any])
    asyncio.create_task(run)  # noqa: RUF006
    async with asyncio.TaskGroup() as group:
        group.create_task(run)
    assert_type(workflow.to_mermaid(), str)
    Workflow("crawl", [fetch], timeout="60")  # type: ignore[arg-type]


class Database:
    def __init__(self, url: str = "") -> None:
        self.url = url


async def connect() -> AsyncIterator[Database]:
    yield Database()


def cache(db: Annotated[Database, Resource(connect, "process")]) -> dict[str, Database]:
    return {"db": db}


DB = Annotated[Database, Resource(connect, scope="process", name="db")]


@step
async def asking(
    ctx: Context,
    ev: Start,
    db: DB,
    other: Annotated[Database, Resource(Database)],
    *,
    found: Annotated[dict[str, Database], Resource(cache)],
) -> Page:
    assert_type(db, Database)
    assert_type(other, Database)
    assert_type(found, dict[str, Database])
    return Page(url=db.url)


@override(connect, Database)
async def overridden(number: int) -> str:
    return str(number)


async def resources(ctx: Context) -> None:
    assert_type(await asking(ctx, Start(url=""), Database(), Database(), found={}), Page)
    await asking(ctx, Start(url=""), 1, Database(), found={})  # type: ignore[arg-type]
    Resource("connect")  # type: ignore[arg-type]
    Resource(connect, "session")  # type: ignore[arg-type]
    assert_type(await close_resources(), None)
    assert_type(await overridden(1), str)
    with override(Resource(connect), Database) as nothing:
        assert_type(nothing, None)
    override("connect", Database)  # type: ignore[arg-type]


@step
async def rescue(ev: StepFailed) -> StopEvent:
    assert_type(ev.step, str)
    assert_type(ev.error, BaseException)
    assert_type(ev.attempts, int)
    assert_type(ev.failed_at, float | None)
    return StopEvent(result=ev.event)


@step(retry=Retry(3, backoff="linear", on=(ValueError, KeyError)), on_error=rescue)
async def flaky(ev: StartEvent) -> StopEvent:
    return StopEvent()


@step(on_error="rescue")
async def by_name(ev: StartEvent) -> StopEvent:
    return StopEvent()


def policies() -> None:
    Workflow("w", [flaky, rescue], retry=Retry(retry_if=lambda error: bool(error)))
    Retry(backoff="fast")  # type: ignore[arg-type]
    Retry(on=KeyboardInterrupt)  # type: ignore[arg-type]
    Retry(attempts="3")  # type: ignore[arg-type]


def exceptions(error: WorkflowDefinitionError) -> None:
    assert_type(error.problems, list[str])
    mistake: type[TreadleError] = UnstorableValue
    wrong_type: type[TypeError] = UnstorableValue
    print(mistake, wrong_type)


decorated: Callable[[Page], list[Foreign]] = read

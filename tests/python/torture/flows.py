"""Workflows in which everything is counted: an event that is lost or comes twice shows in a result.

A step that counts has no `await`: what it counts is written with its end, or not at all.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from treadle import Context, Event, Retry, StartEvent, StopEvent, Workflow, step

from .promises import Log

POKES = 2
ANSWERS = 2
# How many runs send to one mailbox, and how many letters each.
WRITERS = 2
LETTERS = 3
# How many children a run has that has any.
CHILDREN = 3


class Job(Event):
    number: int
    jobs: int
    bulk: int


class Done(Event):
    number: int
    jobs: int


class Poke(Event):
    """Sent from outside; it goes to a step."""

    number: int
    jobs: int


class Open(Event):
    jobs: int


class Joined(Event): ...


class Held(Event):
    jobs: int
    answers: list


class Answer(Event):
    """Sent from outside, and waited for."""

    number: int


class Letter(Event):
    """Sent by a step of another run, and waited for."""

    number: int


class Written(Event):
    box: str
    first: int


class Never(Event): ...


class Seen(Event):
    """Published for each event that `join` got."""

    what: str


class Spoilt(Event):
    value: object


LOG: Log


def write_to(log: Log) -> None:
    """Have the steps of this process write to this log."""
    global LOG
    LOG = log


@contextmanager
def body(ctx: Context, name: str) -> Iterator[None]:
    """Write down that a body begins, and whether it ends by an exception of its own."""
    LOG("begins", ctx.run_id(), name)
    try:
        yield
    except Exception:
        LOG("raises", ctx.run_id(), name)
        raise


@step
async def begin(ctx: Context, ev: StartEvent) -> list[Job | Open]:
    with body(ctx, "begin"):
        work = [Job(number=number, jobs=ev.jobs, bulk=ev.bulk) for number in range(ev.jobs)]
        return [*work, Open(jobs=ev.jobs)]


@step(retry=Retry(attempts=3, initial=0.005), concurrency=3)
async def work(ctx: Context, ev: Job) -> Done:
    with body(ctx, f"work {ev.number}"):
        if ev.number % 3 == 1 and ctx.attempt == 1:
            raise ConnectionError(ev.number)
        if ev.number % 3 == 2:
            await ctx.sleep(0.002)
        ctx.set(f"page {ev.number}", bytes(ev.bulk))
        return Done(number=ev.number, jobs=ev.jobs)


@step
async def join(ctx: Context, ev: Done | Poke) -> None:
    what = f"{type(ev).__name__} {ev.number}"
    with body(ctx, f"join {what}"):
        ctx.increment(f"seen {what}")
        ctx.write_event_to_stream(Seen(what=what))
        ctx.increment("joined")
        if ctx.collect_events(ev, [Done] * ev.jobs + [Poke] * POKES):
            ctx.send_event(Joined())


@step
async def hold(ctx: Context, ev: Open) -> Held:
    with body(ctx, "hold"):
        try:
            await ctx.wait_for_event(Never, timeout=0.005)
        except TimeoutError:
            ctx.set("timed out", True)
        await ctx.sleep(0.001)
        answers = [(await ctx.wait_for_event(Answer)).number for _ in range(ANSWERS)]
        return Held(jobs=ev.jobs, answers=answers)


@step
async def finish(ctx: Context, ev: Joined | Held) -> StopEvent | None:
    with body(ctx, f"finish {type(ev).__name__}"):
        both = ctx.collect_events(ev, [Joined, Held])
        return StopEvent(result=_account(ctx, both[1].jobs, both[1].answers)) if both else None


def _account(ctx: Context, count: int, answers: list[int]) -> dict[str, Any]:
    seen = {key.removeprefix("seen "): ctx.get(key) for key in ctx if key.startswith("seen")}
    return {
        "seen": dict(sorted(seen.items())),
        "joined": ctx.get("joined"),
        "answers": answers,
        "pages": sum(f"page {number}" in ctx for number in range(count)),
        "timed out": ctx.get("timed out"),
    }


@step
async def stumble(ctx: Context, ev: StartEvent) -> StopEvent:
    with body(ctx, "only"):
        if ctx.increment("tries") == 1:
            raise ValueError("doomed")
        return StopEvent(result=ctx.get("tries"))


@step
async def wait(ctx: Context, ev: StartEvent) -> StopEvent:
    with body(ctx, "only"):
        await ctx.wait_for_event(Never)
        return StopEvent()


@step
async def spoil(ctx: Context, ev: StartEvent) -> Spoilt:
    with body(ctx, "only"):
        return Spoilt(value=lambda: None)


@step
async def rot(ev: Spoilt) -> StopEvent:
    return StopEvent()


@step
async def receive(ctx: Context, ev: StartEvent) -> StopEvent:
    with body(ctx, "only"):
        letters = [(await ctx.wait_for_event(Letter)).number for _ in range(ev.letters)]
        return StopEvent(result=sorted(letters))


@step(retry=Retry(attempts=3, initial=0.005))
async def write(ctx: Context, ev: StartEvent) -> Written:
    with body(ctx, "write"):
        # With retention the mailbox may be gone; a letter that is lost otherwise leaves it stuck.
        for number in range(LETTERS - 1):
            ctx.send_event(Letter(number=ev.first + number), to=ev.box, missing="ignore")
        if ev.first > 0 and ctx.attempt == 1:
            raise ConnectionError(ev.first)
        return Written(box=ev.box, first=ev.first)


@step
async def sign(ctx: Context, ev: Written) -> StopEvent:
    with body(ctx, "sign"):
        ctx.send_event(Letter(number=ev.first + LETTERS - 1), to=ev.box, missing="ignore")
        return StopEvent(result=ev.first)


@step
async def lead(ctx: Context, ev: StartEvent) -> StopEvent:
    with body(ctx, "only"):
        children = [ctx.run(errand, number=number) for number in range(ev.children)]
        return StopEvent(result=await asyncio.gather(*children))


def call(run_id: str, number: int) -> int:
    """What a child does once, unless its process ends before the memo is on disk."""
    LOG("begins", run_id, "call")
    return number


@step
async def run_errand(ctx: Context, ev: StartEvent) -> StopEvent:
    LOG("child", ctx.parent, ev.number, ctx.run_id())
    with body(ctx, "only"):
        number = await ctx.once("call", call, ctx.run_id(), ev.number)
    with body(ctx, "behind call"):
        return StopEvent(result=number)


# Some have limits that are met: what waits for a place is not lost either.
errand = Workflow("errand", [run_errand])
leading = Workflow("leading", [lead], max_runs=2)
jobs = Workflow("jobs", [begin, work, join, hold, finish], max_runs=6)
doomed = Workflow("doomed", [stumble])
endless = Workflow("endless", [wait])
limited = Workflow("limited", [wait], timeout=0.05)
spoilt = Workflow("spoilt", [spoil, rot])
mailbox = Workflow("mailbox", [receive], max_runs=1)
mailer = Workflow("mailer", [write, sign])
ALL = [jobs, doomed, endless, limited, spoilt, mailbox, mailer, leading, errand]


def precedes(one: str, other: str) -> bool:
    """Whether a body begins only once the end of another one of its run is written."""
    if one == "begin":
        return other.startswith(("work", "join Done", "hold", "finish"))
    if one == "write":
        return other == "sign"
    if one == "call":
        return other == "behind call"
    if one.startswith("work"):
        return other in (one.replace("work", "join Done"), "finish Joined")
    return (one, other) == ("hold", "finish Held") or (
        one.startswith("join") and other == "finish Joined"
    )


def expected(workflow: str, count: int) -> tuple[str, Any]:
    """How a run ends: its status, and its result or the name of its error."""
    events = [f"Done {number}" for number in range(count)]
    events += [f"Poke {number}" for number in range(POKES)]
    account = {
        "seen": dict.fromkeys(sorted(events), 1),
        "joined": len(events),
        "answers": list(range(ANSWERS)),
        "pages": count,
        "timed out": True,
    }
    return {
        "jobs": ("completed", account),
        "doomed": ("completed", 2),
        "endless": ("cancelled", None),
        "limited": ("failed", "WorkflowTimeout"),
        "spoilt": ("failed", "UnstorableValue"),
        "mailbox": ("completed", list(range(count))),
        "mailer": ("completed", count),
        "leading": ("completed", list(range(count))),
    }[workflow]

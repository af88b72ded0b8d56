"""Workflows of families that several processes execute. What is called is noted in a file."""

import asyncio
import os
from pathlib import Path
from typing import Any

from treadle import Context, Event, Retry, RunCancelled, StartEvent, StopEvent, Workflow, step


class Go(Event):
    """Lets a child end."""


class Seen(Event):
    n: int


def note(what: str) -> None:
    """Append a line to the file of the test, in one write."""
    path = os.environ.get("FAMILY_NOTES")
    if path:
        with open(path, "a", encoding="utf-8") as notes:
            notes.write(what + "\n")


def noted(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@step
async def leaf_work(ctx: Context, ev: StartEvent) -> StopEvent:
    note(f"leaf {ctx.run_id()} {ev.n}")
    ctx.write_event_to_stream(Seen(n=ev.n))
    await asyncio.sleep(getattr(ev, "nap", 0))
    if ev.n < 0:
        raise ValueError(f"no {ev.n}")
    return StopEvent(result=10 * ev.n)


leaf = Workflow("leaf", [leaf_work])


@step
async def wait_for_go(ctx: Context, ev: StartEvent) -> StopEvent:
    note(f"waits {ctx.run_id()}")
    await ctx.wait_for_event(Go)
    return StopEvent(result="gone")


waiting = Workflow("waiting", [wait_for_go])


@step(retry=Retry(3, initial=0))
async def tree_work(ctx: Context, ev: StartEvent) -> StopEvent:
    children = [ctx.run(leaf, n=n, nap=getattr(ev, "nap", 0)) for n in range(ev.width)]
    below = [ctx.run(tree, width=ev.width, depth=ev.depth - 1)] if ev.depth else []
    results = await asyncio.gather(*children, *below)
    return StopEvent(result=sum(results))


tree = Workflow("tree", [tree_work])


@step
async def hold_work(ctx: Context, ev: StartEvent) -> StopEvent:
    how: Any = getattr(ev, "how", "cancel")
    children = [ctx.run(waiting, n=n, on_parent_end=how) for n in range(ev.width)]
    await asyncio.gather(*children)
    return StopEvent(result="all gone")


hold = Workflow("hold", [hold_work])


@step
async def fail_once_work(ctx: Context, ev: StartEvent) -> StopEvent:
    done = await ctx.run(leaf, n=1)
    child = ctx.run(waiting)
    await ctx.wait_for_event(Go)
    if os.environ.get("FAMILY_FAILS", "yes") == "yes":
        raise ValueError("the first time")
    try:
        return StopEvent(result=(done, await child))
    except RunCancelled:
        return StopEvent(result="cancelled")


fail_once = Workflow("fail_once", [fail_once_work])


@step
async def mixed_work(ctx: Context, ev: StartEvent) -> StopEvent:
    try:
        await ctx.run(leaf, n=-1)
    except ValueError as error:
        raised = (str(error), [one for one in error.__notes__ if "a child of" in one])
    child = ctx.run(leaf, n=5)
    seen = [event.n async for event in child.stream_events()]
    return StopEvent(result=(raised, seen, await child))


mixed = Workflow("mixed", [mixed_work])

ALL = [leaf, waiting, tree, hold, fail_once, mixed]

"""What the garbage collector is told of a run: every reference that the run holds, and none twice.

One that is not told is a leak; one that is told twice frees what is still in use.
"""

import asyncio
import contextlib
import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from treadle import (
    Context,
    Engine,
    Event,
    JournalError,
    RunCancelled,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)


class Note(Event):
    pass


class Part(Event):
    n: int = 0


class Other(Event):
    pass


class Opaque:
    """Stored as a pickle, beside its class."""

    def __reduce__(self) -> Any:
        return Opaque, ()


@pytest.fixture(autouse=True)
def _no_collections() -> Iterator[None]:
    """Keep what earlier tests left from being freed while references are counted."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def told(run: Any, thing: object) -> int:
    """Return how many references to a thing the collector finds in a run and what it holds."""
    referents = gc.get_referents(run)
    inner = {id(one): one for one in referents if isinstance(one, (list, Event))}
    found = [referents, *(gc.get_referents(one) for one in inner.values())]
    return sum(one is thing for held in found for one in held)


def counted(run: Any, things: list[Any]) -> list[tuple[int, int]]:
    """Return how many references there are to each thing, and how many the collector finds."""
    return [(sys.getrefcount(thing), told(run, thing)) for thing in things]


def check_told(run: Any, things: list[Any], change: Callable[[], object]) -> None:
    """Assert that a change of a run adds as many references as the collector finds."""
    before = counted(run, things)
    change()
    after = counted(run, things)
    added = [count - earlier for (count, _), (earlier, _) in zip(after, before, strict=True)]
    found = [count - earlier for (_, count), (_, earlier) in zip(after, before, strict=True)]
    assert added == found
    assert any(added)


def gather(times: int, *, completes: bool, key: bool) -> Callable[[Context], None]:
    def change(ctx: Context) -> None:
        for n in range(times):
            name = str(n) if key else None
            ctx.collect_events(Part(), [Part, Part, Other], key=name)
            if completes:
                ctx.collect_events(Other(), [Part, Part, Other], key=name)
                ctx.collect_events(Part(), [Part, Part, Other], key=name)

    return change


def set_values(ctx: Context) -> None:
    for n in range(3):
        ctx.set(f"key {n % 2}", Opaque())


CHANGES = {
    "one group": gather(1, completes=False, key=False),
    "calls of one group": gather(2, completes=False, key=False),
    "groups": gather(5, completes=False, key=True),
    "a complete group": gather(1, completes=True, key=False),
    "complete groups": gather(5, completes=True, key=True),
    "complete groups of one name": gather(5, completes=True, key=False),
    "values": set_values,
}


@pytest.mark.parametrize("where", ["in memory", "in a journal"])
@pytest.mark.parametrize("name", CHANGES)
async def test_the_collector_is_told_of_each_reference_once(name: str, where: str):
    runs: list[Any] = []
    things: list[Any] = [Part, Other, Opaque]

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        check_told(runs[0], things, lambda: CHANGES[name](ctx))
        # What was recorded is written, and then not held any more.
        counts = [sys.getrefcount(thing) - told(runs[0], thing) for thing in things]
        ctx.send_event(Note())
        await asyncio.sleep(0.05)
        assert counts == [sys.getrefcount(thing) - told(runs[0], thing) for thing in things]
        return StopEvent(result="told")

    @step
    async def take(ev: Note) -> None:
        pass

    workflow = Workflow("w", [work, take])
    async with Engine("memory:", workflows=[workflow]) as engine:
        runs.append(engine.run(workflow) if where == "in a journal" else workflow.run())
        assert await runs[0] == "told"


async def test_the_collector_is_told_of_what_a_restored_run_holds():
    @step
    async def work(ctx: Context, ev: StartEvent | Part | Other) -> StopEvent:
        CHANGES["groups"](ctx)
        CHANGES["complete groups"](ctx)
        await ctx.wait_for_event(Note)
        return StopEvent()

    workflow = Workflow("w", [work])
    run = workflow.run()
    awaited = asyncio.ensure_future(run)
    await settle()
    snapshot = await run.snapshot(secret=[])
    run.cancel()
    with pytest.raises(RunCancelled):
        await awaited
    # The first one may fill caches that are not the run's.
    resumed: list[Any] = [workflow.resume(snapshot, secret=[])]
    things = [Part, Other]
    before = [sys.getrefcount(thing) for thing in things]
    resumed.append(workflow.resume(snapshot, secret=[]))
    added = [sys.getrefcount(thing) for thing in things]
    assert [told(resumed[1], thing) for thing in things] == [
        now - then for now, then in zip(added, before, strict=True)
    ]
    for one in resumed:
        one.cancel()
        with pytest.raises(RunCancelled):
            await one


async def test_a_paused_run_is_collected_though_the_class_that_it_collects_refers_to_it():
    async def leave() -> tuple[weakref.ref[Any], weakref.ref[Any]]:
        class Local(Event):
            run: Any = None

        @step
        async def work(ctx: Context, ev: StartEvent) -> StopEvent:
            ctx.collect_events(Local(), [Local, Local])
            ctx.collect_events(Local(), [Local], key="complete")
            await ctx.wait_for_event(Note)
            return StopEvent()

        run = Workflow("w", [work]).run()
        Local.run = run
        await settle()
        await run.pause()
        assert run.status == "paused"
        return weakref.ref(run), weakref.ref(Local)

    left = await leave()
    await settle()
    gc.collect()
    assert [one() for one in left] == [None, None]


async def test_a_run_is_collected_though_the_class_of_an_event_that_it_sent_refers_to_it():
    async def leave() -> tuple[weakref.ref[Any], weakref.ref[Any]]:
        class Local(Event):
            run: Any = None

        @step
        async def work(ctx: Context, ev: StartEvent) -> None:
            ctx.send_event(Local())

        @step
        async def take(ev: Local) -> StopEvent:
            return StopEvent()

        run = Workflow("w", [work, take]).run()
        Local.run = run
        await run
        return weakref.ref(run), weakref.ref(Local)

    left = await leave()
    await settle()
    gc.collect()
    assert [one() for one in left] == [None, None]


async def test_the_collector_is_told_why_a_run_has_lost_its_journal():
    stuck = asyncio.Event()

    @step
    async def work(ev: StartEvent) -> StopEvent:
        while not stuck.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await stuck.wait()
        return StopEvent()

    workflow = Workflow("w", [work])
    async with Engine("memory:", workflows=[workflow]) as engine:
        run: Any = engine.run(workflow)
        await asyncio.sleep(0.05)
        error = JournalError("the disk is gone")
        try:
            run._lose(error)
            # As the outcome, and as the reason why that is not written.
            assert gc.get_referents(run).count(error) == 2
        finally:
            stuck.set()
        with pytest.raises(JournalError, match="the disk is gone"):
            await run

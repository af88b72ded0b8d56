"""Whatever instant a run is put down at, an event is where it was or where it goes, not both."""

import asyncio
import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from processes import Process

from treadle import Context, Event, Run, RunEnded, StartEvent, StopEvent, Workflow, step


class Item(Event):
    n: int


class Go(Event):
    n: int = 0


class Looks:
    """A matcher that takes nothing, but looks at the run each time that it is asked: a snapshot."""

    run: Run | None = None

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def __call__(self, event: Event) -> bool:
        if self.run is not None:
            self.seen.append(self.run._snapshot())
        return False


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_held_events_go_their_way_one_by_one():
    looks = Looks()

    @step
    async def begin(ctx: Context, ev: StartEvent) -> None:
        await ctx.wait_for_event(Item, match=looks)

    @step
    async def take(ctx: Context, ev: Item) -> StopEvent | None:
        taken = ctx.update("taken", lambda taken: [*taken, ev.n], default=[])
        return StopEvent(result=taken) if len(taken) == 5 else None

    workflow = Workflow("items", [begin, take])
    looks.run = run = workflow.run()
    awaiting = asyncio.ensure_future(run)
    await settled()
    await run.pause()
    for n in range(5):
        run.send_event(Item(n=n))
    run.resume()
    assert await awaiting == [0, 1, 2, 3, 4]
    assert len(looks.seen) == 5
    looks.run = None
    for snapshot in looks.seen:
        assert sorted(await workflow.resume(snapshot)) == [0, 1, 2, 3, 4]


async def test_what_comes_while_held_events_go_their_way_goes_behind_them():
    @step
    async def begin(ctx: Context, ev: StartEvent) -> None:
        await ctx.wait_for_event(Item, match=send_another)

    @step
    async def take(ctx: Context, ev: Item) -> StopEvent | None:
        taken = ctx.update("taken", lambda taken: [*taken, ev.n], default=[])
        return StopEvent(result=taken) if len(taken) == 4 else None

    def send_another(event: Item) -> bool:
        if event.n == 0:
            sender = threading.Thread(target=run.send_event, args=(Item(n=3),))
            sender.start()
            sender.join(10)
        return False

    run = Workflow("items", [begin, take]).run()
    awaiting = asyncio.ensure_future(run)
    await settled()
    await run.pause()
    for n in range(3):
        run.send_event(Item(n=n))
    run.resume()
    assert await awaiting == [0, 1, 2, 3]


async def test_a_run_that_is_paused_while_held_events_go_their_way_holds_the_rest():
    @step
    async def begin(ctx: Context, ev: StartEvent) -> None:
        await ctx.wait_for_event(Item, match=pause_once)

    @step
    async def take(ctx: Context, ev: Item) -> StopEvent | None:
        taken = ctx.update("taken", lambda taken: [*taken, ev.n], default=[])
        return StopEvent(result=taken) if len(taken) == 4 else None

    pauses = []

    def pause_once(event: Item) -> bool:
        if event.n == 1 and not pauses:
            pauses.append(run.pause())
        return False

    run = Workflow("items", [begin, take]).run()
    awaiting = asyncio.ensure_future(run)
    await settled()
    await run.pause()
    for n in range(4):
        run.send_event(Item(n=n))
    run.resume()
    await settled()
    assert (run.status, run._state()) == ("paused", {})
    run.resume()
    assert await awaiting == [0, 1, 2, 3]


def snapshots_of(run: Run) -> list[tuple[str, bytes]]:
    seen: list[tuple[str, bytes]] = []

    def look(run: Run, what: str) -> None:
        with contextlib.suppress(RunEnded):
            seen.append((what, run._snapshot()))

    run._probe(look)
    return seen


async def ends(workflow: Workflow, snapshots: list[tuple[str, bytes]]) -> list[Any]:
    return [await workflow.resume(snapshot) for _, snapshot in snapshots]


@step
async def ask_twice(ctx: Context, ev: StartEvent) -> StopEvent:
    first, second = ctx.wait_for_event(Go), ctx.wait_for_event(Go)
    return StopEvent(result=((await first).n, (await second).n))


async def test_a_body_that_runs_again_does_not_send_again_what_somebody_has_received():
    @step
    async def tell(ctx: Context, ev: StartEvent) -> None:
        await asyncio.sleep(0)
        ctx.send_event(Go(n=1))
        await asyncio.sleep(0)
        ctx.send_event(Go(n=2))

    workflow = Workflow("told", [ask_twice, tell])
    run = workflow.run()
    seen = snapshots_of(run)
    assert await run == (1, 2)
    assert [what for what, _ in seen].count("received") == 2
    assert set(await ends(workflow, seen)) == {(1, 2)}


async def test_a_thread_that_sends_is_as_exact():
    @step
    def tell(ctx: Context, ev: StartEvent) -> None:
        ctx.send_event(Go(n=1))
        ctx.send_event(Go(n=2))

    workflow = Workflow("told", [ask_twice, tell])
    run = workflow.run()
    seen = snapshots_of(run)
    assert await run == (1, 2)
    assert set(await ends(workflow, seen)) == {(1, 2)}


async def test_a_matcher_that_looks_finds_an_event_sent_or_not_sent():
    looks = Looks()

    @step
    async def begin(ctx: Context, ev: StartEvent) -> None:
        await ctx.wait_for_event(Item, match=looks)

    @step
    async def tell(ctx: Context, ev: StartEvent) -> None:
        await asyncio.sleep(0)
        ctx.send_event(Item(n=1))
        ctx.send_event(Item(n=2))

    @step
    async def take(ctx: Context, ev: Item) -> StopEvent | None:
        await ctx.sleep(0.01)
        taken = ctx.update("taken", lambda taken: [*taken, ev.n], default=[])
        return StopEvent(result=taken) if ev.n == 2 else None

    workflow = Workflow("looked at", [begin, tell, take])
    looks.run = run = workflow.run()
    assert await run == [1, 2]
    assert len(looks.seen) == 2
    looks.run = None
    assert [await workflow.resume(snapshot) for snapshot in looks.seen] == [[1, 2], [1, 2]]


async def test_what_a_step_returns_and_its_end_are_one():
    looks = Looks()

    @step
    async def begin(ctx: Context, ev: StartEvent) -> None:
        await ctx.wait_for_event(Item, match=looks)

    @step
    async def both(ev: StartEvent) -> list[Item]:
        await asyncio.sleep(0)
        return [Item(n=1), Item(n=2)]

    @step
    async def take(ctx: Context, ev: Item) -> StopEvent | None:
        taken = ctx.update("taken", lambda taken: [*taken, ev.n], default=[])
        return StopEvent(result=taken) if ev.n == 2 else None

    workflow = Workflow("returned", [begin, both, take])
    looks.run = run = workflow.run()
    assert await run == [1, 2]
    assert len(looks.seen) == 2
    looks.run = None
    assert [await workflow.resume(snapshot) for snapshot in looks.seen] == [[1, 2], [1, 2]]


async def test_several_events_that_a_step_returns_go_each_to_one_who_waits():
    @step
    async def begin(ctx: Context, ev: StartEvent) -> StopEvent:
        waiting = [ctx.wait_for_event(Go) for _ in range(3)]
        return StopEvent(result=[(await one).n for one in waiting])

    @step
    async def tell(ev: StartEvent):
        await asyncio.sleep(0)
        return [Go(n=1), Go(n=2), Go(n=3)]

    workflow = Workflow("dealt out", [begin, tell])
    run = workflow.run()
    seen = snapshots_of(run)
    assert await run == [1, 2, 3]
    assert [sorted(end) for end in await ends(workflow, seen)] == [[1, 2, 3]] * len(seen)


async def test_a_matcher_that_raises_fails_its_step_and_all_that_was_returned_goes_its_way():
    @step
    async def begin(ctx: Context, ev: StartEvent) -> None:
        with pytest.raises(ZeroDivisionError):
            await ctx.wait_for_event(Item, match=lambda event: 1 / 0)
        ctx.set("raised", True)

    @step
    async def both(ev: StartEvent) -> list[Item]:
        await asyncio.sleep(0)
        return [Item(n=1), Item(n=2)]

    @step
    async def take(ctx: Context, ev: Item) -> StopEvent | None:
        await asyncio.sleep(0.01)
        return StopEvent(result=(ev.n, ctx.get("raised"))) if ev.n == 2 else None

    assert await Workflow("raising", [begin, both, take]).run() == (2, True)


FILLED = """
waits = asyncio.Event()

@step
async def begin(ctx: Context, ev: StartEvent) -> None:
    waiting = ctx.wait_for_event(Go, match=lambda event: fill(ctx, event))
    waits.set()
    await waiting

def fill(ctx, event):
    if FILLS and event.number == 1:
        # The log is full: what there is of it is written while the event is asked for.
        for number in range(1500):
            ctx.set("filled", number)
        say("filled")
        time.sleep(60)
    return False

@step
async def take(ctx: Context, ev: Go) -> StopEvent | None:
    taken = ctx.update("taken", lambda taken: [*taken, ev.number], default=[])
    return StopEvent(result=taken) if len(taken) == 2 else None

filled = Workflow("filled", [begin, take])

async def main():
    async with Engine(f"sqlite:///{path}", workflows=[filled], lease=1) as engine:
        if FILLS:
            run = engine.run(filled).id
            await asyncio.wait_for(waits.wait(), 20)
            await engine.send_event(run, Go(number=1))
        else:
            [run] = [info.id for info in await engine.runs()]
            await engine.send_event(run, Go(number=2))
        say(*await engine.get(run))

asyncio.run(main())
"""


def test_a_message_is_consumed_with_what_became_of_it(tmp_path: Path):
    path = tmp_path / "runs.db"
    with Process(path, FILLED.replace("FILLS", "True")) as process:
        assert process.line() == "filled"
        # Time for what is handed over to be written.
        time.sleep(0.3)
    with Process(path, FILLED.replace("FILLS", "False")) as process:
        assert process.line() == "1 2"


SENT = """
import signal
from typing import Any
from pydantic import BaseModel
from digest_values import Model, Parcel

class Found(Event):
    what: Any

class Done(Event):
    pass

class Told(BaseModel):
    name: str = "none"
    tags: set[str]

def words():
    return {f"word {number}" for number in range(50)}

def events():
    yield Found(what=words())
    yield Found(what=Model(tags=words()))
    yield Told(tags=words())
    yield Found(what={frozenset(words()): Parcel(1, words())})

@step
async def tell(ctx: Context, ev: StartEvent) -> Done:
    for event in events():
        ctx.send_event(event)
    # They are taken once it is on disk that they were sent.
    while ctx.get("taken", 0) < 4:
        await asyncio.sleep(0.01)
    if KILLED:
        say("sent")
        os.kill(os.getpid(), signal.SIGKILL)
    return Done()

@step
async def take(ctx: Context, ev: Found | Told) -> None:
    ctx.increment("taken")

@step
async def end(ctx: Context, ev: Done) -> StopEvent:
    await asyncio.sleep(0.2)
    return StopEvent(result=ctx.get("taken"))

told = Workflow("told", [tell, take, end])

async def main():
    async with Engine(f"sqlite:///{path}", workflows=[told], lease=1) as engine:
        [run] = [info.id for info in await engine.runs()] or [engine.run(told).id]
        say(await engine.get(run))

asyncio.run(main())
"""


def test_what_was_sent_before_a_kill_is_not_sent_again_by_a_process_with_other_hashes(
    tmp_path: Path,
):
    path = tmp_path / "runs.db"
    with Process(path, SENT.replace("KILLED", "True"), hash_seed=1) as process:
        assert process.line() == "sent"
        process.wait()
    with Process(path, SENT.replace("KILLED", "False"), hash_seed=2) as process:
        assert process.line() == "4"

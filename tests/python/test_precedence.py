"""Whoever waits for an event has precedence, also while its body comes back to where it waited."""

import asyncio
from typing import Any

import pytest
from processes import Process

from treadle import (
    Context,
    Event,
    Retry,
    Run,
    RunStalled,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)
from treadle.testing import ManualClock


class Note(Event):
    n: int = 0


class Special(Note):
    pass


class Other(Event):
    n: int = 0


@step
async def take(ctx: Context, ev: Note) -> None:
    ctx.update("taken", lambda taken: [*taken, ev.n], default=[])


def asking(before: Any = None, **wait: Any) -> Workflow:
    """A workflow of which the first step waits for a note, and the second takes any other."""

    @step
    async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
        if before is not None:
            await before()
        note = await ctx.wait_for_event(Note, **wait)
        await ctx.sleep(0.02)
        return StopEvent(result=(note.n, ctx.get("taken")))

    return Workflow("asking", [ask, take])


async def passes(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def put_down(workflow: Workflow) -> bytes:
    run = workflow.run()
    await passes()
    snapshot = await run.snapshot()
    run.cancel()
    return snapshot


async def test_an_event_that_comes_before_its_waiter_is_there_again_waits_for_it():
    workflow = asking()
    run = workflow.resume(await put_down(workflow))
    run.send_event(Note(n=1))
    run.send_event(Note(n=2))
    assert await run == (1, [2])


async def test_so_it_does_after_a_pause_that_stopped_the_waiter():
    run = asking().run()
    await passes()
    await run.pause(wait=False)
    run.send_event(Note(n=1))
    run.resume()
    run.send_event(Note(n=2))
    assert await run == (1, [2])


async def test_so_it_does_if_the_run_goes_on_before_the_waiter_has_stopped():
    run = asking().run()
    await passes()
    run.pause(wait=False)
    run.send_event(Note(n=1))
    run.resume()
    run.send_event(Note(n=2))
    assert await run == (1, [2])


async def test_an_event_that_was_received_and_not_seen_before_the_pause_is_received_again():
    run = asking().run()
    await passes()
    run.send_event(Note(n=1))
    pause = run.pause(wait=False)
    await pause
    run.send_event(Note(n=2))
    run.resume()
    assert await run == (1, [2])


@pytest.mark.parametrize("turns", [0, 20])
async def test_what_is_given_back_comes_before_what_is_kept(turns: int):
    @step
    async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=[(await ctx.wait_for_event(Other)).n for _ in range(3)])

    run = Workflow("kept", [ask]).run()
    await passes()
    run.send_event(Other(n=1))
    run.send_event(Other(n=2))
    run.pause(wait=False)
    await passes(turns)
    run.send_event(Other(n=3))
    run.resume()
    assert await run == [1, 2, 3]


async def test_a_wait_for_a_base_class_delays_events_of_its_subclasses():
    workflow = asking()
    run = workflow.resume(await put_down(workflow))
    run.send_event(Special(n=1))
    assert await run == (1, None)


async def test_what_the_matcher_does_not_take_goes_on_once_the_waiter_is_there():
    workflow = asking(match={"n": 2})
    run = workflow.resume(await put_down(workflow))
    for n in range(4):
        run.send_event(Note(n=n))
    assert await run == (2, [0, 1, 3])


async def test_a_body_that_does_something_long_before_it_waits_delays_only_what_it_may_wait_for():
    gate = asyncio.Event()
    gate.set()
    others = []

    @step
    async def other(ev: Other) -> None:
        others.append(ev)

    @step
    async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
        await gate.wait()
        note = await ctx.wait_for_event(Note)
        return StopEvent(result=(note.n, ctx.get("taken")))

    workflow = Workflow("slow", [ask, take, other])
    snapshot = await put_down(workflow)
    gate.clear()
    run = workflow.resume(snapshot)
    run.send_event(Note(n=1))
    run.send_event(Other())
    await passes()
    assert (len(others), run._state(), run.status) == (1, {}, "running")
    gate.set()
    assert await run == (1, None)


async def test_a_crash_loses_nothing_of_what_is_held_for_a_waiter():
    gate = asyncio.Event()
    gate.set()
    workflow = asking(gate.wait)
    snapshot = await put_down(workflow)
    gate.clear()
    run = workflow.resume(snapshot)
    run.send_event(Note(n=1))
    run.send_event(Note(n=2))
    await passes()
    again = await run.snapshot()
    run.cancel()
    gate.set()
    assert await workflow.resume(again) == (1, [2])


@pytest.mark.parametrize("ends", ["returns", "is tried again"])
async def test_a_body_that_does_not_come_to_its_wait_again_lets_go_of_what_was_held(ends: str):
    second_life = asyncio.Event()
    gate = asyncio.Event()

    @step(retry=Retry(attempts=2, backoff="constant", initial=0.02))
    async def ask(ctx: Context, ev: StartEvent) -> None:
        if second_life.is_set():
            await gate.wait()
            if ends == "is tried again" and ctx.attempt == 1:
                raise ValueError("no")
            return
        await ctx.wait_for_event(Note)

    @step
    async def stop(ev: Note) -> StopEvent:
        return StopEvent(result=ev.n)

    workflow = Workflow("changed its mind", [ask, stop])
    snapshot = await put_down(workflow)
    second_life.set()
    run = workflow.resume(snapshot)
    run.send_event(Note(n=1))
    await passes()
    assert run.status == "running"
    gate.set()
    assert await run == 1


async def test_a_body_does_not_wait_for_what_it_sends_itself():
    waited = asyncio.Event()
    taken = asyncio.Event()

    @step
    async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
        if waited.is_set():
            ctx.send_event(Note(n=1))
            await taken.wait()
        waited.set()
        note = await ctx.wait_for_event(Note)
        return StopEvent(result=note.n)

    @step
    async def answer(ev: Note) -> None:
        taken.set()

    workflow = Workflow("asks itself", [ask, answer])
    run = workflow.resume(await put_down(workflow))
    await asyncio.wait_for(taken.wait(), 10)
    await passes()
    run.send_event(Note(n=2))
    assert await run == 2


async def test_whoever_waits_already_gets_an_event_that_another_one_may_wait_for_again():
    lock = asyncio.Lock()

    @step
    async def first(ctx: Context, ev: StartEvent) -> None:
        async with lock:
            pass
        await ctx.wait_for_event(Note)
        ctx.increment("first")

    @step
    async def second(ctx: Context, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0)
        async with lock:
            note = await ctx.wait_for_event(Note)
        await ctx.sleep(0.01)
        return StopEvent(result=note.n)

    workflow = Workflow("locked", [first, second, take])
    run = workflow.run()
    await passes()
    await run.pause(wait=False)
    await lock.acquire()
    run.resume()
    await passes()
    # The second one is the first to have the lock now, and the first one waits for it.
    lock.release()
    run.send_event(Note(n=1))
    run.send_event(Note(n=2))
    assert await run in (1, 2)


async def test_no_run_waits_for_good_for_a_body_that_waits_for_what_comes_of_the_event():
    waited = asyncio.Event()
    taken = asyncio.Event()

    @step
    async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
        if waited.is_set():
            await taken.wait()
        waited.set()
        note = await ctx.wait_for_event(Note)
        return StopEvent(result=note.n)

    @step
    async def answer(ev: Note) -> None:
        taken.set()

    workflow = Workflow("in a circle", [ask, answer])
    snapshot = await put_down(workflow)
    with ManualClock() as clock:
        run = workflow.resume(snapshot)
        run.send_event(Note(n=1))
        await passes()
        assert not taken.is_set()
        await clock.advance(59)
        assert not taken.is_set()
        await clock.advance(2)
        assert taken.is_set()
        run.send_event(Note(n=2))
        assert await run == 2


async def test_tasks_of_a_body_that_wait_at_the_same_time_all_get_their_events():
    @step
    async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
        async with asyncio.TaskGroup() as group:
            notes = [group.create_task(wait(ctx, n)) for n in range(3)]
        return StopEvent(result=([task.result().n for task in notes], ctx.get("taken")))

    async def wait(ctx: Context, n: int) -> Note:
        return await ctx.wait_for_event(Note, match={"n": n})

    workflow = Workflow("several", [ask, take])
    run = workflow.resume(await put_down(workflow))
    for n in (2, 0, 1):
        run.send_event(Note(n=n))
    assert await run == ([0, 1, 2], None)


async def test_a_step_that_is_full_does_not_delay_events_for_those_that_have_no_place_in_it():
    asked = 0

    def workflow(limit: int | None) -> Workflow:
        @step(concurrency=limit)
        async def ask(ctx: Context, ev: Other) -> None:
            nonlocal asked
            asked += 1
            note = await ctx.wait_for_event(Note, match=lambda note: note.n > 1)
            ctx.update("got", lambda got: [*got, note.n], default=[])

        @step
        async def begin(ev: StartEvent) -> list[Other]:
            return [Other(), Other()]

        @step
        async def answer(ctx: Context, ev: Note) -> StopEvent | None:
            if ev.n == 9:
                return StopEvent(result=ctx.get("got"))
            ctx.send_event(Note(n=ev.n + 2))
            return None

        return Workflow("narrow", [begin, ask, answer])

    run = workflow(None).run()
    await passes()
    snapshot = await run.snapshot()
    run.cancel()
    run = workflow(1).resume(snapshot)
    await passes()
    assert asked == 3
    # The only body that has a place gets its event only if this one is not held for the other one.
    run.send_event(Note(n=0))
    await passes()
    run.send_event(Note(n=1))
    await passes()
    assert run._state() == {"got": [2, 3]}
    run.cancel()


async def test_a_run_that_can_go_nowhere_still_stalls():
    second_life = asyncio.Event()

    @step
    async def ask(ctx: Context, ev: StartEvent) -> None:
        if not second_life.is_set():
            await ctx.wait_for_event(Note)

    workflow = Workflow("stalls", [ask, take])
    snapshot = await put_down(workflow)
    second_life.set()
    run = workflow.resume(snapshot)
    run.send_event(Note(n=1))
    with pytest.raises(RunStalled):
        await run
    assert run._state() == {"taken": [1]}


async def test_an_event_from_a_step_waits_for_its_waiter_too():
    gate = asyncio.Event()

    @step
    async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
        await passes(5)
        note = await ctx.wait_for_event(Note)
        return StopEvent(result=(note.n, ctx.get("taken")))

    @step
    async def tell(ev: StartEvent) -> list[Note]:
        await gate.wait()
        return [Note(n=1), Note(n=2)]

    workflow = Workflow("told", [ask, tell, take])
    snapshot = await put_down(workflow)
    gate.set()
    run: Run = workflow.resume(snapshot)
    assert await run in [(1, None), (1, [2])]


async def test_what_a_step_sends_to_a_waiter_alone_is_kept_until_it_waits_again():
    gate = asyncio.Event()

    @step
    async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
        first = await ctx.wait_for_event(Other, match={"n": 1})
        await passes(5)
        second = await ctx.wait_for_event(Other, match={"n": 2})
        return StopEvent(result=(first.n, second.n))

    @step
    async def tell(ctx: Context, ev: StartEvent) -> None:
        await gate.wait()
        ctx.send_event(Other(n=2))

    workflow = Workflow("kept", [ask, tell])
    run = workflow.run()
    await passes()
    run.send_event(Other(n=1))
    await passes()
    snapshot = await run.snapshot()
    run.cancel()
    gate.set()
    assert await workflow.resume(snapshot) == (1, 2)


WAITS = """
@step
async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
    await asyncio.sleep(0.05)
    waiting = ctx.wait_for_event(Go)
    waits.set()
    go = await waiting
    await ctx.sleep(0.05)
    return StopEvent(result=(go.number, ctx.get("taken")))

@step
async def take(ctx: Context, ev: Go) -> None:
    ctx.set("taken", ev.number)

waits = asyncio.Event()
asks = Workflow("asks", [ask, take])

async def main():
    async with Engine(f"sqlite:///{path}", workflows=[asks], lease=1) as engine:
        BODY

asyncio.run(main())
"""


def test_a_message_for_a_run_that_waits_in_the_journal_waits_for_its_waiter(tmp_path):
    begin = "run = engine.run(asks); await waits.wait(); await asyncio.sleep(0.1); say(run.id)"
    send = "[run] = await engine.runs(); await engine.send_event(run.id, Go(number=1)); "
    send += "say(*await engine.get(run.id))"
    path = tmp_path / "runs.db"
    with Process(path, WAITS.replace("BODY", begin)) as process:
        process.line()
        process.wait()
    with Process(path, WAITS.replace("BODY", send)) as process:
        assert process.line() == "1 None"

"""What happens in the same pass of the event loop, or in another thread at the same time."""

import asyncio
import contextlib
import threading
import time
from typing import Any

import pytest

from treadle import Context, Event, StartEvent, StopEvent, Workflow, step


class Note(Event):
    n: int = 0


async def test_an_event_sent_to_a_waiter_that_is_being_cancelled_goes_to_the_next():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        async def wait() -> Any:
            return await ctx.wait_for_event(Note)

        first = asyncio.create_task(wait())
        second = asyncio.create_task(wait())
        await asyncio.sleep(0)
        first.cancel()
        ctx.send_event(Note(n=1))
        return StopEvent(result=(await second).n)

    assert await Workflow("w", [work]).run() == 1


async def test_an_event_given_up_by_a_waiter_reaches_the_step_that_accepts_it():
    @step
    async def work(ctx: Context, ev: StartEvent) -> None:
        async def wait() -> None:
            await ctx.wait_for_event(Note)

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        ctx.send_event(Note(n=2))
        waiting.cancel()
        await asyncio.wait([waiting])

    @step
    async def take(ev: Note) -> StopEvent:
        return StopEvent(result=ev.n)

    assert await Workflow("w", [work, take]).run() == 2


async def test_an_event_sent_from_a_thread_to_a_waiter_that_goes_away_is_kept():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        async def wait() -> None:
            await ctx.wait_for_event(Note)

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        thread = threading.Thread(target=lambda: run.send_event(Note(n=3)))
        thread.start()
        thread.join()
        waiting.cancel()
        await asyncio.wait([waiting])
        return StopEvent(result=(await ctx.wait_for_event(Note, timeout=5)).n)

    run = Workflow("w", [work]).run()
    assert await run == 3


async def test_a_step_that_swallows_its_time_limit_is_stopped_with_its_run():
    @step(timeout=0.02)
    async def stubborn(ev: StartEvent) -> StopEvent:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(10)
        await asyncio.sleep(10)
        return StopEvent(result="too late")

    run = Workflow("w", [stubborn], timeout=0.06).run()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run, 5)
    assert run.status == "failed"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_step_that_swallows_its_cancellation_can_be_cancelled_again():
    caught = 0

    @step
    async def stubborn(ev: StartEvent) -> StopEvent:
        nonlocal caught
        while caught < 2:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                caught += 1
        raise asyncio.CancelledError

    run = Workflow("w", [stubborn]).run()
    waiting = asyncio.create_task(asyncio.wait([asyncio.ensure_future(run)]))
    await asyncio.sleep(0.01)
    assert run.cancel()
    await asyncio.sleep(0.01)
    assert not run.cancel()
    await asyncio.wait_for(waiting, 5)
    assert (run.status, caught) == ("cancelled", 2)


async def test_a_cancellation_just_before_the_run_ends_is_not_swallowed():
    @step
    async def work(ev: StartEvent) -> StopEvent | None:
        await asyncio.sleep(10)
        return None

    run = Workflow("w", [work]).run()

    async def serve() -> Any:
        return await run

    service = asyncio.create_task(serve())
    await asyncio.sleep(0.01)
    service.cancel()
    run.send_event(StopEvent(result="x"))
    with pytest.raises(asyncio.CancelledError):
        await service


async def test_a_task_of_a_run_that_is_cancelled_before_it_begins_never_runs_the_body():
    begun = False

    @step
    async def work(ev: StartEvent) -> StopEvent:
        nonlocal begun
        begun = True
        return StopEvent()

    run = Workflow("w", [work]).run()
    task = asyncio.create_task(run)
    task.cancel()
    await asyncio.sleep(0.01)
    assert (run.status, begun) == ("cancelled", False)


async def test_functions_that_wait_for_a_thread_do_not_begin_after_the_cancellation():
    begun = 0

    @step
    async def split(ev: StartEvent) -> list[Note]:
        return [Note(n=n) for n in range(200)]

    @step
    def block(ev: Note) -> StopEvent | None:
        nonlocal begun
        begun += 1
        time.sleep(0.05)
        return None

    run = Workflow("w", [split, block]).run()
    waiting = asyncio.ensure_future(run)
    await asyncio.sleep(0.03)
    run.cancel()
    await asyncio.wait([waiting])
    assert 0 < begun < 100


def test_a_parent_ends_although_a_child_was_left_on_a_loop_that_is_closed():
    @step
    async def nap(ev: StartEvent) -> StopEvent:
        await asyncio.sleep(10)
        return StopEvent()

    child = Workflow("child", [nap])

    @step
    def work(ev: StartEvent) -> StopEvent:
        async def leave() -> None:
            child.run()

        loop = asyncio.new_event_loop()
        loop.run_until_complete(leave())
        loop.close()
        return StopEvent(result="over")

    async def main() -> Any:
        return await asyncio.wait_for(Workflow("w", [work]).run(), 5)

    assert asyncio.run(main()) == "over"


async def test_a_step_dropped_in_the_middle_may_use_its_context_in_its_clean_up():
    def refuse(loop: Any, coroutine: Any, **options: Any) -> Any:
        raise RuntimeError("no tasks today")

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            ctx.send_event(Note())
            await asyncio.sleep(10)
        finally:
            ctx.send_event(StopEvent(result="from the clean-up"))
        return StopEvent()

    @step
    async def take(ev: Note) -> None:
        await asyncio.sleep(10)

    run = Workflow("w", [work, take]).run()
    loop = asyncio.get_running_loop()
    loop.set_task_factory(refuse)
    try:
        with pytest.raises(RuntimeError, match="no tasks today"):
            await run
    finally:
        loop.set_task_factory(None)
    assert run.status in ("failed", "completed")

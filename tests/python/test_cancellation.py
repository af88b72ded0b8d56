import asyncio
import threading
import time
from typing import Any

import anyio
import pytest
from isolated import run_script

from treadle import Context, Event, RunCancelled, StartEvent, StopEvent, Workflow, step


class Item(Event):
    n: int = 0


class Boom(Exception):
    pass


def flow(events: list[str], *, before: int = 0, cleanup: float = 0.0) -> Workflow:
    """A workflow of one step, which suspends `before` times and then for good."""

    @step
    async def work(ev: StartEvent) -> StopEvent:
        events.append("begin")
        try:
            for _ in range(before):
                await asyncio.sleep(0)
            await asyncio.sleep(1000)
            events.append("went on")
        except asyncio.CancelledError:
            events.append("cancelled")
            await asyncio.sleep(cleanup)
            events.append("cleaned up")
            raise
        return StopEvent()

    return Workflow("w", [work])


def this_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


# Cancelling whoever awaits


@pytest.mark.parametrize("passes", range(8))
@pytest.mark.parametrize("before", [0, 1, 3])
async def test_cancelling_the_awaiter_cancels_the_run_at_every_point(passes: int, before: int):
    events: list[str] = []
    run = flow(events, before=before, cleanup=0.002).run()
    task = asyncio.ensure_future(run)
    for _ in range(passes):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.005)
    assert events in ([], ["begin", "cancelled", "cleaned up"])
    assert run.status == "cancelled"


@pytest.mark.parametrize("passes", range(6))
async def test_cancelling_the_awaiter_of_a_run_that_others_drive_cancels_it(passes: int):
    events: list[str] = []
    run = flow(events).run()
    await asyncio.sleep(0.01)
    assert events == ["begin"]
    task = asyncio.ensure_future(run)
    for _ in range(passes + 1):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while passes and run.status in ("running", "waiting"):
        await asyncio.sleep(0)
    if passes == 0:
        run.cancel()


async def test_the_awaiter_gets_its_cancellation_once_the_step_has_cleaned_up():
    events: list[str] = []
    task = asyncio.ensure_future(flow(events, cleanup=0.02).run())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert events == ["begin", "cancelled", "cleaned up"]


async def test_all_steps_of_a_cancelled_run_are_awaited():
    events: list[Any] = []

    @step
    async def begin(ev: StartEvent) -> list[Item]:
        return [Item(n=n) for n in range(5)]

    @step
    async def work(ev: Item) -> StopEvent:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0.002 * ev.n)
            events.append(ev.n)
        return StopEvent()

    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(Workflow("w", [begin, work]).run(), 0.03)
    assert events == [0, 1, 2, 3, 4]
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("way", ["wait_for", "timeout", "move_on_after", "fail_after"])
async def test_a_time_limit_around_a_run_cancels_it(way: str):
    events: list[str] = []
    run = flow(events, cleanup=0.002).run()
    if way == "wait_for":
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run, 0.02)
    elif way == "timeout":
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await run
    elif way == "move_on_after":
        with anyio.move_on_after(0.02) as scope:
            await run
        assert scope.cancelled_caught
    else:
        with pytest.raises(TimeoutError), anyio.fail_after(0.02):
            await run
    # an anyio scope cancels every await in it, that of the clean-up as well
    expected = ["begin", "cancelled", "cleaned up"] if way in ("wait_for", "timeout") else events
    assert events == expected
    assert events[:2] == ["begin", "cancelled"]
    assert run.status == "cancelled"
    assert this_task().cancelling() == 0
    await asyncio.sleep(0)


async def test_a_failing_sibling_in_a_task_group_cancels_the_run():
    events: list[str] = []
    run = flow(events).run()

    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise Boom

    async def wait() -> None:
        await run

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wait())
            tasks.create_task(fail())
    assert [type(error) for error in caught.value.exceptions] == [Boom]
    assert events == ["begin", "cancelled", "cleaned up"]
    assert run.status == "cancelled"


async def test_a_task_that_caught_an_earlier_cancellation_can_still_use_runs():
    @step
    async def work(ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0)
        return StopEvent(result="fine")

    async def main() -> Any:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            return await Workflow("w", [work]).run()

    task = asyncio.create_task(main())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == "fine"


# Time limits inside of steps


@pytest.mark.parametrize("way", ["wait_for", "timeout", "move_on_after", "fail_after"])
@pytest.mark.parametrize("first", ["at once", "after a pause"])
@pytest.mark.parametrize("driver", ["awaiter", "own task"])
async def test_a_time_limit_inside_of_a_step_is_the_steps_own_affair(
    way: str, first: str, driver: str
):
    @step
    async def work(ev: StartEvent) -> StopEvent:
        if first == "after a pause":
            await asyncio.sleep(0)
        if way == "wait_for":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.sleep(1000), 0.01)
        elif way == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(1000)
        elif way == "move_on_after":
            with anyio.move_on_after(0.01):
                await anyio.sleep(1000)
        else:
            with pytest.raises(TimeoutError), anyio.fail_after(0.01):
                await anyio.sleep(1000)
        await asyncio.sleep(0)
        return StopEvent(result=this_task().cancelling())

    run = Workflow("w", [work]).run()
    if driver == "own task":
        await asyncio.sleep(0.001)
    assert await run == 0
    assert this_task().cancelling() == 0


async def test_task_groups_inside_of_steps_cancel_their_tasks():
    events: list[str] = []

    async def sleep() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            events.append("stopped")

    async def fail() -> None:
        await asyncio.sleep(0.005)
        raise Boom

    @step
    async def work(ev: StartEvent) -> StopEvent:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(sleep())
                tasks.create_task(fail())
        except* Boom:
            events.append("caught")
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(sleep)
                group.start_soon(fail)
        except* Boom:
            events.append("caught")
        return StopEvent(result=events)

    assert await Workflow("w", [work]).run() == ["stopped", "caught", "stopped", "caught"]


async def test_a_limit_inside_and_a_limit_outside_that_fire_together_end_the_run():
    @step
    async def work(ev: StartEvent) -> StopEvent:
        try:
            async with asyncio.timeout(0.01):
                time.sleep(0.03)  # noqa: ASYNC251 - both are due when the loop gets control
                await asyncio.sleep(1000)
        except TimeoutError:
            await asyncio.sleep(1000)
        return StopEvent()

    run = Workflow("w", [work]).run()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await run
    assert run.status == "cancelled"
    assert this_task().cancelling() == 0


# Steps that do not obey


async def test_a_step_that_swallows_the_cancellation_is_awaited_to_its_end():
    events: list[str] = []

    @step
    async def work(ev: StartEvent) -> StopEvent:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            events.append("swallowed")
        await asyncio.sleep(0.01)
        events.append("finished")
        return StopEvent(result="too late")

    run = Workflow("w", [work]).run()
    waiting = asyncio.ensure_future(run)
    await asyncio.sleep(0.005)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert events == ["swallowed", "finished"]
    assert run.status in ("cancelled", "completed")


async def test_a_step_that_raises_when_it_is_cancelled_is_logged_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
):
    @step
    async def stop(ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0.01)
        return StopEvent(result="the result")

    @step
    async def work(ev: StartEvent) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            raise Boom("in the clean-up")

    assert await Workflow("w", [stop, work]).run() == "the result"
    (record,) = caplog.records
    assert record.name == "treadle"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], Boom)


async def test_a_step_that_raises_cancelled_error_itself_cancels_the_run():
    @step
    async def work(ev: StartEvent) -> StopEvent:
        raise asyncio.CancelledError

    run = Workflow("w", [work]).run()
    with pytest.raises(RunCancelled):
        await run
    assert run.status == "cancelled"
    assert this_task().cancelling() == 0


# cancel()


@pytest.mark.parametrize("passes", range(6))
async def test_cancel_stops_a_run_at_every_point(passes: int):
    events: list[str] = []
    run = flow(events, before=2, cleanup=0.002).run()
    for _ in range(passes):
        await asyncio.sleep(0)
    assert run.cancel() is True
    with pytest.raises(RunCancelled):
        await run
    assert run.status == "cancelled"
    assert events in ([], ["begin", "cancelled", "cleaned up"])
    assert run.cancel() is False
    assert this_task().cancelling() == 0


async def test_cancel_leaves_the_awaiters_task_alone():
    run = flow([]).run()
    asyncio.get_running_loop().call_later(0.01, run.cancel)
    try:
        await run
    except RunCancelled:
        assert this_task().cancelling() == 0
        await asyncio.sleep(0.001)
    else:
        raise AssertionError("not cancelled")


async def test_cancel_works_from_another_thread():
    events: list[str] = []
    run = flow(events).run()
    task = asyncio.ensure_future(run)
    await asyncio.sleep(0.01)
    threading.Thread(target=run.cancel).start()
    with pytest.raises(RunCancelled):
        await asyncio.wait_for(task, 5)
    assert events == ["begin", "cancelled", "cleaned up"]


@pytest.mark.parametrize("before", [0, 1])
async def test_a_step_may_cancel_its_own_run(before: int):
    events: list[str] = []
    runs: list[Any] = []

    @step
    async def work(ev: StartEvent) -> StopEvent:
        for _ in range(before):
            await asyncio.sleep(0)
        runs[0].cancel()
        events.append("goes on to its next await")
        await asyncio.sleep(1)
        events.append("went on")
        return StopEvent()

    runs.append(Workflow("w", [work]).run())
    with pytest.raises(RunCancelled):
        await runs[0]
    assert events == ["goes on to its next await"]


async def test_cancelling_a_child_does_not_cancel_its_parent():
    @step
    async def parent(ev: StartEvent) -> StopEvent:
        child = flow([]).run()
        asyncio.get_running_loop().call_later(0.01, child.cancel)
        try:
            await child
        except RunCancelled:
            return StopEvent(result=(child.status, this_task().cancelling()))
        return StopEvent()

    assert await Workflow("parent", [parent]).run() == ("cancelled", 0)


# The end of a run


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("how", ["send_event", "other step"])
async def test_a_stop_event_cancels_the_other_steps_and_awaits_them(before: int, how: str):
    events: list[str] = []

    @step
    async def other(ev: StartEvent) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0.005)
            events.append("other stopped")

    @step
    async def stop(ctx: Context, ev: StartEvent) -> StopEvent | None:
        for _ in range(before):
            await asyncio.sleep(0)
        if how == "other step":
            return StopEvent(result="result")
        ctx.send_event(StopEvent(result="result"))
        return None

    tasks = asyncio.all_tasks()
    assert await Workflow("w", [other, stop]).run() == "result"
    assert events == ["other stopped"]
    assert asyncio.all_tasks() == tasks


@pytest.mark.parametrize("before", [0, 1])
async def test_a_step_that_sends_the_stop_event_is_cancelled_at_its_next_await(before: int):
    events: list[str] = []

    @step
    async def work(ctx: Context, ev: StartEvent) -> None:
        for _ in range(before):
            await asyncio.sleep(0)
        ctx.send_event(StopEvent(result=1))
        events.append("goes on to its next await")
        await asyncio.sleep(1)
        events.append("went on")

    assert await Workflow("w", [work]).run() == 1
    assert events == ["goes on to its next await"]


async def test_events_that_are_queued_when_the_run_ends_never_start():
    started: list[int] = []

    @step
    async def begin(ev: StartEvent) -> list[Item]:
        return [Item(n=n) for n in range(10)]

    @step(concurrency=1)
    async def work(ev: Item) -> StopEvent:
        started.append(ev.n)
        await asyncio.sleep(0)
        return StopEvent()

    await Workflow("w", [begin, work]).run()
    await asyncio.sleep(0.01)
    assert started == [0]


async def test_clean_up_may_use_the_context():
    @step
    async def stop(ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0.01)
        return StopEvent()

    @step
    async def work(ctx: Context, ev: StartEvent) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ctx.set("k", 1)
            await asyncio.sleep(0)
            ctx.write_event_to_stream(Item(n=ctx.get("k")))

    run = Workflow("w", [stop, work]).run()
    assert [ev.n async for ev in run.stream_events()] == [1]


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    "sender", ["ctx.send_event(StopEvent(result=1))", "yield StopEvent(result=1)"]
)
def test_a_stop_event_sent_from_a_thread_ends_the_run(debug: bool, sender: str):
    printed = run_script(
        f"""
        @step
        async def other(ev: StartEvent) -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                print("other stopped")
        @step
        def work(ctx: Context, ev: StartEvent):
            time.sleep(0.02)
            {sender}
        async def main():
            print(await asyncio.wait_for(Workflow("w", [other, work]).run(), 3))
        asyncio.run(main())
        """,
        debug=debug,
        timeout=6,
    )
    assert printed == "other stopped\n1"


def test_a_child_that_runs_in_a_loop_of_another_thread_is_cancelled_with_its_parent():
    printed = run_script(
        """
        @step
        async def child(ev: StartEvent) -> StopEvent:
            await asyncio.sleep(20)
            return StopEvent()
        inner = Workflow("inner", [child])
        @step
        def parent(ev: StartEvent) -> StopEvent:
            async def main():
                return await inner.run()
            return asyncio.run(main())
        async def main():
            try:
                await asyncio.wait_for(Workflow("outer", [parent]).run(), 0.1)
            except TimeoutError:
                print("timeout")
        asyncio.run(main())
        """,
        timeout=6,
    )
    assert printed == "timeout"


def test_a_thread_that_is_cancelled_is_awaited_and_counts_no_more():
    printed = run_script("""
        @step
        def work(ctx: Context, ev: StartEvent) -> StopEvent:
            time.sleep(0.2)
            try:
                ctx.send_event(StopEvent())
            except TreadleError as error:
                print(type(error).__name__)
        async def main():
            run = Workflow("w", [work]).run()
            try:
                await asyncio.wait_for(run, 0.05)
            except TimeoutError:
                print(run.status)
        asyncio.run(main())
    """)
    assert printed == "StepCancelled\ncancelled"


# By hand, as an event loop other than asyncio's own might


async def test_closing_an_await_of_a_run_closes_the_step_and_cancels_the_run():
    events: list[str] = []

    @step
    async def work(ev: StartEvent) -> StopEvent:
        try:
            await asyncio.sleep(1000)
        finally:
            events.append("closed")
        return StopEvent()

    run = Workflow("w", [work]).run()

    async def wait() -> Any:
        return await run

    waiting = wait()
    waiting.send(None)
    waiting.close()
    assert events == ["closed"]
    assert run.status == "cancelled"


async def test_closing_an_await_that_has_not_begun_leaves_the_run_alone():
    @step
    async def work(ev: StartEvent) -> StopEvent:
        return StopEvent(result=1)

    run = Workflow("w", [work]).run()
    run.__await__().close()  # type: ignore[attr-defined]
    assert await run == 1

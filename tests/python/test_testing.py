"""What treadle gives to tests of workflows."""

import asyncio
import time
from datetime import timedelta

import pytest

from treadle import (
    Context,
    Event,
    Retry,
    StartEvent,
    StopEvent,
    WaitTimeout,
    Workflow,
    WorkflowDefinitionError,
    step,
)
from treadle.testing import ManualClock, crash_points, run_step


class Page(Event):
    size: int


class Big(Event):
    total: int


class Go(Event):
    pass


@step(retry=Retry(attempts=5))
async def add(ctx: Context, ev: Page) -> Big | list[Page] | StopEvent:
    if ev.size < 0:
        raise ValueError(f"negative: {ev.size}")
    if ev.size == 0:
        return StopEvent(result="empty")
    if ev.size > 1000:
        return [Page(size=1), Page(size=2)]
    ctx.write_event_to_stream(ev)
    ctx.session["seen"].append(ev.size)
    return Big(total=ctx.increment("total", ev.size))


async def test_one_step_is_run_alone():
    seen: list[int] = []
    done = await run_step(add, Page(size=2), state={"total": 40}, session={"seen": seen})
    assert done.result == Big(total=42)
    assert done.state == {"total": 42}
    assert done.published == [Page(size=2)]
    assert done.error is None
    assert seen == [2]


async def test_events_that_the_step_accepts_itself_are_not_run():
    done = await run_step(add, Page(size=2000))
    assert done.emitted == [Page(size=1), Page(size=2)]
    with pytest.raises(ValueError, match="2 events"):
        _ = done.result


async def test_a_stop_event_is_an_event_like_any_other():
    assert (await run_step(add, Page(size=0))).result == StopEvent(result="empty")


async def test_the_exception_of_a_step_is_given_and_the_step_tried_once():
    done = await run_step(add, Page(size=-1))
    assert isinstance(done.error, ValueError)
    assert done.emitted == []


async def test_a_method_a_thread_and_a_generator_are_run_as_well():
    class Flow(Workflow):
        factor = 3

        @step
        async def begin(self, ev: StartEvent) -> Page:
            return Page(size=1)

        @step
        def times(self, ev: Page) -> Big:
            return Big(total=ev.size * self.factor)

        @step
        async def each(self, ev: Big):
            yield StopEvent(result=1)
            yield StopEvent(result=2)

    flow = Flow()
    assert (await run_step(flow.times, Page(size=2))).result == Big(total=6)
    emitted = (await run_step(flow.each, Big(total=1))).emitted
    assert emitted == [StopEvent(result=1), StopEvent(result=2)]


async def test_a_step_that_waits_is_sent_what_it_waits_for():
    @step
    async def wait(ctx: Context, ev: Page) -> Big:
        await ctx.wait_for_event(Go)
        return Big(total=ev.size)

    assert (await run_step(wait, Page(size=3), send=[Go()])).result == Big(total=3)


async def test_what_is_no_step_cannot_be_run_alone():
    with pytest.raises(WorkflowDefinitionError, match="not a step"):
        await run_step(lambda ev: ev, Page(size=1))


async def test_three_days_pass_in_a_moment():
    @step(retry=Retry(attempts=3, initial=3600, max=7200, jitter=0))
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        if ctx.attempt < 3:
            raise ConnectionError
        for _ in range(3):
            await ctx.sleep(86_400)
        with pytest.raises(WaitTimeout):
            await ctx.wait_for_event(Go, timeout=7200)
        return StopEvent(result=clock.now)

    begin = time.perf_counter()
    with ManualClock() as clock:
        started = clock.now
        run = Workflow("work", [work]).run()
        await clock.advance(days=3, hours=4)
        assert run.status == "waiting"
        await clock.advance(hours=1)
        assert await run - started == timedelta(days=3, hours=5)
    assert time.perf_counter() - begin < 5


async def test_the_clock_goes_to_what_is_due_next():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.sleep(10)
        await ctx.sleep(20)
        return StopEvent()

    with ManualClock() as clock:
        run = Workflow("work", [work]).run()
        begin = clock.now
        assert clock.next_deadline is None
        assert await clock.advance_to_next()
        assert clock.now - begin == timedelta(seconds=10)
        assert await clock.advance_to_next()
        await run
        assert not await clock.advance_to_next()
        with pytest.raises(ValueError, match="0 seconds or more"):
            await clock.advance(-1)


async def test_runs_outside_of_the_clock_go_by_the_real_time():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.sleep(0.01)
        return StopEvent(result="woke")

    workflow = Workflow("work", [work])
    with ManualClock():
        pass
    assert await workflow.run() == "woke"


async def test_a_workflow_that_counts_twice_is_found_out():
    @step
    async def count(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ctx.increment("visits"))

    report = await crash_points(Workflow("count", [count]))
    with pytest.raises(AssertionError, match="after stored"):
        report.check()


async def test_a_workflow_that_is_careful_passes():
    @step
    async def careful(ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.set("visits", 1)
        await ctx.sleep(5)
        await asyncio.sleep(0)
        await ctx.wait_for_event(Go)
        return StopEvent(result=ev.n)

    report = await crash_points(Workflow("careful", [careful]), send=[Go()], n=4)
    report.check()
    assert report.outcome == ("completed", 4, {"visits": 1})
    assert [point.after for point in report.points][:2] == ["started", "stored"]


async def test_the_fixtures_are_there(
    treadle_clock, treadle_run_step, treadle_crash_points
) -> None:
    assert (await treadle_run_step(add, Page(size=0))).result == StopEvent(result="empty")

    @step
    async def rest(ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.sleep(1000)
        return StopEvent()

    workflow = Workflow("rest", [rest])
    report = await treadle_crash_points(workflow)
    assert report.points
    with treadle_clock:
        run = workflow.run()
        await treadle_clock.advance(1000)
        await run

"""Pausing a run: nothing starts, nothing passes, nothing is lost, and it goes on where it was."""

import asyncio
import contextlib
import gc
import threading
import time
import weakref
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isolated import run_script

from treadle import (
    Context,
    Event,
    EventLoopError,
    Retry,
    RunCancelled,
    RunEnded,
    RunStalled,
    StartEvent,
    StepTimeout,
    StopEvent,
    WaitTimeout,
    Workflow,
    WorkflowTimeout,
    step,
)


class Note(Event):
    n: int = 0


class Go(Event):
    n: int = 0


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


def chain(log: list[str], first: Any = None) -> Workflow:
    """Two steps, the first of which lasts as long as `first` does."""

    @step
    async def one(ev: StartEvent) -> Go:
        log.append("one begins")
        try:
            if first is not None:
                await first()
        except asyncio.CancelledError:
            log.append("one is cancelled")
            raise
        log.append("one ends")
        return Go(n=1)

    @step
    async def two(ev: Go) -> StopEvent:
        log.append("two")
        return StopEvent(result=ev.n)

    return Workflow("chain", [one, two])


# pause() lets steps finish


async def test_steps_in_flight_finish_and_no_more_start():
    log: list[str] = []
    run = chain(log, lambda: asyncio.sleep(0.02)).run()
    await settle()
    await run.pause()
    assert (log, run.status) == (["one begins", "one ends"], "paused")
    await asyncio.sleep(0.01)
    assert "two" not in log
    run.resume()
    assert run.status == "running"
    assert await run == 1


async def test_a_run_is_paused_from_the_call_on_whether_or_not_anybody_waits_for_it():
    log: list[str] = []
    run = chain(log).run()
    run.pause()
    assert run.status == "paused"
    await asyncio.sleep(0.01)
    assert log == []
    run.resume()
    assert await run == 1


async def test_a_pause_before_the_start_is_complete_at_once():
    log: list[str] = []
    run = chain(log).run()
    await asyncio.wait_for(run.pause(), 1)
    waiting = asyncio.ensure_future(run)
    await asyncio.sleep(0.01)
    assert (log, waiting.done()) == ([], False)
    run.resume()
    assert await waiting == 1


async def test_a_step_that_waits_for_an_event_does_not_keep_the_pause_waiting():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=(await ctx.wait_for_event(Note)).n)

    run = Workflow("w", [work]).run()
    await settle()
    await asyncio.wait_for(run.pause(), 1)
    run.send_event(Note(n=3))
    await settle()
    assert run.status == "paused"
    run.resume()
    assert await run == 3


async def test_a_step_that_sleeps_does_not_keep_the_pause_waiting():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.sleep(0.02)
        return StopEvent(result="slept")

    run = Workflow("w", [work]).run()
    await settle()
    await asyncio.wait_for(run.pause(), 1)
    await asyncio.sleep(0.04)
    assert run.status == "paused"
    run.resume()
    assert await run == "slept"


async def test_a_step_whose_tasks_begin_to_wait_only_after_the_pause_ends_it():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        async def wait(n: int) -> int:
            return (await ctx.wait_for_event(Note, match={"n": n})).n

        await asyncio.sleep(0.01)
        return StopEvent(result=await asyncio.gather(wait(1), wait(2)))

    run = Workflow("w", [work]).run()
    await settle()
    await asyncio.wait_for(run.pause(), 1)
    run.send_event(Note(n=2))
    run.send_event(Note(n=1))
    run.resume()
    assert await run == [1, 2]


async def test_a_pause_waits_for_a_step_that_begins_a_wait_and_goes_on_computing():
    log: list[str] = []

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0.01)
        waiting = ctx.wait_for_event(Note)
        log.append("goes on")
        return StopEvent(result=(await waiting).n)

    run = Workflow("w", [work]).run()
    await settle()
    await asyncio.wait_for(run.pause(), 1)
    assert log == ["goes on"]
    run.send_event(Note(n=4))
    run.resume()
    assert await run == 4


async def test_a_step_that_is_to_be_tried_again_is_not_while_the_run_is_paused():
    attempts: list[int] = []

    @step(retry=Retry(attempts=3, initial=0.01, jitter=0))
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            raise ValueError("once")
        return StopEvent(result=ctx.attempt)

    run = Workflow("w", [work]).run()
    await settle()
    await asyncio.wait_for(run.pause(), 1)
    await asyncio.sleep(0.03)
    assert attempts == [1]
    run.resume()
    assert await run == 2


async def test_a_step_that_fails_while_the_run_is_paused_ends_the_pause_and_the_run():
    @step
    async def work(ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0.01)
        raise ValueError("no")

    run = Workflow("w", [work]).run()
    await settle()
    await asyncio.wait_for(run.pause(), 1)
    assert run.status == "failed"
    with pytest.raises(ValueError, match="no"):
        await run


async def test_a_step_that_stops_the_run_while_it_is_paused_does_so():
    @step
    async def work(ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0.01)
        return StopEvent(result="over")

    run = Workflow("w", [work]).run()
    await settle()
    await asyncio.wait_for(run.pause(), 1)
    assert run.status == "completed"
    assert await run == "over"


async def test_a_pause_waits_for_a_thread():
    log: list[str] = []

    @step
    def work(ctx: Context, ev: StartEvent) -> Note:
        time.sleep(0.05)
        log.append("thread done")
        return Note(n=7)

    @step
    async def end(ev: Note) -> StopEvent:
        return StopEvent(result=ev.n)

    run = Workflow("w", [work, end]).run()
    await asyncio.sleep(0.01)
    await asyncio.wait_for(run.pause(), 2)
    assert (log, run.status) == (["thread done"], "paused")
    run.resume()
    assert await run == 7


async def test_a_run_of_which_nothing_is_left_stalls_when_it_is_resumed_and_not_before():
    @step
    async def work(ev: StartEvent) -> None:
        await asyncio.sleep(0.01)

    run = Workflow("w", [work]).run()
    await settle()
    await run.pause()
    await asyncio.sleep(0.01)
    assert run.status == "paused"
    run.resume()
    with pytest.raises(RunStalled):
        await run


# pause(wait=False) stops them


async def test_steps_in_flight_are_stopped_and_run_again():
    log: list[str] = []
    slow = asyncio.Event()
    run = chain(log, slow.wait).run()
    await settle()
    await asyncio.wait_for(run.pause(wait=False), 1)
    assert (log, run.status) == (["one begins", "one is cancelled"], "paused")
    slow.set()
    run.resume()
    assert await run == 1
    assert log[2:] == ["one begins", "one ends", "two"]


async def test_a_body_that_runs_again_after_a_pause_is_in_the_same_attempt():
    seen: list[tuple[int, str]] = []

    @step(retry=Retry(attempts=2))
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        seen.append((ctx.attempt, ctx.idempotency_key))
        if len(seen) == 1:
            await asyncio.sleep(10)
        return StopEvent()

    run = Workflow("w", [work]).run()
    await settle()
    await run.pause(wait=False)
    run.resume()
    await run
    assert seen[0] == seen[1]
    assert seen[0][0] == 1


async def test_stopped_steps_run_again_before_events_that_wait():
    begun: list[int] = []
    free = asyncio.Event()

    @step
    async def split(ev: StartEvent) -> list[Go]:
        return [Go(n=n) for n in range(3)]

    @step(concurrency=1)
    async def work(ctx: Context, ev: Go) -> StopEvent | None:
        begun.append(ev.n)
        await free.wait()
        return StopEvent() if ev.n == 2 else None

    run = Workflow("w", [split, work]).run()
    await settle()
    await run.pause(wait=False)
    free.set()
    run.resume()
    await run
    assert begun == [0, 0, 1, 2]


async def test_a_resume_before_the_steps_have_stopped_has_them_run_again_all_the_same():
    log: list[str] = []
    slow = asyncio.Event()
    run = chain(log, slow.wait).run()
    await settle()
    pausing = asyncio.ensure_future(run.pause(wait=False))
    await asyncio.sleep(0)
    run.resume()
    slow.set()
    await asyncio.wait_for(pausing, 1)
    assert await run == 1


async def test_a_step_that_cleans_up_when_it_is_stopped_is_waited_for():
    log: list[str] = []

    @step
    async def work(ev: StartEvent) -> StopEvent:
        try:
            if not log:
                await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0.02)
            log.append("cleaned up")
        return StopEvent()

    run = Workflow("w", [work]).run()
    await settle()
    await asyncio.wait_for(run.pause(wait=False), 1)
    assert log == ["cleaned up"]
    run.resume()
    await run


async def test_a_step_that_swallows_its_cancellation_goes_on_and_the_pause_waits_for_it():
    @step
    async def work(ev: StartEvent) -> Go:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(10)
        await asyncio.sleep(0.04)
        return Go(n=5)

    @step
    async def end(ev: Go) -> StopEvent:
        return StopEvent(result=ev.n)

    run = Workflow("w", [work, end]).run()
    waiting = asyncio.ensure_future(run)
    await settle()
    begin = time.monotonic()
    await asyncio.wait_for(run.pause(wait=False), 1)
    assert time.monotonic() - begin >= 0.02
    assert run.status == "paused"
    run.resume()
    assert await waiting == 5


async def test_a_step_that_swallowed_a_pause_is_stopped_by_its_time_limit_later():
    @step(timeout=0.05)
    async def work(ev: StartEvent) -> StopEvent:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(10)
        await asyncio.sleep(10)
        return StopEvent()

    run = Workflow("w", [work]).run()
    await settle()
    run.pause(wait=False)
    await asyncio.sleep(0.01)
    run.resume()
    with pytest.raises(StepTimeout):
        await asyncio.wait_for(run, 2)


async def test_a_step_that_raises_when_it_is_stopped_fails():
    @step
    async def work(ev: StartEvent) -> StopEvent:
        try:
            await asyncio.sleep(10)
        finally:
            raise ValueError("in the clean-up")

    run = Workflow("w", [work]).run()
    await settle()
    await asyncio.wait_for(run.pause(wait=False), 1)
    with pytest.raises(ValueError, match="in the clean-up"):
        await run


async def test_a_thread_that_is_stopped_counts_no_more_and_runs_again():
    begun: list[int] = []
    errors: list[str] = []

    @step
    def work(ctx: Context, ev: StartEvent) -> StopEvent:
        begun.append(1)
        time.sleep(0.05)
        try:
            ctx.set("by", len(begun))
        except RuntimeError as error:
            errors.append(type(error).__name__)
        return StopEvent(result=ctx.get("by"))

    run = Workflow("w", [work]).run()
    await asyncio.sleep(0.02)
    await asyncio.wait_for(run.pause(wait=False), 2)
    assert run.status == "paused"
    run.resume()
    assert await run == 2
    assert errors == ["StepCancelled"]


async def test_the_task_that_awaits_a_paused_run_is_not_cancelled():
    log: list[str] = []
    slow = asyncio.Event()
    run = chain(log, slow.wait).run()

    async def serve() -> Any:
        async with asyncio.timeout(5):
            result = await run
        task = asyncio.current_task()
        assert task is not None
        return result, task.cancelling()

    serving = asyncio.create_task(serve())
    await settle()
    await run.pause(wait=False)
    slow.set()
    run.resume()
    assert await serving == (1, 0)


# From inside a step


async def test_a_step_that_waits_for_its_own_pause_gets_an_error():
    @step
    async def work(ev: StartEvent) -> StopEvent:
        with pytest.raises(RunStalled, match="pause"):
            await runs[0].pause()
        runs[0].resume()
        return StopEvent(result="went on")

    runs = [Workflow("w", [work]).run()]
    assert await runs[0] == "went on"


async def test_a_step_may_pause_its_run_without_waiting_for_it():
    @step
    async def work(ev: StartEvent) -> Go:
        runs[0].pause()
        return Go(n=1)

    @step
    async def end(ev: Go) -> StopEvent:
        return StopEvent(result=ev.n)

    runs = [Workflow("w", [work, end]).run()]
    waiting = asyncio.ensure_future(runs[0])
    await asyncio.sleep(0.01)
    assert runs[0].status == "paused"
    runs[0].resume()
    assert await asyncio.wait_for(waiting, 1) == 1


@pytest.mark.parametrize("waits", [True, False])
async def test_a_step_that_stops_itself_by_a_pause_runs_again(waits: bool):
    begun: list[int] = []

    @step
    async def work(ev: StartEvent) -> StopEvent:
        begun.append(1)
        if len(begun) == 1:
            runs[0].pause(wait=False)
            await asyncio.sleep(0 if not waits else 10)
        return StopEvent(result=len(begun))

    runs = [Workflow("w", [work]).run()]
    waiting = asyncio.ensure_future(runs[0])
    await asyncio.sleep(0.01)
    assert runs[0].status == "paused"
    runs[0].resume()
    assert await asyncio.wait_for(waiting, 1) == 2


async def test_a_step_in_a_thread_may_pause_and_resume_its_run():
    @step
    def work(ev: StartEvent) -> Go:
        runs[0].pause()
        status = runs[0].status
        runs[0].resume()
        assert status == "paused"
        return Go(n=1)

    @step
    async def end(ev: Go) -> StopEvent:
        return StopEvent(result=ev.n)

    runs = [Workflow("w", [work, end]).run()]
    assert await asyncio.wait_for(runs[0], 2) == 1


async def test_a_thread_may_stop_the_steps_of_a_run():
    log: list[str] = []
    slow = asyncio.Event()
    run = chain(log, slow.wait).run()
    await settle()
    await asyncio.to_thread(lambda: run.pause(wait=False))
    await asyncio.wait_for(run.pause(wait=False), 1)
    assert log == ["one begins", "one is cancelled"]
    slow.set()
    await asyncio.to_thread(run.resume)
    assert await asyncio.wait_for(run, 1) == 1


async def test_a_pause_can_be_awaited_on_another_event_loop():
    run = chain([], lambda: asyncio.sleep(0.03)).run()
    await settle()

    def elsewhere() -> str:
        async def main() -> str:
            await asyncio.wait_for(run.pause(), 2)
            return run.status

        return asyncio.run(main())

    assert await asyncio.to_thread(elsewhere) == "paused"
    run.resume()
    assert await run == 1


# Twice, at once, too early, too late


async def test_two_pauses_at_once_are_both_told():
    run = chain([], lambda: asyncio.sleep(0.02)).run()
    await settle()
    await asyncio.wait_for(asyncio.gather(run.pause(), run.pause(), run.pause()), 1)
    await asyncio.wait_for(run.pause(), 1)
    run.resume()
    assert await run == 1


async def test_a_pause_that_stops_the_steps_comes_to_help_one_that_waits_for_them():
    log: list[str] = []
    run = chain(log, lambda: asyncio.sleep(0.2 if len(log) < 2 else 0)).run()
    await settle()
    patient = asyncio.ensure_future(run.pause())
    await settle()
    assert not patient.done()
    await asyncio.wait_for(run.pause(wait=False), 1)
    await asyncio.wait_for(patient, 1)
    run.resume()
    assert await run == 1


async def test_one_resume_ends_any_number_of_pauses():
    run = chain([]).run()
    await run.pause()
    await run.pause(wait=False)
    run.resume()
    assert await asyncio.wait_for(run, 1) == 1


async def test_a_resume_ends_the_waiting_for_a_pause():
    run = chain([], lambda: asyncio.sleep(0.05)).run()
    await settle()
    pausing = asyncio.ensure_future(run.pause())
    await settle()
    run.resume()
    await asyncio.wait_for(pausing, 0.04)
    assert await run == 1


async def test_a_pause_that_was_resumed_before_it_is_awaited_is_over():
    run = chain([], lambda: asyncio.sleep(0.05)).run()
    await settle()
    pausing = run.pause()
    run.resume()
    await asyncio.wait_for(pausing, 0.04)
    assert await run == 1


async def test_a_resume_without_a_pause_changes_nothing():
    run = chain([]).run()
    run.resume()
    assert await run == 1


async def test_a_run_can_be_paused_and_resumed_again_and_again():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        for _ in range(20):
            await asyncio.sleep(0.001)
        return StopEvent(result="done")

    run = Workflow("w", [work]).run()
    await settle()
    for _ in range(50):
        run.pause()
        await asyncio.sleep(0)
        run.resume()
    assert await asyncio.wait_for(run, 2) == "done"


async def test_a_run_that_is_over_cannot_be_paused_or_resumed():
    run = chain([]).run()
    await run
    with pytest.raises(RunEnded, match="pause"):
        run.pause()
    with pytest.raises(RunEnded, match="resume"):
        run.resume()


async def test_whoever_waits_for_a_pause_may_go_away():
    run = chain([], lambda: asyncio.sleep(0.05)).run()
    await settle()
    for _ in range(100):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run.pause(), 0)
    await run.pause()
    run.resume()
    assert await run == 1


# Events that come meanwhile


async def test_events_that_come_while_a_run_is_paused_keep_their_order():
    taken: list[int] = []

    @step
    async def begin(ev: StartEvent) -> Note:
        await asyncio.sleep(0.02)
        return Note(n=1)

    @step(external=True)
    async def take(ev: Note) -> StopEvent | None:
        taken.append(ev.n)
        return StopEvent() if len(taken) == 3 else None

    run = Workflow("w", [begin, take]).run()
    await settle()
    pausing = asyncio.ensure_future(run.pause())
    await settle()
    run.send_event(Note(n=0))
    await pausing
    run.send_event(Note(n=2))
    run.resume()
    await asyncio.wait_for(run, 1)
    assert taken == [0, 1, 2]


async def test_whoever_waits_gets_an_event_that_came_while_the_run_was_paused():
    taken: list[int] = []

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        got = await ctx.wait_for_event(Note, match={"n": 1})
        await asyncio.sleep(0.005)
        return StopEvent(result=got.n)

    @step(external=True)
    async def take(ev: Note) -> None:
        taken.append(ev.n)

    run = Workflow("w", [work, take]).run()
    await settle()
    await run.pause()
    for n in (0, 1, 1):
        run.send_event(Note(n=n))
    assert taken == []
    run.resume()
    assert await run == 1
    assert taken == [0, 1]


async def test_an_event_that_came_before_its_deadline_passed_in_the_pause_is_received():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=(await ctx.wait_for_event(Note, timeout=0.02)).n)

    run = Workflow("w", [work]).run()
    await settle()
    await run.pause()
    run.send_event(Note(n=8))
    await asyncio.sleep(0.03)
    run.resume()
    assert await run == 8


async def test_an_event_for_nobody_is_kept_and_found():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0.02)
        return StopEvent(result=(await ctx.wait_for_event(Note, timeout=1)).n)

    run = Workflow("w", [work]).run()
    await settle()
    pausing = asyncio.ensure_future(run.pause())
    await settle()
    run.send_event(Note(n=9))
    await pausing
    run.resume()
    assert await run == 9


async def test_threads_may_send_to_a_paused_run():
    @step(external=True)
    async def take(ctx: Context, ev: Note) -> StopEvent | None:
        return StopEvent() if ctx.increment("n") == 200 else None

    @step
    async def begin(ev: StartEvent) -> None:
        return None

    run = Workflow("w", [begin, take]).run()
    await settle()
    await run.pause()

    def send() -> None:
        for n in range(50):
            run.send_event(Note(n=n))

    await asyncio.gather(*(asyncio.to_thread(send) for _ in range(4)))
    run.resume()
    await asyncio.wait_for(run, 5)


async def test_a_step_that_sends_what_nobody_accepts_fails_in_a_paused_run_as_in_any():
    class Lost(Event):
        pass

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0.01)
        ctx.send_event(Lost())
        return StopEvent()

    run = Workflow("w", [work]).run()
    await settle()
    await run.pause()
    with pytest.raises(Exception, match="Lost"):
        await run


async def test_a_resume_whose_first_event_fails_the_run_still_tells_everybody():
    class Lost(Event):
        pass

    @step
    async def wait(ctx: Context, ev: StartEvent) -> None:
        with contextlib.suppress(WaitTimeout):
            await ctx.wait_for_event(Lost, match=lambda ev: 1 / 0, timeout=5)

    @step
    async def send(ctx: Context, ev: StartEvent) -> None:
        await asyncio.sleep(0.01)
        ctx.send_event(Lost())
        await asyncio.sleep(0.05)

    run = Workflow("w", [wait, send]).run()
    await settle()
    pausing = asyncio.ensure_future(run.pause())
    await asyncio.sleep(0.02)
    run.send_event(Note())
    run.resume()
    await asyncio.wait_for(pausing, 1)
    with pytest.raises(Exception, match=r"Lost|zero"):
        await asyncio.wait_for(run, 1)


async def test_an_event_that_was_on_its_way_to_a_step_that_is_stopped_stays_the_first():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        got = [(await ctx.wait_for_event(Note)).n for _ in range(2)]
        return StopEvent(result=got)

    run = Workflow("w", [work]).run()
    await settle()
    run.send_event(Note(n=1))
    run.pause(wait=False)
    run.send_event(Note(n=2))
    await asyncio.wait_for(run.pause(), 1)
    run.resume()
    assert await asyncio.wait_for(run, 1) == [1, 2]


# Deadlines


async def test_a_sleep_that_is_over_by_then_ends_at_the_resume():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.sleep(0.5)
        return StopEvent()

    run = Workflow("w", [work]).run()
    await settle()
    await run.pause()
    await asyncio.sleep(0.55)
    begin = time.monotonic()
    run.resume()
    await run
    assert time.monotonic() - begin < 0.45


async def test_a_wait_that_is_over_by_then_times_out_at_the_resume():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        with pytest.raises(WaitTimeout):
            await ctx.wait_for_event(Note, timeout=0.01)
        return StopEvent(result="went on")

    run = Workflow("w", [work]).run()
    await settle()
    await run.pause()
    await asyncio.sleep(0.02)
    assert run.status == "paused"
    run.resume()
    assert await run == "went on"


async def test_the_time_limit_of_a_run_passes_at_the_resume():
    run = chain([]).run()
    assert await run == 1

    @step(external=True)
    async def work(ev: StartEvent) -> None:
        return None

    run = Workflow("w", [work], timeout=0.02).run()
    await settle()
    await run.pause()
    await asyncio.sleep(0.03)
    assert run.status == "paused"
    run.resume()
    with pytest.raises(WorkflowTimeout):
        await run


async def test_a_sleep_that_was_stopped_ends_when_it_would_have():
    begun = 0

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        nonlocal begun
        begun += 1
        await ctx.sleep(0.9)
        return StopEvent(result=begun)

    begin = time.monotonic()
    run = Workflow("w", [work]).run()
    await asyncio.sleep(0.5)
    await run.pause(wait=False)
    run.resume()
    assert await run == 2
    assert 0.89 < time.monotonic() - begin < 1.4


# The end


async def test_cancelling_whoever_awaits_a_paused_run_cancels_it():
    log: list[str] = []
    run = chain(log).run()
    run.pause()
    waiting = asyncio.ensure_future(run)
    await settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (run.status, log) == ("cancelled", [])


async def test_cancelling_whoever_awaits_a_detached_run_leaves_it_paused():
    log: list[str] = []
    run = chain(log).run().detach()
    run.pause()
    waiting = asyncio.ensure_future(run)
    await settle()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert run.status == "paused"
    run.resume()
    assert await asyncio.wait_for(run, 1) == 1


@pytest.mark.parametrize("is_in_flight", [True, False])
async def test_a_paused_run_can_be_cancelled(is_in_flight: bool):
    log: list[str] = []
    run = chain(log, lambda: asyncio.sleep(10)).run()
    if is_in_flight:
        await settle()
    pausing = asyncio.ensure_future(run.pause())
    await settle()
    assert run.cancel()
    await asyncio.wait_for(pausing, 1)
    with pytest.raises(RunCancelled):
        await asyncio.wait_for(run, 1)
    assert run.status == "cancelled"


async def test_a_stop_event_from_outside_ends_a_paused_run():
    run = chain([]).run()
    await run.pause()
    run.send_event(StopEvent(result="stop"))
    assert await asyncio.wait_for(run, 1) == "stop"


async def test_readers_of_a_paused_run_go_on_with_it():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        for n in range(4):
            ctx.write_event_to_stream(n)
            await ctx.sleep(0.005)
        return StopEvent()

    run = Workflow("w", [work]).run()

    async def read() -> list[int]:
        return [n async for n in run.stream_events()]

    readers = [asyncio.create_task(read()) for _ in range(3)]
    await asyncio.sleep(0.002)
    await run.pause()
    await asyncio.sleep(0.01)
    assert not any(reader.done() for reader in readers)
    run.resume()
    assert await asyncio.gather(*readers) == [[0, 1, 2, 3]] * 3
    await run


async def test_many_runs_are_paused_and_resumed_together():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0.002 * (ev.n % 5))
        await ctx.sleep(0.001)
        return StopEvent(result=ev.n)

    workflow = Workflow("w", [work])
    runs = [workflow.run(n=n) for n in range(200)]
    results = asyncio.gather(*runs)
    await settle()
    await asyncio.wait_for(
        asyncio.gather(*(run.pause() for run in runs if run.status in ("running", "waiting"))), 5
    )
    assert {run.status for run in runs} <= {"paused", "completed"}
    for run in runs:
        if run.status == "paused":
            run.resume()
    assert await asyncio.wait_for(results, 5) == list(range(200))


async def test_a_paused_run_starves_nobody():
    @step
    async def spin(ctx: Context, ev: StartEvent | Go) -> Go | StopEvent:
        return Go() if ctx.increment("n") < 200_000 else StopEvent(result="spun")

    @step
    async def rest(ev: StartEvent) -> StopEvent:
        return StopEvent(result="rested")

    paused = Workflow("rest", [rest]).run()
    paused.pause()
    waiting = asyncio.ensure_future(paused)
    run = Workflow("spin", [spin]).run()
    spinning = asyncio.ensure_future(run)
    await settle()
    run.pause()
    passes = 0
    for _ in range(100):
        await asyncio.sleep(0)
        passes += 1
    assert passes == 100
    run.resume()
    paused.resume()
    assert await asyncio.gather(spinning, waiting) == ["spun", "rested"]


def test_a_paused_run_whose_loop_was_closed_can_be_cancelled_and_not_resumed():
    run = None

    async def main() -> None:
        nonlocal run
        run = chain([]).run()
        await run.pause()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    assert run is not None
    with pytest.raises(EventLoopError):
        run.resume()
    with pytest.raises(EventLoopError):
        run.pause()
    assert run.cancel()
    assert run.status == "cancelled"


def test_asyncio_run_ends_although_a_run_is_paused():
    printed = run_script(
        """
        @step
        async def work(ctx: Context, ev: StartEvent) -> StopEvent:
            await ctx.wait_for_event(A)
            return StopEvent()
        async def main():
            run = Workflow("w", [work]).run()
            await asyncio.sleep(0.01)
            await run.pause()
            run.send_event(A())
            print(run.status)
        asyncio.run(main())
        """,
        debug=True,
    )
    assert printed == "paused"


async def test_a_paused_run_that_nobody_knows_is_collected():
    class Big(Event):
        pass

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.wait_for_event(Note)
        return StopEvent()

    async def leave() -> tuple[Any, Any]:
        run = Workflow("w", [work]).run()
        waiting = asyncio.ensure_future(run)
        await settle()
        await run.pause()
        event = Big()
        run.send_event(event)
        waiting.cancel()
        await asyncio.wait([waiting])
        return weakref.ref(run), weakref.ref(event)

    run, event = await leave()
    await settle()
    gc.collect()
    assert (run(), event()) == (None, None)


def test_pausing_works_under_uvloop():
    printed = run_script(
        """
        import uvloop
        @step(retry=Retry(attempts=3, initial=0.01))
        async def work(ctx: Context, ev: StartEvent) -> StopEvent:
            got = await ctx.wait_for_event(A)
            await ctx.sleep(0.01)
            if ctx.attempt < 3:
                raise ValueError(ctx.attempt)
            return StopEvent(result=got.n)
        async def main():
            run = Workflow("w", [work]).run()
            await asyncio.sleep(0.01)
            await run.pause(wait=False)
            run.send_event(A(n=3))
            run.resume()
            await asyncio.sleep(0.005)
            await run.pause()
            run.resume()
            print(await asyncio.wait_for(run, 3))
        uvloop.run(main())
        """
    )
    assert printed == "3"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["pause", "stop", "resume", "send", "turn", "thread"]), max_size=25)
)
def test_whatever_is_done_to_a_run_it_takes_every_event_once_and_in_order(deeds: list[str]):
    taken: list[int] = []
    received: list[int] = []

    @step(external=True, concurrency=1)
    async def take(ev: Note) -> StopEvent | None:
        await asyncio.sleep(0)
        taken.append(ev.n)
        return StopEvent() if ev.n < 0 else None

    @step
    async def wait(ctx: Context, ev: StartEvent) -> None:
        got: list[int] = []
        while True:
            got.append((await ctx.wait_for_event(Go)).n)
            received[:] = got

    async def main() -> int:
        run = Workflow("w", [take, wait]).run()
        sent = 0
        for deed in deeds:
            if deed == "pause":
                run.pause()
            elif deed == "stop":
                run.pause(wait=False)
            elif deed == "resume":
                run.resume()
            elif deed == "turn":
                await asyncio.sleep(0)
            else:
                event = [Note(n=sent), Go(n=sent)]
                for ev in event:
                    if deed == "thread":
                        thread = threading.Thread(target=run.send_event, args=(ev,))
                        thread.start()
                        thread.join()
                    else:
                        run.send_event(ev)
                sent += 1
        run.resume()
        for _ in range(40):
            await asyncio.sleep(0)
        run.send_event(Note(n=-1))
        await asyncio.wait_for(run, 5)
        return sent

    sent = asyncio.run(main())
    assert sorted(set(taken) - {-1}) == list(range(sent))
    assert received == list(range(sent))
    firsts = list(dict.fromkeys(taken))
    assert firsts == sorted(firsts, key=lambda n: (n < 0, n))

"""Retries: how often, when, for which failures, and what reaches the user."""

import asyncio
import gc
import logging
import re
import threading
import time
import traceback
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isolated import run_script

from treadle import (
    Context,
    Event,
    Retry,
    RunCancelled,
    RunEnded,
    StartEvent,
    StepTimeout,
    StopEvent,
    Workflow,
    WorkflowTimeout,
    step,
)


class Go(Event):
    n: int = 0


def quick(attempts: int = 3, **options: Any) -> Retry:
    return Retry(attempts, **{"initial": 0.001, "jitter": 0.0, **options})


def failing(times: int, attempts: list[int], error: Any = ValueError, **options: Any) -> Workflow:
    """A step that fails some times before it succeeds."""

    @step(**options)
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        attempts.append(ctx.attempt)
        if len(attempts) <= times:
            raise error(f"failure {len(attempts)}")
        return StopEvent(result=ctx.attempt)

    return Workflow("failing", [work])


# How often


async def test_a_step_is_tried_again_until_it_succeeds():
    attempts: list[int] = []
    assert await failing(2, attempts, retry=quick(5)).run() == 3
    assert attempts == [1, 2, 3]


async def test_a_step_is_tried_no_more_often_than_allowed():
    attempts: list[int] = []
    with pytest.raises(ValueError, match="failure 3"):
        await failing(9, attempts, retry=quick(3)).run()
    assert attempts == [1, 2, 3]


@pytest.mark.parametrize("retry", [None, Retry(1)])
async def test_a_step_is_tried_once_without_a_policy_or_with_one_attempt(retry: Retry | None):
    attempts: list[int] = []
    with pytest.raises(ValueError, match="failure 1"):
        await failing(1, attempts, retry=retry).run()
    assert attempts == [1]


async def test_the_policy_of_a_workflow_is_for_steps_without_one_of_their_own():
    tried: dict[str, int] = {"own": 0, "default": 0}

    @step(retry=quick(2))
    async def own(ctx: Context, ev: StartEvent) -> Go:
        tried["own"] += 1
        if ctx.attempt < 2:
            raise ValueError("own")
        return Go()

    @step
    async def default(ctx: Context, ev: Go) -> StopEvent:
        tried["default"] += 1
        if ctx.attempt < 4:
            raise ValueError("default")
        return StopEvent()

    await Workflow("w", [own, default], retry=quick(4)).run()
    assert tried == {"own": 2, "default": 4}


async def test_a_step_can_opt_out_of_the_policy_of_its_workflow():
    attempts: list[int] = []

    @step(retry=Retry(1))
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        attempts.append(ctx.attempt)
        raise ValueError("once")

    with pytest.raises(ValueError, match="once"):
        await Workflow("w", [work], retry=quick(5)).run()
    assert attempts == [1]


async def test_a_class_takes_a_policy_as_well():
    class Flaky(Workflow):
        @step
        async def work(self, ctx: Context, ev: StartEvent) -> StopEvent:
            if ctx.attempt < 3:
                raise ValueError("no")
            return StopEvent(result=ctx.attempt)

    assert await Flaky(retry=quick(3)).run() == 3


async def test_each_event_has_attempts_of_its_own():
    attempts: dict[int, list[int]] = {}

    @step
    async def split(ev: StartEvent) -> list[Go]:
        return [Go(n=n) for n in range(50)]

    @step(retry=quick(4))
    async def work(ctx: Context, ev: Go) -> StopEvent | None:
        attempts.setdefault(ev.n, []).append(ctx.attempt)
        if ctx.attempt < 1 + ev.n % 4:
            raise ValueError("again")
        return StopEvent() if ctx.increment("done") == 50 else None

    await asyncio.wait_for(Workflow("w", [split, work]).run(), 5)
    assert attempts == {n: list(range(1, 2 + n % 4)) for n in range(50)}


async def test_a_step_finds_what_it_had_set_in_the_attempt_before():
    @step(retry=quick())
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.set("n", ctx.get("n", 0) + 1)
        if ctx.attempt < 3:
            raise ValueError("no")
        return StopEvent(result=ctx.get("n"))

    assert await Workflow("w", [work]).run() == 3


async def test_the_idempotency_key_is_the_same_in_every_attempt():
    keys: set[str] = set()

    @step(retry=quick())
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        keys.add(ctx.idempotency_key)
        if ctx.attempt < 3:
            raise ValueError("no")
        return StopEvent()

    await Workflow("w", [work]).run()
    assert len(keys) == 1


# When


async def delays(caplog: pytest.LogCaptureFixture, retry: Retry) -> list[float]:
    """The delays in milliseconds, as the log tells them."""
    caplog.clear()
    with caplog.at_level(logging.DEBUG, logger="treadle"), pytest.raises(ValueError, match="fail"):
        await failing(99, [], retry=retry).run()
    found = re.findall(r"again in ([0-9.]+) s", caplog.text)
    return [round(float(seconds) * 1000, 3) for seconds in found]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"backoff": "constant", "initial": 0.003}, [3, 3, 3, 3]),
        ({"backoff": "linear", "initial": 0.003}, [3, 6, 9, 12]),
        ({"backoff": "exponential", "initial": 0.003}, [3, 6, 12, 24]),
        ({"backoff": "exponential", "initial": 0.002, "factor": 3}, [2, 6, 18, 54]),
        ({"backoff": "exponential", "initial": 0.003, "max": 0.01}, [3, 6, 10, 10]),
        ({"backoff": "linear", "initial": 0.02, "max": 0.01}, [10, 10, 10, 10]),
        ({"backoff": "exponential", "initial": 0}, [0, 0, 0, 0]),
        ({"backoff": "exponential", "initial": 0.001, "factor": 1}, [1, 1, 1, 1]),
    ],
)
async def test_the_delay_grows_as_the_policy_says(
    caplog: pytest.LogCaptureFixture, options: dict[str, Any], expected: list[float]
):
    assert await delays(caplog, Retry(5, jitter=0, **options)) == expected


async def test_a_delay_is_really_waited_for():
    begun: list[float] = []

    @step(retry=Retry(3, backoff="constant", initial=0.03, jitter=0))
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        begun.append(time.monotonic())
        if ctx.attempt < 3:
            raise ValueError("no")
        return StopEvent()

    await Workflow("w", [work]).run()
    pauses = [later - earlier for earlier, later in pairwise(begun)]
    assert all(0.029 < pause < 0.3 for pause in pauses)


async def test_jitter_varies_the_delay_both_ways_and_no_further(caplog: pytest.LogCaptureFixture):
    seen = await delays(caplog, Retry(41, backoff="constant", initial=0.01, jitter=0.5))
    assert all(5 <= delay <= 15 for delay in seen)
    assert len(set(seen)) > 4
    assert min(seen) < 10 < max(seen)


async def test_jitter_takes_no_delay_beyond_the_longest(caplog: pytest.LogCaptureFixture):
    retry = Retry(41, backoff="constant", initial=0.004, max=0.004, jitter=1)
    assert all(0 <= delay <= 4 for delay in await delays(caplog, retry))


async def test_no_delay_stays_none_however_often_the_step_is_tried():
    attempts: list[int] = []
    begin = time.monotonic()
    assert await failing(1200, attempts, retry=Retry(2000, initial=0)).run() == 1201
    assert time.monotonic() - begin < 5


async def test_after_the_total_time_no_further_attempt_begins():
    attempts: list[int] = []
    retry = Retry(99, backoff="constant", initial=0.02, jitter=0, total_timeout=0.05)
    with pytest.raises(ValueError, match="failure 3"):
        await failing(99, attempts, retry=retry).run()
    assert attempts == [1, 2, 3]


async def test_an_attempt_that_would_be_too_late_is_given_up_at_once():
    attempts: list[int] = []
    retry = Retry(3, initial=60, total_timeout=1)
    begin = time.monotonic()
    with pytest.raises(ValueError, match="failure 1"):
        await failing(99, attempts, retry=retry).run()
    assert time.monotonic() - begin < 1


async def test_the_run_waits_for_a_retry_instead_of_stalling():
    run = failing(1, [], retry=Retry(2, initial=0.02)).run()
    await asyncio.sleep(0.01)
    assert run.status == "waiting"
    assert await run == 2


async def test_the_time_limit_of_a_run_passes_while_a_retry_waits():
    @step(retry=Retry(9, initial=10))
    async def work(ev: StartEvent) -> StopEvent:
        raise ValueError("no")

    with pytest.raises(WorkflowTimeout):
        await Workflow("w", [work], timeout=0.02).run()


async def test_a_run_is_cancelled_while_a_retry_waits():
    run = failing(9, [], retry=Retry(9, initial=10)).run()
    await asyncio.sleep(0.005)
    run.cancel()
    with pytest.raises(RunCancelled):
        await asyncio.wait_for(run, 1)


async def test_another_step_ends_the_run_while_a_retry_waits():
    @step(retry=Retry(9, initial=10))
    async def work(ev: StartEvent) -> StopEvent:
        raise ValueError("no")

    @step
    async def stop(ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0.01)
        return StopEvent(result="over")

    assert await asyncio.wait_for(Workflow("w", [work, stop]).run(), 1) == "over"


# For which failures


class Broken(ConnectionError):
    pass


@pytest.mark.parametrize(
    ("options", "error", "tries"),
    [
        ({"on": ConnectionError}, ConnectionError, 3),
        ({"on": ConnectionError}, Broken, 3),
        ({"on": (TimeoutError, ConnectionError)}, Broken, 3),
        ({"on": TimeoutError}, ValueError, 1),
        ({"on": ()}, ValueError, 1),
        ({"unless": ValueError}, ValueError, 1),
        ({"unless": ValueError}, KeyError, 3),
        ({"on": ConnectionError, "unless": Broken}, Broken, 1),
        ({"on": ConnectionError, "unless": (Broken, KeyError)}, ConnectionError, 3),
        ({"retry_if": lambda error: "failure" in str(error)}, ValueError, 3),
        ({"retry_if": lambda error: False}, ValueError, 1),
        ({"on": KeyError, "retry_if": lambda error: True}, ValueError, 1),
        ({"unless": ValueError, "retry_if": lambda error: True}, ValueError, 1),
    ],
)
async def test_only_some_failures_are_worth_another_attempt(
    options: dict[str, Any], error: type[Exception], tries: int
):
    attempts: list[int] = []
    with pytest.raises(error):
        await failing(99, attempts, error, retry=quick(3, **options)).run()
    assert len(attempts) == tries


async def test_the_condition_is_asked_with_each_failure_but_the_last():
    asked: list[str] = []

    def ask(error: Exception) -> bool:
        asked.append(str(error))
        return True

    with pytest.raises(ValueError, match="failure 3"):
        await failing(9, [], retry=quick(3, retry_if=ask)).run()
    assert asked == ["failure 1", "failure 2"]


async def test_a_condition_that_raises_fails_the_run_and_names_the_failure_as_its_cause():
    def ask(error: Exception) -> bool:
        raise ZeroDivisionError("in the condition")

    attempts: list[int] = []
    with pytest.raises(ZeroDivisionError, match="in the condition") as caught:
        await failing(9, attempts, retry=quick(3, retry_if=ask)).run()
    assert isinstance(caught.value.__cause__, ValueError)
    assert "attempt 1" in caught.value.__notes__[-1]
    assert attempts == [1]


async def test_a_condition_that_ends_the_run_is_heard():
    def ask(error: Exception) -> bool:
        run.cancel()
        return True

    run = failing(9, [], retry=quick(3, retry_if=ask)).run()
    with pytest.raises(RunCancelled):
        await asyncio.wait_for(run, 1)


async def test_a_time_limit_of_a_step_is_a_failure_like_others():
    attempts: list[int] = []

    @step(timeout=0.01, retry=quick(3))
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            await asyncio.sleep(10)
        return StopEvent(result=ctx.attempt)

    assert await asyncio.wait_for(Workflow("w", [work]).run(), 2) == 3
    assert attempts == [1, 2, 3]


async def test_a_step_that_takes_too_long_each_time_fails_with_its_time_limit():
    @step(timeout=0.005, retry=quick(2, on=StepTimeout))
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(10)
        return StopEvent()

    with pytest.raises(StepTimeout, match="work") as caught:
        await asyncio.wait_for(Workflow("w", [work]).run(), 2)
    assert any("attempt 1" in note for note in caught.value.__notes__)


async def test_a_thread_that_takes_too_long_is_tried_again():
    @step(timeout=1, retry=quick(2))
    def work(ctx: Context, ev: StartEvent) -> StopEvent:
        if ctx.attempt == 1:
            time.sleep(1.5)
        return StopEvent(result=ctx.attempt)

    assert await asyncio.wait_for(Workflow("w", [work]).run(), 20) == 2


async def test_a_cancellation_is_never_retried():
    attempts: list[int] = []
    with pytest.raises(RunCancelled):
        await failing(9, attempts, asyncio.CancelledError, retry=quick(3)).run()
    assert attempts == [1]


@pytest.mark.parametrize("name", ["KeyboardInterrupt", "SystemExit", "Own"])
def test_what_is_no_exception_is_never_retried(name: str):
    printed = run_script(
        f"""
        class Own(BaseException):
            pass
        @step(retry=Retry(3, initial=0))
        async def work(ctx: Context, ev: StartEvent) -> StopEvent:
            print("attempt", ctx.attempt)
            raise {name}()
        async def main():
            await Workflow("w", [work]).run()
        try:
            asyncio.run(main())
        except {name}:
            print("raised")
        """,
        noise=True,
    )
    assert printed == "attempt 1\nraised"


async def test_a_condition_that_is_interrupted_is_not_swallowed():
    class Stop(BaseException):
        pass

    def ask(error: Exception) -> bool:
        raise Stop

    with pytest.raises(Stop):
        await failing(9, [], retry=quick(3, retry_if=ask)).run()


# What kind of step


async def test_a_thread_is_tried_again_and_holds_none_meanwhile():
    threads: list[int] = []

    @step(retry=quick(3))
    def work(ctx: Context, ev: StartEvent) -> StopEvent:
        threads.append(threading.get_ident())
        if ctx.attempt < 3:
            raise ValueError("no")
        return StopEvent(result=ctx.attempt)

    assert await Workflow("w", [work]).run() == 3
    assert threading.get_ident() not in threads


async def test_an_inline_step_is_tried_again():
    @step(inline=True, retry=quick(3))
    def work(ctx: Context, ev: StartEvent) -> StopEvent:
        if ctx.attempt < 3:
            raise ValueError("no")
        return StopEvent(result=ctx.attempt)

    assert await Workflow("w", [work]).run() == 3


async def test_a_generator_is_tried_again_and_emits_nothing_twice():
    taken: list[int] = []

    @step(retry=quick(3))
    def produce(ctx: Context, ev: StartEvent) -> Iterator[Go]:
        for n in range(6):
            if n == 2 * ctx.attempt:
                raise ValueError("no")
            yield Go(n=n)

    @step
    async def take(ctx: Context, ev: Go) -> StopEvent | None:
        taken.append(ev.n)
        return StopEvent() if ev.n == 5 else None

    await asyncio.wait_for(Workflow("w", [produce, take]).run(), 2)
    assert taken == list(range(6))


async def test_an_asynchronous_generator_is_tried_again_and_emits_nothing_twice():
    taken: list[int] = []
    closed: list[int] = []

    @step(retry=quick(3))
    async def produce(ctx: Context, ev: StartEvent) -> AsyncIterator[Go]:
        try:
            for n in range(6):
                if n == 2 * ctx.attempt:
                    raise ValueError("no")
                yield Go(n=n)
                await asyncio.sleep(0)
        finally:
            closed.append(ctx.attempt)

    @step
    async def take(ctx: Context, ev: Go) -> StopEvent | None:
        taken.append(ev.n)
        return StopEvent() if ev.n == 5 else None

    await asyncio.wait_for(Workflow("w", [produce, take]).run(), 2)
    assert taken == list(range(6))
    assert closed[:2] == [1, 2]


async def test_a_retry_holds_no_place_in_the_concurrency_of_its_step():
    begun: list[tuple[int, int]] = []

    @step
    async def split(ev: StartEvent) -> list[Go]:
        return [Go(n=n) for n in range(3)]

    @step(concurrency=1, retry=Retry(2, initial=0.02, jitter=0))
    async def work(ctx: Context, ev: Go) -> StopEvent | None:
        begun.append((ev.n, ctx.attempt))
        if ev.n == 0 and ctx.attempt == 1:
            raise ValueError("no")
        return StopEvent() if ev.n == 0 else None

    await asyncio.wait_for(Workflow("w", [split, work]).run(), 2)
    assert begun == [(0, 1), (1, 1), (2, 1), (0, 2)]


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_no_more_bodies_run_at_once_than_allowed_however_many_are_retried(limit: int):
    running, most = 0, 0

    @step
    async def split(ev: StartEvent) -> list[Go]:
        return [Go(n=n) for n in range(30)]

    @step(concurrency=limit, retry=Retry(4, initial=0.001))
    async def work(ctx: Context, ev: Go) -> StopEvent | None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(0.001)
            if (ev.n + ctx.attempt) % 3:
                raise ValueError("no")
        finally:
            running -= 1
        return StopEvent() if ctx.increment("done") == 30 else None

    await asyncio.wait_for(Workflow("w", [split, work]).run(), 10)
    assert most == limit


async def test_many_retries_hold_no_thread_while_they_wait():
    begun = 0

    @step
    async def split(ev: StartEvent) -> list[Go]:
        return [Go(n=n) for n in range(100)]

    @step(retry=Retry(2, initial=0.1, jitter=0))
    def work(ctx: Context, ev: Go) -> StopEvent | None:
        nonlocal begun
        begun += 1
        if ctx.attempt == 1:
            raise ValueError("no")
        return StopEvent() if ctx.increment("done") == 100 else None

    run = Workflow("w", [split, work]).run()
    waiting = asyncio.ensure_future(run)
    await asyncio.sleep(0.08)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "a thread is free"), 0.05)
    await asyncio.wait_for(waiting, 5)
    assert begun == 200


async def test_a_step_that_awaits_a_run_tries_that_again_as_a_whole():
    starts = 0

    @step
    async def flaky(ev: StartEvent) -> StopEvent:
        nonlocal starts
        starts += 1
        if starts < 3:
            raise ValueError("no")
        return StopEvent(result=starts)

    child = Workflow("child", [flaky])

    @step(retry=quick(3))
    async def work(ev: StartEvent) -> StopEvent:
        return StopEvent(result=await child.run())

    assert await Workflow("w", [work]).run() == 3


async def test_a_context_of_an_earlier_attempt_keeps_its_attempt():
    contexts: list[Context] = []

    @step(retry=quick(2))
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        contexts.append(ctx)
        if ctx.attempt == 1:
            raise ValueError("no")
        return StopEvent(result=[ctx.attempt for ctx in contexts])

    assert await Workflow("w", [work]).run() == [1, 2]


async def test_a_task_that_an_earlier_attempt_left_behind_harms_no_later_one():
    async def wait(ctx: Context) -> None:
        await ctx.wait_for_event(Go)

    @step(retry=quick(3))
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        tasks.append(asyncio.create_task(wait(ctx)))
        await asyncio.sleep(0)
        if ctx.attempt < 3:
            raise ValueError("no")
        for n in range(3):
            runs[0].send_event(Go(n=n))
        await asyncio.wait(tasks)
        await ctx.sleep(0.001)
        return StopEvent(result=ctx.attempt)

    tasks: list[asyncio.Task[None]] = []
    runs = [Workflow("w", [work]).run()]
    assert await asyncio.wait_for(runs[0], 2) == 3


# What reaches the user


async def test_the_last_exception_reaches_the_user_with_a_note_for_each_earlier_attempt():
    run = failing(9, [], retry=quick(3)).run()
    with pytest.raises(ValueError, match="failure 3") as caught:
        await run
    notes = caught.value.__notes__
    assert notes[:2] == [
        "attempt 1: ValueError: failure 1",
        "attempt 2: ValueError: failure 2",
    ]
    assert re.fullmatch(r'in step "work" for event .*, attempt 3, run .* "failing"', notes[2])
    assert len(notes) == 3


async def test_the_traceback_leads_to_the_step_and_does_not_grow():
    run = failing(9, [], retry=quick(3)).run()
    lengths = set()
    for _ in range(5):
        with pytest.raises(ValueError, match="failure 3") as caught:
            await run
        frames = traceback.extract_tb(caught.value.__traceback__)
        assert frames[-1].name == "work"
        lengths.add(len(frames))
        assert len(caught.value.__notes__) == 3
    assert len(lengths) == 1


async def test_of_very_many_attempts_the_last_ones_are_noted():
    with pytest.raises(ValueError, match="failure 300") as caught:
        await failing(999, [], retry=Retry(300, initial=0)).run()
    notes = caught.value.__notes__
    assert notes[0] == "199 earlier attempts failed as well"
    assert notes[1] == "attempt 200: ValueError: failure 200"
    assert len(notes) == 102


async def test_an_exception_that_cannot_be_shown_is_noted_all_the_same():
    class Shy(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

    with pytest.raises(Shy) as caught:
        await failing(9, [], Shy, retry=quick(2)).run()
    assert caught.value.__notes__[0].startswith("attempt 1: ")
    assert "Shy" in caught.value.__notes__[0]


async def test_a_long_text_of_an_exception_is_cut_short_in_a_note():
    @step(retry=quick(2))
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        raise ValueError("ö" * 1_000_000)

    with pytest.raises(ValueError, match="ö") as caught:
        await Workflow("w", [work]).run()
    assert len(caught.value.__notes__[0]) < 1100


async def test_an_attempt_is_logged(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG, logger="treadle"):
        await failing(1, [], retry=quick(2)).run()
    assert re.search(r'tries step "work" again in 0.001 s: attempt 1: ValueError', caplog.text)


async def test_what_an_earlier_attempt_raised_is_kept_until_the_step_is_done():
    class Heavy(Exception):
        pass

    known: list[weakref.ref[Heavy]] = []

    @step(retry=Retry(2, initial=0))
    async def work(ctx: Context, ev: StartEvent) -> Go:
        if ctx.attempt == 1:
            error = Heavy()
            known.append(weakref.ref(error))
            raise error
        return Go()

    @step
    async def wait(ctx: Context, ev: Go) -> StopEvent:
        gc.collect()
        return StopEvent(result=known[0]() is None)

    assert await Workflow("w", [work, wait]).run() is True


async def test_a_run_is_collected_while_its_retry_waits():
    async def leave() -> weakref.ref[Any]:
        run = failing(9, [], retry=Retry(9, initial=0.01)).run()
        await asyncio.sleep(0.005)
        run.cancel()
        with pytest.raises(RunCancelled):
            await run
        return weakref.ref(run)

    left = await leave()
    await asyncio.sleep(0)
    gc.collect()
    assert left() is None


async def test_a_context_of_a_run_that_is_over_says_so_in_a_later_attempt_too():
    contexts: list[Context] = []

    @step(retry=quick(2))
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        contexts.append(ctx)
        if ctx.attempt == 1:
            raise ValueError("no")
        return StopEvent()

    await Workflow("w", [work]).run()
    for ctx in contexts:
        with pytest.raises(RunEnded):
            ctx.set("k", 1)


def test_retries_work_in_debug_mode_and_leave_no_noise():
    printed = run_script(
        """
        @step(retry=Retry(3, initial=0.002), timeout=0.05)
        async def work(ctx: Context, ev: StartEvent) -> B:
            if ctx.attempt == 1:
                await asyncio.sleep(1)
            if ctx.attempt == 2:
                raise ValueError("no")
            return B(n=ctx.attempt)
        @step(retry=Retry(2, initial=0))
        def thread(ctx: Context, ev: B) -> StopEvent:
            if ctx.attempt == 1:
                raise ValueError("no")
            return StopEvent(result=ev.n)
        async def main():
            print(await asyncio.gather(*(Workflow("w", [work, thread]).run() for _ in range(5))))
        asyncio.run(main())
        """,
        debug=True,
    )
    assert printed == "[3, 3, 3, 3, 3]"


@settings(max_examples=50, deadline=None)
@given(
    attempts=st.integers(1, 6),
    failures=st.integers(0, 8),
    kind=st.sampled_from(["async", "inline", "suspends"]),
)
def test_a_step_begins_as_often_as_it_has_to(attempts: int, failures: int, kind: str):
    begun: list[int] = []

    def body(ctx: Context) -> StopEvent:
        begun.append(ctx.attempt)
        if len(begun) <= failures:
            raise ValueError(f"failure {len(begun)}")
        return StopEvent(result=ctx.attempt)

    policy = Retry(attempts, initial=0)
    functions: dict[str, Callable[..., Any]] = {}

    @step(retry=policy, name="work")
    async def plain(ctx: Context, ev: StartEvent) -> StopEvent:
        return body(ctx)

    @step(retry=policy, name="work", inline=True)
    def inline(ctx: Context, ev: StartEvent) -> StopEvent:
        return body(ctx)

    @step(retry=policy, name="work")
    async def suspends(ctx: Context, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0)
        return body(ctx)

    functions = {"async": plain, "inline": inline, "suspends": suspends}

    async def main() -> Any:
        return await asyncio.wait_for(Workflow("w", [functions[kind]]).run(), 5)

    if failures < attempts:
        assert asyncio.run(main()) == failures + 1
    else:
        with pytest.raises(ValueError, match=f"failure {attempts}") as caught:
            asyncio.run(main())
        assert len(caught.value.__notes__) == attempts
    assert begun == list(range(1, min(attempts, failures + 1) + 1))


# How a policy is made


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"attempts": 0}, ValueError, "attempts"),
        ({"attempts": -1}, ValueError, "attempts"),
        ({"attempts": 2**32}, ValueError, "attempts"),
        ({"attempts": 10**5000}, ValueError, "attempts"),
        ({"attempts": 2.0}, TypeError, "attempts"),
        ({"attempts": True}, TypeError, "attempts"),
        ({"attempts": "3"}, TypeError, "attempts"),
        ({"backoff": "fast"}, ValueError, "backoff.*constant, linear, exponential"),
        ({"backoff": None}, ValueError, "backoff"),
        ({"backoff": []}, ValueError, "backoff"),
        ({"initial": -1}, ValueError, "initial"),
        ({"initial": "1"}, TypeError, "initial"),
        ({"initial": False}, TypeError, "initial"),
        ({"initial": float("nan")}, ValueError, "initial"),
        ({"initial": 10**400}, ValueError, "initial"),
        ({"max": 0}, ValueError, "max"),
        ({"factor": 0.5}, ValueError, "factor"),
        ({"factor": "2"}, TypeError, "factor"),
        ({"factor": float("nan")}, ValueError, "factor"),
        ({"factor": 10**400}, ValueError, "factor"),
        ({"jitter": 1.5}, ValueError, "jitter"),
        ({"jitter": -0.1}, ValueError, "jitter"),
        ({"jitter": True}, TypeError, "jitter"),
        ({"on": ValueError("x")}, TypeError, "on: classes of exceptions"),
        ({"on": [ValueError]}, TypeError, "on"),
        ({"on": (ValueError, "KeyError")}, TypeError, "on.*KeyError"),
        ({"on": int}, TypeError, "on"),
        ({"on": None}, TypeError, "on"),
        ({"on": KeyboardInterrupt}, TypeError, "on: KeyboardInterrupt.*never"),
        ({"on": (ValueError, asyncio.CancelledError)}, TypeError, "on: CancelledError.*never"),
        ({"unless": "ValueError"}, TypeError, "unless"),
        ({"retry_if": "always"}, TypeError, "retry_if"),
        ({"total_timeout": 0}, ValueError, "total_timeout"),
        ({"total_timeout": "1"}, TypeError, "total_timeout"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], error: type[Exception], text: str):
    with pytest.raises(error, match=text):
        Retry(**options)


def test_an_option_that_does_not_exist_is_an_error():
    with pytest.raises(TypeError, match="delay"):
        Retry(delay=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("retry", [3, True, {"attempts": 3}, Retry, "exponential"])
def test_what_is_no_policy_is_an_error_that_says_how_to_make_one(retry: Any):
    with pytest.raises(TypeError, match=r"retry: a Retry expected.*Retry\(attempts="):
        step(retry=retry)
    with pytest.raises(TypeError, match="retry: a Retry expected"):
        Workflow("w", [], retry=retry)


def test_a_policy_shows_what_was_given():
    assert repr(Retry()) == "Retry(attempts=3)"
    shown = repr(Retry(5, initial=0.2, on=(ConnectionError, TimeoutError), unless=KeyError))
    assert shown == (
        "Retry(attempts=5, initial=0.2, on=(ConnectionError, TimeoutError), unless=(KeyError,))"
    )


async def test_one_policy_serves_any_number_of_steps_and_workflows():
    retry = quick(2)
    for _ in range(3):
        assert await failing(1, [], retry=retry).run() == 2


@pytest.mark.parametrize(
    "extreme",
    [
        {"initial": float("inf"), "max": 0.001},
        {"initial": 1e-9},
        {"factor": float("inf"), "max": 0.001},
        {"max": float("inf")},
        {"total_timeout": float("inf")},
        {"total_timeout": 1e300},
    ],
)
async def test_extreme_numbers_do_no_harm(extreme: dict[str, Any]):
    retry = Retry(4, **{"initial": 0.001, **extreme})
    assert await asyncio.wait_for(failing(3, [], retry=retry).run(), 5) == 4


async def test_a_delay_without_end_waits_for_the_end_of_the_run():
    run = failing(1, [], retry=Retry(2, initial=float("inf"), max=float("inf"))).run()
    await asyncio.sleep(0.01)
    assert run.status == "waiting"
    run.cancel()

"""Retries that the exception decides on, and what a body knows that is tried again."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from treadle import (
    Context,
    Engine,
    Event,
    NonRetryable,
    Retry,
    RetryFailed,
    StartEvent,
    StepFailed,
    StopEvent,
    StoredError,
    Workflow,
    failure_of,
    step,
)
from treadle.testing import ManualClock


class Busy(Exception):
    def __init__(self, retry_after: float) -> None:
        super().__init__(f"busy for {retry_after} s")
        self.retry_after = retry_after


class CardDeclined(NonRetryable, ValueError):
    pass


class Go(Event):
    pass


def raising(error: BaseException, retry: Retry, attempts: list[int]) -> Workflow:
    @step(retry=retry)
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            raise error
        return StopEvent(result=ctx.attempt)

    return Workflow("raising", [work])


# The delay


async def test_the_delay_is_what_the_function_of_the_exception_returns():
    asked: list[tuple[str, int]] = []

    def delay(error: Busy, attempt: int) -> float:
        asked.append((str(error), attempt))
        return error.retry_after

    with ManualClock() as clock:
        run = raising(Busy(7200), Retry(5, delay=delay, max=1, jitter=1), []).run()
        await clock.advance(seconds=7200)
        await clock.advance(seconds=7199)
        assert run.status == "waiting"
        await clock.advance(seconds=1)
        assert await run == 3
    assert asked == [("busy for 7200 s", 1), ("busy for 7200 s", 2)]


async def test_a_delay_may_be_a_timedelta_and_none_leaves_it_to_the_policy():
    def delay(error: Exception, attempt: int) -> timedelta | None:
        return timedelta(hours=1) if attempt == 1 else None

    with ManualClock() as clock:
        run = raising(Busy(1), Retry(3, delay=delay, initial=5, factor=1, jitter=0), []).run()
        await clock.advance(hours=1)
        await clock.advance(seconds=4)
        assert run.status == "waiting"
        await clock.advance(seconds=1)
        assert await run == 3


async def test_a_delay_is_not_asked_for_after_the_last_attempt():
    asked: list[int] = []

    def delay(error: Exception, attempt: int) -> float:
        asked.append(attempt)
        return 0

    with pytest.raises(Busy):
        await raising(Busy(0), Retry(2, delay=delay), []).run()
    assert asked == [1]


async def test_a_delay_beyond_the_total_time_is_no_further_attempt():
    attempts: list[int] = []
    retry = Retry(3, delay=lambda error, attempt: 60, total_timeout=30)
    with pytest.raises(Busy):
        await raising(Busy(0), retry, attempts).run()
    assert attempts == [1]


@pytest.mark.parametrize("answer", [-1, float("nan"), float("inf"), 1e9, "1", True, b"", object()])
async def test_a_delay_that_is_no_time_is_an_error_that_names_step_and_run(answer: Any):
    run = raising(Busy(0), Retry(3, delay=lambda error, attempt: answer), []).run()
    with pytest.raises(
        RetryFailed, match=rf'step "work": .*attempt 1 .*delay: .*run {run.id}'
    ) as got:
        await run
    assert isinstance(got.value.__cause__, (TypeError, ValueError))
    assert isinstance(got.value.__cause__.__cause__, Busy)


async def test_a_delay_of_an_async_function_is_refused_without_a_warning():
    async def delay(error: Exception, attempt: int) -> float:
        return 1

    with pytest.raises(RetryFailed, match="plain function"):
        await raising(Busy(0), Retry(3, delay=delay), []).run()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "raised", [KeyError("x"), StopIteration(3), GeneratorExit(), asyncio.CancelledError()]
)
async def test_a_delay_that_raises_is_an_error_with_that_as_its_cause(raised: BaseException):
    def delay(error: Exception, attempt: int) -> float:
        raise raised

    run = raising(Busy(0), Retry(3, delay=delay), []).run()
    with pytest.raises(RetryFailed, match=rf'step "work".*run {run.id}') as got:
        await run
    assert got.value.__cause__ is raised
    assert isinstance(raised.__cause__, Busy)
    found = failure_of(got.value)
    assert found is not None
    assert (found.step, found.attempt, found.run_id) == ("work", 1, run.id)


async def test_a_delay_that_raises_the_failure_itself_makes_no_cycle():
    def delay(error: Exception, attempt: int) -> float:
        raise error

    with pytest.raises(RetryFailed) as got:
        await raising(Busy(0), Retry(3, delay=delay), []).run()
    assert isinstance(got.value.__cause__, Busy)
    assert got.value.__cause__.__cause__ is None


@pytest.mark.parametrize("delay", [1, "1", timedelta(1)])
def test_a_delay_that_is_no_function_is_refused_where_it_is_given(delay: Any):
    with pytest.raises(TypeError, match="delay: a function"):
        Retry(delay=delay)


# Not worth another attempt


def in_group() -> BaseException:
    return ExceptionGroup("several", [KeyError(1), ExceptionGroup("in", [CardDeclined("no")])])


@pytest.mark.parametrize("make", [lambda: NonRetryable("no"), lambda: CardDeclined("no"), in_group])
async def test_a_failure_for_which_no_attempt_will_do_is_not_tried_again(
    make: Callable[[], BaseException],
):
    attempts: list[int] = []
    error = make()
    retry = Retry(5, initial=0, on=Exception, retry_if=lambda error: True)
    with pytest.raises(type(error)) as got:
        await raising(error, retry, attempts).run()
    assert got.value is error
    assert attempts == [1]


async def test_a_non_retryable_failure_goes_to_the_step_that_deals_with_failures():
    @step(retry=Retry(5, initial=0))
    async def pay(ev: StartEvent) -> None:
        try:
            raise KeyError("card")
        except KeyError as error:
            raise NonRetryable("no such card") from error

    @step
    async def refund(ev: StepFailed) -> StopEvent:
        return StopEvent(result=(ev.attempts, type(ev.error), type(ev.error.__cause__)))

    assert await Workflow("shop", [pay, refund]).run() == (1, NonRetryable, KeyError)


# What a body knows that is tried again


async def test_a_body_knows_what_the_attempt_before_it_raised():
    errors: list[BaseException | None] = []
    raised: list[BaseException] = []

    @step(retry=Retry(3, initial=0))
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        errors.append(ctx.last_error)
        if ctx.attempt < 3:
            raised.append(Busy(ctx.attempt))
            raise raised[-1]
        found = failure_of(ctx.last_error)
        return StopEvent(result=found and (found.step, found.attempt))

    assert await Workflow("again", [work]).run() == ("work", 2)
    assert errors == [None, *raised]


async def test_a_failure_is_known_to_the_event_that_failed_alone():
    seen: dict[int, list[str]] = {}

    class Job(Event):
        number: int

    class Done(Event):
        pass

    @step
    async def start(ev: StartEvent) -> list[Job]:
        return [Job(number=number) for number in range(3)]

    @step(retry=Retry(2, initial=0))
    async def work(ctx: Context, ev: Job) -> Done:
        seen.setdefault(ev.number, []).append(str(ctx.last_error))
        if ctx.attempt == 1 and ev.number != 1:
            raise ValueError(ev.number)
        return Done()

    @step
    async def end(ctx: Context, ev: Done) -> StopEvent | None:
        return StopEvent() if ctx.collect_events(ev, [Done] * 3) else None

    await Workflow("jobs", [start, work, end]).run()
    assert seen == {0: ["None", "0"], 1: ["None"], 2: ["None", "2"]}


async def test_after_a_restart_a_body_knows_what_is_stored_of_the_failure(tmp_path: Path):
    seen: list[BaseException | None] = []
    again = asyncio.Event()

    @step(retry=Retry(2, initial=0))
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        seen.append(ctx.last_error)
        if ctx.attempt == 1:
            raise Busy(9)
        again.set()
        await ctx.wait_for_event(Go)
        elapsed = ctx.elapsed
        return StopEvent(result=elapsed is not None and elapsed >= 0)

    workflow = Workflow("again", [work])
    url = f"sqlite:///{tmp_path}/runs.db"
    async with Engine(url, workflows=[workflow]) as engine:
        run = engine.run(workflow)
        await again.wait()
    async with Engine(url, workflows=[workflow]) as engine:
        await engine.send_event(run.id, Go())
        assert await engine.get(run.id) is True
    assert isinstance(seen[1], Busy)
    stored = seen[2]
    assert isinstance(stored, StoredError)
    assert stored.type_name.endswith("Busy")
    assert stored.text == "busy for 9 s"
    found = failure_of(stored)
    assert found is not None
    assert (found.step, found.attempt) == ("work", 1)


async def test_the_elapsed_time_counts_from_the_first_attempt():
    times: list[float | None] = []

    @step(retry=Retry(3, initial=60, factor=2, jitter=0, max=600))
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        times.append(ctx.elapsed)
        if ctx.attempt < 3:
            raise Busy(0)
        return StopEvent()

    with ManualClock() as clock:
        run = Workflow("again", [work]).run()
        await clock.advance(seconds=60)
        await clock.advance(seconds=120)
        await run
    assert times == [pytest.approx(0), pytest.approx(60), pytest.approx(180)]


async def test_the_elapsed_time_is_not_known_where_nobody_looks_at_the_clock():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ctx.elapsed)

    assert await Workflow("once", [work]).run() is None


async def test_a_failure_that_is_handed_on_says_when_it_began_and_when_it_failed():
    @step(retry=Retry(3, initial=60, factor=1, jitter=0))
    async def work(ev: StartEvent) -> None:
        raise Busy(0)

    @step
    async def rescue(ev: StepFailed) -> StopEvent:
        return StopEvent(result=(ev.started_at, ev.failed_at))

    with ManualClock() as clock:
        began = clock.now.timestamp()
        run = Workflow("again", [work, rescue]).run()
        await clock.advance(seconds=60)
        await clock.advance(seconds=60)
        started, failed = await run
    assert started == pytest.approx(began)
    assert failed == pytest.approx(began + 120)


async def test_without_attempts_the_time_of_a_failure_is_known_as_well():
    @step
    async def work(ev: StartEvent) -> None:
        raise Busy(0)

    @step
    async def rescue(ev: StepFailed) -> StopEvent:
        return StopEvent(result=ev.started_at is not None and ev.started_at <= (ev.failed_at or 0))

    assert await Workflow("once", [work, rescue]).run() is True

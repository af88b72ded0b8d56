"""A failure as an event: `on_error`, and steps that accept `StepFailed`."""

import asyncio
import warnings
from pathlib import Path
from typing import Any

import pytest

from treadle import (
    Context,
    Engine,
    Event,
    Retry,
    RunCancelled,
    StartEvent,
    StepFailed,
    StepTimeout,
    StopEvent,
    Workflow,
    WorkflowDefinitionError,
    WorkflowWarning,
    step,
)
from treadle.testing import ManualClock


class Go(Event):
    n: int = 0


class Own(StepFailed):
    pass


def problems(*functions: Any) -> str:
    with pytest.raises(WorkflowDefinitionError) as caught:
        Workflow("w", functions)
    return str(caught.value)


# The event


async def test_a_failure_reaches_the_step_that_on_error_names_by_its_function():
    @step
    async def rescue(ev: StepFailed) -> StopEvent:
        return StopEvent(result=(ev.step, type(ev.event), str(ev.error), ev.attempts))

    @step(on_error=rescue)
    async def work(ev: StartEvent) -> StopEvent:
        raise ValueError("no")

    run = Workflow("w", [work, rescue]).run()
    assert await run == ("work", StartEvent, "no", 1)
    assert run.status == "completed"


async def test_a_failure_reaches_the_step_that_on_error_names_by_its_name():
    @step(name="the rescue")
    async def rescue(ctx: Context, ev: StepFailed) -> StopEvent:
        return StopEvent(result=str(ev.error))

    @step(on_error="the rescue")
    async def work(ev: StartEvent) -> StopEvent:
        raise ValueError("no")

    assert await Workflow("w", [work, rescue]).run() == "no"


async def test_a_step_that_accepts_failures_gets_those_of_every_step():
    @step
    async def begin(ev: StartEvent) -> Go:
        return Go(n=ev.n)

    @step
    async def work(ev: Go) -> StopEvent:
        if ev.n == 1:
            raise ValueError("in work")
        return StopEvent()

    @step
    def thread(ev: Go) -> None:
        if ev.n == 2:
            raise ValueError("in thread")

    @step
    async def rescue(ev: StepFailed) -> StopEvent:
        return StopEvent(result=(ev.step, str(ev.error)))

    workflow = Workflow("w", [begin, thread, work, rescue])
    assert await workflow.run(n=1) == ("work", "in work")

    @step
    async def wait(ev: Go) -> None:
        await asyncio.sleep(10)

    workflow = Workflow("w", [begin, thread, wait, rescue])
    assert await workflow.run(n=2) == ("thread", "in thread")


async def test_several_steps_that_accept_failures_get_each_of_them():
    taken: list[str] = []

    @step
    async def work(ev: StartEvent) -> None:
        raise ValueError("no")

    @step
    async def one(ctx: Context, ev: StepFailed) -> StopEvent | None:
        taken.append("one")
        return StopEvent() if len(taken) == 2 else None

    @step
    async def two(ctx: Context, ev: StepFailed) -> StopEvent | None:
        taken.append("two")
        return StopEvent() if len(taken) == 2 else None

    with pytest.warns(WorkflowWarning):
        workflow = Workflow("w", [work, one, two])
    await workflow.run()
    assert taken == ["one", "two"]


async def test_a_step_that_others_name_gets_their_failures_alone():
    @step
    async def special(ev: StepFailed) -> Go:
        return Go(n=1)

    @step
    async def general(ev: StepFailed) -> StopEvent:
        return StopEvent(result=("general", ev.step))

    @step(on_error=special)
    async def first(ev: StartEvent) -> None:
        raise ValueError("first")

    @step
    async def second(ev: Go) -> None:
        raise ValueError("second")

    workflow = Workflow("w", [special, general, first, second])
    assert await workflow.run() == ("general", "second")


async def test_a_step_that_takes_any_event_is_given_no_failures_unless_it_is_named():
    @step
    async def anything(ev: Event) -> StopEvent | None:
        return StopEvent(result=type(ev).__name__) if isinstance(ev, StepFailed) else None

    @step
    async def work(ev: StartEvent) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await Workflow("w", [anything, work]).run()

    @step(on_error=anything)
    async def named(ev: StartEvent) -> None:
        raise ValueError("no")

    assert await Workflow("w", [anything, named]).run() == "StepFailed"


async def test_the_failure_comes_after_all_attempts():
    attempts: list[int] = []

    @step
    async def rescue(ev: StepFailed) -> StopEvent:
        return StopEvent(result=ev.attempts)

    @step(retry=Retry(3, initial=0.001), on_error=rescue)
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        attempts.append(ctx.attempt)
        raise ValueError("no")

    assert await Workflow("w", [work, rescue]).run() == 3
    assert attempts == [1, 2, 3]


async def test_the_failure_holds_the_very_exception_and_the_very_event():
    error = ValueError("this one")

    @step
    async def begin(ev: StartEvent) -> Go:
        return event

    @step
    async def work(ev: Go) -> StopEvent:
        raise error

    @step
    async def rescue(ev: StepFailed) -> StopEvent:
        return StopEvent(result=(ev.error is error, ev.event is event))

    event = Go(n=3)
    assert await Workflow("w", [begin, work, rescue]).run() == (True, True)


async def test_the_run_goes_on_as_if_the_step_had_emitted_the_failure():
    @step
    async def split(ev: StartEvent) -> list[Go]:
        return [Go(n=n) for n in range(20)]

    @step
    async def work(ctx: Context, ev: Go) -> StopEvent | None:
        if ev.n % 2:
            raise ValueError(ev.n)
        return done(ctx)

    @step
    async def skip(ctx: Context, ev: StepFailed) -> StopEvent | None:
        ctx.update("skipped", lambda known: sorted([*known, ev.event.n]), default=[])
        return done(ctx)

    def done(ctx: Context) -> StopEvent | None:
        return StopEvent(result=ctx.get("skipped")) if ctx.increment("n") == 20 else None

    assert await Workflow("w", [split, work, skip]).run() == list(range(1, 20, 2))


async def test_a_time_limit_is_a_failure_too():
    @step
    async def rescue(ev: StepFailed) -> StopEvent:
        return StopEvent(result=type(ev.error))

    @step(timeout=0.01, on_error=rescue)
    async def work(ev: StartEvent) -> StopEvent:
        await asyncio.sleep(10)
        return StopEvent()

    assert await asyncio.wait_for(Workflow("w", [work, rescue]).run(), 2) is StepTimeout


async def test_a_cancellation_and_an_interrupt_are_no_failures():
    class Stop(BaseException):
        pass

    taken: list[Any] = []

    @step
    async def rescue(ev: StepFailed) -> StopEvent:
        taken.append(ev)
        return StopEvent()

    for error, told in ((asyncio.CancelledError, RunCancelled), (Stop, Stop)):

        @step(on_error=rescue)
        async def work(ev: StartEvent, error: Any = error) -> StopEvent:
            raise error

        with pytest.raises(told):
            await Workflow("w", [work, rescue]).run()
    assert taken == []


@pytest.mark.parametrize("is_inline", [True, False])
async def test_plain_functions_fail_and_rescue_as_well(is_inline: bool):
    @step(inline=is_inline)
    def rescue(ev: StepFailed) -> StopEvent:
        return StopEvent(result=str(ev.error))

    @step(inline=is_inline, on_error=rescue)
    def work(ev: StartEvent) -> StopEvent:
        raise ValueError("no")

    assert await Workflow("w", [work, rescue]).run() == "no"


async def test_a_failure_that_steps_send_by_hand_is_an_event_like_others():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StepFailed:
        return StepFailed(step="elsewhere", event=ev, error=ValueError("by hand"), attempts=7)

    @step
    async def rescue(ev: StepFailed) -> StopEvent:
        return StopEvent(result=(ev.step, ev.attempts))

    assert await Workflow("w", [work, rescue]).run() == ("elsewhere", 7)


# A failure of the one that deals with failures


@pytest.mark.parametrize("is_named", [True, False])
async def test_a_rescue_that_fails_ends_the_run(is_named: bool):
    @step
    async def rescue(ev: StepFailed) -> StopEvent:
        raise KeyError("in the rescue")

    @step(on_error=rescue if is_named else None)
    async def work(ev: StartEvent) -> StopEvent:
        raise ValueError("no")

    with pytest.raises(KeyError, match="in the rescue") as caught:
        await asyncio.wait_for(Workflow("w", [work, rescue]).run(), 1)
    assert 'in step "rescue"' in caught.value.__notes__[-1]


async def test_a_rescue_that_fails_is_tried_again_first():
    @step(retry=Retry(3, initial=0.001))
    async def rescue(ctx: Context, ev: StepFailed) -> StopEvent:
        if ctx.attempt < 3:
            raise KeyError("again")
        return StopEvent(result=(str(ev.error), ctx.attempt))

    @step(on_error=rescue)
    async def work(ev: StartEvent) -> StopEvent:
        raise ValueError("no")

    assert await Workflow("w", [work, rescue]).run() == ("no", 3)


async def test_a_rescue_of_a_rescue_is_not_asked():
    @step
    async def last(ev: StepFailed) -> StopEvent:
        return StopEvent(result="last")

    @step(on_error=last)
    async def rescue(ev: StepFailed) -> StopEvent:
        raise KeyError("in the rescue")

    @step(on_error=rescue)
    async def work(ev: StartEvent) -> StopEvent:
        raise ValueError("no")

    with pytest.raises(KeyError):
        await asyncio.wait_for(Workflow("w", [work, rescue, last]).run(), 1)


async def test_a_step_that_deals_with_failures_and_other_events_fails_over_the_others_alone():
    @step
    async def work(ev: StartEvent | StepFailed) -> StopEvent:
        if isinstance(ev, StartEvent):
            raise ValueError("at the start")
        return StopEvent(result=(ev.step, str(ev.error)))

    assert await Workflow("w", [work]).run() == ("work", "at the start")


async def test_a_failure_while_the_run_ends_reaches_nobody():
    taken: list[Any] = []

    @step
    async def rescue(ev: StepFailed) -> None:
        taken.append(ev)

    @step(on_error=rescue)
    async def work(ev: StartEvent) -> None:
        try:
            await asyncio.sleep(10)
        finally:
            raise ValueError("in the clean-up")

    @step
    async def end(ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0.005)
        return StopEvent(result="over")

    assert await asyncio.wait_for(Workflow("w", [work, rescue, end]).run(), 1) == "over"
    assert taken == []


async def test_a_condition_that_ends_the_run_leaves_nothing_for_the_rescue():
    def ask(error: Exception) -> bool:
        runs[0].cancel()
        return True

    @step
    async def rescue(ev: StepFailed) -> StopEvent:
        return StopEvent()

    @step(on_error=rescue, retry=Retry(3, retry_if=ask))
    async def work(ev: StartEvent) -> StopEvent:
        raise ValueError("no")

    runs = [Workflow("w", [work, rescue]).run()]
    with pytest.raises(RunCancelled):
        await asyncio.wait_for(runs[0], 1)


# Classes


class Base(Workflow):
    @step
    async def rescue(self, ev: StepFailed) -> StopEvent:
        return StopEvent(result=f"base: {ev.error}")

    @step(on_error=rescue)
    async def work(self, ev: StartEvent) -> StopEvent:
        raise ValueError("no")


async def test_a_method_names_another_one():
    assert await Base().run() == "base: no"


async def test_an_override_of_the_method_that_is_named_is_the_one_that_is_meant():
    class Derived(Base):
        @step
        async def rescue(self, ev: StepFailed) -> StopEvent:
            return StopEvent(result=f"derived: {ev.error}")

    assert await Derived().run() == "derived: no"


async def test_an_override_of_the_step_that_fails_need_not_name_anybody():
    class Derived(Base):
        @step
        async def work(self, ev: StartEvent) -> StopEvent:
            raise ValueError("derived")

    assert await Derived().run() == "base: derived"


async def test_a_method_is_named_by_its_name_before_it_is_defined():
    class Later(Workflow):
        @step(on_error="rescue")
        async def work(self, ev: StartEvent) -> StopEvent:
            raise ValueError("no")

        @step
        async def rescue(self, ev: StepFailed) -> StopEvent:
            return StopEvent(result="rescued")

    assert await Later().run() == "rescued"


async def test_a_static_method_can_be_named():
    class Static(Workflow):
        @step
        @staticmethod
        async def rescue(ev: StepFailed) -> StopEvent:
            return StopEvent(result="rescued")

        @step(on_error=rescue)
        async def work(self, ev: StartEvent) -> StopEvent:
            raise ValueError("no")

    assert await Static().run() == "rescued"


# What is wrong when the workflow is made


def test_a_name_that_no_step_has_is_an_error():
    @step(on_error="nobody")
    async def work(ev: StartEvent) -> StopEvent:
        return StopEvent()

    assert "step 'work': on_error='nobody' is not a step of this workflow" in problems(work)


def test_a_function_that_is_no_step_of_the_workflow_is_an_error():
    @step
    async def elsewhere(ev: StepFailed) -> StopEvent:
        return StopEvent()

    async def plain(ev: StepFailed) -> StopEvent:
        return StopEvent()

    for other in (elsewhere, plain):

        @step(on_error=other)
        async def work(ev: StartEvent) -> StopEvent:
            return StopEvent()

        assert f"on_error={other.__name__!r} is not a step of this workflow" in problems(work)


def test_a_step_that_does_not_accept_failures_is_an_error():
    @step(external=True)
    async def other(ev: Go) -> StopEvent:
        return StopEvent()

    @step(external=True)
    async def narrow(ev: Own) -> StopEvent:
        return StopEvent()

    for wanted in (other, narrow):

        @step(on_error=wanted)
        async def work(ev: StartEvent) -> StopEvent:
            return StopEvent()

        said = problems(work, wanted)
        assert f"on_error={wanted.__name__!r} does not accept a StepFailed" in said


@pytest.mark.parametrize("wanted", [5, True, [], b"rescue", object()])
def test_what_names_no_step_is_a_type_error(wanted: Any):
    with pytest.raises(TypeError, match="on_error: a step or its name expected"):
        step(on_error=wanted)


def test_a_step_that_deals_with_failures_need_not_be_reached_otherwise():
    @step
    async def work(ev: StartEvent) -> StopEvent:
        return StopEvent()

    @step
    async def rescue(ev: StepFailed) -> StopEvent:
        return StopEvent()

    Workflow("w", [work, rescue])


def test_all_problems_are_listed_at_once():
    @step(on_error="nobody")
    async def one(ev: StartEvent) -> StopEvent:
        return StopEvent()

    @step(on_error=one)
    async def two(ev: StartEvent) -> StopEvent:
        return StopEvent()

    said = problems(one, two)
    assert "'nobody' is not a step" in said
    assert "'one' does not accept a StepFailed" in said


# A failure that goes round


def spinning(by: str, bodies: list[int], *, fails: int = 10**9, pause: float = 0) -> Workflow:
    """Make a workflow whose failure handler sends the failed step its event again."""

    @step
    async def begin(ev: StartEvent) -> Go:
        return Go()

    @step
    async def detour(ev: Own) -> Go:
        return Go()

    @step
    async def again(ctx: Context, ev: StepFailed) -> Go | Own | None:
        await ctx.sleep(pause)
        if by == "return":
            return Go()
        if by == "send":
            ctx.send_event(Go(n=len(bodies)))
            return None
        return Own(step="", event=None, error=ev.error, attempts=1)

    @step(on_error=again)
    async def work(ev: Go) -> StopEvent:
        bodies.append(1)
        if len(bodies) <= fails:
            raise ValueError("as always")
        return StopEvent(result=len(bodies))

    steps = [begin, again, work, detour] if by == "detour" else [begin, again, work]
    return Workflow("w", steps)


@pytest.mark.parametrize("by", ["return", "send", "detour"])
async def test_a_handler_that_sends_the_failed_step_its_event_again_does_not_spin(
    by: str, caplog: pytest.LogCaptureFixture
):
    bodies: list[int] = []
    with pytest.raises(ValueError, match="as always") as caught:
        await asyncio.wait_for(spinning(by, bodies).run(), 60)
    assert len(bodies) == 101
    assert any("101 times in a row" in note for note in caught.value.__notes__)
    warned = [it.getMessage() for it in caplog.records if it.levelname == "WARNING"]
    assert len(warned) == 1
    assert 'step "work"' in warned[0]
    assert "10 times in a row" in warned[0]


async def test_a_durable_run_that_spins_ends_as_well(tmp_path: Path):
    bodies: list[int] = []
    workflow = spinning("return", bodies)
    async with Engine(f"sqlite:///{tmp_path}/runs.db", workflows=[workflow]) as engine:
        with pytest.raises(ValueError, match="as always"):
            await asyncio.wait_for(engine.run(workflow), 60)
    assert len(bodies) == 101


async def test_a_step_that_succeeds_in_the_end_is_tried_again_by_its_handler():
    assert await spinning("return", [], fails=100).run() == 101


async def test_a_handler_that_waits_may_send_the_event_again_as_often_as_it_likes():
    with ManualClock() as clock:
        run = spinning("return", [], fails=300, pause=2).run()
        awaiting = asyncio.ensure_future(run)
        while not awaiting.done():
            if not await clock.advance_to_next():
                await asyncio.sleep(0)
        assert await awaiting == 301


async def test_the_failures_of_many_events_are_no_row():
    @step
    async def begin(ctx: Context, ev: StartEvent) -> None:
        for n in range(1000):
            ctx.send_event(Go(n=n))

    @step
    async def count(ctx: Context, ev: StepFailed) -> StopEvent | None:
        return StopEvent(result="all") if ctx.increment("failed") == 1000 else None

    @step(on_error=count)
    async def work(ev: Go) -> None:
        raise ValueError(ev.n)

    assert await Workflow("w", [begin, work, count]).run() == "all"


def test_two_steps_that_get_every_failure_are_warned_of():
    @step
    async def one(ev: StepFailed) -> StopEvent: ...

    @step
    async def two(ev: StepFailed) -> StopEvent: ...

    @step
    async def work(ev: StartEvent) -> StopEvent: ...

    @step(on_error=two)
    async def named(ev: StartEvent) -> StopEvent: ...

    with pytest.warns(WorkflowWarning, match="steps 'one' and 'two' each get every failure"):
        Workflow("w", [work, one, two])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Workflow("w", [named, one, two])

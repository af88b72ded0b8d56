"""The check of the graph follows the arrows: what nothing reaches, and where no run can end."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from treadle import (
    Context,
    Event,
    StartEvent,
    StepFailed,
    StopEvent,
    Workflow,
    WorkflowDefinitionError,
    step,
)


class A(Event):
    pass


class B(Event):
    pass


class Island(Event):
    pass


class Work(Event):
    pass


class Sub(A):
    pass


@step
async def a_to_b(ev: A) -> B: ...


@step
async def b_to_a(ev: B) -> A: ...


@step
async def island(ev: Island) -> Island: ...


@step
async def work(ev: Work) -> StopEvent: ...


@step
async def start_to_work(ev: StartEvent) -> Work: ...


def problems(*steps: Any) -> list[str]:
    with pytest.raises(WorkflowDefinitionError) as caught:
        Workflow("wrong", steps)
    return caught.value.problems


def test_a_circle_that_nothing_leaves_is_a_problem():
    @step
    async def entry(ev: StartEvent) -> A | StopEvent: ...

    (problem,) = problems(entry, a_to_b, b_to_a)
    assert problem == (
        "steps 'a_to_b', 'b_to_a' lead to no StopEvent: a run that gets there could not end"
    )


def test_a_circle_is_a_problem_though_the_step_before_it_could_send_events():
    @step
    async def entry(ctx: Context, ev: StartEvent) -> A | StopEvent: ...

    (problem,) = problems(entry, a_to_b, b_to_a)
    assert "'a_to_b', 'b_to_a'" in problem


def test_a_circle_at_the_start_is_a_problem_though_a_step_stops():
    @step
    async def entry(ev: StartEvent | B) -> A: ...

    @step
    async def again(ev: A) -> B: ...

    found = problems(entry, again, work)
    assert len(found) == 2
    assert "nothing reaches step 'work'" in found[0]
    assert "'entry', 'again' lead to no StopEvent" in found[1]


def test_a_step_that_only_itself_reaches_is_a_problem():
    (problem,) = problems(start_to_work, work, island)
    assert "nothing reaches step 'island'" in problem
    assert "external=True" in problem


def test_steps_that_only_reach_each_other_are_a_problem_each():
    found = problems(start_to_work, work, a_to_b, b_to_a)
    assert ["'a_to_b'" in found[0], "'b_to_a'" in found[1]] == [True, True]
    assert len(found) == 2


def test_everything_wrong_with_the_arrows_is_in_one_error():
    class Lost(Event):
        pass

    @step
    async def entry(ev: StartEvent) -> A | StopEvent | Lost: ...

    found = problems(entry, a_to_b, b_to_a, island)
    assert len(found) == 3
    assert "returns Lost, which no step accepts" in found[0]
    assert "nothing reaches step 'island'" in found[1]
    assert "'a_to_b', 'b_to_a' lead to no StopEvent" in found[2]


@pytest.mark.parametrize("returned", [None, Any, Event, list])
def test_a_step_that_may_send_anything_may_reach_every_other(returned: Any):
    @step
    async def entry(ev: StartEvent) -> returned: ...

    @step
    async def lonely(ev: Island) -> StopEvent: ...

    Workflow("w", [entry, lonely, a_to_b, b_to_a])


def test_a_step_that_returns_nothing_may_send_what_leads_out_of_a_circle():
    @step
    async def entry(ev: StartEvent) -> A | StopEvent: ...

    @step
    async def quiet(ev: Work) -> None: ...

    Workflow("w", [entry, a_to_b, b_to_a, quiet])


def test_an_external_step_is_a_way_out_of_a_circle():
    @step
    async def entry(ev: StartEvent) -> A: ...

    @step(external=True)
    async def button(ev: Work) -> StopEvent: ...

    Workflow("w", [entry, a_to_b, b_to_a, button])


def test_an_external_step_that_leads_into_a_circle_is_none():
    @step
    async def entry(ev: StartEvent) -> A: ...

    @step(external=True)
    async def button(ev: Island) -> A: ...

    found = problems(entry, a_to_b, b_to_a, button)
    assert found == ["no step returns a StopEvent, so no run could end"]

    @step
    async def stops(ev: StartEvent) -> StopEvent | A: ...

    (problem,) = problems(stops, a_to_b, b_to_a, button)
    assert "'a_to_b', 'b_to_a' lead to no StopEvent" in problem


@pytest.mark.parametrize("is_named", [True, False])
def test_a_failure_is_a_way_out_of_a_circle(is_named: bool):
    @step
    async def entry(ev: StartEvent) -> A: ...

    @step
    async def rescue(ev: StepFailed) -> StopEvent: ...

    @step(on_error=rescue if is_named else None)
    async def risky(ev: A) -> A: ...

    Workflow("w", [entry, risky, rescue])


def test_a_failure_of_another_step_is_none():
    @step
    async def rescue(ev: StepFailed) -> StopEvent: ...

    @step(on_error=rescue)
    async def entry(ev: StartEvent) -> A: ...

    (problem,) = problems(entry, rescue, a_to_b, b_to_a)
    assert "'a_to_b', 'b_to_a' lead to no StopEvent" in problem


def test_a_handler_of_a_step_that_nothing_reaches_is_not_reached_either():
    @step
    async def rescue(ev: StepFailed) -> StopEvent: ...

    @step(on_error=rescue)
    async def lonely(ev: Island) -> Island: ...

    found = problems(start_to_work, work, lonely, rescue)
    assert ["'lonely'" in found[0], "'rescue'" in found[1]] == [True, True]


def test_a_circle_beside_a_step_that_ends_the_run_is_fine():
    """A clock that ticks until the work is done."""

    @step
    async def tick(ev: A) -> A: ...

    @step
    async def several(ev: StartEvent) -> list[A | Work]: ...

    @step
    async def by_hand(ctx: Context, ev: StartEvent) -> A | Work: ...

    @step
    async def stream(ev: StartEvent) -> AsyncIterator[A | StopEvent]:
        yield A()

    @step
    async def to_both(ev: StartEvent) -> B: ...

    @step
    async def b_to_tick(ev: B) -> A: ...

    @step
    async def b_to_stop(ev: B) -> StopEvent: ...

    @step
    async def start_to_tick(ev: StartEvent) -> A: ...

    Workflow("list", [several, tick, work])
    Workflow("by hand", [by_hand, tick, work])
    Workflow("generator", [stream, tick])
    Workflow("two takers", [to_both, b_to_tick, b_to_stop, tick])
    Workflow("two starts", [start_to_tick, start_to_work, work, tick])


def test_a_circle_instead_of_a_step_that_ends_the_run_is_a_problem():
    @step
    async def tick(ev: A) -> A: ...

    @step
    async def either(ev: StartEvent) -> A | Work: ...

    (problem,) = problems(either, tick, work)
    assert problem == "step 'tick' leads to no StopEvent: a run that gets there could not end"


def test_a_subclass_that_a_step_may_return_is_followed_as_well():
    @step
    async def base(ev: StartEvent) -> A: ...

    @step
    async def sub(ev: Sub) -> Sub: ...

    @step
    async def plain(ev: A) -> StopEvent: ...

    (problem,) = problems(base, plain, sub)
    assert "step 'sub' leads to no StopEvent" in problem


def test_a_step_that_takes_every_event_is_reached_and_a_way_out():
    @step
    async def anything(ev: Event) -> StopEvent: ...

    @step
    async def entry(ev: StartEvent) -> A | Island: ...

    Workflow("w", [entry, a_to_b, anything])


def test_a_long_chain_is_checked_in_no_time_to_speak_of():
    """Thousands of arrows: each is followed once."""
    classes = [type(f"E{n}", (Event,), {}) for n in range(400)]

    def link(n: int) -> Any:
        async def body(ev: Any) -> Any: ...

        body.__annotations__ = {
            "ev": classes[n] if n else StartEvent | classes[0],
            "return": classes[n + 1] | classes[0] if n < 399 else StopEvent,
        }
        return step(name=f"s{n}")(body)

    Workflow("long", [link(n) for n in range(400)])

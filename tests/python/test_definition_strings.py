"""Annotations as strings: in this whole module they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydantic
import pytest

from treadle import Context, Event, StartEvent, StopEvent, Workflow, WorkflowDefinitionError, step

if TYPE_CHECKING:
    from decimal import Decimal


class Page(Event):
    n: int = 0


@step
async def begin(ctx: Context, ev: StartEvent) -> Page | None:
    return Page(n=1)


@step
async def finish(ev: Page) -> StopEvent:
    return StopEvent(result=ev.n)


async def test_classes_of_the_module_are_found():
    assert await Workflow("w", [begin, finish]).run() == 1


async def test_classes_local_to_a_function_are_found():
    class Local(Event):
        n: int

    class Model(pydantic.BaseModel):
        n: int

    @step
    async def first(ev: StartEvent) -> list[Local | Model]:
        return [Local(n=2)]

    @step
    async def last(ctx: Context, ev: Local | Model) -> StopEvent:
        return StopEvent(result=ev.n)

    assert await Workflow("w", [first, last]).run() == 2


def make() -> list:
    class Hidden(Event):
        n: int

    @step
    async def first(ev: StartEvent) -> Hidden:
        return Hidden(n=3)

    @step
    async def last(ev: Hidden) -> StopEvent:
        return StopEvent(result=ev.n)

    return [first, last]


async def test_classes_local_to_a_function_that_has_returned_are_found():
    assert await Workflow("w", make()).run() == 3


async def test_classes_local_to_a_function_are_found_for_methods():
    class Local(Event):
        n: int

    class Flow(Workflow):
        class Inner(Event):
            n: int

        @step
        async def first(self, ev: StartEvent) -> Local:
            return Local(n=4)

        @step
        async def second(self, ev: Local) -> Inner:
            return self.Inner(n=ev.n + 1)

        @step
        async def last(self, ev: Inner) -> StopEvent:
            return StopEvent(result=ev.n)

    assert await Flow().run() == 5


async def test_a_class_made_after_the_step_is_found():
    @step
    async def first(ev: StartEvent) -> Later:
        return Later(n=6)

    @step
    async def last(ev: Later) -> StopEvent:
        return StopEvent(result=ev.n)

    class Later(Event):
        n: int

    assert await Workflow("w", [first, last]).run() == 6


def test_a_name_that_is_nowhere_is_a_problem_that_names_it():
    @step
    async def first(ev: StartEvent) -> Nowhere:  # type: ignore[name-defined]  # noqa: F821
        return StopEvent()

    with pytest.raises(WorkflowDefinitionError, match=r"'first'.*'Nowhere'"):
        Workflow("w", [first])


def test_a_name_that_only_type_checkers_see_is_a_problem_that_names_it():
    @step
    async def first(ev: StartEvent) -> Decimal:
        raise AssertionError

    with pytest.raises(WorkflowDefinitionError, match=r"'first'.*'Decimal'"):
        Workflow("w", [first])


async def test_a_local_variable_of_whoever_makes_the_workflow_hides_no_class():
    Page = "something else"
    StopEvent = None  # noqa: F841
    assert Page
    assert await Workflow("w", [begin, finish]).run() == 1


async def test_a_local_variable_of_whoever_imports_the_steps_hides_no_class():
    Page = StopEvent = 3
    assert Page == StopEvent
    names: dict = {}
    exec(  # as importing a module does
        "from __future__ import annotations\n"
        "from treadle import *\n"
        "class Page(Event): pass\n"
        "@step\n"
        "async def one(ev: StartEvent) -> Page: return Page()\n"
        "@step\n"
        "async def two(ev: Page) -> StopEvent: return StopEvent(result=8)\n",
        names,
    )
    assert await Workflow("w", [names["one"], names["two"]]).run() == 8


def test_an_annotation_that_is_not_an_expression_is_a_problem():
    @step
    async def first(ev: StartEvent) -> StopEvent:
        return StopEvent()

    first.__annotations__["ev"] = "Start Event"
    with pytest.raises(WorkflowDefinitionError, match="'first'"):
        Workflow("w", [first])

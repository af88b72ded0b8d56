"""Mistakes in resources: found when the workflow is made, and all in one error."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from treadle import (
    Context,
    Event,
    Resource,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowDefinitionError,
    step,
)

if TYPE_CHECKING:
    from nowhere import Database  # type: ignore[import-not-found]


def problems(*resources: Resource, inline: bool = False) -> list[str]:
    steps = []
    for number, resource in enumerate(resources):

        def work(ev: StartEvent, it: Any) -> StopEvent:
            return StopEvent()

        work.__annotations__["it"] = Annotated[Any, resource]
        steps.append(step(inline=inline, name=f"work{number}")(work))
    with pytest.raises(WorkflowDefinitionError) as raised:
        Workflow("w", steps)
    return raised.value.problems


def plain() -> str:
    return "plain"


async def chicken(needed: Annotated[str, Resource(egg)]) -> str:
    return needed


async def egg(needed: Annotated[str, Resource(chicken)]) -> str:
    return needed


def self_made(needed: Annotated[str, Resource(self_made)]) -> str:
    return needed


async def connect(url: str, *rest: int, timeout: float = 1, **options: Any) -> str:
    return url


def with_context(ctx: Context) -> str:
    return ctx.run_id()


def positional(it: Annotated[str, Resource(plain)], /) -> str:
    return it


def unresolvable(it: Missing) -> str:  # type: ignore[name-defined]  # noqa: F821
    return it


def long_lived(it: Annotated[str, Resource(plain)]) -> str:
    return it


def bare(it: Annotated[str, Resource]) -> str:
    return it


def test_a_circle_is_found():
    assert problems(Resource(egg)) == [
        "resources need each other in a circle: egg -> chicken -> egg"
    ]
    assert problems(Resource(self_made)) == [
        "resources need each other in a circle: self_made -> self_made"
    ]


def test_a_parameter_that_nothing_fills_is_found():
    (problem,) = problems(Resource(connect))
    assert problem == (
        "resource 'connect': parameter 'url' is filled by nothing; annotate it with "
        "Annotated[..., Resource(factory)], or give it a default"
    )
    assert problems(Resource(connect, name="db"))[0].startswith("resource 'db'")


def test_a_factory_that_wants_a_context_is_told_why_not():
    assert problems(Resource(with_context)) == [
        "resource 'with_context': parameter 'ctx' cannot be a Context: the object is shared by "
        "steps, each of which has its own"
    ]


def test_an_object_of_the_process_cannot_need_one_of_a_run():
    assert problems(Resource(long_lived, "process")) == [
        "resource 'long_lived' has the scope 'process', and cannot need 'plain', which has the "
        "scope 'run'"
    ]


def test_a_scope_that_does_not_exist_is_found():
    assert problems(Resource(plain, "session")) == [  # type: ignore[arg-type]
        "resource 'plain': the scope is 'run' or 'process', not 'session'"
    ]


def test_one_factory_has_one_scope():
    assert problems(Resource(plain), Resource(plain, "process")) == [
        "resource 'plain' is wanted with the scope 'run' and with the scope 'process'"
    ]


def test_a_factory_is_callable_and_hashable():
    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self) -> str:
            return ""

    assert "a function or a class expected, not 'text'" in problems(Resource("text"))[0]  # type: ignore[arg-type]
    assert "its factory is not hashable" in problems(Resource(Unhashable()))[0]


def test_a_factory_that_takes_a_resource_by_position_alone_is_refused():
    assert "is positional only" in problems(Resource(positional))[0]


def test_an_annotation_that_cannot_be_resolved_is_found():
    assert problems(Resource(unresolvable)) == [
        "resource 'unresolvable': annotation 'Missing' cannot be resolved; is it defined where the "
        "factory or the workflow is made?"
    ]


def test_a_resource_without_a_factory_is_found():
    assert "Resource takes a factory" in problems(Resource(bare))[0]

    @step
    async def work(ev: StartEvent, it: Annotated[str, Resource]) -> StopEvent:
        return StopEvent()

    @step
    async def twice(
        ev: StartEvent, it: Annotated[str, Resource(plain), Resource(egg)]
    ) -> StopEvent:
        return StopEvent()

    with pytest.raises(WorkflowDefinitionError) as raised:
        Workflow("w", [work, twice])
    assert raised.value.problems == [
        "step 'work': parameter 'it': Resource takes a factory: Annotated[..., Resource(factory)]",
        "step 'twice': parameter 'it' has more than one Resource",
    ]


@pytest.mark.parametrize("kind", ["coroutine", "generator", "decorated", "class", "needed"])
def test_an_inline_step_cannot_wait_for_what_is_made_asynchronously(kind: str):
    import contextlib

    async def coroutine() -> str:
        return ""

    async def generator() -> AsyncIterator[str]:
        yield ""

    class Manager:
        async def __aenter__(self) -> Manager:
            return self

        async def __aexit__(self, *_: object) -> None: ...

    def needing(it: Annotated[str, Resource(coroutine)]) -> str:
        return it

    factories: dict[str, Any] = {
        "coroutine": coroutine,
        "generator": functools.partial(generator),
        "decorated": contextlib.asynccontextmanager(generator),
        "class": Manager,
        "needed": needing,
    }
    (problem,) = problems(Resource(factories[kind]), inline=True)
    assert problem.startswith(
        "step 'work0': inline=True cannot wait for what is made asynchronously: '"
    )


def test_every_mistake_is_in_one_error_and_none_is_there_twice():
    found = problems(
        Resource(egg),
        Resource(connect),
        Resource(egg),
        Resource(plain, "x"),  # type: ignore[arg-type]
    )
    assert len(found) == 3


def test_a_step_still_needs_its_event():
    @step
    async def work(it: Annotated[str, Resource(plain)]) -> StopEvent:
        return StopEvent()

    with pytest.raises(WorkflowDefinitionError, match="one parameter for the event expected"):
        Workflow("w", [work])


async def test_annotations_may_be_strings_and_name_local_factories():
    def settings() -> str:
        return "settings"

    def make(needed: Annotated[str, Resource(settings)], size: int = 3) -> str:
        return f"{needed} {size}"

    class Later(Event):
        pass

    @step
    async def begin(ev: StartEvent, it: Annotated[str, Resource(make)]) -> Later:
        assert it == "settings 3"
        return Later()

    @step
    def work(ev: Later, it: Annotated[str, Resource(make)]) -> StopEvent:
        return StopEvent(result=it)

    assert await Workflow("w", [begin, work]).run() == "settings 3"


async def test_what_a_factory_returns_need_not_be_resolvable():
    def open_database(size: int = 1, *, url: Annotated[str, Resource(plain)]) -> Database:
        return url

    def without_parameters() -> Database:
        return "other"

    @step
    async def work(
        ev: StartEvent,
        a: Annotated[str, Resource(open_database)],
        b: Annotated[str, Resource(without_parameters)],
    ) -> StopEvent:
        return StopEvent(result=(a, b))

    assert await Workflow("w", [work]).run() == ("plain", "other")


async def test_a_class_gets_what_its_constructor_asks_for():
    class Client:
        def __init__(self, url: Annotated[str, Resource(plain)]) -> None:
            self.url = url

    @step
    async def work(ev: StartEvent, it: Annotated[Client, Resource(Client)]) -> StopEvent:
        return StopEvent(result=it.url)

    assert await Workflow("w", [work]).run() == "plain"


def test_a_resource_shows_what_it_is():
    assert repr(Resource(plain)) == "Resource(plain, scope='run')"
    assert repr(Resource(plain, "process", name="x")) == (
        "Resource(plain, scope='process', name='x')"
    )

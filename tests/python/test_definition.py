import asyncio
import collections.abc
import dataclasses
import functools
import typing
from typing import Annotated, Any, Optional, TypeVar, Union

import msgspec
import pydantic
import pytest

from treadle import (
    Context,
    Event,
    StartEvent,
    StopEvent,
    TreadleError,
    Workflow,
    WorkflowDefinitionError,
    step,
)


class Page(Event):
    n: int = 0


class Note(Event):
    pass


class Deep(Page):
    pass


class Model(pydantic.BaseModel):
    n: int = 1


@dataclasses.dataclass
class Data:
    n: int = 1


class Struct(msgspec.Struct):
    n: int = 1


@step
async def begin(ev: StartEvent) -> Page:
    return Page(n=1)


@step
async def finish(ev: Page) -> StopEvent:
    return StopEvent(result=ev.n)


def problems(*steps: Any) -> list[str]:
    with pytest.raises(WorkflowDefinitionError) as caught:
        Workflow("wrong", steps)
    return caught.value.problems


# The graph


async def test_a_list_of_functions_is_a_workflow():
    assert await Workflow("w", [begin, finish]).run() == 1


async def test_a_class_with_steps_is_a_workflow():
    class Crawl(Workflow):
        def __init__(self, factor: int) -> None:
            super().__init__(timeout=60)
            self.factor = factor

        @step
        async def first(self, ctx: Context, ev: StartEvent) -> Page:
            return Page(n=ev.n)

        @step
        async def last(self, ev: Page) -> StopEvent:
            return StopEvent(result=ev.n * self.factor)

    assert Crawl(2).name == "Crawl"
    assert await asyncio.gather(Crawl(2).run(n=4), Crawl(3).run(n=5)) == [8, 15]


@pytest.mark.parametrize("options", [{}, {"timeout": 1}])
async def test_a_workflow_that_was_not_initialised_says_so(options: dict[str, float]):
    class Forgetful(Workflow):
        def __init__(self) -> None: ...

        @step
        async def only(self, ev: StartEvent) -> StopEvent:
            return StopEvent()

    with pytest.raises(TypeError, match=r"Forgetful.__init__\(\) did not call super"):
        await Forgetful().run(**options)


async def test_a_subclass_inherits_overrides_and_adds_steps():
    class Base(Workflow):
        @step
        async def first(self, ev: StartEvent) -> Page:
            return Page(n=1)

        @step
        async def last(self, ev: Page) -> StopEvent | Note:
            return StopEvent(result="base")

    class Derived(Base):
        @step
        async def last(self, ev: Page) -> Note:
            await super().last(ev)
            return Note()

        @step
        async def more(self, ev: Note) -> StopEvent:
            return StopEvent(result="derived")

    @step
    async def note(ev: Note) -> StopEvent:
        return StopEvent()

    assert await Base(steps=[note]).run() == "base"
    assert await Derived().run() == "derived"


def test_a_returned_event_that_no_step_accepts_is_a_problem():
    @step
    async def wrong(ev: Page) -> Note | StopEvent:
        return Note()

    (problem,) = problems(begin, wrong)
    assert "wrong" in problem
    assert "Note" in problem


def test_a_step_that_nothing_reaches_is_a_problem():
    @step
    async def lonely(ev: Note) -> StopEvent:
        return StopEvent()

    (problem,) = problems(begin, finish, lonely)
    assert "lonely" in problem


def test_a_workflow_without_a_start_is_a_problem():
    assert any("StartEvent" in problem for problem in problems(finish))


def test_a_workflow_without_a_stop_is_a_problem():
    @step
    async def sink(ev: Page) -> None: ...

    @step
    async def loop(ev: StartEvent | Page) -> Page:
        return Page()

    assert any("StopEvent" in problem for problem in problems(loop))


def test_a_workflow_without_steps_is_a_problem():
    (problem,) = problems()
    assert "no steps" in problem


def test_two_steps_of_one_name_are_a_problem():
    assert any("'begin'" in problem for problem in problems(begin, begin, finish))


def test_a_function_that_is_no_step_is_a_problem():
    async def plain(ev: Page) -> StopEvent:
        return StopEvent()

    (problem,) = problems(begin, plain)
    assert "plain" in problem
    assert "@step" in problem


def test_one_error_lists_everything_that_is_wrong():
    @step
    async def unannotated(ev):  # type: ignore[no-untyped-def]
        return None

    @step
    async def unknown(ev: "Nowhere") -> StopEvent:  # type: ignore[name-defined]  # noqa: F821
        return StopEvent()

    found = problems(unannotated, unknown, begin, begin)
    assert len(found) == 3
    with pytest.raises(TreadleError) as caught:
        Workflow("wrong", [unannotated, unknown, begin, begin])
    assert all(problem in str(caught.value) for problem in found)
    assert isinstance(caught.value, ValueError)


def test_a_step_without_a_return_annotation_may_return_anything():
    @step
    async def maybe(ev: StartEvent):
        return Page()

    @step
    async def lonely(ev: Note):
        return None

    Workflow("w", [maybe, finish, lonely])


@pytest.mark.parametrize(
    "annotation",
    [
        Any,
        Event,
        object,
        list,
        list[Any],
        typing.List,  # noqa: UP006
        collections.abc.AsyncIterator,
        typing.AsyncIterator,
        collections.abc.Iterable,
    ],
    ids=str,
)
def test_a_return_annotation_that_does_not_tell_is_as_good_as_none(annotation: Any):
    @step
    async def vague(ev: StartEvent) -> annotation:
        return [Page()]

    Workflow("w", [vague, finish])


@pytest.mark.parametrize(
    "annotation",
    [
        list[Page | Note],
        list[Page] | Note,
        Optional[Union[Page, Note]],  # noqa: UP007, UP045
        collections.abc.Sequence[Page | Note] | None,
        collections.abc.AsyncIterator[Page | Note],
        collections.abc.AsyncGenerator[Page | Note, None],
        typing.Iterator[Page | Note],
        typing.Generator[Page | Note, None, None],
        Annotated[Page | Note, "more"],
        list["Page | Note"],
    ],
    ids=str,
)
def test_return_annotations_are_seen_through(annotation: Any):
    @step
    async def several(ev: StartEvent) -> annotation: ...

    (problem,) = problems(several, finish)
    assert "Note" in problem

    @step
    async def note(ev: Note) -> StopEvent:
        return StopEvent()

    Workflow("w", [several, finish, note])


def test_a_returned_base_class_reaches_steps_that_accept_its_subclasses():
    @step
    async def base(ev: StartEvent) -> Page:
        return Deep()

    @step
    async def deep(ev: Deep) -> StopEvent:
        return StopEvent()

    Workflow("w", [base, deep])


def test_an_external_step_needs_nobody_who_emits_its_events():
    @step(external=True)
    async def outside(ev: Note) -> StopEvent:
        return StopEvent()

    Workflow("w", [begin, finish, outside])


def test_the_graph_is_shown_as_mermaid():
    text = Workflow("w", [begin, finish]).to_mermaid()
    assert text.startswith("flowchart")
    assert {"begin", "finish"} <= set(text.replace('"', " ").split()) or '"begin"' in text
    assert "|Page|" in text
    assert "stop" in text
    assert Workflow("w", [begin, finish])._repr_markdown_().startswith("```mermaid")


# What a step accepts


@pytest.mark.parametrize(
    "annotation",
    [
        Page | None,
        Optional[Page],  # noqa: UP045
        Union[Page, Note],  # noqa: UP007
        Page | Note,
        Annotated[Page, "more"],
        Annotated[Page | Note, "more"],
        Event,
        Any,
        object,
        TypeVar("Bound", bound=Page),
        TypeVar("Constrained", Page, Note),
    ],
    ids=str,
)
async def test_annotations_of_every_kind_say_what_a_step_accepts(annotation: Any):
    @step
    async def first(ev: StartEvent):
        return Page(n=7)

    @step
    async def take(ev: annotation) -> StopEvent:
        return StopEvent(result=ev.n)

    assert await Workflow("w", [first, take]).run() == 7


@pytest.mark.parametrize("cls", [Model, Data, Struct])
async def test_models_dataclasses_and_structs_are_events(cls: Any):
    @step
    async def first(ev: StartEvent) -> cls:
        return cls(n=4)

    @step
    async def last(ev: cls) -> StopEvent:
        return StopEvent(result=ev)

    result = await Workflow("w", [first, last]).run()
    assert type(result) is cls
    assert result == cls(n=4)


async def test_a_run_may_start_with_an_event_of_any_class():
    @step
    async def first(ev: Model | StartEvent) -> StopEvent:
        return StopEvent(result=ev.n)

    assert await Workflow("w", [first]).run(Model(n=9)) == 9


@pytest.mark.parametrize("annotation", [list[Page], 5, "5", typing.Literal["x"], None, StopEvent])
def test_an_annotation_that_no_event_can_have_is_a_problem(annotation: Any):
    @step
    async def wrong(ev: annotation) -> StopEvent:
        return StopEvent()

    assert all("wrong" in problem for problem in problems(begin, finish, wrong))


def test_a_missing_annotation_is_one_clear_problem():
    @step
    async def wrong(ctx: Context, ev):  # type: ignore[no-untyped-def]
        return StopEvent()

    (problem,) = problems(wrong)
    assert "'wrong'" in problem
    assert "'ev'" in problem


@pytest.mark.parametrize("count", [0, 2])
def test_a_step_has_exactly_one_event_parameter(count: int):
    async def none(ctx: Context) -> StopEvent:
        return StopEvent()

    async def two(ev: StartEvent, other: Page) -> StopEvent:
        return StopEvent()

    (problem,) = problems(step({0: none, 2: two}[count]))
    assert "one parameter for the event" in problem


# How a step is called


async def test_the_names_and_the_order_of_parameters_do_not_matter():
    @step
    async def first(whatever: StartEvent, self: Context) -> Page:
        self.set("k", 1)
        return Page()

    @step
    async def last(ctx: Page, *, ev: Context) -> StopEvent:
        return StopEvent(result=(type(ctx), ev.get("k")))

    assert await Workflow("w", [first, last]).run() == (Page, 1)


async def test_parameters_with_defaults_are_left_alone():
    @step
    async def first(ev: StartEvent, more=3, *args: Any, extra: int = 4, **kw: Any) -> StopEvent:  # type: ignore[no-untyped-def]
        return StopEvent(result=(more, args, extra, kw))

    assert await Workflow("w", [first]).run() == (3, (), 4, {})


async def test_a_partial_is_a_step():
    async def scaled(factor: int, ctx: Context, ev: StartEvent, *, plus: int) -> StopEvent:
        return StopEvent(result=ev.n * factor + plus)

    assert await Workflow("w", [step(functools.partial(scaled, 3, plus=1))]).run(n=5) == 16


async def test_a_partial_that_fills_a_parameter_in_the_middle_is_a_step():
    async def scaled(ctx: Context, factor: int, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ev.n * factor)

    assert await Workflow("w", [step(functools.partial(scaled, factor=3))]).run(n=5) == 15


async def test_a_bound_method_is_a_step():
    class Service:
        def __init__(self, n: int) -> None:
            self.n = n

        async def serve(self, ev: StartEvent) -> StopEvent:
            return StopEvent(result=self.n)

    assert await Workflow("w", [step(Service(3).serve)]).run() == 3


async def test_a_callable_object_is_a_step():
    class First:
        async def __call__(self, ev: StartEvent) -> Page:
            return Page(n=6)

    class Last:
        def __call__(self, ctx: Context, ev: Page) -> StopEvent:
            return StopEvent(result=ev.n)

    workflow = Workflow("w", [step(name="first")(First()), step(name="last")(Last())])
    assert await workflow.run() == 6


async def test_callable_objects_of_two_classes_need_no_names():
    class First:
        async def __call__(self, ev: StartEvent) -> Page:
            return Page(n=6)

    class Last:
        async def __call__(self, ev: Page) -> StopEvent:
            return StopEvent(result=ev.n)

    assert await Workflow("w", [step(First()), step(Last())]).run() == 6


async def test_a_wrapped_function_is_a_step():
    calls: list[str] = []

    def traced(function: Any) -> Any:
        @functools.wraps(function)
        async def inner(*args: Any) -> Any:
            calls.append(function.__name__)
            return await function(*args)

        return inner

    @step
    @traced
    async def first(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ctx.attempt)

    assert await Workflow("w", [first]).run() == 1
    assert calls == ["first"]


@pytest.mark.parametrize("order", ["step inside", "step outside"])
async def test_a_static_method_is_a_step(order: str):
    async def first(ev: StartEvent) -> StopEvent:
        return StopEvent(result="static")

    method = staticmethod(step(first)) if order == "step inside" else step(staticmethod(first))  # type: ignore[type-var]
    cls = type("Static", (Workflow,), {"first": method})
    assert await cls().run() == "static"


def test_step_leaves_the_function_as_it_is():
    async def first(ev: StartEvent) -> StopEvent:
        return StopEvent()

    assert step(first) is first
    assert step(timeout=3)(first) is first


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout": 0}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": "1"}, TypeError),
        ({"timeout": True}, TypeError),
        ({"concurrency": 0}, ValueError),
        ({"concurrency": 1.5}, TypeError),
        ({"concurrency": 2**32}, ValueError),
        ({"unknown": 1}, TypeError),
    ],
    ids=str,
)
def test_a_wrong_option_is_an_error_where_it_is_given(
    options: dict[str, Any], error: type[Exception]
):
    with pytest.raises(error):
        step(**options)


@pytest.mark.parametrize("value", ["x", 5, [1]], ids=str)
def test_step_takes_functions_only(value: Any):
    with pytest.raises(TypeError, match="function"):
        step(value)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout": 0}, ValueError),
        ({"timeout": "1"}, TypeError),
        ({"stream_limit": 0}, ValueError),
        ({"stream_limit": 1.0}, TypeError),
        ({"name": 3}, TypeError),
    ],
    ids=str,
)
def test_a_wrong_option_of_a_workflow_is_an_error(options: dict[str, Any], error: type[Exception]):
    with pytest.raises(error):
        Workflow(**{"name": "w", "steps": [begin, finish], **options})


def test_inline_is_for_plain_functions():
    @step(inline=True)
    def wrong(ev: StartEvent) -> typing.Iterator[StopEvent]:
        yield StopEvent()

    (problem,) = problems(wrong)
    assert "inline" in problem


# Starting


async def test_run_takes_the_fields_of_a_declared_start_event():
    class Crawl(StartEvent):
        url: str

    @step
    async def first(ev: Crawl) -> StopEvent:
        return StopEvent(result=ev.url)

    workflow = Workflow("w", [first])
    assert await workflow.run(url="x") == "x"
    assert await workflow.run(Crawl(url="y")) == "y"
    with pytest.raises(TypeError, match="ulr"):
        workflow.run(ulr="x")
    with pytest.raises(TypeError, match="not both"):
        workflow.run(Crawl(url="y"), url="x")


async def test_a_workflow_with_two_start_events_wants_one_of_them():
    class One(StartEvent):
        pass

    class Two(StartEvent):
        pass

    @step
    async def one(ev: One) -> StopEvent:
        return StopEvent(result=1)

    @step
    async def two(ev: Two) -> StopEvent:
        return StopEvent(result=2)

    workflow = Workflow("w", [one, two])
    assert await workflow.run(Two()) == 2
    with pytest.raises(TypeError, match="One, Two"):
        workflow.run()

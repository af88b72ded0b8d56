import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest

from treadle import Event, Resource, StartEvent, StopEvent, Workflow, close_resources, step
from treadle.testing import override


def settings() -> str:
    return "real settings"


async def connect(settings: Annotated[str, Resource(settings, "process")]) -> str:
    await asyncio.sleep(0)
    return f"real db with {settings}"


DB = Resource(connect, "process")


@step
async def work(ev: StartEvent, db: Annotated[str, DB]) -> StopEvent:
    return StopEvent(result=db)


workflow = Workflow("w", [work])


async def fake() -> str:
    return "fake db"


async def test_a_factory_is_replaced_inside_and_only_there():
    with override(connect, lambda: "fake db"):
        assert await workflow.run() == "fake db"
    assert await workflow.run() == "real db with real settings"


async def test_a_resource_names_its_factory():
    with override(DB, Resource(fake)):
        assert await workflow.run() == "fake db"


async def test_what_needs_the_replaced_one_is_made_anew():
    assert await workflow.run() == "real db with real settings"
    with override(settings, lambda: "test settings"):
        assert await workflow.run() == "real db with test settings"
    assert await workflow.run() == "real db with real settings"


async def test_an_object_of_one_override_is_not_met_in_another():
    made = []

    def counted() -> int:
        made.append(1)
        return len(made)

    for n in (1, 2):
        with override(connect, counted):
            assert await workflow.run() == n
            assert await workflow.run() == n


async def test_overrides_nest():
    with override(connect, lambda: "outer"):
        with override(connect, lambda: "inner"), override(settings, lambda: "x"):
            assert await workflow.run() == "inner"
        assert await workflow.run() == "outer"
        with pytest.raises(LookupError), override(connect, lambda: "inner"):
            raise LookupError
        assert await workflow.run() == "outer"


async def test_a_replacement_may_ask_for_the_original():
    def wrapped(original: Annotated[str, Resource(connect, "process")]) -> str:
        return f"[{original}]"

    with override(connect, wrapped), override(settings, lambda: "test settings"):
        assert await workflow.run() == "[real db with test settings]"


async def test_a_replacement_is_closed_as_the_original_would_be():
    lines: list[str] = []

    async def recording() -> AsyncIterator[str]:
        lines.append("+")
        yield "recording"
        lines.append("-")

    @step
    async def once(ev: StartEvent, it: Annotated[str, Resource(fake)]) -> StopEvent:
        return StopEvent(result=it)

    with override(fake, recording):
        assert await Workflow("once", [once]).run() == "recording"
        assert lines == ["+", "-"]
    with override(connect, recording):
        await workflow.run()
        assert lines == ["+", "-", "+"]
    await close_resources()
    assert lines == ["+", "-", "+", "-"]


async def test_tests_at_the_same_time_do_not_see_each_other():
    async def one(n: int) -> None:
        with override(connect, lambda: n):
            await asyncio.sleep(0)
            assert await workflow.run() == n

    await asyncio.gather(*(one(n) for n in range(50)))


async def test_it_counts_for_runs_that_are_made_inside():
    with override(connect, lambda: "fake db"):
        inside = workflow.run()
    outside = workflow.run()
    assert await asyncio.gather(inside, outside) == ["fake db", "real db with real settings"]


async def test_threads_and_inline_steps_and_children_see_it():
    class Next(Event):
        found: str

    @step(inline=True)
    def first(ev: StartEvent, it: Annotated[str, Resource(settings)]) -> Next:
        return Next(found=it)

    @step
    def second(ev: Next, it: Annotated[str, Resource(settings)]) -> StopEvent:
        return StopEvent(result=ev.found == it == "test settings")

    inner = Workflow("inner", [first, second])

    @step
    async def outer(ev: StartEvent) -> StopEvent:
        return StopEvent(result=await inner.run())

    with override(settings, lambda: "test settings"):
        assert await Workflow("outer", [outer]).run() is True


@override(connect, fake)
async def test_it_decorates_an_async_function(tmp_path: Any):
    assert tmp_path.exists()
    assert await workflow.run() == "fake db"


def test_it_decorates_a_function():
    @override(connect, fake)
    def main(factor: int, *, shift: int) -> object:
        return asyncio.run(inside()), factor + shift

    async def inside() -> object:
        return await workflow.run()

    assert main(1, shift=2) == ("fake db", 3)
    assert asyncio.run(inside()) == "real db with real settings"


def test_it_decorates_no_generator_and_no_class():
    def generator() -> Iterator[int]:
        yield 1

    async def asynchronous_generator() -> AsyncIterator[int]:
        yield 1

    class Tests:
        pass

    for function in (generator, asynchronous_generator, Tests):
        with pytest.raises(TypeError, match="override decorates a function, and no generator"):
            override(connect, fake)(function)


async def test_one_override_may_be_entered_many_times():
    again = override(connect, fake)
    with again:
        with again:
            assert await workflow.run() == "fake db"
        assert await workflow.run() == "fake db"
    assert await workflow.run() == "real db with real settings"


def test_what_cannot_work_is_refused_at_once():
    with pytest.raises(TypeError, match="replaced: a factory or a Resource expected, not 'db'"):
        override("db", fake)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="replacement: a factory or a Resource expected, not 1"):
        override(connect, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="parameter 'n' is filled by nothing"):
        override(connect, lambda n: n)


async def test_an_object_of_the_process_cannot_come_to_need_one_of_a_run():
    def short_lived(it: Annotated[str, Resource(fake)]) -> str:
        return it

    with (
        override(connect, short_lived),
        pytest.raises(TypeError, match="'short_lived' has the scope 'process', and cannot need"),
    ):
        await workflow.run()


async def test_an_inline_step_cannot_wait_for_a_replacement():
    @step(inline=True)
    def inline(ev: StartEvent, it: Annotated[str, Resource(settings)]) -> StopEvent:
        return StopEvent(result=it)

    with override(settings, fake), pytest.raises(TypeError, match="'settings' takes waiting"):
        await Workflow("inline", [inline]).run()


def test_an_override_shows_what_it_replaces():
    assert repr(override(DB, fake)).startswith("override(<function connect")

"""Resources of which each call of a step gets its own: `Resource(f, cache=False)`."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest

from treadle import (
    Event,
    Resource,
    Retry,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowDefinitionError,
    step,
)
from treadle.testing import override

log: list[str] = []
made = iter(range(10_000))


class Thing:
    def __init__(self) -> None:
        self.number = next(made)


class Next(Event):
    first: int


async def managed() -> AsyncIterator[Thing]:
    log.append("open")
    await asyncio.sleep(0)
    yield Thing()
    await asyncio.sleep(0)
    log.append("close")


def plain() -> Iterator[Thing]:
    log.append("open")
    try:
        yield Thing()
    finally:
        log.append("close")


@pytest.fixture(autouse=True)
def empty_log() -> None:
    log.clear()


@pytest.mark.parametrize("factory", [managed, plain])
async def test_each_call_gets_its_own_which_is_closed_at_its_end(factory: Any):
    own = Resource(factory, cache=False)

    @step
    async def one(ev: StartEvent, thing: Annotated[Thing, own]) -> Next:
        log.append("one")
        return Next(first=thing.number)

    @step
    async def two(ev: Next, thing: Annotated[Thing, own]) -> StopEvent:
        log.append("two")
        return StopEvent(result=thing.number != ev.first)

    assert await Workflow("own", [one, two]).run() is True
    assert log == ["open", "one", "close", "open", "two", "close"]


async def test_each_attempt_gets_its_own_and_the_failure_reaches_what_is_closed():
    seen: list[BaseException] = []

    def watched() -> Iterator[Thing]:
        try:
            yield Thing()
        except ConnectionError as error:
            seen.append(error)
            raise

    numbers: set[int] = set()

    @step(retry=Retry(3, initial=0))
    async def work(
        ev: StartEvent, thing: Annotated[Thing, Resource(watched, cache=False)]
    ) -> StopEvent:
        numbers.add(thing.number)
        if len(numbers) < 3:
            raise ConnectionError
        return StopEvent()

    await Workflow("tried", [work]).run()
    assert len(numbers) == 3
    assert len(seen) == 2


async def test_concurrent_calls_share_nothing():
    @step
    async def start(ev: StartEvent) -> list[Next]:
        return [Next(first=n) for n in range(4)]

    together: list[int] = []

    @step
    async def work(
        ev: Next, thing: Annotated[Thing, Resource(managed, cache=False)]
    ) -> StopEvent | None:
        together.append(thing.number)
        await asyncio.sleep(0.01)
        return StopEvent() if len(set(together)) == 4 else None

    await Workflow("together", [start, work]).run()
    assert len(set(together)) == 4


async def test_a_factory_may_make_one_for_the_run_and_others_for_calls():
    @step
    async def work(
        ev: StartEvent,
        shared: Annotated[Thing, Resource(Thing)],
        own: Annotated[Thing, Resource(Thing, cache=False)],
    ) -> StopEvent:
        return StopEvent(result=shared is not own)

    assert await Workflow("both", [work]).run() is True


async def test_what_is_made_for_a_call_may_need_what_is_shared():
    def outer(
        shared: Annotated[Thing, Resource(Thing)],
        own: Annotated[Thing, Resource(plain, cache=False)],
    ) -> tuple[Thing, Thing]:
        return shared, own

    pairs: list[tuple[Thing, Thing]] = []

    @step
    async def one(ev: StartEvent, pair: Annotated[Any, Resource(outer, cache=False)]) -> Next:
        pairs.append(pair)
        return Next(first=0)

    @step
    async def two(ev: Next, pair: Annotated[Any, Resource(outer, cache=False)]) -> StopEvent:
        pairs.append(pair)
        return StopEvent()

    await Workflow("needs", [one, two]).run()
    assert pairs[0][0] is pairs[1][0]
    assert pairs[0][1] is not pairs[1][1]
    assert log == ["open", "close"] * 2


async def test_an_inline_step_and_one_in_a_thread_get_their_own():
    @step(inline=True)
    def one(ev: StartEvent, thing: Annotated[Thing, Resource(plain, cache=False)]) -> Next:
        return Next(first=thing.number)

    @step
    def two(ev: Next, thing: Annotated[Thing, Resource(plain, cache=False)]) -> StopEvent:
        return StopEvent(result=thing.number - ev.first)

    assert await Workflow("sync", [one, two]).run() == 1
    assert log == ["open", "close"] * 2


async def test_closing_that_fails_fails_the_step():
    def bad() -> Iterator[Thing]:
        yield Thing()
        raise KeyError("closing")

    @step
    async def work(
        ev: StartEvent, thing: Annotated[Thing, Resource(bad, cache=False)]
    ) -> StopEvent:
        return StopEvent()

    with pytest.raises(KeyError, match="closing") as caught:
        await Workflow("bad", [work]).run()
    assert 'while closing resource "bad"' in "".join(caught.value.__notes__)


async def test_a_cancelled_step_closes_its_own():
    begun = asyncio.Event()

    @step
    async def work(
        ev: StartEvent, thing: Annotated[Thing, Resource(plain, cache=False)]
    ) -> StopEvent:
        begun.set()
        await asyncio.sleep(3600)
        return StopEvent()

    run = Workflow("cancelled", [work]).run()
    task = asyncio.ensure_future(asyncio.wait_for(run, 3600))
    await begun.wait()
    run.cancel()
    with pytest.raises(Exception, match="cancelled"):
        await task
    assert log == ["open", "close"]


async def test_a_replacement_is_made_for_each_call_as_well():
    @step
    async def one(ev: StartEvent, thing: Annotated[Thing, Resource(managed, cache=False)]) -> Next:
        return Next(first=id(thing))

    @step
    async def two(ev: Next, thing: Annotated[Thing, Resource(managed, cache=False)]) -> StopEvent:
        return StopEvent(result=isinstance(thing, Thing))

    with override(managed, plain):
        assert await Workflow("replaced", [one, two]).run() is True
    assert log == ["open", "close"] * 2


@pytest.mark.parametrize(
    ("resource", "text"),
    [
        (Resource(Thing, "process", cache=False), "cache=False makes an object for each call"),
        (Resource(Thing, cache="no"), "cache is True or False"),  # type: ignore[arg-type]
    ],
)
def test_a_mistake_is_one_of_the_definition(resource: Resource, text: str):
    @step
    async def work(ev: StartEvent, thing: Annotated[Thing, resource]) -> StopEvent:
        return StopEvent()

    with pytest.raises(WorkflowDefinitionError, match=text):
        Workflow("mistake", [work])


def test_what_is_shared_cannot_need_what_is_made_for_a_call():
    def outer(own: Annotated[Thing, Resource(Thing, cache=False)]) -> int:
        return own.number

    @step
    async def work(ev: StartEvent, number: Annotated[int, Resource(outer)]) -> StopEvent:
        return StopEvent()

    with pytest.raises(WorkflowDefinitionError, match=r"made for each call \(cache=False\)"):
        Workflow("mistake", [work])

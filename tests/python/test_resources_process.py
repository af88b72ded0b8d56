"""Resources of the scope "process": one for each event loop, closed when that shuts down."""

import asyncio
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from isolated import run_script

from treadle import Resource, StartEvent, StopEvent, Workflow, close_resources, step


class Pool:
    """Notes when it is made and closed."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def open(self) -> AsyncIterator[object]:
        self.lines.append("+")
        await asyncio.sleep(0)
        try:
            yield object()
        finally:
            await asyncio.sleep(0)
            self.lines.append("-")

    def open_at_once(self) -> Iterator[object]:
        self.lines.append("+")
        try:
            yield object()
        finally:
            self.lines.append("-")


@pytest.fixture
def pool() -> Pool:
    return Pool()


def asking(factory: Any) -> Workflow:
    @step
    async def work(ev: StartEvent, it: Annotated[Any, Resource(factory, "process")]) -> StopEvent:
        return StopEvent(result=it)

    return Workflow("asking", [work])


@pytest.mark.parametrize("how", ["open", "open_at_once"])
def test_all_runs_of_a_loop_share_it_and_the_end_of_the_loop_closes_it(how: str, pool: Pool):
    factory = getattr(pool, how)

    async def main() -> int:
        workflows = [asking(factory), asking(factory)]
        found = await asyncio.gather(*(workflows[n % 2].run() for n in range(100)))
        assert pool.lines == ["+"]
        return len(set(map(id, found)))

    assert asyncio.run(main()) == 1
    assert pool.lines == ["+", "-"]


@pytest.mark.parametrize("how", ["open", "open_at_once"])
def test_each_of_two_loops_one_after_another_has_its_own(how: str, pool: Pool):
    workflow = asking(getattr(pool, how))

    async def main() -> object:
        return await workflow.run()

    assert asyncio.run(main()) is not asyncio.run(main())
    assert pool.lines == ["+", "-", "+", "-"]


def test_two_loops_in_two_threads_do_not_meet(pool: Pool):
    workflow = asking(pool.open)
    found = []
    both = threading.Barrier(2)

    async def main() -> None:
        found.append(await workflow.run())
        both.wait(5)

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] is not found[1]
    assert sorted(pool.lines) == ["+", "+", "-", "-"]


@pytest.mark.parametrize("how", ["open", "open_at_once"])
def test_a_loop_that_is_shut_down_by_hand_closes_it(how: str, pool: Pool):
    workflow = asking(getattr(pool, how))

    async def main() -> None:
        await workflow.run()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    assert pool.lines == ["+"]
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    assert pool.lines == ["+", "-"]


def test_uvloop_closes_it(pool: Pool):
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        await asking(pool.open).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    assert pool.lines == ["+", "-"]


def test_a_run_that_goes_on_when_the_loop_shuts_down_is_done_with_it_first(pool: Pool):
    @step
    async def work(ev: StartEvent, it: Annotated[Any, Resource(pool.open, "process")]) -> StopEvent:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.02)
            pool.lines.append("step")
        return StopEvent()

    async def session(it: Annotated[Any, Resource(pool.open, "process")]) -> AsyncIterator[str]:
        try:
            yield "session"
        finally:
            await asyncio.sleep(0.02)
            pool.lines.append("session")

    @step
    async def other(ev: StartEvent, it: Annotated[Any, Resource(session)]) -> StopEvent:
        await asyncio.sleep(60)
        return StopEvent()

    async def main() -> None:
        Workflow("work", [work]).run()
        Workflow("other", [other]).run()
        await asyncio.sleep(0.05)

    asyncio.run(main())
    assert sorted(pool.lines[1:3]) == ["session", "step"]
    assert (pool.lines[0], pool.lines[3:]) == ("+", ["-"])


def test_a_run_with_objects_of_its_own_closes_them_when_the_loop_shuts_down():
    printed = run_script(
        """
from typing import Annotated

async def connect():
    print("+")
    try:
        yield "db"
    finally:
        await asyncio.sleep(0.02)
        print("-")

def file():
    try:
        yield "file"
    finally:
        print("-file")

@step
async def work(
    ev: StartEvent,
    file: Annotated[str, Resource(file)],
    db: Annotated[str, Resource(connect)],
) -> StopEvent:
    await asyncio.sleep(60)

async def main():
    Workflow("w", [work]).run()
    await asyncio.sleep(0.05)

asyncio.run(main())
""",
        debug=True,
    )
    assert printed.split() == ["+", "-", "-file"]


async def test_close_resources_closes_in_reverse_order_and_the_next_ask_makes_anew():
    lines: list[str] = []

    async def outer() -> AsyncIterator[str]:
        lines.append("+outer")
        yield "outer"
        lines.append("-outer")

    def inner(needed: Annotated[str, Resource(outer, "process")]) -> Iterator[str]:
        lines.append("+inner")
        yield "inner"
        lines.append("-inner")

    workflow = asking(inner)
    await workflow.run()
    await close_resources()
    assert lines == ["+outer", "+inner", "-inner", "-outer"]
    await close_resources()
    await workflow.run()
    await close_resources()
    assert lines == 2 * ["+outer", "+inner", "-inner", "-outer"]


async def test_close_resources_leaves_those_of_runs_alone(pool: Pool):
    @step
    async def work(ev: StartEvent, it: Annotated[Any, Resource(pool.open)]) -> StopEvent:
        await close_resources()
        pool.lines.append("step")
        return StopEvent()

    await Workflow("w", [work]).run()
    assert pool.lines == ["+", "step", "-"]


async def test_close_resources_has_whoever_waits_for_an_object_get_a_new_one(pool: Pool):
    async def slow() -> AsyncIterator[int]:
        pool.lines.append("+")
        await asyncio.sleep(0.03)
        yield len(pool.lines)
        pool.lines.append("-")

    run = asyncio.create_task(asyncio.wait_for(asking(slow).run(), 5))
    await asyncio.sleep(0.01)
    await close_resources()
    assert await run == 2
    await close_resources()
    assert pool.lines == ["+", "+", "-"]


async def test_close_resources_raises_the_first_error_after_closing_all(
    caplog: pytest.LogCaptureFixture,
):
    closed = []

    def failing(name: str) -> Any:
        async def make() -> AsyncIterator[str]:
            yield name
            # Without `finally`: nothing is wrong with this one when another failed to close.
            closed.append(name)
            raise OSError(name)

        return make

    for name in ("a", "b", "c"):
        await asking(failing(name)).run()
    with pytest.raises(OSError, match="c") as raised:
        await close_resources()
    assert raised.value.__notes__ == ['while closing resource "make"']
    assert closed == ["c", "b", "a"]
    assert [record.name for record in caplog.records] == ["treadle"] * 2


async def test_close_resources_goes_on_although_its_caller_is_cancelled(pool: Pool):
    await asking(pool.open).run()
    closing = asyncio.create_task(close_resources())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await asyncio.sleep(0.01)
    assert pool.lines == ["+", "-"]


def test_an_error_of_closing_at_the_end_of_the_loop_is_logged(caplog: pytest.LogCaptureFixture):
    async def failing() -> AsyncIterator[str]:
        try:
            yield "it"
        finally:
            raise OSError("cannot close")

    def failing_at_once() -> Iterator[str]:
        try:
            yield "it"
        finally:
            raise OSError("cannot close")

    async def main() -> None:
        await asking(failing).run()
        await asking(failing_at_once).run()

    asyncio.run(main())
    records = [record for record in caplog.records if record.name == "treadle"]
    assert [record.levelno for record in records] == [logging.ERROR] * 2


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def test_it_does_not_belong_to_the_run_that_asked_first(pool: Pool):
    ended = asyncio.Event()

    @step
    async def child(ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0.05)
        ended.set()
        return StopEvent()

    background = Workflow("background", [child])

    async def make() -> str:
        background.run()
        return variable.get()

    variable.set("of the first request")
    assert await asking(make).run() == "unset"
    assert not ended.is_set()
    await asyncio.wait_for(ended.wait(), 5)


async def test_objects_of_a_run_may_need_those_of_the_process(pool: Pool):
    def session(it: Annotated[object, Resource(pool.open, "process")]) -> Iterator[object]:
        yield it
        pool.lines.append("session")

    @step
    async def work(ev: StartEvent, it: Annotated[Any, Resource(session)]) -> StopEvent:
        return StopEvent(result=it)

    workflow = Workflow("w", [work])
    assert await workflow.run() is await workflow.run()
    await close_resources()
    assert pool.lines == ["+", "session", "session", "-"]

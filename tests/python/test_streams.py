import asyncio
import gc
import weakref
from typing import Any

import pytest

from treadle import Context, Event, Lagged, RunCancelled, StartEvent, StopEvent, Workflow, step


class Tick(Event):
    n: int


@step
async def ticks(ctx: Context, ev: StartEvent) -> StopEvent:
    for n in range(1, ev.count + 1):
        ctx.write_event_to_stream(Tick(n=n))
        if ev.pause:
            await asyncio.sleep(0)
    return StopEvent(result="done")


TICKS = Workflow("ticks", [ticks])
SMALL = Workflow("small", [ticks], stream_limit=3)


async def read(run: Any, after: int = 0) -> list[Any]:
    return [ev.n if isinstance(ev, Tick) else ev async for ev in run.stream_events(after=after)]


@pytest.mark.parametrize("pause", [False, True])
async def test_a_reader_gets_every_event_in_order_and_then_ends(pause: bool):
    run = TICKS.run(count=100, pause=pause)
    assert await read(run) == list(range(1, 101))
    assert await run == "done"


async def test_reading_alone_lets_the_run_go_on():
    assert await asyncio.wait_for(read(TICKS.run(count=3, pause=True)), 5) == [1, 2, 3]


async def test_each_of_many_readers_gets_every_event():
    run = TICKS.run(count=50, pause=True)
    assert await asyncio.gather(*(read(run) for _ in range(20))) == [list(range(1, 51))] * 20


async def test_a_stream_can_be_read_after_the_run_has_ended_and_again():
    run = TICKS.run(count=3, pause=False)
    await run
    assert [await read(run), await read(run)] == [[1, 2, 3]] * 2


@pytest.mark.parametrize("after", range(6))
async def test_a_reader_begins_behind_the_number_that_it_gives(after: int):
    run = TICKS.run(count=5, pause=True)
    assert await read(run, after) == list(range(after + 1, 6))
    assert await read(run, after) == list(range(after + 1, 6))


async def test_a_reader_from_the_future_gets_what_comes_later():
    run = TICKS.run(count=5, pause=True)
    assert await asyncio.wait_for(read(run, 100), 5) == []


async def test_a_negative_number_is_an_error():
    run = TICKS.run(count=1, pause=False)
    with pytest.raises((OverflowError, ValueError)):
        run.stream_events(after=-1)
    await run


async def test_the_position_says_where_to_go_on():
    run = TICKS.run(count=5, pause=True)
    reader = run.stream_events()
    assert [(await anext(reader)).n, (await anext(reader)).n] == [1, 2]
    assert reader.position == 2
    assert await read(run, reader.position) == [3, 4, 5]


async def test_a_slow_reader_is_told_how_many_events_it_missed():
    run = SMALL.run(count=10, pause=False)
    await run
    assert await read(run) == [Lagged(missed=7), 8, 9, 10]
    assert await read(run, 5) == [Lagged(missed=2), 8, 9, 10]
    assert await read(run, 7) == [8, 9, 10]


async def test_a_reader_never_misses_events_without_being_told():
    run = SMALL.run(count=200, pause=True)
    seen, number = 0, 0
    async for ev in run.stream_events():
        if isinstance(ev, Lagged):
            seen += ev.missed
            number += ev.missed
        else:
            number += 1
            seen += 1
            assert ev.n == number
        for _ in range(7 if number < 100 else 0):
            await asyncio.sleep(0)
    assert seen == 200


async def test_events_that_are_not_kept_any_more_are_freed():
    class Heavy:
        pass

    alive: list[weakref.ref[Heavy]] = []

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        for _ in range(10):
            heavy = Heavy()
            alive.append(weakref.ref(heavy))
            ctx.write_event_to_stream(heavy)  # type: ignore[arg-type]
        del heavy
        return StopEvent()

    run = Workflow("w", [work], stream_limit=3).run()
    await run
    gc.collect()
    assert sum(ref() is not None for ref in alive) == 3
    del run
    gc.collect()
    assert sum(ref() is not None for ref in alive) == 0


async def test_an_event_is_visible_at_once():
    order: list[str] = []

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Tick(n=1))
        order.append("written")
        await asyncio.sleep(0.01)
        order.append("over")
        return StopEvent()

    run = Workflow("w", [work]).run()
    async for _ in run.stream_events():
        order.append("read")
    assert order == ["written", "read", "over"]


async def test_any_object_can_be_streamed():
    values = [None, (), (1, 2), StopIteration(3), ValueError("x"), StopEvent(result=1), {}]

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        for value in values:
            ctx.write_event_to_stream(value)
        return StopEvent()

    run = Workflow("w", [work]).run()
    assert [id(value) async for value in run.stream_events()] == [id(value) for value in values]


@pytest.mark.parametrize("end", ["fails", "is cancelled"])
async def test_a_stream_ends_when_the_run_does(end: str):
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Tick(n=1))
        await asyncio.sleep(0.005 if end == "fails" else 1000)
        raise ValueError

    run = Workflow("w", [work]).run()
    if end == "is cancelled":
        asyncio.get_running_loop().call_later(0.01, run.cancel)
    assert await asyncio.wait_for(read(run), 5) == [1]
    with pytest.raises((ValueError, RunCancelled)):
        await run


async def test_a_cancelled_reader_loses_nothing_and_can_go_on():
    release = asyncio.Event()

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        await release.wait()
        ctx.write_event_to_stream(Tick(n=1))
        return StopEvent()

    run = Workflow("w", [work]).run()
    reader = run.stream_events()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(reader), 0.005)
    release.set()
    assert (await anext(reader)).n == 1
    assert await anext(reader, "end") == "end"
    assert await anext(reader, "end") == "end"
    assert await run is None


async def test_a_reader_that_is_cancelled_when_its_event_is_there_loses_nothing():
    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0.005)
        ctx.write_event_to_stream(Tick(n=1))
        tasks[0].cancel()
        return StopEvent()

    run = Workflow("w", [work]).run()
    reader = run.stream_events()
    tasks = [asyncio.ensure_future(anext(reader))]
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert [ev.n async for ev in reader] == [1]


async def test_cancelling_a_reader_leaves_the_run_alone():
    run = TICKS.run(count=50, pause=True)
    task = asyncio.create_task(read(run))
    for _ in range(10):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await run == "done"


async def test_two_tasks_may_share_a_reader_and_neither_hangs():
    run = TICKS.run(count=50, pause=True)
    reader = run.stream_events()

    async def take() -> list[int]:
        return [ev.n async for ev in reader]

    first, second = await asyncio.wait_for(
        asyncio.gather(take(), take(), return_exceptions=True), 2
    )
    got = [n for part in (first, second) if isinstance(part, list) for n in part]
    assert sorted(got) == list(range(1, 51))


async def test_a_stream_can_be_read_in_another_loop():
    run = TICKS.run(count=200, pause=True)
    results = await asyncio.gather(
        read(run),
        asyncio.to_thread(lambda: asyncio.run(read(run))),
        asyncio.to_thread(lambda: asyncio.run(read(run))),
    )
    assert results == [list(range(1, 201))] * 3


async def test_a_reader_whose_loop_was_closed_does_no_harm():
    release = asyncio.Event()

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        await release.wait()
        ctx.write_event_to_stream(Tick(n=1))
        return StopEvent(result="done")

    run = Workflow("w", [work]).run()

    async def begin_to_read() -> None:
        reader = run.stream_events()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(reader), 0.01)

        async def left_behind() -> None:
            await anext(reader)

        left_behind().send(None)  # suspended for good

    def thread() -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(begin_to_read())
        loop.close()

    await asyncio.to_thread(thread)
    release.set()
    assert await run == "done"
    assert await read(run) == [1]


async def test_threads_write_to_the_stream_in_one_order_for_all_readers():
    class Go(Event):
        n: int

    @step
    async def begin(ev: StartEvent) -> list[Go]:
        return [Go(n=n) for n in range(4)]

    @step
    def write(ctx: Context, ev: Go) -> StopEvent | None:
        for n in range(100):
            ctx.write_event_to_stream(Tick(n=ev.n * 100 + n))
        return StopEvent() if ctx.increment("n") == 4 else None

    run = Workflow("w", [begin, write]).run()
    first, second = await asyncio.gather(read(run), read(run))
    assert first == second
    assert sorted(first) == list(range(400))
    for part in range(4):
        assert [n for n in first if n // 100 == part] == list(range(part * 100, part * 100 + 100))


async def test_a_reader_does_not_keep_up_with_a_run_by_polling():
    # one wake-up of the reader for what was written in one go, not one for each event
    run = TICKS.run(count=1000, pause=False)
    passes = 0

    def count() -> None:
        nonlocal passes
        passes += 1
        handle.append(asyncio.get_running_loop().call_soon(count))

    handle: list[asyncio.Handle] = [asyncio.get_running_loop().call_soon(count)]
    assert len(await read(run)) == 1000
    handle[-1].cancel()
    assert passes < 100

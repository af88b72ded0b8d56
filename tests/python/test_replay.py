"""What a body finds that runs again: in another attempt, or after it was stopped by a pause."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle import (
    Context,
    Event,
    Retry,
    Run,
    StartEvent,
    StopEvent,
    UnroutedEvent,
    WaitTimeout,
    Workflow,
    step,
)


class Ask(Event):
    n: int = 0


class Answer(Event):
    n: int = 0


class Live(Event):
    """Cannot be stored: it holds a lock."""

    n: int = 0
    lock: Any = None


AGAIN = Retry(9, initial=0, jitter=0)


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


async def again_by_retry(run: Run) -> None:
    """The body fails by itself."""


async def again_by_pause(run: Run) -> None:
    await asyncio.wait_for(run.pause(wait=False), 1)
    run.resume()


Again = Callable[[Run], Any]
BOTH = pytest.mark.parametrize("again", [again_by_retry, again_by_pause])


async def interrupt(again: Again) -> None:
    """Where a body is to run again: it fails here, or waits here to be stopped."""
    if again is again_by_retry:
        raise ValueError("again")
    await asyncio.sleep(10)


# Events that it received


@BOTH
async def test_an_event_that_a_body_got_is_given_again(again: Again):
    got: list[Answer] = []

    @step(retry=AGAIN)
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        got.append(await ctx.wait_for_event(Answer))
        if len(got) == 1:
            await interrupt(again)
        return StopEvent()

    run = Workflow("w", [work]).run()
    await settle()
    run.send_event(Answer(n=1))
    await settle()
    await again(run)
    await asyncio.wait_for(run, 1)
    assert got[0] is got[1]


@BOTH
async def test_events_are_given_again_in_their_order_and_then_new_ones(again: Again):
    bodies: list[list[int]] = []

    @step(retry=AGAIN)
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        got: list[int] = []
        bodies.append(got)
        for n in range(5):
            got.append((await ctx.wait_for_event(Answer)).n)
            if n == 2 and len(bodies) == 1:
                await interrupt(again)
        return StopEvent()

    run = Workflow("w", [work]).run()
    for n in range(3):
        run.send_event(Answer(n=n))
    await settle()
    await again(run)
    for n in range(3, 5):
        run.send_event(Answer(n=n))
    await asyncio.wait_for(run, 1)
    assert bodies == [[0, 1, 2], [0, 1, 2, 3, 4]]


@BOTH
async def test_an_event_is_given_again_only_to_a_wait_that_it_matches(again: Again):
    bodies = 0

    @step(retry=AGAIN)
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        nonlocal bodies
        bodies += 1
        if bodies == 1:
            await ctx.wait_for_event(Answer, match={"n": 1})
            await interrupt(again)
        with pytest.raises(WaitTimeout):
            await ctx.wait_for_event(Answer, match={"n": 2}, timeout=0.005)
        return StopEvent(result=(await ctx.wait_for_event(Answer)).n)

    run = Workflow("w", [work]).run()
    await settle()
    run.send_event(Answer(n=1))
    await settle()
    await again(run)
    assert await asyncio.wait_for(run, 1) == 1


async def test_an_event_that_one_step_got_is_given_again_to_that_step_alone():
    got: dict[int, list[int]] = {}

    @step
    async def split(ev: StartEvent) -> list[Ask]:
        return [Ask(n=n) for n in range(2)]

    @step(retry=AGAIN)
    async def work(ctx: Context, ev: Ask) -> StopEvent | None:
        got.setdefault(ev.n, []).append((await ctx.wait_for_event(Answer)).n)
        if ctx.attempt == 1:
            raise ValueError("again")
        return StopEvent() if ctx.increment("done") == 2 else None

    run = Workflow("w", [split, work]).run()
    await asyncio.sleep(0.01)
    for n in range(2):
        run.send_event(Answer(n=n))
    await asyncio.wait_for(run, 1)
    assert got == {0: [0, 0], 1: [1, 1]}


async def test_waits_at_the_same_time_find_their_events_again():
    bodies = 0

    @step(retry=AGAIN)
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        nonlocal bodies
        bodies += 1

        async def wait(n: int) -> int:
            return (await ctx.wait_for_event(Answer, match={"n": n})).n

        got = await asyncio.gather(*(wait(n) for n in range(20)))
        if bodies < 3:
            raise ValueError("again")
        return StopEvent(result=got)

    run = Workflow("w", [work]).run()
    await settle()
    for n in reversed(range(20)):
        run.send_event(Answer(n=n))
    assert await asyncio.wait_for(run, 1) == list(range(20))


async def test_what_a_body_left_unread_goes_to_nobody_else():
    bodies = 0

    @step(retry=AGAIN)
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        nonlocal bodies
        bodies += 1
        if bodies == 1:
            await ctx.wait_for_event(Answer)
            raise ValueError("again")
        await ctx.sleep(0.01)
        return StopEvent(result="without it")

    @step(external=True)
    async def take(ev: Answer) -> StopEvent:
        return StopEvent(result="delivered to another step")

    run = Workflow("w", [work, take]).run()
    await settle()
    run.send_event(Answer())
    assert await asyncio.wait_for(run, 1) == "without it"


async def test_a_body_that_receives_very_many_events_takes_the_same_time_for_each():
    async def seconds(count: int) -> float:
        @step(retry=AGAIN)
        async def work(ctx: Context, ev: StartEvent) -> StopEvent:
            for _ in range(count):
                await ctx.wait_for_event(Answer)
            if ctx.attempt == 1:
                raise ValueError("again")
            return StopEvent()

        run = Workflow("w", [work]).run()
        for n in range(count):
            run.send_event(Answer(n=n))
        begin = time.process_time()
        await run
        return time.process_time() - begin

    await seconds(100)
    few = await seconds(2_000)
    assert await seconds(20_000) < 10 * few * 4 + 0.1


# Deadlines


async def test_a_wait_has_its_whole_time_in_each_attempt():
    begun: list[float] = []

    @step(retry=Retry(2, initial=0.02, jitter=0))
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        begun.append(time.monotonic())
        await ctx.wait_for_event(Answer, timeout=0.03)
        return StopEvent()

    with pytest.raises(WaitTimeout):
        await Workflow("w", [work]).run()
    assert time.monotonic() - begun[1] >= 0.029


async def test_sleeps_that_are_over_are_not_slept_again_after_a_pause():
    begun = 0

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        nonlocal begun
        begun += 1
        for _ in range(4):
            await ctx.sleep(0.2)
        return StopEvent(result=begun)

    begin = time.monotonic()
    run = Workflow("w", [work]).run()
    await asyncio.sleep(0.7)
    await run.pause(wait=False)
    run.resume()
    assert await run == 2
    assert 0.79 < time.monotonic() - begin < 1.4


# Events that it sent


@BOTH
async def test_what_a_body_sent_before_is_not_delivered_again(again: Again):
    taken: list[int] = []
    bodies = 0

    @step(retry=AGAIN)
    async def work(ctx: Context, ev: StartEvent) -> None:
        nonlocal bodies
        bodies += 1
        for n in range(6):
            ctx.send_event(Ask(n=n))
            if bodies == 1 and n == 3:
                await interrupt(again)

    @step
    async def take(ctx: Context, ev: Ask) -> StopEvent | None:
        taken.append(ev.n)
        return StopEvent() if ev.n == 5 else None

    run = Workflow("w", [work, take]).run()
    await settle()
    await again(run)
    await asyncio.wait_for(run, 1)
    assert taken == list(range(6))


@BOTH
async def test_equal_events_are_delivered_as_often_as_one_whole_body_sends_them(again: Again):
    bodies = 0

    @step(retry=AGAIN)
    async def work(ctx: Context, ev: StartEvent) -> Answer:
        nonlocal bodies
        bodies += 1
        for n in range(5):
            ctx.send_event(Ask())
            if bodies == 1 and n == 2:
                await interrupt(again)
        return Answer()

    @step
    async def take(ctx: Context, ev: Ask) -> None:
        ctx.increment("taken")

    @step
    async def end(ctx: Context, ev: Answer) -> StopEvent:
        return StopEvent(result=ctx.get("taken"))

    run = Workflow("w", [work, take, end]).run()
    await settle()
    await again(run)
    assert await asyncio.wait_for(run, 1) == 5


@BOTH
async def test_a_body_that_goes_on_from_where_it_was_sends_the_rest(again: Again):
    taken: list[int] = []
    bodies = 0

    @step(retry=AGAIN)
    async def work(ctx: Context, ev: StartEvent) -> None:
        nonlocal bodies
        bodies += 1
        for n in range(ctx.get("i", 0), 6):
            ctx.send_event(Ask(n=n))
            if bodies == 1 and n == 3:
                await interrupt(again)
            ctx.set("i", n + 1)

    @step
    async def take(ctx: Context, ev: Ask) -> StopEvent | None:
        taken.append(ev.n)
        return StopEvent() if ev.n == 5 else None

    run = Workflow("w", [work, take]).run()
    await settle()
    await again(run)
    await asyncio.wait_for(run, 1)
    assert taken == list(range(6))


async def test_a_body_that_goes_another_way_sends_all_that_is_new():
    taken: list[int] = []

    @step(retry=AGAIN)
    async def work(ctx: Context, ev: StartEvent) -> Answer:
        for n in [1, 2] if ctx.attempt == 1 else [7, 8, 9]:
            ctx.send_event(Ask(n=n))
        if ctx.attempt == 1:
            raise ValueError("again")
        return Answer()

    @step
    async def take(ev: Ask) -> None:
        taken.append(ev.n)

    @step
    async def end(ev: Answer) -> StopEvent:
        return StopEvent()

    await asyncio.wait_for(Workflow("w", [work, take, end]).run(), 1)
    assert taken == [1, 2, 7, 8, 9]


@BOTH
@pytest.mark.parametrize("kind", ["generator", "asynchronous generator"])
async def test_what_a_generator_yielded_before_is_not_delivered_again(again: Again, kind: str):
    taken: list[int] = []
    bodies = 0
    stopped = threading.Event()

    @step(retry=AGAIN, name="produce")
    async def slowly(ctx: Context, ev: StartEvent) -> AsyncIterator[Ask]:
        nonlocal bodies
        bodies += 1
        for n in range(6):
            yield Ask(n=n)
            if bodies == 1 and n == 3:
                await interrupt(again)

    @step(retry=AGAIN, name="produce")
    def in_thread(ctx: Context, ev: StartEvent) -> Iterator[Ask]:
        nonlocal bodies
        bodies += 1
        for n in range(6):
            yield Ask(n=n)
            if bodies == 1 and n == 3:
                if again is again_by_retry:
                    raise ValueError("again")
                stopped.wait(0.05)

    @step
    async def take(ev: Ask) -> StopEvent | None:
        taken.append(ev.n)
        return StopEvent() if ev.n == 5 else None

    run = Workflow("w", [in_thread if kind == "generator" else slowly, take]).run()
    await asyncio.sleep(0.02)
    if run.status in ("running", "waiting"):
        await again(run)
    await asyncio.wait_for(run, 2)
    assert taken == list(range(6))


async def test_an_event_that_nobody_accepts_is_an_error_in_each_attempt():
    class Lost(Event):
        pass

    attempts: list[int] = []

    @step(retry=Retry(3, initial=0))
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        attempts.append(ctx.attempt)
        ctx.send_event(Lost())
        return StopEvent(result="lost without a word")

    with pytest.raises(UnroutedEvent):
        await Workflow("w", [work]).run()
    assert attempts == [1, 2, 3]


@pytest.mark.parametrize(("numbers", "expected"), [([1, 1], [1]), ([1, 2], [1, 2])])
async def test_what_an_event_holds_and_cannot_be_compared_counts_by_its_class(numbers, expected):
    taken: list[int] = []

    @step(retry=AGAIN)
    async def work(ctx: Context, ev: StartEvent) -> Answer:
        ctx.send_event(Live(n=numbers[ctx.attempt - 1], lock=threading.Lock()))
        if ctx.attempt == 1:
            raise ValueError("again")
        return Answer()

    @step
    async def take(ev: Live) -> None:
        taken.append(ev.n)

    @step
    async def end(ev: Answer) -> StopEvent:
        return StopEvent()

    await asyncio.wait_for(Workflow("w", [work, take, end]).run(), 5)
    assert taken == expected


async def test_what_a_failed_body_would_have_returned_is_not_delivered():
    @step(retry=AGAIN)
    async def work(ctx: Context, ev: StartEvent) -> list[Ask]:
        if ctx.attempt < 3:
            raise ValueError("again")
        return [Ask(n=n) for n in range(3)]

    @step
    async def take(ctx: Context, ev: Ask) -> StopEvent | None:
        return StopEvent(result=ev.n) if ctx.increment("taken") == 3 else None

    assert await asyncio.wait_for(Workflow("w", [work, take]).run(), 1) == 2


async def test_an_event_that_a_body_sent_to_itself_is_received_once():
    @step(retry=AGAIN)
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        waiting = asyncio.ensure_future(receive(ctx))
        await asyncio.sleep(0)
        ctx.send_event(Answer(n=1))
        got = await waiting
        if ctx.attempt < 3:
            raise ValueError("again")
        with pytest.raises(WaitTimeout):
            await ctx.wait_for_event(Answer, timeout=0.005)
        return StopEvent(result=got)

    async def receive(ctx: Context) -> int:
        return (await ctx.wait_for_event(Answer)).n

    assert await asyncio.wait_for(Workflow("w", [work]).run(), 1) == 1


# Events that it collected


@BOTH
async def test_an_event_is_collected_once_however_often_the_body_runs(again: Again):
    bodies = 0

    @step
    async def split(ev: StartEvent) -> list[Ask]:
        return [Ask(n=n) for n in range(3)]

    @step(retry=AGAIN, concurrency=1)
    async def join(ctx: Context, ev: Ask) -> StopEvent | None:
        nonlocal bodies
        bodies += 1
        every = ctx.collect_events(ev, [Ask] * 3)
        if bodies == 1:
            await interrupt(again)
        return StopEvent(result=[one.n for one in every]) if every else None

    run = Workflow("w", [split, join]).run()
    await settle()
    await again(run)
    assert await asyncio.wait_for(run, 1) == [0, 1, 2]
    # A body that is tried again comes behind the others, which end the run.
    assert bodies == (3 if again is again_by_retry else 4)


@BOTH
async def test_a_body_that_completed_a_group_gets_it_again(again: Again):
    bodies = 0

    @step
    async def split(ev: StartEvent) -> list[Ask]:
        return [Ask(n=n) for n in range(3)]

    @step(retry=AGAIN, concurrency=1)
    async def join(ctx: Context, ev: Ask) -> StopEvent | None:
        nonlocal bodies
        every = ctx.collect_events(ev, [Ask] * 3)
        if every is None:
            return None
        bodies += 1
        if bodies == 1:
            await interrupt(again)
        return StopEvent(result=[one.n for one in every])

    run = Workflow("w", [split, join]).run()
    await settle()
    await again(run)
    assert await asyncio.wait_for(run, 1) == [0, 1, 2]
    assert bodies == 2


async def test_calls_for_several_groups_are_told_apart():
    @step
    async def split(ev: StartEvent) -> list[Ask]:
        return [Ask(n=n) for n in range(4)]

    @step(retry=AGAIN, concurrency=1)
    async def join(ctx: Context, ev: Ask) -> StopEvent | None:
        pairs = ctx.collect_events(ev, [Ask] * 2, key="pairs")
        every = ctx.collect_events(ev, [Ask] * 4, key="every")
        if ctx.attempt < 3:
            raise ValueError("again")
        ctx.increment("pairs", 1 if pairs else 0)
        return StopEvent(result=(ctx.get("pairs"), [one.n for one in every])) if every else None

    assert await asyncio.wait_for(Workflow("w", [split, join]).run(), 1) == (2, [0, 1, 2, 3])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["send", "same", "wait", "collect", "sleep", "set"]), max_size=12),
    st.lists(st.integers(0, 12), max_size=4),
)
def test_wherever_a_body_fails_the_outcome_is_that_of_a_body_that_does_not(
    deeds: list[str], failures: list[int]
):
    def outcome(failing: list[int]) -> Any:
        delivered: list[Any] = []
        left = list(failing)

        @step(retry=Retry(99, initial=0))
        async def work(ctx: Context, ev: StartEvent) -> Answer:
            results: list[Any] = []
            for place, deed in enumerate(deeds):
                if left and left[0] == place:
                    left.pop(0)
                    raise ValueError("again")
                if deed == "send":
                    ctx.send_event(Ask(n=place))
                elif deed == "same":
                    ctx.send_event(Ask(n=-1))
                elif deed == "wait":
                    results.append((await ctx.wait_for_event(Live)).n)
                elif deed == "collect":
                    group = ctx.collect_events(ev, [StartEvent, StartEvent])
                    results.append(group and len(group))
                elif deed == "sleep":
                    await ctx.sleep(0.0002)
                else:
                    ctx.set(f"k{place}", place)
            ctx.set("results", results)
            return Answer()

        @step
        async def take(ev: Ask) -> None:
            delivered.append(ev.n)

        @step
        async def end(ctx: Context, ev: Answer) -> StopEvent:
            return StopEvent(result=(ctx.get("results"), sorted(ctx.keys())))

        async def main() -> Any:
            run = Workflow("w", [work, take, end]).run()
            for n in range(deeds.count("wait")):
                run.send_event(Live(n=n))
            return await asyncio.wait_for(run, 5)

        return asyncio.run(main()), delivered

    assert outcome(failures) == outcome([])

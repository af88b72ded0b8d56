import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from isolated import run_script

from treadle import (
    Context,
    Event,
    RunEnded,
    StartEvent,
    StepTimeout,
    StopEvent,
    Workflow,
    WorkflowTimeout,
    step,
)


class Item(Event):
    n: int


class Done(Event):
    n: int


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@step
async def join(ctx: Context, ev: Done) -> StopEvent | None:
    seen = ctx.update("seen", lambda seen: [*seen, ev.n], default=[])
    return StopEvent(result=sorted(seen)) if len(seen) == ctx.get("total") else None


async def fanned_out(begin: Any, work: Any) -> Any:
    return await asyncio.wait_for(Workflow("fan", [begin, work, join]).run(total=20), 10)


# Threads


async def test_a_plain_function_runs_in_a_thread():
    @step
    def work(ev: StartEvent) -> StopEvent:
        return StopEvent(result=threading.get_ident())

    assert await Workflow("w", [work]).run() != threading.get_ident()


async def test_a_thread_sees_the_context_variables_of_whoever_started_the_run():
    @step
    def work(ev: StartEvent) -> StopEvent:
        seen = variable.get()
        variable.set("of the thread")
        return StopEvent(result=seen)

    token = variable.set("of the caller")
    run = Workflow("w", [work]).run()
    variable.reset(token)
    assert await run == "of the caller"
    assert variable.get() == "unset"


async def test_the_loop_goes_on_while_a_thread_works():
    release = threading.Event()

    @step
    def work(ev: StartEvent) -> StopEvent:
        return StopEvent(result=release.wait(5))

    run = Workflow("w", [work]).run()
    asyncio.get_running_loop().call_later(0.02, release.set)
    assert await run is True


async def test_threads_share_state_without_losing_an_update():
    @step
    async def begin(ctx: Context, ev: StartEvent) -> list[Item]:
        ctx.set("total", ev.total)
        return [Item(n=n) for n in range(ev.total)]

    @step
    def work(ctx: Context, ev: Item) -> Done:
        for _ in range(200):
            ctx.increment("count")
        return Done(n=ctx.get("count") if ev.n < 0 else ev.n)

    @step
    async def end(ctx: Context, ev: Done) -> StopEvent | None:
        return StopEvent(result=ctx.get("count")) if ctx.increment("ended") == 20 else None

    assert await Workflow("w", [begin, work, end]).run(total=20) == 4000


async def test_a_thread_sends_events_and_streams_them():
    @step
    def work(ctx: Context, ev: StartEvent) -> None:
        for n in range(20):
            ctx.set("total", 20)
            ctx.write_event_to_stream(Item(n=n))
            ctx.send_event(Done(n=n))

    run = Workflow("w", [work, join]).run()
    streamed = [ev.n async for ev in run.stream_events()]
    assert await run == list(range(20)) == streamed


async def test_successors_of_an_event_sent_from_a_thread_start_before_the_thread_ends():
    went_on = threading.Event()

    @step
    def work(ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.send_event(Item(n=1))
        return StopEvent(result=went_on.wait(5))

    @step
    async def other(ev: Item) -> None:
        went_on.set()

    assert await Workflow("w", [work, other]).run() is True


@pytest.mark.parametrize(
    "error", ["ValueError", "StopIteration", "StopAsyncIteration", "SystemExit"]
)
def test_an_exception_in_a_thread_ends_the_run(error: str):
    printed = run_script(
        f"""
        @step
        def work(ev: StartEvent) -> StopEvent:
            raise {error}("boom")
        async def main():
            await Workflow("w", [work]).run()
        try:
            asyncio.run(main())
        except BaseException as error:
            print({error} in (type(error), type(error.__cause__)), "boom" in str(error))
        """,
        timeout=5,
    )
    assert printed == "True True"


async def test_a_function_that_wants_a_loop_in_its_thread_may_make_one():
    inner = Workflow("inner", [step(lambda_step())])

    @step
    def work(ev: StartEvent) -> StopEvent:
        async def main() -> Any:
            return await inner.run(n=4)

        return StopEvent(result=asyncio.run(main()))

    assert await Workflow("w", [work]).run() == 8


def lambda_step() -> Any:
    async def double(ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0)
        return StopEvent(result=ev.n * 2)

    return double


# Inline


async def test_an_inline_function_runs_on_the_loop():
    @step(inline=True)
    def work(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=(threading.get_ident(), asyncio.get_running_loop(), ctx.attempt))

    assert await Workflow("w", [work]).run() == (
        threading.get_ident(),
        asyncio.get_running_loop(),
        1,
    )


async def test_inline_functions_fan_out():
    @step(inline=True)
    def begin(ctx: Context, ev: StartEvent) -> list[Item]:
        ctx.set("total", ev.total)
        return [Item(n=n) for n in range(ev.total)]

    @step(inline=True)
    def work(ctx: Context, ev: Item) -> None:
        ctx.send_event(Done(n=ev.n))

    assert await fanned_out(begin, work) == list(range(20))


@pytest.mark.parametrize(
    "error", [ValueError("boom"), StopIteration(5), StopIteration(), StopAsyncIteration()]
)
async def test_an_exception_in_an_inline_function_is_no_result(error: Exception):
    @step(inline=True)
    def work(ev: StartEvent) -> StopEvent:
        raise error

    with pytest.raises((type(error), RuntimeError)) as caught:
        await Workflow("w", [work]).run()
    assert caught.value is error or caught.value.__cause__ is error


# Fan-out


@step
async def suspend(ev: Item) -> Done:
    await asyncio.sleep(0.001 * (ev.n % 3))
    return Done(n=ev.n)


@step
async def compute(ev: Item) -> Done:
    return Done(n=ev.n)


@step
def in_thread(ev: Item) -> Done:
    return Done(n=ev.n)


@step
async def by_list(ctx: Context, ev: StartEvent) -> list[Item]:
    ctx.set("total", ev.total)
    return [Item(n=n) for n in range(ev.total)]


@step
async def by_send_event(ctx: Context, ev: StartEvent) -> Item | None:
    ctx.set("total", ev.total)
    for n in range(ev.total):
        ctx.send_event(Item(n=n))
        if n == 7:
            await asyncio.sleep(0.001)
    return None


@step
async def by_async_generator(ctx: Context, ev: StartEvent) -> AsyncIterator[Item]:
    ctx.set("total", ev.total)
    for n in range(ev.total):
        yield Item(n=n)
        if n == 7:
            await asyncio.sleep(0.001)


@step
def by_generator(ctx: Context, ev: StartEvent) -> Iterator[Item]:
    ctx.set("total", ev.total)
    for n in range(ev.total):
        yield Item(n=n)


@pytest.mark.parametrize("begin", [by_list, by_send_event, by_async_generator, by_generator])
@pytest.mark.parametrize("work", [suspend, compute, in_thread])
async def test_every_way_to_fan_out_delivers_each_event_once(begin: Any, work: Any):
    assert await fanned_out(begin, work) == list(range(20))


async def test_an_async_generator_sends_each_event_as_it_comes():
    order: list[str] = []

    @step
    async def begin(ctx: Context, ev: StartEvent) -> AsyncIterator[Item]:
        for n in range(3):
            order.append(f"yield {n}")
            yield Item(n=n)
            await asyncio.sleep(0.01)

    @step
    async def take(ev: Item) -> StopEvent | None:
        order.append(f"take {ev.n}")
        return StopEvent() if ev.n == 2 else None

    await Workflow("w", [begin, take]).run()
    assert order == ["yield 0", "take 0", "yield 1", "take 1", "yield 2", "take 2"]


async def test_an_async_generator_that_stops_the_run_goes_no_further():
    went_on: list[str] = []

    @step
    async def begin(ev: StartEvent) -> AsyncIterator[StopEvent | Item]:
        try:
            yield StopEvent(result=1)
            went_on.append("before the next await")
            await asyncio.sleep(1)
            went_on.append("after it")
            yield Item(n=1)
        finally:
            went_on.append("closed")

    @step
    async def take(ev: Item) -> None: ...

    run = Workflow("w", [begin, take]).run()
    assert await asyncio.wait_for(run, 5) == 1
    assert "after it" not in went_on
    assert went_on[-1] == "closed"


async def test_an_async_generator_is_closed_when_its_run_is_cancelled():
    closed: list[str] = []

    @step
    async def begin(ev: StartEvent) -> AsyncIterator[Item]:
        try:
            while True:
                yield Item(n=1)
                await asyncio.sleep(0.001)
        finally:
            closed.append("closed")

    @step
    async def take(ctx: Context, ev: Item) -> StopEvent | None:
        return StopEvent(result="enough") if ctx.increment("n") == 5 else None

    assert await Workflow("w", [begin, take]).run() == "enough"
    assert closed == ["closed"]


async def test_a_generator_that_raises_fails_the_run():
    @step
    def begin(ev: StartEvent) -> Iterator[Item]:
        yield Item(n=1)
        raise ValueError("boom")

    @step
    async def take(ev: Item) -> StopEvent | None:
        return None

    with pytest.raises(ValueError, match="boom"):
        await Workflow("w", [begin, take]).run()


async def test_ten_thousand_workers_that_wait_all_run_at_once():
    at_once = most = 0

    @step
    async def begin(ctx: Context, ev: StartEvent) -> list[Item]:
        return [Item(n=n) for n in range(10_000)]

    @step
    async def work(ev: Item) -> Done:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        while most < 10_000:
            await asyncio.sleep(0.01)
        at_once -= 1
        return Done(n=ev.n)

    @step
    async def end(ctx: Context, ev: Done) -> StopEvent | None:
        return StopEvent(result=most) if ctx.increment("n") == 10_000 else None

    assert await Workflow("w", [begin, work, end]).run() == 10_000


# Concurrency


@pytest.mark.parametrize("limit", [1, 3, 7])
@pytest.mark.parametrize("kind", ["async", "thread", "async generator"])
async def test_no_more_bodies_than_the_limit_run_at_once(limit: int, kind: str):
    at_once = most = 0
    lock = threading.Lock()

    def enter() -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)

    def leave() -> None:
        nonlocal at_once
        with lock:
            at_once -= 1

    @step(concurrency=limit)
    async def by_coroutine(ev: Item) -> Done:
        enter()
        await asyncio.sleep(0.002)
        leave()
        return Done(n=ev.n)

    @step(concurrency=limit)
    def by_thread(ev: Item) -> Done:
        enter()
        time.sleep(0.002)
        leave()
        return Done(n=ev.n)

    @step(concurrency=limit)
    async def by_generator(ev: Item) -> AsyncIterator[Done]:
        enter()
        yield Done(n=ev.n)
        await asyncio.sleep(0.002)
        leave()

    work = {"async": by_coroutine, "thread": by_thread, "async generator": by_generator}[kind]
    assert await fanned_out(by_list, work) == list(range(20))
    assert 1 <= most <= limit
    assert most == limit or kind == "thread"


async def test_a_limited_step_does_not_hold_back_another():
    release = asyncio.Event()

    @step
    async def begin(ev: StartEvent) -> list[Item | Done]:
        return [*(Item(n=n) for n in range(5)), Done(n=0)]

    @step(concurrency=1)
    async def limited(ev: Item) -> None:
        await release.wait()

    @step
    async def free(ev: Done) -> StopEvent:
        return StopEvent(result="free")

    assert await Workflow("w", [begin, limited, free]).run() == "free"


async def test_a_limited_step_takes_events_in_their_order():
    @step
    async def begin(ctx: Context, ev: StartEvent) -> list[Item]:
        return [Item(n=n) for n in range(50)]

    @step(concurrency=1)
    async def work(ctx: Context, ev: Item) -> StopEvent | None:
        await asyncio.sleep(0)
        seen = ctx.update("seen", lambda seen: [*seen, ev.n], default=[])
        return StopEvent(result=seen) if len(seen) == 50 else None

    assert await Workflow("w", [begin, work]).run() == list(range(50))


async def test_limits_are_those_of_one_run():
    gate = asyncio.Event()
    inside = 0

    @step(concurrency=1)
    async def work(ev: StartEvent) -> StopEvent:
        nonlocal inside
        inside += 1
        if inside == 3:
            gate.set()
        await gate.wait()
        return StopEvent()

    workflow = Workflow("w", [work])
    await asyncio.wait_for(asyncio.gather(workflow.run(), workflow.run(), workflow.run()), 5)


# Timeouts


async def test_a_step_that_takes_too_long_is_cancelled_and_the_run_fails():
    events: list[str] = []

    @step(timeout=0.03)
    async def slow(ev: StartEvent) -> StopEvent:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            events.append("cancelled")
            raise
        return StopEvent()

    with pytest.raises(StepTimeout, match="slow") as caught:
        await Workflow("w", [slow]).run()
    assert events == ["cancelled"]
    assert isinstance(caught.value, TimeoutError)
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_a_step_timeout_counts_for_each_event_anew():
    @step
    async def begin(ev: StartEvent) -> Item:
        return Item(n=0)

    @step(timeout=0.2)
    async def work(ev: Item) -> Item | StopEvent:
        await asyncio.sleep(0.05)
        return StopEvent(result=ev.n) if ev.n == 6 else Item(n=ev.n + 1)

    assert await Workflow("w", [begin, work]).run() == 6


async def test_a_thread_that_takes_too_long_counts_no_more_and_is_awaited():
    after: list[Any] = []

    @step(timeout=0.03)
    def slow(ctx: Context, ev: StartEvent) -> StopEvent:
        time.sleep(0.15)
        try:
            ctx.set("k", 1)
        except Exception as error:
            after.append(type(error).__name__)
        return StopEvent()

    with pytest.raises(StepTimeout):
        await Workflow("w", [slow]).run()
    assert after == ["StepCancelled"]


async def test_a_step_that_times_out_stops_the_others():
    events: list[str] = []

    @step(timeout=0.03)
    async def slow(ev: StartEvent) -> StopEvent:
        await asyncio.sleep(5)
        return StopEvent()

    @step
    async def other(ev: StartEvent) -> None:
        try:
            await asyncio.sleep(5)
        finally:
            events.append("other stopped")

    with pytest.raises(StepTimeout):
        await Workflow("w", [slow, other]).run()
    assert events == ["other stopped"]


async def test_a_workflow_that_takes_too_long_is_stopped():
    events: list[str] = []

    @step
    async def slow(ev: StartEvent) -> StopEvent:
        try:
            await asyncio.sleep(5)
        finally:
            events.append("stopped")
        return StopEvent()

    run = Workflow("w", [slow], timeout=0.03).run()
    with pytest.raises(WorkflowTimeout) as caught:
        await run
    assert isinstance(caught.value, TimeoutError)
    assert events == ["stopped"]
    assert run.status == "failed"


async def test_a_workflow_of_steps_that_only_compute_is_stopped_too():
    @step
    async def begin(ev: StartEvent) -> Item:
        return Item(n=0)

    @step
    async def again(ev: Item) -> Item | StopEvent:
        return Item(n=ev.n + 1)

    with pytest.raises(WorkflowTimeout):
        await asyncio.wait_for(Workflow("w", [begin, again], timeout=0.05).run(), 5)


async def test_a_workflow_that_waits_for_events_from_outside_is_stopped_too():
    @step
    async def begin(ev: StartEvent) -> None: ...

    @step(external=True)
    async def outside(ev: Item) -> StopEvent:
        return StopEvent()

    with pytest.raises(WorkflowTimeout):
        await asyncio.wait_for(Workflow("w", [begin, outside], timeout=0.05).run(), 1)


async def test_a_workflow_that_nobody_awaits_times_out_too():
    @step
    async def slow(ev: StartEvent) -> StopEvent:
        await asyncio.sleep(5)
        return StopEvent()

    run = Workflow("w", [slow], timeout=0.03).run()
    await asyncio.sleep(0.2)
    assert run.status == "failed"
    with pytest.raises(WorkflowTimeout):
        await run


@pytest.mark.parametrize("timeout", [1e9, 1e18, 1e300, float("inf")])
async def test_a_very_long_timeout_does_no_harm(timeout: float):
    @step(timeout=timeout)
    async def work(ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0)
        return StopEvent(result=1)

    assert await Workflow("w", [work], timeout=timeout).run() == 1


async def test_sending_an_event_after_the_run_ended_is_a_typed_error():
    contexts: list[Context] = []

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        contexts.append(ctx)
        return StopEvent()

    @step(external=True)
    async def other(ev: Item) -> None: ...

    await Workflow("w", [work, other]).run()
    (context,) = contexts
    for call in (context.send_event, context.write_event_to_stream):
        with pytest.raises(RunEnded):
            call(Item(n=1))
        with pytest.raises(RunEnded):
            await asyncio.to_thread(call, Item(n=1))


async def test_what_a_thread_sends_arrives_though_it_has_ended_when_its_step_begins_to_wait() -> (
    None
):
    class AtOnce(ThreadPoolExecutor):
        def submit(self, *call: Any, **options: Any) -> Any:
            future = super().submit(*call, **options)
            future.exception()
            return future

    @step
    def work(ctx: Context, ev: StartEvent) -> None:
        ctx.send_event(StopEvent(result="sent"))

    asyncio.get_running_loop().set_default_executor(AtOnce(1))
    assert await Workflow("w", [work]).run() == "sent"

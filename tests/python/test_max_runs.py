"""`Workflow(max_runs=...)`: how many runs of a workflow in memory execute at once."""

import asyncio
import gc
import threading

import pytest

from treadle import (
    Context,
    Event,
    RunCancelled,
    StartEvent,
    StopEvent,
    WaitTimeout,
    Workflow,
    WorkflowTimeout,
    step,
)

pytestmark = pytest.mark.timeout(60)


class Go(Event):
    number: int = 0


class Gauge:
    """Counts the bodies that execute, and remembers the order in which they began."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.began: list[int] = []

    def __enter__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *raised: object) -> None:
        self.now -= 1


def working(gauge: Gauge, max_runs: int | None, passes: int = 5, **options: float) -> Workflow:
    @step
    async def work(ev: StartEvent) -> StopEvent:
        gauge.began.append(ev.number)
        with gauge:
            for _ in range(passes):
                await asyncio.sleep(0)
        return StopEvent(result=ev.number)

    return Workflow("working", [work], max_runs=max_runs, **options)


class Holding:
    """A workflow of which a run executes until the gate of its number is opened."""

    def __init__(self, max_runs: int = 1) -> None:
        self.began: list[int] = []
        self._gates: dict[int, asyncio.Event] = {}

        @step
        async def hold(ev: StartEvent) -> StopEvent:
            self.began.append(ev.number)
            await self._gate(ev.number).wait()
            return StopEvent(result=ev.number)

        self.workflow = Workflow("holding", [hold], max_runs=max_runs)

    def open(self, *numbers: int) -> None:
        for number in numbers:
            self._gate(number).set()

    def _gate(self, number: int) -> asyncio.Event:
        return self._gates.setdefault(number, asyncio.Event())


async def passes(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_no_more_runs_execute_at_once_than_the_limit_says() -> None:
    gauge = Gauge()
    workflow = working(gauge, 3)
    results = await asyncio.gather(*[workflow.run(number=n) for n in range(20)])
    assert results == list(range(20))
    assert gauge.most == 3


async def test_without_a_limit_all_runs_execute_at_once() -> None:
    gauge = Gauge()
    workflow = working(gauge, None)
    await asyncio.gather(*[workflow.run(number=n) for n in range(20)])
    assert gauge.most == 20


async def test_runs_begin_in_the_order_in_which_they_were_started() -> None:
    gauge = Gauge()
    workflow = working(gauge, 2)
    runs = [workflow.run(number=n) for n in range(50)]
    # In another order than that in which they are awaited.
    for run in reversed(runs):
        await run
    assert gauge.began == list(range(50))


async def test_a_run_that_is_not_its_turn_is_waiting() -> None:
    holding = Holding()
    first, second = holding.workflow.run(number=1), holding.workflow.run(number=2)
    assert (first.status, second.status) == ("running", "waiting")
    await passes()
    assert (first.status, second.status) == ("running", "waiting")
    assert holding.began == [1]
    holding.open(1)
    await first
    await passes()
    assert second.status == "running"
    holding.open(2)
    assert await second == 2


async def test_a_run_that_fails_lets_the_next_one_begin() -> None:
    @step
    async def fail(ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0)
        if ev.number == 0:
            raise ValueError("no")
        return StopEvent(result=ev.number)

    workflow = Workflow("failing", [fail], max_runs=1)
    first, second = workflow.run(number=0), workflow.run(number=1)
    with pytest.raises(ValueError, match="no"):
        await first
    assert await second == 1


async def test_a_run_that_waits_for_an_event_leaves_its_place() -> None:
    gauge = Gauge()

    @step
    async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
        go = await ctx.wait_for_event(Go)
        with gauge:
            await passes()
        return StopEvent(result=go.number)

    workflow = Workflow("asking", [ask], max_runs=1)
    runs = [workflow.run() for _ in range(10)]
    await passes(60)
    assert [run.status for run in runs] == ["waiting"] * 10
    for number, run in enumerate(runs):
        run.send_event(Go(number=number))
    assert await asyncio.gather(*runs) == list(range(10))
    assert gauge.most == 1


async def test_a_run_that_was_woken_comes_before_new_ones() -> None:
    order: list[str] = []

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        order.append(f"{ev.name} begins")
        if ev.waits:
            await ctx.wait_for_event(Go)
            order.append(f"{ev.name} continues")
        await passes()
        return StopEvent()

    workflow = Workflow("working", [work], max_runs=1)
    waiting = workflow.run(name="a", waits=True)
    await passes()
    others = [workflow.run(name=name, waits=False) for name in "bcd"]
    await passes(3)
    waiting.send_event(Go())
    await asyncio.gather(waiting, *others)
    assert order == ["a begins", "b begins", "a continues", "c begins", "d begins"]


async def test_a_sleep_and_a_retry_hold_no_place() -> None:
    from treadle import Retry

    tries: list[int] = []

    @step(retry=Retry(attempts=2, initial=0.2, jitter=0))
    async def nap(ctx: Context, ev: StartEvent) -> StopEvent:
        if ev.number == 0:
            await ctx.sleep(0.2)
        elif ev.number == 1 and ctx.attempt == 1:
            raise ValueError("again")
        tries.append(ev.number)
        return StopEvent()

    workflow = Workflow("napping", [nap], max_runs=1)
    await asyncio.gather(*[workflow.run(number=n) for n in range(3)])
    assert tries[0] == 2
    assert sorted(tries) == [0, 1, 2]


async def test_a_parent_waits_for_children_of_its_own_workflow() -> None:
    gauge = Gauge()

    @step
    async def descend(ctx: Context, ev: StartEvent) -> StopEvent:
        with gauge:
            await asyncio.sleep(0)
        if ev.depth == 0:
            return StopEvent(result=0)
        return StopEvent(result=1 + await ctx.run(workflow, depth=ev.depth - 1))

    workflow = Workflow("descending", [descend], max_runs=1)
    assert await workflow.run(depth=10) == 10
    assert gauge.most == 1


async def test_a_parent_gathers_children_of_its_own_workflow() -> None:
    @step
    async def split(ctx: Context, ev: StartEvent) -> StopEvent:
        if ev.size <= 1:
            return StopEvent(result=ev.size)
        half = ev.size // 2
        parts = [ctx.run(workflow, size=half), ctx.run(workflow, size=ev.size - half)]
        return StopEvent(result=sum(await asyncio.gather(*parts)))

    workflow = Workflow("splitting", [split], max_runs=1)
    assert await workflow.run(size=13) == 13


async def test_a_step_awaits_a_run_of_its_own_workflow() -> None:
    @step
    async def descend(ev: StartEvent) -> StopEvent:
        if ev.depth == 0:
            return StopEvent(result=0)
        return StopEvent(result=1 + await workflow.run(depth=ev.depth - 1))

    workflow = Workflow("descending", [descend], max_runs=1)
    assert await workflow.run(depth=5) == 5


async def test_a_run_that_is_cancelled_before_its_turn_never_begins() -> None:
    holding = Holding()
    first, second, third = (holding.workflow.run(number=n) for n in range(3))
    await passes()
    assert second.cancel()
    with pytest.raises(RunCancelled):
        await second
    holding.open(0)
    holding.open(2)
    assert await asyncio.gather(first, third) == [0, 2]
    assert holding.began == [0, 2]


async def test_an_awaiter_that_is_cancelled_takes_its_run_out_of_the_queue() -> None:
    holding = Holding()
    first = holding.workflow.run(number=0)
    await passes()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await holding.workflow.run(number=1)
    third = holding.workflow.run(number=2)
    holding.open(0)
    holding.open(2)
    assert await asyncio.gather(first, third) == [0, 2]
    assert holding.began == [0, 2]


async def test_a_deadline_counts_before_the_first_step_and_a_timeout_does_not() -> None:
    holding = Holding()
    first = holding.workflow.run(number=0)
    await passes()
    late, patient = (
        holding.workflow.run(number=1, deadline=0.05),
        holding.workflow.run(number=2, timeout=0.05),
    )
    with pytest.raises(WorkflowTimeout):
        await late
    assert (late.status, patient.status) == ("failed", "waiting")
    holding.open(0)
    holding.open(2)
    assert await asyncio.gather(first, patient) == [0, 2]
    assert holding.began == [0, 2]


async def test_a_run_that_nobody_refers_to_begins_when_it_is_its_turn() -> None:
    holding = Holding()
    first = holding.workflow.run(number=0)
    holding.workflow.run(number=1)
    await passes()
    gc.collect()
    holding.open(1)
    holding.open(0)
    await first
    await passes()
    assert holding.began == [0, 1]


async def test_a_paused_run_holds_no_place_and_asks_for_one_when_it_is_resumed() -> None:
    holding = Holding()
    first, second, third = (holding.workflow.run(number=n) for n in range(3))
    await passes()
    await second.pause()
    holding.open(0)
    holding.open(2)
    assert await asyncio.gather(first, third) == [0, 2]
    assert second.status == "paused"
    fourth = holding.workflow.run(number=3)
    await passes()
    second.resume()
    await passes()
    assert (second.status, fourth.status) == ("waiting", "running")
    holding.open(3)
    holding.open(1)
    assert await asyncio.gather(second, fourth) == [1, 3]
    assert holding.began == [0, 2, 3, 1]


async def test_a_run_from_a_snapshot_takes_its_turn() -> None:
    gauge = Gauge()

    @step
    async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
        with gauge:
            await passes(3)
        return StopEvent(result=(await ctx.wait_for_event(Go)).number)

    workflow = Workflow("asking", [ask], max_runs=1)
    run = workflow.run()
    await passes()
    await run.pause()
    snapshot = await run.snapshot(secret="s" * 32)
    run.cancel()
    runs = [workflow.resume(snapshot, secret="s" * 32) for _ in range(4)]
    await passes(60)
    for number, run in enumerate(runs):
        run.send_event(Go(number=number))
    assert await asyncio.gather(*runs) == [0, 1, 2, 3]
    assert gauge.most == 1


async def test_a_body_that_is_cancelled_while_it_waits_unwinds_at_once() -> None:
    @step
    async def give_up(ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            async with asyncio.timeout(0.02):
                await ctx.wait_for_event(Go)
        except TimeoutError:
            return StopEvent(result="late")
        return StopEvent(result="in time")

    workflow = Workflow("patient", [give_up], max_runs=1)
    assert await asyncio.gather(*[workflow.run() for _ in range(3)]) == ["late"] * 3


async def test_a_wait_whose_time_is_over_continues_when_its_run_has_a_place() -> None:
    order: list[str] = []
    gate = asyncio.Event()

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        if ev.waits:
            with pytest.raises(WaitTimeout):
                await ctx.wait_for_event(Go, timeout=0.02)
            order.append("late")
        else:
            order.append("begins")
            await gate.wait()
            order.append("ends")
        return StopEvent()

    workflow = Workflow("working", [work], max_runs=1)
    late = workflow.run(waits=True)
    await passes()
    other = workflow.run(waits=False)
    await asyncio.sleep(0.1)
    assert order == ["begins"]
    gate.set()
    await asyncio.gather(late, other)
    assert order == ["begins", "ends", "late"]


async def test_a_parent_of_a_child_that_failed_continues_when_it_has_a_place() -> None:
    gauge = Gauge()

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        if ev.fails:
            raise ValueError("no")
        if ev.is_parent:
            with pytest.raises(ValueError, match="no"):
                await asyncio.gather(ctx.run(workflow, fails=True, is_parent=False))
        with gauge:
            await passes()
        return StopEvent()

    workflow = Workflow("working", [work], max_runs=1)
    parent = workflow.run(fails=False, is_parent=True)
    await passes(3)
    others = [workflow.run(fails=False, is_parent=False) for _ in range(5)]
    await asyncio.gather(parent, *others)
    assert gauge.most == 1


async def test_events_for_a_run_that_has_not_begun_are_kept() -> None:
    @step
    async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
        if ev.waits:
            return StopEvent(result=(await ctx.wait_for_event(Go)).number)
        await passes()
        return StopEvent()

    workflow = Workflow("asking", [ask], max_runs=1)
    first, second = workflow.run(waits=False), workflow.run(waits=True)
    await passes(3)
    second.send_event(Go(number=7))
    await first
    assert await second == 7


def test_runs_of_a_loop_that_was_closed_hold_no_places() -> None:
    holding = Holding()

    async def leave_behind() -> None:
        for number in range(3):
            holding.workflow.run(number=number)
        await passes()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave_behind())
    loop.close()

    async def work() -> int:
        holding.open(5)
        return int(await holding.workflow.run(number=5))

    assert asyncio.run(work()) == 5


def test_runs_that_have_not_begun_are_cancelled_with_their_event_loop() -> None:
    gauge = Gauge()
    workflow = working(gauge, 1, passes=1000)
    runs = []

    async def main() -> None:
        runs.extend(workflow.run(number=n) for n in range(5))
        await passes()

    asyncio.run(main())
    assert [run.status for run in runs] == ["cancelled"] * 5
    assert gauge.began == [0]


def test_event_loops_in_several_threads_share_the_places() -> None:
    lock, now, most = threading.Lock(), 0, 0

    @step
    async def work(ev: StartEvent) -> StopEvent:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        await asyncio.sleep(0.001)
        with lock:
            now -= 1
        return StopEvent(result=ev.number)

    workflow = Workflow("working", [work], max_runs=2)
    results: list[list[int]] = []

    async def main() -> None:
        results.append(await asyncio.gather(*[workflow.run(number=n) for n in range(40)]))

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [list(range(40))] * 4
    assert most == 2


async def test_a_thousand_runs_take_their_turns() -> None:
    gauge = Gauge()
    workflow = working(gauge, 7, passes=1)
    results = await asyncio.gather(*[workflow.run(number=n) for n in range(1000)])
    assert results == list(range(1000))
    assert gauge.most == 7
    assert gauge.began == list(range(1000))

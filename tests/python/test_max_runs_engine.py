"""`Workflow(max_runs=...)` with a journal: how many runs execute at once in one process."""

import asyncio

import pytest
from journals import POSTGRES, journal_url

from treadle import (
    Context,
    Engine,
    EngineClosed,
    Event,
    KeyConflict,
    RunCancelled,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowTimeout,
    step,
)

pytestmark = pytest.mark.timeout(90)


class Go(Event):
    number: int = 0


class Done(Event):
    number: int


class Work:
    """A workflow whose runs wait for their gates, and what of them executes."""

    def __init__(self, max_runs: int | None = 1) -> None:
        self.now = self.most = 0
        self.began: list[int] = []
        self._gates: dict[int, asyncio.Event] = {}

        @step
        async def hold(ctx: Context, ev: StartEvent) -> StopEvent:
            self.began.append(ev.number)
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                await self.gate(ev.number).wait()
            finally:
                self.now -= 1
            ctx.write_event_to_stream(Done(number=ev.number))
            return StopEvent(result=ev.number)

        self.workflow = Workflow("holding", [hold], max_runs=max_runs)

    def gate(self, number: int) -> asyncio.Event:
        return self._gates.setdefault(number, asyncio.Event())

    def open(self, *numbers: int) -> None:
        for number in numbers:
            self.gate(number).set()

    async def begins(self, *numbers: int) -> None:
        async with asyncio.timeout(30):
            while self.began != list(numbers):
                await asyncio.sleep(0.005)


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
def url(request: pytest.FixtureRequest, tmp_path) -> str:
    return journal_url(request.param, request, tmp_path)


@pytest.fixture(params=["sqlite", POSTGRES])
def shared(request: pytest.FixtureRequest, tmp_path) -> str:
    """Return the URL of a journal that several engines can have."""
    return journal_url(request.param, request, tmp_path)


def engine_on(url: str, *workflows: Workflow, **options: object) -> Engine:
    return Engine(url, workflows=workflows, secret="s" * 32, **options)  # type: ignore[arg-type]


async def test_no_more_runs_execute_at_once_than_the_limit_says(url: str):
    work = Work(3)
    async with engine_on(url, work.workflow) as engine:
        runs = [engine.run(work.workflow, number=n) for n in range(12)]
        ids = [await engine.submit(work.workflow, number=n) for n in range(12, 20)]
        work.open(*range(20))
        assert await asyncio.gather(*runs) == list(range(12))
        assert [await engine.get(run_id) for run_id in ids] == list(range(12, 20))
    assert work.most == 3
    assert sorted(work.began) == list(range(20))


async def test_runs_begin_in_the_order_in_which_they_were_started(url: str):
    work = Work(1)
    async with engine_on(url, work.workflow) as engine:
        runs = [engine.run(work.workflow, number=n) for n in range(8)]
        work.open(*range(8))
        await asyncio.gather(*runs)
    assert work.began == list(range(8))


async def test_a_run_that_is_not_its_turn_is_in_the_journal_for_any_process(url: str):
    work = Work(1)
    async with engine_on(url, work.workflow) as engine:
        first, second = (engine.run(work.workflow, number=n) for n in range(2))
        await work.begins(0)
        assert (first.status, second.status) == ("running", "waiting")
        info = await info_of(engine, second.id)
        assert (info.status, info.owner) == ("running", None)
        work.open(0, 1)
        assert await asyncio.gather(first, second) == [0, 1]
        assert (second.status, (await engine.get(second.id).info()).status) == ("completed",) * 2


async def test_another_process_takes_what_this_one_cannot_start(shared: str):
    here, there = Work(1), Work(2)
    async with engine_on(shared, here.workflow) as engine:
        runs = [engine.run(here.workflow, number=n) for n in range(3)]
        await here.begins(0)
        async with engine_on(shared, there.workflow):
            await there.begins(1, 2)
            there.open(1, 2)
            assert await asyncio.gather(*runs[1:]) == [1, 2]
            here.open(0)
            assert await runs[0] == 0
    assert here.began == [0]


async def test_the_stream_of_a_run_that_is_executed_elsewhere_is_read_here(shared: str):
    here, there = Work(1), Work(1)
    async with engine_on(shared, here.workflow) as engine:
        runs = [engine.run(here.workflow, number=n) for n in range(2)]
        reader = runs[1].stream_events()
        await here.begins(0)
        async with engine_on(shared, there.workflow):
            await there.begins(1)
            there.open(1)
            assert [event async for event in reader] == [Done(number=1)]
            assert reader.position == 1
        here.open(0)
        await runs[0]


async def test_the_stream_of_a_run_that_waits_for_its_turn_is_read(url: str):
    work = Work(1)
    async with engine_on(url, work.workflow) as engine:
        runs = [engine.run(work.workflow, number=n) for n in range(2)]
        reader = runs[1].stream_events()
        work.open(0, 1)
        assert [event async for event in reader] == [Done(number=1)]


async def test_a_parent_waits_for_children_of_its_own_workflow(url: str):
    now = most = 0

    @step
    async def split(ctx: Context, ev: StartEvent) -> StopEvent:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        if ev.size <= 1:
            return StopEvent(result=ev.size)
        half = ev.size // 2
        parts = [ctx.run(workflow, size=half), ctx.run(workflow, size=ev.size - half)]
        return StopEvent(result=sum(await asyncio.gather(*parts)))

    workflow = Workflow("splitting", [split], max_runs=1)
    async with engine_on(url, workflow) as engine, asyncio.timeout(60):
        assert await engine.run(workflow, size=6) == 6
    assert most == 1


async def test_runs_that_wait_for_events_leave_their_places(url: str):
    now = most = 0

    @step
    async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
        nonlocal now, most
        go = await ctx.wait_for_event(Go)
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return StopEvent(result=go.number)

    workflow = Workflow("asking", [ask], max_runs=1)
    async with engine_on(url, workflow) as engine, asyncio.timeout(60):
        runs = [engine.run(workflow) for _ in range(5)]
        for run in runs:
            while (await info_of(engine, run.id)).status != "waiting":
                await asyncio.sleep(0.005)
        for number, run in enumerate(runs):
            await engine.send_event(run.id, Go(number=number))
        assert await asyncio.gather(*runs) == list(range(5))
    assert most == 1


async def info_of(engine: Engine, run_id: str):
    from treadle import UnknownRun

    while True:
        try:
            return await engine.get(run_id).info()
        except UnknownRun:
            await asyncio.sleep(0.005)


async def test_events_reach_a_run_that_waits_for_its_turn(url: str):
    @step
    async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
        if ev.number == 0:
            await gate.wait()
            return StopEvent(result=0)
        one = await ctx.wait_for_event(Go)
        return StopEvent(result=one.number)

    gate = asyncio.Event()
    workflow = Workflow("asking", [ask], max_runs=1)
    async with engine_on(url, workflow) as engine, asyncio.timeout(60):
        first = engine.run(workflow, number=0)
        early, late = engine.run(workflow, number=1), engine.run(workflow, number=1)
        early.send_event(Go(number=5))
        await info_of(engine, late.id)
        await asyncio.sleep(0.05)
        late.send_event(Go(number=6))
        gate.set()
        assert await asyncio.gather(first, early, late) == [0, 5, 6]


@pytest.mark.parametrize("written", [False, True])
async def test_a_run_that_is_cancelled_before_its_turn_never_begins(url: str, written: bool):
    work = Work(1)
    async with engine_on(url, work.workflow) as engine:
        runs = [engine.run(work.workflow, number=n) for n in range(3)]
        if written:
            await work.begins(0)
            await info_of(engine, runs[1].id)
            await asyncio.sleep(0.02)
        assert runs[1].cancel()
        with pytest.raises(RunCancelled):
            async with asyncio.timeout(20):
                await runs[1]
        work.open(0, 1, 2)
        assert await asyncio.gather(runs[0], runs[2]) == [0, 2]
        with pytest.raises(RunCancelled):
            await engine.get(runs[1].id)
        assert (await engine.get(runs[1].id).info()).status == "cancelled"
    assert work.began == [0, 2]


async def test_a_deadline_counts_before_the_first_step_and_a_timeout_does_not(url: str):
    work = Work(1)
    async with engine_on(url, work.workflow) as engine:
        first = engine.run(work.workflow, number=0)
        late = engine.run(work.workflow, number=1, deadline=0.1)
        patient = engine.run(work.workflow, number=2, timeout=5)
        await work.begins(0)
        with pytest.raises(WorkflowTimeout):
            async with asyncio.timeout(20):
                await late
        work.open(0, 2)
        assert await asyncio.gather(first, patient) == [0, 2]
        with pytest.raises(WorkflowTimeout):
            await engine.get(late.id)
    assert work.began == [0, 2]


async def test_a_paused_run_holds_no_place(url: str):
    work = Work(1)
    async with engine_on(url, work.workflow) as engine, asyncio.timeout(60):
        runs = [engine.run(work.workflow, number=n) for n in range(3)]
        await work.begins(0)
        await info_of(engine, runs[1].id)
        await engine.pause(runs[1].id)
        work.open(0, 1, 2)
        assert await asyncio.gather(runs[0], runs[2]) == [0, 2]
        while (await engine.get(runs[1].id).info()).status != "paused":
            await asyncio.sleep(0.005)
        await engine.resume(runs[1].id)
        assert await runs[1] == 1


async def test_the_same_key_gives_the_run_that_waits_for_its_turn(url: str):
    work = Work(1)
    async with engine_on(url, work.workflow) as engine, asyncio.timeout(60):
        first = engine.run(work.workflow, number=0)
        await work.begins(0)
        second = engine.run(work.workflow, number=1, key="k")
        await info_of(engine, second.id)
        same = engine.run(work.workflow, number=1, key="k")
        other = engine.run(work.workflow, number=2, key="k")
        assert same.id == second.id
        work.open(0, 1, 2)
        assert await asyncio.gather(first, second, same) == [0, 1, 1]
        with pytest.raises(KeyConflict):
            await other
    assert work.began == [0, 1]


async def test_a_run_that_is_retried_takes_its_turn(url: str):
    fails = True

    @step
    async def work(ev: StartEvent) -> StopEvent:
        if ev.number == 0 and fails:
            raise ValueError("no")
        if ev.number == 1:
            began.set()
            await gate.wait()
        return StopEvent(result=ev.number)

    gate, began = asyncio.Event(), asyncio.Event()
    workflow = Workflow("failing", [work], max_runs=1)
    async with engine_on(url, workflow) as engine, asyncio.timeout(60):
        first = engine.run(workflow, number=0)
        with pytest.raises(ValueError, match="no"):
            await first
        second = engine.run(workflow, number=1)
        await began.wait()
        fails = False
        handle = await engine.retry(first.id)
        await asyncio.sleep(0.05)
        assert (await handle.info()).owner is None
        gate.set()
        assert await second == 1
        assert await handle == 0


async def test_runs_that_wait_for_their_turn_go_on_after_the_engine_is_closed(shared: str):
    work = Work(1)
    async with engine_on(shared, work.workflow) as engine:
        runs = [engine.run(work.workflow, number=n) for n in range(3)]
        await work.begins(0)
        await info_of(engine, runs[2].id)
        await engine.close(0)
        for run in runs:
            with pytest.raises(EngineClosed):
                await run
    work.open(0, 1, 2)
    async with engine_on(shared, work.workflow) as engine:
        assert [await engine.get(run.id) for run in runs] == [0, 1, 2]
    assert work.most == 1


async def test_a_run_whose_handle_is_dropped_begins_when_it_is_its_turn(url: str):
    import gc

    work = Work(1)
    async with engine_on(url, work.workflow) as engine:
        first = engine.run(work.workflow, number=0)
        engine.run(work.workflow, number=1)
        await work.begins(0)
        gc.collect()
        work.open(0, 1)
        await first
        await work.begins(0, 1)


async def test_a_workflow_with_a_limit_does_not_keep_others_waiting(url: str):
    work = Work(1)
    other = Workflow("other", [step(_return)])
    async with engine_on(url, work.workflow, other, concurrency=4) as engine:
        runs = [engine.run(work.workflow, number=n) for n in range(6)]
        await work.begins(0)
        assert await engine.get(await engine.submit(other)) == "other"
        assert await engine.run(other) == "other"
        work.open(*range(6))
        await asyncio.gather(*runs)
    assert work.most == 1


async def _return(ev: StartEvent) -> StopEvent:
    return StopEvent(result="other")


async def test_runs_that_were_woken_and_have_no_place_keep_no_others_waiting(url: str):
    @step
    async def hear(ctx: Context, ev: StartEvent) -> Go:
        return await ctx.wait_for_event(Go)

    @step
    async def work(ev: Go) -> StopEvent:
        if ev.number == 0:
            began.set()
            await gate.wait()
        return StopEvent(result=ev.number)

    began, gate = asyncio.Event(), asyncio.Event()
    workflow = Workflow("hearing", [hear, work], max_runs=1)
    other = Workflow("other", [step(_return)])
    async with engine_on(url, workflow, other) as engine, asyncio.timeout(60):
        runs = [engine.run(workflow) for _ in range(50)]
        for run in runs:
            while (await info_of(engine, run.id)).status != "waiting":
                await asyncio.sleep(0.005)
        runs[0].send_event(Go(number=0))
        await began.wait()
        for number, run in enumerate(runs[1:], 1):
            run.send_event(Go(number=number))
        assert await asyncio.gather(*[engine.run(other) for _ in range(50)]) == ["other"] * 50
        assert "completed" not in {run.status for run in runs}
        gate.set()
        assert await asyncio.gather(*runs) == list(range(50))


async def test_both_limits_hold_and_parents_wait_for_children_of_their_own_workflow(url: str):
    now = most = 0

    @step
    async def descend(ctx: Context, ev: StartEvent) -> StopEvent:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        if ev.depth == 0:
            return StopEvent(result=0)
        return StopEvent(result=1 + await ctx.run(workflow, depth=ev.depth - 1))

    workflow = Workflow("descending", [descend], max_runs=1)
    async with engine_on(url, workflow, concurrency=1) as engine, asyncio.timeout(60):
        ids = [await engine.submit(workflow, depth=4) for _ in range(3)]
        assert [await engine.get(run_id) for run_id in ids] == [4, 4, 4]
    assert most == 1


async def test_a_run_that_waits_for_its_turn_can_be_bound_to_its_awaiter(url: str):
    work = Work(1)
    async with engine_on(url, work.workflow) as engine:
        first = engine.run(work.workflow, number=0)
        await work.begins(0)
        second = engine.run(work.workflow, number=1, bind=True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await second
        assert second.status == "cancelled"
        work.open(0, 1)
        await first
        with pytest.raises(RunCancelled):
            await engine.get(second.id)
    assert work.began == [0]


async def test_a_run_that_cannot_be_started_has_no_place(url: str):
    def refuse(*arguments: object, **options: object) -> None:
        raise RuntimeError("no task")

    work = Work(1)
    async with engine_on(url, work.workflow) as engine, asyncio.timeout(60):
        loop = asyncio.get_running_loop()
        loop.set_task_factory(refuse)
        try:
            with pytest.raises(RuntimeError, match="no task"):
                engine.run(work.workflow, number=0)
        finally:
            loop.set_task_factory(None)
        work.open(1)
        assert await engine.run(work.workflow, number=1) == 1
    assert work.began == [1]

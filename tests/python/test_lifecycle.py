"""What observers are told, and readers of the stream that ask for it."""

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from durable_work import ALL, long
from processes import Process

from treadle import (
    Context,
    Engine,
    Event,
    Lagged,
    LifecycleEvent,
    Retry,
    RunCancelled,
    StartEvent,
    StepFailed,
    StopEvent,
    Workflow,
    step,
)

SECRET = "a secret of the tests"


class Tick(Event):
    n: int


class Go(Event):
    pass


@step
async def ticks(ctx: Context, ev: StartEvent) -> StopEvent:
    for n in range(ev.count):
        ctx.write_event_to_stream(Tick(n=n))
    return StopEvent(result="done")


@step
async def waits(ctx: Context, ev: StartEvent) -> StopEvent:
    await ctx.wait_for_event(Go)
    return StopEvent(result="gone")


def kinds(seen: list[LifecycleEvent]) -> list[str]:
    return [event.kind for event in seen]


async def until_waiting(run: Any) -> None:
    async with asyncio.timeout(10):
        while run.status != "waiting":
            await asyncio.sleep(0)


async def test_a_run_and_its_steps_are_told_in_order_with_what_belongs_to_them():
    seen: list[LifecycleEvent] = []
    before = time.time()

    @step(retry=Retry(2, initial=0))
    async def fails_once(ctx: Context, ev: StartEvent) -> StopEvent:
        if ctx.attempt == 1:
            raise ConnectionError("busy")
        return StopEvent(result=ctx.attempt)

    workflow = Workflow("once", [fails_once], observers=[seen.append])
    run = workflow.run()
    assert kinds(seen) == ["run_started"]
    assert await run == 2
    assert [kind for kind in kinds(seen) if kind != "run_waiting"] == [
        "run_started",
        "step_started",
        "step_retried",
        "step_started",
        "step_finished",
        "run_completed",
    ]
    assert {(event.run_id, event.workflow, event.worker) for event in seen} == {
        (run.id, "once", None)
    }
    assert [event.at for event in seen] == sorted(event.at for event in seen)
    assert before - 1 < seen[0].at < time.time() + 1
    steps = [event for event in seen if event.step is not None]
    assert {(event.step, event.delivery, event.event_class) for event in steps} == {
        ("fails_once", 1, "treadle.StartEvent")
    }
    assert [event.attempt for event in steps] == [1, 1, 2, 2]
    assert [event.elapsed is None for event in steps] == [True, False, True, False]
    retried = steps[1]
    assert repr(retried.error) == "ConnectionError('busy')"
    assert retried.due is not None
    assert abs(retried.due - retried.at) < 5
    assert seen[-1].elapsed is not None
    assert seen[-1].error is None


async def test_a_failure_is_told_also_if_another_step_deals_with_it():
    seen: list[LifecycleEvent] = []

    @step
    async def fails(ev: StartEvent) -> StopEvent:
        raise ValueError("no")

    @step
    async def mends(ev: StepFailed) -> StopEvent:
        return StopEvent(result="mended")

    assert await Workflow("mends", [fails, mends], observers=[seen.append]).run() == "mended"
    assert kinds(seen) == [
        "run_started",
        "step_started",
        "step_failed",
        "step_started",
        "step_finished",
        "run_completed",
    ]
    assert repr(seen[2].error) == "ValueError('no')"


async def test_a_failed_run_is_told_with_its_error():
    seen: list[LifecycleEvent] = []

    @step
    async def fails(ev: StartEvent) -> StopEvent:
        raise ValueError("no")

    run = Workflow("fails", [fails], observers=[seen.append]).run()
    with pytest.raises(ValueError, match="no") as raised:
        await run
    assert kinds(seen) == ["run_started", "step_started", "step_failed", "run_failed"]
    assert seen[-1].error is raised.value


async def test_a_cancelled_run_cancels_its_step():
    seen: list[LifecycleEvent] = []
    run = Workflow("waits", [waits], observers=[seen.append]).run()
    run.detach()
    await until_waiting(run)
    run.cancel()
    with pytest.raises(RunCancelled):
        await run
    assert kinds(seen) == [
        "run_started",
        "step_started",
        "run_waiting",
        "step_cancelled",
        "run_cancelled",
    ]


async def test_a_step_whose_coroutine_is_closed_by_hand_is_cancelled():
    seen: list[LifecycleEvent] = []
    coroutine = Workflow("waits", [waits], observers=[seen.append]).run().__await__()
    coroutine.send(None)
    coroutine.close()
    assert kinds(seen)[-2:] == ["step_cancelled", "run_cancelled"]


async def test_each_step_that_begins_has_one_end():
    seen: list[LifecycleEvent] = []

    class Job(Event):
        n: int

    @step
    async def splits(ctx: Context, ev: StartEvent) -> None:
        for n in range(50):
            ctx.send_event(Job(n=n))

    @step(concurrency=7)
    async def works(ctx: Context, ev: Job) -> StopEvent | None:
        await asyncio.sleep(0)
        return StopEvent(result="all") if ctx.increment("done") == 50 else None

    assert await Workflow("splits", [splits, works], observers=[seen.append]).run() == "all"
    begun = [event.delivery for event in seen if event.kind == "step_started"]
    ended = [event.delivery for event in seen if event.kind == "step_finished"]
    assert len(begun) == 51
    assert sorted(map(str, begun)) == sorted(map(str, ended))


async def test_a_pause_and_the_end_of_it_are_told():
    seen: list[LifecycleEvent] = []
    run = Workflow("waits", [waits], observers=[seen.append]).run()
    run.detach()
    await until_waiting(run)
    await run.pause()
    run.send_event(Go())
    run.resume()
    assert await run == "gone"
    assert kinds(seen)[2:6] == ["run_waiting", "run_paused", "run_resumed", "step_finished"]


async def test_a_run_that_continues_from_a_snapshot_is_not_started_again():
    seen: list[LifecycleEvent] = []
    workflow = Workflow("waits", [waits], observers=[seen.append])
    run = workflow.run()
    run.detach()
    await until_waiting(run)
    await run.pause()
    snapshot = await run.snapshot(secret=SECRET)
    run.cancel()
    with pytest.raises(RunCancelled):
        await run
    seen.clear()
    again = workflow.resume(snapshot, secret=SECRET)
    again.send_event(Go())
    assert await again == "gone"
    assert kinds(seen)[:2] == ["run_continued", "step_started"]


@pytest.mark.parametrize(
    "raised", [ValueError("x"), StopIteration(1), GeneratorExit(), asyncio.CancelledError()]
)
async def test_what_an_observer_raises_is_logged_and_harms_nothing(
    raised: BaseException, caplog: pytest.LogCaptureFixture
):
    seen: list[LifecycleEvent] = []

    def observer(event: LifecycleEvent) -> None:
        raise raised

    workflow = Workflow("ticks", [ticks], observers=[observer, seen.append])
    with caplog.at_level(logging.ERROR, "treadle"):
        assert await workflow.run(count=1) == "done"
    assert kinds(seen) == ["run_started", "step_started", "step_finished", "run_completed"]
    assert len(caplog.records) == 4
    assert "an observer of run" in caplog.text
    assert "workflow 'ticks' raised at 'step_started'" in caplog.text


def test_an_interrupt_in_an_observer_ends_the_program_and_not_the_run():
    async def main() -> str:
        def observer(event: LifecycleEvent) -> None:
            if event.kind == "step_started":
                raise KeyboardInterrupt

        runs.append(Workflow("ticks", [ticks], observers=[observer]).run(count=1))
        result: str = await runs[0]
        await asyncio.sleep(5)
        return result

    runs: list[Any] = []
    loop = asyncio.new_event_loop()
    try:
        task = loop.create_task(main())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        assert runs[0].status == "completed"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
    finally:
        loop.close()


async def test_an_observer_may_cancel_the_run_that_it_is_told_of():
    seen: list[str] = []

    def observer(event: LifecycleEvent) -> None:
        seen.append(event.kind)
        if event.kind == "step_started":
            run.cancel()

    run = Workflow("waits", [waits], observers=[observer]).run()
    with pytest.raises(RunCancelled):
        await run
    assert seen == ["run_started", "step_started", "step_cancelled", "run_cancelled"]


async def awaited_by_nobody(event: LifecycleEvent) -> None:
    pass


@pytest.mark.parametrize("observers", [print, "print", [1], [awaited_by_nobody], 7])
def test_what_cannot_observe_is_refused_where_it_is_given(observers: Any):
    with pytest.raises(TypeError, match=r"observers|iterable"):
        Workflow("ticks", [ticks], observers=observers)
    with pytest.raises(TypeError, match=r"observers|iterable"):
        Engine("memory:", observers=observers)


async def test_the_stream_has_lifecycle_events_between_what_is_published():
    run = Workflow("ticks", [ticks]).run(count=2)
    plain = run.stream_events()
    read = [event async for event in run.stream_events(lifecycle=True)]
    assert [event.n if isinstance(event, Tick) else event.kind for event in read] == [
        "step_started",
        0,
        1,
        "step_finished",
        "run_completed",
    ]
    assert [event.n async for event in plain] == [0, 1]


async def test_a_reader_that_waits_is_woken_by_a_lifecycle_event():
    run = Workflow("waits", [waits]).run()
    reader = run.stream_events(lifecycle=True)
    async with asyncio.timeout(10):
        assert (await anext(reader)).kind == "step_started"
        assert (await anext(reader)).kind == "run_waiting"
        run.send_event(Go())
        assert (await anext(reader)).kind == "step_finished"
        assert (await anext(reader)).kind == "run_completed"
        with pytest.raises(StopAsyncIteration):
            await anext(reader)


async def test_a_slow_reader_is_told_how_many_lifecycle_events_it_has_missed():
    class Job(Event):
        n: int

    @step
    async def counts(ev: StartEvent | Job) -> Job | StopEvent:
        n = ev.n if isinstance(ev, Job) else 0
        return Job(n=n + 1) if n < 9 else StopEvent()

    run = Workflow("counts", [counts], stream_limit=4).run()
    reader = run.stream_events(lifecycle=True)
    await run
    read = [event async for event in reader]
    # Ten steps that begin and end, and the end of the run.
    assert read[0] == Lagged(missed=21 - 4)
    assert kinds(read[1:]) == ["step_finished", "step_started", "step_finished", "run_completed"]


async def test_a_run_waits_only_if_nothing_of_it_can_continue():
    class Job(Event):
        pass

    ready = asyncio.Event()

    @step
    async def begins(ev: StartEvent) -> list[Job | Go]:
        return [Job(), Go()]

    @step
    async def awaits(ctx: Context, ev: Job) -> StopEvent:
        await ctx.sleep(0.3)
        return StopEvent()

    @step
    async def works(ev: Go) -> None:
        await ready.wait()

    seen: list[LifecycleEvent] = []
    run = Workflow("both", [begins, awaits, works], observers=[seen.append]).run()
    run.detach()
    await asyncio.sleep(0.05)
    assert run.status == "running"
    assert "run_waiting" not in kinds(seen)
    ready.set()
    await until_waiting(run)
    waiting = next(event for event in seen if event.kind == "run_waiting")
    assert waiting.due is not None
    assert waiting.due > waiting.at
    await run
    assert run.status == "completed"


class TestWithAJournal:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "runs.db"

    async def test_an_engine_and_a_workflow_both_have_observers(self, path: Path):
        of_engine: list[LifecycleEvent] = []
        of_workflow: list[LifecycleEvent] = []
        workflow = Workflow("ticks", [ticks], observers=[of_workflow.append])
        url = f"sqlite:///{path}"
        async with Engine(url, workflows=[workflow], observers=[of_engine.append]) as engine:
            run = engine.run(workflow, count=1, key="k")
            await run
            workers = {event.worker for event in of_engine}
        assert of_engine == of_workflow
        assert kinds(of_engine) == ["run_started", "step_started", "step_finished", "run_completed"]
        assert len(workers) == 1
        assert None not in workers

    async def test_a_run_that_is_handed_back_is_released_and_continued_by_the_next(
        self, path: Path
    ):
        workflow, url = Workflow("waits", [waits]), f"sqlite:///{path}"
        seen: list[LifecycleEvent] = []
        async with Engine(url, workflows=[workflow], observers=[seen.append]) as engine:
            run = engine.run(workflow, key="k")
            await until_waiting(run)
            assert (await engine.get(run.id).info()).status == "waiting"
        assert kinds(seen)[-2:] == ["step_cancelled", "run_released"]
        assert seen[-1].error is not None
        seen.clear()
        async with Engine(url, workflows=[workflow], observers=[seen.append]) as engine:
            await engine.send_event(run.id, Go())
            assert await engine.get(run.id) == "gone"
        assert kinds(seen)[:2] == ["run_continued", "step_started"]
        assert kinds(seen)[-1] == "run_completed"

    async def test_a_run_that_another_process_submitted_is_started_where_it_is_executed(
        self, path: Path
    ):
        workflow, url = Workflow("ticks", [ticks]), f"sqlite:///{path}"
        seen: list[LifecycleEvent] = []
        other: list[LifecycleEvent] = []
        async with (
            Engine(url, workflows=[workflow], observers=[seen.append]) as worker,
            Engine(url, observers=[other.append]) as sender,
        ):
            run_id = await worker.submit(workflow, count=1)
            assert await sender.get(run_id) == "done"
        assert kinds(seen) == ["run_started", "step_started", "step_finished", "run_completed"]
        assert other == []

    async def test_a_run_of_a_killed_process_is_taken_over(self, path: Path):
        seen: list[LifecycleEvent] = []
        worker = """
        async def main():
            async with here(lease=600) as engine:
                say("open")
                await asyncio.sleep(60)
        asyncio.run(main())
        """
        url = f"sqlite:///{path}"
        async with Engine(url, workflows=[], lease=600) as sender:
            with Process(path, worker) as process:
                assert process.line() == "open"
                run_id = await sender.submit(long, seconds=60)
                async with asyncio.timeout(20):
                    while (await sender.get(run_id).info()).seq == 0:
                        await asyncio.sleep(0.01)
                process.kill()
                async with Engine(url, workflows=ALL, lease=600, observers=[seen.append]):
                    await sender.get(run_id)
        assert kinds(seen)[:2] == ["run_taken_over", "step_started"]
        assert kinds(seen)[-1] == "run_completed"

    async def test_a_second_run_of_a_key_is_no_run_to_observe(self, path: Path):
        workflow, url = Workflow("waits", [waits]), f"sqlite:///{path}"
        seen: list[LifecycleEvent] = []
        async with (
            Engine(url, workflows=[workflow]) as first,
            Engine(url, workflows=[workflow], observers=[seen.append]) as second,
        ):
            one = first.run(workflow, key="k")
            await until_waiting(one)
            other = second.run(workflow, key="k")
            await first.send_event(one.id, Go())
            assert await other == "gone"
        assert seen == []

import asyncio
import gc
import logging
import traceback
import uuid
from typing import Any

import pytest
from isolated import run_script

from treadle import (
    Context,
    Event,
    EventLoopError,
    InternalError,
    RunEnded,
    RunStalled,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)


class Item(Event):
    n: int = 0


class Boom(Exception):
    pass


@step
async def echo(ev: StartEvent) -> StopEvent:
    await asyncio.sleep(0.01)
    return StopEvent(result=ev.value)


@step
async def at_once(ev: StartEvent) -> StopEvent:
    return StopEvent(result=ev.value)


@step
async def fail(ev: StartEvent) -> StopEvent:
    await asyncio.sleep(0)
    raise Boom("it failed")


@step
async def forever(ev: StartEvent) -> StopEvent:
    await asyncio.sleep(1000)
    return StopEvent()


ECHO = Workflow("echo", [echo])
AT_ONCE = Workflow("at once", [at_once])
FAIL = Workflow("fail", [fail])
FOREVER = Workflow("forever", [forever])


# Awaiting


@pytest.mark.parametrize("workflow", [ECHO, AT_ONCE])
@pytest.mark.parametrize(
    "value",
    [None, 0, (), (1, 2), [], StopIteration(3), ValueError("a value"), StopEvent(result=1), type],
)
async def test_any_value_is_a_result(workflow: Workflow, value: Any):
    assert await workflow.run(value=value) is value


@pytest.mark.parametrize("workflow", [ECHO, AT_ONCE])
async def test_a_run_can_be_awaited_several_times(workflow: Workflow):
    value = object()
    run = workflow.run(value=value)
    assert [await run, await run, await run] == [value] * 3


@pytest.mark.parametrize("workflow", [ECHO, AT_ONCE])
async def test_a_run_can_be_awaited_by_several_tasks_at_once(workflow: Workflow):
    run = workflow.run(value="v")

    async def wait() -> Any:
        return await run

    assert await asyncio.gather(*(wait() for _ in range(10)), run, run) == ["v"] * 12


async def test_a_run_can_be_wrapped_in_all_that_takes_awaitables():
    assert await asyncio.gather(ECHO.run(value=1), AT_ONCE.run(value=2)) == [1, 2]
    assert await asyncio.wait_for(ECHO.run(value=3), 5) == 3
    assert await asyncio.ensure_future(AT_ONCE.run(value=4)) == 4
    assert await asyncio.shield(ECHO.run(value=5)) == 5
    assert [await run for run in asyncio.as_completed([ECHO.run(value=6)])] == [6]


@pytest.mark.parametrize(
    "wrap", [asyncio.ensure_future, asyncio.shield, lambda run: asyncio.wait_for(run, 5)]
)
@pytest.mark.parametrize("workflow", [ECHO, AT_ONCE])
async def test_one_run_can_be_wrapped_several_times(workflow: Workflow, wrap: Any):
    run = workflow.run(value=1)
    assert await asyncio.gather(wrap(run), wrap(run), wrap(run)) == [1, 1, 1]
    assert await wrap(run) == 1


async def test_a_detached_run_can_be_waited_for_again_and_again():
    enough = asyncio.Event()

    @step
    async def wait(ev: StartEvent) -> StopEvent:
        await enough.wait()
        return StopEvent(result=1)

    run = Workflow("wait", [wait]).run().detach()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run, 0.001)
    enough.set()
    assert await asyncio.wait_for(run, 5) == 1


async def test_a_run_that_nobody_awaits_runs_all_the_same():
    run = ECHO.run(value=1)
    while run.status == "running":
        await asyncio.sleep(0.001)
    assert run.status == "completed"
    assert await run == 1


async def test_a_thousand_runs_give_each_its_own_result():
    runs = [(ECHO if n % 2 else AT_ONCE).run(value=n) for n in range(1000)]
    assert await asyncio.gather(*runs) == list(range(1000))


async def test_a_run_made_in_one_task_can_be_awaited_in_another():
    async def make() -> Any:
        return ECHO.run(value=1)

    run = await asyncio.create_task(make())
    assert await asyncio.create_task(asyncio.wait_for(run, 5)) == 1


async def test_a_run_of_another_loop_can_be_awaited():
    run = ECHO.run(value="other")

    async def wait() -> Any:
        return await run

    assert await asyncio.to_thread(asyncio.run, wait()) == "other"


def test_a_run_needs_a_running_loop():
    with pytest.raises(EventLoopError, match="echo"):
        ECHO.run(value=1)


def test_a_run_whose_loop_was_closed_is_a_typed_error_wherever_it_is_used():
    async def make() -> Any:
        run = FOREVER.run()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return run

    loop = asyncio.new_event_loop()
    run = loop.run_until_complete(make())
    loop.close()

    async def wait() -> Any:
        return await asyncio.wait_for(run, 5)

    with pytest.raises(EventLoopError):
        asyncio.run(wait())
    with pytest.raises((EventLoopError, RunEnded)):
        run.send_event(StartEvent())
    assert run.cancel() in (True, False)
    gc.collect()


# What a run says of itself


async def test_the_id_is_a_uuid_of_version_7():
    ids: list[str] = []

    @step
    async def note(ctx: Context, ev: StartEvent) -> StopEvent:
        ids.append(ctx.run_id())
        return StopEvent()

    run = Workflow("w", [note]).run()
    await run
    assert uuid.UUID(run.id).version == 7
    assert ids == [run.id]
    assert len({AT_ONCE.run(value=1).id for _ in range(1000)}) == 1000


async def test_the_status_tells_how_far_a_run_is():
    runs = {
        "completed": AT_ONCE.run(value=1),
        "failed": FAIL.run(),
        "cancelled": FOREVER.run(),
    }
    assert [run.status for run in runs.values()] == ["running"] * 3
    runs["cancelled"].cancel()
    await asyncio.gather(*runs.values(), return_exceptions=True)
    assert [run.status for run in runs.values()] == list(runs)


async def test_the_repr_names_the_run_and_its_workflow():
    run = AT_ONCE.run(value=1)
    assert run.id in repr(run)
    assert "at once" in repr(run)
    await run


# Failing


async def test_an_exception_comes_as_itself_with_traceback_and_note():
    run = FAIL.run()
    with pytest.raises(Boom, match="it failed") as caught:
        await run
    (note,) = caught.value.__notes__
    for part in ("fail", "StartEvent", "attempt 1", run.id):
        assert part in note
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "fail" in names
    assert caught.value.__cause__ is None


async def test_each_await_raises_the_same_exception_and_its_traceback_does_not_grow():
    run = FAIL.run()
    lengths, errors = [], []
    for _ in range(5):
        try:
            await run
        except Boom as error:
            errors.append(error)
            lengths.append(len(traceback.extract_tb(error.__traceback__)))
    assert len({id(error) for error in errors}) == 1
    assert len(errors[0].__notes__) == 1
    assert lengths[1:] == [lengths[1]] * 4


async def test_an_exception_of_a_child_carries_the_notes_of_both_steps():
    @step
    async def parent(ev: StartEvent) -> StopEvent:
        return StopEvent(result=await FAIL.run())

    with pytest.raises(Boom) as caught:
        await Workflow("w", [parent]).run()
    assert ["fail" in caught.value.__notes__[0], "parent" in caught.value.__notes__[1]] == [
        True,
        True,
    ]


async def test_an_exception_group_comes_as_itself():
    @step
    async def group(ev: StartEvent) -> StopEvent:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(5))
            tasks.create_task(boom())
        return StopEvent()

    async def boom() -> None:
        raise Boom

    with pytest.raises(ExceptionGroup) as caught:
        await Workflow("w", [group]).run()
    assert [type(error) for error in caught.value.exceptions] == [Boom]


async def test_the_first_failure_counts_and_the_other_steps_are_stopped():
    stopped: list[int] = []

    @step
    async def begin(ev: StartEvent) -> list[Item]:
        return [Item(n=n) for n in range(5)]

    @step
    async def work(ev: Item) -> StopEvent:
        try:
            await asyncio.sleep(0.01 if ev.n == 3 else 5)
            raise Boom(ev.n)
        finally:
            stopped.append(ev.n)

    with pytest.raises(Boom, match="3"):
        await Workflow("w", [begin, work]).run()
    assert sorted(stopped) == [0, 1, 2, 3, 4]


async def test_an_exception_that_cannot_take_a_note_comes_as_itself(
    recwarn: pytest.WarningsRecorder,
):
    class Strict(Exception):
        __slots__ = ()

        def __str__(self) -> str:
            raise RuntimeError("no text")

    @step
    async def raiser(ev: StartEvent) -> StopEvent:
        raise Strict

    with pytest.raises(Strict):
        await Workflow("w", [raiser]).run()


async def test_the_context_manager_of_a_step_that_fails_is_left():
    left: list[type | None] = []

    class Manager:
        async def __aenter__(self) -> None: ...

        async def __aexit__(self, cls: type | None, *_: object) -> None:
            left.append(cls)

    @step
    async def work(ev: StartEvent) -> StopEvent:
        async with Manager():
            await asyncio.sleep(0)
            raise Boom

    with pytest.raises(Boom):
        await Workflow("w", [work]).run()
    assert left == [Boom]


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit"])
@pytest.mark.parametrize("how", ["await run", "await asyncio.sleep(5)"])
@pytest.mark.parametrize("before", ["pass", "await asyncio.sleep(0.01)"])
def test_what_must_end_the_process_is_never_swallowed(error: str, how: str, before: str):
    printed = run_script(
        f"""
        @step
        async def work(ev: StartEvent) -> StopEvent:
            {before}
            raise {error}("out")
        async def main():
            run = Workflow("w", [work]).run()
            {how}
            print("went on")
        try:
            asyncio.run(main())
        except {error} as error:
            print("raised", error)
    """,
        noise=True,
    )
    assert printed == "raised out"


def test_a_keyboard_interrupt_in_a_thread_is_never_swallowed():
    printed = run_script("""
        @step
        def work(ev: StartEvent) -> StopEvent:
            raise KeyboardInterrupt("out")
        async def main():
            await Workflow("w", [work]).run()
        try:
            asyncio.run(main())
        except KeyboardInterrupt as error:
            print("raised", error)
    """)
    assert printed == "raised out"


def test_an_interrupt_by_signal_cancels_the_run_and_its_step_cleans_up():
    printed = run_script("""
        import os, signal
        # A shell has programs in the background ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        @step
        async def work(ev: StartEvent) -> StopEvent:
            try:
                asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGINT)
                await asyncio.sleep(60)
            finally:
                print("cleaned up")
        async def main():
            await Workflow("w", [work]).run()
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted")
    """)
    assert printed == "cleaned up\ninterrupted"


# Failing without anybody to see


async def test_a_failed_run_that_was_never_awaited_is_logged(caplog: pytest.LogCaptureFixture):
    run = FAIL.run()
    name = run.id
    await asyncio.sleep(0.05)
    assert run.status == "failed"
    del run
    gc.collect()
    (record,) = [record for record in caplog.records if record.name == "treadle"]
    assert record.levelno == logging.ERROR
    assert name in record.getMessage()
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "it failed"


def test_a_failed_run_in_a_cycle_is_logged_whole():
    printed = run_script("""
        import io
        stream = io.StringIO()
        logging.basicConfig(stream=stream)
        @step
        async def work(ctx: Context, ev: StartEvent) -> StopEvent:
            raise ValueError("it failed")     # its traceback holds `ctx`, which holds the run
        async def main():
            Workflow("w", [work]).run()
            await asyncio.sleep(0.05)
        asyncio.run(main())
        gc.collect()
        text = stream.getvalue()
        print("never awaited" in text, "ValueError: it failed" in text, "in work" in text)
    """)
    assert printed == "True True True"


async def test_a_failed_run_that_was_awaited_is_not_logged(caplog: pytest.LogCaptureFixture):
    run = FAIL.run()
    with pytest.raises(Boom):
        await run
    del run
    gc.collect()
    assert [record for record in caplog.records if record.name == "treadle"] == []


async def test_a_cancelled_run_is_not_logged(caplog: pytest.LogCaptureFixture):
    run = FOREVER.run()
    await asyncio.sleep(0.01)
    run.cancel()
    await asyncio.sleep(0.01)
    assert run.status == "cancelled"
    del run
    gc.collect()
    assert [record for record in caplog.records if record.name == "treadle"] == []


def test_a_run_that_is_left_when_the_loop_ends_is_cancelled_without_a_noise():
    printed = run_script("""
        @step
        async def work(ev: StartEvent) -> StopEvent:
            try:
                await asyncio.sleep(5)
            finally:
                print("stopped", asyncio.get_running_loop().is_running())
        runs = []
        async def main():
            runs.append(Workflow("w", [work]).run())
            await asyncio.sleep(0.01)
        asyncio.run(main())
        print(runs[0].status)
    """)
    assert printed == "stopped True\ncancelled"


def test_a_run_made_just_before_the_loop_ends_leaves_no_task_behind():
    printed = run_script("""
        @step
        async def work(ev: StartEvent) -> StopEvent:
            try:
                await asyncio.sleep(5)
            finally:
                print("stopped", asyncio.get_running_loop().is_running())
        async def main():
            Workflow("w", [work]).run()
        asyncio.run(main())
        gc.collect()
        print("over")
    """)
    assert printed in ("over", "stopped True\nover")


# Stalling


async def test_a_step_that_awaits_its_own_run_is_told_so():
    runs: list[Any] = []

    @step
    async def work(ev: StartEvent) -> StopEvent:
        with pytest.raises(RunStalled):
            await runs[0]
        return StopEvent(result="told")

    runs.append(Workflow("w", [work]).run())
    assert await asyncio.wait_for(runs[0], 5) == "told"


def test_a_child_that_awaits_its_parent_is_told_so():
    printed = run_script("""
        @step
        async def child(ev: StartEvent) -> StopEvent:
            return StopEvent(result=await runs[0])
        inner = Workflow("inner", [child])
        @step
        async def parent(ev: StartEvent) -> StopEvent:
            return StopEvent(result=await inner.run())
        async def main():
            runs.append(Workflow("outer", [parent]).run())
            await asyncio.wait_for(runs[0], 2)
        runs = []
        try:
            asyncio.run(main())
        except RunStalled:
            print("told")
    """)
    assert printed == "told"


async def test_a_task_that_a_step_leaves_behind_may_await_the_run():
    runs: list[Any] = []
    tasks: list[asyncio.Task[Any]] = []

    async def watch() -> Any:
        return await runs[0]

    @step
    async def work(ev: StartEvent) -> StopEvent:
        tasks.append(asyncio.create_task(watch()))
        await asyncio.sleep(0.01)
        return StopEvent(result="done")

    runs.append(Workflow("w", [work]).run())
    assert await runs[0] == "done"
    assert await tasks[0] == "done"


# Sending


async def test_events_are_sent_into_a_run_from_outside():
    @step
    async def begin(ev: StartEvent) -> None: ...

    @step(external=True)
    async def take(ctx: Context, ev: Item) -> StopEvent | None:
        seen = ctx.update("seen", lambda seen: [*seen, ev.n], default=[])
        return StopEvent(result=seen) if len(seen) == 4 else None

    run = Workflow("w", [begin, take]).run()
    run.send_event(Item(n=1))
    await asyncio.sleep(0.01)
    run.send_event(Item(n=2))
    await asyncio.to_thread(run.send_event, Item(n=3))
    run.send_event(Item(n=4))
    assert await asyncio.wait_for(run, 5) == [1, 2, 3, 4]
    with pytest.raises(RunEnded):
        run.send_event(Item(n=5))


@pytest.mark.parametrize("from_thread", [False, True])
async def test_a_stop_event_from_outside_ends_the_run(from_thread: bool):
    run = FOREVER.run()
    await asyncio.sleep(0.01)
    if from_thread:
        await asyncio.to_thread(run.send_event, StopEvent(result="out"))
    else:
        run.send_event(StopEvent(result="out"))
    assert await asyncio.wait_for(run, 5) == "out"


async def test_events_sent_from_many_threads_all_arrive_once():
    @step
    async def begin(ev: StartEvent) -> None: ...

    @step(external=True)
    async def take(ctx: Context, ev: Item) -> StopEvent | None:
        ctx.increment(f"n{ev.n}")
        await asyncio.sleep(0)
        if ctx.increment("taken") < 2000:
            return None
        return StopEvent(result={ctx.get(f"n{n}") for n in range(2000)})

    run = Workflow("w", [begin, take]).run()

    def send(first: int) -> None:
        for n in range(first, first + 250):
            run.send_event(Item(n=n))

    await asyncio.gather(*(asyncio.to_thread(send, first) for first in range(0, 2000, 250)))
    assert await asyncio.wait_for(run, 10) == {1}


# Children and detached runs


async def test_a_child_is_cancelled_with_its_parent():
    events: list[str] = []
    children: list[Any] = []

    @step
    async def inner(ev: StartEvent) -> StopEvent:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0.01)
            events.append("child stopped")
        return StopEvent()

    child = Workflow("child", [inner])

    @step
    async def outer(ev: StartEvent) -> StopEvent:
        children.append(child.run())
        await asyncio.sleep(0.02)
        return StopEvent(result="parent done")

    assert await Workflow("parent", [outer]).run() == "parent done"
    assert events == ["child stopped"]
    assert children[0].status == "cancelled"


@pytest.mark.parametrize("way", ["await", "gather", "task"])
async def test_a_child_that_is_awaited_is_cancelled_with_its_parent(way: str):
    children: list[Any] = []

    @step
    async def outer(ev: StartEvent) -> StopEvent:
        run = FOREVER.run()
        children.append(run)
        if way == "await":
            await run
        elif way == "gather":
            await asyncio.gather(run, FOREVER.run())
        else:
            await asyncio.create_task(asyncio.wait_for(run, 1000))
        return StopEvent()

    run = Workflow("parent", [outer]).run()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run, 0.03)
    assert (run.status, children[0].status) == ("cancelled", "cancelled")


async def test_a_failing_parent_takes_its_children_along():
    children: list[Any] = []

    @step
    async def outer(ev: StartEvent) -> StopEvent:
        children.append(FOREVER.run())
        await asyncio.sleep(0.01)
        raise Boom

    with pytest.raises(Boom):
        await Workflow("parent", [outer]).run()
    assert children[0].status == "cancelled"


async def test_a_detached_child_outlives_its_parent():
    @step
    async def outer(ev: StartEvent) -> StopEvent:
        return StopEvent(result=ECHO.run(value="child").detach())

    child = await Workflow("parent", [outer]).run()
    assert child.status == "running"
    assert await child == "child"


async def test_a_detached_run_survives_its_awaiter():
    run = ECHO.run(value=5).detach()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run, 0.001)
    assert await run == 5


async def test_a_run_detached_while_it_is_awaited_runs_its_step_again_when_the_awaiter_goes():
    events: list[str] = []

    @step
    async def work(ev: StartEvent) -> StopEvent:
        events.append("begin")
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            events.append("cancelled")
            raise
        return StopEvent(result="done")

    run = Workflow("w", [work]).run()
    waiting = asyncio.ensure_future(run)
    await asyncio.sleep(0.01)
    run.detach()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await run == "done"
    assert events == ["begin", "cancelled", "begin"]


async def test_two_hundred_nested_children_give_their_result():
    @step
    async def nested(ev: StartEvent) -> StopEvent:
        return StopEvent(result=1 + await workflow.run(depth=ev.depth - 1) if ev.depth else 0)

    workflow = Workflow("nested", [nested])
    assert await workflow.run(depth=200) == 200


async def test_two_hundred_nested_children_are_cancelled_together():
    stopped: list[int] = []

    @step
    async def nested(ev: StartEvent) -> StopEvent:
        try:
            await (workflow.run(depth=ev.depth - 1) if ev.depth else asyncio.sleep(1000))
        finally:
            stopped.append(ev.depth)
        return StopEvent()

    workflow = Workflow("nested", [nested])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(workflow.run(depth=200), 0.1)
    assert stopped == list(range(201))


def test_endless_nesting_is_a_recursion_error():
    printed = run_script("""
        @step
        async def nested(ev: StartEvent) -> StopEvent:
            return StopEvent(result=await workflow.run())
        workflow = Workflow("nested", [nested])
        async def main():
            await workflow.run()
        try:
            asyncio.run(main())
        except RecursionError:
            print("RecursionError")
    """)
    assert printed == "RecursionError"


# Failures of the engine and of the event loop


async def test_a_panic_of_the_core_is_an_internal_error_and_the_process_goes_on():
    from treadle import _treadle

    @step
    async def work(ev: StartEvent) -> StopEvent:
        if ev.fails:
            _treadle._panic("on purpose")
        return StopEvent(result="fine")

    workflow = Workflow("w", [work])
    with pytest.raises(InternalError, match="on purpose") as caught:
        await workflow.run(fails=True)
    assert any("work" in note for note in caught.value.__notes__)
    assert await workflow.run(fails=False) == "fine"


async def test_a_loop_that_makes_no_tasks_fails_the_run_and_leaves_the_awaiter_alone():
    class Part(Event):
        pass

    @step
    async def split(ev: StartEvent) -> list[Part]:
        return [Part(), Part(), Part()]

    @step
    async def wait(ev: Part) -> StopEvent | None:
        await asyncio.sleep(10)

    def refuse(loop: Any, coroutine: Any, **options: Any) -> Any:
        raise RuntimeError("no tasks today")

    run = Workflow("w", [split, wait]).run()
    loop = asyncio.get_running_loop()
    loop.set_task_factory(refuse)
    try:
        with pytest.raises(RuntimeError, match="no tasks today"):
            await run
    finally:
        loop.set_task_factory(None)
    assert run.status == "failed"
    await asyncio.sleep(0)

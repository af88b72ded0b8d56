"""Who is cancelled with a run, and what the others get."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from treadle import RunCancelled, StartEvent, StopEvent, TreadleError, Workflow, step


def flow(events: list[str], *, cleanup: float = 0.0) -> tuple[Workflow, asyncio.Event]:
    """A workflow that notes what happens in its step, which ends once the event is set."""
    enough = asyncio.Event()

    @step
    async def work(ev: StartEvent) -> StopEvent:
        events.append("begin")
        try:
            await enough.wait()
        except asyncio.CancelledError:
            events.append("cancelled")
            await asyncio.sleep(cleanup)
            raise
        events.append("end")
        return StopEvent(result="done")

    return Workflow("flow", [work]), enough


async def result_of(run: Any) -> Any:
    return await run


async def passes(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# Cancelled with its last awaiter


@pytest.mark.parametrize("gone", [0, 1, 2])
async def test_a_run_goes_on_until_its_last_awaiter_is_cancelled(gone: int):
    events: list[str] = []
    workflow, _ = flow(events)
    run = workflow.run()
    tasks = [asyncio.create_task(result_of(run)) for _ in range(3)]
    await passes()
    left = [task for at, task in enumerate(tasks) if at != gone]
    for task in (tasks[gone], left[0]):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await passes()
        assert run.status == "running"
    left[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await left[1]
    assert run.status == "cancelled"


async def test_a_step_that_its_awaiter_drives_runs_again_for_the_others():
    events: list[str] = []
    workflow, enough = flow(events)
    run = workflow.run()
    driver, other = (asyncio.create_task(result_of(run)) for _ in range(2))
    await passes()
    driver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await driver
    await passes()
    enough.set()
    assert await other == "done"
    assert events == ["begin", "cancelled", "begin", "end"]


async def test_a_step_of_a_task_of_its_own_is_untouched_by_an_awaiter_that_goes():
    events: list[str] = []
    workflow, enough = flow(events)
    run = workflow.run()
    await passes()
    one, other = (asyncio.create_task(result_of(run)) for _ in range(2))
    await passes()
    one.cancel()
    await passes()
    enough.set()
    assert await other == "done"
    assert events == ["begin", "end"]


@pytest.mark.parametrize("begun", [False, True])
async def test_all_awaiters_that_are_cancelled_at_once_take_the_run_with_them(begun: bool):
    events: list[str] = []
    workflow, _ = flow(events)
    run = workflow.run()
    if begun:
        await passes()
    everything = asyncio.gather(*(result_of(run) for _ in range(3)))
    await passes()
    everything.cancel()
    with pytest.raises(asyncio.CancelledError):
        await everything
    await passes()
    assert run.status == "cancelled"
    assert events == ["begin", "cancelled"]


async def test_a_time_limit_of_one_awaiter_leaves_the_run_to_the_others():
    events: list[str] = []
    workflow, enough = flow(events)
    run = workflow.run()
    await passes()
    other = asyncio.create_task(result_of(run))
    await passes()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await run
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run, 0.01)
    enough.set()
    assert await other == "done"
    assert events == ["begin", "end"]


# What awaiters of a cancelled run get


async def test_an_awaiter_that_was_not_cancelled_gets_run_cancelled():
    run = flow([])[0].run()
    tasks = [asyncio.create_task(result_of(run)) for _ in range(3)]
    await passes()
    run.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [RunCancelled] * 3
    assert issubclass(RunCancelled, TreadleError)
    with pytest.raises(RunCancelled, match=f"run {run.id} was cancelled"):
        await run


async def test_a_task_group_is_told_of_a_cancelled_run():
    run = flow([])[0].run()

    async def group_of_one() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(result_of(run))
            await passes()
            run.cancel()

    with pytest.raises(ExceptionGroup) as raised:
        await group_of_one()
    assert raised.group_contains(RunCancelled)


@pytest.mark.parametrize("wrap", [asyncio.gather, asyncio.shield, asyncio.ensure_future])
async def test_a_cancelled_run_cancels_no_wrapper(wrap: Callable[[Any], Any]):
    run = flow([])[0].run()
    wrapped = wrap(run)
    asyncio.get_running_loop().call_later(0.005, run.cancel)
    with pytest.raises(RunCancelled):
        await wrapped
    assert not wrapped.cancelled()


async def test_a_time_limit_that_has_not_passed_lets_run_cancelled_through():
    for limited in (lambda run: asyncio.wait_for(run, 50), lambda run: with_timeout(run, 50)):
        run = flow([])[0].run()
        asyncio.get_running_loop().call_later(0.005, run.cancel)
        with pytest.raises(RunCancelled):
            await limited(run)


async def with_timeout(run: Any, seconds: float) -> Any:
    async with asyncio.timeout(seconds):
        return await run


async def test_an_awaiter_that_is_cancelled_while_the_run_is_gets_its_own_cancellation():
    events: list[str] = []
    run = flow(events, cleanup=0.01)[0].run()
    task = asyncio.create_task(result_of(run))
    await passes()
    run.cancel()
    await passes()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_step_that_awaits_a_cancelled_task_cancels_its_run_and_not_the_awaiter():
    @step
    async def work(ev: StartEvent) -> StopEvent:
        cancelled = asyncio.ensure_future(asyncio.sleep(50))
        asyncio.get_running_loop().call_soon(cancelled.cancel)
        await cancelled
        return StopEvent()

    with pytest.raises(RunCancelled) as raised:
        await Workflow("w", [work]).run()
    assert isinstance(raised.value.__cause__, asyncio.CancelledError)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_web_handler_answers_for_a_cancelled_run():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        run = flow([])[0].run()
        asyncio.get_running_loop().call_later(0.005, run.cancel)
        try:
            await run
        except Exception as error:
            writer.write(type(error).__name__.encode())
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b"RunCancelled"
        writer.close()
        await writer.wait_closed()


# Steps that await other runs


def parent_of(child: Callable[[], Any], seen: list[BaseException]) -> Workflow:
    @step
    async def parent(ev: StartEvent) -> StopEvent:
        try:
            return StopEvent(result=await child())
        except BaseException as error:
            seen.append(error)
            raise

    return Workflow("parent", [parent])


async def test_a_step_whose_child_is_cancelled_fails_with_run_cancelled():
    seen: list[BaseException] = []
    child = flow([])[0].run()
    run = parent_of(lambda: child, seen).run()
    asyncio.get_running_loop().call_later(0.005, child.cancel)
    with pytest.raises(RunCancelled, match=child.id):
        await run
    assert run.status == "failed"
    assert [type(error) for error in seen] == [RunCancelled]


@pytest.mark.parametrize("how", ["the run", "the awaiter"])
async def test_a_step_that_is_cancelled_while_it_awaits_a_child_gets_its_cancellation(how: str):
    seen: list[BaseException] = []
    events: list[str] = []
    workflow, _ = flow(events)
    run = parent_of(workflow.run, seen).run()
    task = asyncio.create_task(result_of(run))
    await passes()
    if how == "the run":
        run.cancel()
    else:
        task.cancel()
    with pytest.raises(RunCancelled if how == "the run" else asyncio.CancelledError):
        await task
    assert [type(error) for error in seen] == [asyncio.CancelledError]
    assert events == ["begin", "cancelled"]


async def test_a_child_that_two_parents_await_goes_on_with_one_of_them():
    events: list[str] = []
    workflow, enough = flow(events)
    child = workflow.run()
    await passes()
    one, other = (parent_of(lambda: child, []).run() for _ in range(2))
    tasks = [asyncio.create_task(result_of(run)) for run in (one, other)]
    await passes()
    one.cancel()
    with pytest.raises(RunCancelled):
        await tasks[0]
    enough.set()
    assert await tasks[1] == "done"
    assert events == ["begin", "end"]


async def test_a_parent_that_outlives_a_cancelled_child_is_told_apart_from_its_awaiter():
    @step
    async def parent(ev: StartEvent) -> StopEvent:
        child = flow([], cleanup=0.005)[0].run()
        asyncio.get_running_loop().call_later(0.005, child.cancel)
        with pytest.raises(RunCancelled):
            await child
        await asyncio.sleep(50)
        return StopEvent()

    run = Workflow("parent", [parent]).run()
    asyncio.get_running_loop().call_later(0.05, run.cancel)
    with pytest.raises(RunCancelled, match=run.id):
        await run
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0

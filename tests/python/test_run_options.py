"""What a run is given beside its first event: limits of its own, and its first state."""

import asyncio
import math
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from treadle import (
    Context,
    Engine,
    Event,
    StartEvent,
    StopEvent,
    UnstorableValue,
    Workflow,
    WorkflowTimeout,
    step,
)
from treadle.testing import ManualClock


class Go(Event):
    pass


class Job(StartEvent):
    timeout: float
    key: str = "none"


@step
async def wait(ctx: Context, ev: StartEvent) -> StopEvent:
    await ctx.wait_for_event(Go)
    return StopEvent(result=dict(ctx.state))


def waiting(**options: Any) -> Workflow:
    return Workflow("waiting", [wait], **options)


# Limits


@pytest.mark.parametrize("name", ["timeout", "deadline"])
@pytest.mark.parametrize("own", [None, 30])
async def test_a_run_has_the_limit_that_it_was_given(name: str, own: float | None):
    with ManualClock() as clock:
        run = waiting(**({} if own is None else {name: own})).run(**{name: timedelta(minutes=1)})
        await clock.advance(59)
        assert run.status == "waiting"
        await clock.advance(1)
        with pytest.raises(WorkflowTimeout, match=r"60\.?0? s"):
            await run


@pytest.mark.parametrize("name", ["timeout", "deadline"])
async def test_a_run_may_have_no_limit_where_its_workflow_has_one(name: str):
    with ManualClock() as clock:
        run = waiting(**{name: 30}).run(**{name: math.inf})
        await clock.advance(days=400)
        run.send_event(Go())
        assert await run == {}


async def test_none_leaves_a_limit_to_the_workflow():
    with ManualClock() as clock:
        run = waiting(timeout=30).run(timeout=None)
        await clock.advance(30)
        with pytest.raises(WorkflowTimeout):
            await run


async def test_the_limits_of_one_run_are_not_those_of_the_next():
    workflow = waiting()
    with ManualClock() as clock:
        limited, free = workflow.run(timeout=5), workflow.run()
        await clock.advance(5)
        with pytest.raises(WorkflowTimeout):
            await limited
        assert free.status == "waiting"
        free.cancel()


async def test_a_snapshot_has_the_limits_of_its_run():
    workflow = waiting()
    with ManualClock() as clock:
        run = workflow.run(timeout=60, deadline=3600)
        await clock.advance(20)
        again = workflow.resume(await run.snapshot())
        run.cancel()
        await clock.advance(40)
        with pytest.raises(WorkflowTimeout, match="took longer than 60"):
            await again


async def test_limits_hold_in_the_process_that_executes_the_run(tmp_path: Path):
    workflow = waiting()
    url = f"sqlite:///{tmp_path}/runs.db"
    async with Engine(url) as engine:
        run_id = await engine.submit(workflow, timeout=0.01)
    async with asyncio.timeout(30), Engine(url, workflows=[workflow]) as engine:
        with pytest.raises(WorkflowTimeout, match=r"took longer than 0\.01 s"):
            await engine.get(run_id)


async def test_state_is_there_after_a_restart(tmp_path: Path):
    workflow = waiting()
    url = f"sqlite:///{tmp_path}/runs.db"
    async with Engine(url) as engine:
        run_id = await engine.submit(workflow, state={"user": "Ada", "n": (1, 2)})
    async with asyncio.timeout(30), Engine(url, workflows=[workflow]) as engine:
        await engine.send_event(run_id, Go())
        assert await engine.get(run_id) == {"user": "Ada", "n": (1, 2)}


async def test_a_run_that_is_started_from_a_thread_takes_them_as_well():
    workflow = waiting()
    async with Engine("memory:", workflows=[workflow]) as engine:
        future = engine.run_threadsafe(workflow, timeout=0.01)
        with pytest.raises(WorkflowTimeout):
            await asyncio.wrap_future(future)


# State


async def test_a_run_begins_with_the_state_that_it_was_given():
    given = {"user": "Ada", "tags": ["a"], "pair": (1, 2)}
    run = waiting().run(state=given)
    given["tags"].append("b")  # type: ignore[attr-defined]
    run.send_event(Go())
    assert await run == {"user": "Ada", "tags": ["a"], "pair": (1, 2)}


@pytest.mark.parametrize(
    ("state", "error", "text"),
    [
        (7, TypeError, "state: a mapping"),
        ([("a", 1)], TypeError, "state: a mapping"),
        ({1: 2}, TypeError, "a key is a str"),
        ({"lock": asyncio.sleep}, None, ""),
        ({"gen": (n for n in "a")}, UnstorableValue, 'key "gen"'),
    ],
)
async def test_state_that_cannot_be_stored_starts_no_run(state: Any, error: Any, text: str):
    workflow = waiting()
    if error is None:
        workflow.run(state=state).cancel()
        return
    with pytest.raises(error, match=text):
        workflow.run(state=state)


async def test_the_state_of_a_run_can_be_read_from_outside_and_not_changed():
    run = waiting().run(state={"a": 1, "b": [2]})
    state = run.state
    assert isinstance(state, Mapping)
    assert dict(state) == {"a": 1, "b": [2]}
    assert (len(state), "a" in state, "c" in state, 7 in state) == (2, True, False, False)
    assert state.get("c") is None
    with pytest.raises(KeyError, match="c"):
        state["c"]
    state["b"].append(3)
    assert state["b"] == [2]
    with pytest.raises(TypeError):
        state["a"] = 2  # type: ignore[index]
    assert repr(state) == "RunState({'a': 1, 'b': [2]})"
    run.send_event(Go())
    await run
    assert state["a"] == 1, "also when it is over"


async def test_the_state_from_outside_changes_with_the_run():
    @step
    async def count(ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.set("n", None)
        await ctx.wait_for_event(Go)
        ctx.set("n", 2)
        return StopEvent()

    run = Workflow("count", [count]).run()
    assert "n" not in run.state
    await asyncio.sleep(0.01)
    assert run.state["n"] is None
    run.send_event(Go())
    await run
    assert run.state == {"n": 2}


# Names


@step
async def work(ev: Job) -> StopEvent:
    return StopEvent(result=(ev.timeout, ev.key))


async def test_an_option_that_is_a_field_of_the_start_event_as_well_is_refused():
    workflow = Workflow("work", [work])
    with pytest.raises(TypeError, match=r"'timeout' is an option .* field .* Job; .*run\(Job\("):
        workflow.run(timeout=5)
    with pytest.raises(TypeError, match="'timeout' is an option"):
        workflow.run(timeout=None)
    assert await workflow.run(Job(timeout=5), timeout=60) == (5, "none")


async def test_an_engine_refuses_them_as_well_and_its_key():
    workflow = Workflow("work", [work])
    async with Engine("memory:", workflows=[workflow]) as engine:
        with pytest.raises(TypeError, match="'key' is an option"):
            engine.run(workflow, key="a")
        with pytest.raises(TypeError, match="'timeout' is an option"):
            await engine.submit(workflow, timeout=3)
        with pytest.raises(TypeError, match="'timeout' is an option"):
            engine.run_threadsafe(workflow, timeout=3)
        assert await engine.run(workflow, Job(timeout=1, key="b"), key="a") == (1, "b")

"""The state of a run of a journal, read and changed from outside."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
import pytest_asyncio
from journals import POSTGRES, journal_url

from treadle import (
    Context,
    Engine,
    Event,
    RunEnded,
    StartEvent,
    StopEvent,
    UnknownRun,
    UnstorableValue,
    Workflow,
    step,
)

NOBODY = "01900000-0000-7000-8000-000000000000"


class Go(Event):
    pass


@step
async def wait(ctx: Context, event: StartEvent) -> StopEvent:
    ctx.set("own", 1)
    await ctx.wait_for_event(Go)
    return StopEvent(result=dict(ctx.state))


@step
async def work(ctx: Context, event: StartEvent) -> StopEvent:
    while "stop" not in ctx:
        await asyncio.sleep(0.005)
    return StopEvent(result=dict(ctx.state))


waiting = Workflow("waiting", [wait])
working = Workflow("working", [work])
ALL = [waiting, working]


@pytest_asyncio.fixture(params=["memory", "sqlite", POSTGRES])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    url = journal_url(request.param, request, tmp_path)
    async with Engine(url, workflows=ALL) as opened, asyncio.timeout(30):
        yield opened


async def until(engine: Engine, run_id: str, status: str) -> None:
    while (await engine.get(run_id).info()).status != status:
        await asyncio.sleep(0.01)


async def test_the_state_of_a_waiting_run_is_read_and_changed(engine: Engine):
    run_id = await engine.submit(waiting)
    await until(engine, run_id, "waiting")
    assert await engine.state(run_id) == {"own": 1}
    await engine.update_state(run_id, {"price": Decimal("1.5"), "list": [1, "two"], "raw": b"x"})
    expected = {"own": 1, "price": Decimal("1.5"), "list": [1, "two"], "raw": b"x"}
    assert await engine.state(run_id) == expected
    await engine.send_event(run_id, Go())
    assert await engine.get(run_id) == expected
    assert await engine.state(run_id) == expected, "it is read after the end as well"


async def test_keys_are_removed_with_the_others_set_in_one_change(engine: Engine):
    handle = engine.get(await engine.submit(waiting, state={"a": 1, "b": 2}))
    await until(engine, handle.id, "waiting")
    await handle.update_state({"a": 3}, remove=["b", "own", "not there"])
    assert await handle.state() == {"a": 3}
    await handle.send_event(Go())
    assert await handle == {"a": 3}


async def test_a_step_that_runs_sees_the_change(engine: Engine):
    run_id = await engine.submit(working)
    await engine.update_state(run_id, {"stop": True})
    assert await engine.get(run_id) == {"stop": True}


async def test_a_paused_run_is_changed_and_stays_paused(engine: Engine):
    run_id = await engine.submit(waiting)
    await until(engine, run_id, "waiting")
    await engine.pause(run_id)
    await until(engine, run_id, "paused")
    await engine.update_state(run_id, {"a": 1})
    assert await engine.state(run_id) == {"own": 1, "a": 1}
    assert (await engine.get(run_id).info()).status == "paused"
    await engine.resume(run_id)
    await engine.send_event(run_id, Go())
    assert await engine.get(run_id) == {"own": 1, "a": 1}


async def test_changes_are_made_in_their_order_and_before_later_events(engine: Engine):
    run_id = await engine.submit(waiting)
    for number in range(20):
        await engine.update_state(run_id, {"n": number})
    await engine.send_event(run_id, Go())
    assert (await engine.get(run_id))["n"] == 19


async def test_a_change_is_a_line_of_the_history(engine: Engine):
    run_id = await engine.submit(waiting)
    await until(engine, run_id, "waiting")
    await engine.update_state(run_id, {"a": 1}, remove=["own"])
    lines: list[dict[str, object]] = []
    while not lines:
        lines = [it for it in await engine.get(run_id).history() if it["what"] == "changed"]
        await asyncio.sleep(0.01)
    assert len(lines) == 1
    assert lines[0]["keys"] == 2


async def test_a_run_that_is_over_or_unknown_is_not_changed(engine: Engine):
    run_id = await engine.submit(waiting)
    await engine.send_event(run_id, Go())
    await engine.get(run_id)
    with pytest.raises(RunEnded):
        await engine.update_state(run_id, {"a": 1})
    for call in (engine.update_state(NOBODY, {"a": 1}), engine.state(NOBODY)):
        with pytest.raises(UnknownRun):
            await call


async def test_a_run_that_no_process_executes_is_changed_by_the_next_one(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    async with Engine(url) as outside, asyncio.timeout(30):
        run_id = await outside.submit(waiting, state={"a": 1})
        await outside.update_state(run_id, {"a": 2, "b": 3})
        assert await outside.state(run_id) == {"a": 2, "b": 3}
        async with Engine(url, workflows=ALL) as engine:
            await engine.send_event(run_id, Go())
            assert await engine.get(run_id) == {"a": 2, "b": 3, "own": 1}


@pytest.mark.parametrize(
    ("keys", "remove", "error"),
    [
        ({}, [], ValueError),
        ({"a": 1}, ["a"], ValueError),
        ({1: 1}, [], TypeError),
        ({}, [1], TypeError),
        ({}, "a", TypeError),
        ({"a": lambda: None}, [], UnstorableValue),
    ],
)
async def test_changes_that_make_no_sense_are_refused(
    tmp_path: Path, keys: dict[object, object], remove: object, error: type
):
    async with Engine(f"sqlite:///{tmp_path / 'runs.db'}") as engine:
        run_id = await engine.submit(waiting)
        with pytest.raises(error):
            await engine.update_state(run_id, keys, remove=remove)  # type: ignore[arg-type]
        assert await engine.state(run_id) == {}

"""Finding runs: by key, by a beginning of it, by their end, by several statuses, with outcomes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from treadle import (
    Context,
    Engine,
    Event,
    RunCancelled,
    StartEvent,
    StopEvent,
    UnknownRun,
    Workflow,
    step,
)


class Go(Event):
    n: int = 0


@step
async def work(ctx: Context, ev: StartEvent) -> StopEvent:
    if ev.how == "fails":
        raise ValueError("no")
    if ev.how == "waits":
        got = await ctx.wait_for_event(Go)
        return StopEvent(result=got.n)
    return StopEvent(result=(ev.how, 1))


shop = Workflow("shop", [work])
other = Workflow("other", [work])


@pytest_asyncio.fixture(params=["memory:", "sqlite"])
async def engine(request: Any, tmp_path: Path) -> AsyncIterator[Engine]:
    url = request.param if request.param == "memory:" else f"sqlite:///{tmp_path}/runs.db"
    async with asyncio.timeout(50), Engine(url, workflows=[shop, other]) as engine:
        yield engine


async def test_a_run_is_found_by_its_workflow_and_its_key(engine: Engine):
    run = engine.run(shop, how="ends", key="order-1")
    await run
    found = await engine.find(shop, "order-1")
    assert found is not None
    assert found.id == run.id
    assert await found == ("ends", 1)
    named = await engine.find("shop", "order-1")
    assert named is not None
    assert named.id == run.id
    assert await engine.find(shop, "order-") is None
    assert await engine.find(other, "order-1") is None
    assert await engine.find("none", "order-1") is None


@pytest.mark.parametrize(("workflow", "key"), [(7, "a"), (shop, 7), (shop, None)])
async def test_what_is_no_workflow_or_no_key_is_refused(workflow: Any, key: Any):
    async with Engine("memory:", workflows=[shop]) as engine:
        with pytest.raises((TypeError, ValueError), match=r"workflow|key"):
            await engine.find(workflow, key)


async def test_an_event_is_sent_by_key_without_the_input_of_the_run(engine: Engine):
    run = engine.run(shop, how="waits", key="a")
    while await engine.find(shop, "a") is None:
        await asyncio.sleep(0.01)
    assert await engine.send_event(event=Go(n=3), key="a", workflow=shop) is True
    assert await run == 3


async def test_a_key_that_no_run_has_is_an_unknown_run(engine: Engine):
    with pytest.raises(UnknownRun, match="workflow 'shop' has no run of the key 'b'"):
        await engine.send_event(event=Go(), key="b", workflow="shop")


@pytest.mark.parametrize(
    "arguments",
    [
        {"event": Go()},
        {"event": Go(), "key": "a"},
        {"event": Go(), "workflow": shop},
        {"event": Go(), "run_id": "x", "key": "a", "workflow": shop},
        {"run_id": "x"},
    ],
)
async def test_a_run_is_given_in_one_way_and_with_an_event(arguments: dict[str, Any]):
    async with Engine("memory:", workflows=[shop]) as engine:
        with pytest.raises(TypeError, match="send_event"):
            await engine.send_event(**arguments)


async def fill(engine: Engine) -> dict[str, str]:
    runs = {}
    for key, how in [("a-1", "ends"), ("a-2", "fails"), ("b-1", "waits"), ("a%", "ends")]:
        run = runs[key] = engine.run(shop, how=how, key=key)
        if how != "waits":
            await asyncio.wait([asyncio.ensure_future(engine.get(run.id).info())])
            await asyncio.gather(run, return_exceptions=True)
    while len(await engine.runs(status="waiting")) < 1:
        await asyncio.sleep(0.01)
    return {run.id: key for key, run in runs.items()}


def newest(keys: dict[str, str], *wanted: str) -> list[str]:
    """Runs of one millisecond are in the order of the rest of their ids."""
    return [keys[run_id] for run_id in sorted(keys, reverse=True) if keys[run_id] in wanted]


async def test_runs_are_listed_by_a_beginning_of_their_key(engine: Engine):
    keys = await fill(engine)

    async def listed(prefix: str, **options: Any) -> list[str]:
        return [keys[run.id] for run in await engine.runs(key_prefix=prefix, **options)]

    assert await listed("a-") == newest(keys, "a-2", "a-1")
    assert await listed("a%") == ["a%"]
    assert await listed("") == newest(keys, *keys.values())
    assert await listed("a-", workflow="shop", limit=1) == newest(keys, "a-1", "a-2")[:1]
    assert await listed("a-", status="failed") == ["a-2"]
    assert await listed("a-", workflow="other") == []


async def test_runs_are_listed_by_several_statuses_in_one_order(engine: Engine):
    keys = await fill(engine)
    both = await engine.runs(status={"completed", "waiting"})
    assert [keys[run.id] for run in both] == newest(keys, "a%", "b-1", "a-1")
    first = await engine.runs(status=("completed", "waiting"), limit=2)
    rest = await engine.runs(status=("completed", "waiting"), limit=2, after=first[-1].id)
    assert [run.id for run in (*first, *rest)] == [run.id for run in both]
    assert await engine.runs(status=()) == []
    with pytest.raises(ValueError, match="status"):
        await engine.runs(status=("completed", "done"))


async def test_runs_are_listed_by_the_time_of_their_end(engine: Engine):
    keys = await fill(engine)
    now = datetime.now(UTC)
    hour = timedelta(hours=1)

    async def listed(**options: Any) -> set[str]:
        return {keys[run.id] for run in await engine.runs(**options)}

    assert await listed(finished_since=now - hour) == {"a-1", "a-2", "a%"}
    assert await listed(finished_before=now + hour) == {"a-1", "a-2", "a%"}
    assert await listed(finished_since=now + hour) == set()
    assert await listed(finished_before=now - hour) == set()
    with pytest.raises(TypeError, match="finished_since: a datetime"):
        await engine.runs(finished_since=5)  # type: ignore[arg-type]


async def test_a_list_may_have_results_and_errors(engine: Engine):
    keys = await fill(engine)
    waiting = await engine.find(shop, "b-1")
    assert waiting is not None
    plain = await engine.runs()
    assert {run.result for run in plain} == {None}
    found = {keys[run.id]: run for run in await engine.runs(include="result")}
    assert found["a-1"].result == ("ends", 1)
    assert (found["b-1"].result, found["b-1"].error) == (None, None)
    error = found["a-2"].error
    assert isinstance(error, ValueError)
    assert str(error) == "no"
    await waiting.cancel()
    with pytest.raises(RunCancelled):
        await waiting
    (cancelled,) = await engine.runs(status="cancelled", include="result")
    assert isinstance(cancelled.error, RunCancelled)
    with pytest.raises(ValueError, match="include"):
        await engine.runs(include="all")  # type: ignore[arg-type]

"""Why a run waits, or does not continue."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from history_work import ALL, Go, asks, engine_on, failing, parents, sleeping, turns
from journals import POSTGRES, journal_url

from treadle import Context, Engine, Event, StartEvent, StopEvent, UnknownRun, Workflow, step


class Half(Event):
    pass


@step
async def split(ev: StartEvent) -> Half:
    return Half()


@step
async def join(ctx: Context, ev: Half) -> StopEvent | None:
    if ctx.collect_events(ev, [Half, Half, Half], key="all") is None:
        await ctx.sleep(3600)
        return None
    return StopEvent()


joining = Workflow("joining", [split, join])


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return journal_url(request.param, request, tmp_path)


@pytest_asyncio.fixture
async def engine(url: str) -> AsyncIterator[Engine]:
    async with engine_on(url, workflows=[*ALL, joining]) as engine:
        yield engine


async def reasons(engine: Engine, run_id: str, *kinds: str) -> dict[str, dict[str, Any]]:
    """Return the reasons by their kinds, once there are all of these."""
    async with asyncio.timeout(20):
        while True:
            found = {it["kind"]: it for it in await engine.get(run_id).why()}
            if found.keys() >= set(kinds):
                return found
            await asyncio.sleep(0.01)


async def test_a_run_that_waits_for_an_event_says_for_which_and_until_when(engine: Engine):
    run = engine.run(asks)
    found = await reasons(engine, run.id, "executed", "event")
    event = found["event"]
    assert (event["step"], event["class"]) == ("ask", "history_work:Go")
    assert event["due"] > (await engine.get(run.id).info()).created + 3000
    assert event["text"].startswith(
        "step 'ask' (delivery 1) waits for an event history_work:Go until 2"
    )
    assert found["executed"]["is_here"]
    run.send_event(Go(number=1))
    assert await run == 1
    assert [it["kind"] for it in await engine.get(run.id).why()] == ["over"]


async def test_a_run_that_sleeps_says_until_when(engine: Engine):
    run = engine.run(sleeping)
    found = await reasons(engine, run.id, "sleep")
    assert found["sleep"]["step"] == "sleeps"
    assert "sleeps until" in found["sleep"]["text"]
    assert "running" not in found
    assert "queued" not in found


async def test_a_step_that_is_tried_again_says_when_and_what_it_raised(engine: Engine):
    run = engine.run(failing)
    retry = (await reasons(engine, run.id, "retry"))["retry"]
    assert (retry["step"], retry["attempt"]) == ("fails", 2)
    assert "ValueError: no" in retry["text"]


async def test_a_parent_names_the_child_that_it_waits_for(engine: Engine):
    run = engine.run(parents)
    child = (await reasons(engine, run.id, "child"))["child"]
    assert (child["step"], child["workflow"]) == ("parent", "asks")
    assert (await engine.get(child["child"]).info()).parent == run.id


async def test_a_group_that_is_not_complete_says_what_is_missing(engine: Engine):
    run = engine.run(joining)
    group = (await reasons(engine, run.id, "collecting"))["collecting"]
    assert (group["step"], group["key"], group["collected"]) == ("join", "all", 1)
    assert list(group["events"].values()) == [2]
    assert "missing 2 " in group["text"]


async def test_a_paused_run_says_so_and_what_it_holds(engine: Engine):
    run = engine.run(asks)
    await reasons(engine, run.id, "event")
    await engine.pause(run.id)
    await reasons(engine, run.id, "paused")
    await engine.send_event(run.id, Go(number=1))
    found = await reasons(engine, run.id, "paused", "deferred")
    assert found["deferred"]["events"] == {"history_work:Go": 1}


async def test_events_that_nothing_waits_for_are_named(engine: Engine):
    run = engine.run(sleeping)
    await reasons(engine, run.id, "sleep")
    await engine.send_event(run.id, Go(number=1))
    await engine.send_event(run.id, Go(number=2))
    kept = (await reasons(engine, run.id, "kept"))["kept"]
    assert kept["text"].endswith("2 history_work:Go")


async def test_a_run_that_no_process_has_taken_says_so(url: str):
    if url == "memory:":
        pytest.skip("a journal of one process")
    async with engine_on(url) as engine:
        run_id = await engine.submit(asks)
        await reasons(engine, run_id, "event")
    async with engine_on(url, workflows=[turns]) as other:
        found = await reasons(other, run_id, "event")
        assert not found.keys() & {"executed", "not taken"}, "it merely waits"
        await other.send_event(run_id, Go(number=3))
        found = await reasons(other, run_id, "not taken", "inbox")
        assert found["inbox"]["text"] == "1 message to it is not taken"


async def test_another_process_that_has_it_is_named(url: str):
    if url == "memory:":
        pytest.skip("a journal of one process")
    async with engine_on(url) as engine:
        run = engine.run(asks)
        await reasons(engine, run.id, "event")
        async with engine_on(url, workflows=[]) as other:
            executed = (await reasons(other, run.id, "executed"))["executed"]
            assert executed["process"] == (await engine.get(run.id).info()).owner
            assert not executed["is_here"]


async def test_a_run_that_is_not_there_is_unknown(engine: Engine):
    with pytest.raises(UnknownRun):
        await engine.get("00000000-0000-7000-8000-000000000000").why()

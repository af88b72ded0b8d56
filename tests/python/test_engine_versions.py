"""Runs that outlive the code which began them: later versions have other steps."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest
from journals import POSTGRES, journal_url

from treadle import Context, Engine, Event, StartEvent, StopEvent, Workflow, step
from treadle.engine import host, looking


class Page(Event):
    number: int


class Seen(Event):
    by: str


class Go(Event):
    to: str


@step
async def begin(ctx: Context, ev: StartEvent) -> Page:
    return Page(number=7)


async def look(ctx: Context, by: str, awaited: type[Go]) -> Seen:
    await ctx.wait_for_event(awaited, match=lambda go: go.to == by)
    ctx.increment(f"looks of {by}")
    return Seen(by=by)


@step
async def left(ctx: Context, ev: Page) -> Seen:
    return await look(ctx, "left", Go)


@step
async def right(ctx: Context, ev: Page) -> Seen:
    return await look(ctx, "right", Go)


@step
async def join(ctx: Context, ev: Seen) -> StopEvent | None:
    events = ctx.collect_events(ev, [Seen, Seen])
    if events is None:
        return None
    await ctx.wait_for_event(Go, match=lambda go: go.to == "join")
    looks = {by: ctx.get(f"looks of {by}") for by in ("left", "right")}
    return StopEvent(result=(sorted(seen.by for seen in events), looks))


@step
async def more(ev: Page) -> None: ...


RESULT = (["left", "right"], {"left": 1, "right": 1})
ORDERS = {
    "reversed": [join, right, left, begin],
    "rotated": [left, right, join, begin],
    "swapped": [begin, right, left, join],
    "more at first": [more, begin, left, right, join],
    "more at last": [begin, left, right, join, more],
}


@pytest.fixture(params=["sqlite", POSTGRES])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return journal_url(request.param, request, tmp_path)


def flow(*steps) -> Workflow:
    return Workflow("flow", steps)


async def pending(engine: Engine, run_id: str) -> dict[str, int]:
    """Count what is to be done by each step."""
    image = (await looking.story(engine._session(), run_id))["now"]
    counts: dict[str, int] = {}
    for delivery in image["pending"]:
        counts[delivery["step"]] = counts.get(delivery["step"], 0) + 1
    return counts


async def has_pending(engine: Engine, run_id: str, **counts: int) -> None:
    async with asyncio.timeout(10):
        while await pending(engine, run_id) != counts:
            await asyncio.sleep(0.01)
        while (await engine.get(run_id).info()).status != "waiting":
            await asyncio.sleep(0.01)


@pytest.fixture
async def begun(url: str) -> str:
    """A run of the first version: both of two steps wait."""
    version = flow(begin, left, right, join)
    async with Engine(url, workflows=[version]) as engine:
        run = engine.run(version)
        await has_pending(engine, run.id, left=1, right=1)
        await engine.close(grace=0)
    return run.id


@pytest.mark.parametrize(("second", "third"), [*pairwise(ORDERS), ("reversed", "more at last")])
async def test_events_reach_their_steps_in_the_third_version(
    url: str, begun: str, second: str, third: str
):
    async with Engine(url, workflows=[flow(*ORDERS[second])]) as engine:
        await engine.send_event(begun, Go(to="left"))
        await has_pending(engine, begun, right=1)
        await engine.close(grace=0)
    async with Engine(url, workflows=[flow(*ORDERS[third])]) as engine:
        await has_pending(engine, begun, right=1)
        await engine.send_event(begun, Go(to="right"))
        await has_pending(engine, begun, join=1)
        await engine.close(grace=0)
    async with Engine(url, workflows=[flow(*ORDERS[second])]) as engine:
        await engine.send_event(begun, Go(to="join"))
        assert await asyncio.wait_for(engine.get(begun), 10) == RESULT


async def test_a_version_with_fewer_steps_goes_on(url: str):
    first, second = flow(more, begin, left, right, join), flow(right, begin, join, left)
    async with Engine(url, workflows=[first]) as engine:
        run = engine.run(first)
        await has_pending(engine, run.id, left=1, right=1)
        await engine.close(grace=0)
    for to in ("left", "right", "join"):
        async with Engine(url, workflows=[second]) as engine:
            await engine.send_event(run.id, Go(to=to))
            if to != "join":
                left_over = {"right": 1} if to == "left" else {"join": 1}
                await has_pending(engine, run.id, **left_over)
                await engine.close(grace=0)
            else:
                assert await asyncio.wait_for(engine.get(run.id), 10) == RESULT


async def test_the_history_names_the_steps_of_the_version_that_ran(url: str, begun: str):
    async with Engine(url, workflows=[flow(*ORDERS["reversed"])]) as engine:
        await engine.send_event(begun, Go(to="left"))
        await engine.send_event(begun, Go(to="right"))
        await engine.send_event(begun, Go(to="join"))
        await asyncio.wait_for(engine.get(begun), 10)
        queued = [it for it in await engine.get(begun).history() if it["what"] == "queued"]
        assert {it["step"] for it in queued if it["event"].endswith("Page")} == {"left", "right"}
        assert [it["step"] for it in queued if it["event"].endswith("Seen")] == ["join", "join"]


async def test_a_checkpoint_with_other_steps_that_is_too_large_is_refused_and_loses_nothing(
    url: str, begun: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    with monkeypatch.context() as patched:
        patched.setattr(host, "room_of", lambda journal: 100)
        async with Engine(url, workflows=[flow(*ORDERS["reversed"])]) as engine:
            await engine.send_event(begun, Go(to="left"))
            async with asyncio.timeout(10):
                while "a commit has room for 100" not in caplog.text:
                    await asyncio.sleep(0.01)
            assert begun in caplog.text
            assert "IncompatibleSnapshot" in caplog.text
            assert await pending(engine, begun) == {"left": 1, "right": 1}
    async with Engine(url, workflows=[flow(begin, left, right, join)]) as engine:
        for to in ("right", "join"):
            await engine.send_event(begun, Go(to=to))
        assert await asyncio.wait_for(engine.get(begun), 10) == RESULT


async def test_a_fork_of_what_another_version_did_goes_on(url: str, begun: str):
    async with Engine(url, workflows=[flow(*ORDERS["rotated"])]) as engine:
        await engine.send_event(begun, Go(to="left"))
        await has_pending(engine, begun, right=1)
        await engine.close(grace=0)
    async with Engine(url, workflows=[flow(*ORDERS["swapped"])]) as engine:
        fork = await engine.fork(begun)
        for to in ("right", "join"):
            await fork.send_event(Go(to=to))
        assert await asyncio.wait_for(fork, 10) == RESULT
        assert await pending(engine, begun) == {"right": 1}


async def test_what_another_version_failed_at_is_retried_by_the_next_one(url: str, begun: str):
    @step(name="join")
    async def fails(ev: Seen) -> StopEvent | None:
        raise ValueError("asked to")

    async with Engine(url, workflows=[flow(fails, left, begin, right)]) as engine:
        await engine.send_event(begun, Go(to="left"))
        with pytest.raises(ValueError, match="asked to"):
            await asyncio.wait_for(engine.get(begun), 10)
    async with Engine(url, workflows=[flow(right, join, begin, left)]) as engine:
        again = await engine.retry(begun)
        for to in ("right", "join"):
            await again.send_event(Go(to=to))
        assert await asyncio.wait_for(again, 10) == RESULT

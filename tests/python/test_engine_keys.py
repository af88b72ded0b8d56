"""A key is a second name of a run: in one process and in several, also after its end."""

import asyncio
from pathlib import Path

import pytest
from durable_work import ALL, Go, Page, asking, pages, twice
from processes import Process

from treadle import (
    Context,
    Engine,
    EngineClosed,
    KeyConflict,
    RunCancelled,
    StartEvent,
    StopEvent,
    UnknownRun,
    Workflow,
    step,
)

RACER = """
async def main():
    async with here() as engine:
        say("open")
        run = engine.run(asking, key="k")
        await asyncio.sleep(0.2)
        say(run.id)
        say(await run)
asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


async def test_the_same_key_in_two_processes_at_once_is_one_run(path: Path, url: str):
    async with Engine(url) as engine:
        with Process(path, RACER) as one, Process(path, RACER) as other:
            assert (one.line(), other.line()) == ("open", "open")
            run_id = one.line()
            assert other.line() == run_id
            assert len(await engine.runs()) == 1
            await engine.send_event(run_id, Go(number=8))
            results = (one.line(), other.line())
            assert results[0] == results[1]
            assert results[0].startswith("(8, 1, ")


@pytest.mark.parametrize("durability", ["step", "pipelined"])
async def test_a_run_that_stands_for_another_runs_nothing_itself(url: str, durability):
    begun: list[str] = []

    @step
    async def begin(ctx: Context, ev: StartEvent) -> StopEvent:
        begun.append(ctx.run_id())
        await asyncio.sleep(0.2)
        return StopEvent(result=ctx.run_id())

    workflow = Workflow("begin", [begin])
    options = {"workflows": [workflow], "durability": durability}
    async with Engine(url, **options) as one, Engine(url, **options) as other:
        runs = [engine.run(workflow, key="k") for engine in (one, other)]
        results = await asyncio.gather(*runs)
        assert begun == [results[0]]
        assert results[0] == results[1]
        assert {run.id for run in runs} == {begun[0]}


async def test_events_for_a_run_that_stands_for_another_reach_that_one(url: str):
    async with Engine(url, workflows=ALL) as one, Engine(url, workflows=ALL) as other:
        first = one.run(twice, key="k")
        await asyncio.sleep(0.1)
        second = other.run(twice, key="k")
        # Before it is known that there is another one, and afterwards.
        second.send_event(Go(number=1))
        await asyncio.sleep(0.2)
        assert second.id == first.id
        second.send_event(Go(number=2))
        assert await first == (1, 2, 1)
        assert await second == (1, 2, 1)


async def test_whoever_stands_for_a_run_is_told_of_its_failure_and_its_cancellation(url: str):
    @step
    async def fail(ev: StartEvent) -> StopEvent:
        raise ConnectionError("as ever")

    failing = Workflow("failing", [fail])
    async with Engine(url, workflows=[failing, asking]) as engine:
        with pytest.raises(ConnectionError):
            await engine.run(failing, key="k")
        with pytest.raises(ConnectionError, match="as ever"):
            await engine.run(failing, key="k")
        run = engine.run(asking, key="k")
        await asyncio.sleep(0.1)
        run.cancel()
        with pytest.raises(RunCancelled):
            await run
        again = engine.run(asking, key="k")
        with pytest.raises(RunCancelled):
            await again
        assert again.status == "cancelled"


@pytest.mark.parametrize("early", [True, False])
async def test_cancelling_a_run_that_stands_for_another_cancels_that_one(url: str, early: bool):
    async with Engine(url, workflows=ALL) as one, Engine(url, workflows=ALL) as other:
        first = one.run(asking, key="k")
        await asyncio.sleep(0.1)
        second = other.run(asking, key="k")
        if not early:
            await asyncio.sleep(0.1)
        assert second.cancel()
        for run in (first, second, other.get(first.id)):
            with pytest.raises(RunCancelled):
                await run


async def test_cancelling_a_run_with_another_input_leaves_the_run_of_the_key_alone(url: str):
    async with Engine(url, workflows=ALL) as one, Engine(url, workflows=ALL) as other:
        first = one.run(asking, number=1, key="k")
        await asyncio.sleep(0.1)
        other.run(asking, number=2, key="k").cancel()
        await asyncio.sleep(0.1)
        first.send_event(Go(number=1))
        assert (await first)[0] == 1


async def test_whoever_stands_for_a_run_is_told_that_the_engine_was_closed(url: str):
    async with Engine(url, workflows=ALL) as one:
        one.run(asking, key="k")
        await asyncio.sleep(0.1)
        async with Engine(url, workflows=ALL) as other:
            run = other.run(asking, key="k")
            await asyncio.sleep(0.1)
        with pytest.raises(EngineClosed):
            await run


async def test_a_key_belongs_to_its_workflow(url: str):
    async with Engine(url, workflows=ALL) as engine:
        assert (await engine.run(pages, number=1, key="k"))[0] == 1
        run_id = await engine.submit(asking, key="k")
        await engine.send_event(run_id, Go(number=2))
        assert (await engine.get(run_id))[0] == 2


async def test_a_key_is_free_again_when_its_run_is_deleted(url: str):
    async with Engine(url, workflows=ALL) as engine:
        run = engine.run(pages, number=1, key="k")
        await run
        await engine.delete(run.id)
        assert (await engine.run(pages, number=2, key="k"))[0] == 2


async def test_another_input_while_the_first_one_runs_is_a_conflict(url: str):
    async with Engine(url, workflows=ALL) as engine:
        run = engine.run(asking, key="k", customer="Ada")
        conflict = engine.run(asking, key="k", customer="Bob")
        with pytest.raises(KeyConflict, match="'k'"):
            await conflict
        with pytest.raises(KeyConflict):
            await engine.submit(asking, key="k", customer="Bob")
        assert engine.run(asking, key="k", customer="Ada") is run
        run.send_event(Go(number=1))
        assert (await run)[0] == 1


async def test_ten_thousand_keys_end_in_good_time(url: str):
    async with Engine(url, workflows=ALL) as engine:
        runs = [engine.run(pages, number=number, key=str(number)) for number in range(10_000)]
        async with asyncio.timeout(30):
            results = await asyncio.gather(*runs)
        assert [number for number, _ in results] == list(range(10_000))
        executing = engine._session().executing
        assert (executing.live, executing.standing) == ({}, {})


async def test_a_key_that_is_no_text_is_refused(url: str):
    async with Engine(url, workflows=ALL) as engine:
        for key in (3, b"k", Page(number=1)):
            with pytest.raises(TypeError, match="key"):
                engine.run(pages, number=1, key=key)  # type: ignore[arg-type]


async def test_the_id_that_a_run_had_before_it_stood_for_another_is_unknown(url: str):
    async with Engine(url, workflows=ALL) as one, Engine(url, workflows=ALL) as other:
        first = one.run(asking, key="k")
        await asyncio.sleep(0.1)
        second = other.run(asking, key="k")
        provisional = second.id
        assert provisional != first.id
        with pytest.raises(UnknownRun):
            await other.get(provisional)
        first.send_event(Go(number=1))
        await first
        await second


EQUAL = """
from typing import Any
from digest_values import Model, Parcel

def words():
    return {f"word {number}" for number in range(50)}

def inputs():
    same = "".join(["a", "b"])
    return {
        "set": dict(tags=words(), a=1),
        "model": dict(a=1, model=Model(tags=words())),
        "shared": dict(pair=(same, same)),
    }

def inputs_again():
    return {
        "set": dict(a=1, tags=set(sorted(words(), reverse=True))),
        "model": dict(model=Model(tags=words(), name="none"), a=1),
        "shared": dict(pair=("ab", "".join(["a", "b"]))),
    }

async def main():
    async with here() as engine:
        given = inputs() if FIRST else inputs_again()
        for key, fields in given.items():
            say(await engine.submit(asking, key=key, **fields))
            run = engine.run(asking, key=key, **fields)
            await asyncio.sleep(0.1)
            say(run.id)
        try:
            await engine.submit(asking, key="set", tags=words() - {"word 1"}, a=1)
        except KeyConflict:
            say("conflict")
asyncio.run(main())
"""


def test_an_equal_input_in_another_process_is_the_same_input(path: Path):
    runs = []
    for seed in range(4):
        with Process(path, EQUAL.replace("FIRST", str(seed == 0)), hash_seed=seed) as process:
            runs.append([process.line() for _ in range(7)])
    assert runs[0][-1] == "conflict"
    assert runs[0][0] == runs[0][1]
    assert runs == [runs[0]] * 4

"""What a commit holds, whatever the user's code does while it is made."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from treadle import Context, Engine, Event, RunCancelled, StartEvent, StopEvent, Workflow, step


class Sets:
    """Sets keys while it is pickled."""

    of: Context | None = None

    def __init__(self, number: int) -> None:
        self.number = number

    def __getstate__(self) -> dict[str, Any]:
        if Sets.of is not None:
            ctx, Sets.of = Sets.of, None
            for number in range(3000):
                ctx.set("filled", number)
        return self.__dict__


class Found(Event):
    what: Any


async def test_keys_that_are_set_while_a_commit_is_pickled_are_in_the_next_one(tmp_path: Path):
    @step
    async def begin(ctx: Context, ev: StartEvent) -> Found:
        ctx.send_event(Found(what=Sets(1)))
        # The commit is made in the next pass of the loop.
        Sets.of = ctx
        await asyncio.sleep(0.05)
        return Found(what=Sets(2))

    @step
    async def take(ctx: Context, ev: Found) -> StopEvent | None:
        if ctx.increment("taken") < 2:
            return None
        return StopEvent(result=(ctx.get("filled"), len(ctx)))

    workflow = Workflow("filling", [begin, take])
    async with Engine(f"sqlite:///{tmp_path / 'runs.db'}", workflows=[workflow]) as engine:
        run = engine.run(workflow)
        assert await asyncio.wait_for(run, 20) == (2999, 2)
        assert [line["seq"] for line in await engine.get(run.id).history()] != []


class Cancels:
    """Cancels a run while it is pickled."""

    run: Any = None

    def __getstate__(self) -> dict[str, Any]:
        if Cancels.run is not None:
            run, Cancels.run = Cancels.run, None
            run.cancel()
        return self.__dict__


async def test_a_run_that_is_cancelled_while_a_commit_is_pickled_ends_behind_that_commit(
    tmp_path: Path,
):
    @step
    async def begin(ctx: Context, ev: StartEvent) -> Found:
        ctx.set("begun", 1)
        return Found(what=Cancels())

    @step
    async def take(ev: Found) -> StopEvent:
        return StopEvent(result="not to be taken")

    workflow = Workflow("cancelled", [begin, take])
    async with Engine(f"sqlite:///{tmp_path / 'runs.db'}", workflows=[workflow]) as engine:
        run = Cancels.run = engine.run(workflow)
        with pytest.raises(RunCancelled):
            await asyncio.wait_for(run, 20)
        handle = engine.get(run.id)
        assert (await handle.info()).status == "cancelled"
        kinds = [line["what"] for line in await handle.history()]
        assert "finished" in kinds
        assert kinds[-1] == "ended"

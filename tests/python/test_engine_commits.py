"""What a commit holds, whatever the user's code does while it is made."""

import asyncio
from pathlib import Path
from typing import Any

from treadle import Context, Engine, Event, StartEvent, StopEvent, Workflow, step


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

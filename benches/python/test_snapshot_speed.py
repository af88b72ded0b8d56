"""Snapshot and resume of a run with 10,000 keys."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from treadle import Context, Event, StartEvent, StopEvent, Workflow, step

KEYS = 10_000
VALUES: dict[str, Any] = {
    "int": 123_456,
    "100 bytes": b"x" * 100,
    "small dict": {"a": 1, "b": [1, 2, 3], "c": "hello"},
}


class Go(Event):
    pass


@step
async def hold(ctx: Context, ev: StartEvent) -> StopEvent:
    for number in range(KEYS):
        ctx.set(f"key {number}", VALUES[ev.kind])
    await ctx.wait_for_event(Go)
    return StopEvent()


workflow = Workflow("hold", [hold])


def measured(benchmark: Any, kind: str, resumes: bool) -> None:
    async def main() -> None:
        awaiting = asyncio.ensure_future(workflow.run(kind=kind))
        run = workflow.run(kind=kind)
        await asyncio.sleep(0.3)
        snapshot = await run.snapshot()
        if resumes:
            benchmark(lambda: workflow.resume(snapshot).cancel())
        else:
            benchmark(run._snapshot)
        run.cancel()
        awaiting.cancel()

    asyncio.run(main())


@pytest.mark.parametrize("kind", VALUES)
def test_snapshot(benchmark: Any, kind: str) -> None:
    benchmark.group = f"snapshot of 10,000 keys: {kind}"
    measured(benchmark, kind, resumes=False)


@pytest.mark.parametrize("kind", VALUES)
def test_resume(benchmark: Any, kind: str) -> None:
    benchmark.group = f"resume of 10,000 keys: {kind}"
    measured(benchmark, kind, resumes=True)

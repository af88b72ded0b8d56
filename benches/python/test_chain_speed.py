"""A run of three trivial steps; the time shown is that of 1,000 runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

RUNS = 1_000


def test_runs_one_after_another(engine: ModuleType, time_runs: Callable[..., None]) -> None:
    time_runs("chain, 1,000 runs one after another", engine.chain(), 3, runs=RUNS)


@pytest.mark.benchmark(group="chain, 1,000 runs at once")
def test_runs_at_once(engine: ModuleType, benchmark: Any, runner: asyncio.Runner) -> None:
    run = engine.chain()

    async def gathered() -> list[Any]:
        return list(await asyncio.gather(*[run() for _ in range(RUNS)]))

    assert benchmark(lambda: runner.run(gathered())) == [3] * RUNS

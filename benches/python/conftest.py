"""What the pytest-benchmark files share: a loop, and the asyncio programs beside treadle."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Iterator
from itertools import repeat
from types import ModuleType
from typing import Any

import pytest

Run = Callable[[], Awaitable[object]]
Timer = Callable[..., None]


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(params=["treadle_engine", "asyncio_tasks", "asyncio_inline"])
def engine(request: pytest.FixtureRequest) -> ModuleType:
    """treadle, the dispatch loop with a task for every step, and the bare awaits."""
    return importlib.import_module(f"peers.{request.param}")


@pytest.fixture(params=["treadle_engine", "floor"])
def store(request: pytest.FixtureRequest) -> ModuleType:
    """treadle's context, and the plain dict, orjson or pickle that does the same work."""
    pytest.importorskip("orjson")
    return importlib.import_module(f"peers.{request.param}")


@pytest.fixture
def time_runs(benchmark: Any, runner: asyncio.Runner) -> Timer:
    """Measures `runs` runs, one after another; the time shown is that of all of them."""

    def measure(group: str, run: Run, result: object, runs: int = 1) -> None:
        benchmark.group = group

        async def all_of_them() -> object:
            found: object = None
            for _ in repeat(None, runs):
                found = await run()
            return found

        assert benchmark(lambda: runner.run(all_of_them())) == result

    return measure

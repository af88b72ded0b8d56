"""A step starts many and one joins them; the time shown is that of the whole run."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.mark.benchmark(group="fan out")
@pytest.mark.parametrize("workers", [100, 1_000, 10_000])
@pytest.mark.parametrize("suspend", [False, True], ids=["at once", "sleep(0)"])
def test_workers_are_joined(
    engine: ModuleType, time_runs: Callable[..., None], workers: int, suspend: bool
) -> None:
    time_runs(engine.fan_out(workers, suspend), workers)

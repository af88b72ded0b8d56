"""A step starts many and one joins them; the time shown is that of the whole run."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.mark.parametrize("workers", [100, 1_000, 10_000])
@pytest.mark.parametrize("suspend", [False, True], ids=["at once", "sleep(0)"])
def test_workers_are_joined(
    engine: ModuleType, time_runs: Callable[..., None], workers: int, suspend: bool
) -> None:
    group = f"fan out to {workers:,}" + (" that sleep(0)" if suspend else "")
    time_runs(group, engine.fan_out(workers, suspend), workers)

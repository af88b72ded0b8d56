"""One run in which a step hands itself a counter; the time shown is that of the whole run."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.mark.parametrize("steps", [1_000, 100_000])
def test_steps_of_one_run(engine: ModuleType, time_runs: Callable[..., None], steps: int) -> None:
    time_runs(f"loop of {steps:,} steps", engine.loop(steps), steps)

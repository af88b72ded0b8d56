"""A step writes 50,000 events without a pause, a reader takes them; the time is that of all."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

EVENTS = 50_000


@pytest.mark.parametrize("engine", ["treadle_engine", "asyncio_tasks"], indirect=True)
def test_the_reader_gets_every_event(engine: ModuleType, time_runs: Callable[..., None]) -> None:
    time_runs("stream of 50,000 events", engine.stream(EVENTS), EVENTS)

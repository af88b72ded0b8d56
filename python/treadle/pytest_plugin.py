"""Fixtures for tests of workflows; pytest finds them by itself once treadle is installed."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

# A step imports these when it first needs them. pytest parses what it rewrites, and on CPython
# 3.11 that fails, in the step, if the garbage collector logs a traceback meanwhile.
from . import between, children, memos, stored_errors, transactions  # noqa: F401

if TYPE_CHECKING:
    from .testing import ManualClock


@pytest.fixture
def treadle_clock() -> "Iterator[ManualClock]":
    """A clock that the test turns by hand: runs that are made in the test go by it."""
    from .testing import ManualClock

    with ManualClock() as clock:
        yield clock


@pytest.fixture
def treadle_run_step() -> Callable[..., Any]:
    """Runs one step alone: `treadle.testing.run_step`."""
    from .testing import run_step

    return run_step


@pytest.fixture
def treadle_crash_points() -> Callable[..., Any]:
    """Puts a run down at every point: `treadle.testing.crash_points`, and checks the report."""
    from .testing import CrashReport, crash_points

    async def checked(*arguments: Any, **options: Any) -> CrashReport:
        report = await crash_points(*arguments, **options)
        report.check()
        return report

    return checked

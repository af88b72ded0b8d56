"""For tests of workflows: other resources, one step alone, a clock, and crashes at every point."""

from .clock import ManualClock, current_clock
from .crashes import CrashPoint, CrashReport, crash_points
from .overrides import override
from .steps import StepRun, run_step

__all__ = [
    "CrashPoint",
    "CrashReport",
    "ManualClock",
    "StepRun",
    "crash_points",
    "current_clock",
    "override",
    "run_step",
]

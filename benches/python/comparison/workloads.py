"""What is measured: each workload with its size, the goal for treadle, the engines it is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["timed", "lengths", "gathered", "clients", "values", "memory"]


@dataclass(frozen=True)
class Workload:
    """One row.

    `function(*args)` of the engine's module builds the run (of `lengths`, one for each of the
    arguments; of `memory`, the argument is the number of runs). `unit` is what a measured time is
    divided by: the steps, the workers or the events in one run. `goal` is the multiple of `task`
    that treadle may take.
    """

    title: str
    kind: Kind
    function: str
    args: tuple[int | bool, ...] = ()
    unit: int = 1
    per: str = "run"
    result: int | None = None
    goal: float | None = None
    engines: tuple[str, ...] | None = None  # None: all of them
    quick: bool = True  # part of a smoke run
    full: bool = True  # part of a full run
    absent: str = "default"  # key in an engine's LACKS; by default the name of the function

    @property
    def lacks(self) -> str:
        return self.function if self.absent == "default" else self.absent


FAST = ("asyncio_tasks", "asyncio_inline", "treadle_engine")
WAITERS = ("asyncio_tasks", "treadle_engine")
STORES = ("floor", "treadle_engine", "blazen", "llamaindex")


def _loop(steps: int, **more: object) -> Workload:
    return Workload(
        f"W2 loop of {steps:,} steps",
        "timed",
        "loop",
        (steps,),
        unit=steps,
        per="step",
        result=steps,
        goal=0.2,
        **more,  # type: ignore[arg-type]
    )


def _fan_out(workers: int, suspend: bool) -> Workload:
    return Workload(
        f"W3 fan out to {workers:,}" + (", workers `await sleep(0)`" if suspend else ""),
        "timed",
        "fan_out",
        (workers, suspend),
        unit=workers,
        per="worker",
        result=workers,
        goal=1.3 if suspend else 0.6,
        quick=workers < 10_000,
        absent="fan_out_suspend" if suspend else "fan_out",
    )


WORKLOADS: dict[str, Workload] = {
    "chain": Workload("W1 chain of 3 steps", "timed", "chain", result=3, goal=0.25),
    "chain_1000": Workload(
        "W1, 1,000 runs at once", "gathered", "chain", unit=1_000, result=3, goal=0.6
    ),
    "loop_1k": _loop(1_000),
    "loop_100k": _loop(100_000, quick=False),
    "loop_1m": _loop(1_000_000, quick=False, engines=FAST),
    "loop_lengths": Workload(
        "W2 per step, slowest length / quickest",
        "lengths",
        "loop",
        (1_000, 100_000, 1_000_000),
        engines=("asyncio_inline", "treadle_engine"),
        quick=False,
    ),
    "fan_out_100": _fan_out(100, False),
    "fan_out_1k": _fan_out(1_000, False),
    "fan_out_10k": _fan_out(10_000, False),
    "fan_out_sleep_100": _fan_out(100, True),
    "fan_out_sleep_1k": _fan_out(1_000, True),
    "fan_out_sleep_10k": _fan_out(10_000, True),
    "memos": Workload(
        "1,000 memos in a step, beside bare calls",
        "timed",
        "memos",
        (1_000,),
        unit=1_000,
        per="call",
        result=499_500,
        engines=WAITERS,
    ),
    "children": Workload(
        "10,000 runs started by one",
        "timed",
        "children",
        (10_000,),
        unit=10_000,
        per="run",
        result=49_995_000,
        engines=WAITERS,
        quick=False,
    ),
    "stream": Workload(
        "W6 stream of 50,000 events",
        "timed",
        "stream",
        (50_000,),
        unit=50_000,
        per="event",
        goal=1.5,
    ),
    "clients": Workload("W8 200 clients in a loop: p99", "clients", "chain", result=3, goal=1.0),
    "context": Workload("Context", "values", "context", engines=STORES),
    "waiting_10k": Workload("10,000 waiting runs", "memory", "waiting", (10_000,), quick=False),
    "waiting_100k": Workload(
        "100,000 waiting runs", "memory", "waiting", (100_000,), engines=WAITERS, quick=False
    ),
    "waiting_1k": Workload("1,000 waiting runs", "memory", "waiting", (1_000,), full=False),
}

VALUE_GOALS: dict[str, tuple[float, float]] = {
    "int": (2, 3),
    "short str": (2, 3),
    "small dict": (3, 1.6),
    "200 dicts": (1.5, 1.2),
    "1 MB bytes": (2, 3),
    "1 GB bytes": (2, 3),
    "pydantic model": (1.2, 1.2),
}
"""By kind of value: the multiples of the floor that treadle's `set` and `get` may take."""

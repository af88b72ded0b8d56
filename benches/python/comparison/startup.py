"""Import times: seconds that an import adds to a bare interpreter, as medians of processes."""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from time import perf_counter

from peers import ENGINES


def measure(engines: list[str], rounds: int) -> dict[str, dict[str, float]]:
    """By engine: `bare`, beyond an empty program, and `asyncio`, beyond one that imports asyncio.

    The programs take turns. An engine that cannot be imported has no entry.
    """
    programs = {"": "pass", "asyncio": "import asyncio"}
    for engine in engines:
        if module := ENGINES[engine].module:
            programs[f"{engine} bare"] = f"import {module}"
            programs[f"{engine} asyncio"] = f"import asyncio, {module}"
    taken: dict[str, list[float]] = {name: [] for name in programs if _runs(programs[name])}
    for _ in range(rounds):
        for name, seconds in taken.items():
            begin = perf_counter()
            subprocess.run([sys.executable, "-c", programs[name]], check=True)
            seconds.append(perf_counter() - begin)
    medians = {name: median(seconds) for name, seconds in taken.items()}
    return {
        engine: {
            "bare": medians[f"{engine} bare"] - medians[""],
            "asyncio": medians[f"{engine} asyncio"] - medians["asyncio"],
        }
        for engine in engines
        if f"{engine} bare" in medians
    }


def _runs(program: str) -> bool:
    """Whether it can be run at all; this first run also writes the byte code."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0

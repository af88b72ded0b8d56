"""Compares durable runs with programs written by hand and with other engines, in one run.

    python benches/python/compare_durable.py --write docs/durability.md

The workload is a chain of three steps with every step on disk (SQLite, WAL, synchronous=FULL): one
run after another, and a thousand at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

from durable import by_hand, dbos_engine, langgraph_engine, treadle_engine

HERE = Path(__file__).parent
ROUNDS = 5
AT_ONCE = 1000
WAITING, FINISHED = 100_000, 1_000_000
Measure = Callable[[Path, int], Awaitable[float]]

ONE_AFTER_ANOTHER: dict[str, tuple[Measure, int]] = {
    "by hand, 4 commits a run": (by_hand.one_after_another, 300),
    "treadle": (treadle_engine.step_after_another, 300),
    "treadle, pipelined": (treadle_engine.pipelined_after_another, 300),
    "DBOS": (dbos_engine.one_after_another, 50),
    "LangGraph": (langgraph_engine.one_after_another, 50),
}
ALL_AT_ONCE: dict[str, tuple[Measure, int]] = {
    "by hand, group commit": (by_hand.at_once, AT_ONCE),
    "treadle": (treadle_engine.step_at_once, AT_ONCE),
    "treadle, pipelined": (treadle_engine.pipelined_at_once, AT_ONCE),
    "DBOS": (dbos_engine.at_once, 200),
    "LangGraph": (langgraph_engine.at_once, 200),
}


def measured(table: dict[str, tuple[Measure, int]], rounds: int) -> dict[str, list[float] | str]:
    """Measure all in turn, round after round. Gives runs per second, or why there are none."""
    figures: dict[str, list[float] | str] = {}
    for _ in range(rounds):
        for name, (measure, runs) in table.items():
            so_far = figures.setdefault(name, [])
            if isinstance(so_far, str):
                continue
            try:
                with tempfile.TemporaryDirectory() as directory:
                    seconds = asyncio.run(measure(Path(directory), runs))
                so_far.append(runs / seconds)
            except ImportError as error:
                figures[name] = f"not installed: {error}"
    return figures


def rows(figures: dict[str, list[float] | str], floor: str) -> list[str]:
    """Show the medians, and their ratios to what was written by hand."""
    base = figures[floor]
    assert isinstance(base, list)
    lines = []
    for name, values in figures.items():
        if isinstance(values, str):
            lines.append(f"| {name} | – | – | {values} |")
        else:
            spread = f"{min(values):,.0f} to {max(values):,.0f}"
            ratio = f"{median(values) / median(base):.2f}"
            lines.append(f"| {name} | {median(values):,.0f} | {ratio} | {spread} |")
    return lines


def alone(call: str) -> Any:
    """Measure in a process of its own, where the garbage collector has only ours to go through."""
    source = f"""
import asyncio, json
from durable.treadle_engine import *
print(json.dumps(asyncio.run({call})))
"""
    command = [sys.executable, "-c", source]
    said = subprocess.run(command, cwd=HERE, check=True, capture_output=True, text=True)
    return json.loads(said.stdout)


def page(rounds: int) -> str:
    """Measure everything, and tell it."""
    began = time.strftime("%Y-%m-%d")
    after_another = rows(measured(ONE_AFTER_ANOTHER, rounds), "by hand, 4 commits a run")
    at_once = rows(measured(ALL_AT_ONCE, rounds), "by hand, group commit")
    commits, batched = by_hand.plain_commits()
    latency = alone("commit_latency()")
    lag = alone("loop_lag()")
    loop = alone("long_loop()")
    waiting = alone(f"opening(waiting, {WAITING})")
    finished = alone(f"opening(chain, {FINISHED})")
    head = "| | runs / s | × by hand | rounds |\n| --- | --- | --- | --- |"
    return "\n".join(
        [
            "# Durable runs, measured",
            "",
            "A chain of three steps with every step on disk: SQLite with WAL and synchronous=FULL.",
            f"Medians of {rounds} rounds, measured in turn in one run on {began}; written by",
            "`make bench-peers`, which repeats it. Disks differ more than processors do.",
            "",
            "## One run after another",
            "",
            head,
            *after_another,
            "",
            "## Many runs at once",
            "",
            "1,000 at once; DBOS and LangGraph 200.",
            "",
            head,
            *at_once,
            "",
            "## What the disk gives, and what a run costs",
            "",
            "|  |  |",
            "| --- | --- |",
            f"| plain `sqlite3`, one row a commit | {commits:,.0f} commits / s |",
            f"| plain `sqlite3`, 256 rows a commit | {batched:,.0f} rows / s |",
            f"| commit latency, p50 / p99 | {latency[0]:.2f} / {latency[1]:.2f} ms |",
            f"| a durable loop, per step: first / last 1,000 of {loop[2]:,} "
            f"| {loop[0]:.1f} / {loop[1]:.1f} µs |",
            f"| loop lag with 1,000 durable runs in flight, p99.9 / most "
            f"| {lag[0]:.1f} / {lag[1]:.1f} ms |",
            f"| opening a journal with {WAITING:,} runs that wait "
            f"| {waiting[0] * 1e3:.0f} ms, {waiting[1]:.0f} MB |",
            f"| opening a journal with {FINISHED:,} finished runs "
            f"| {finished[0] * 1e3:.0f} ms, {finished[1]:.0f} MB |",
            "",
        ]
    )


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description="Compares durable runs.")
    parser.add_argument("--write", metavar="PAGE", type=Path, help="Markdown page to write")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds ({ROUNDS})")
    options = parser.parse_args()
    text = page(options.rounds)
    print(text)
    if options.write is not None:
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

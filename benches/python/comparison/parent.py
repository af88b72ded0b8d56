"""Starts one child process per engine and workload, lets them take turns, keeps the time limits."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from .figures import Cell
from .workloads import WORKLOADS, Workload

HERE = Path(__file__).resolve().parent.parent
IMPORT_LIMIT = 60.0
LONG = 5.0  # a measure that takes longer than this many seconds is taken once


class Failed(Exception):
    """Why an engine has no figure for a workload, in words for the table."""


@dataclass(frozen=True)
class Settings:
    rounds: int
    budget: float  # seconds that a batch of short runs fills
    limit: float  # seconds after which a measure is given up
    quick: bool


class Child:
    """An engine's process."""

    def __init__(self, engine: str) -> None:
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed by `end`
        self.process = subprocess.Popen(
            [sys.executable, "-m", "comparison.child", engine],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.hello = self._answer(IMPORT_LIMIT)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def _answer(self, limit: float) -> dict[str, Any]:
        try:
            line = self.lines.get(timeout=limit)
        except queue.Empty:
            raise Failed(f"did not end within {limit:.0f} s") from None
        if not line:
            raise Failed(f"the process ended ({self.process.wait()}): {self._last_error()}")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise Failed(answer["failed"])
        return answer

    def _last_error(self) -> str:
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        return lines[-1] if lines else "nothing on standard error"

    def ask(self, name: str, settings: Settings) -> dict[str, float]:
        assert self.process.stdin is not None
        request = {"name": name, "budget": settings.budget, "quick": settings.quick}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        answer: dict[str, float] = self._answer(settings.limit)["ok"]
        return answer

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.errors.close()


def compare(
    name: str, engines: list[str], settings: Settings, tell: Callable[[str], None]
) -> dict[str, Cell]:
    """Measures one workload on the engines, in turn, round after round."""
    workload = WORKLOADS[name]
    cells = {engine: Cell() for engine in engines}
    children = dict(_start(workload, cells))
    try:
        for _ in range(1 if workload.kind in ("memory", "lengths") else settings.rounds):
            for engine in list(children):
                begin = monotonic()
                try:
                    cells[engine].rounds.append(children[engine].ask(name, settings))
                except Failed as failed:
                    cells[engine] = Cell(reason=str(failed))
                if cells[engine].reason or monotonic() - begin > LONG:
                    children.pop(engine).end()
    finally:
        for child in children.values():
            child.end()
    for engine, cell in cells.items():
        tell(f"  {engine:16} {cell.reason or _brief(cell)}")
    return cells


def _start(workload: Workload, cells: dict[str, Cell]) -> Iterator[tuple[str, Child]]:
    for engine, cell in cells.items():
        try:
            child = Child(engine)
        except Failed as failed:
            cell.reason = str(failed)
            continue
        cell.reason = child.hello["lacks"].get(workload.lacks)
        if cell.reason:
            child.end()
        else:
            yield engine, child


def _brief(cell: Cell) -> str:
    return ", ".join(f"{key} {cell.median(key):.3g}" for key in cell.rounds[0])

"""Kills processes, and compares what they were promised with what the journal holds."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from treadle import Engine, UnknownRun

from . import work
from .work import Answer, expected, jobs

HERE = Path(__file__).parents[1]


def start(path: Path, log: Path, name: str, runs: int, mood: str = "honest") -> subprocess.Popen:
    """Start a process that executes runs."""
    # Not as a main program: its classes must have the names by which this process knows them.
    command = [sys.executable, "-c", "from torture.work import run; run()"]
    command += [str(path), str(log), name, str(runs), mood]
    return subprocess.Popen(command, cwd=HERE, stderr=subprocess.PIPE)


def kill(process: subprocess.Popen, after: float) -> bool:
    """Kill a process after a time, by its own id. Say whether it was alive until then."""
    try:
        process.wait(after)
        errors = process.stderr.read().decode()
        assert process.returncode == 0, errors[-2000:]
        return False
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return True
    finally:
        process.stderr.close()


def lines(log: Path) -> list[list[str]]:
    """What was promised, in order. The last line may be torn."""
    text = log.read_text() if log.exists() else ""
    return [line.split() for line in text.splitlines() if line]


def wait_for(log: Path, words: list[str], seconds: float = 20) -> None:
    """Wait until a line was logged."""
    until = time.monotonic() + seconds
    while words not in lines(log):
        assert time.monotonic() < until, f"never logged: {words}"
        time.sleep(0.005)


def torture(path: Path, log: Path, kills: int, seed: int, runs: int = 30) -> int:
    """Kill processes on one journal again and again. Return how many were alive to be killed."""
    chance = random.Random(seed)
    killed = 0
    number = 0
    while killed < kills:
        number += 1
        name = f"p{number}"
        process = start(path, log, name, runs)
        wait_for(log, ["opened", name])
        killed += kill(process, chance.uniform(0.001, 0.12))
    return killed


async def settle(path: Path, log: Path, killed: int) -> dict[str, int]:
    """Go on with everything that is left, and compare with what was promised."""
    promised = {line[1]: int(line[2]) for line in lines(log) if line[0] == "submitted"}
    answered = {line[1] for line in lines(log) if line[0] == "answered"}
    ended = [line for line in lines(log) if line[0] == "ended"]
    bodies = Counter((line[1], line[2]) for line in lines(log) if line[0] == "body")
    assert all(line[2] == "True" for line in ended), "a result is not what it should be"
    lost = wrong = 0
    work.open_log(log)
    async with Engine(f"sqlite:///{path}", workflows=[jobs], lease=1) as engine:
        for run_id, count in promised.items():
            try:
                if run_id not in answered:
                    answer = Answer(number=-1)
                    info = await engine.get(run_id).info()
                    if info.status not in ("completed", "failed", "cancelled"):
                        await engine.send_event(run_id, answer, id=f"{run_id} answer")
                async with asyncio.timeout(30):
                    result = await engine.get(run_id)
            except UnknownRun:
                lost += 1
                continue
            wrong += result != expected(count)
    # A body runs once for each attempt, and once more for each process that was killed over it.
    most = max(bodies.values(), default=0)
    assert most <= 2 + killed, f"a body ran {most} times"
    again = sum(times > 2 for times in bodies.values())
    return {"promised": len(promised), "lost": lost, "wrong": wrong, "often": again}

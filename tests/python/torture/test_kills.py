"""Processes are killed at random moments: what was acknowledged is there, and every run ends."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from torture.judge import kill, lines, settle, start, torture, wait_for

# `make torture` kills ten times as often.
KILLS = int(os.environ.get("KILLS", "300"))
PARTS = 10


@pytest.mark.timeout(600 if KILLS <= 300 else 3000)
@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_that_was_acknowledged_is_lost(tmp_path: Path, part: int):
    path, log = tmp_path / "runs.db", tmp_path / "log"
    killed = torture(path, log, KILLS // PARTS, seed=part)
    found = asyncio.run(settle(path, log, killed))
    print(f"{killed} kills, {found}")
    assert found["promised"] > 0
    assert (found["lost"], found["wrong"]) == (0, 0)


def test_the_judge_notices_a_promise_that_is_not_kept(tmp_path: Path):
    path, log = tmp_path / "runs.db", tmp_path / "log"
    process = start(path, log, "liar", 5, "lying")
    wait_for(log, ["opened", "liar"])
    kill(process, 0.01)
    assert asyncio.run(settle(path, log, 1))["lost"] == 5


@pytest.mark.timeout(180)
def test_a_process_that_was_frozen_writes_nothing_when_it_wakes(tmp_path: Path):
    path, log = tmp_path / "runs.db", tmp_path / "log"
    frozen = start(path, log, "frozen", 40)
    wait_for(log, ["opened", "frozen"])
    time.sleep(0.05)
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        stopped = time.monotonic()
        promised = [line[1] for line in lines(log) if line[0] == "submitted"]
        found = asyncio.run(settle(path, log, 1))
        assert time.monotonic() - stopped < 25
        assert found["promised"] == len(promised)
        assert (found["lost"], found["wrong"]) == (0, 0)
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    # It goes on as a process like any other: what it was promised before it froze still holds.
    kill(frozen, 5)
    again = asyncio.run(settle(path, log, 2))
    assert (again["lost"], again["wrong"]) == (0, 0)

"""Processes share a file: runs of one that is gone go on soon, and a zombie writes nothing."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from journals import POSTGRES, journal_url

from torture.harness import HERE, Journal
from treadle import Engine

LEASE = 1.0
RUNS = 20
# Of `make torture`; each kills one process and freezes one.
ROUNDS = 20 if int(os.environ.get("KILLS", "300")) > 300 else 1
# What a machine may be late that has much else to do.
LATE = 5.0


@contextmanager
def process(
    journal: Journal, name: str, runs: int = 0, seconds: float = 60, lease: float = LEASE
) -> Iterator[subprocess.Popen[bytes]]:
    """Have a process with runs that have begun."""
    given = [journal.url, journal.task(name).log, name, runs, seconds, lease]
    command = [sys.executable, "-c", "from torture.toil import main; main()", json.dumps(given)]
    with subprocess.Popen(command, cwd=HERE) as popen:
        try:
            journal.log.wait_for(name, "opened")
            journal.log.wait_for(name, "begins", runs)
            yield popen
        finally:
            popen.kill()


def begun(journal: Journal, name: str) -> dict[str, float]:
    """When each of its runs has begun in a process."""
    lines = journal.log.lines()
    return {line.rest[0]: line.at for line in lines if (line.by, line.word) == (name, "begins")}


def taken_over(journal: Journal, name: str, by: str, count: int) -> float:
    """Return when the last of its runs has begun in another process."""
    theirs = begun(journal, name)
    journal.log.wait_for(by, "begins", count)
    elsewhere = begun(journal, by)
    assert theirs.keys() <= elsewhere.keys()
    return max(elsewhere[run_id] for run_id in theirs)


async def written(journal: Journal, run_ids: list[str]) -> list[Any]:
    """Return all that the journal has of runs that are over: rows, records, results and streams."""
    everything = []
    async with Engine(journal.url, lease=LEASE) as engine:
        for run_id in run_ids:
            async with asyncio.timeout(30):
                result = await engine.get(run_id)
            raw = engine._session().journal
            records = await raw.records(run_id, 0, 10_000)
            stream = await raw.read_stream(run_id, 0, 10_000)
            loaded = await raw.load(run_id)
            everything.append(
                [await raw.get(run_id), records, stream, loaded.snapshot(raw), result]
            )
    return everything


@pytest.fixture(params=["sqlite", POSTGRES])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Journal:
    return Journal.below(tmp_path, journal_url(request.param, request, tmp_path))


@pytest.mark.timeout(60 * ROUNDS)
def test_runs_of_a_killed_and_of_a_frozen_process_go_on_and_the_zombie_writes_nothing(
    journal: Journal,
):
    slowest = {"killed": 0.0, "frozen": 0.0}
    with process(journal, "heir"):
        for number in range(1, ROUNDS + 1):
            killed, frozen = f"killed {number}", f"frozen {number}"
            with (
                process(journal, killed, RUNS) as victim,
                process(journal, frozen, RUNS, seconds=LEASE / 2) as zombie,
            ):
                os.kill(zombie.pid, signal.SIGSTOP)
                os.kill(victim.pid, signal.SIGKILL)
                gone = time.monotonic()
                for name, kind in ((killed, "killed"), (frozen, "frozen")):
                    until = taken_over(journal, name, "heir", number * 2 * RUNS)
                    slowest[kind] = max(slowest[kind], until - gone)
                theirs = list(begun(journal, frozen))
                before = asyncio.run(written(journal, theirs))
                os.kill(zombie.pid, signal.SIGCONT)
                refused = journal.log.wait_for(frozen, "refused", RUNS)
                assert sorted(line.rest[0] for line in refused) == sorted(theirs)
                assert asyncio.run(written(journal, theirs)) == before
                # In the second epoch, and not by the process that has started it.
                assert {row["epoch"] for (row, _), *_ in before} == {2}
                assert all(result == [False, []] for *_, result in before)
    print(f"{ROUNDS} rounds of {RUNS} runs each, lease {LEASE} s, slowest take-over: {slowest}")
    lines = [line for line in journal.log.lines() if line.word == "begins"]
    assert len(lines) == 2 * 2 * RUNS * ROUNDS
    assert max(slowest.values()) < LEASE + 1 + LATE


@pytest.mark.timeout(30 * ROUNDS)
def test_runs_of_a_process_that_is_told_to_end_go_on_at_once(journal: Journal):
    slowest = 0.0
    # Nobody could take anything over from a lease that has not ended.
    with process(journal, "heir", lease=60):
        for number in range(1, ROUNDS + 1):
            name = f"closed {number}"
            with process(journal, name, RUNS, lease=60) as closing:
                os.kill(closing.pid, signal.SIGTERM)
                (closed,) = journal.log.wait_for(name, "closed")
                until = taken_over(journal, name, "heir", number * RUNS)
                slowest = max(slowest, until - closed.at)
                assert closing.wait(20) == 0
    print(f"{ROUNDS} rounds of {RUNS} runs, slowest hand-over after close: {slowest:.3f} s")
    assert slowest < 1 + LATE

"""Processes die at every named point in the life of a commit and of a run."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from torture.harness import HERE, Journal, over, settle, start
from torture.judge import judge

ROOT = HERE.parents[1]
BUILD = ROOT / "target" / "failpoints" / "python"
LEASE = 0.2
DURABILITIES = ["step", "pipelined"] if int(os.environ.get("KILLS", "300")) > 300 else ["step"]

# A file is made once, so that these are passed once in its life.
ONCE = ["secret.drafted", "secret.linked", "secret.made"]
# What a process must do to pass a point that others do not.
SPECIAL = {
    "journal.before_wal_checkpoint": {"runs": 40, "bulk": 1_500_000},
    "journal.after_wal_checkpoint": {"runs": 40, "bulk": 1_500_000},
    "journal.run_pruned": {"keep": 0.2},
}


def environment(**more: str) -> dict[str, str]:
    assert BUILD.is_dir(), "the build with failpoints is missing: make failpoints"
    return {"PYTHONPATH": str(BUILD), **more}


def ask(source: str, **given: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"import treadle._treadle as it; {source}"]
    return subprocess.run(
        command,
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def names() -> list[str]:
    """Return the points that the build has; without a build one that fails."""
    if not BUILD.is_dir():
        return ["make failpoints"]
    return ask("print(*it.failpoints())", **environment()).stdout.split()


class Victims:
    """Processes on one journal that are to die at one point, each at another passing of it."""

    def __init__(self, journal: Journal, point: str, durability: str) -> None:
        self._journal = journal
        self._point = point
        self._durability = durability
        self._count = 0
        self.deaths = 0
        # How often the last one that ended well had passed the point.
        self.passed: int | None = None

    def next(self, passing: int) -> bool:
        """Start one. Say whether it died where it was to; if not, it ended well."""
        return self._start(f"{self._point}:{passing}", **SPECIAL.get(self._point, {}))

    def leave_runs(self) -> None:
        """Have one die in the midst of its runs, and its lease end."""
        assert self._start("run.commit_told:25")
        time.sleep(LEASE)

    def _start(self, where: str, **special: float) -> bool:
        self._count += 1
        name = f"p{self._count}"
        options = {"runs": 20, "lease": LEASE, "durability": self._durability, **special}
        task = self._journal.task(name, **options)
        process = start(task, **environment(TREADLE_FAILPOINT=where))
        code, errors = over(self._journal, name, process)
        if code == 0:
            (line,) = self._journal.log.wait_for(name, "passed")
            self.passed = line.rest[0][self._point]
            return False
        assert code == -signal.SIGKILL, errors[-2000:]
        assert f"failpoint {where}\n" in errors, errors[-2000:]
        self.deaths += 1
        return True


@pytest.mark.timeout(180)
@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("point", [name for name in names() if not name.startswith("copy.")])
def test_nothing_is_lost_or_done_twice_when_a_process_dies_at(
    tmp_path: Path, point: str, durability: str
):
    journal = Journal.below(tmp_path)
    victims = Victims(journal, point, durability)
    # The first one meets a new file, and the last ones what others have left.
    deaths = int(victims.next(1))
    victims.leave_runs()
    for passing in () if point in ONCE else (1, 2, 3, 9, 30):
        while not victims.next(passing):
            # It passes there seldom, or not at all.
            assert victims.passed is not None
            passing = min(passing - 1, victims.passed)
            if passing < 1:
                break
        else:
            deaths += 1
    found = asyncio.run(settle(journal))
    verdict = judge(
        journal.log.lines(),
        found,
        waits_for_disk=durability == "step",
        forgets="keep" in SPECIAL.get(point, {}),
    )
    print(f"{point}, {durability}: {deaths} deaths, {verdict}")
    assert deaths >= (1 if point in ONCE else 3)
    assert verdict.faults() == {}


def test_a_failpoint_that_is_not_there_is_an_error():
    for wrong in ("journal.nowhere:1", "journal.queued:0", "journal.queued:often"):
        asked = ask("", **environment(TREADLE_FAILPOINT=wrong))
        assert asked.returncode == 1
        assert f'TREADLE_FAILPOINT="{wrong}"' in asked.stderr


def test_an_ordinary_build_has_no_failpoints():
    asked = ask("print(hasattr(it, 'failpoints'))", TREADLE_FAILPOINT="journal.nowhere:1")
    assert (asked.returncode, asked.stdout) == (0, "False\n")

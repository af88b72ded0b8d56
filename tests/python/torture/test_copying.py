"""A copier dies at every named point in the life of a copy."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from durable_work import Go, asking, napping, pages

from torture.test_failpoints import environment, names
from treadle import Engine

WORKFLOWS = [asking, napping, pages]
POINTS = [name for name in names() if name.startswith("copy.")]


async def filled(url: str) -> dict[str, object]:
    """Make runs that wait, have a message, sleep, and are over; return their results to be."""
    async with Engine(url, workflows=WORKFLOWS) as engine:
        over = await engine.submit(pages, number=5)
        result = await engine.get(over)
        waits, told = await engine.submit(asking), await engine.submit(asking)
        sleeps = await engine.submit(napping, seconds=1.0)
        for run in (waits, told, sleeps):
            while (await engine.get(run).info()).status != "waiting":
                await asyncio.sleep(0.01)
    async with Engine(url) as engine:
        await engine.send_event(told, Go(number=7))
    return {over: result, waits: None, told: 7, sleeps: "awake"}


def copier(source: str, destination: str, **given: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "treadle", "copy", source, destination, "--all"]
    return subprocess.run(
        command,
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def statuses(url: str, runs: dict[str, object]) -> dict[str, str]:
    async with Engine(url) as engine:
        return {info.id: info.status for info in await engine.runs() if info.id in runs}


async def check_places(source: str, destination: str, runs: dict[str, object]) -> None:
    """Every run is in one journal, or on its way and in both."""
    here, there = await statuses(source, runs), await statuses(destination, runs)
    for run in runs:
        at = (here.get(run), there.get(run))
        executable = sum(status not in (None, "copying") for status in at)
        assert executable == 1 or at == ("copying", "copying"), at


async def check_ends(url: str, runs: dict[str, object]) -> None:
    async with Engine(url, workflows=WORKFLOWS) as engine:
        for run, result in runs.items():
            if result is None:
                await engine.send_event(run, Go(number=3))
            found = await engine.get(run)
            assert found == result or found[0] == (3 if result is None else result)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("point", POINTS)
async def test_every_run_is_in_one_place_when_a_copier_dies_at(tmp_path: Path, point: str):
    source, destination = (f"sqlite:///{tmp_path / name}" for name in ("from.db", "to.db"))
    runs = await filled(source)
    deaths = 0
    for passing in (1, 2, 3):
        died = copier(source, destination, **environment(TREADLE_FAILPOINT=f"{point}:{passing}"))
        if died.returncode == 0:
            break
        assert died.returncode == -signal.SIGKILL, died.stderr
        deaths += 1
        await check_places(source, destination, runs)
    assert deaths, "no copier passes it"
    done = copier(source, destination)
    assert done.returncode == 0, done.stdout + done.stderr
    assert await statuses(source, runs) == {}
    await check_ends(destination, runs)

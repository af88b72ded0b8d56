"""Processes that execute families are killed: each child is started once, and none is left."""

import asyncio
import json
import os
import random
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from torture.families import ALL, CHILDREN
from torture.harness import HERE
from treadle import Engine, RunCancelled, RunEnded

PARENTS = 12
# Each process that is killed takes seconds to start on a busy machine.
pytestmark = pytest.mark.timeout(300)
KILLS = max(10, int(os.environ.get("KILLS", "300")) // 15)


@pytest.fixture
def server() -> Iterator[int]:
    """The port of a server that counts calls, in a process of its own."""
    with spawned("serve") as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


def spawned(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "torture.families", *map(str, arguments)]
    return subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True)


def counts(port: int) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
        found: dict[str, int] = json.loads(answer.read())
    return found


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres"))
    return f"sqlite:///{tmp_path}/runs.db"


async def until_worked(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == "working\n"


async def all_over(engine: Engine) -> bool:
    return all(row.finished is not None for row in await engine.runs(limit=10_000))


async def test_every_child_is_started_once_and_calls_once_but_for_kills(
    url: str, server: int
) -> None:
    dice = random.Random(KILLS)
    for _ in range(KILLS):
        with spawned("work", url, server, PARENTS) as process:
            await until_worked(process)
            await asyncio.sleep(dice.random() * 0.15)
            process.kill()
    async with Engine(url, workflows=ALL, lease=0.5) as engine:
        async with asyncio.timeout(60):
            fields = [{"port": server, "name": f"parent-{n}"} for n in range(PARENTS)]
            runs = [engine.run(ALL[1], key=str(n), **fields[n]) for n in range(PARENTS)]
            assert await asyncio.gather(*runs) == [sum(range(CHILDREN))] * PARENTS
            while not await all_over(engine):
                await asyncio.sleep(0.05)
        rows = await engine.runs(limit=10_000)
        parents = {row.id for row in rows if row.workflow == "leading"}
        children = Counter(row.parent for row in rows if row.workflow == "asking")
    assert len(parents) == PARENTS
    assert children == dict.fromkeys(parents, CHILDREN)
    assert {row.status for row in rows} == {"completed"}
    called = counts(server)
    assert len(called) == PARENTS * CHILDREN * 2
    # Of the calls that were under way, each kill makes at most one of each child be made again.
    again = sum(called.values()) - len(called)
    most = max(called.values())
    assert most <= KILLS + 1
    print(f"{KILLS} kills, {len(called)} calls, {again} of them again, {most} times at most")


async def test_a_family_that_is_cancelled_between_kills_leaves_no_orphan(
    url: str, server: int
) -> None:
    dice = random.Random(1)
    for _ in range(5):
        with spawned("work", url, server, PARENTS) as process:
            await until_worked(process)
            await asyncio.sleep(dice.random() * 0.1)
            process.kill()
    async with Engine(url, workflows=ALL, lease=0.5) as engine:
        parents = await engine.runs(workflow="leading", limit=1000)
        cancelled = [row for row in parents if row.finished is None]
        for row in cancelled:
            # It may have ended since it was listed.
            with suppress(RunEnded):
                await engine.cancel(row.id)
        async with asyncio.timeout(60):
            while not await all_over(engine):
                await asyncio.sleep(0.05)
        for row in cancelled:
            try:
                await engine.get(row.id)
            except RunCancelled:
                below = await engine.runs(parent=row.id)
                assert {one.status for one in below} <= {"cancelled", "completed"}

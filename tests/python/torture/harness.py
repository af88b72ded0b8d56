"""Starts processes, has them killed, and goes on with everything that they left."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treadle import Engine, RunEnded, UnknownRun

from . import flows
from .flows import ALL
from .judge import OVER, Found, Promises
from .promises import Log
from .work import Task, messages, submit_mailer, writers

HERE = Path(__file__).parents[1]
SECONDS = 60


@dataclass
class Journal:
    """A journal and the log of what was promised in it."""

    url: str
    directory: Path
    log: Log
    # Where processes find it, if that is another place: what is between may fail.
    reached_by: str | None = None

    @classmethod
    def below(cls, directory: Path, url: str | None = None, **more: str) -> "Journal":
        url = f"sqlite:///{directory / 'runs.db'}" if url is None else url
        return cls(url, directory, Log(directory / "log", "harness"), **more)

    def task(self, name: str, **options: Any) -> Task:
        """Return what a process on this journal does."""
        url = self.reached_by or self.url
        return Task(url=url, log=str(self.directory / "log"), name=name, **options)


def start(task: Task, **environment: str) -> subprocess.Popen[bytes]:
    """Start a process that does a task."""
    command = [sys.executable, *task.arguments()]
    given = {**os.environ, **environment}
    return subprocess.Popen(command, cwd=HERE, stderr=subprocess.PIPE, env=given)


def over(journal: Journal, name: str, process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Wait for the end of a process and write it down; return its exit code and what it said."""
    try:
        _, said = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        _, said = process.communicate()
        raise AssertionError(f"{name} hangs: {said.decode()[-2000:]}") from None
    errors = said.decode()
    # Others may have its runs from then on. A machine that has much else to do can be so late.
    journal.log("over", name, "lease was lost" in errors)
    return process.returncode, errors


def kill(journal: Journal, name: str, process: subprocess.Popen[bytes]) -> bool:
    """Kill a process by its own id. Say whether it was alive until then."""
    if process.poll() is None:
        journal.log("killing", name)
        os.kill(process.pid, signal.SIGKILL)
    code, errors = over(journal, name, process)
    assert code in (0, -signal.SIGKILL), errors[-2000:]
    return code != 0


def torture(journal: Journal, kills: int, seed: int, at_once: int = 1, **options: Any) -> int:
    """Kill processes on one journal again and again, so many of which live at once.

    Return how many were alive to be killed.
    """
    chance = random.Random(seed)
    living: deque[tuple[str, subprocess.Popen[bytes]]] = deque()
    killed = number = 0
    while killed < kills:
        number += 1
        name = f"p{number}"
        living.append((name, start(journal.task(name, **options))))
        journal.log.wait_for(name, "opened")
        if len(living) == at_once:
            time.sleep(chance.uniform(0.001, 0.15 / at_once))
            living.rotate(-chance.randrange(at_once))
            killed += kill(journal, *living.popleft())
    for left in living:
        killed += kill(journal, *left)
    return killed


async def settle(journal: Journal, name: str = "settler") -> dict[str, Found | None]:
    """Go on with everything that is left; return what has become of every run."""
    log = Log(Path(journal.task(name).log), name)
    flows.write_to(log)
    promises = Promises(log.lines())
    found: dict[str, Found | None] = {}
    at_once = asyncio.Semaphore(100)
    async with Engine(journal.url, workflows=ALL, lease=1, history="full") as engine:

        async def one(run_id: str) -> None:
            async with at_once:
                found[run_id] = await _end(engine, promises, run_id)

        await asyncio.gather(*map(one, promises.runs))
    log("over", name)
    log.close()
    return found


async def _end(engine: Engine, promises: Promises, run_id: str) -> Found | None:
    try:
        await _ask(engine, promises, run_id)
        found = await _found(engine, run_id)
        if found.value == "ValueError" and run_id not in promises.of("retried"):
            await engine.retry(run_id)
            found = await _found(engine, run_id)
        await _check_history(engine, run_id)
        return found
    except UnknownRun:
        return None


async def _check_history(engine: Engine, run_id: str) -> None:
    """Whatever was killed, a history that is kept has every record."""
    handle = engine.get(run_id)
    last = (await handle.info()).seq
    seen = {line["seq"] for line in await handle.history(most_bytes=0)}
    missing = sorted(set(range(1, last + 1)) - seen)
    assert not missing, f"run {run_id} lacks records {missing}"


async def _ask(engine: Engine, promises: Promises, run_id: str) -> None:
    """Do for a run what nobody is known to have done: what was acknowledged is not done again."""
    workflow, count = promises.runs[run_id]
    try:
        if workflow == "endless" and run_id not in promises.of("cancelled"):
            await engine.cancel(run_id)
        if workflow == "mailbox":
            for first in writers():
                await submit_mailer(engine, run_id, first)
        if workflow == "jobs":
            for name, event in messages(count):
                if name not in promises.sent(run_id):
                    await engine.send_event(run_id, event, id=f"{run_id} {name}")
    except RunEnded:
        pass


async def _found(engine: Engine, run_id: str) -> Found:
    handle = engine.get(run_id)
    try:
        async with asyncio.timeout(SECONDS):
            while (status := (await handle.info()).status) not in OVER:
                await asyncio.sleep(0.02)
    except TimeoutError:
        return Found(status, None, [])
    value: Any = None
    if status == "completed":
        value = await handle
    elif status == "failed":
        try:
            await handle
        except Exception as error:
            value = type(error).__name__
    return Found(status, value, [event.what async for event in handle.stream_events()])

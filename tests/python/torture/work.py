"""A process that executes durable runs until it is killed. What it was promised it writes down."""

import asyncio
import json
import random
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import treadle._treadle
from treadle import Engine, EngineClosed, JournalError, UnknownRun

from . import flows
from .flows import (
    ALL,
    ANSWERS,
    CHILDREN,
    LETTERS,
    POKES,
    WRITERS,
    Answer,
    Poke,
    doomed,
    endless,
    jobs,
    leading,
    limited,
    mailbox,
    mailer,
    spoilt,
)
from .promises import Log


@dataclass(kw_only=True)
class Task:
    """What such a process does."""

    url: str
    log: str
    name: str
    runs: int = 30
    lease: float = 0.3
    durability: str = "step"
    # Seconds after which runs that are over are forgotten.
    keep: float | None = None
    # The bytes that each job of some runs leaves in the state: enough for checkpoints, or for more.
    bulk: int = 30_000

    def arguments(self) -> list[str]:
        """Return what makes the same task of the command line of a process."""
        # Not as a main program: its classes must have the names by which other processes know them.
        return ["-c", "from torture.work import main; main()", json.dumps(asdict(self))]


class Client:
    """Starts runs and talks to them, and writes down what the engine acknowledges."""

    def __init__(self, engine: Engine, log: Log, task: Task) -> None:
        self._engine = engine
        self._log = log
        self._task = task
        self._chance = random.Random(task.name)

    async def go(self) -> None:
        """Have all the runs, at once."""
        kinds = [
            self._doomed,
            self._cancelled,
            self._limited,
            self._deleted,
            self._read,
            self._started,
            self._shared,
            self._spoilt,
            self._left,
            self._plain,
            self._mailed,
            self._led,
        ]
        await asyncio.gather(*[kinds[it % len(kinds)](it) for it in range(self._task.runs)])

    def _key(self, number: int) -> str:
        return f"{self._task.name} {number}"

    async def _submitted(self, key: str, count: int, bulk: int) -> str:
        run_id = await self._engine.submit(jobs, jobs=count, bulk=bulk, key=key)
        self._log("submitted", run_id, "jobs", count)
        return run_id

    async def _talk(self, run_id: str, count: int) -> None:
        await asyncio.sleep(self._chance.random() * 0.02)
        for name, event in messages(count):
            await self._engine.send_event(run_id, event, id=f"{run_id} {name}")
            self._log("sent", run_id, name)

    async def _ended(self, run_id: str) -> None:
        self._log("ended", run_id, "completed", await self._engine.get(run_id))

    async def _plain(self, number: int) -> str:
        count = self._chance.randint(1, 5)
        bulk = self._task.bulk if self._chance.random() < 0.5 else 10
        run_id = await self._submitted(self._key(number), count, bulk)
        await self._talk(run_id, count)
        await self._ended(run_id)
        return run_id

    async def _deleted(self, number: int) -> None:
        run_id = await self._plain(number)
        self._log("deleting", run_id)
        await self._engine.delete(run_id)
        self._log("deleted", run_id)

    async def _read(self, number: int) -> None:
        count = 3
        run_id = await self._submitted(self._key(number), count, 10)
        talk = asyncio.ensure_future(self._talk(run_id, count))
        read = 0
        async for event in self._engine.stream_events(run_id):
            self._log("read", run_id, read, event.what)
            read += 1
        await talk
        await self._ended(run_id)

    async def _started(self, number: int) -> None:
        """Have one that is executed here, and that the engine is not waited for."""
        key = self._key(number) if number % 20 < 10 else None
        run = self._engine.run(jobs, jobs=2, bulk=10, key=key)
        self._log("started", run.id, "jobs", 2)
        await self._talk(run.id, 2)
        self._log("ended", run.id, "completed", await run)

    async def _shared(self, number: int) -> None:
        """Have the same run as every other process."""
        key = f"shared {number}"
        run_id = await self._submitted(key, 3, 10)
        self._log("shared", run_id, key)
        # Where runs are forgotten, that of an earlier process may be gone at any moment.
        with suppress(*([] if self._task.keep is None else [UnknownRun])):
            await self._talk(run_id, 3)
            await self._ended(run_id)

    async def _doomed(self, number: int) -> None:
        run_id = await self._engine.submit(doomed, key=self._key(number))
        self._log("submitted", run_id, "doomed", 0)
        try:
            await self._engine.get(run_id)
            raise AssertionError("it was to fail")
        except ValueError:
            self._log("retrying", run_id)
        await self._engine.retry(run_id)
        self._log("retried", run_id)
        await self._ended(run_id)

    async def _cancelled(self, number: int) -> None:
        run_id = await self._engine.submit(endless, key=self._key(number))
        self._log("submitted", run_id, "endless", 0)
        await asyncio.sleep(self._chance.random() * 0.02)
        await self._engine.cancel(run_id)
        self._log("cancelled", run_id)

    async def _left(self, number: int) -> None:
        """Have one that still waits when this process ends."""
        run_id = await self._engine.submit(endless, key=self._key(number))
        self._log("submitted", run_id, "endless", 0)

    async def _limited(self, number: int) -> None:
        run_id = await self._engine.submit(limited, key=self._key(number))
        self._log("submitted", run_id, "limited", 0)
        await self._failed(run_id)

    async def _mailed(self, number: int) -> None:
        """Have one that others send to."""
        letters = WRITERS * LETTERS
        box = await self._engine.submit(mailbox, letters=letters, key=self._key(number))
        self._log("submitted", box, "mailbox", letters)
        for first in writers():
            run_id = await submit_mailer(self._engine, box, first)
            self._log("submitted", run_id, "mailer", first)
        await self._ended(box)

    async def _led(self, number: int) -> None:
        """Have one with children."""
        run_id = await self._engine.submit(leading, children=CHILDREN, key=self._key(number))
        self._log("submitted", run_id, "leading", CHILDREN)
        await self._ended(run_id)

    async def _spoilt(self, number: int) -> None:
        run_id = await self._engine.submit(spoilt, key=self._key(number))
        self._log("submitted", run_id, "spoilt", 0)
        await self._failed(run_id)

    async def _failed(self, run_id: str) -> None:
        try:
            await self._engine.get(run_id)
            raise AssertionError("it was to fail")
        except (AssertionError, EngineClosed, JournalError):
            # That is no end of the run: it goes on elsewhere.
            raise
        except Exception as error:
            self._log("ended", run_id, "failed", type(error).__name__)


def writers() -> range:
    """Return the number of the first letter of each run that sends to a mailbox."""
    return range(0, WRITERS * LETTERS, LETTERS)


async def submit_mailer(engine: Engine, box: str, first: int) -> str:
    """Have a run that sends letters from this one on; it is the same one each time."""
    return await engine.submit(mailer, box=box, first=first, key=f"{box} {first}")


def messages(count: int) -> list[tuple[str, object]]:
    """Return what is sent to a run of so many jobs, and the names of the sendings, in order."""
    pokes = [(f"poke {number}", Poke(number=number, jobs=count)) for number in range(POKES)]
    return [*pokes, *[(f"answer {number}", Answer(number=number)) for number in range(ANSWERS)]]


async def execute(task: Task) -> None:
    """Do what the task says."""
    log = Log(Path(task.log), task.name)
    flows.write_to(log)
    engine = Engine(
        task.url,
        workflows=ALL,
        durability=task.durability,  # type: ignore[arg-type]
        lease=task.lease,
        history="full",
        keep=None if task.keep is None else timedelta(seconds=task.keep),
    )
    async with engine:
        log("opened")
        await Client(engine, log, task).go()
        # From here on others may go on with what is left.
        log("over", task.name)
    failpoints: Callable[[], dict[str, int]] | None = getattr(treadle._treadle, "failpoints", None)
    if failpoints is not None:
        log("passed", failpoints())


def main() -> None:
    """Do what the command line says."""
    asyncio.run(execute(Task(**json.loads(sys.argv[1]))))

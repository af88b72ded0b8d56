"""Steps that run in other processes, in a module that those can import."""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from treadle import Retry, StartEvent, StepProcessDied, StopEvent, step


class Unpicklable(Exception):
    """An exception that cannot be pickled."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")
        self.lock = threading.Lock()


class Work(StartEvent):
    """What to do, and with what."""

    what: str
    arguments: tuple[Any, ...] = ()


@step(process=True, retry=Retry(attempts=3, initial=0.001, on=StepProcessDied))
def work(ev: Work) -> StopEvent:
    """Do what the event says, in another process."""
    return StopEvent(result=_WORK[ev.what](*ev.arguments))


@step(process=True)
def work_by_keyword(*, ev: Work) -> StopEvent:
    """Take the event by keyword."""
    return StopEvent(result=ev.what)


@step(process=True, timeout=1.0)
def work_with_limit(ev: Work) -> StopEvent:
    """Do the same within a second."""
    return work(ev)


def _hang(folder: Path) -> None:
    (folder / f"{os.getpid()}").touch()
    time.sleep(600)


def _die(folder: Path, times: int) -> int:
    tries = len(list(folder.iterdir()))
    (folder / f"try-{tries}").touch()
    if tries < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return tries


def _raise(error: BaseException) -> None:
    raise error


_WORK = {
    "pid": os.getpid,
    "hang": _hang,
    "die": _die,
    "exit": lambda: sys.exit(3),
    "exit at once": lambda: os._exit(3),
    "raise": _raise,
    "raise what cannot be pickled": lambda: _raise(Unpicklable(1, 2)),
    "return what cannot be pickled": threading.Lock,
    "sleep": time.sleep,
    "burn": lambda number: sum(range(number)),
    "echo": lambda *arguments: arguments,
    "interrupt": lambda: signal.raise_signal(signal.SIGINT),
}

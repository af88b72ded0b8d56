"""Processes that share a journal with a test, which stops each of them by its own id."""

import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

HERE = Path(__file__).parent
HEAD = """
import asyncio, os, sys, time
from treadle import *
from durable_work import *
path = sys.argv[1]
def say(*words): print(*words, flush=True)
def url_of(path): return path if "://" in path else f"sqlite:///{path}"
def here(**options):
    return Engine(url_of(path), workflows=ALL, **{"lease": 1, **options})
"""


class Process:
    """A Python process. It says lines, and is killed in the end."""

    def __init__(self, path: Path | str, source: str, hash_seed: int | str = "random") -> None:
        command = [sys.executable, "-X", "faulthandler", "-c", HEAD + textwrap.dedent(source), path]
        environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
        self._popen = subprocess.Popen(command, cwd=HERE, env=environment, stdout=subprocess.PIPE)
        self.pid = self._popen.pid
        self._said = b""

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *raised: object) -> None:
        self.kill()

    def line(self, seconds: float = 20) -> str:
        """Return the next line that it says."""
        assert self._popen.stdout is not None
        until = time.monotonic() + seconds
        while b"\n" not in self._said:
            left = until - time.monotonic()
            assert left > 0, f"it said nothing but {self._said!r}"
            if select.select([self._popen.stdout], [], [], left)[0]:
                more = os.read(self._popen.stdout.fileno(), 65536)
                assert more, f"it ended with {self._popen.wait(5)} after {self._said!r}"
                self._said += more
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def signal(self, which: signal.Signals) -> None:
        os.kill(self.pid, which)

    def wait(self, seconds: float = 20) -> int:
        """Wait for its end; return its exit code."""
        return self._popen.wait(seconds)

    def kill(self) -> None:
        """Kill it, if it is still there."""
        if self._popen.poll() is None:
            self.signal(signal.SIGKILL)
        self._popen.wait(5)
        if self._popen.stdout is not None:
            self._popen.stdout.close()

"""What processes were promised, and what their steps did: a log outside of any journal.

A line is a JSON array: a time (of the clock that all processes of a machine share), who wrote it, a
word, and what the word needs:

- opened; killing; over: a process can be used; it is about to be killed; it was killed, was frozen
  or has ended.
- started, submitted, sent, ended, read, retrying, retried, cancelled, deleting, deleted: of runs.
  What is in the past tense was acknowledged by the engine.
- child: a body of a child begins: its parent, its number and its run.
- begins, raises: a body of a step begins, or ends by an exception of its own.
"""

import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple


class Line(NamedTuple):
    at: float
    by: str
    word: str
    rest: tuple[Any, ...]


class Log:
    """A log that one process, or several, write to."""

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self._path = path
        self._lines: list[Line] = []
        self._read = 0
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def __call__(self, word: str, *rest: object) -> None:
        """Write a line whole: the kernel appends it even if the process is killed right after."""
        line = json.dumps([time.monotonic(), self.name, word, *rest])
        os.write(self._file, (line + "\n").encode())

    def lines(self) -> list[Line]:
        """Read what everybody has written, in order."""
        # Each line is read once: while a process is waited for, it must not have run for long.
        with open(self._path, "rb") as file:
            file.seek(self._read)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        for at, by, word, *rest in map(json.loads, whole.splitlines()):
            self._lines.append(Line(at, by, word, tuple(rest)))
        return list(self._lines)

    def wait_for(self, by: str, word: str, count: int = 1, seconds: float = 30) -> list[Line]:
        """Wait until somebody has written so many lines with this word; return them."""
        until = time.monotonic() + seconds
        found: list[Line] = []
        seen = 0
        while len(found) < count:
            lines = self.lines()
            found += [it for it in lines[seen:] if (it.by, it.word) == (by, word)]
            seen = len(lines)
            assert time.monotonic() < until, f"{by} wrote {word!r} {len(found)} times, not {count}"
            time.sleep(0.002)
        return found

    def close(self) -> None:
        os.close(self._file)

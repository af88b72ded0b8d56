"""Sessions of a terminal, as pages print them: commands, output, processes that are killed."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

SECONDS = 40
PROGRAMS = {
    "python": ["-W", "error"],
    "pytest": ["-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio"],
}
KILLED = re.compile(r"timeout -s KILL \S+ ")


class Command(NamedTuple):
    """One line of input, and the lines that it prints."""

    text: str
    printed: list[str]

    @property
    def is_killed(self) -> bool:
        return self.printed[-1:] == ["Killed"]


def commands(session: str) -> list[Command]:
    """Split a session into its commands."""
    found: list[Command] = []
    for line in session.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:], []))
        else:
            found[-1].printed.append(line)
    return found


def matches(expected: list[str], printed: list[str]) -> bool:
    """Compare lines; an `…` in an expected line stands for any text."""
    patterns = [".*".join(map(re.escape, line.split("…"))) for line in expected]
    return len(patterns) == len(printed) and all(map(re.fullmatch, patterns, printed))


def play(session: str, directory: Path) -> None:
    """Run the commands of a session in a directory, and compare what they print.

    A command that prints `Killed` at the end gets SIGKILL once it has printed the lines before. One
    that ends with `&` goes on in the background, and is terminated at the end of the session.
    """
    background: list[subprocess.Popen[str]] = []
    try:
        for command in commands(session):
            if command.text.endswith("&"):
                background.append(_start(command.text.rstrip("& "), directory))
            elif command.is_killed:
                _play_killed(command, directory)
            else:
                process = _start(command.text, directory)
                printed, errors = process.communicate(timeout=SECONDS)
                assert matches(command.printed, printed.splitlines()), f"{printed}\n{errors}"
                assert errors == "", errors
    finally:
        for process in background:
            process.terminate()
            process.communicate(timeout=SECONDS)


def _play_killed(command: Command, directory: Path) -> None:
    expected = command.printed[:-1]
    with _start(KILLED.sub("", command.text), directory) as process:
        assert process.stdout is not None
        printed = [process.stdout.readline().rstrip("\n") for _ in expected]
        process.kill()
        assert matches(expected, printed), (expected, printed)
        assert process.wait(SECONDS) == -9


def _start(command: str, directory: Path) -> "subprocess.Popen[str]":
    name, *arguments = command.split()
    # As in a terminal, each line is printed at once.
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(directory)}
    return subprocess.Popen(
        [sys.executable, *PROGRAMS[name], *arguments],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

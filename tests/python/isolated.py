"""Running a script in a Python of its own: for what may crash, hang or leave threads behind."""

import os
import subprocess
import sys
import textwrap

HEAD = """
import asyncio, contextlib, gc, logging, threading, time, weakref
from treadle import *
class A(Event):
    n: int = 0
class B(Event):
    n: int = 0
"""


def run_script(code: str, *, timeout: float = 6, debug: bool = False, noise: bool = False) -> str:
    """Return what the script prints; fail if it hangs, crashes or (unless `noise`) logs errors."""
    source = HEAD + textwrap.dedent(code)
    environment = {
        **os.environ,
        "PYTHONASYNCIODEBUG": "1" if debug else "",
        "PYTHONFAULTHANDLER": "1",
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", source],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as hung:
        raise AssertionError(f"hung for {timeout} s; stdout: {hung.stdout!r}") from None
    assert done.returncode == 0, (
        f"exit code {done.returncode}\n{done.stdout}\n{done.stderr[-3000:]}"
    )
    if noise:
        return done.stdout.strip()
    assert "Task was destroyed" not in done.stderr, done.stderr
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    return done.stdout.strip()

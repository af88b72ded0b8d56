"""What a run that waits costs, as growth of the process's resident memory."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from time import perf_counter


def resident() -> int:
    """Resident bytes of this process, after a collection and with free heap pages returned."""
    gc.collect()
    if not sys.platform.startswith("linux"):
        raise OSError("resident memory is read from /proc, which only Linux has")
    with suppress(AttributeError):  # a C library other than glibc
        ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def waiting(
    engine: Callable[[int], AsyncGenerator[None, None]], runs: int
) -> dict[str, float]:
    """Bytes per run while it waits and still held after all have ended; seconds per run to start
    them and to answer them."""
    async for _ in engine(100):
        pass
    before = resident()
    begin = perf_counter()
    during = before
    started = begin
    async for _ in engine(runs):
        started = perf_counter()
        during = resident()
        answered = perf_counter()
    ended = perf_counter()
    await asyncio.sleep(0.5)  # what the engines still have to do after a result is given
    after = resident()
    return {
        "bytes": (during - before) / runs,
        "kept": (after - before) / runs,
        "start": (started - begin) / runs,
        "answer": (ended - answered) / runs,
    }

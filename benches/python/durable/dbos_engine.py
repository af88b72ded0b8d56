"""DBOS on SQLite."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path


async def one_after_another(path: Path, runs: int) -> float:
    """A workflow of three steps, each recorded."""
    return await _measure(path, runs, at_once=False)


async def at_once(path: Path, runs: int) -> float:
    """The same, all at once."""
    return await _measure(path, runs, at_once=True)


async def _measure(path: Path, runs: int, at_once: bool) -> float:
    from dbos import DBOS

    url = f"sqlite:///{path / 'dbos.sqlite'}"
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "CRITICAL"})

    @DBOS.step()
    async def work(n: int) -> int:
        return n

    @DBOS.workflow()
    async def chain(n: int) -> int:
        for _ in range(3):
            n = await work(n)
        return n

    DBOS.launch()
    try:
        await chain(0)
        begin = time.perf_counter()
        if at_once:
            await asyncio.gather(*[chain(n) for n in range(runs)])
        else:
            for n in range(runs):
                await chain(n)
        return time.perf_counter() - begin
    finally:
        DBOS.destroy()

"""Written by hand over `sqlite3`: what a user would have without an engine."""

from __future__ import annotations

import asyncio
import pickle
import queue
import sqlite3
import tempfile
import threading
import time
from pathlib import Path

INSERT = "INSERT INTO log VALUES (?, ?, ?)"


def opened(path: Path) -> sqlite3.Connection:
    """A new database with the settings of a journal."""
    connection = sqlite3.connect(path / "log.db", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(
        "CREATE TABLE log (run INT, seq INT, body BLOB, PRIMARY KEY (run, seq)) WITHOUT ROWID"
    )
    return connection


async def _step(number: int) -> int:
    return number


async def one_after_another(path: Path, runs: int) -> float:
    """Four commits a run: its start, and each of three steps."""
    connection = opened(path)
    begin = time.perf_counter()
    for run in range(runs):
        value = run
        connection.execute(INSERT, (run, 0, pickle.dumps(value)))
        for seq in (1, 2, 3):
            value = await _step(value)
            connection.execute(INSERT, (run, seq, pickle.dumps(value)))
    seconds = time.perf_counter() - begin
    connection.close()
    return seconds


async def at_once(path: Path, runs: int) -> float:
    """The same with a thread that puts everything that waits into one transaction."""
    connection = opened(path)
    loop = asyncio.get_running_loop()
    waiting: queue.SimpleQueue[tuple[tuple[int, int, bytes], asyncio.Future[None]] | None]
    waiting = queue.SimpleQueue()

    def done(futures: list[asyncio.Future[None]]) -> None:
        for future in futures:
            future.set_result(None)

    def write() -> None:
        while (first := waiting.get()) is not None:
            batch = [first]
            while not waiting.empty() and (item := waiting.get()) is not None:
                batch.append(item)
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(INSERT, [row for row, _ in batch])
            connection.execute("COMMIT")
            loop.call_soon_threadsafe(done, [future for _, future in batch])

    async def one(run: int) -> None:
        value = run
        for seq in range(4):
            if seq:
                value = await _step(value)
            future = loop.create_future()
            waiting.put(((run, seq, pickle.dumps(value)), future))
            await future

    writer = threading.Thread(target=write)
    writer.start()
    begin = time.perf_counter()
    await asyncio.gather(*[one(run) for run in range(runs)])
    seconds = time.perf_counter() - begin
    waiting.put(None)
    writer.join()
    connection.close()
    return seconds


def plain_commits(commits: int = 1000, batches: int = 200, rows: int = 256) -> tuple[float, float]:
    """Commits a second with one row each, and rows a second in batches."""
    with tempfile.TemporaryDirectory() as directory:
        connection = opened(Path(directory))
        begin = time.perf_counter()
        for seq in range(commits):
            connection.execute(INSERT, (0, seq, b"x" * 100))
        single = commits / (time.perf_counter() - begin)
        begin = time.perf_counter()
        for run in range(1, batches + 1):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(INSERT, [(run, seq, b"x" * 100) for seq in range(rows)])
            connection.execute("COMMIT")
        batched = batches * rows / (time.perf_counter() - begin)
        connection.close()
    return single, batched

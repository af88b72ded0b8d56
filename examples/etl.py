"""Extract, transform, load: 10,000 items, with retries and progress. A killed job continues.

    python examples/etl.py
    python examples/etl.py --items 500 --journal other.db

Kill it and start it again: no finished item is repeated.

The items are worked on 200 at a time. One in fifty fails at first, as a service on the network
does, and gets another attempt. The join loads everything in one transaction at the end; loading
it again after a crash replaces the same rows.
"""

import argparse
import asyncio
import sqlite3
from collections.abc import AsyncIterator
from typing import Any

from treadle import Context, Engine, Event, Lagged, Retry, StartEvent, StopEvent, Workflow, step


class Job(StartEvent):
    items: int
    target: str


class Row(Event):
    number: int


class Clean(Event):
    number: int
    square: int


class Done(Event):
    number: int


@step
async def extract(ctx: Context, ev: Job) -> list[Row]:
    """Fan out: one event for each item."""
    ctx.set("items", ev.items)
    ctx.set("target", ev.target)
    return [Row(number=number) for number in range(ev.items)]


@step(concurrency=200, retry=Retry(attempts=4, initial=0.01, on=ConnectionError))
async def transform(ctx: Context, ev: Row) -> Clean:
    """Work on one item; here the work is a short wait, and a failure of every fiftieth item."""
    await asyncio.sleep(0.001)
    if ev.number % 50 == 0 and ctx.attempt == 1:
        raise ConnectionError(f"item {ev.number}: the service is busy")
    ctx.write_event_to_stream(Done(number=ev.number))
    return Clean(number=ev.number, square=ev.number**2)


@step
async def load(ctx: Context, ev: Clean) -> StopEvent | None:
    """Join: keep each item once, and load when all are there."""
    rows = ctx.collect_events(ev, expected(ctx.get("items")))
    if rows is None:
        return None
    await asyncio.to_thread(write, ctx.get("target"), rows)
    return StopEvent(result=sum(row.square for row in rows))


def expected(items: int) -> list[type]:
    """Return the list for `collect_events`: the same object each time, which is quick."""
    return _EXPECTED.setdefault(items, [Clean] * items)


_EXPECTED: dict[int, list[type]] = {}


def write(target: str, rows: list[Clean]) -> None:
    """Load the rows in one transaction."""
    with sqlite3.connect(target) as database:
        database.execute("CREATE TABLE IF NOT EXISTS squares (number INTEGER PRIMARY KEY, square)")
        database.executemany(
            "INSERT OR REPLACE INTO squares VALUES (?, ?)",
            [(row.number, row.square) for row in rows],
        )
    database.close()


job = Workflow("etl", [extract, transform, load])


async def main(items: int, journal: str, target: str) -> None:
    """Start the job, or continue it, and print its progress and its result."""
    async with Engine(f"sqlite:///{journal}", workflows=[job]) as engine:
        key = f"{items} items to {target}"
        run_id = await engine.submit(job, items=items, target=target, key=key)
        before = (await engine.get(run_id).info()).published
        await show_progress(engine.stream_events(run_id), items, before)
        print("sum of squares:", await engine.get(run_id))


async def show_progress(events: AsyncIterator[Any], items: int, before: int) -> None:
    """Print each tenth. The events before are those of a process that was killed.

    A body that runs again publishes again, so each number is counted once.
    """
    done: set[int] = set()
    number = shown = 0
    async for ev in events:
        if isinstance(ev, Lagged):
            number += ev.missed
            continue
        number += 1
        done.add(ev.number)
        tenth = 10 * len(done) // items
        if number >= before and tenth > shown:
            shown = tenth
            print(f"{shown}0 %", flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="A durable job over many items.")
    arguments.add_argument("--items", type=int, default=10_000)
    arguments.add_argument("--journal", default="etl.db")
    arguments.add_argument("--target", default="squares.db")
    asyncio.run(main(**vars(arguments.parse_args())))

"""A process that transfers money between accounts in durable runs, until it is killed."""

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import psycopg

from treadle import Context, Engine, Retry, StartEvent, StopEvent, Workflow, step

# Where the accounts are, and by which package they are reached; of this process.
URL = ""
DRIVER = "psycopg"

TAKE = "UPDATE accounts SET balance = balance - {amount} WHERE id = {source}"
GIVE = "UPDATE accounts SET balance = balance + {amount} WHERE id = {target}"
NOTE = "INSERT INTO transfers (number) VALUES ({number})"


@asynccontextmanager
async def connected() -> AsyncIterator[Any]:
    if DRIVER == "psycopg":
        async with await psycopg.AsyncConnection.connect(URL) as connection:
            yield connection
        return
    connection = await asyncpg.connect(URL)
    try:
        yield connection
    finally:
        await connection.close(timeout=1)


async def move(connection: Any, number: int, source: int, target: int, amount: int) -> int:
    """Carry out a transfer over a connection that is in a transaction."""
    statements = [TAKE, GIVE] if source < target else [GIVE, TAKE]
    for statement in [*statements, NOTE]:
        values = {"number": number, "source": source, "target": target, "amount": amount}
        await connection.execute(statement.format(**values))
        await asyncio.sleep(random.random() * 0.01)
    return number


@step(retry=Retry(20, initial=0.01))
async def transfer(ctx: Context, ev: StartEvent) -> StopEvent:
    async with connected() as connection:
        given = (ev.number, ev.source, ev.target, ev.amount)
        number = await ctx.transaction("transfer", connection, move, *given)
    await asyncio.sleep(random.random() * 0.02)
    return StopEvent(result=number)


@step(retry=Retry(20, initial=0.01))
async def transfer_plainly(ctx: Context, ev: StartEvent) -> StopEvent:
    async with connected() as connection, connection.transaction():
        number = await move(connection, ev.number, ev.source, ev.target, ev.amount)
    # Long enough that some of the kills come between the two commits.
    await asyncio.sleep(0.05 + random.random() * 0.1)
    return StopEvent(result=number)


transfers = Workflow("transfers", [transfer])
plain_transfers = Workflow("plain transfers", [transfer_plainly])


async def execute(journal: str, database: str, driver: str) -> None:
    """Execute transfers until the process is killed."""
    global URL, DRIVER
    URL, DRIVER = database, driver
    options: dict[str, Any] = {"lease": 1, "concurrency": 8, "max_recoveries": None}
    async with Engine(journal, workflows=[transfers, plain_transfers], **options):
        print("open", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Do what the command line says."""
    asyncio.run(execute(*json.loads(sys.argv[1])))

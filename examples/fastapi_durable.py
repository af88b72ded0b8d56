"""A web service whose orders go on when one of its processes is killed: runs in PostgreSQL.

    export JOURNAL=postgresql://app@localhost/app TREADLE_SECRET=a-secret-of-all-processes
    python -m uvicorn fastapi_durable:app --app-dir examples --workers 2
    curl -X POST 'http://127.0.0.1:8000/orders/7?amount=12'
    curl 'http://127.0.0.1:8000/orders/7'

Any process answers for any order, whichever executes it.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException

from treadle import Context, Engine, Event, KeyConflict, StartEvent, StopEvent, Workflow, step


class Order(StartEvent):
    number: int
    amount: int
    seconds: float = 0.5


class Paid(Event):
    receipt: str


async def charge(number: int, amount: int, seconds: float) -> str:
    """Charge a card, or pretend to: it takes its time."""
    await asyncio.sleep(seconds)
    return f"order {number}: {amount} paid"


@step
async def pay(ctx: Context, ev: Order) -> Paid:
    """Charge once; a process that goes on with the order is given the receipt."""
    return Paid(receipt=await ctx.once("charge", charge, ev.number, ev.amount, ev.seconds))


@step
async def ship(ev: Paid) -> StopEvent:
    """Say which process has shipped it."""
    return StopEvent(result={"receipt": ev.receipt, "shipped_by": os.getpid()})


orders = Workflow("orders", [pay, ship])
engine = Engine(os.environ.get("JOURNAL", "memory:"), workflows=[orders], lease=2)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep the engine open as long as the process serves."""
    async with engine:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/orders/{number}", status_code=202)
async def order(number: int, amount: int, seconds: float = 0.5) -> dict[str, Any]:
    """Take an order: it is on disk when this answers, and the same one when it is sent again."""
    start = Order(number=number, amount=amount, seconds=seconds)
    try:
        run_id = await engine.submit(orders, start, key=str(number))
    except KeyConflict as error:
        raise HTTPException(409, str(error)) from error
    return {"run": run_id, "taken_by": os.getpid()}


@app.get("/orders/{number}")
async def status(number: int) -> dict[str, Any]:
    """Say how far an order is."""
    handle = await engine.find(orders, str(number))
    if handle is None:
        raise HTTPException(404, f"there is no order {number}")
    info = await handle.info()
    result = await handle if info.status == "completed" else None
    return {"status": info.status, "result": result, "owner": info.owner}

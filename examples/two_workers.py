"""A web service of two processes on one journal. A killed process loses no order.

    python -m uvicorn two_workers:app --app-dir examples --workers 2
    curl -X POST http://127.0.0.1:8000/orders/order-42
    curl http://127.0.0.1:8000/orders/order-42

Each process opens the engine, and each may execute any run. Kill one of them: its runs continue
in the other one at once, and uvicorn starts a new process. The answer to a request does not wait
for the order.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException

from treadle import Context, Engine, Event, StartEvent, StopEvent, Workflow, step


class Charged(Event):
    order: str


@step
async def charge(ctx: Context, ev: StartEvent) -> Charged:
    """The idempotency key makes a repeated charge the same charge."""
    await asyncio.sleep(0.2)
    ctx.set("charge", ctx.idempotency_key)
    return Charged(order=ev.order)


@step
async def ship(ctx: Context, ev: Charged) -> StopEvent:
    """Take some time, in which the process may be killed."""
    await ctx.sleep(0.5)
    return StopEvent(result={"order": ev.order, "shipped_by": os.getpid()})


orders = Workflow("orders", [charge, ship])
engine = Engine(os.environ.get("JOURNAL", "sqlite:///orders.db"), workflows=[orders])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the engine with the process, and hand its runs back at the end."""
    async with engine:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/orders/{name}", status_code=202)
async def order(name: str) -> dict[str, Any]:
    """Accept an order. It is on disk when this answers; the same name is the same order."""
    run_id = await engine.submit(orders, order=name, key=name)
    return {"run": run_id, "accepted_by": os.getpid()}


@app.get("/orders/{name}")
async def state(name: str) -> dict[str, Any]:
    """Tell how an order stands, whichever process executes it."""
    for info in await engine.runs(workflow="orders"):
        if info.key == name:
            result = await engine.get(info.id) if info.status == "completed" else None
            return {"status": info.status, "result": result}
    raise HTTPException(404, f"no order {name!r}")

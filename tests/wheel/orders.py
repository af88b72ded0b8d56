"""A durable run whose process is killed in the middle. The second process completes it."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from treadle import Context, Engine, Event, StartEvent, StopEvent, Workflow, step

KILLED = Path("killed")


class Paid(Event):
    """The order is paid."""

    order: int


@step
async def pay(ctx: Context, event: StartEvent) -> Paid:
    """Take the money."""
    ctx.set("paid", ctx.get("paid", 0) + 1)
    return Paid(order=event.order)


@step(inline=True)
def ship(ctx: Context, event: Paid) -> StopEvent:
    """Ship, in the second life of the process."""
    if not KILLED.exists():
        KILLED.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return StopEvent(result=(event.order, ctx.get("paid")))


async def main() -> None:
    """Request the run by its key, and print its result."""
    orders = Workflow("orders", [pay, ship])
    async with Engine(sys.argv[1], workflows=[orders]) as engine:
        print(await engine.run(orders, order=7, key="order-7"))


asyncio.run(main())

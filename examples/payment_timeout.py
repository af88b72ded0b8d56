"""An order that is paid in time or cancelled. The time passes while no process runs, too.

    python examples/payment_timeout.py order order-42 --seconds 60
    python examples/payment_timeout.py pay order-42

Kill the first command and start it again: the order still ends at the moment that was set first.
"""

import argparse
import asyncio

from treadle import Context, Engine, Event, StartEvent, StopEvent, WaitTimeout, Workflow, step


class Order(StartEvent):
    name: str
    seconds: float


class Reserved(Event):
    name: str
    seconds: float


class Payment(Event):
    euros: int


class Unpaid(Event):
    name: str


@step
async def reserve(ev: Order) -> Reserved:
    """Take the goods from the stock."""
    print("reserved", ev.name, flush=True)
    return Reserved(name=ev.name, seconds=ev.seconds)


@step
async def wait_for_payment(ctx: Context, ev: Reserved) -> StopEvent | Unpaid:
    """Wait until the payment or the deadline. A body that runs again has the same deadline."""
    print("waiting", flush=True)
    try:
        payment = await ctx.wait_for_event(Payment, timeout=ev.seconds)
    except WaitTimeout:
        return Unpaid(name=ev.name)
    return StopEvent(result=f"{ev.name}: {payment.euros} euros received")


@step
async def release(ev: Unpaid) -> StopEvent:
    """Put the goods back: the compensation of `reserve`."""
    print("released", ev.name, flush=True)
    return StopEvent(result=f"{ev.name}: not paid in time")


orders = Workflow("orders", [reserve, wait_for_payment, release])


async def order(journal: str, name: str, seconds: float) -> None:
    """Start the run of an order, or continue it, and print its result."""
    async with Engine(f"sqlite:///{journal}", workflows=[orders]) as engine:
        print(await engine.run(orders, name=name, seconds=seconds, key=name))


async def pay(journal: str, name: str, euros: int) -> None:
    """Send a payment to the run of an order, as the webhook of a payment service would."""
    async with Engine(f"sqlite:///{journal}") as engine:
        for info in await engine.runs(workflow="orders"):
            if info.key == name and info.finished is None:
                await engine.send_event(info.id, Payment(euros=euros), id=f"payment of {name}")
                print("paid")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Orders with a limit for the payment.")
    arguments.add_argument("action", choices=["order", "pay"])
    arguments.add_argument("name")
    arguments.add_argument("--seconds", type=float, default=60, help="the time to pay (60)")
    arguments.add_argument("--euros", type=int, default=30)
    arguments.add_argument("--journal", default="orders.db")
    given = arguments.parse_args()
    if given.action == "order":
        asyncio.run(order(given.journal, given.name, given.seconds))
    else:
        asyncio.run(pay(given.journal, given.name, given.euros))

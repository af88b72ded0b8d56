"""A saga across three runs: a trip books a flight and a hotel, each in a run of its own.

    python examples/saga_of_runs.py          no hotel is available: the flight is cancelled
    python examples/saga_of_runs.py --hotel  everything is booked

Kill it at any moment and start it again: each booking is made once, and is undone once.
"""

import argparse
import asyncio
import sqlite3
from contextlib import closing

from treadle import Context, Engine, Retry, StartEvent, StopEvent, Workflow, step


class Booking(StartEvent):
    what: str
    is_available: bool


class Cancellation(StartEvent):
    what: str


class Trip(StartEvent):
    has_hotel: bool


class SoldOut(Exception):
    pass


def agency() -> sqlite3.Connection:
    """Open the agency's book: it knows a booking by its idempotency key."""
    book = sqlite3.connect("agency.db", timeout=10)
    book.execute(
        "CREATE TABLE IF NOT EXISTS bookings"
        " (key TEXT PRIMARY KEY, what TEXT, is_cancelled INTEGER DEFAULT 0)"
    )
    return book


@step(retry=Retry(attempts=2, initial=0.05, unless=(SoldOut,)))
async def book(ctx: Context, ev: Booking) -> StopEvent:
    """A run that books one thing."""
    if not ev.is_available:
        raise SoldOut(f"no {ev.what} is available")
    with closing(agency()) as bookings, bookings:
        row = (ctx.idempotency_key, ev.what)
        bookings.execute("INSERT OR IGNORE INTO bookings (key, what) VALUES (?, ?)", row)
    print(ev.what, "booked", flush=True)
    await asyncio.sleep(0.1)
    return StopEvent(result=ctx.idempotency_key)


@step(retry=Retry(attempts=5, initial=0.05))
async def cancel(ctx: Context, ev: Cancellation) -> StopEvent:
    """A run that undoes one booking. It may be done again without harm."""
    with closing(agency()) as bookings, bookings:
        bookings.execute("UPDATE bookings SET is_cancelled = 1 WHERE what = ?", (ev.what,))
    print(ev.what, "cancelled", flush=True)
    await asyncio.sleep(0.1)
    return StopEvent()


booking = Workflow("booking", [book])
cancellation = Workflow("cancellation", [cancel])


@step
async def travel(ctx: Context, ev: Trip) -> StopEvent:
    """The saga: forward step by step, and backward from where a child failed."""
    done: list[str] = []
    try:
        for what, is_available in (("flight", True), ("hotel", ev.has_hotel)):
            await ctx.run(booking, Booking(what=what, is_available=is_available))
            done.append(what)
    except SoldOut as error:
        for what in reversed(done):
            # The compensation is to be done also if somebody cancels the trip meanwhile.
            await ctx.run(cancellation, Cancellation(what=what), on_parent_end="detach")
        return StopEvent(result=f"no trip: {error}")
    return StopEvent(result="booked: " + " and ".join(done))


trip = Workflow("trip", [travel])


async def main() -> None:
    """Begin the trip, or continue it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hotel", action="store_true")
    has_hotel = parser.parse_args().hotel
    workflows = [trip, booking, cancellation]
    async with Engine("sqlite:///trips.db", workflows=workflows) as engine:
        print(await engine.run(trip, Trip(has_hotel=has_hotel), key="summer"))


if __name__ == "__main__":
    asyncio.run(main())

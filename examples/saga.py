"""A saga: book a flight, a hotel and a car; if one fails, cancel the earlier ones in reverse order.

    python examples/saga.py          no car is available: hotel and flight are cancelled
    python examples/saga.py --car    everything is booked

Kill it at any moment and start it again: it continues forward, or with its compensations. The
agency takes an idempotency key, so a booking that a repeated body makes again is the same
booking.
"""

import argparse
import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

from treadle import Context, Engine, Event, Retry, StartEvent, StepFailed, StopEvent, Workflow, step


class Trip(StartEvent):
    has_car: bool
    agency: str


class FlightBooked(Event):
    flight: str


class HotelBooked(Event):
    flight: str
    hotel: str


class CancelHotel(Event):
    flight: str
    hotel: str
    reason: str


class CancelFlight(Event):
    flight: str
    reason: str


@step
async def book_flight(ctx: Context, ev: Trip) -> FlightBooked:
    """The first step. A failure here has nothing to undo."""
    ctx.set("agency", ev.agency)
    ctx.set("has_car", ev.has_car)
    return FlightBooked(flight=await book(ctx, "flight"))


@step(on_error="hotel_failed")
async def book_hotel(ctx: Context, ev: FlightBooked) -> HotelBooked:
    """If it fails, the flight is to be cancelled."""
    return HotelBooked(flight=ev.flight, hotel=await book(ctx, "hotel"))


@step(on_error="car_failed", retry=Retry(attempts=2, initial=0.05))
async def book_car(ctx: Context, ev: HotelBooked) -> StopEvent:
    """If it fails twice, hotel and flight are to be cancelled."""
    if not ctx.get("has_car"):
        raise LookupError("no car is available")
    return StopEvent(result=f"booked: {ev.flight}, {ev.hotel}, {await book(ctx, 'car')}")


@step
async def hotel_failed(ev: StepFailed) -> CancelFlight:
    """Begin the compensation of a flight."""
    return CancelFlight(flight=ev.event.flight, reason=str(ev.error))


@step
async def car_failed(ev: StepFailed) -> CancelHotel:
    """Begin the compensations of hotel and flight."""
    return CancelHotel(flight=ev.event.flight, hotel=ev.event.hotel, reason=str(ev.error))


# A compensation must succeed in the end, so it has many attempts.
PERSISTENT = Retry(attempts=1_000, initial=0.1, max=60)


@step(retry=PERSISTENT)
async def cancel_hotel(ctx: Context, ev: CancelHotel) -> CancelFlight:
    """Undo `book_hotel`."""
    await cancel(ctx, ev.hotel)
    return CancelFlight(flight=ev.flight, reason=ev.reason)


@step(retry=PERSISTENT)
async def cancel_flight(ctx: Context, ev: CancelFlight) -> StopEvent:
    """Undo `book_flight`."""
    await cancel(ctx, ev.flight)
    return StopEvent(result=f"no trip: {ev.reason}")


STEPS: list[Callable[..., Any]] = [
    book_flight,
    book_hotel,
    book_car,
    hotel_failed,
    car_failed,
    cancel_hotel,
    cancel_flight,
]
trip = Workflow("trip", STEPS)


async def book(ctx: Context, what: str) -> str:
    """Book something. The same key gives the same booking."""
    await asyncio.sleep(0.1)
    with closing(sqlite3.connect(ctx.get("agency"))) as agency, agency:
        agency.execute("CREATE TABLE IF NOT EXISTS bookings (key PRIMARY KEY, what, is_cancelled)")
        agency.execute(
            "INSERT OR IGNORE INTO bookings VALUES (?, ?, 0)", (ctx.idempotency_key, what)
        )
    print(what, "booked", flush=True)
    return what


async def cancel(ctx: Context, what: str) -> None:
    """Cancel a booking. Twice does no harm."""
    await asyncio.sleep(0.1)
    with closing(sqlite3.connect(ctx.get("agency"))) as agency, agency:
        agency.execute("UPDATE bookings SET is_cancelled = 1 WHERE what = ?", (what,))
    print(what, "cancelled", flush=True)


async def main(car: bool, journal: str, agency: str) -> None:
    """Start the trip, or continue it, and print its result."""
    async with Engine(f"sqlite:///{journal}", workflows=[trip]) as engine:
        print(await engine.run(trip, has_car=car, agency=agency, key="trip to Rome"))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="A trip of three bookings, all or none.")
    arguments.add_argument("--car", action="store_true", help="a car is available")
    arguments.add_argument("--journal", default="saga.db")
    arguments.add_argument("--agency", default="agency.db")
    asyncio.run(main(**vars(arguments.parse_args())))

"""Workflows whose runs and snapshots are kept in `fixtures/`, as an earlier version wrote them.

The fixtures name these classes and steps: they must stay as they are.
"""

from decimal import Decimal
from pathlib import Path
from typing import Any

from treadle import Context, Event, Retry, StartEvent, StopEvent, Workflow, step

FIXTURES = Path(__file__).parent / "fixtures"
# What the snapshots are signed with.
SECRET = b"the secret of the snapshots that are fixtures"

BLOB = bytes(range(256))
PRICE = Decimal("19.90")
# The input of the run that has a key.
KEYED_INPUT: dict[str, Any] = {"number": 7, "tags": ["a", "b"], "price": PRICE}


class Order(Event):
    number: int
    price: Decimal
    blob: bytes


class Answer(Event):
    number: int
    price: Decimal


class Progress(Event):
    done: int
    price: Decimal
    blob: bytes


class Part(Event):
    number: int
    pair: tuple[int, int]


class Receipt(StopEvent):
    order: int
    price: Decimal


class OutOfStock(Exception):
    pass


# Whether the runs that failed may succeed.
MENDED = {"is": False}


@step
async def take_order(ctx: Context, ev: StartEvent) -> Order:
    keep_values(ctx)
    ctx.write_event_to_stream(Progress(done=1, price=PRICE, blob=BLOB))
    return Order(number=ev.number, price=PRICE, blob=BLOB)


@step
async def bill(ctx: Context, ev: Order) -> Receipt:
    ctx.write_event_to_stream(Progress(done=2, price=ev.price, blob=ev.blob))
    return Receipt(order=ev.number, price=ev.price)


def keep_values(ctx: Context) -> None:
    ctx.set("text", "käse")
    ctx.set("price", PRICE)
    ctx.set("blob", BLOB)
    ctx.set("buffer", bytearray(BLOB))


def kept_values(ctx: Context) -> list[object]:
    return [ctx.get(key) for key in ("text", "price", "blob", "buffer")]


@step
async def give_back(ev: StartEvent) -> StopEvent:
    return StopEvent(result=ev.result)


@step
async def pick(ctx: Context, ev: StartEvent) -> StopEvent:
    keep_values(ctx)
    if not MENDED["is"]:
        raise OutOfStock("nothing left", PRICE)
    return StopEvent(result=kept_values(ctx))


@step
async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
    keep_values(ctx)
    ctx.increment("bodies")
    ctx.write_event_to_stream(Progress(done=1, price=PRICE, blob=BLOB))
    first = await ctx.wait_for_event(Answer)
    ctx.write_event_to_stream(Progress(done=2, price=PRICE, blob=BLOB))
    second = await ctx.wait_for_event(Answer)
    answers = [(first.number, first.price), (second.number, second.price)]
    return StopEvent(result=(answers, kept_values(ctx), ctx.get("bodies")))


@step(retry=Retry(attempts=2, backoff="constant", initial=1, jitter=0))
async def stumble(ctx: Context, ev: StartEvent) -> StopEvent:
    keep_values(ctx)
    if ctx.attempt == 1:
        raise ConnectionError("stumbled")
    return StopEvent(result=(ctx.attempt, ev.price, kept_values(ctx)))


@step
async def nap(ctx: Context, ev: StartEvent) -> StopEvent:
    await ctx.sleep(1)
    return StopEvent(result=ev.price)


@step
async def send_parts(ctx: Context, ev: StartEvent) -> None:
    for number in range(2):
        ctx.send_event(Part(number=number, pair=(number, number)))
    answer = await ctx.wait_for_event(Answer)
    ctx.send_event(Part(number=answer.number, pair=(answer.number, answer.number)))


@step
async def gather(ctx: Context, ev: Part) -> StopEvent | None:
    parts = ctx.collect_events(ev, [Part] * 3)
    return None if parts is None else StopEvent(result=[(part.number, part.pair) for part in parts])


orders = Workflow("orders", [take_order, bill])
results = Workflow("results", [give_back])
picking = Workflow("picking", [pick])
asking = Workflow("asking", [ask])
stumbling = Workflow("stumbling", [stumble])
napping = Workflow("napping", [nap])
gathering = Workflow("gathering", [send_parts, gather])
ALL = [orders, results, picking, asking, stumbling, napping, gathering]

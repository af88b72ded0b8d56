"""Workflows with histories of several parts, for the tests of those."""

from typing import Any

from treadle import Context, Engine, Event, Retry, StartEvent, StopEvent, Workflow, step

# A checkpoint is due after 64 KiB of records: a history of this many steps has several parts.
ROUNDS = 24
SIZE = 12_000


class Round(Event):
    number: int
    price: float = 0.5


class Go(Event):
    number: int


class Price(Event):
    """An event of another module's class, which is pickled whole."""

    def __reduce__(self) -> Any:
        return (Price, ())


@step
async def begin(ctx: Context, ev: StartEvent) -> Round:
    ctx.set("opaque", {1, 2})
    ctx.set("binary", b"\x00\xff")
    return Round(number=0)


@step
async def turn(ctx: Context, ev: Round) -> Round | StopEvent:
    ctx.set("number", ev.number)
    ctx.set("filled", f"{ev.number}:".ljust(SIZE, "x"))
    if ev.number % 2:
        ctx.set("odd", ev.number)
    elif "odd" in ctx:
        ctx.delete("odd")
    ctx.write_event_to_stream(Go(number=ev.number))
    if ev.number == ROUNDS:
        return StopEvent(result=ev.price)
    return Round(number=ev.number + 1, price=ev.price)


turns = Workflow("turns", [begin, turn])


@step
async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
    ctx.set("asked", True)
    got = await ctx.wait_for_event(Go, timeout=3600)
    return StopEvent(result=got.number)


asks = Workflow("asks", [ask])


@step(retry=Retry(3, initial=3600, max=3600))
async def fails(ctx: Context, ev: StartEvent) -> StopEvent:
    raise ValueError("no")


failing = Workflow("failing", [fails])


@step
async def parent(ctx: Context, ev: StartEvent) -> StopEvent:
    return StopEvent(result=await ctx.run(asks))


parents = Workflow("parents", [parent])


@step
async def sleeps(ctx: Context, ev: StartEvent) -> StopEvent:
    await ctx.sleep(3600)
    return StopEvent(result=await ctx.wait_for_event(Go))


sleeping = Workflow("sleeping", [sleeps])

ALL = [turns, asks, failing, parents, sleeping]


def engine_on(url: str, **options: Any) -> Engine:
    given = {"workflows": ALL, "history": "full", **options}
    return Engine(url, **given)

"""Forks that change what the other run had: keys of its state, and events that are pending."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
import pytest_asyncio
from journals import POSTGRES, journal_url

from treadle import Context, Engine, Event, StartEvent, StopEvent, UnknownRun, Workflow, step
from treadle.engine.edits import fits


class Order(Event):
    number: int
    lines: list[str]
    price: float = 1.0
    mode: Literal["new", "old"] = "new"


class Whole(Event):
    number: int

    def __reduce__(self) -> Any:
        return (_whole, (self.number,))


def _whole(number: int) -> Whole:
    return Whole(number=number)


@step
async def take(ctx: Context, ev: StartEvent) -> Order:
    ctx.set("customer", "Ada")
    ctx.set("old", 1)
    return Order(number=1, lines=["a"])


@step
async def ship(ctx: Context, ev: Order) -> Whole:
    calls = await ctx.once("call", lambda: ev.number * 10)
    ctx.set("called", calls)
    return Whole(number=calls)


@step
async def close(ctx: Context, ev: Whole) -> StopEvent:
    return StopEvent(result=(ctx.get("customer"), "old" in ctx, ev.number))


orders = Workflow("orders", [take, ship, close])


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return journal_url(request.param, request, tmp_path)


@pytest_asyncio.fixture
async def engine(url: str) -> AsyncIterator[Engine]:
    async with Engine(url, workflows=[orders]) as engine:
        yield engine


async def queued(engine: Engine, run_id: str, step: str) -> tuple[int, int]:
    """Return the record that queued an event for a step, and the number of the delivery."""
    for line in await engine.get(run_id).history():
        if line["what"] == "queued" and line["step"] == step:
            return line["seq"], line["delivery"]
    raise AssertionError(step)


@pytest_asyncio.fixture
async def run_id(engine: Engine) -> str:
    run = engine.run(orders)
    assert await run == ("Ada", True, 10)
    return run.id


async def test_a_fork_has_other_keys(engine: Engine, run_id: str):
    at, _ = await queued(engine, run_id, "ship")
    fork = await engine.fork(run_id, at=at, state={"customer": {"name": "Bo"}}, remove=["old"])
    assert await fork == ({"name": "Bo"}, False, 10)
    assert await engine.get(run_id) == ("Ada", True, 10), "the other run stays as it is"


async def test_a_fork_has_another_event(engine: Engine, run_id: str):
    at, delivery = await queued(engine, run_id, "ship")
    fork = await engine.fork(run_id, at=at, events={delivery: {"number": 7}})
    assert await fork == ("Ada", True, 70)
    first = next(line for line in await fork.history() if line["what"] == "queued")
    assert json.loads(first["fields"]["lines"]["json"]) == ["a"], "other fields stay"
    whole = await engine.fork(run_id, at=at, events={delivery: Order(number=8, lines=[])})
    assert await whole == ("Ada", True, 80)


async def test_a_step_whose_event_changed_calls_anew(engine: Engine, run_id: str):
    lines = await engine.get(run_id).history()
    _, delivery = await queued(engine, run_id, "ship")
    memo = next(line["seq"] for line in lines if line["what"] == "memo")
    kept = await engine.fork(run_id, at=memo, state={"customer": "Cy"})
    assert await kept == ("Cy", True, 10)
    anew = await engine.fork(run_id, at=memo, events={delivery: {"number": 5}})
    assert await anew == ("Ada", True, 50)


async def test_an_event_that_is_stored_as_a_whole_is_replaced_by_another_one(
    engine: Engine, run_id: str
):
    at, delivery = await queued(engine, run_id, "close")
    fork = await engine.fork(run_id, at=at, events={delivery: Whole(number=3)})
    assert await fork == ("Ada", True, 3)
    with pytest.raises(ValueError, match=r"Whole of delivery \d+ is stored as a whole"):
        await engine.fork(run_id, at=at, events={delivery: {"number": 3}})


@pytest.mark.parametrize(
    ("edit", "error", "says"),
    [
        ({"nomber": 3}, TypeError, "no field 'nomber'; its fields are: lines, mode, number, price"),
        ({"number": "3"}, TypeError, "Order.number of delivery 2 is int, not '3'"),
        ({"number": True}, TypeError, "is int, not True"),
        ({"lines": ["a", 2]}, TypeError, r"is list\[str\], not"),
        ({"mode": "other"}, TypeError, "Literal"),
        (Order(number="4", lines=[]), TypeError, "Order.number"),  # type: ignore[arg-type]
        (
            Whole(number=4),
            ValueError,
            "has an event of class .*Order, and one of .*Whole was given",
        ),
        (4, TypeError, "an event, or a dict of fields"),
    ],
)
async def test_an_edit_that_does_not_fit_is_refused(
    engine: Engine, run_id: str, edit: Any, error: type, says: str
):
    at, delivery = await queued(engine, run_id, "ship")
    assert delivery == 2
    before = len(await engine.runs())
    with pytest.raises(error, match=says):
        await engine.fork(run_id, at=at, events={delivery: edit})
    assert len(await engine.runs()) == before


async def test_a_delivery_that_is_not_pending_is_refused_with_those_that_are(
    engine: Engine, run_id: str
):
    at, _ = await queued(engine, run_id, "ship")
    with pytest.raises(ValueError, match=r"no delivery 9 is pending there; these are: 2"):
        await engine.fork(run_id, at=at, events={9: {"number": 1}})
    with pytest.raises(TypeError, match="the number of a delivery expected, not 'x'"):
        await engine.fork(run_id, at=at, events={"x": {}})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="'a' is both set and removed"):
        await engine.fork(run_id, at=at, state={"a": 1}, remove=["a"])
    with pytest.raises(TypeError, match="a list of keys expected"):
        await engine.fork(run_id, at=at, remove="a")
    with pytest.raises(UnknownRun):
        await engine.fork("00000000-0000-7000-8000-000000000000", state={"a": 1})


async def test_an_engine_without_the_workflow_checks_what_is_stored(url: str):
    if url == "memory:":
        pytest.skip("a journal of one process")
    async with Engine(url, workflows=[orders]) as engine:
        run = engine.run(orders)
        await run
        at, delivery = await queued(engine, run.id, "ship")
    async with Engine(url) as engine:
        with pytest.raises(ValueError, match=r'has no field "size"; its fields are: .*number'):
            await engine.fork(run.id, at=at, events={delivery: {"size": 1}})
        fork = await engine.fork(run.id, at=at, events={delivery: {"number": 6}})
    async with Engine(url, workflows=[orders]) as engine:
        assert await engine.get(fork.id) == ("Ada", True, 60)


@pytest.mark.parametrize(
    ("value", "hint", "does"),
    [
        (1, float, True),
        (True, float, False),
        (None, int | None, True),
        ("a", int | None, False),
        ((1, "a"), tuple[int, str], True),
        ((1,), tuple[int, str], False),
        ((1, 2), tuple[int, ...], True),
        ({"a": 1}, dict[str, int], True),
        ({1: 1}, dict[str, int], False),
        ("ab", list[str], False),
        (object(), Any, True),
        (1, "unresolved", True),
    ],
)
def test_a_value_fits_its_annotation(value: Any, hint: Any, does: bool):
    assert fits(value, hint) is does

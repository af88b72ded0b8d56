"""Snapshots: what they hold, what they are signed with, and what is refused."""

import asyncio
import dataclasses

import pytest
from pydantic import BaseModel

from treadle import (
    Context,
    Event,
    IncompatibleSnapshot,
    InvalidSignature,
    Lagged,
    RunEnded,
    SnapshotError,
    StartEvent,
    StepFailed,
    StopEvent,
    UnsignedValue,
    UnstorableValue,
    Workflow,
    step,
)
from treadle.testing import ManualClock

SECRET = "a secret of the tests"
OTHER = "another secret, also long"


class Go(Event):
    number: int = 0


class Model(BaseModel):
    name: str


@dataclasses.dataclass
class Plain:
    name: str
    tags: tuple[str, ...]


@step
async def keep(ctx: Context, ev: StartEvent) -> StopEvent:
    for key, value in vars(ev).items():
        ctx.set(key, value)
    ctx.write_event_to_stream(Go())
    go = await ctx.wait_for_event(Go)
    return StopEvent(result=(go.number, dict(ctx.state)))


holder = Workflow("holder", [keep])


async def snapshot_of(state: dict, secret=None) -> bytes:
    run = holder.run(**state)
    awaiting = asyncio.ensure_future(run)
    await asyncio.sleep(0.01)
    try:
        return await run.snapshot(secret=secret)
    finally:
        awaiting.cancel()


async def test_values_of_every_tag_come_back():
    state = {
        "json": {"a": [1, -0.0, None, "ü"]},
        "int": 2**63 - 1,
        "text": "a\nb",
        "none": None,
        "bytes": b"\x00\xff",
        "array": bytearray(b"ab"),
        "tuple": (1, {2}),
        "model": Model(name="Ada"),
    }
    resumed = holder.resume(await snapshot_of(state, SECRET), secret=SECRET)
    resumed.send_event(Go(number=7))
    number, found = await resumed
    assert number == 7
    assert found == state
    assert [type(value) for value in found.values()] == [type(value) for value in state.values()]


async def test_a_snapshot_of_json_and_binary_needs_no_secret():
    resumed = holder.resume(await snapshot_of({"a": 1, "b": b"x"}))
    resumed.send_event(Go())
    assert await resumed == (0, {"a": 1, "b": b"x"})


async def test_a_megabyte_costs_a_megabyte():
    assert len(await snapshot_of({"page": b"x" * 1_000_000})) < 1_000_000 * 2.01
    run = holder.run()
    awaiting = asyncio.ensure_future(run)
    await asyncio.sleep(0.01)
    small = len(await run.snapshot())
    assert small < 400
    awaiting.cancel()


async def test_an_opaque_value_is_not_stored_without_a_secret():
    with pytest.raises(UnsignedValue, match="TREADLE_SECRET") as raised:
        await snapshot_of({"pair": (1, 2)})
    assert "tuple" in str(raised.value)


async def test_secrets_are_rotated(monkeypatch: pytest.MonkeyPatch):
    old = await snapshot_of({"pair": (1, 2)}, SECRET)
    for secret in ([OTHER, SECRET], [SECRET.encode()], SECRET):
        assert holder.check(old, secret=secret) == []
    monkeypatch.setenv("TREADLE_SECRET", f"{OTHER.replace(' ', '-')} {SECRET.replace(' ', '-')}")
    by_environment = await snapshot_of({"pair": (1, 2)})
    assert holder.check(by_environment) == []
    assert holder.check(by_environment, secret=OTHER.replace(" ", "-")) == []
    with pytest.raises(InvalidSignature, match="another secret"):
        holder.check(by_environment, secret=SECRET)


@pytest.mark.parametrize("secret", [None, OTHER])
async def test_a_signed_snapshot_needs_its_secret(secret):
    signed = await snapshot_of({"pair": (1, 2)}, SECRET)
    with pytest.raises((UnsignedValue, InvalidSignature)):
        holder.resume(signed, secret=secret)


async def test_a_secret_admits_no_unsigned_snapshot():
    unsigned = await snapshot_of({"a": 1})
    with pytest.raises(InvalidSignature, match="not signed"):
        holder.resume(unsigned, secret=SECRET)


async def test_a_short_secret_is_refused():
    with pytest.raises(ValueError, match="at least 16 bytes"):
        await snapshot_of({}, "short")
    with pytest.raises(TypeError, match="secret"):
        await snapshot_of({}, [1])


@pytest.mark.parametrize("bad", [b"", b"treadle", b"\x00" * 100, bytearray(b"xyz")])
async def test_what_is_no_snapshot_is_refused(bad):
    with pytest.raises(SnapshotError):
        holder.resume(bad)
    with pytest.raises(TypeError, match="bytes expected"):
        holder.resume("text")


async def test_a_run_that_is_over_has_no_snapshot():
    run = holder.run()
    awaiting = asyncio.ensure_future(run)
    await asyncio.sleep(0)
    run.send_event(Go())
    await awaiting
    with pytest.raises(RunEnded):
        await run.snapshot()


async def test_a_reader_of_a_run_that_goes_on_begins_where_the_run_does():
    resumed = holder.resume(await snapshot_of({}))
    reader = resumed.stream_events()
    assert reader.position == 1
    resumed.send_event(Go())
    assert [event async for event in reader] == [Go()]
    assert reader.position == 2
    assert [event async for event in resumed.stream_events()] == [Go()]


async def test_a_reader_of_a_run_that_goes_on_is_told_what_it_lacks_if_it_asks_for_it():
    resumed = holder.resume(await snapshot_of({}))
    resumed.send_event(Go())
    events = [event async for event in resumed.stream_events(after=0)]
    await resumed
    assert isinstance(events[0], Lagged)
    assert events[0].missed == 1
    assert events[1:] == [Go()]


async def test_the_time_limit_of_the_run_stays_where_it_was():
    workflow = Workflow("holder", [keep], timeout=100)
    with ManualClock() as clock:
        run = workflow.run()
        await clock.advance(60)
        snapshot = await run.snapshot()
        resumed = workflow.resume(snapshot)
        await clock.advance(30)
        assert resumed.status == "waiting"
        await clock.advance(11)
        with pytest.raises(TimeoutError):
            await resumed
        with pytest.raises(TimeoutError):
            await run


async def test_a_paused_run_goes_on_when_it_is_resumed():
    run = holder.run(a=1)
    awaiting = asyncio.ensure_future(run)
    await asyncio.sleep(0.01)
    await run.pause()
    run.send_event(Go(number=3))
    snapshot = await run.snapshot()
    awaiting.cancel()
    assert await holder.resume(snapshot) == (3, {"a": 1})


async def test_events_of_any_class_are_kept():
    @step
    async def begin(ev: StartEvent) -> list[Model | Plain]:
        return [Model(name="a"), Plain("b", ("c",))]

    @step
    async def take(ctx: Context, ev: Model | Plain) -> StopEvent | None:
        await ctx.sleep(10)
        both = ctx.collect_events(ev, [Model, Plain])
        return StopEvent(result=both) if both else None

    workflow = Workflow("any", [begin, take])
    with ManualClock() as clock:
        run = workflow.run()
        await clock.advance(1)
        resumed = workflow.resume(await run.snapshot(secret=SECRET), secret=SECRET)
        run.cancel()
        await clock.advance(10)
        assert await resumed == [Model(name="a"), Plain("b", ("c",))]


async def test_an_event_that_cannot_be_stored_is_named():
    class Live(Event):
        handle: object

    @step
    async def begin(ev: StartEvent) -> Live:
        return Live(handle=asyncio.get_running_loop())

    @step
    async def take(ctx: Context, ev: Live) -> StopEvent:
        await ctx.sleep(10)
        return StopEvent()

    run = Workflow("live", [begin, take]).run()
    awaiting = asyncio.ensure_future(run)
    await asyncio.sleep(0.01)
    with pytest.raises(UnstorableValue, match="field handle of event"):
        await run.snapshot(secret=SECRET)
    awaiting.cancel()


async def test_a_failure_that_does_not_pickle_is_kept_as_text():
    class Odd(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a} {b}")

    @step
    async def fail(ev: StartEvent) -> StopEvent:
        raise Odd(1, 2)

    @step
    async def rescue(ctx: Context, ev: StepFailed) -> StopEvent:
        await ctx.sleep(10)
        return StopEvent(result=str(ev.error))

    workflow = Workflow("odd", [fail, rescue])
    with ManualClock() as clock:
        run = workflow.run()
        await clock.advance(1)
        resumed = workflow.resume(await run.snapshot(secret=SECRET), secret=SECRET)
        run.cancel()
        await clock.advance(10)
        assert "1 2" in await resumed


def version(name: str, *, accepts=None, field=None, workflow="versions") -> Workflow:
    """A version of a workflow, with a step of this name that waits."""
    body = {"__annotations__": {"number": int}, "__module__": __name__, "__qualname__": "Job"}
    if field is not None:
        body["__annotations__"]["extra"] = int
        body.update(field)
    job = type("Job", (Event,), body)

    async def begin(ev: StartEvent):
        return job(number=1)

    begin.__annotations__["return"] = job

    async def work(ctx: Context, ev):
        await ctx.sleep(10)
        return StopEvent(result=(type(ev).__name__, vars(ev)))

    work.__annotations__ |= {"ev": accepts or job, "return": StopEvent}
    work.__name__ = name
    return Workflow(workflow, [step(begin), step(work)])


async def at_work(workflow: Workflow) -> bytes:
    run = workflow.run()
    awaiting = asyncio.ensure_future(run)
    await asyncio.sleep(0.01)
    snapshot = await run.snapshot()
    awaiting.cancel()
    return snapshot


@pytest.mark.parametrize(
    ("later", "fields"),
    [
        (version("work"), {"number": 1}),
        (version("renamed"), {"number": 1}),
        (version("work", field={"extra": 5}), {"number": 1, "extra": 5}),
    ],
)
async def test_the_next_version_of_the_code_goes_on(later, fields):
    snapshot = await at_work(version("work"))
    assert later.check(snapshot) == []
    with ManualClock() as clock:
        resumed = later.resume(snapshot)
        await clock.advance(100_000_000)
        assert await resumed == ("Job", fields)


class Elsewhere(Event):
    number: int


async def test_everything_that_is_in_the_way_is_listed():
    snapshot = await at_work(version("work"))
    other = Workflow("other", version("work")._graph.steps and [keep])
    with pytest.raises(IncompatibleSnapshot) as raised:
        other.resume(snapshot)
    assert raised.value.problems == [
        'it is of a run of workflow "versions", not of "other"',
    ]
    renamed = Workflow("versions", [keep])
    problems = renamed.check(snapshot)
    assert len(problems) == 1
    assert "Job" in problems[0]
    assert "no step names a class of that name" in problems[0]
    with pytest.raises(IncompatibleSnapshot, match="no default"):
        version("work", field={}).resume(snapshot)

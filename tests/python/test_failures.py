"""What is known of a failure: here, behind a journal, and of exceptions that are hostile."""

import asyncio
import copy
import dataclasses
import inspect
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import treadle
from treadle import (
    Context,
    Engine,
    Event,
    FailureInfo,
    Retry,
    RunEnded,
    StartEvent,
    StepFailed,
    StopEvent,
    StoredError,
    UnroutedEvent,
    Workflow,
    failure_of,
    step,
)


class Plain(Exception): ...


class Page(Event):
    number: int = 0


class TextRaises(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class TextExits(Exception):
    def __str__(self) -> str:
        raise SystemExit("no text")


class TextIsInt(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class ReduceRaises(Exception):
    def __reduce__(self) -> Any:
        raise ValueError("no pickle")


class ReduceExits(Exception):
    def __reduce__(self) -> Any:
        raise SystemExit("no pickle")


class ReducesOnce(Exception):
    """Pickles the first time, and not again."""

    times = 0

    def __reduce__(self) -> Any:
        type(self).times += 1
        if type(self).times > 1:
            raise ValueError("not again")
        return (ReducesOnce, self.args)


class ReducesToOther(Exception):
    def __reduce__(self) -> Any:
        return (str, ("not an exception",))


class LoadExits(Exception):
    def __reduce__(self) -> Any:
        return (_exit, ())


def _exit() -> None:
    raise SystemExit("not read")


class OnlyArguments(Exception):
    """Pickles by its arguments, and forgets its attributes."""

    def __reduce__(self) -> Any:
        return (OnlyArguments, self.args)


class Slotted(Exception):
    __slots__ = ("code",)


class Sealed(Exception):
    """Takes no attributes and no notes."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)

    def add_note(self, note: str) -> None:
        raise AttributeError("add_note")


def local_class() -> Exception:
    class Local(Exception): ...

    return Local("of a function")


def with_notes(notes: object) -> Exception:
    error = Plain("notes")
    error.__notes__ = notes  # type: ignore[assignment]
    return error


def deep_arguments() -> Exception:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    return Plain(nested)


def cyclic_causes() -> Exception:
    one, other = Plain("one"), Plain("other")
    one.__cause__, other.__cause__ = other, one
    return one


def cyclic_arguments() -> Exception:
    error = Plain()
    error.args = (error,)
    return error


def group_of_hostile() -> Exception:
    return ExceptionGroup("group", [TextRaises(), ReduceExits(), with_notes(5)])


HOSTILE: list[Callable[[], Exception]] = [
    TextRaises,
    TextExits,
    TextIsInt,
    ReduceRaises,
    ReduceExits,
    ReducesOnce,
    ReducesToOther,
    LoadExits,
    Sealed,
    local_class,
    lambda: with_notes(5),
    lambda: with_notes([5, None, "\ud800"]),
    lambda: Plain("\ud800"),
    deep_arguments,
    cyclic_causes,
    cyclic_arguments,
    group_of_hostile,
]


async def error_of(awaited: Awaitable[object]) -> Exception:
    """Return what awaiting raises."""
    try:
        await awaited
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


bodies: list[int] = []
_make: list[Callable[[], Exception]] = []


@step
async def fail(ev: StartEvent) -> StopEvent:
    bodies.append(1)
    raise _make[0]()


failing = Workflow("failing", [fail])


@step
async def note(ev: StepFailed) -> StopEvent:
    return StopEvent(result=(type(ev.error).__name__, failure_of(ev.error)))


handled = Workflow("handled", [fail, note])


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
async def test_a_durable_run_ends_whatever_its_exception_is(
    tmp_path: Path, make: Callable[[], Exception]
) -> None:
    _make[:], bodies[:] = [make], []
    ReducesOnce.times = 0
    url = f"sqlite:///{tmp_path}/runs.db"
    async with asyncio.timeout(60), Engine(url, workflows=[failing]) as engine:
        run = engine.run(failing)
        await error_of(run)
        assert run.status == "failed"
        told = await error_of(engine.get(run.id))
        info = failure_of(told)
        assert info is not None
        assert (info.run_id, info.step) == (run.id, "fail")
    async with asyncio.timeout(60), Engine(url, workflows=[failing]) as engine:
        assert (await engine.get(run.id).info()).status == "failed"
        told_again = await error_of(engine.get(run.id))
        assert type(told_again) is type(told)
        assert failure_of(told_again) == info
    assert bodies == [1]


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
async def test_a_failure_is_handed_on_in_a_durable_run_whatever_its_exception_is(
    tmp_path: Path, make: Callable[[], Exception]
) -> None:
    _make[:], bodies[:] = [make], []
    ReducesOnce.times = 0
    async with asyncio.timeout(60):
        async with Engine(f"sqlite:///{tmp_path}/runs.db", workflows=[handled]) as engine:
            _, info = await engine.run(handled)
    assert info.step == "fail"


async def test_an_exception_that_pickles_no_more_in_another_process_is_known_by_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _make[:] = [lambda: Plain("the text")]
    url = f"sqlite:///{tmp_path}/runs.db"
    async with Engine(url, workflows=[failing]) as engine:
        run = engine.run(failing)
        with pytest.raises(Plain):
            await run
        monkeypatch.delattr(f"{__name__}.Plain")
        with pytest.raises(StoredError, match="Plain: the text") as told:
            await engine.get(run.id)
    assert told.value.__cause__ is not None
    info = failure_of(told.value)
    assert info is not None
    assert info.run_id == run.id


# Where a failure happened


@step(retry=Retry(2, initial=0))
async def stumble(ev: Page) -> StopEvent:
    raise _make[0]()


@step
async def begin(ev: StartEvent) -> Page:
    return Page()


stumbling = Workflow("stumbling", [begin, stumble])


@pytest.mark.parametrize("make", [Plain, Slotted, Sealed, OnlyArguments])
async def test_an_exception_says_where_it_was_raised(make: Callable[[], Exception]) -> None:
    _make[:] = [make]
    run = stumbling.run()
    caught = await error_of(run)
    wanted = FailureInfo(
        run_id=run.id,
        workflow="stumbling",
        step="stumble",
        attempt=2,
        event=f"{__name__}.Page",
    )
    assert failure_of(caught) == wanted
    with pytest.raises(dataclasses.FrozenInstanceError):
        wanted.step = "other"  # type: ignore[misc]


@pytest.mark.parametrize("make", [Plain, Slotted, OnlyArguments, local_class])
async def test_it_says_so_behind_a_journal(tmp_path: Path, make: Callable[[], Exception]) -> None:
    _make[:] = [make]
    async with Engine(f"sqlite:///{tmp_path}/runs.db", workflows=[stumbling]) as engine:
        run = engine.run(stumbling)
        here = await error_of(run)
        there = await error_of(engine.get(run.id))
    assert there is not here
    assert failure_of(there) == failure_of(here) is not None


@step
async def wait_and_note(ctx: Context, ev: StepFailed) -> StopEvent:
    await ctx.wait_for_event(Page)
    return StopEvent(result=failure_of(ev.error))


waiting = Workflow("waiting", [fail, wait_and_note])


@pytest.mark.parametrize("make", [Plain, OnlyArguments, local_class])
async def test_the_error_of_a_step_failed_says_so_after_a_restart(
    tmp_path: Path, make: Callable[[], Exception]
) -> None:
    _make[:] = [make]
    url = f"sqlite:///{tmp_path}/runs.db"
    async with Engine(url, workflows=[waiting]) as engine:
        run_id = engine.run(waiting).id
        while (await engine.get(run_id).info()).status != "waiting":
            await asyncio.sleep(0.01)
    async with asyncio.timeout(60), Engine(url, workflows=[waiting]) as engine:
        await engine.send_event(run_id, Page())
        info = await engine.get(run_id)
    assert (info.run_id, info.step) == (run_id, "fail")


async def test_it_says_so_after_it_was_pickled_or_copied_by_the_user() -> None:
    _make[:] = [Plain]
    with pytest.raises(Plain) as caught:
        await stumbling.run()
    info = failure_of(caught.value)
    assert failure_of(pickle.loads(pickle.dumps(caught.value))) == info
    assert failure_of(copy.copy(caught.value)) == info


async def test_each_member_of_a_group_says_where_it_was_raised() -> None:
    inner = ExceptionGroup("inner", [Plain("a"), KeyError("b")])
    _make[:] = [lambda: ExceptionGroup("outer", [inner, ValueError("c")])]
    run = stumbling.run()
    found: list[BaseException] = []
    try:
        await run
    except* (Plain, KeyError, ValueError) as group:
        found.append(group)
    while found:
        error = found.pop()
        info = failure_of(error)
        assert info is not None
        assert info.run_id == run.id
        found += getattr(error, "exceptions", ())


async def test_a_group_of_failures_of_several_runs_has_no_place_but_its_members_do() -> None:
    _make[:] = [Plain]
    runs = [stumbling.run(), stumbling.run()]
    errors = await asyncio.gather(*runs, return_exceptions=True)
    group = ExceptionGroup("both", errors)  # type: ignore[type-var]
    assert failure_of(group) is None
    infos = [failure_of(error) for error in group.exceptions]
    assert [info.run_id for info in infos if info] == [run.id for run in runs]


async def test_the_failure_of_an_awaited_run_is_that_of_the_step_that_awaits_it() -> None:
    _make[:] = [Plain]

    @step
    async def outer(ev: StartEvent) -> StopEvent:
        return StopEvent(result=await stumbling.run())

    @step
    async def outer_group(ev: StartEvent) -> StopEvent:
        async with asyncio.TaskGroup() as group:
            group.create_task(stumbling.run())  # type: ignore[arg-type]
        return StopEvent()

    with pytest.raises(Plain) as caught:
        await Workflow("outer", [outer]).run()
    info = failure_of(caught.value)
    assert info is not None
    assert info.step == "outer"
    with pytest.raises(ExceptionGroup) as grouped:
        await Workflow("outer", [outer_group]).run()
    steps = [failure_of(error) for error in (grouped.value, *grouped.value.exceptions)]
    assert [info.step for info in steps if info] == ["outer_group", "stumble"]


async def test_what_a_step_returns_wrongly_says_where_as_well() -> None:
    @step
    async def stray(ev: StartEvent):  # type: ignore[no-untyped-def]
        return Page()

    with pytest.raises(UnroutedEvent) as caught:
        await Workflow("stray", [stray]).run()
    info = failure_of(caught.value)
    assert info is not None
    assert info.step == "stray"


def test_an_exception_of_elsewhere_has_no_place() -> None:
    assert failure_of(ValueError()) is None
    forged = ValueError()
    forged.__treadle_failure__ = {"run_id": 5}  # type: ignore[attr-defined]
    assert failure_of(forged) is None
    with pytest.raises(TypeError, match="an exception expected, not 5"):
        failure_of(5)  # type: ignore[arg-type]


# The end of a run


async def ended_run() -> treadle.Run:
    @step
    async def end(ev: StartEvent) -> StopEvent:
        return StopEvent()

    run = Workflow("other", [end]).run()
    await run
    return run


@pytest.mark.parametrize("kind", ["coroutine", "thread", "inline", "async generator", "generator"])
async def test_that_another_run_is_over_fails_a_step_of_any_kind(kind: str) -> None:
    other = await ended_run()

    if kind == "coroutine":

        @step
        async def send(ctx: Context, ev: StartEvent) -> StopEvent:
            other.send_event(Page())
            return StopEvent(result="not reached")
    elif kind == "thread":

        @step
        def send(ctx: Context, ev: StartEvent) -> StopEvent:
            other.send_event(Page())
            return StopEvent(result="not reached")
    elif kind == "inline":

        @step(inline=True)
        def send(ctx: Context, ev: StartEvent) -> StopEvent:
            other.send_event(Page())
            return StopEvent(result="not reached")
    elif kind == "async generator":

        @step
        async def send(ctx: Context, ev: StartEvent) -> AsyncIterator[StopEvent]:
            other.send_event(Page())
            yield StopEvent(result="not reached")
    else:

        @step
        def send(ctx: Context, ev: StartEvent):  # type: ignore[no-untyped-def]
            other.send_event(Page())
            yield StopEvent(result="not reached")

    run = Workflow("send", [send]).run()
    with pytest.raises(RunEnded) as caught:
        await run
    assert run.status == "failed"
    assert caught.value.run_id == other.id


async def test_a_step_that_goes_on_after_it_ended_its_own_run_stops_quietly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @step
    async def generator(ev: StartEvent) -> AsyncIterator[StopEvent]:
        yield StopEvent(result="first")
        yield StopEvent(result="second")

    @step
    def in_thread(ev: StartEvent):  # type: ignore[no-untyped-def]
        yield StopEvent(result="first")
        yield StopEvent(result="second")

    @step
    async def coroutine(ctx: Context, ev: StartEvent) -> None:
        ctx.send_event(StopEvent(result="first"))
        ctx.send_event(Page())

    for body in (generator, in_thread, coroutine):
        assert await Workflow("own", [body]).run() == "first"
    assert not caplog.records


# Names


async def test_a_context_is_true_though_the_run_holds_no_key(ctx: Context) -> None:
    assert bool(ctx)
    assert len(ctx) == 0


def test_import_star_hides_no_module_of_the_standard_library() -> None:
    names: dict[str, Any] = {"inspect": inspect}
    exec("from treadle import *", names)
    assert names["inspect"] is inspect
    assert treadle.inspect is not inspect

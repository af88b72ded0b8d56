"""Each number that a user gives is checked where it enters."""

import ast
import asyncio
import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy
import pytest

import treadle
import treadle.testing
from treadle import (
    ChildRun,
    Context,
    Engine,
    Event,
    Retry,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowTimeout,
    checks,
    once,
    step,
)
from treadle.testing import ManualClock


@step
async def nothing(ev: StartEvent) -> StopEvent:
    return StopEvent()


class Never(Event):
    pass


def in_step(call: Callable[[Context], Any]) -> None:
    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        # What is awaited is given up at once: a good number may be a long time.
        given = call(ctx)
        given.close()
        return StopEvent()

    asyncio.run(_awaited(lambda: Workflow("w", [body]).run()))


async def _awaited(make: Callable[[], Any]) -> None:
    await make()


def on_engine(call: Callable[[Engine], Any]) -> None:
    async def main() -> None:
        async with Engine("memory:") as engine:
            await call(engine)

    asyncio.run(main())


def on_run(call: Callable[[Engine, str], Any]) -> None:
    async def main() -> None:
        workflow = Workflow("w", [nothing])
        async with Engine("memory:", workflows=[workflow]) as engine:
            run = engine.run(workflow)
            await run
            try:
                await call(engine, run.id)
            except ValueError as error:
                # The number is good; there is just no such record.
                if "record" not in str(error):
                    raise

    asyncio.run(main())


def starting(how: str, **options: Any) -> None:
    async def main() -> None:
        workflow = Workflow("w", [nothing])
        async with Engine("memory:", workflows=[workflow]) as engine:
            started: Any
            if how == "Workflow.run":
                started = workflow.run(**options)
            elif how == "Engine.run":
                started = engine.run(workflow, **options)
            elif how == "Engine.submit":
                started = engine.get(await engine.submit(workflow, **options))
            else:
                started = asyncio.wrap_future(engine.run_threadsafe(workflow, **options))
            # A good number may be a short time.
            await asyncio.gather(started, return_exceptions=True)

    asyncio.run(main())


def on_clock(**by: Any) -> None:
    async def main() -> None:
        with ManualClock() as clock:
            await clock.advance(**by)

    asyncio.run(main())


def on_live_run(call: Callable[[Any], Any]) -> None:
    async def main() -> None:
        run = Workflow("w", [nothing]).run()
        await run
        call(run)

    asyncio.run(main())


async def _read(events: Any) -> None:
    async for _ in events:
        pass


# The name by which a signature is found below, the argument, and a call with it.
def once_in_step(timeout: Any) -> None:
    async def at_once() -> None:
        pass

    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.once("at once", at_once, timeout=timeout)
        return StopEvent()

    asyncio.run(_awaited(lambda: Workflow("w", [body]).run()))


def child_in_step(use: Callable[[ChildRun], Any] = lambda _: None, **options: Any) -> None:
    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        child = ctx.run(Workflow("child", [nothing]), **options)
        use(child)
        with suppress(WorkflowTimeout):
            await child
        return StopEvent()

    asyncio.run(_awaited(lambda: Workflow("w", [body]).run()))


DURATIONS: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("step", "timeout"): lambda value: step(timeout=value),
    ("once", "timeout"): lambda value: once(timeout=value),
    ("Context.once", "timeout"): once_in_step,
    ("Context.run", "timeout"): lambda value: child_in_step(timeout=value),
    ("Context.run", "deadline"): lambda value: child_in_step(deadline=value),
    ("Workflow", "timeout"): lambda value: Workflow("w", [nothing], timeout=value),
    ("Workflow", "deadline"): lambda value: Workflow("w", [nothing], deadline=value),
    **{
        (how, limit): lambda value, how=how, limit=limit: starting(how, **{limit: value})
        for how in ("Workflow.run", "Engine.run", "Engine.submit", "Engine.run_threadsafe")
        for limit in ("timeout", "deadline")
    },
    ("Retry", "max"): lambda value: Retry(max=value),
    ("Retry", "total_timeout"): lambda value: Retry(total_timeout=value),
    ("Engine", "lease"): lambda value: Engine("memory:", lease=value),
    ("Context.wait_for_event", "timeout"): lambda value: in_step(
        lambda ctx: ctx.wait_for_event(Never, timeout=value)
    ),
}
DURATIONS_OR_NONE_AT_ALL: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("Retry", "initial"): lambda value: Retry(initial=value),
    ("Engine", "keep"): lambda value: Engine("memory:", keep=value),
    ("Engine.close", "grace"): lambda value: on_engine(lambda engine: engine.close(value)),
    ("Context.sleep", "seconds"): lambda value: in_step(lambda ctx: ctx.sleep(value)),
    ("ManualClock.advance", "seconds"): lambda value: on_clock(seconds=value),
}
RATIOS: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("Retry", "factor"): lambda value: Retry(factor=value),
    ("Retry", "jitter"): lambda value: Retry(jitter=value),
    ("ManualClock.advance", "minutes"): lambda value: on_clock(minutes=value),
    ("ManualClock.advance", "hours"): lambda value: on_clock(hours=value),
    ("ManualClock.advance", "days"): lambda value: on_clock(days=value),
}
COUNTS: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("Context.run", "max_depth"): lambda value: child_in_step(max_depth=value),
    ("step", "concurrency"): lambda value: step(concurrency=value),
    ("Workflow", "max_runs"): lambda value: Workflow("w", [nothing], max_runs=value),
    ("Workflow", "stream_limit"): lambda value: Workflow("w", [nothing], stream_limit=value),
    ("Retry", "attempts"): lambda value: Retry(attempts=value),
    ("Engine", "concurrency"): lambda value: Engine("memory:", concurrency=value),
    ("Engine.runs", "limit"): lambda value: on_engine(lambda engine: engine.runs(limit=value)),
    ("RunHandle.history", "limit"): lambda value: on_run(
        lambda engine, run_id: engine.get(run_id).history(limit=value)
    ),
}
POSITIONS: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("ChildRun.stream_events", "after"): lambda value: child_in_step(
        lambda child: child.stream_events(after=value)
    ),
    ("Engine", "max_recoveries"): lambda value: Engine("memory:", max_recoveries=value),
    ("Run.stream_events", "after"): lambda value: on_live_run(
        lambda run: run.stream_events(after=value)
    ),
    ("Engine.stream_events", "after"): lambda value: on_run(
        lambda engine, run_id: _read(engine.stream_events(run_id, value))
    ),
    ("RunHandle.stream_events", "after"): lambda value: on_run(
        lambda engine, run_id: _read(engine.get(run_id).stream_events(value))
    ),
    ("Engine.fork", "at"): lambda value: on_run(
        lambda engine, run_id: engine.fork(run_id, at=value)
    ),
    ("Engine.state", "at"): lambda value: on_run(
        lambda engine, run_id: engine.state(run_id, at=value)
    ),
    ("RunHandle.state", "at"): lambda value: on_run(
        lambda engine, run_id: engine.get(run_id).state(at=value)
    ),
    ("RunHandle.history", "after"): lambda value: on_run(
        lambda engine, run_id: engine.get(run_id).history(after=value)
    ),
    ("RunHandle.inspect", "at"): lambda value: on_run(
        lambda engine, run_id: engine.get(run_id).inspect(at=value)
    ),
    ("RunHandle.diff", "a"): lambda value: on_run(
        lambda engine, run_id: engine.get(run_id).diff(value, 0)
    ),
    ("RunHandle.diff", "b"): lambda value: on_run(
        lambda engine, run_id: engine.get(run_id).diff(0, value)
    ),
    **{
        (f"RunHandle.{call}", "most_bytes"): lambda value, call=call, given=given: on_run(
            lambda engine, run_id: getattr(engine.get(run_id), call)(*given, most_bytes=value)
        )
        for call, given in (("history", ()), ("inspect", ()), ("diff", (0, 0)))
    },
}
# Any number is good: it is added to what is stored. And a mapping by numbers of deliveries: those
# that are not there are refused, whatever they are.
NOT_CHECKED = {("Context.increment", "by"), ("Engine.fork", "events")}

TIMES = {**DURATIONS, **DURATIONS_OR_NONE_AT_ALL}
ALL = {**TIMES, **RATIOS, **COUNTS, **POSITIONS}
WHOLE = {**COUNTS, **POSITIONS}

NO_NUMBERS = [True, False, "1", b"1", [1], Decimal(1), Fraction(1, 2), 1j, object(), NotImplemented]
ARRAYS = [numpy.array([1]), numpy.bool_(True)]


def _table(parameters: dict[tuple[str, str], Any], values: list[Any]) -> list[Any]:
    return [
        pytest.param(argument, call, value, id=f"{where}-{argument}-{str(value)[:20]}")
        for (where, argument), call in parameters.items()
        for value in values
    ]


@pytest.mark.parametrize(("argument", "call", "value"), _table(ALL, [*NO_NUMBERS, *ARRAYS]))
def test_what_is_no_number_is_a_type_error_that_names_the_argument(
    argument: str, call: Callable[[Any], Any], value: Any
):
    with pytest.raises(TypeError, match=f"^{argument}: "):
        call(value)


@pytest.mark.parametrize(
    ("argument", "call", "value"), _table({**WHOLE, **RATIOS}, [timedelta(seconds=1)])
)
def test_a_time_is_no_number(argument: str, call: Callable[[Any], Any], value: Any):
    with pytest.raises(TypeError, match=f"^{argument}: "):
        call(value)


@pytest.mark.parametrize(
    ("argument", "call", "value"),
    [
        *_table(ALL, [-1, -(10**400), numpy.int64(-1)]),
        *_table({**COUNTS, **DURATIONS}, [0, numpy.int8(0)]),
        *_table(DURATIONS, [0.0, -0.0, timedelta(0)]),
        *_table({**TIMES, **RATIOS}, [math.nan, -math.inf, -1e300, -5e-324, numpy.float64("nan")]),
        *_table(TIMES, [timedelta(microseconds=-1), timedelta.min]),
        *_table(ALL, [10**400]),
        *_table(WHOLE, [2**64, 2**63]),
        *_table({("Engine", "lease"): TIMES["Engine", "lease"]}, [math.inf, 1e14, timedelta.max]),
        *_table(
            {key: call for key, call in ALL.items() if key[0] == "ManualClock.advance"},
            [math.inf, 1e300, 1e14],
        ),
    ],
)
def test_what_is_out_of_range_is_a_value_error_that_names_the_argument(
    argument: str, call: Callable[[Any], Any], value: Any
):
    with pytest.raises(ValueError, match=f"^{argument}: |^a clock ends"):
        call(value)


@pytest.mark.parametrize(
    ("argument", "call", "value"), _table(WHOLE, [1.0, 0.5, math.nan, math.inf, numpy.float64(1)])
)
def test_what_is_not_whole_is_a_type_error(argument: str, call: Callable[[Any], Any], value: Any):
    with pytest.raises(TypeError, match=f"^{argument}: an int expected"):
        call(value)


ENDLESS = {
    key: call
    for key, call in TIMES.items()
    if key not in {("Engine", "lease"), ("ManualClock.advance", "seconds")}
}


@pytest.mark.parametrize(
    ("argument", "call", "value"),
    [
        *_table(
            TIMES,
            [1, 0.5, 1e-300, timedelta(milliseconds=5), numpy.float64(0.5), numpy.uint8(3)],
        ),
        *_table(DURATIONS_OR_NONE_AT_ALL, [0, 0.0, -0.0, timedelta(0)]),
        *_table(ENDLESS, [math.inf, 1e300, 2**63, 2**64, timedelta.max]),
        *_table(RATIOS, [1, 1.0, numpy.float64(1)]),
        *_table({("Retry", "factor"): RATIOS["Retry", "factor"]}, [math.inf, 1e300]),
        *_table(WHOLE, [1, numpy.int64(3)]),
        *_table(POSITIONS, [0]),
    ],
)
def test_what_is_good_is_taken(argument: str, call: Callable[[Any], Any], value: Any):
    call(value)


def _numeric(annotation: str) -> bool:
    names = {node.id for node in ast.walk(ast.parse(annotation)) if isinstance(node, ast.Name)}
    return bool(names & {"float", "int", "timedelta"}) and "Callable" not in names


def _signatures() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The public functions, each with its parameters and their annotations as text."""
    stub = Path(treadle.__file__).with_name("_treadle.pyi").read_text()
    for top in ast.parse(stub).body:
        if isinstance(top, ast.ClassDef) and top.name in treadle.__all__:
            for function in top.body:
                if isinstance(function, ast.FunctionDef) and not function.name.startswith("_"):
                    arguments = function.args
                    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
                    yield (
                        f"{top.name}.{function.name}",
                        [(a.arg, ast.unparse(a.annotation)) for a in every if a.annotation],
                    )
    for module in (treadle, treadle.testing):
        for name in module.__all__:
            public = getattr(module, name)
            if not callable(public) or public.__module__ == "treadle._treadle":
                continue
            if isinstance(public, type) and (
                issubclass(public, (BaseException, Event))
                or hasattr(public, "__dataclass_fields__")
            ):
                continue
            yield name, _parameters(public)
            for method, function in inspect.getmembers(public) if isinstance(public, type) else ():
                if inspect.isfunction(function) and not method.startswith("_"):
                    yield f"{name}.{method}", _parameters(function)


def _parameters(function: Any) -> list[tuple[str, str]]:
    return [
        (parameter.name, inspect.formatannotation(parameter.annotation).strip("'"))
        for parameter in inspect.signature(function).parameters.values()
        if parameter.annotation is not parameter.empty
    ]


def test_every_number_of_the_public_interface_is_in_the_tables_above():
    found = {
        (where, argument)
        for where, parameters in _signatures()
        for argument, annotation in parameters
        if _numeric(annotation)
    }
    assert found == set(ALL) | NOT_CHECKED


def test_a_lease_that_would_wrap_around_is_refused_before_anything_is_opened():
    with pytest.raises(ValueError, match=r"lease: at most .* seconds expected"):
        Engine("memory:", lease=math.inf)


async def test_a_time_that_is_too_long_to_count_lasts_for_ever():
    @step(timeout=1e300)
    async def waits(ctx: Context, ev: StartEvent) -> StopEvent:
        got = await ctx.wait_for_event(Never, timeout=math.inf)
        return StopEvent(result=type(got).__name__)

    async with Engine(
        "memory:", workflows=[workflow := Workflow("w", [waits], timeout=2**64)]
    ) as e:
        run = e.run(workflow)
        await asyncio.sleep(0.01)
        run.send_event(Never())
        assert await run == "Never"


async def test_a_grace_that_is_no_time_leaves_the_engine_open():
    async with Engine("memory:", workflows=[workflow := Workflow("w", [nothing])]) as engine:
        with pytest.raises(TypeError, match="grace"):
            await engine.close(grace="long")  # type: ignore[arg-type]
        assert await engine.run(workflow) is None


def test_a_number_that_python_refuses_to_print_is_named_by_its_size():
    with pytest.raises(ValueError, match=r"timeout: .* a number of 33220 bits"):
        checks.duration("timeout", 10**10_000)
    with pytest.raises(ValueError, match=r"limit: at most .* a number of 33220 bits"):
        checks.whole("limit", 10**10_000)

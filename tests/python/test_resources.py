"""Resources of the scope "run": made on first use, shared, and closed before the run is over."""

import asyncio
import contextlib
import contextvars
import functools
import gc
import logging
import threading
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from isolated import run_script

from treadle import (
    Context,
    Event,
    Resource,
    RunCancelled,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowTimeout,
    step,
)


class Item(Event):
    n: int


class Done(Event):
    n: int


class Ledger:
    """What was made and what was closed, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.failures: list[BaseException | None] = []

    def note(self, line: str) -> None:
        self.lines.append(line)

    def resource(self, name: str, *needs: Any, pause: bool = True) -> Any:
        """Return a factory that is an asynchronous generator."""

        async def factory(**needed: object) -> AsyncIterator[str]:
            if pause:
                await asyncio.sleep(0)
            self.note(f"+{name}")
            try:
                yield name
            except BaseException as error:
                self.failures.append(error)
                raise
            finally:
                if pause:
                    await asyncio.sleep(0)
                self.note(f"-{name}")

        parameters = {f"need{number}": need for number, need in enumerate(needs)}
        return with_parameters(factory, parameters)


def with_parameters(factory: Any, factories: dict[str, Any]) -> Any:
    import inspect

    keyword = inspect.Parameter.KEYWORD_ONLY
    annotations = {name: Annotated[Any, Resource(other)] for name, other in factories.items()}
    factory.__signature__ = inspect.Signature(
        [inspect.Parameter(name, keyword, annotation=a) for name, a in annotations.items()]
    )
    factory.__annotations__ = annotations
    return factory


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


async def run_one(function: Any, **options: Any) -> Any:
    return await asyncio.wait_for(Workflow("w", [step(**options)(function)]).run(), 5)


# What a factory may be


def plain() -> str:
    return "plain"


async def coroutine() -> str:
    await asyncio.sleep(0)
    return "coroutine"


def generator() -> Iterator[str]:
    yield "generator"


async def asynchronous_generator() -> AsyncIterator[str]:
    await asyncio.sleep(0)
    yield "asynchronous generator"


@contextlib.contextmanager
def decorated() -> Iterator[str]:
    yield "decorated"


@contextlib.asynccontextmanager
async def asynchronously_decorated() -> AsyncIterator[str]:
    yield "asynchronously decorated"


class Database:
    def __init__(self) -> None:
        self.is_open = False

    async def __aenter__(self) -> "Database":
        self.is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.is_open = False

    def __str__(self) -> str:
        return "open" if self.is_open else "closed"


class Plain:
    def __str__(self) -> str:
        return "an object"


class Factory:
    async def __call__(self) -> str:
        return "called"

    def method(self) -> str:
        return "method"


FACTORIES = {
    plain: "plain",
    coroutine: "coroutine",
    generator: "generator",
    asynchronous_generator: "asynchronous generator",
    decorated: "decorated",
    asynchronously_decorated: "asynchronously decorated",
    Database: "open",
    Plain: "an object",
    Factory(): "called",
    Factory().method: "method",
    functools.partial(str, "partial"): "partial",
    (lambda: contextlib.nullcontext("returned")): "returned",
    (lambda: Database()): "open",
    (lambda: coroutine()): "coroutine",
}


@pytest.mark.parametrize(("factory", "shown"), FACTORIES.items(), ids=FACTORIES.values())
async def test_a_step_gets_what_the_factory_makes(factory: Any, shown: str) -> None:
    async def work(ev: StartEvent, it: Annotated[Any, Resource(factory)]) -> StopEvent:
        return StopEvent(result=str(it))

    assert await run_one(work) == shown


async def test_what_an_async_function_returns_is_not_entered() -> None:
    async def connect() -> Database:
        return Database()

    async def work(ev: StartEvent, it: Annotated[Database, Resource(connect)]) -> StopEvent:
        return StopEvent(result=it.is_open)

    assert await run_one(work) is False


async def test_a_lock_is_refused_and_says_how_to_share_it() -> None:
    lock = asyncio.Lock()

    async def work(ev: StartEvent, it: Annotated[Any, Resource(lambda: lock)]) -> StopEvent:
        return StopEvent()

    with pytest.raises(TypeError, match=r"\(Lock\).*yield it from a generator function"):
        await run_one(work)
    assert not lock.locked()


async def test_a_generator_shares_a_lock() -> None:
    lock = asyncio.Lock()

    def shared() -> Iterator[asyncio.Lock]:
        yield lock

    async def work(ev: StartEvent, it: Annotated[Any, Resource(shared)]) -> StopEvent:
        return StopEvent(result=it is lock and not it.locked())

    assert await run_one(work) is True


async def test_none_is_an_object_as_well() -> None:
    made = []

    def nothing() -> Iterator[None]:
        made.append(1)
        yield

    async def work(
        ev: StartEvent,
        a: Annotated[None, Resource(nothing)],
        b: Annotated[None, Resource(nothing)],
    ) -> StopEvent:
        return StopEvent(result=(a, b))

    assert await run_one(work) == (None, None)
    assert made == [1]


# What a step may be


async def test_a_thread_gets_resources_of_every_kind(ledger: Ledger) -> None:
    loop_thread = threading.get_ident()

    def made_here() -> int:
        return threading.get_ident()

    def work(
        ev: StartEvent,
        a: Annotated[str, Resource(ledger.resource("a"))],
        b: Annotated[int, Resource(made_here)],
    ) -> StopEvent:
        return StopEvent(result=(a, b == loop_thread, threading.get_ident() != loop_thread))

    assert await run_one(work) == ("a", True, True)
    assert ledger.lines == ["+a", "-a"]


async def test_an_inline_step_gets_resources_that_take_no_waiting() -> None:
    closed = []

    def opened(name: Annotated[str, Resource(plain)]) -> Iterator[str]:
        yield name
        closed.append(name)

    def work(ev: StartEvent, it: Annotated[str, Resource(opened)]) -> StopEvent:
        return StopEvent(result=it)

    assert await run_one(work, inline=True) == "plain"
    assert closed == ["plain"]


async def test_an_inline_step_cannot_wait_for_what_a_function_returns() -> None:
    def work(ev: StartEvent, it: Annotated[str, Resource(lambda: coroutine())]) -> StopEvent:
        return StopEvent(result=it)

    with pytest.raises(TypeError, match="takes waiting, which a step with inline=True cannot do"):
        await run_one(work, inline=True)


async def test_generators_get_resources_and_keep_them_until_they_are_done(ledger: Ledger) -> None:
    factory = ledger.resource("db")

    @step
    async def many(ev: StartEvent, db: Annotated[str, Resource(factory)]) -> AsyncIterator[Item]:
        for n in range(3):
            await asyncio.sleep(0)
            ledger.note(db)
            yield Item(n=n)

    @step
    def more(ev: Item, db: Annotated[str, Resource(factory)]) -> Iterator[Done]:
        yield Done(n=ev.n)

    @step
    async def join(ctx: Context, ev: Done) -> StopEvent | None:
        return StopEvent() if ctx.collect_events(ev, [Done] * 3) else None

    await Workflow("w", [many, more, join]).run()
    assert ledger.lines == ["+db", "db", "db", "db", "-db"]


async def test_a_method_gets_resources() -> None:
    class Flow(Workflow):
        @step
        async def work(self, ev: StartEvent, it: Annotated[str, Resource(plain)]) -> StopEvent:
            return StopEvent(result=(self.name, it))

    assert await Flow().run() == ("Flow", "plain")


async def test_parameters_come_in_any_order_and_of_any_kind() -> None:
    @step
    async def first(it: Annotated[str, Resource(plain)], ev: StartEvent, ctx: Context) -> Item:
        ctx.set("first", it)
        return Item(n=1)

    @step
    async def second(ctx: Context, /, ev: Item, *, it: Annotated[str, Resource(plain)]) -> Done:
        ctx.set("second", it)
        return Done(n=ev.n)

    @step
    async def third(
        context: Annotated[str, Resource(plain)],
        event: Annotated[str, Resource(coroutine)],
        ev: Done,
        *,
        ctx: Context,
    ) -> StopEvent:
        return StopEvent(result=[ctx.get("first"), ctx.get("second"), context, event])

    found = await Workflow("w", [first, second, third]).run()
    assert found == ["plain", "plain", "plain", "coroutine"]


async def test_a_default_is_for_whoever_calls_the_function() -> None:
    @step
    async def work(ev: StartEvent, it: Annotated[str, Resource(plain)] = "default") -> StopEvent:
        return StopEvent(result=it)

    assert await Workflow("w", [work]).run() == "plain"
    assert (await work(StartEvent())).result == "default"


async def test_what_a_partial_gives_is_not_injected() -> None:
    async def work(ev: StartEvent, it: Annotated[str, Resource(plain)]) -> StopEvent:
        return StopEvent(result=it)

    given = step(name="work")(functools.partial(work, it="given"))
    assert await Workflow("w", [given]).run() == "given"


# Made once


async def fan_out(factory: Any, count: int, *, in_thread: bool = False) -> Any:
    @step
    async def begin(ev: StartEvent) -> list[Item]:
        return [Item(n=n) for n in range(count)]

    async def work(ev: Item, it: Annotated[Any, Resource(factory)]) -> Done:
        assert it is not None
        return Done(n=id(it))

    def work_in_thread(ev: Item, it: Annotated[Any, Resource(factory)]) -> Done:
        return Done(n=id(it))

    @step
    async def join(ctx: Context, ev: Done) -> StopEvent | None:
        events = ctx.collect_events(ev, [Done] * count)
        return StopEvent(result=len({ev.n for ev in events})) if events else None

    worker = step(work_in_thread if in_thread else work)
    return await asyncio.wait_for(Workflow("fan", [begin, worker, join]).run(), 20)


async def test_a_thousand_steps_that_ask_at_once_share_one_object() -> None:
    counts: Counter[str] = Counter()

    async def connect() -> AsyncIterator[object]:
        counts["made"] += 1
        await asyncio.sleep(0.02)
        yield object()
        counts["closed"] += 1

    assert await fan_out(connect, 1000) == 1
    assert counts == {"made": 1, "closed": 1}


async def test_threads_share_one_object() -> None:
    counts: Counter[str] = Counter()

    def connect() -> Iterator[object]:
        counts["made"] += 1
        yield object()
        counts["closed"] += 1

    assert await fan_out(connect, 50, in_thread=True) == 1
    assert counts == {"made": 1, "closed": 1}


async def test_what_nobody_asks_for_is_not_made(ledger: Ledger) -> None:
    @step
    async def work(ev: StartEvent) -> StopEvent | Item:
        return StopEvent()

    @step
    async def never(ev: Item, db: Annotated[str, Resource(ledger.resource("db"))]) -> None:
        return None

    await Workflow("w", [work, never]).run()
    assert ledger.lines == []


async def test_each_run_has_its_own_object_and_each_is_closed_once() -> None:
    made: list[Any] = []
    closed: list[Any] = []

    async def connect() -> AsyncIterator[Any]:
        made.append(object())
        mine = made[-1]
        await asyncio.sleep(0)
        yield mine
        closed.append(mine)

    @step
    async def work(ev: StartEvent, db: Annotated[Any, Resource(connect)]) -> StopEvent:
        await asyncio.sleep(0)
        return StopEvent(result=db)

    workflow = Workflow("w", [work])
    results = await asyncio.gather(*(workflow.run() for _ in range(200)))
    assert len(made) == len(set(map(id, results))) == 200
    assert Counter(map(id, made)) == Counter(map(id, closed))


async def test_the_same_factory_gives_the_same_object_by_any_path() -> None:
    made: list[object] = []

    def settings() -> object:
        made.append(object())
        return made[-1]

    async def one(it: Annotated[Any, Resource(settings)]) -> Any:
        return it

    def two(it: Annotated[Any, Resource(settings, name="other")], text: str = "unused") -> Any:
        return it

    async def work(
        ev: StartEvent,
        a: Annotated[Any, Resource(settings)],
        b: Annotated[Any, Resource(one)],
        c: Annotated[Any, Resource(two)],
    ) -> StopEvent:
        return StopEvent(result=a is b is c)

    assert await run_one(work) is True
    assert len(made) == 1


# Closed


async def test_objects_are_closed_in_reverse_order_before_the_run_is_over(ledger: Ledger) -> None:
    settings = ledger.resource("settings", pause=False)
    pool = ledger.resource("pool", settings)
    client = ledger.resource("client", settings, pool)

    def file() -> Iterator[str]:
        ledger.note("+file")
        yield "file"
        ledger.note("-file")

    @step
    async def work(
        ev: StartEvent, a: Annotated[str, Resource(client)], b: Annotated[str, Resource(file)]
    ) -> StopEvent:
        ledger.note("work")
        return StopEvent()

    run = Workflow("w", [work]).run()
    await run
    assert run.status == "completed"
    assert ledger.lines == [
        *("+settings", "+pool", "+client", "+file", "work"),
        *("-file", "-client", "-pool", "-settings"),
    ]


async def test_a_run_is_running_until_its_objects_are_closed() -> None:
    may_close = asyncio.Event()

    async def connect() -> AsyncIterator[str]:
        yield "db"
        await may_close.wait()

    @step
    async def work(ev: StartEvent, db: Annotated[str, Resource(connect)]) -> StopEvent:
        return StopEvent(result=db)

    run = Workflow("w", [work]).run()
    waiting = asyncio.create_task(asyncio.wait_for(run, 5))
    await asyncio.sleep(0.02)
    assert (run.status, waiting.done()) == ("running", False)
    may_close.set()
    assert await waiting == "db"
    assert run.status == "completed"


async def test_a_failed_run_shows_its_exception_to_what_it_closes(ledger: Ledger) -> None:
    async def work(
        ev: StartEvent, db: Annotated[str, Resource(ledger.resource("db"))]
    ) -> StopEvent:
        raise LookupError(db)

    with pytest.raises(LookupError, match="db") as raised:
        await run_one(work)
    assert ledger.lines == ["+db", "-db"]
    assert ledger.failures == [raised.value]
    assert len(raised.value.__notes__) == 1


async def test_an_object_cannot_hide_the_failure_of_its_run() -> None:
    def hiding() -> Iterator[None]:
        with contextlib.suppress(LookupError):
            yield

    async def work(ev: StartEvent, it: Annotated[None, Resource(hiding)]) -> StopEvent:
        raise LookupError

    with pytest.raises(LookupError):
        await run_one(work)


@pytest.mark.parametrize("how", ["cancel", "awaiter", "timeout", "in a thread"])
async def test_a_cancelled_run_closes_its_objects_after_its_steps(how: str, ledger: Ledger) -> None:
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    factory = ledger.resource("db")

    @step
    async def wait(ev: StartEvent, db: Annotated[str, Resource(factory)]) -> StopEvent:
        try:
            begun.set()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            ledger.note(f"step with {db}")
        return StopEvent()

    @step
    def work(ev: StartEvent, db: Annotated[str, Resource(factory)]) -> StopEvent:
        loop.call_soon_threadsafe(begun.set)
        release.wait(5)
        ledger.note(f"step with {db}")
        return StopEvent()

    release = threading.Event()
    loop.call_later(0.05, release.set)
    timeout = 0.05 if how == "timeout" else None
    run = Workflow("w", [work if how == "in a thread" else wait], timeout=timeout).run()
    waiting = asyncio.create_task(asyncio.wait_for(run, 5))
    await begun.wait()
    if how == "awaiter":
        waiting.cancel()
    elif how != "timeout":
        run.cancel()
    told = {"timeout": WorkflowTimeout, "awaiter": asyncio.CancelledError}
    with pytest.raises(told.get(how, RunCancelled)):
        await waiting
    assert run.status == ("failed" if how == "timeout" else "cancelled")
    assert ledger.lines == ["+db", "step with db", "-db"]
    (failure,) = ledger.failures
    assert isinstance(failure, WorkflowTimeout if how == "timeout" else asyncio.CancelledError)


async def test_a_child_run_ends_before_the_objects_of_its_parent_are_closed(
    ledger: Ledger,
) -> None:
    @step
    async def child(
        ev: StartEvent, db: Annotated[str, Resource(ledger.resource("child"))]
    ) -> StopEvent:
        ledger.note(ev.db)
        await asyncio.sleep(60)
        return StopEvent()

    inner = Workflow("inner", [child])

    @step
    async def parent(
        ev: StartEvent, db: Annotated[str, Resource(ledger.resource("parent"))]
    ) -> StopEvent:
        inner.run(db=db)
        await asyncio.sleep(0.02)
        return StopEvent()

    await Workflow("outer", [parent]).run()
    assert ledger.lines == ["+parent", "+child", "parent", "-child", "-parent"]


async def test_a_run_that_nobody_awaits_closes_its_objects(ledger: Ledger) -> None:
    @step
    async def work(
        ev: StartEvent, db: Annotated[str, Resource(ledger.resource("db"))]
    ) -> StopEvent:
        return StopEvent()

    run = Workflow("w", [work]).run()
    async with asyncio.timeout(5):
        async for _ in run.stream_events():
            pass
    assert ledger.lines == ["+db", "-db"]


async def test_nothing_is_kept_after_the_run(ledger: Ledger) -> None:
    class Thing:
        pass

    things: list[weakref.ref[Thing]] = []

    async def make() -> AsyncIterator[Thing]:
        thing = Thing()
        things.append(weakref.ref(thing))
        yield thing

    @step
    async def work(ev: StartEvent, it: Annotated[Thing, Resource(make)]) -> StopEvent:
        return StopEvent()

    run = Workflow("w", [work]).run()
    await run
    gc.collect()
    assert [thing() for thing in things] == [None]
    assert [t.get_name() for t in asyncio.all_tasks() if "resource" in t.get_name()] == []


async def test_closing_happens_in_the_task_that_made_the_object() -> None:
    tasks = []

    async def grouped() -> AsyncIterator[asyncio.TaskGroup]:
        tasks.append(asyncio.current_task())
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            yield group
        tasks.append(asyncio.current_task())

    async def work(ev: StartEvent, group: Annotated[Any, Resource(grouped)]) -> StopEvent:
        return StopEvent(result=group.create_task(asyncio.sleep(0.01, "slept")))

    assert (await run_one(work)).result() == "slept"
    assert tasks[0] is tasks[1] is not asyncio.current_task()


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def test_an_object_is_closed_with_the_context_variables_that_it_was_made_with() -> None:
    seen = []

    def tracing() -> Iterator[str]:
        token = variable.set("of the resource")
        seen.append(variable.get())
        yield token.old_value
        variable.reset(token)

    async def tracing_too() -> AsyncIterator[str]:
        token = variable.set("of the other")
        await asyncio.sleep(0)
        yield variable.get()
        variable.reset(token)

    async def work(
        ev: StartEvent,
        a: Annotated[str, Resource(tracing)],
        b: Annotated[str, Resource(tracing_too)],
    ) -> StopEvent:
        return StopEvent(result=(a, b, variable.get()))

    variable.set("of the caller")
    assert await run_one(work) == ("of the caller", "of the other", "of the caller")


# Making fails


async def test_a_failing_factory_fails_the_step_with_its_own_exception() -> None:
    def connect() -> str:
        raise ConnectionError("refused")

    async def work(ev: StartEvent, db: Annotated[str, Resource(connect)]) -> StopEvent:
        return StopEvent()

    with pytest.raises(ConnectionError, match="refused") as raised:
        await run_one(work)
    about_resource, about_step = raised.value.__notes__
    assert about_resource == 'while making resource "connect"'
    assert about_step.startswith('in step "work"')


@pytest.mark.parametrize("is_async", [False, True])
async def test_the_next_ask_tries_again(is_async: bool, ledger: Ledger) -> None:
    attempts = []

    def connect() -> str:
        attempts.append(1)
        if len(attempts) < 3:
            raise ConnectionError(len(attempts))
        return "connected"

    async def connect_later() -> str:
        await asyncio.sleep(0)
        return connect()

    factory = connect_later if is_async else connect

    @step
    async def work(ev: StartEvent, db: Annotated[str, Resource(factory, "process")]) -> StopEvent:
        return StopEvent(result=db)

    workflow = Workflow("w", [work])
    for attempt in (1, 2):
        with pytest.raises(ConnectionError, match=str(attempt)):
            await workflow.run()
    assert await workflow.run() == "connected"
    assert len(attempts) == 3


async def test_all_who_wait_for_a_failing_factory_get_its_exception_each_its_own() -> None:
    attempts = []

    async def connect() -> str:
        attempts.append(1)
        await asyncio.sleep(0.01)
        raise ConnectionError("refused")

    @step
    async def work(ev: StartEvent, db: Annotated[str, Resource(connect, "process")]) -> StopEvent:
        return StopEvent()

    workflow = Workflow("w", [work])
    errors = await asyncio.gather(*(workflow.run() for _ in range(50)), return_exceptions=True)
    assert len(attempts) == 1
    assert {type(error) for error in errors} == {ConnectionError}
    assert len(set(map(id, errors))) == 50
    assert {len(error.__notes__) for error in errors if isinstance(error, Exception)} == {2}


async def test_an_object_that_a_failing_one_needed_is_closed(ledger: Ledger) -> None:
    async def failing(**_: object) -> str:
        raise ConnectionError

    factory = with_parameters(failing, {"pool": ledger.resource("pool")})

    async def work(ev: StartEvent, db: Annotated[str, Resource(factory)]) -> StopEvent:
        return StopEvent()

    with pytest.raises(ConnectionError):
        await run_one(work)
    assert ledger.lines == ["+pool", "-pool"]


# Making is cancelled


async def test_whoever_asked_first_can_be_cancelled_without_harm_to_others() -> None:
    attempts = []

    async def connect() -> str:
        attempts.append(1)
        await asyncio.sleep(0.05)
        return "db"

    @step
    async def work(ev: StartEvent, db: Annotated[str, Resource(connect, "process")]) -> StopEvent:
        return StopEvent(result=db)

    workflow = Workflow("w", [work])
    first, second = workflow.run(), workflow.run()
    waiting = asyncio.gather(first, second, return_exceptions=True)
    await asyncio.sleep(0.01)
    first.cancel()
    results = await waiting
    assert isinstance(results[0], RunCancelled)
    assert results[1] == "db"
    assert len(attempts) == 1


async def test_making_is_cancelled_once_nobody_waits_for_it_and_is_done_anew(
    ledger: Ledger,
) -> None:
    async def connect() -> AsyncIterator[str]:
        ledger.note("begun")
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            ledger.note("undone")
            raise
        yield "db"
        ledger.note("closed")

    @step
    async def work(ev: StartEvent, db: Annotated[str, Resource(connect, "process")]) -> StopEvent:
        return StopEvent(result=db)

    workflow = Workflow("w", [work])
    run = workflow.run()
    waiting = asyncio.create_task(asyncio.wait_for(run, 5))
    await asyncio.sleep(0.01)
    run.cancel()
    await asyncio.sleep(0.005)
    # Comes while the first one is being undone, and waits for that.
    assert await workflow.run() == "db"
    assert ledger.lines == ["begun", "undone", "begun"]
    with pytest.raises(RunCancelled):
        await waiting


async def test_a_run_that_is_cancelled_while_an_object_is_made_waits_until_that_is_undone(
    ledger: Ledger,
) -> None:
    async def connect() -> AsyncIterator[str]:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.02)
            ledger.note("undone")
        yield "db"

    @step
    async def work(
        ev: StartEvent,
        pool: Annotated[str, Resource(ledger.resource("pool"))],
        db: Annotated[str, Resource(connect)],
    ) -> StopEvent:
        return StopEvent()

    run = Workflow("w", [work]).run()
    asyncio.get_running_loop().call_later(0.02, run.cancel)
    with pytest.raises(RunCancelled):
        await run
    assert ledger.lines == ["+pool", "undone", "-pool"]


async def test_an_object_that_is_made_in_spite_of_the_cancellation_is_closed(
    ledger: Ledger,
) -> None:
    async def stubborn() -> AsyncIterator[str]:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        yield ledger.note("+db") or "db"
        ledger.note("-db")

    @contextlib.asynccontextmanager
    async def factory() -> AsyncIterator[str]:
        async with contextlib.aclosing(stubborn()) as made:
            async for db in made:
                try:
                    yield db
                finally:
                    ledger.note("-db")

    @step
    async def work(ev: StartEvent, db: Annotated[str, Resource(factory)]) -> StopEvent:
        return StopEvent()

    run = Workflow("w", [work]).run()
    asyncio.get_running_loop().call_later(0.02, run.cancel)
    with pytest.raises(RunCancelled):
        await run
    assert ledger.lines == ["+db", "-db"]


async def test_the_time_limit_of_a_step_counts_the_making(ledger: Ledger) -> None:
    async def connect() -> str:
        await asyncio.sleep(60)
        return "db"

    async def work(ev: StartEvent, db: Annotated[str, Resource(connect)]) -> StopEvent:
        return StopEvent()

    with pytest.raises(TimeoutError, match="work"):
        await run_one(work, timeout=0.02)


# Closing fails


def failing_to_close(ledger: Ledger, name: str, *, is_async: bool) -> Any:
    async def make() -> AsyncIterator[str]:
        try:
            yield name
        finally:
            ledger.note(f"-{name}")
            raise OSError(f"cannot close {name}")

    def make_at_once() -> Iterator[str]:
        try:
            yield name
        finally:
            ledger.note(f"-{name}")
            raise OSError(f"cannot close {name}")

    return make if is_async else make_at_once


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_error_of_closing_fails_a_run_that_had_completed(
    is_async: bool, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    first = failing_to_close(ledger, "first", is_async=is_async)
    second = failing_to_close(ledger, "second", is_async=is_async)

    @step
    async def work(
        ev: StartEvent, a: Annotated[str, Resource(first)], b: Annotated[str, Resource(second)]
    ) -> StopEvent:
        return StopEvent(result="lost")

    run = Workflow("w", [work]).run()
    with pytest.raises(OSError, match="cannot close second") as raised:
        await run
    assert run.status == "failed"
    assert ledger.lines == ["-second", "-first"]
    about_this, about_other = raised.value.__notes__
    assert about_this.startswith('while closing resource "make')
    assert about_other.endswith(": OSError: cannot close first")
    (record,) = [record for record in caplog.records if record.name == "treadle"]
    assert record.levelno == logging.ERROR
    with pytest.raises(OSError, match="cannot close second"):
        await run


async def test_an_error_of_closing_is_a_note_on_the_failure_of_the_run(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    factory = failing_to_close(ledger, "db", is_async=True)

    async def work(ev: StartEvent, db: Annotated[str, Resource(factory, name="db")]) -> StopEvent:
        raise LookupError

    with pytest.raises(LookupError) as raised:
        await run_one(work)
    assert 'while closing resource "db": OSError: cannot close db' in raised.value.__notes__
    assert [record.name for record in caplog.records] == ["treadle"]


async def test_an_error_of_closing_a_cancelled_run_is_logged(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    factory = failing_to_close(ledger, "db", is_async=True)

    @step
    async def work(ev: StartEvent, db: Annotated[str, Resource(factory)]) -> StopEvent:
        await asyncio.sleep(60)
        return StopEvent()

    run = Workflow("w", [work]).run()
    asyncio.get_running_loop().call_later(0.02, run.cancel)
    with pytest.raises(RunCancelled):
        await run
    assert run.status == "cancelled"
    assert [record.name for record in caplog.records] == ["treadle"]


async def test_an_outer_object_sees_that_an_inner_one_failed_to_close(ledger: Ledger) -> None:
    outer = ledger.resource("outer")
    inner = failing_to_close(ledger, "inner", is_async=True)

    async def work(
        ev: StartEvent, a: Annotated[str, Resource(outer)], b: Annotated[str, Resource(inner)]
    ) -> StopEvent:
        return StopEvent()

    with pytest.raises(OSError, match="cannot close inner") as raised:
        await run_one(work)
    assert ledger.failures == [raised.value]


# A run that cannot wait


def test_a_run_of_a_closed_loop_closes_what_takes_no_waiting_and_logs_the_rest() -> None:
    printed = run_script(
        """
import sys
from typing import Annotated

logging.basicConfig(stream=sys.stdout, format="%(name)s: %(message)s")

def file():
    try:
        yield "file"
    finally:
        print("-file")

async def connect():
    yield "db"
    print("-db")

@step
async def work(
    ev: StartEvent, a: Annotated[str, Resource(file)], b: Annotated[str, Resource(connect)]
) -> StopEvent:
    await asyncio.sleep(60)

async def main():
    run = Workflow("w", [work]).run()
    await asyncio.sleep(0.02)
    return run

loop = asyncio.new_event_loop()
run = loop.run_until_complete(main())
loop.close()
run.cancel()
print(run.status)
""",
        noise=True,
    )
    assert 'treadle: resource "connect" is not closed' in printed
    assert "-file" in printed
    assert "-db" not in printed
    assert "cancelled" in printed.splitlines()


async def test_a_run_that_the_engine_gives_up_closes_its_objects_soon(ledger: Ledger) -> None:
    loop = asyncio.get_running_loop()

    @step
    async def work(
        ev: StartEvent, db: Annotated[str, Resource(ledger.resource("db"))]
    ) -> list[Item]:
        loop.set_task_factory(refuse)
        return [Item(n=n) for n in range(3)]

    @step
    async def wait(ev: Item) -> StopEvent:
        await asyncio.sleep(60)
        return StopEvent()

    def refuse(loop: Any, coroutine: Any, **_: Any) -> Any:
        loop.set_task_factory(None)
        coroutine.close()
        raise MemoryError

    with pytest.raises(MemoryError):
        await Workflow("w", [work, wait]).run()
    async with asyncio.timeout(5):
        while ledger.lines != ["+db", "-db"]:
            await asyncio.sleep(0.01)

"""Calls that a step makes once: what a body that runs again is given, and what it calls anew."""

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import Process

import treadle
from treadle import (
    Context,
    Engine,
    Event,
    EventLoopError,
    MemoTimeout,
    OutsideStep,
    Retry,
    RunEnded,
    StartEvent,
    StopEvent,
    UnstorableValue,
    Workflow,
    once,
    step,
)

AGAIN = Retry(9, initial=0, jitter=0)


class Failed(Exception):
    """What the first body raises, so that there is a second one."""


class Calls(list[Any]):
    """Functions that note with what they were called."""

    async def echo(self, value: Any) -> Any:
        self.append(value)
        await asyncio.sleep(0)
        return value

    def plain(self, value: Any) -> Any:
        self.append(value)
        return value


Body = Callable[[Context], Any]


def twice(body: Body, bodies: int = 2) -> Workflow:
    """A step whose body runs again until it has run this many times."""

    @step(retry=AGAIN)
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        result = await body(ctx)
        if ctx.attempt < bodies:
            raise Failed
        return StopEvent(result=result)

    return Workflow("twice", [work])


@contextlib.asynccontextmanager
async def in_memory(workflow: Workflow) -> AsyncIterator[Callable[[], Any]]:
    yield workflow.run


@contextlib.asynccontextmanager
async def in_journal(workflow: Workflow) -> AsyncIterator[Callable[[], Any]]:
    async with Engine("memory:", workflows=[workflow]) as engine:
        yield lambda: engine.run(workflow)


EVERYWHERE = pytest.mark.parametrize("place", [in_memory, in_journal])


# What a body that runs again is given


@EVERYWHERE
@pytest.mark.parametrize(
    "value", [None, 5, "text", b"bytes", bytearray(b"x"), [1, {"a": 2}], (1, 2), {1: {2}}]
)
async def test_a_body_that_runs_again_is_given_what_the_call_gave(place, value: Any) -> None:
    calls = Calls()
    async with place(twice(lambda ctx: ctx.once("echo", calls.echo, value))) as run:
        given = await run()
    assert given == value
    assert type(given) is type(value)
    assert calls == [value]


@EVERYWHERE
async def test_calls_one_after_the_other_are_each_made_once(place) -> None:
    calls = Calls()

    async def body(ctx: Context) -> list[Any]:
        return [await ctx.once("ask", calls.echo, n % 2) for n in range(6)]

    async with place(twice(body, 3)) as run:
        assert await run() == [0, 1, 0, 1, 0, 1]
    assert calls == [0, 1, 0, 1, 0, 1]


@EVERYWHERE
async def test_calls_in_gather_and_in_a_task_group_are_each_made_once(place) -> None:
    calls = Calls()

    async def chain(ctx: Context, n: int) -> int:
        return await ctx.once("second", calls.echo, await ctx.once("first", calls.echo, n))

    async def body(ctx: Context) -> list[int]:
        gathered = await asyncio.gather(*(chain(ctx, n) for n in range(3)))
        same = await asyncio.gather(*(ctx.once("same", calls.echo, 7) for _ in range(3)))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ctx.once("task", calls.echo, n)) for n in range(3)]
        return [*gathered, *same, *(task.result() for task in tasks)]

    async with place(twice(body)) as run:
        assert await run() == [0, 1, 2, 7, 7, 7, 0, 1, 2]
    assert len(calls) == 12


@EVERYWHERE
async def test_workers_that_share_a_queue_make_each_call_once(place) -> None:
    calls = Calls()

    async def body(ctx: Context) -> None:
        items = asyncio.Queue[int]()
        for n in range(20):
            items.put_nowait(n)

        async def worker() -> None:
            while not items.empty():
                n = items.get_nowait()
                await ctx.once("work", calls.echo, n)
                await asyncio.sleep(0.001 * (n % 3))

        await asyncio.gather(*(worker() for _ in range(3)))

    async with place(twice(body)) as run:
        await run()
    assert sorted(calls) == list(range(20))


@EVERYWHERE
async def test_a_plain_function_is_called_in_a_thread(place) -> None:
    threads = []

    def where() -> str:
        threads.append(threading.current_thread())
        return threading.current_thread().name

    async with place(twice(lambda ctx: ctx.once("where", where))) as run:
        assert await run() == threads[0].name
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


async def test_a_function_that_only_makes_a_coroutine_is_awaited() -> None:
    calls = Calls()
    assert await twice(lambda ctx: ctx.once("x", lambda: calls.echo(5))).run() == 5
    assert calls == [5]


@EVERYWHERE
async def test_a_step_in_a_thread_makes_calls_once(place) -> None:
    calls = Calls()

    @step(retry=AGAIN)
    def work(ctx: Context, ev: StartEvent) -> StopEvent:
        result = [ctx.once_sync("ask", calls.plain, n) for n in (1, 2)]
        if ctx.attempt < 3:
            raise Failed
        return StopEvent(result=result)

    async with place(Workflow("thread", [work])) as run:
        assert await run() == [1, 2]
    assert calls == [1, 2]


@EVERYWHERE
async def test_threads_below_a_step_make_calls_once(place) -> None:
    calls = Calls()

    async def body(ctx: Context) -> list[int]:
        ask = [asyncio.to_thread(ctx.once_sync, "ask", calls.plain, n) for n in range(4)]
        return await asyncio.gather(*ask)

    async with place(twice(body)) as run:
        assert await run() == [0, 1, 2, 3]
    assert sorted(calls) == [0, 1, 2, 3]


class Part(Event):
    number: int


@EVERYWHERE
async def test_generators_make_calls_once(place) -> None:
    calls = Calls()

    @step(retry=AGAIN)
    async def begin(ctx: Context, ev: StartEvent) -> AsyncIterator[Part]:
        yield Part(number=await ctx.once("a", calls.echo, 1))
        if ctx.attempt < 2:
            raise Failed

    @step(retry=AGAIN)
    def go_on(ctx: Context, ev: Part) -> Iterator[StopEvent]:
        number = ctx.once_sync("b", calls.plain, ev.number + 1)
        if ctx.attempt < 2:
            raise Failed
        yield StopEvent(result=number)

    async with place(Workflow("generators", [begin, go_on])) as run:
        assert await run() == 2
    assert calls == [1, 2]


@EVERYWHERE
async def test_a_call_within_a_call_is_made_once(place) -> None:
    calls = Calls()

    async def body(ctx: Context) -> int:
        async def outer() -> int:
            calls.append("outer")
            inner = await ctx.once("inner", calls.echo, 1)
            if ctx.attempt < 2:
                raise Failed
            return inner + 1

        result = await ctx.once("outer", outer)
        return result + await ctx.once("next", calls.echo, 5)

    async with place(twice(body, 3)) as run:
        assert await run() == 7
    assert calls == ["outer", 1, "outer", 5]


async def test_arguments_are_compared_by_their_contents() -> None:
    calls = Calls()

    async def many(*args: Any, **kwargs: Any) -> int:
        calls.append(1)
        return len(calls)

    async def body(ctx: Context) -> int:
        turned = {"a": 1, "b": {2, 3}} if ctx.attempt == 1 else {"b": {3, 2}, "a": 1}
        return await ctx.once("x", many, [1, 2.0], turned, key=Part(number=1))

    assert await twice(body).run() == 1


@pytest.mark.parametrize("value", [None, True, 5, -1.5, "text" * 50, b"bytes"])
async def test_arguments_of_every_kind_are_known_again(value: Any) -> None:
    calls = Calls()

    async def body(ctx: Context) -> Any:
        await ctx.once("x", calls.echo, value)
        await ctx.once("y", calls.echo, value=[value])
        return await ctx.once("z", calls.echo, value=value)

    assert await twice(body, 3).run() == value
    assert len(calls) == 3


# What is new


@pytest.mark.parametrize("first", [1, 2])
async def test_a_call_with_other_arguments_and_what_follows_it_are_new(first: int) -> None:
    calls = Calls()

    async def body(ctx: Context) -> list[Any]:
        changed = 1 if ctx.attempt == 1 else first
        return [await ctx.once("a", calls.echo, changed), await ctx.once("b", calls.echo, 5)]

    assert await twice(body).run() == [first, 5]
    assert calls == ([1, 5] if first == 1 else [1, 5, 2, 5])


async def test_after_a_call_that_was_put_in_between_calls_are_new() -> None:
    calls = Calls()

    async def body(ctx: Context) -> list[Any]:
        names = ["a", "b"] if ctx.attempt == 1 else ["a", "x", "b"]
        return [await ctx.once(name, calls.echo, name) for name in names]

    assert await twice(body).run() == ["a", "x", "b"]
    assert calls == ["a", "b", "x", "b"]


async def test_after_a_call_that_was_taken_out_calls_are_new() -> None:
    shelf = {"value": 1}

    async def read() -> int:
        return shelf["value"]

    async def write() -> None:
        shelf["value"] += 1

    async def body(ctx: Context) -> int:
        if ctx.attempt == 1:
            await ctx.once("read", read)
        await ctx.once("write", write)
        return await ctx.once("read", read)

    assert await twice(body).run() == 3, "no value of before the second write is given"


async def test_what_is_made_of_results_that_have_changed_is_new() -> None:
    async def part(n: int) -> int:
        return n

    async def body(ctx: Context) -> int:
        by = 10 if ctx.attempt == 1 else 20
        parts = await asyncio.gather(*(ctx.once("part", part, n * by) for n in range(3)))

        async def total() -> int:
            return sum(parts)

        return await ctx.once("total", total)

    assert await twice(body).run() == 60


# Failures


@EVERYWHERE
async def test_a_failure_is_raised_and_not_kept(place) -> None:
    calls = Calls()

    async def fail_once() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("no")
        return "yes"

    async with place(twice(lambda ctx: ctx.once("x", fail_once))) as run:
        assert await run() == "yes"
    assert len(calls) == 2


@EVERYWHERE
async def test_a_failure_is_kept_on_demand_and_raised_again(place) -> None:
    calls = Calls()

    async def fail() -> None:
        calls.append(1)
        raise ValueError("no", 5)

    async def body(ctx: Context) -> Any:
        with pytest.raises(ValueError, match="no") as raised:
            await ctx.once("x", fail, keep_failures=True)
        return raised.value.args

    async with place(twice(body, 3)) as run:
        assert await run() == ("no", 5)
    assert calls == [1]


async def test_a_call_is_tried_again_as_its_own_retry_says() -> None:
    calls = Calls()

    async def fail() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionError("busy")
        return "done"

    retry = Retry(3, initial=0, on=ConnectionError)
    assert await twice(lambda ctx: ctx.once("x", fail, retry=retry)).run() == "done"
    assert len(calls) == 3


async def test_a_failure_that_a_retry_does_not_name_is_raised_at_once() -> None:
    calls = Calls()

    async def fail() -> None:
        calls.append(1)
        raise KeyError("x")

    async def body(ctx: Context) -> None:
        with pytest.raises(KeyError):
            await ctx.once("x", fail, retry=Retry(3, initial=0, on=ConnectionError))

    await twice(body, 1).run()
    assert calls == [1]


async def test_a_call_that_takes_too_long_is_cancelled_and_not_kept() -> None:
    async def for_ever() -> None:
        await asyncio.Event().wait()

    async def body(ctx: Context) -> str:
        with pytest.raises(MemoTimeout, match=r"memo 'x' took longer than its timeout of 0.01 s"):
            await ctx.once("x", for_ever, timeout=0.01)
        return "went on"

    assert await twice(body, 1).run() == "went on"


async def test_a_timeout_of_the_function_itself_is_its_own_failure() -> None:
    async def fail() -> None:
        raise TimeoutError("mine")

    async def body(ctx: Context) -> None:
        with pytest.raises(TimeoutError, match="mine") as raised:
            await ctx.once("x", fail, timeout=60)
        assert not isinstance(raised.value, MemoTimeout)

    await twice(body, 1).run()


@EVERYWHERE
async def test_a_result_that_cannot_be_stored_is_an_error_where_it_is_made(place) -> None:
    calls = Calls()

    async def lock() -> Any:
        calls.append(1)
        return threading.Lock()

    async def body(ctx: Context) -> str:
        with pytest.raises(UnstorableValue) as raised:
            await ctx.once("lock", lock)
        assert f'memo "lock" of step "work" in run {ctx.run_id()}: a result of type' in str(
            raised.value
        )
        return "went on"

    async with place(twice(body)) as run:
        assert await run() == "went on"
    assert len(calls) == 2, "nothing was kept"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"retry": 5}, TypeError),
        ({"keep_failures": 1}, TypeError),
        ({"timeout": "soon"}, TypeError),
        ({"timeout": -1}, ValueError),
    ],
)
async def test_options_are_checked(options: dict[str, Any], error: type[Exception]) -> None:
    calls = Calls()

    async def body(ctx: Context) -> None:
        with pytest.raises(error):
            await ctx.once("x", calls.echo, 1, **options)

    await twice(body, 1).run()
    assert calls == []


async def test_a_name_is_a_text() -> None:
    calls = Calls()

    async def body(ctx: Context) -> None:
        with pytest.raises(TypeError, match="the first argument is the name of the memo"):
            await ctx.once(calls.echo, "x")  # type: ignore[call-overload]

    await twice(body, 1).run()


# The decorator


@EVERYWHERE
async def test_a_function_can_be_made_once_wherever_it_is_called_below_a_step(place) -> None:
    calls = Calls()

    @once
    async def ask(question: str) -> str:
        calls.append(question)
        return question.upper()

    @once(name="count", retry=AGAIN)
    def count(text: str) -> int:
        calls.append(text)
        return len(text)

    async def helper(question: str) -> int:
        answer = await asyncio.create_task(ask(question))
        return await asyncio.to_thread(count, answer)

    @step(retry=AGAIN)
    async def work(ev: StartEvent) -> StopEvent:
        result = await asyncio.gather(helper("a"), helper("bc"))
        if treadle.current_context().attempt < 2:
            raise Failed
        return StopEvent(result=result)

    async with place(Workflow("decorated", [work])) as run:
        assert await run() == [1, 2]
    assert sorted(calls) == ["A", "BC", "a", "bc"]
    assert ask.__name__ == "ask"


@pytest.mark.parametrize("call", [treadle.current_context, once(lambda: 1)])
def test_outside_of_a_step_there_is_no_context(call: Callable[[], Any]) -> None:
    with pytest.raises(OutsideStep, match="no step runs here"):
        call()


async def test_steps_side_by_side_each_find_their_own_context() -> None:
    found: dict[int, str] = {}

    async def look(number: int) -> None:
        await asyncio.sleep(0)
        found[number] = treadle.current_context().idempotency_key

    @step
    async def begin(ev: StartEvent) -> list[Part]:
        return [Part(number=n) for n in range(5)]

    @step
    async def work(ctx: Context, ev: Part) -> StopEvent | None:
        await asyncio.gather(look(ev.number), asyncio.create_task(asyncio.sleep(0.01)))
        assert found[ev.number] == ctx.idempotency_key
        done = ctx.collect_events(ev, [Part] * 5)
        return StopEvent() if done else None

    treadle.once(lambda: 1)
    await Workflow("many", [begin, work]).run()
    assert len(set(found.values())) == 5


async def test_a_thread_of_a_step_finds_its_context() -> None:
    @step
    def work(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=treadle.current_context() is ctx)

    assert await Workflow("thread", [work]).run()


async def test_a_task_that_a_body_left_behind_keeps_nothing() -> None:
    left: list[asyncio.Task[Any]] = []
    calls = Calls()

    async def late(ctx: Context) -> None:
        await asyncio.sleep(0.01)
        await ctx.once("late", calls.echo, 1)

    @step
    async def leave(ctx: Context, ev: StartEvent) -> Part:
        left.append(asyncio.create_task(late(ctx)))
        return Part(number=1)

    @step
    async def end(ev: Part) -> StopEvent:
        await asyncio.wait(left)
        return StopEvent()

    await Workflow("left", [leave, end]).run()
    with pytest.raises(OutsideStep, match='the body of step "leave" of run'):
        left[0].result()
    assert calls == []


async def test_after_the_end_of_the_run_no_call_is_made() -> None:
    calls = Calls()

    @step
    async def work(ctx: Context, ev: StartEvent) -> None:
        ctx.send_event(StopEvent(result=1))
        try:
            await asyncio.sleep(10)
        finally:
            with pytest.raises(RunEnded):
                await ctx.once("x", calls.echo, 1)

    assert await Workflow("ended", [work]).run() == 1
    assert calls == []


async def test_a_loop_does_not_wait_as_a_thread_does() -> None:
    calls = Calls()

    async def body(ctx: Context) -> None:
        with pytest.raises(EventLoopError, match=r"say `await ctx\.once"):
            ctx.once_sync("x", calls.plain, 1)
        with pytest.raises(TypeError, match="once_sync calls no `async def`"):
            await asyncio.to_thread(ctx.once_sync, "x", calls.echo, 1)

    await twice(body, 1).run()
    with pytest.raises(TypeError, match="a plain `def` cannot be interrupted"):
        once(timeout=5)(calls.plain)


# Pauses, snapshots and journals


def gated(calls: Calls, gate: asyncio.Event) -> Workflow:
    """A step that makes two calls; the second one waits for a gate."""

    async def second() -> int:
        calls.append("second")
        await gate.wait()
        return 2

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        first = await ctx.once("first", calls.echo, "first")
        return StopEvent(result=[first, await ctx.once("second", second)])

    return Workflow("gated", [work])


async def reached(calls: Calls, what: object, times: int = 1) -> None:
    async with asyncio.timeout(10):
        while calls.count(what) < times:
            await asyncio.sleep(0.001)


async def test_a_call_that_a_pause_stops_is_made_again_and_those_before_are_not() -> None:
    calls, gate = Calls(), asyncio.Event()
    run = gated(calls, gate).run()
    await reached(calls, "second")
    await run.pause(wait=False)
    run.resume()
    await reached(calls, "second", 2)
    gate.set()
    assert await run == ["first", 2]
    assert calls == ["first", "second", "second"]


async def test_a_snapshot_has_the_memos_of_its_run() -> None:
    calls, gate = Calls(), asyncio.Event()
    workflow = gated(calls, gate)
    run = workflow.run()
    await reached(calls, "second")
    snapshot = await run.snapshot()
    assert [memo["name"] for memo in treadle.inspect(snapshot).pending[0]["memos"]] == ["first"]
    run.cancel()
    gate.set()
    assert await workflow.resume(snapshot) == ["first", 2]
    assert calls == ["first", "second", "second"]


async def test_a_run_that_is_retried_and_a_fork_of_it_make_no_call_again(tmp_path: Path) -> None:
    calls = Calls()

    @step
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        first = await ctx.once("first", calls.echo, 1)
        if len(calls) < 2:
            calls.append("failed")
            raise Failed
        return StopEvent(result=first)

    workflow = Workflow("mended", [work])
    async with Engine(f"sqlite:///{tmp_path}/runs.db", workflows=[workflow]) as engine:
        run = engine.run(workflow)
        with pytest.raises(Failed):
            await run
        fork = await engine.fork(run.id)
        assert await fork == 1
        assert await (await engine.retry(run.id)) == 1
    assert calls == [1, "failed"]


HEAD = """
calls = open(path + ".calls", "a", buffering=1)
async def model(n, extra=None):
    calls.write(f"{n}\\n")
    return [n, {"tokens": n * 10}]
async def go(work, **options):
    wf = Workflow("agent", [work])
    async with Engine(f"sqlite:///{path}", workflows=[wf], lease=1, **options) as engine:
        print(await engine.run(wf, key="k"), flush=True)
"""

SEQUENTIAL = """
@step
async def work(ctx: Context, ev: StartEvent) -> StopEvent:
    answers = []
    for n in range(5):
        answers.append(await ctx.once("ask", model, n, extra={"a", "b", "c", n}))
        if len(answers) == DIES_AT:
            say("paid")
            time.sleep(60)
    return StopEvent(result=[answer[0] for answer in answers])
asyncio.run(go(work, durability=DURABILITY))
"""

GATHERED = """
@step
async def work(ctx: Context, ev: StartEvent) -> StopEvent:
    async def one(n):
        if n == DIES_AT:
            await asyncio.sleep(0.5)
            say("paid")
            time.sleep(60)
        return (await ctx.once("ask", model, n))[0]
    return StopEvent(result=await asyncio.gather(*(one(n) for n in range(5))))
asyncio.run(go(work, durability=DURABILITY))
"""


def program(source: str, dies_at: int, durability: str) -> str:
    given = f"DIES_AT, DURABILITY = {dies_at}, {durability!r}\n"
    return HEAD + given + source


@pytest.mark.parametrize("durability", ["step", "pipelined"])
@pytest.mark.parametrize("source", [SEQUENTIAL, GATHERED])
def test_a_process_that_is_killed_pays_for_no_call_twice(
    source: str, durability: str, tmp_path: Path
) -> None:
    path = tmp_path / "runs.db"
    for dies_at, seed in [(2, 1), (4, 2)]:
        with Process(path, program(source, dies_at, durability), seed) as process:
            assert process.line() == "paid"
    with Process(path, program(source, -1, durability), 3) as process:
        assert process.line() == "[0, 1, 2, 3, 4]"
        assert process.wait() == 0
    paid = Path(f"{path}.calls").read_text().split()
    assert sorted(paid) == ["0", "1", "2", "3", "4"]


CHANGED = """
@step
async def work(ctx: Context, ev: StartEvent) -> StopEvent:
    a = await ctx.once("ask", model, ARGUMENT)
    b = await ctx.once("ask", model, 9)
    if ARGUMENT == 1:
        say("paid")
        time.sleep(60)
    return StopEvent(result=[a[0], b[0]])
asyncio.run(go(work))
"""


def test_code_that_was_changed_is_given_no_answer_to_another_question(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with Process(path, HEAD + "ARGUMENT = 1\n" + CHANGED) as process:
        assert process.line() == "paid"
    with Process(path, HEAD + "ARGUMENT = 2\n" + CHANGED) as process:
        assert process.line() == "[2, 9]"
    assert Path(f"{path}.calls").read_text().split() == ["1", "9", "2", "9"]


THREAD = """
def plain(n):
    calls.write(f"{n}\\n")
    return n
@step
def work(ctx: Context, ev: StartEvent) -> StopEvent:
    answers = [ctx.once_sync("ask", plain, n) for n in range(3)]
    if DIES_AT > 0:
        say("paid")
        time.sleep(60)
    return StopEvent(result=answers)
asyncio.run(go(work, durability=DURABILITY))
"""


def test_a_step_in_a_thread_waits_until_a_memo_is_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with Process(path, program(THREAD, 1, "pipelined")) as process:
        assert process.line() == "paid"
    with Process(path, program(THREAD, -1, "pipelined")) as process:
        assert process.line() == "[0, 1, 2]"
    assert Path(f"{path}.calls").read_text().split() == ["0", "1", "2"]


async def test_a_thousand_memos_side_by_side_share_commits(tmp_path: Path) -> None:
    calls = Calls()
    told: list[str] = []

    async def body(ctx: Context) -> int:
        return sum(await asyncio.gather(*(ctx.once("n", calls.echo, n) for n in range(1000))))

    workflow = twice(body)
    async with Engine(f"sqlite:///{tmp_path}/runs.db", workflows=[workflow]) as engine:
        run = engine.run(workflow)
        run._probe(lambda run, what: told.append(what))
        assert await run == 499500
        history = await engine.get(run.id).history()
    assert len(calls) == 1000
    assert told.count("memo") == 1000
    assert sum(line["what"] == "memo" for line in history) == 1000
    commits = int(output_of(COUNT_COMMITS, tmp_path / "runs.db"))
    assert commits < 20, f"{commits} commits for 1,000 memos"


# In a process of its own: a copy of SQLite in this one would drop the locks of the other.
COUNT_COMMITS = """
import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("SELECT count(*) FROM commits").fetchone()[0])
"""


def output_of(source: str, *arguments: object) -> str:
    command = [sys.executable, "-c", source, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

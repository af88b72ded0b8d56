import asyncio
import contextvars
import threading
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
import uvloop
from isolated import run_script

from treadle import Context, Event, StartEvent, StopEvent, Workflow, step


class Item(Event):
    n: int


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def in_step(body: Any, *, alone: bool = False) -> Any:
    """Run a coroutine function as a step; `alone` has the run driven by a task of its own."""

    @step
    async def work(ev: StartEvent) -> StopEvent:
        return StopEvent(result=await body())

    run = Workflow("w", [work]).run()
    if alone:
        while run.status in ("running", "waiting"):
            await asyncio.sleep(0.001)
    return await run


both = pytest.mark.parametrize("alone", [False, True])


@both
async def test_current_task_is_a_task_and_stays_the_same(alone: bool):
    async def body() -> Any:
        before = asyncio.current_task()
        await asyncio.sleep(0)
        assert isinstance(before, asyncio.Task)
        return before is asyncio.current_task() and before in asyncio.all_tasks()

    assert await in_step(body, alone=alone) is True


@both
async def test_timeouts_can_be_rescheduled(alone: bool):
    async def body() -> Any:
        async with asyncio.timeout(None) as limit:
            await asyncio.sleep(0)
            limit.reschedule(asyncio.get_running_loop().time() + 5)
            await asyncio.sleep(0.001)
        return limit.expired()

    assert await in_step(body, alone=alone) is False


@both
async def test_a_task_group_gathers_results(alone: bool):
    async def double(n: int) -> int:
        await asyncio.sleep(0.001)
        return 2 * n

    async def body() -> Any:
        async with asyncio.TaskGroup() as tasks:
            made = [tasks.create_task(double(n)) for n in range(5)]
        return [task.result() for task in made]

    assert await in_step(body, alone=alone) == [0, 2, 4, 6, 8]


@both
async def test_a_task_group_that_fails_and_is_caught_leaves_the_step_going_on(alone: bool):
    async def fail() -> None:
        raise ValueError("in the group")

    async def body() -> Any:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fail())
        except* ValueError:
            pass
        await asyncio.sleep(0)
        return "went on"

    assert await in_step(body, alone=alone) == "went on"


@both
async def test_an_anyio_task_group_and_its_scopes_work(alone: bool):
    async def body() -> Any:
        got: list[int] = []

        async def work(n: int) -> None:
            await anyio.sleep(0.02 * n)
            got.append(n)
            if n == 3:
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for n in range(1, 10):
                group.start_soon(work, n)
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
        await anyio.to_thread.run_sync(got.append, 100)
        await anyio.lowlevel.checkpoint()
        return got

    assert await in_step(body, alone=alone) == [1, 2, 3, 100]


@both
async def test_queues_locks_events_and_subprocesses_work(alone: bool):
    async def body() -> Any:
        queue: asyncio.Queue[int] = asyncio.Queue()
        async with asyncio.Lock(), asyncio.Semaphore(1):
            producer = asyncio.create_task(queue.put(5))
            got = await queue.get()
            await producer
        process = await asyncio.create_subprocess_exec(
            "echo", "hello", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        return got, output

    assert await in_step(body, alone=alone) == (5, b"hello\n")


@both
async def test_an_http_request_to_a_server_works(alone: bool):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.001)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"

    async def body() -> Any:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            responses = await asyncio.gather(*(client.get(url) for _ in range(5)))
            return [response.text for response in responses]

    async with server:
        assert await in_step(body, alone=alone) == ["hello"] * 5


# Context variables


@both
async def test_a_step_sees_the_variables_of_whoever_made_the_run_and_leaks_none(alone: bool):
    seen: list[str] = []

    @step
    async def first(ev: StartEvent) -> Item:
        seen.append(variable.get())
        variable.set("first")
        await asyncio.sleep(0)
        seen.append(variable.get())
        return Item(n=1)

    @step
    async def second(ev: Item) -> StopEvent:
        seen.append(variable.get())
        variable.set("second")
        return StopEvent()

    token = variable.set("caller")
    run = Workflow("w", [first, second]).run()
    variable.reset(token)
    if alone:
        await asyncio.sleep(0.01)
    await run
    assert seen == ["caller", "first", "caller"]
    assert variable.get() == "unset"


async def test_steps_that_run_at_once_do_not_see_each_others_variables():
    @step
    async def begin(ev: StartEvent) -> list[Item]:
        return [Item(n=n) for n in range(20)]

    @step
    async def work(ctx: Context, ev: Item) -> StopEvent | None:
        variable.set(str(ev.n))
        for _ in range(3):
            await asyncio.sleep(0)
        same = variable.get() == str(ev.n)
        right = ctx.increment("right", int(same))
        return StopEvent(result=right) if ctx.increment("all") == 20 else None

    assert await Workflow("w", [begin, work]).run() == 20


async def test_callbacks_and_tasks_of_a_step_inherit_its_variables():
    async def body() -> Any:
        variable.set("step")
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: future.set_result(variable.get()))

        async def read() -> str:
            return variable.get()

        return [
            await future,
            await asyncio.create_task(read()),
            await asyncio.to_thread(variable.get),
        ]

    assert await in_step(body) == ["step"] * 3


async def test_a_variable_may_be_reset_in_the_step_that_set_it():
    async def body() -> Any:
        token = variable.set("here")
        await asyncio.sleep(0)
        variable.reset(token)
        return variable.get()

    assert await in_step(body) == "unset"


async def test_an_async_generator_step_keeps_its_variables():
    seen: list[str] = []

    @step
    async def work(ev: StartEvent) -> Any:
        variable.set("here")
        yield Item(n=1)
        await asyncio.sleep(0)
        seen.append(variable.get())
        yield StopEvent()

    @step
    async def take(ev: Item) -> None:
        seen.append(variable.get())

    await Workflow("w", [work, take]).run()
    assert sorted(seen) == ["here", "unset"]


# Event loops


@step
async def begin(ev: StartEvent) -> list[Item]:
    return [Item(n=n) for n in range(ev.count)]


@step(concurrency=5)
async def work(ctx: Context, ev: Item) -> StopEvent | None:
    await asyncio.sleep(0.0005)
    total = ctx.increment("total", ev.n)
    return StopEvent(result=total) if ctx.increment("n") == 20 else None


@step
def threaded(ctx: Context, ev: Item) -> None:
    ctx.increment("threaded")


FLOW = Workflow("flow", [begin, work, threaded], timeout=20)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("debug", [False, True])
def test_every_loop_runs_workflows(new_loop: Any, debug: bool):
    async def main() -> Any:
        runs = [FLOW.run(count=20) for _ in range(5)]
        asyncio.get_running_loop().call_soon(lambda: None)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        return await asyncio.gather(*runs)

    with asyncio.Runner(loop_factory=new_loop, debug=debug) as runner:
        assert runner.run(main()) == [190] * 5


def test_several_loops_in_several_threads_run_one_workflow_at_once():
    results: list[Any] = []
    barrier = threading.Barrier(4)

    def thread() -> None:
        async def main() -> Any:
            barrier.wait(5)
            return await asyncio.gather(*(FLOW.run(count=20) for _ in range(20)))

        results.extend(asyncio.run(main()))

    threads = [threading.Thread(target=thread) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    assert results == [190] * 80


def test_one_loop_after_another_runs_one_workflow():
    for _ in range(5):
        assert asyncio.run(main()) == 190


async def main() -> Any:
    return await FLOW.run(count=20)


def test_a_loop_that_moves_to_another_thread_goes_on_with_its_runs():
    loop = asyncio.new_event_loop()

    async def make() -> Any:
        return FLOW.run(count=20)

    async def wait(run: Any) -> Any:
        return await run

    run = loop.run_until_complete(make())
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(loop.run_until_complete(wait(run))))
    thread.start()
    thread.join(10)
    loop.close()
    assert results == [190]


async def test_a_task_factory_is_respected():
    made: list[str] = []

    class Task(asyncio.Task):  # type: ignore[type-arg]
        def __init__(self, coroutine: Any, **options: Any) -> None:
            made.append(repr(coroutine))
            super().__init__(coroutine, **options)

    def factory(loop: Any, coroutine: Any, **options: Any) -> Any:
        return Task(coroutine, loop=loop, **options)

    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)
    try:
        run = FLOW.run(count=20)
        await asyncio.sleep(0.01)
        assert await run == 190
    finally:
        loop.set_task_factory(None)
    assert made


async def test_a_task_factory_that_fails_once_does_not_stop_the_runs_after_it():
    loop = asyncio.get_running_loop()
    errors: list[Any] = []
    calls = 0

    def factory(loop: Any, coroutine: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            coroutine.close()
            raise RuntimeError("no task today")
        return asyncio.Task(coroutine, loop=loop, **options)

    runs = [FLOW.run(count=20) for _ in range(3)]
    loop.set_task_factory(factory)
    loop.set_exception_handler(lambda _, context: errors.append(context))
    try:
        for _ in range(1000):
            if [run.status for run in runs].count("completed") == 2:
                break
            await asyncio.sleep(0.002)
    finally:
        loop.set_task_factory(None)
        loop.set_exception_handler(None)
    # Only the one for which there was no task is not completed.
    assert [run.status for run in runs].count("completed") == 2
    for run in runs:
        run.cancel()


# Fairness


async def test_a_thousand_runs_that_compute_leave_time_for_others():
    beats: list[int] = []
    finished = 0

    @step
    async def first(ev: StartEvent) -> Item:
        return Item(n=0)

    @step
    async def compute(ev: Item) -> Item | StopEvent:
        # Enough that the whole takes many slices of the loop's time, on any machine.
        sum(range(500))
        return StopEvent() if ev.n == 50 else Item(n=ev.n + 1)

    async def heartbeat() -> None:
        while True:
            await asyncio.sleep(0)
            beats.append(finished)

    workflow = Workflow("w", [first, compute])
    beating = asyncio.create_task(heartbeat())

    async def one() -> None:
        nonlocal finished
        await workflow.run()
        finished += 1

    await asyncio.gather(*(one() for _ in range(1000)))
    beating.cancel()
    assert finished == 1000
    # The heart beats all the while: never are more than a tenth of the runs done between two beats.
    assert len(beats) > 20
    assert max(b - a for a, b in zip([0, *beats], [*beats, 1000], strict=False)) < 100


async def test_one_long_run_that_computes_leaves_time_for_others():
    beats = 0

    @step
    async def first(ev: StartEvent) -> Item:
        return Item(n=0)

    @step
    async def compute(ev: Item) -> Item | StopEvent:
        return StopEvent(result=beats) if ev.n == 50_000 else Item(n=ev.n + 1)

    async def heartbeat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0)
            beats += 1

    beating = asyncio.create_task(heartbeat())
    assert await Workflow("w", [first, compute]).run() > 2
    beating.cancel()


async def test_runs_that_share_the_loop_take_turns():
    order: list[int] = []

    @step
    async def first(ev: StartEvent) -> Item:
        return Item(n=0)

    @step
    async def compute(ctx: Context, ev: Item) -> Item | StopEvent:
        sum(range(2000))
        return StopEvent() if ev.n == 200 else Item(n=ev.n + 1)

    workflow = Workflow("w", [first, compute])

    async def one(n: int) -> None:
        await workflow.run()
        order.append(n)

    await asyncio.gather(*(one(n) for n in range(20)))
    assert sorted(order) == list(range(20))


@pytest.mark.parametrize("debug", [False, True])
def test_nothing_is_left_behind_by_runs_of_every_kind(debug: bool):
    printed = run_script(
        """
        @step
        async def begin(ev: StartEvent) -> list[A]:
            return [A(n=n) for n in range(20)]
        @step(concurrency=3)
        async def work(ctx: Context, ev: A) -> StopEvent | None:
            await asyncio.sleep(0.001)
            return StopEvent(result=1) if ctx.increment("n") == ev.n == 10 else None
        @step
        def threaded(ctx: Context, ev: A) -> None:
            ctx.increment("t")
        flow = Workflow("w", [begin, work, threaded])
        async def main():
            before = asyncio.all_tasks()
            await asyncio.gather(*(flow.run() for _ in range(20)), return_exceptions=True)
            runs = [flow.run() for _ in range(20)]
            await asyncio.sleep(0.002)
            for run in runs:
                run.cancel()
            await asyncio.gather(*runs, return_exceptions=True)
            print(asyncio.all_tasks() == before)
        asyncio.run(main())
        """,
        debug=debug,
    )
    assert printed == "True"

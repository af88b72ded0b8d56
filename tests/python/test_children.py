"""Children in memory: runs that a step starts, and which a body that runs again finds."""

import asyncio
import gc
import weakref
from typing import Any

import pytest

from treadle import (
    Context,
    Event,
    EventLoopError,
    FamilyTooDeep,
    KeyConflict,
    OutsideStep,
    Retry,
    RunCancelled,
    RunEnded,
    StartEvent,
    StopEvent,
    StoredError,
    UnroutedEvent,
    UnstorableValue,
    Workflow,
    step,
)

AGAIN = Retry(9, initial=0, jitter=0)


class Progress(Event):
    at: int


@step
async def double(ev: StartEvent) -> StopEvent:
    return StopEvent(result=2 * ev.n)


DOUBLE = Workflow("double", [double])


@step
async def fail(ev: StartEvent) -> StopEvent:
    raise ValueError(f"no {ev.n}")


FAILING = Workflow("failing", [fail])


@step
async def wait_for_ever(ev: StartEvent) -> StopEvent:
    await asyncio.Event().wait()
    return StopEvent()


FOREVER = Workflow("forever", [wait_for_ever])


class Counted:
    """A workflow whose steps note their input, and wait until they are let go."""

    def __init__(self) -> None:
        self.began: list[Any] = []
        self.stopped: list[Any] = []
        self.go = asyncio.Event()

        @step
        async def work(ctx: Context, ev: StartEvent) -> StopEvent:
            self.began.append(ev.n)
            ctx.write_event_to_stream(Progress(at=ev.n))
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.stopped.append(ev.n)
                raise
            return StopEvent(result=10 * ev.n)

        self.workflow = Workflow("counted", [work])


def parent(body: Any, **options: Any) -> Workflow:
    @step(**options)
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await body(ctx))

    return Workflow("parent", [work])


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_child_gives_its_result():
    async def body(ctx: Context) -> Any:
        return await ctx.run(DOUBLE, n=4)

    assert await parent(body).run() == 8


async def test_an_event_may_be_given_in_the_place_of_its_fields():
    async def body(ctx: Context) -> Any:
        return await ctx.run(DOUBLE, StartEvent(n=4))

    assert await parent(body).run() == 8


async def test_children_run_at_the_same_time():
    counted = Counted()

    async def body(ctx: Context) -> Any:
        together = asyncio.gather(*[ctx.run(counted.workflow, n=n) for n in range(20)])
        while len(counted.began) < 20:
            await asyncio.sleep(0)
        counted.go.set()
        return await together

    assert await parent(body).run() == [10 * n for n in range(20)]


async def test_a_child_is_awaited_any_number_of_times():
    async def body(ctx: Context) -> Any:
        child = ctx.run(DOUBLE, n=1)
        return [await child, await child, *await asyncio.gather(child, child)]

    assert await parent(body).run() == [2, 2, 2, 2]


async def test_a_child_starts_although_nothing_awaits_it():
    counted = Counted()

    async def body(ctx: Context) -> Any:
        child = ctx.run(counted.workflow, n=1)
        await turns()
        assert counted.began == [1]
        counted.go.set()
        return await child

    assert await parent(body).run() == 10


async def test_a_handle_tells_of_its_run():
    async def body(ctx: Context) -> Any:
        child = ctx.run(DOUBLE, n=1)
        assert child.id == child.run_id
        assert child.workflow == "double"
        assert child.id in repr(child)
        assert not child.done()
        await child
        return child.done()

    assert await parent(body).run() is True


async def test_a_child_knows_its_parent():
    @step
    async def tell(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ctx.parent)

    async def body(ctx: Context) -> Any:
        assert ctx.parent is None
        return await ctx.run(Workflow("tell", [tell])) == ctx.run_id()

    assert await parent(body).run() is True


async def test_the_exception_of_a_child_is_raised_with_the_chain_of_its_family():
    async def middle(ctx: Context) -> Any:
        return await ctx.run(FAILING, n=7)

    inner = parent(middle)

    async def body(ctx: Context) -> Any:
        return await ctx.run(inner)

    run = Workflow("outer", [step(_step_of(body))]).run()
    with pytest.raises(ValueError, match="no 7") as raised:
        await run
    families = [note for note in raised.value.__notes__ if "a child of run" in note]
    assert len(families) == 2
    assert 'of workflow "failing", a child of run' in families[0]
    assert families[1].endswith(f"a child of run {run.id}")


def _step_of(body: Any) -> Any:
    async def work(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await body(ctx))

    return work


async def test_a_body_that_runs_again_is_given_the_result_of_the_same_child():
    counted = Counted()
    counted.go.set()
    ids: list[str] = []

    async def body(ctx: Context) -> Any:
        child = ctx.run(counted.workflow, n=1)
        ids.append(child.id)
        result = await child
        if ctx.attempt < 3:
            raise ConnectionError
        return result

    assert await parent(body, retry=AGAIN).run() == 10
    assert counted.began == [1]
    assert len(ids) == 3
    assert len(set(ids)) == 1


async def test_a_body_that_runs_again_finds_a_child_that_still_runs():
    counted = Counted()

    async def body(ctx: Context) -> Any:
        child = ctx.run(counted.workflow, n=1)
        await turns()
        if ctx.attempt < 3:
            raise ConnectionError
        counted.go.set()
        return await child

    assert await parent(body, retry=AGAIN).run() == 10
    assert counted.began == [1]


async def test_a_body_that_runs_again_is_given_the_exception_of_the_same_child():
    raised: list[BaseException] = []

    async def body(ctx: Context) -> Any:
        try:
            await ctx.run(FAILING, n=1)
        except ValueError as error:
            raised.append(error)
        if ctx.attempt < 2:
            raise ConnectionError
        return [str(error) for error in raised]

    assert await parent(body, retry=AGAIN).run() == ["no 1", "no 1"]
    notes = [[note for note in error.__notes__ if "a child of" in note] for error in raised]
    assert notes[0] == notes[1]
    assert len(notes[0]) == 1


async def test_another_input_is_another_child_and_so_is_what_follows():
    began: list[int] = []

    @step
    async def work(ev: StartEvent) -> StopEvent:
        began.append(ev.n)
        return StopEvent(result=ev.n)

    workflow = Workflow("work", [work])

    async def body(ctx: Context) -> Any:
        results = [await ctx.run(workflow, n=n) for n in (1, 2 if ctx.attempt < 2 else 3, 4)]
        if ctx.attempt < 3:
            raise ConnectionError
        return results

    assert await parent(body, retry=AGAIN).run() == [1, 3, 4]
    assert began == [1, 2, 4, 3, 4]


async def test_a_child_that_no_body_comes_to_again_is_cancelled():
    counted = Counted()

    async def body(ctx: Context) -> Any:
        ctx.run(counted.workflow, n=ctx.attempt)
        await turns()
        if ctx.attempt < 2:
            raise ConnectionError
        await turns()
        return counted.stopped.copy()

    assert await parent(body, retry=AGAIN).run() == [1]
    assert counted.began == [1, 2]


async def test_children_in_tasks_are_found_in_whatever_order():
    counted = Counted()
    counted.go.set()

    async def one(ctx: Context, n: int) -> Any:
        return await ctx.run(counted.workflow, n=n)

    async def body(ctx: Context) -> Any:
        order = [1, 2, 3] if ctx.attempt == 1 else [3, 1, 2]
        results = await asyncio.gather(*[asyncio.create_task(one(ctx, n)) for n in order])
        if ctx.attempt < 2:
            raise ConnectionError
        return results

    assert await parent(body, retry=AGAIN).run() == [30, 10, 20]
    assert sorted(counted.began) == [1, 2, 3]


async def test_a_key_names_a_child_in_whatever_order():
    counted = Counted()
    counted.go.set()

    async def body(ctx: Context) -> Any:
        keys = ["a", "b"] if ctx.attempt == 1 else ["b", "a"]
        results = {key: await ctx.run(counted.workflow, n=len(key), key=key) for key in keys}
        assert (
            ctx.run(counted.workflow, n=1, key="a").id == ctx.run(counted.workflow, n=1, key="a").id
        )
        if ctx.attempt < 2:
            raise ConnectionError
        return results

    assert await parent(body, retry=AGAIN).run() == {"b": 10, "a": 10}
    assert counted.began == [1, 1]


async def test_a_key_with_another_input_is_refused():
    async def body(ctx: Context) -> Any:
        ctx.run(DOUBLE, n=1, key="a")
        with pytest.raises(KeyConflict, match='"a" and another input'):
            ctx.run(DOUBLE, n=2, key="a")
        return await ctx.run(DOUBLE, n=1, key="a")

    assert await parent(body).run() == 2


async def test_a_child_belongs_to_one_delivery():
    async def body(ctx: Context) -> Any:
        return ctx.run(DOUBLE, n=1, key="a").id

    workflow = parent(body)
    assert await workflow.run() != await workflow.run()


async def test_memos_and_children_have_one_order():
    calls: list[str] = []

    async def note(what: str) -> str:
        calls.append(what)
        return what

    async def body(ctx: Context) -> Any:
        first = await ctx.once("note", note, "first")
        child = ctx.run(DOUBLE, n=1)
        second = await ctx.once("note", note, "second")
        if ctx.attempt < 3:
            raise ConnectionError
        return [first, await child, second]

    assert await parent(body, retry=AGAIN).run() == ["first", 2, "second"]
    assert calls == ["first", "second"]


@pytest.mark.parametrize("how", ["cancelled", "failed", "completed"])
async def test_the_children_end_with_their_parent(how: str):
    counted = Counted()

    async def body(ctx: Context) -> Any:
        ctx.run(counted.workflow, n=1)
        ctx.run(counted.workflow, n=2)
        await turns()
        if how == "cancelled":
            await asyncio.Event().wait()
        if how == "failed":
            raise ValueError("the parent")

    run = parent(body).run()
    task = asyncio.ensure_future(run)
    await turns(10)
    if how == "cancelled":
        run.cancel()
    await asyncio.wait([task])
    assert run.status == how
    assert sorted(counted.stopped) == [1, 2]


async def test_a_family_is_cancelled_down_to_its_last_member():
    counted = Counted()

    async def middle(ctx: Context) -> Any:
        return await ctx.run(counted.workflow, n=1)

    inner = parent(middle)

    async def body(ctx: Context) -> Any:
        return await ctx.run(inner)

    run = parent(body).run()
    task = asyncio.ensure_future(run)
    while not counted.began:
        await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(RunCancelled):
        await task
    assert counted.stopped == [1]


async def test_a_detached_child_outlives_its_parent():
    counted = Counted()
    done = asyncio.Event()

    @step
    async def work(ev: StartEvent) -> StopEvent:
        await counted.go.wait()
        done.set()
        return StopEvent()

    workflow = Workflow("work", [work])

    async def body(ctx: Context) -> Any:
        ctx.run(workflow, on_parent_end="detach")
        await turns()

    await parent(body).run()
    counted.go.set()
    await done.wait()


async def test_a_detached_child_gives_its_result_as_well():
    async def body(ctx: Context) -> Any:
        return await ctx.run(DOUBLE, n=3, on_parent_end="detach")

    assert await parent(body).run() == 6


async def test_a_child_is_cancelled_by_its_handle():
    async def body(ctx: Context) -> Any:
        child = ctx.run(FOREVER)
        await turns()
        assert child.cancel() is True
        with pytest.raises(RunCancelled, match=child.id):
            await child
        assert child.cancel() is False
        return "on"

    assert await parent(body).run() == "on"


async def test_an_await_that_is_cancelled_leaves_the_child_as_it_is():
    counted = Counted()

    async def body(ctx: Context) -> Any:
        child = ctx.run(counted.workflow, n=1)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_once(child), 0.01)
        waiting = asyncio.ensure_future(child)
        await turns()
        waiting.cancel()
        await asyncio.wait([waiting])
        assert counted.stopped == []
        counted.go.set()
        return await child

    assert await parent(body).run() == 10
    assert counted.began == [1]


async def _once(child: Any) -> Any:
    return await child


async def test_the_stream_of_a_child_is_read():
    counted = Counted()
    counted.go.set()

    async def body(ctx: Context) -> Any:
        child = ctx.run(counted.workflow, n=3)
        seen = [event.at async for event in child.stream_events()]
        if ctx.attempt < 2:
            raise ConnectionError
        return seen, await child

    assert await parent(body, retry=AGAIN).run() == ([3], 30)


async def test_a_workflow_runs_itself():
    @step
    async def factorial(ctx: Context, ev: StartEvent) -> StopEvent:
        if ev.n < 2:
            return StopEvent(result=1)
        return StopEvent(result=ev.n * await ctx.run(workflow, n=ev.n - 1))

    workflow = Workflow("factorial", [factorial])
    assert await workflow.run(n=20) == 2432902008176640000


async def test_a_loop_of_children_is_found_by_its_depth():
    depths: list[int] = []

    @step
    async def again(ctx: Context, ev: StartEvent) -> StopEvent:
        depths.append(ev.n)
        return StopEvent(result=await ctx.run(workflow, n=ev.n + 1))

    workflow = Workflow("again", [again])
    with pytest.raises(FamilyTooDeep, match="101 runs above it"):
        await workflow.run(n=0)
    assert depths == list(range(101))


async def test_max_depth_is_a_limit_of_the_call():
    async def middle(ctx: Context) -> Any:
        with pytest.raises(FamilyTooDeep, match='"double" would have 2 runs above it'):
            ctx.run(DOUBLE, n=1, max_depth=1)
        return await ctx.run(DOUBLE, n=1, max_depth=2)

    async def body(ctx: Context) -> Any:
        return await ctx.run(parent(middle), max_depth=1)

    assert await parent(body).run() == 2


async def test_a_result_that_cannot_be_stored_is_the_failure_of_the_child():
    @step
    async def give(ev: StartEvent) -> StopEvent:
        return StopEvent(result=(n for n in range(3)))

    async def body(ctx: Context) -> Any:
        return await ctx.run(Workflow("give", [give]))

    with pytest.raises(UnstorableValue, match='of workflow "give"'):
        await parent(body).run()


async def test_an_exception_that_cannot_be_stored_is_told_by_its_text_to_a_body_that_runs_again():
    class Odd(Exception):
        def __reduce__(self) -> Any:
            raise TypeError("not this one")

    @step
    async def give(ev: StartEvent) -> StopEvent:
        raise Odd("no")

    raised: list[BaseException] = []

    async def body(ctx: Context) -> Any:
        try:
            await ctx.run(Workflow("give", [give]))
        except Exception as error:
            raised.append(error)
        if ctx.attempt < 2:
            raise ConnectionError
        return [type(error) for error in raised]

    first, second = await parent(body, retry=AGAIN).run()
    assert first is Odd
    assert second in (Odd, StoredError)


async def test_a_paused_parent_lets_its_children_go_on_and_goes_on_later():
    counted = Counted()

    async def body(ctx: Context) -> Any:
        return await ctx.run(counted.workflow, n=1)

    run = parent(body).run()
    task = asyncio.ensure_future(run)
    while not counted.began:
        await asyncio.sleep(0)
    await run.pause()
    counted.go.set()
    await turns(20)
    assert not task.done()
    assert run.status == "paused"
    run.resume()
    assert await task == 10


async def test_a_parent_whose_body_is_stopped_by_a_pause_finds_its_child_again():
    counted = Counted()

    async def body(ctx: Context) -> Any:
        return await ctx.run(counted.workflow, n=1)

    run = parent(body).run()
    task = asyncio.ensure_future(run)
    while not counted.began:
        await asyncio.sleep(0)
    await run.pause(wait=False)
    run.resume()
    counted.go.set()
    assert await task == 10
    assert counted.began == [1]
    assert counted.stopped == []


async def test_a_snapshot_has_the_children_inside():
    counted = Counted()

    async def middle(ctx: Context) -> Any:
        ctx.state["at"] = "middle"
        return await ctx.run(counted.workflow, n=2), ctx.state["at"]

    inner = parent(middle)

    async def body(ctx: Context) -> Any:
        done = await ctx.run(DOUBLE, n=1)
        return done, await ctx.run(inner)

    outer = parent(body)
    run = outer.run()
    task = asyncio.ensure_future(run)
    while not counted.began:
        await asyncio.sleep(0)
    snapshot = await run.snapshot()
    run.cancel()
    await asyncio.wait([task])
    counted.began.clear()
    counted.go.set()
    assert await outer.resume(snapshot) == (2, (20, "middle"))
    # The body of the innermost run began again; that of the child that had ended did not.
    assert counted.began == [2]


async def test_children_of_a_snapshot_keep_their_ids():
    counted = Counted()
    ids: list[str] = []

    async def body(ctx: Context) -> Any:
        child = ctx.run(counted.workflow, n=1)
        ids.append(child.id)
        return await child

    workflow = parent(body)
    run = workflow.run()
    task = asyncio.ensure_future(run)
    while not counted.began:
        await asyncio.sleep(0)
    snapshot = await run.snapshot(secret="s" * 32)
    run.cancel()
    await asyncio.wait([task])
    counted.go.set()
    assert await workflow.resume(snapshot, secret="s" * 32) == 10
    assert ids[0] == ids[1]


async def test_wrong_arguments_are_refused():
    async def body(ctx: Context) -> Any:
        run: Any = ctx.run
        with pytest.raises(TypeError, match="a workflow expected"):
            run("double", n=1)
        with pytest.raises(TypeError, match="key: a str"):
            run(DOUBLE, n=1, key=1)
        with pytest.raises(ValueError, match="on_parent_end"):
            run(DOUBLE, n=1, on_parent_end="leave")
        with pytest.raises((TypeError, ValueError), match="max_depth"):
            run(DOUBLE, n=1, max_depth=-1)
        with pytest.raises(UnroutedEvent):
            run(DOUBLE, Progress(at=1))
        with pytest.raises(TypeError, match="not both"):
            run(DOUBLE, StartEvent(n=1), n=1)
        return "nothing was started"

    assert await parent(body).run() == "nothing was started"


async def test_options_of_the_run_are_given():
    @step
    async def tell(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ctx.get("a"))

    async def body(ctx: Context) -> Any:
        return await ctx.run(Workflow("tell", [tell]), state={"a": 5})

    assert await parent(body).run() == 5


async def test_a_thread_starts_no_children():
    async def body(ctx: Context) -> Any:
        with pytest.raises(EventLoopError, match='"double"'):
            await asyncio.to_thread(ctx.run, DOUBLE, n=1)

    await parent(body).run()


async def test_what_a_step_left_behind_starts_no_children():
    left: list[Any] = []

    async def body(ctx: Context) -> Any:
        left.append(ctx)

    await parent(body).run()
    with pytest.raises((RunEnded, OutsideStep)):
        left[0].run(DOUBLE, n=1)


async def test_a_handle_gives_the_result_outside_of_its_step_as_well():
    handles: list[Any] = []

    async def body(ctx: Context) -> Any:
        handles.append(ctx.run(DOUBLE, n=1))
        await handles[0]

    await parent(body).run()
    assert await handles[0] == 2


async def test_runs_and_children_are_collected():
    found: list[weakref.ref[Any]] = []

    async def body(ctx: Context) -> Any:
        child = ctx.run(DOUBLE, n=1)
        found.append(weakref.ref(child))
        return await child

    await parent(body).run()
    gc.collect()
    assert found[0]() is None


async def test_many_children_of_one_parent():
    async def body(ctx: Context) -> Any:
        return sum(await asyncio.gather(*[ctx.run(DOUBLE, n=n) for n in range(3000)]))

    assert await parent(body).run() == 2 * sum(range(3000))

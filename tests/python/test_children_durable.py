"""Families in a journal: started, ended and cancelled once, whichever processes execute them."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import family_work as work
import pytest
from family_work import ALL, Go, noted
from processes import Process

from treadle import (
    Context,
    Engine,
    Retry,
    RunCancelled,
    RunInfo,
    StartEvent,
    StopEvent,
    TreadleError,
    Workflow,
    step,
)

JOURNALS = ["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]

WORKER = """
import family_work
async def main():
    async with Engine(url_of(path), workflows=family_work.ALL, lease=1) as engine:
        say("open")
        await asyncio.sleep(60)
asyncio.run(main())
"""
STARTER = """
import family_work
async def main():
    async with Engine(url_of(path), workflows=family_work.ALL, lease=1) as engine:
        run = engine.run(family_work.{workflow}, key="it", {fields})
        say("started")
        try:
            say("over", await run)
        except BaseException as error:
            say("failed", error)
asyncio.run(main())
"""


@pytest.fixture(params=JOURNALS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return "memory:"
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres"))
    return f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture
async def engine(url: str) -> AsyncIterator[Engine]:
    async with Engine(url, workflows=ALL, lease=1) as engine:
        yield engine


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "notes"
    monkeypatch.setenv("FAMILY_NOTES", str(path))
    return path


async def family(engine: Engine, root: str) -> list[RunInfo]:
    return await engine.runs(root=root, limit=1000)


async def until(holds: Any, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.01)


def has(engine: Engine, root: str, count: int, *statuses: str) -> Any:
    async def holds() -> bool:
        rows = [row for row in await family(engine, root) if row.status in statuses]
        return len(rows) == count

    return holds


async def test_a_tree_of_children_gives_its_result(engine: Engine):
    assert await engine.run(work.tree, width=4, depth=2) == 3 * 60


async def test_the_exception_and_the_stream_of_a_child_come_to_its_parent(engine: Engine):
    run = engine.run(work.mixed)
    raised, seen, result = await run
    assert raised[0] == "no -1"
    assert len(raised[1]) == 1
    assert raised[1][0].endswith(f"a child of run {run.id}")
    assert (seen, result) == ([5], 50)


async def test_a_family_is_listed_by_its_parent_and_its_root(engine: Engine):
    run = engine.run(work.tree, width=2, depth=1)
    await run
    below = await engine.runs(parent=run.id)
    assert Counter(row.workflow for row in below) == {"leaf": 2, "tree": 1}
    assert {(row.parent, row.root) for row in below} == {(run.id, run.id)}
    everyone = await engine.runs(root=run.id)
    assert Counter(row.workflow for row in everyone) == {"leaf": 4, "tree": 1}
    top = await engine.get(run.id).info()
    assert (top.parent, top.root) == (None, None)


async def test_a_parent_that_waits_for_children_alone_waits_in_the_journal(engine: Engine):
    run = engine.run(work.hold, width=2)
    await until(has(engine, run.id, 2, "waiting"))

    async def waits() -> bool:
        return (await engine.get(run.id).info()).status == "waiting"

    await until(waits)
    for child in await family(engine, run.id):
        await engine.send_event(child.id, Go())
    assert await run == "all gone"


@pytest.mark.parametrize("how", ["cancel", "detach"])
async def test_children_end_with_their_parent_unless_they_are_detached(engine: Engine, how: str):
    run = engine.run(work.hold, width=3, how=how)
    await until(has(engine, run.id, 3, "waiting"))
    await engine.cancel(run.id)
    with pytest.raises(RunCancelled):
        await run
    if how == "cancel":
        await until(has(engine, run.id, 3, "cancelled"))
        return
    await until(has(engine, run.id, 3, "waiting"))
    for child in await family(engine, run.id):
        await engine.send_event(child.id, Go())
    await until(has(engine, run.id, 3, "completed"))


async def test_a_detached_child_that_the_last_commit_of_its_parent_makes_is_executed(url: str):
    @step
    async def fire(ctx: Context, ev: StartEvent) -> StopEvent:
        child = ctx.run(work.leaf, n=3, on_parent_end="detach")
        return StopEvent(result=child.id)

    outer = Workflow("outer", [fire])
    async with Engine(url, workflows=[*ALL, outer]) as engine:
        child = await engine.run(outer)
        async with asyncio.timeout(20):
            assert await engine.get(child) == 30


class Counted:
    """How often one was made of its pickle."""

    loads = 0

    def __setstate__(self, state: object) -> None:
        Counted.loads += 1

    def __getstate__(self) -> object:
        return "some"


async def test_a_child_that_begins_beside_its_parent_is_not_read_from_the_journal(url: str):
    @step
    async def hold(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=isinstance(ev.counted, Counted))

    inner = Workflow("inner", [hold])

    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await ctx.run(inner, counted=Counted()))

    outer = Workflow("outer", [body])
    Counted.loads = 0
    async with Engine(url, workflows=[inner, outer]) as engine:
        assert await engine.run(outer) is True
    assert Counted.loads == 0


async def test_what_the_commit_that_makes_a_child_sends_to_it_reaches_it(url: str):
    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        children = [ctx.run(work.waiting, on_parent_end="detach") for _ in range(100)]
        for child in children:
            ctx.send_event(Go(), to=child)
        return StopEvent(result=[child.id for child in children])

    outer = Workflow("outer", [body])
    async with Engine(url, workflows=[*ALL, outer]) as engine, asyncio.timeout(30):
        children = await engine.run(outer)
        assert [await engine.get(child) for child in children] == ["gone"] * 100


async def test_a_child_is_not_given_the_end_of_the_one_that_it_replaces(url: str):
    attempts: list[str] = []

    @step(retry=Retry(2, initial=0))
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        # Another call than that of the first attempt: what that one has started is cancelled.
        child = ctx.run(work.waiting, n=len(attempts))
        attempts.append(child.id)
        if len(attempts) == 1:
            raise ValueError("once")
        await until(has(engine, ctx.run_id(), 1, "cancelled"))
        await engine.send_event(child.id, Go())
        return StopEvent(result=await child)

    outer = Workflow("outer", [body])
    async with Engine(url, workflows=[*ALL, outer]) as engine:
        assert await engine.run(outer) == "gone"


@pytest.mark.timeout(300)
async def test_a_parent_may_end_with_more_children_than_one_commit_cancels():
    count = 31_000

    @step
    async def begin(ctx: Context, ev: StartEvent) -> StopEvent:
        for n in range(count):
            ctx.run(work.waiting, n=n)
            if n % 1000 == 0:
                await asyncio.sleep(0)
        return StopEvent(result="over")

    outer = Workflow("outer", [begin])
    async with Engine("memory:", workflows=[*ALL, outer]) as engine:
        run = engine.run(outer)
        assert await run == "over"
        async with asyncio.timeout(250):
            while len(await engine.runs(parent=run.id, status="cancelled", limit=count)) < count:
                await asyncio.sleep(0.2)


async def test_a_child_is_cancelled_by_its_handle(url: str):
    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        child = ctx.run(work.waiting)
        assert child.cancel()
        with pytest.raises(RunCancelled):
            await child
        return StopEvent(result=child.done())

    outer = Workflow("outer", [body])
    async with Engine(url, workflows=[*ALL, outer]) as engine:
        assert await engine.run(outer) is True


async def test_a_pause_of_the_parent_pauses_it_alone(engine: Engine):
    run = engine.run(work.hold, width=2)
    await until(has(engine, run.id, 2, "waiting"))
    await engine.pause(run.id)
    for child in await family(engine, run.id):
        await engine.send_event(child.id, Go())
    await until(has(engine, run.id, 2, "completed"))
    assert (await engine.get(run.id).info()).status == "paused"
    await engine.resume(run.id)
    assert await run == "all gone"


async def test_a_parent_that_is_retried_keeps_what_children_gave_and_starts_the_others_anew(
    engine: Engine, notes: Path, monkeypatch: pytest.MonkeyPatch
):
    run = engine.run(work.fail_once)
    await until(has(engine, run.id, 1, "waiting"))
    await engine.send_event(run.id, Go())
    with pytest.raises(ValueError, match="the first time"):
        await run
    await until(has(engine, run.id, 1, "cancelled"))
    monkeypatch.setenv("FAMILY_FAILS", "no")
    handle = await engine.retry(run.id)
    await until(has(engine, run.id, 1, "waiting"))
    waiting = next(row for row in await family(engine, run.id) if row.status == "waiting")
    await engine.send_event(waiting.id, Go())
    assert await handle == (10, "gone")
    assert Counter(line.split()[0] for line in noted(notes)) == {"leaf": 1, "waits": 2}


async def test_a_fork_has_the_results_of_children_and_starts_the_others_anew(
    engine: Engine, notes: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FAMILY_FAILS", "no")
    run = engine.run(work.fail_once)
    await until(has(engine, run.id, 1, "waiting"))
    fork = await engine.fork(run.id)
    await engine.send_event(fork.id, Go())
    await until(has(engine, fork.id, 1, "waiting"))
    (child,) = await engine.runs(parent=fork.id)
    await engine.send_event(child.id, Go())
    assert await fork == (10, "gone")
    assert Counter(line.split()[0] for line in noted(notes)) == {"leaf": 1, "waits": 2}
    assert (await engine.get(run.id).info()).status == "waiting"


async def test_a_parent_that_is_deleted_leaves_its_children(engine: Engine):
    run = engine.run(work.tree, width=2, depth=0)
    await run
    await engine.delete(run.id)
    rows = await family(engine, run.id)
    assert [row.parent for row in rows] == [run.id, run.id]


async def test_a_workflow_that_the_engine_does_not_execute_is_no_child(url: str):
    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        with pytest.raises((TreadleError, ValueError)):
            ctx.run(work.leaf, n=1)
        return StopEvent(result="on")

    outer = Workflow("outer", [body])
    async with Engine(url, workflows=[outer]) as engine:
        assert await engine.run(outer) == "on"


async def test_children_go_on_after_the_engine_was_closed(tmp_path: Path, notes: Path):
    url = f"sqlite:///{tmp_path}/runs.db"
    async with Engine(url, workflows=ALL) as engine:
        run = engine.run(work.hold, width=3, key="it")
        await until(has(engine, run.id, 3, "waiting"))
    async with Engine(url, workflows=ALL) as engine:
        for child in await family(engine, run.id):
            await engine.send_event(child.id, Go())
        assert await engine.run(work.hold, width=3, key="it") == "all gone"
        assert len(await family(engine, run.id)) == 3


@pytest.mark.parametrize("durability", ["step", "pipelined"])
async def test_many_children_are_started_once(tmp_path: Path, notes: Path, durability: Any):
    url = f"sqlite:///{tmp_path}/runs.db"
    async with Engine(url, workflows=ALL, durability=durability) as engine:
        run = engine.run(work.tree, width=1500, depth=0)
        assert await run == 10 * sum(range(1500))
        rows = await engine.runs(root=run.id, status="completed", limit=2000)
    assert len(rows) == 1500
    assert len(noted(notes)) == 1500


async def test_a_killed_process_leaves_no_child_twice_and_none_behind(tmp_path: Path, notes: Path):
    path = tmp_path / "runs.db"
    url = f"sqlite:///{path}"
    for kill_after in (0.0, 0.05, 0.1, 0.2, 0.3, 0.5):
        source = STARTER.format(workflow="tree", fields="width=8, depth=2, nap=0.05")
        with Process(path, source) as process:
            process.line()
            await asyncio.sleep(kill_after)
            process.signal(signal.SIGKILL)
            process.wait()
    async with Engine(url, workflows=ALL, lease=1) as engine:
        run = engine.run(work.tree, key="it", width=8, depth=2, nap=0.05)
        assert await asyncio.wait_for(run, 30) == 3 * 280
        rows = await engine.runs(root=run.id, limit=1000)
        assert Counter(row.workflow for row in rows) == {"leaf": 24, "tree": 2}
        assert {row.status for row in rows} == {"completed"}
        assert {row.parent for row in rows if row.workflow == "tree"} <= {
            run.id,
            *(row.id for row in rows),
        }


async def test_a_family_of_which_the_processes_are_elsewhere_is_cancelled(
    tmp_path: Path, notes: Path
):
    path = tmp_path / "runs.db"
    with Process(path, STARTER.format(workflow="hold", fields="width=4")) as first:
        first.line()
        async with Engine(f"sqlite:///{path}", workflows=[], lease=1) as engine:

            async def held() -> bool:
                return len(await engine.runs(workflow="waiting", status="waiting")) == 4

            await until(held)
            (parent,) = await engine.runs(workflow="hold")
            first.signal(signal.SIGKILL)
            first.wait()
            # It is taken over because it was cancelled, and so are its children.
            await engine.cancel(parent.id)
            with Process(path, WORKER) as second:
                second.line()
                await until(has(engine, parent.id, 4, "cancelled"))
                assert (await engine.get(parent.id).info()).status == "cancelled"


async def test_parents_that_wait_leave_room_for_their_children_whatever_the_limit_of_runs(
    tmp_path: Path, notes: Path
) -> None:
    path = tmp_path / "runs.db"
    source = """
    import family_work
    async def main():
        async with Engine(url_of(path), workflows=family_work.ALL, lease=1) as engine:
            for key in "abcd":
                await engine.submit(family_work.tree, key=key, width=3, depth=0, nap=30)
            while len(await engine.runs(workflow="leaf", status="running", limit=100)) < 12:
                await asyncio.sleep(0.01)
            say("all under way")
            await asyncio.sleep(60)
    asyncio.run(main())
    """
    with Process(path, source) as process:
        assert process.line() == "all under way"
        process.kill()
    parents_first = list(reversed(ALL))
    async with Engine(
        f"sqlite:///{path}", workflows=parents_first, lease=1, concurrency=2
    ) as engine:
        parents = [row for row in await engine.runs(workflow="tree") if row.parent is None]
        async with asyncio.timeout(50):
            for leaf in await engine.runs(workflow="leaf", limit=100):
                await engine.cancel(leaf.id)
            for parent in parents:
                with pytest.raises(RunCancelled):
                    await engine.get(parent.id)

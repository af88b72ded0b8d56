"""Runs that failed or were cancelled and go on, and forks of runs."""

import asyncio
import gc
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from journals import POSTGRES, journal_url

from treadle import (
    Context,
    Engine,
    Event,
    JournalConflict,
    Lagged,
    Retry,
    RunCancelled,
    RunEnded,
    StartEvent,
    StepFailed,
    StopEvent,
    UnknownRun,
    UnroutedEvent,
    WaitTimeout,
    Workflow,
    WorkflowTimeout,
    step,
)
from treadle.engine import looking

NOWHERE = "0198c0de-0000-7000-8000-000000000000"


class Page(Event):
    number: int = 0


class Turned(Event):
    number: int


class Lost(Event): ...


class Go(Event): ...


class Other(Event): ...


@step
async def begin(ctx: Context, ev: StartEvent) -> Page:
    ctx.increment("begun")
    return Page()


@step
async def spread(ev: StartEvent) -> list[Page]:
    return [Page(number=number) for number in range(3)]


@step
async def turn(ctx: Context, ev: Page) -> Turned:
    ctx.state.setdefault(f"turned {ev.number}", True)
    return Turned(number=ev.number)


@step
async def count(ctx: Context, ev: Turned) -> StopEvent | None:
    ctx.set("seen", [*ctx.get("seen", []), ev.number])
    if ctx.collect_events(ev, [Turned] * 3) is None:
        return None
    # Any that is there twice comes by then.
    await asyncio.sleep(0.02)
    seen = ctx.get("seen")
    return StopEvent(result=(len(seen), len(set(seen))))


counting = Workflow("counting", [spread, turn, count])


class Told(Event):
    n: int


class Next(Event):
    n: int


@step
async def tell(ctx: Context, ev: StartEvent | Next) -> Next | StopEvent:
    n = ev.n if isinstance(ev, Next) else 1
    for told in (2 * n - 1, 2 * n):
        ctx.write_event_to_stream(Told(n=told))
    return StopEvent(result=n) if n == 3 else Next(n=n + 1)


telling = Workflow("telling", [tell])
trimmed = Workflow("trimmed", [tell], stream_limit=3)


def failing_first(name: str, **options: Any) -> Workflow:
    """Make a workflow whose last step asks `ACTS[name]` what to do, the first time."""

    async def end(ctx: Context, ev: Page) -> StopEvent:
        if ctx.increment("bodies") == 1:
            await ACTS[name](ctx)
        return StopEvent(result=(ctx.get("begun"), ctx.get("bodies")))

    return Workflow(name, [begin, step(**options)(end) if options else step(end)])


async def fail(ctx: Context) -> None:
    raise ConnectionError("not yet")


async def cancel_itself(ctx: Context) -> None:
    raise asyncio.CancelledError("by itself")


async def fail_in_a_group(ctx: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fail(ctx))


async def hang(ctx: Context) -> None:
    HANGING.add(ctx.run_id())
    await asyncio.Event().wait()


HANGING: set[str] = set()
BODIES: Counter[str] = Counter()
ACTS = {"fail": fail, "cancel_itself": cancel_itself, "in_a_group": fail_in_a_group, "hang": hang}
FLOWS = {name: failing_first(name) for name in ACTS}


@step
async def lose(ctx: Context, ev: StartEvent):
    if ctx.increment("bodies") == 1:
        return [Page(), Lost()]
    return [Page(), Page()]


@step
async def count(ctx: Context, ev: Page) -> StopEvent | None:
    if ctx.increment("pages") == 2:
        # Time for a page that came once too often.
        await asyncio.sleep(0.05)
        return StopEvent(result=(ctx.get("bodies"), ctx.get("pages")))
    return None


losing = Workflow("losing", [lose, count])


@step
async def fail_always(ctx: Context, ev: StartEvent) -> StopEvent:
    BODIES[ctx.run_id()] += 1
    raise ConnectionError("never")


never = Workflow("never", [fail_always])


@step
async def hang_once(ctx: Context, ev: StartEvent) -> StopEvent:
    if ctx.increment("bodies") == 1:
        await asyncio.Event().wait()
    return StopEvent(result=ctx.get("bodies"))


limited = Workflow("limited", [hang_once], timeout=0.7)


@step(retry=Retry(attempts=3, backoff="constant", initial=0.2, jitter=0, total_timeout=0.3))
async def stumble(ctx: Context, ev: StartEvent) -> StopEvent:
    bodies = ctx.increment("bodies")
    if bodies < 4:
        raise ConnectionError(f"body {bodies}, attempt {ctx.attempt}")
    return StopEvent(result=(bodies, ctx.attempt))


stumbling = Workflow("stumbling", [stumble])


@step
async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
    ctx.increment("bodies")
    await ctx.wait_for_event(Go, timeout=ev.seconds)
    return StopEvent(result=ctx.get("bodies"))


asking = Workflow("asking", [ask])


@step
async def nap_and_fail(ctx: Context, ev: StartEvent) -> StopEvent:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await ctx.sleep(ev.seconds)
    if ctx.increment("bodies") == 1:
        raise ConnectionError("not yet")
    return StopEvent(result=loop.time() - began)


napping = Workflow("napping", [nap_and_fail])


@step
async def split(ev: StartEvent) -> list[Page | Other]:
    return [Page(), Other()]


@step(retry=Retry(attempts=2, backoff="constant", initial=3600, jitter=0))
async def later(ctx: Context, ev: Page) -> StopEvent:
    if ctx.increment("bodies") == 1:
        raise ConnectionError("not yet")
    return StopEvent(result=ctx.attempt)


@step
async def soon(ctx: Context, ev: Other) -> None:
    if ctx.get("failed") is None:
        await asyncio.sleep(0.1)
        ctx.set("failed", True)
        raise ValueError("another step")


delayed = Workflow("delayed", [split, later, soon])

OTHERS = [losing, never, limited, stumbling, asking, napping, delayed, counting, telling, trimmed]


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return journal_url(request.param, request, tmp_path)


@pytest.fixture
async def engine(url: str) -> AsyncIterator[Engine]:
    async with Engine(url, workflows=[*FLOWS.values(), *OTHERS, cleaning]) as engine:
        yield engine


async def stream_of(engine: Engine, run_id: str, after: int = 0) -> list[Any]:
    return [event async for event in engine.stream_events(run_id, after)]


async def ended(engine: Engine, workflow: Workflow, error: type[BaseException], **fields: Any):
    """Run a workflow that fails or is cancelled; return the run."""
    run = engine.run(workflow, **fields)
    with pytest.raises(error):
        await run
    return run


async def all_of(engine: Engine, run_id: str) -> tuple[Any, ...]:
    handle = engine.get(run_id)
    return (
        await handle.info(),
        await handle.history(),
        await looking.story(engine._session(), run_id),
    )


async def result(handle: Any) -> Any:
    return await asyncio.wait_for(handle, 10)


# What may be retried.


async def test_a_completed_run_is_not_retried_and_keeps_its_result(engine: Engine):
    run = engine.run(FLOWS["fail"])
    with pytest.raises(ConnectionError):
        await run
    assert await result(await engine.retry(run.id)) == (1, 2)
    before = await all_of(engine, run.id)
    with pytest.raises(RunEnded, match=run.id):
        await engine.retry(run.id)
    assert await all_of(engine, run.id) == before
    assert await engine.get(run.id) == (1, 2)


async def test_a_run_that_is_not_over_is_not_retried(engine: Engine):
    run = engine.run(asking, seconds=60)
    run.send_event(Page())
    with pytest.raises(JournalConflict, match=f"{run.id} is not over"):
        await engine.retry(run.id)
    run.send_event(Go())
    assert await run == 1
    with pytest.raises(UnknownRun, match=NOWHERE):
        await engine.retry(NOWHERE)


async def test_of_several_retries_at_once_one_counts(engine: Engine):
    run = await ended(engine, FLOWS["fail"], ConnectionError)
    answers = await asyncio.gather(
        *(engine.retry(run.id) for _ in range(5)), return_exceptions=True
    )
    refused = [it for it in answers if isinstance(it, (JournalConflict, RunEnded))]
    assert len(refused) == 4
    assert all(run.id in str(error) for error in refused)
    assert await result(engine.get(run.id)) == (1, 2)


async def test_a_run_is_retried_by_one_engine_and_claimed_by_another(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    async with Engine(url, workflows=[never]) as worker, Engine(url) as asker:
        run = await ended(worker, never, ConnectionError)
        done = 1
        async with asyncio.timeout(20):
            while done < 10:
                try:
                    await asker.retry(run.id)
                    done += 1
                except JournalConflict:
                    await asyncio.sleep(0.001)
            with pytest.raises(ConnectionError):
                await worker.get(run.id)
        assert BODIES[run.id] == done


# What is done again.


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("fail", ConnectionError),
        ("in_a_group", ExceptionGroup),
        ("cancel_itself", RunCancelled),
    ],
)
async def test_the_step_that_ended_a_run_runs_again(engine: Engine, name: str, error):
    run = await ended(engine, FLOWS[name], error)
    assert await result(await engine.retry(run.id)) == (1, 2)


async def test_the_step_of_a_run_that_was_cancelled_runs_again(engine: Engine):
    run = engine.run(FLOWS["hang"])
    async with asyncio.timeout(10):
        while run.id not in HANGING:
            await asyncio.sleep(0.01)
    run.cancel()
    with pytest.raises(RunCancelled):
        await run
    assert await result(await engine.retry(run.id)) == (1, 2)


async def test_the_step_of_a_run_whose_awaiter_was_closed_runs_again(engine: Engine):
    run = engine.run(FLOWS["hang"], bind=True)
    awaiter = run.__await__()
    while run.id not in HANGING:
        # Whoever awaits drives the run, as a task would.
        waits_for = next(awaiter)
        waits_for._asyncio_future_blocking = False
        if run.id not in HANGING:
            await asyncio.wait([waits_for], timeout=1)
    awaiter.close()
    async with asyncio.timeout(10):
        while (await engine.get(run.id).info()).status != "cancelled":
            await asyncio.sleep(0.01)
    assert await result(await engine.retry(run.id)) == (1, 2)


async def test_a_step_that_returned_what_nobody_takes_runs_again(engine: Engine):
    run = await ended(engine, losing, UnroutedEvent)
    assert await result(await engine.retry(run.id)) == (2, 2)


@step
async def split_in_two(ev: StartEvent) -> list[Page | Other]:
    return [Page(), Other()]


@step
async def set_at_last(ctx: Context, ev: Page) -> None:
    if ctx.get("cleaned") is None:
        try:
            await asyncio.Event().wait()
        finally:
            ctx.set("cleaned", True)
            ctx.write_event_to_stream(Go())


@step
async def fail_beside(ctx: Context, ev: Other) -> StopEvent:
    if ctx.get("cleaned") is None:
        await asyncio.sleep(0.05)
        raise ConnectionError("not yet")
    return StopEvent(result=ctx.get("cleaned"))


cleaning = Workflow("cleaning", [split_in_two, set_at_last, fail_beside])


async def test_what_a_step_set_while_it_was_stopped_is_found_by_the_retry(engine: Engine):
    run = await ended(engine, cleaning, ConnectionError)
    image = (await looking.story(engine._session(), run.id))["now"]
    assert [value["key"] for value in image["state"]] == ["cleaned"]
    fork = await engine.fork(run.id)
    assert await result(await engine.retry(run.id)) is True
    assert await result(fork) is True
    assert len([event async for event in engine.stream_events(run.id)]) == 1


# How much time and how many attempts it has.


async def test_a_run_that_took_too_long_has_its_whole_time_again(engine: Engine):
    run = await ended(engine, limited, WorkflowTimeout)
    await asyncio.sleep(0.1)
    assert await result(await engine.retry(run.id)) == 2
    assert await result(await engine.fork(run.id)) == 3


async def test_a_step_has_all_its_attempts_and_its_whole_time_again(engine: Engine):
    # The third attempt would be due later than the total time allows.
    run = await ended(engine, stumbling, ConnectionError)
    history = await engine.get(run.id).history()
    assert sum(line["what"] == "retried" for line in history) == 1
    fork = await engine.fork(run.id)
    assert await result(await engine.retry(run.id)) == (4, 2)
    assert await result(fork) == (4, 2)


async def test_a_wait_that_timed_out_has_its_whole_time_again(engine: Engine):
    run = await ended(engine, asking, WaitTimeout, seconds=0.6)
    await asyncio.sleep(0.7)
    handle = await engine.retry(run.id)
    # Were the old deadline the one that counts, the run would be over by now.
    async with asyncio.timeout(10):
        while (await handle.info()).status not in ("waiting", "failed"):
            await asyncio.sleep(0.01)
    await handle.send_event(Go())
    assert await result(handle) == 2


async def test_a_step_that_had_slept_sleeps_again(engine: Engine):
    run = await ended(engine, napping, ConnectionError, seconds=0.3)
    assert await result(await engine.retry(run.id)) >= 0.29


async def test_a_step_that_waits_for_its_next_attempt_begins_at_once(engine: Engine):
    run = await ended(engine, delayed, ValueError)
    fork = await engine.fork(run.id)
    assert await result(await engine.retry(run.id)) == 1
    assert await result(fork) == 1


# Where a fork begins.


async def test_a_fork_of_a_record_that_is_not_there_is_refused(engine: Engine):
    run = await ended(engine, FLOWS["fail"], ConnectionError)
    last = (await engine.get(run.id).history())[-1]["seq"] - 1
    for at in (last + 1, last + 100):
        text = f"run {run.id} has no record {at}.* from 0, its creation, to {last}$"
        with pytest.raises(ValueError, match=text):
            await engine.fork(run.id, at=at)
    for at in (-1, 10**30):
        with pytest.raises(ValueError, match="at: "):
            await engine.fork(run.id, at=at)
    with pytest.raises(TypeError, match="at"):
        await engine.fork(run.id, at="3")  # type: ignore[arg-type]
    assert len(await engine.runs()) == 1
    # The first and the last are there.
    first, latest = [await engine.fork(run.id, at=at) for at in (0, last)]
    assert await result(latest) == (1, 2)
    with pytest.raises(ConnectionError):
        await first
    # The failure of the run itself is logged when it is collected. On CPython 3.11 a traceback that
    # is formatted then breaks an `ast.parse` that is under way, such as that of pytest's imports.
    gc.collect()


async def test_a_fork_never_begins_between_what_a_step_emits_and_its_end(engine: Engine):
    run = engine.run(counting)
    assert await run == (3, 3)
    history = await engine.get(run.id).history()
    numbers = [record["seq"] for record in history if record["what"] == "queued"]
    assert len(numbers) > 3
    for number in numbers:
        assert await result(await engine.fork(run.id, at=number)) == (3, 3)


async def test_every_record_of_the_history_may_be_forked(engine: Engine):
    run = engine.run(counting)
    await run
    history = await engine.get(run.id).history()
    assert [history[0]["seq"], history[0]["what"]] == [0, "queued"]
    has_set = False
    for line in history[:-1]:
        # A body that had set the key already, and had not finished, sets it again.
        has_set = line["what"] != "finished" and (has_set or line.get("key") == "seen")
        seen, distinct = await result(await engine.fork(run.id, at=line["seq"]))
        assert (seen, distinct) == (4 if has_set else 3, 3), line


async def test_a_fork_has_what_was_published_before_its_point(engine: Engine):
    run = engine.run(telling)
    assert await run == 3
    history = await engine.get(run.id).history()
    told = [Told(n=n) for n in range(1, 7)]
    assert await stream_of(engine, run.id) == told
    ends = [line["seq"] for line in history if line["what"] == "finished"]
    assert len(ends) == 2
    for number, at in enumerate([0, *ends]):
        info = await engine.get((await engine.fork(run.id, at=at)).id).info()
        assert info.published == 2 * number
        # What its steps publish from there on comes behind it.
        assert await result(engine.get(info.id)) == 3
        assert await stream_of(engine, info.id) == told
        assert await stream_of(engine, info.id, after=2) == told[2:]


async def test_a_fork_of_a_run_whose_stream_was_trimmed_goes_on_with_its_numbers(engine: Engine):
    run = engine.run(trimmed)
    await run
    history = await engine.get(run.id).history()
    at = [line["seq"] for line in history if line["what"] == "finished"][-1]
    fork = await engine.fork(run.id, at=at)
    assert (await fork.info()).published == 4
    await fork
    lagged, *rest = await stream_of(engine, fork.id)
    assert (type(lagged), lagged.missed) == (Lagged, 3)
    assert rest == [Told(n=4), Told(n=5), Told(n=6)]


async def test_a_fork_of_the_creation_of_a_run_does_everything_again(engine: Engine):
    run = engine.run(counting)
    await run
    fork = await engine.fork(run.id, at=0)
    await fork
    told = [
        [(line["what"], line.get("step")) for line in await engine.get(it.id).history()]
        for it in (run, fork)
    ]
    assert told[0] == told[1]


async def test_a_fork_of_what_was_folded_is_refused(engine: Engine):
    run = await ended(engine, FLOWS["fail"], ConnectionError)
    folded = (await engine.get(run.id).info()).seq
    assert await result(await engine.retry(run.id)) == (1, 2)
    with pytest.raises(ValueError, match=re.escape(f"{run.id} has no record 1") + ".*folded"):
        await engine.fork(run.id, at=1)
    assert await result(await engine.fork(run.id, at=folded)) == (1, 2)


# When things happened.


@step(retry=Retry(attempts=2, backoff="constant", initial=0.3, jitter=0))
async def slow(ctx: Context, ev: StartEvent) -> StopEvent:
    await asyncio.sleep(0.2)
    raise ConnectionError("not yet")


@step
async def mend(ctx: Context, ev: StepFailed) -> StopEvent:
    await asyncio.sleep(0.1)
    return StopEvent(result="mended")


mending = Workflow("mending", [slow, mend])


async def test_the_history_says_how_long_each_attempt_took():
    async with Engine("memory:", workflows=[mending]) as engine:
        run = engine.run(mending)
        assert await run == "mended"
        history = await engine.get(run.id).history()
    began = [line["at"] for line in history if line["what"] == "started"]
    ended = [line["at"] for line in history if line["what"] in ("retried", "finished")]
    assert len(began) == 3
    assert len(ended) == 2
    assert all(end - start >= 0.19 for start, end in zip(began, ended, strict=False))
    assert all(end <= start for end, start in zip(ended, began[1:], strict=True))
    due = next(line["due"] for line in history if line["what"] == "retried")
    assert due == pytest.approx(ended[0] + 0.3, abs=0.01)

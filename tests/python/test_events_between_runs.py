"""Events that steps send to other runs: with the step or not at all, and once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from between_work import ALL, Ask, Post, Tell, family, gathering, telling
from journals import POSTGRES, journal_url
from processes import Process

from treadle import (
    Context,
    Engine,
    Event,
    RunEnded,
    StartEvent,
    StepFailed,
    StopEvent,
    UnknownRun,
    UnstorableValue,
    Workflow,
    step,
)

NOBODY = "01900000-0000-7000-8000-000000000000"


@pytest_asyncio.fixture(params=["memory", "sqlite", POSTGRES])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    async with Engine(journal_url(request.param, request, tmp_path), workflows=ALL) as opened:
        yield opened


# Without an engine.


async def test_a_run_in_memory_gets_events_of_another_once_their_step_is_done():
    receiver = gathering.run(Ask(count=2))
    waits = asyncio.ensure_future(receiver)
    assert await telling.run(Tell(to=receiver.id, texts=["a", "b"])) == "told"
    assert await waits == ["a", "b"]


async def test_a_failed_attempt_sends_nothing():
    receiver = gathering.run(Ask(count=1))
    waits = asyncio.ensure_future(receiver)
    await telling.run(Tell(to=receiver.id, texts=["a"], first="fail"))
    assert await waits == ["a"]


async def test_a_run_is_named_by_itself_as_well():
    receiver = gathering.run(Ask(count=1))
    waits = asyncio.ensure_future(receiver)

    @step
    async def send(ctx: Context, event: StartEvent) -> StopEvent:
        ctx.send_event(Post(text="a"), to=receiver)
        return StopEvent()

    await Workflow("sending", [send]).run()
    assert await waits == ["a"]


async def test_what_is_sent_goes_when_the_step_is_done_and_not_before():
    receiver = gathering.run(Ask(count=1))
    waits = asyncio.ensure_future(receiver)
    goes_on = asyncio.Event()

    @step
    async def send(ctx: Context, event: StartEvent) -> StopEvent:
        ctx.send_event(Post(text="a"), to=receiver)
        await goes_on.wait()
        return StopEvent()

    sender = asyncio.ensure_future(Workflow("sending", [send]).run())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waits.done()
    goes_on.set()
    assert await waits == ["a"]
    await sender


async def test_a_step_that_ends_its_run_sends_and_a_run_that_fails_does_not():
    class Middle(Event):
        pass

    receiver = gathering.run(Ask(count=2))
    waits = asyncio.ensure_future(receiver)

    @step
    async def first(ctx: Context, event: StartEvent) -> Middle:
        ctx.send_event(Post(text="first"), to=receiver)
        return Middle()

    @step
    async def second(ctx: Context, event: Middle) -> StopEvent:
        ctx.send_event(Post(text="second"), to=receiver)
        raise ValueError("it fails")

    with pytest.raises(ValueError, match="it fails"):
        await Workflow("sending", [first, second]).run()
    await telling.run(Tell(to=receiver.id, texts=["last"]))
    assert await waits == ["first", "last"]


async def test_a_failure_that_another_step_handles_sends_nothing():
    receiver = gathering.run(Ask(count=1))
    waits = asyncio.ensure_future(receiver)

    @step
    async def send(ctx: Context, event: StartEvent) -> StopEvent:
        ctx.send_event(Post(text="of the failure"), to=receiver)
        raise ValueError("it fails")

    @step
    async def handle(ctx: Context, event: StepFailed) -> StopEvent:
        ctx.send_event(Post(text="of the handler"), to=receiver)
        return StopEvent()

    await Workflow("sending", [send, handle]).run()
    assert await waits == ["of the handler"]


async def test_to_send_to_no_run_is_an_error_of_the_step():
    with pytest.raises(UnknownRun, match=NOBODY):
        await telling.run(Tell(to=NOBODY, texts=["a"]))
    assert await telling.run(Tell(to=NOBODY, texts=["a"], missing="ignore")) == "told"


async def test_to_send_to_a_run_that_is_over_is_an_error_of_the_step():
    receiver = gathering.run(Ask(count=0))
    assert await receiver == []
    with pytest.raises(RunEnded, match=receiver.id) as raised:
        await telling.run(Tell(to=receiver.id, texts=["a"]))
    assert raised.value.run_id == receiver.id
    assert await telling.run(Tell(to=receiver.id, texts=["a"], missing="ignore")) == "told"


async def test_the_error_can_be_handled_by_another_step():
    @step
    def send(ctx: Context, event: StartEvent) -> StopEvent:
        ctx.send_event(Post(text="a"), to=NOBODY)
        return StopEvent()

    @step
    async def handle(event: StepFailed) -> StopEvent:
        return StopEvent(result=type(event.error).__name__)

    assert await Workflow("sending", [send, handle]).run() == "UnknownRun"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"to": 7}, TypeError),
        ({"to": "no id"}, ValueError),
        ({"to": NOBODY, "step": "send"}, TypeError),
        ({"to": NOBODY, "missing": "perhaps"}, ValueError),
        ({"to": NOBODY, "missing": 1}, ValueError),
        ({"missing": "ignore"}, TypeError),
    ],
)
async def test_arguments_that_make_no_sense_are_refused(given: dict[str, object], error: type):
    @step
    async def send(ctx: Context, event: StartEvent) -> StopEvent:
        with pytest.raises(error):
            ctx.send_event(Post(text="a"), **given)  # type: ignore[arg-type]
        return StopEvent(result="refused")

    assert await Workflow("sending", [send]).run() == "refused"


async def test_a_parent_and_a_child_in_memory_send_to_each_other():
    async with asyncio.timeout(20):
        assert await family.run() == "down and up"


# With a journal.


async def test_a_parent_and_a_child_send_to_each_other(engine: Engine):
    async with asyncio.timeout(20):
        assert await engine.run(family) == "down and up"


async def test_runs_of_a_journal_send_to_each_other(engine: Engine):
    receiver = await engine.submit(gathering, count=3)
    await engine.submit(telling, to=receiver, texts=["a", "b"])
    run = engine.run(telling, to=receiver, texts=["c"])
    assert await run == "told"
    assert sorted(await engine.get(receiver)) == ["a", "b", "c"]


async def test_a_run_that_was_only_just_started_is_sent_to(engine: Engine):
    receiver = engine.run(gathering, count=1)
    assert await engine.run(telling, to=receiver.id, texts=["a"]) == "told"
    assert await receiver == ["a"]


async def test_a_failed_attempt_of_a_durable_run_sends_nothing(engine: Engine):
    receiver = await engine.submit(gathering, count=2)
    await engine.run(telling, to=receiver, texts=["a"], first="fail")
    await engine.run(telling, to=receiver, texts=["b"])
    assert await engine.get(receiver) == ["a", "b"]


async def test_no_run_and_a_run_that_is_over_are_errors_of_a_durable_step(engine: Engine):
    over = await engine.submit(gathering, count=0)
    assert await engine.get(over) == []
    for run_id, error in [(NOBODY, UnknownRun), (over, RunEnded)]:
        with pytest.raises(error, match=run_id):
            await engine.run(telling, to=run_id, texts=["a"])
        told = engine.run(telling, to=run_id, texts=["a"], missing="ignore")
        assert await told == "told"
    assert (await engine.get(over).info()).dead_letters == 0


async def test_a_step_sends_no_more_than_one_commit_holds(engine: Engine):
    receiver = engine.run(gathering, Ask(count=1))

    @step
    async def send(ctx: Context, event: StartEvent) -> StopEvent:
        for _ in range(10_000):
            ctx.send_event(Post(text="a"), to=receiver, missing="ignore")
        with pytest.raises(ValueError, match=r'step "send" of run .* more than 10000 events'):
            ctx.send_event(Post(text="b"), to=receiver)
        return StopEvent(result="sent")

    assert await Workflow("sending", [send]).run() == "sent"


async def test_what_cannot_be_stored_is_an_error_of_the_call(tmp_path: Path):
    class Odd(Event):
        what: object

    @step
    async def send(ctx: Context, event: StartEvent) -> StopEvent:
        with pytest.raises(UnstorableValue):
            ctx.send_event(Odd(what=lambda: None), to=NOBODY)
        return StopEvent(result="refused")

    flow = Workflow("sending", [send])
    async with Engine(f"sqlite:///{tmp_path / 'runs.db'}", workflows=[flow]) as engine:
        assert await engine.run(flow) == "refused"


async def test_a_retried_run_sends_what_its_steps_had_not_sent(engine: Engine):
    receiver = await engine.submit(gathering, count=1)
    sender = await engine.submit(telling, to=NOBODY, texts=["a"])
    with pytest.raises(UnknownRun):
        await engine.get(sender)
    await engine.submit(telling, to=receiver, texts=["b"])
    assert await engine.get(receiver) == ["b"]


# Processes.

WORKER = """
from between_work import ALL, gathering, telling
async def main():
    async with Engine(url_of(path), workflows=ALL, lease=1):
        say("open")
        await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_a_process_that_dies_before_the_commit_has_sent_nothing(tmp_path: Path):
    path, mark = tmp_path / "runs.db", tmp_path / "mark"
    async with Engine(f"sqlite:///{path}") as sender:
        with Process(path, WORKER) as worker:
            assert worker.line() == "open"
            receiver = await sender.submit(gathering, count=2)
            texts = {"texts": ["a"], "first": "die", "mark": str(mark)}
            told = await sender.submit(telling, to=receiver, **texts)
            assert worker.wait() == -9
        with Process(path, WORKER) as worker:
            assert worker.line() == "open"
            async with asyncio.timeout(30):
                assert await sender.get(told) == "told"
                await sender.submit(telling, to=receiver, texts=["b"])
                assert await sender.get(receiver) == ["a", "b"]


async def test_events_cross_processes_that_are_killed_again_and_again(tmp_path: Path):
    path = tmp_path / "runs.db"
    senders, kills = 30, 5
    async with Engine(f"sqlite:///{path}") as outside:
        receiver = await outside.submit(gathering, count=senders)
        for number in range(senders):
            await outside.submit(telling, to=receiver, texts=[f"{number}"])
        for kill in range(kills):
            with Process(path, WORKER) as worker:
                assert worker.line() == "open"
                await asyncio.sleep(0.02 * kill)
        with Process(path, WORKER) as worker:
            assert worker.line() == "open"
            async with asyncio.timeout(40):
                got = await outside.get(receiver)
    assert sorted(got, key=int) == [f"{number}" for number in range(senders)]

"""Events that are sent to one step by its name."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from treadle import (
    Context,
    Engine,
    Event,
    Retry,
    RunEnded,
    StartEvent,
    StopEvent,
    UnroutedEvent,
    Workflow,
    step,
)


class Job(Event):
    number: int = 0


class Urgent(Job):
    pass


class Done(Event):
    by: str


@step
async def left(ev: Job) -> Done:
    return Done(by=f"left {ev.number}")


@step
async def right(ev: Job) -> Done:
    return Done(by=f"right {ev.number}")


@step
async def urgent(ev: Urgent) -> Done:
    return Done(by="urgent")


def workflow(send: Any, count: int = 1, **options: Any) -> Workflow:
    @step
    async def end(ctx: Context, ev: Done) -> StopEvent | None:
        done = ctx.collect_events(ev, [Done] * count)
        return StopEvent(result=sorted(one.by for one in done)) if done else None

    return Workflow("sends", [step(**options)(send), left, right, urgent, end])


async def test_an_event_goes_to_the_step_that_is_named_alone():
    async def send(ctx: Context, ev: StartEvent) -> Job | Urgent | None:
        ctx.send_event(Job(number=1), step="right")
        ctx.send_event(Job(number=2), step="left")
        return None

    assert await workflow(send, 2).run() == ["left 2", "right 1"]


async def test_a_step_that_accepts_a_base_class_is_sent_what_would_go_elsewhere():
    async def send(ctx: Context, ev: StartEvent) -> Job | Urgent | None:
        ctx.send_event(Urgent(number=3), step="left")
        return None

    assert await workflow(send).run() == ["left 3"]


async def test_an_event_for_a_step_passes_those_who_wait_for_its_class():
    @step
    async def wait(ctx: Context, ev: StartEvent) -> None:
        await ctx.wait_for_event(Job)

    @step
    async def send(ctx: Context, ev: StartEvent) -> Job | None:
        await asyncio.sleep(0)
        ctx.send_event(Job(number=1), step="left")
        return None

    @step
    async def end(ev: Done) -> StopEvent:
        return StopEvent(result=ev.by)

    assert await Workflow("passes", [wait, send, left, end]).run() == "left 1"


@pytest.mark.parametrize(
    ("event", "name", "text"),
    [
        (
            Job(),
            "centre",
            r'"send" of run .* to step "centre", which workflow "sends" does not have',
        ),
        (Job(), "urgent", r'to step "urgent", which does not accept it; it accepts: .*Urgent'),
        (Done(by="x"), "left", r'to step "left", which does not accept it'),
        (7, "left", r"sent 7 to step"),
    ],
)
async def test_a_step_that_there_is_not_or_that_does_not_accept_it_is_an_error_of_the_sender(
    event: object, name: str, text: str
):
    async def send(ctx: Context, ev: StartEvent) -> Job | Urgent | None:
        with pytest.raises(UnroutedEvent, match=text):
            ctx.send_event(event, step=name)
        return Job()

    assert await workflow(send, 2).run() == ["left 0", "right 0"]


async def test_a_name_that_is_no_text_is_refused():
    async def send(ctx: Context, ev: StartEvent) -> Job | Urgent | None:
        with pytest.raises(TypeError, match="step: the name of a step expected"):
            ctx.send_event(Job(), step=left)  # type: ignore[arg-type]
        return Job()

    await workflow(send, 2).run()


async def test_a_body_that_is_tried_again_delivers_nothing_twice_and_the_same_to_another_step():
    async def send(ctx: Context, ev: StartEvent) -> Job | Urgent | None:
        ctx.send_event(Job(number=1), step="left")
        ctx.send_event(Job(number=1), step="right")
        if ctx.attempt == 1:
            raise ConnectionError
        ctx.send_event(Job(number=2), step="left")
        return None

    run = workflow(send, 3, retry=Retry(2, initial=0)).run()
    assert await run == ["left 1", "left 2", "right 1"]


async def test_a_run_that_has_ended_takes_none():
    given: list[Context] = []

    @step
    async def send(ctx: Context, ev: StartEvent) -> StopEvent | Job:
        given.append(ctx)
        return StopEvent()

    @step
    async def end(ev: Done) -> None: ...

    await Workflow("ended", [send, left, end]).run()
    with pytest.raises(RunEnded, match="send_event"):
        given[0].send_event(Job(), step="left")


async def test_after_a_restart_nothing_that_was_sent_to_a_step_is_sent_again(tmp_path: Path):
    bodies: list[str] = []

    class Go(Event):
        pass

    @step
    async def send(ctx: Context, ev: StartEvent) -> Job | StopEvent:
        ctx.send_event(Job(number=1), step="note")
        await ctx.wait_for_event(Go)
        return StopEvent(result=bodies)

    @step
    async def note(ev: Job) -> None:
        bodies.append("note")

    @step
    async def other(ev: Job) -> None:
        bodies.append("other")

    sends = Workflow("sends", [send, note, other])
    url = f"sqlite:///{tmp_path}/runs.db"
    async with asyncio.timeout(60), Engine(url, workflows=[sends]) as engine:
        run_id = engine.run(sends).id
        while (await engine.get(run_id).info()).status != "waiting":
            await asyncio.sleep(0.01)
    async with asyncio.timeout(60), Engine(url, workflows=[sends]) as engine:
        await engine.send_event(run_id, Go())
        await engine.get(run_id)
    assert bodies == ["note"]

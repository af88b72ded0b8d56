"""A run in memory that waits and that nothing refers to is stopped, and a warning says why."""

import asyncio
import gc
import logging
from typing import Any

import pytest
from isolated import run_script

from treadle import Context, Event, StartEvent, StopEvent, Workflow, step


class Approval(Event):
    pass


def asking(notes: list[str]) -> Workflow:
    @step
    async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
        try:
            await ctx.wait_for_event(Approval)
        finally:
            ctx.set("noted", True)
            notes.append("closed")
        return StopEvent()

    return Workflow("asking", [ask])


async def begun(run: Any) -> str:
    for _ in range(20):
        await asyncio.sleep(0)
    assert run.status in ("running", "waiting")
    return str(run.id)


async def collected(caplog: pytest.LogCaptureFixture) -> str:
    for _ in range(3):
        gc.collect()
        await asyncio.sleep(0)
    return "\n".join(record.getMessage() for record in caplog.records)


async def test_a_warning_names_the_run_the_workflow_and_the_event(caplog: pytest.LogCaptureFixture):
    notes: list[str] = []
    run_id = await begun(asking(notes).run())
    with caplog.at_level(logging.WARNING):
        text = await collected(caplog)
    assert f'run {run_id} of workflow "asking" was stopped' in text
    assert 'step "ask" waited for' in text
    assert "Approval" in text
    assert "Task was destroyed" not in text
    assert notes == ["closed"]
    assert len(caplog.records) == 1


async def test_a_warning_names_a_step_that_waits_for_something_else(
    caplog: pytest.LogCaptureFixture,
):
    @step
    async def hang(ev: StartEvent) -> StopEvent:
        await asyncio.get_running_loop().create_future()
        return StopEvent()

    await begun(Workflow("hanging", [hang]).run())
    text = await collected(caplog)
    assert 'step "hang" waited' in text
    assert len(caplog.records) == 1


async def test_a_warning_says_that_a_run_waited_for_an_event_from_outside(
    caplog: pytest.LogCaptureFixture,
):
    @step
    async def begin(ev: StartEvent) -> None:
        return None

    @step(external=True)
    async def end(ev: Approval) -> StopEvent:
        return StopEvent()

    await begun(Workflow("outside", [begin, end]).run())
    assert "waited for an event from outside" in await collected(caplog)


async def test_many_steps_are_closed_and_named(caplog: pytest.LogCaptureFixture):
    notes: list[str] = []

    class Item(Event):
        pass

    @step
    async def begin(ev: StartEvent) -> list[Item]:
        return [Item() for _ in range(20)]

    @step
    async def ask(ctx: Context, ev: Item) -> StopEvent:
        try:
            await ctx.wait_for_event(Approval)
        finally:
            notes.append("closed")
        return StopEvent()

    await begun(Workflow("many", [begin, ask]).run())
    text = await collected(caplog)
    assert len(caplog.records) == 1
    assert "Approval" in text
    assert notes == ["closed"] * 20


async def test_without_a_listener_the_loop_is_told(monkeypatch: pytest.MonkeyPatch):
    told: list[dict[str, Any]] = []
    monkeypatch.setattr("treadle.log._is_listened_to", lambda: False)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    await begun(asking([]).run())
    for _ in range(3):
        gc.collect()
        await asyncio.sleep(0)
    assert [context["message"].partition(", because")[0][-11:] for context in told] == [
        "was stopped"
    ]


async def test_what_is_referred_to_goes_on(caplog: pytest.LogCaptureFixture):
    kept = asking([]).run()
    awaited = asyncio.create_task(result_of(asking([]).run()))
    slept = asyncio.Event()

    @step
    async def sleep(ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.sleep(0.02)
        slept.set()
        return StopEvent()

    Workflow("sleeping", [sleep]).run()
    await begun(kept)
    assert await collected(caplog) == ""
    kept.send_event(Approval())
    await kept
    await asyncio.wait_for(slept.wait(), 10)
    awaited.cancel()
    with pytest.raises(asyncio.CancelledError):
        await awaited
    assert await collected(caplog) == ""


async def result_of(run: Any) -> Any:
    return await run


async def test_a_paused_run_may_be_dropped(caplog: pytest.LogCaptureFixture):
    @step
    async def begin(ev: StartEvent) -> Approval:
        return Approval()

    @step
    async def end(ev: Approval) -> StopEvent:
        return StopEvent()

    run = Workflow("paused", [begin, end]).run()
    await run.pause()
    del run
    assert await collected(caplog) == ""


@pytest.mark.parametrize("new_loop", ["asyncio.new_event_loop", "uvloop.new_event_loop"])
def test_a_loop_that_is_closed_before_its_runs_are_over_leaves_no_noise_of_asyncio(new_loop: str):
    if new_loop.startswith("uvloop"):
        pytest.importorskip("uvloop")
    printed = run_script(f"""
        import logging, sys
        if {new_loop!r}.startswith("uvloop"):
            import uvloop
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        class Approval(Event): pass
        @step
        async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
            await ctx.wait_for_event(Approval)
            return StopEvent()
        async def main():
            Workflow("asking", [ask]).run()
            for _ in range(5):
                await asyncio.sleep(0)
        gc.disable()
        loop = {new_loop}()
        loop.run_until_complete(main())
        loop.close()
        gc.collect()
        """)
    assert printed.count("was stopped") == 1
    assert "destroyed" not in printed


def test_a_run_of_a_closed_loop_is_stopped_in_whatever_thread_it_is_collected():
    printed = run_script("""
        import logging, sys, threading
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        sys.unraisablehook = lambda what: print("unraisable", what.exc_value)
        class Approval(Event): pass
        @step
        async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
            await ctx.wait_for_event(Approval)
            return StopEvent()
        async def main():
            Workflow("asking", [ask]).run()
            for _ in range(5):
                await asyncio.sleep(0)
        gc.disable()
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        thread = threading.Thread(target=gc.collect)
        thread.start()
        thread.join()
        """)
    assert printed.count("was stopped") == 1
    assert "unraisable" not in printed

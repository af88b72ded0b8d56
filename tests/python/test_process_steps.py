"""Steps that run in other processes."""

import asyncio
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import process_steps
import pytest

from treadle import (
    Context,
    Engine,
    Run,
    RunCancelled,
    StartEvent,
    StepProcessDied,
    StepTimeout,
    StopEvent,
    StoredError,
    UnstorableValue,
    Workflow,
    WorkflowDefinitionError,
    step,
)

flow = Workflow("in processes", [process_steps.work])


def run(what: str, *arguments: Any) -> Run:
    return flow.run(process_steps.Work(what=what, arguments=arguments))


async def process_id(folder: Path) -> int:
    """Wait for the process of a step that hangs."""
    while not (names := os.listdir(folder)):
        await asyncio.sleep(0.01)
    return int(names[0])


def lives(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    # One that ended is there until its parent, or the init process, waits for it.
    stat = Path(f"/proc/{process_id}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


async def test_a_step_runs_in_another_process_which_serves_the_next_one_as_well():
    first = await run("pid")
    assert first != os.getpid()
    assert await run("pid") == first


async def test_steps_that_run_at_once_have_a_process_each():
    await asyncio.gather(*[run("pid") for _ in range(4 * (os.cpu_count() or 1))])
    pids = {await run("pid") for _ in range(4)}
    assert len(pids) <= (os.cpu_count() or 1)


async def test_values_arrive_there_and_come_back():
    values = (b"\0" * 5_000_000, {1: {2, 3}}, Path("x"))
    assert await run("echo", *values) == values


async def test_the_event_may_be_given_by_keyword():
    keyword = Workflow("keyword", [process_steps.work_by_keyword])
    assert await keyword.run(process_steps.Work(what="this")) == "this"


async def test_an_exception_is_that_of_the_step_and_shows_where_it_was_raised():
    with pytest.raises(LookupError, match="nothing") as caught:
        await run("raise", LookupError("nothing"))
    assert any("in _raise" in note for note in caught.value.__notes__)


async def test_an_exception_that_cannot_be_pickled_keeps_its_type_and_text():
    with pytest.raises(StoredError, match="Unpicklable: 1 and 2"):
        await run("raise what cannot be pickled")


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(4)], ids=repr
)
async def test_what_would_end_a_program_fails_the_step_alone(error: BaseException):
    with pytest.raises(RuntimeError, match=type(error).__name__):
        await run("raise", error)


async def test_an_interrupt_from_the_terminal_does_not_reach_it():
    assert await run("interrupt") is None


async def test_a_result_that_cannot_be_pickled_is_an_error_that_names_the_step():
    with pytest.raises(UnstorableValue, match=r"step 'work'.*its result cannot be pickled"):
        await run("return what cannot be pickled")


async def test_an_event_that_cannot_be_pickled_is_an_error_that_names_the_step():
    with pytest.raises(UnstorableValue, match=r"step 'work'.*Work cannot be pickled"):
        await run("echo", lambda: None)


async def test_a_step_whose_process_dies_fails_and_the_next_one_has_a_new_process():
    with pytest.raises(StepProcessDied, match="exit code 3") as caught:
        await run("exit at once")
    assert (caught.value.step, caught.value.exit_code) == ("work", 3)
    assert await run("echo") == ()


async def test_a_step_whose_process_is_killed_is_tried_again(tmp_path: Path):
    assert await run("die", tmp_path, 2) == 2


async def test_a_step_that_is_cancelled_kills_its_process(tmp_path: Path):
    running = run("hang", tmp_path)
    hanging = await process_id(tmp_path)
    running.cancel()
    with pytest.raises(RunCancelled):
        await running
    assert not lives(hanging)


async def test_a_step_that_takes_too_long_is_ended():
    limited = Workflow("limited", [process_steps.work_with_limit])
    with pytest.raises(StepTimeout):
        await limited.run(process_steps.Work(what="sleep", arguments=(600,)))


async def test_steps_that_wait_for_a_process_are_cancelled_without_one(tmp_path: Path):
    most = os.cpu_count() or 1
    running = [run("hang", tmp_path) for _ in range(2 * most)]
    while len(os.listdir(tmp_path)) < most:
        await asyncio.sleep(0.01)
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert len(os.listdir(tmp_path)) == most


async def test_a_durable_step_in_a_process_has_its_result_in_the_journal(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/runs.db"
    async with Engine(url, workflows=[flow]) as engine:
        event = process_steps.Work(what="echo", arguments=(1, "two"))
        assert await engine.run(flow, event, key="once") == (1, "two")


def test_the_loop_goes_on_while_processes_are_busy():
    async def main() -> tuple[int, int]:
        passes = 0
        running = asyncio.ensure_future(as_coroutine(run("burn", 300_000)))
        while not running.done():
            passes += 1
            await asyncio.sleep(0)
        return passes, running.result()

    passes, result = asyncio.run(main())
    assert result == sum(range(300_000))
    assert passes > 100


async def as_coroutine(run: Run) -> Any:
    return await run


def test_processes_end_with_the_program_that_is_killed(tmp_path: Path):
    source = f"""
        import asyncio, pathlib, process_steps, treadle
        flow = treadle.Workflow("hang", [process_steps.work])
        event = process_steps.Work(what="hang", arguments=(pathlib.Path({str(tmp_path)!r}),))
        async def main():
            await flow.run(event)
        if __name__ == "__main__":
            asyncio.run(main())
    """
    program = tmp_path.parent / f"{tmp_path.name}.py"
    program.write_text(textwrap.dedent(source))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    running = subprocess.Popen([sys.executable, program], env=environment)
    try:
        hanging = asyncio.run(asyncio.wait_for(process_id(tmp_path), 30))
    finally:
        running.kill()
        running.wait()
    until = time.monotonic() + 20
    while lives(hanging):
        assert time.monotonic() < until, "the process of the step lives on"
        time.sleep(0.01)


def test_a_program_without_a_main_guard_is_told_of_it(tmp_path: Path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import asyncio
            from treadle import StartEvent, StopEvent, Workflow, step

            @step(process=True)
            def work(ev: StartEvent) -> StopEvent:
                return StopEvent(result=1)

            async def main():
                await Workflow("w", [work]).run()

            asyncio.run(main())
        """)
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=40)
    assert done.returncode == 1
    assert "StepProcessDied" in done.stderr
    assert "if __name__ == '__main__':" in done.stderr


def refused(*steps: Any) -> str:
    with pytest.raises(WorkflowDefinitionError) as caught:
        Workflow("refused", steps)
    return str(caught.value)


@step(process=True)
def with_context(ctx: Context, ev: StartEvent) -> StopEvent: ...


@step(process=True)
async def with_await(ev: StartEvent) -> StopEvent: ...


@step(process=True, inline=True)
def inline(ev: StartEvent) -> StopEvent: ...


def test_steps_that_cannot_run_elsewhere_are_refused():
    @step(process=True)
    def local(ev: StartEvent) -> StopEvent: ...

    assert "'with_context': process=True: another process has no Context" in refused(with_context)
    assert "'with_await': process=True is for a plain function" in refused(with_await)
    assert "'inline': process=True and inline=True exclude" in refused(inline)
    assert "'local': process=True: another process imports" in refused(local)

"""What runs do at the end of the program: nothing crashes, hangs or is left pending."""

import subprocess
import sys
import textwrap

import pytest

LOOPS = ["asyncio", "uvloop"]

HEAD = """
import asyncio, gc, os, sys, weakref
from treadle import *

class Ask(Event):
    n: int = 0

@step
async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
    LATE.context = ctx
    await ctx.wait_for_event(Ask)
    return StopEvent()

asking = Workflow("asking", [ask])

class LATE:
    run = context = None
    refused = 0

# What they use is theirs, since globals may be gone.
def act(LATE=LATE, Ask=Ask, StopEvent=StopEvent, asking=asking, write=os.write, object=object):
        DO
        write(1, b"acted %d" % LATE.refused)

class Late:
    def __del__(self, act=act):
        act()

async def begin():
    LATE.run = asking.run()
    while LATE.context is None:
        await asyncio.sleep(0)
"""

CALLS = [
    "LATE.run.send_event(Ask())",
    "LATE.run.send_event(StopEvent())",
    "LATE.context.set('key', object)",
    "LATE.context.get('key')",
    "LATE.run.cancel()",
    "LATE.context.write_event_to_stream(Ask())",
    "LATE.run.detach()",
    "LATE.run.pause()",
    "LATE.run.resume()",
    "(LATE.run.status, repr(LATE.run))",
    "asking.run()",
    "LATE.context.increment('key', 'text')",
    "LATE.context.collect_events(Ask(), [Ask])",
    "LATE.context.wait_for_event(Ask)",
    "LATE.run.snapshot()",
    "LATE.run.stream_events().__anext__().__next__()",
    "LATE.run.__await__().__next__()",
]

# When the call is made.
MOMENTS = {
    "in __del__ of a global after asyncio.run": """
        asyncio.run(begin())
        late = Late()
        """,
    "in __del__ of a global, the loop open": """
        loop = asyncio.new_event_loop()
        loop.run_until_complete(begin())
        late = Late()
        """,
    "in the finally of a coroutine that is destroyed at the end": """
        async def clean_up(act=act):
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                act()
        loop = asyncio.new_event_loop()
        async def main():
            await begin()
            global task
            task = clean_up()
            task.send(None)
        loop.run_until_complete(main())
        """,
    "in a module that is torn down": """
        import types
        module = types.ModuleType("torn_down")
        module.late = Late()
        module.kept = (LATE, asking)
        sys.modules["torn_down"] = module
        loop = asyncio.new_event_loop()
        loop.run_until_complete(begin())
        sys.torn_down = module
        """,
    "behind an ended run": """
        async def main():
            await begin()
            LATE.run.send_event(Ask())
            await LATE.run
        asyncio.run(main())
        late = Late()
        """,
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_calls_at_the_end_of_the_interpreter_crash_nothing(moment: str):
    calls = "\n        ".join(
        f"try: {call}\n        except BaseException: LATE.refused += 1" for call in CALLS
    )
    source = HEAD.replace("DO", calls) + textwrap.dedent(MOMENTS[moment])
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    assert "panicked" not in done.stderr, done.stderr[-2000:]
    # All of them were made.
    assert done.stdout.startswith("acted ")


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_error_at_the_end_of_the_interpreter_is_no_crash(moment: str):
    source = HEAD.replace("DO", "LATE.run.send_event(Ask())") + textwrap.dedent(MOMENTS[moment])
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode in (0, 1), (done.returncode, done.stderr[-2000:])
    assert "panicked" not in done.stderr, done.stderr[-2000:]


def run_under(loop: str, source: str) -> tuple[str, str]:
    """Return what a script prints whose `run` is that of an event loop."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    head = f"import asyncio, gc, sys\nfrom {loop} import run\nfrom treadle import *\n"
    done = subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(source)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, done.stderr


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("passes", range(5))
@pytest.mark.parametrize("slow", [False, True])
def test_a_run_made_just_before_the_end_is_cancelled(loop: str, passes: int, slow: bool):
    out, err = run_under(
        loop,
        f"""
        @step
        async def hang(ev: StartEvent) -> StopEvent:
            await asyncio.sleep(1000)
            return StopEvent()

        async def clean_up_slowly():
            try:
                await asyncio.sleep(1000)
            finally:
                await asyncio.sleep(0.01)

        async def main():
            global runs
            if {slow}:
                asyncio.create_task(clean_up_slowly())
                await asyncio.sleep(0)
            runs = [Workflow("hanging", [hang]).run() for _ in range(3)]
            for _ in range({passes}):
                await asyncio.sleep(0)

        run(main())
        print(*(one.status for one in runs))
        del runs
        gc.collect()
        """,
    )
    assert out.split() == ["cancelled"] * 3
    assert err == ""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_run_made_in_the_clean_up_of_the_program_is_let_go(loop: str):
    out, err = run_under(
        loop,
        """
        import weakref

        @step
        async def hang(ev: StartEvent) -> StopEvent:
            await asyncio.sleep(1000)
            return StopEvent()

        async def left_behind():
            global made
            try:
                await asyncio.sleep(1000)
            finally:
                made = Workflow("hanging", [hang]).run()

        async def main():
            global task
            task = asyncio.create_task(left_behind())
            await asyncio.sleep(0)

        run(main())
        known = weakref.ref(made)
        del made, task
        gc.collect()
        print(known())
        """,
    )
    assert out.split() == ["None"]
    assert err == ""

"""A process whose runs take long, until it is told to end, is killed or is frozen."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from treadle import Context, Engine, JournalConflict, Run, StartEvent, StopEvent, Workflow, step

from .promises import Log

LOG: Log


@step
async def toil(ctx: Context, ev: StartEvent) -> StopEvent:
    """Take long in the process that has started the run, and no time in any other."""
    LOG("begins", ctx.run_id(), "toil")
    if os.getpid() == ev.by:
        await asyncio.sleep(ev.seconds)
        ctx.set("late", True)
    return StopEvent(result=[os.getpid() == ev.by, sorted(ctx)])


toiling = Workflow("toiling", [toil])


async def execute(url: str, log: str, name: str, runs: int, seconds: float, lease: float) -> None:
    """Start so many runs, each of which takes so many seconds here; close when told by SIGTERM."""
    global LOG
    LOG = Log(Path(log), name)
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    async with Engine(url, workflows=[toiling], lease=lease) as engine:
        LOG("opened")
        # With a key, so that a body begins only when the run is on disk.
        started = [
            engine.run(toiling, by=os.getpid(), seconds=seconds, key=f"{name} {number}")
            for number in range(runs)
        ]
        watching = [asyncio.ensure_future(_watch(run)) for run in started]
        await told.wait()
        await engine.close(grace=0.1)
        LOG("closed")
        await asyncio.gather(*watching, return_exceptions=True)


async def _watch(run: Run) -> None:
    try:
        LOG("ended", run.id, await run)
    except JournalConflict:
        LOG("refused", run.id)


def main() -> None:
    """Do what the command line says."""
    asyncio.run(execute(*json.loads(sys.argv[1])))

"""A report at regular times, as by cron: one run that sleeps, reports, and sleeps again.

    python examples/report.py --every 60

Kill it and start it again: the next report comes at its time. Reports that were due while no
process ran are made up for by one. A finished report is not made again, and the run does
not grow.
"""

import argparse
import asyncio
import time
from pathlib import Path

from treadle import Context, Engine, Event, StartEvent, StopEvent, Workflow, step


class Schedule(StartEvent):
    every: float
    times: int | None
    folder: str


class Due(Event):
    number: int
    at: float


class Report(Event):
    number: int
    at: float


@step
async def begin(ctx: Context, ev: Schedule) -> Due:
    """Keep the schedule; the first report is due after one interval."""
    ctx.set("schedule", {"every": ev.every, "times": ev.times, "folder": ev.folder})
    return Due(number=1, at=time.time() + ev.every)


@step
async def wait(ctx: Context, ev: Due) -> Report:
    """Sleep until the report is due. After a restart, the same moment counts."""
    await ctx.sleep(max(0.0, ev.at - time.time()))
    return Report(number=ev.number, at=ev.at)


@step
def report(ctx: Context, ev: Report) -> Due | StopEvent:
    """Make the report, in a thread, and say when the next one is due.

    The file has the number of the report: a body that runs again writes the same file.
    """
    schedule = ctx.get("schedule")
    Path(schedule["folder"], f"report-{ev.number}.txt").write_text(f"due at {ev.at}\n")
    print("report", ev.number, flush=True)
    if ev.number == schedule["times"]:
        return StopEvent(result=f"{ev.number} reports")
    missed = max(0, int((time.time() - ev.at) / schedule["every"]))
    return Due(number=ev.number + 1, at=ev.at + (missed + 1) * schedule["every"])


reports = Workflow("reports", [begin, wait, report])


async def main(every: float, times: int | None, folder: str, journal: str) -> None:
    """Start the schedule, or continue it."""
    async with Engine(f"sqlite:///{journal}", workflows=[reports]) as engine:
        schedule = Schedule(every=every, times=times, folder=folder)
        print(await engine.run(reports, schedule, key="daily report"))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Reports at regular times.")
    arguments.add_argument("--every", type=float, default=86_400, help="seconds (a day)")
    arguments.add_argument("--times", type=int, help="stop after so many")
    arguments.add_argument("--folder", default=".")
    arguments.add_argument("--journal", default="reports.db")
    asyncio.run(main(**vars(arguments.parse_args())))

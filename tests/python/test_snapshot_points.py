"""A run that is put down at any instant ends as if it had not been."""

import asyncio
import pickle
import random
import subprocess
import sys
from pathlib import Path

from snapshot_workflow import APPROVALS, everything

from treadle import Context, Event, Retry, StartEvent, StepFailed, StopEvent, Workflow, step
from treadle.testing import ManualClock, crash_points

SECRET = "a secret of the tests"
POINTS_AT_LEAST = 10_000

RESUME_ALL = """
import asyncio, pickle, sys
from snapshot_workflow import APPROVALS, everything
from treadle.testing import ManualClock
from treadle.testing.crashes import _Driver

async def main():
    with open(sys.argv[1], "rb") as file:
        points = pickle.load(file)
    outcomes = []
    for snapshot, sent in points:
        with ManualClock() as clock:
            run = everything.resume(snapshot, secret=sys.argv[2])
            driver = _Driver(APPROVALS, sent)
            run._probe(driver.count)
            outcomes.append(await driver.drive(run, clock))
    with open(sys.argv[1], "wb") as file:
        pickle.dump(outcomes, file)

asyncio.run(main())
"""


async def test_every_instant_of_a_workflow_that_does_everything():
    report = await crash_points(everything, send=APPROVALS, secret=SECRET, pages=4)
    words = {point.after for point in report.points}
    assert report.outcome[:2] == ("completed", (20, 1, 2, (1, 2)))
    assert {"started", "finished", "retried", "due", "waiting", "collected"} <= words
    assert {"stored", "sent", "published"} <= words
    assert _without_notes(report) == []


def _without_notes(report) -> list[str]:
    # A step that counts by itself counts again when its body runs again: that alone may differ.
    return [line for line in report.differences if not _differs_in_counts_alone(line, report)]


def _differs_in_counts_alone(line: str, report) -> bool:
    status, result, state = eval(line.split(": ", 1)[1], {})
    names = [name for name, value in state.items() if value != report.outcome[2].get(name)]
    same = (status, result) == report.outcome[:2] and state.keys() == report.outcome[2].keys()
    return same and all(name.startswith("note ") and state[name] <= 2 for name in names)


def resume_all(points: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RESUME_ALL, str(points), SECRET],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def test_every_instant_goes_on_in_a_fresh_process(tmp_path: Path):
    report = await crash_points(everything, send=APPROVALS, secret=SECRET, pages=3)
    points = tmp_path / "points"
    points.write_bytes(pickle.dumps([(point.snapshot, point.sent) for point in report.points]))
    resume_all(points)
    outcomes = pickle.loads(points.read_bytes())
    assert len(outcomes) == len(report.points) > 50
    for (status, result, state), point in zip(outcomes, report.points, strict=True):
        assert (status, result) == report.outcome[:2], point
        assert state.keys() == report.outcome[2].keys(), point


class Job(Event):
    number: int
    depth: int


class Done(Event):
    number: int


class Answer(Event):
    number: int


class Mark(Event):
    number: int


def generated(seed: int) -> tuple[Workflow, list[Event]]:
    """A workflow of which neither result nor state depend on the order, nor on bodies run twice."""
    chance = random.Random(seed)
    fan_out = chance.randint(1, 4)
    depth = chance.randint(0, 2)
    fails = chance.random() < 0.4
    asks = [number for number in range(fan_out) if chance.random() < 0.4]
    actions = [chance.choice(["pass", "sleep", "set", "send", "publish"]) for _ in range(3)]
    by_hand = chance.random() < 0.5
    limit = chance.choice([None, 1, 2])

    @step
    async def begin(ctx: Context, ev: StartEvent) -> list[Job] | None:
        jobs = [Job(number=number, depth=depth) for number in range(fan_out)]
        if not by_hand:
            return jobs
        for job in jobs:
            ctx.send_event(job)
            await asyncio.sleep(0)
        return None

    @step(retry=Retry(attempts=2, initial=chance.choice([0, 5])), concurrency=limit)
    async def work(ctx: Context, ev: Job) -> Job | Done:
        for action in actions:
            if action == "pass":
                await asyncio.sleep(0)
            elif action == "sleep":
                await ctx.sleep(ev.number + 1)
            elif action == "set":
                ctx.set(f"{ev.number} {ev.depth}", ("seen", ev.number))
            elif action == "publish":
                ctx.write_event_to_stream(ev)
            elif action == "send":
                ctx.send_event(Mark(number=ev.number))
        if fails and ctx.attempt == 1:
            raise ValueError(ev.number)
        if ev.depth > 0:
            return Job(number=ev.number, depth=ev.depth - 1)
        if ev.number in asks:
            await ctx.wait_for_event(Answer, match={"number": ev.number})
        return Done(number=ev.number)

    @step
    async def mark(ctx: Context, ev: Mark) -> None:
        ctx.set(f"marked {ev.number}", True)

    @step
    async def gather(ctx: Context, ev: Done) -> StopEvent | None:
        every = ctx.collect_events(ev, [Done] * fan_out)
        await asyncio.sleep(0)
        return StopEvent(result=sorted(done.number for done in every)) if every else None

    @step
    async def rescue(ev: StepFailed) -> StopEvent:
        return StopEvent(result=f"{ev.step}: {ev.error!r}")

    steps = [begin, work, gather, rescue]
    if "send" in actions:
        steps.append(mark)
    return Workflow(f"generated {seed}", steps), [Answer(number=number) for number in asks]


async def test_every_instant_of_generated_workflows():
    points = 0
    seed = 0
    words: set[str] = set()
    while points < POINTS_AT_LEAST:
        seed += 1
        workflow, answers = generated(seed)
        report = await crash_points(workflow, send=answers, secret=SECRET)
        assert report.outcome[0] == "completed", (seed, report.outcome)
        assert report.differences == [], f"seed {seed}"
        points += len(report.points)
        words.update(point.after for point in report.points)
    assert {"received", "kept", "waiting", "retried", "due", "sent", "published"} <= words
    print(f"{points} snapshot points of {seed} workflows")


async def test_a_snapshot_between_the_points_is_as_good():
    with ManualClock() as clock:
        run = everything.run(pages=2)
        for _ in range(6):
            await asyncio.sleep(0)
        snapshot = await run.snapshot(secret=SECRET)
        run.cancel()
        resumed = everything.resume(snapshot, secret=SECRET)
        for approval in APPROVALS:
            resumed.send_event(approval)
        await clock.advance(days=2)
        assert (await resumed)[0] == 6

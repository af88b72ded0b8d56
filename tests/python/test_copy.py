"""`python -m treadle copy`: runs go from one journal to another and end there."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from durable_work import ALL, Go, asking, napping, pages
from history_work import turns

from treadle import Context, Engine, Retry, RunHandle, StartEvent, StopEvent, Workflow, step
from treadle.exceptions import JournalConflict

SECRET = "a-secret-of-the-fleet-that-is-not-the-laptops"


@step(retry=Retry(attempts=5, initial=1.0))
async def try_again(ctx: Context, ev: StartEvent) -> StopEvent:
    if ctx.attempt < 2:
        raise ConnectionError("not yet")
    return StopEvent(result=ctx.attempt)


@step
async def fail(ctx: Context, ev: StartEvent) -> StopEvent:
    raise ValueError("it failed")


retrying = Workflow("retrying", [try_again])
failing = Workflow("failing", [fail])
WORKFLOWS = [*ALL, retrying, failing]


def engine_on(url: str, **options: object) -> Engine:
    return Engine(url, **{"workflows": WORKFLOWS, "lease": 1, **options})  # type: ignore[arg-type]


def treadle(*arguments: str, code: int = 0, **variables: str) -> str:
    command = [sys.executable, "-m", "treadle", *arguments]
    environment = {**os.environ, **variables}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


async def is_(handle: RunHandle, *statuses: str, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while (await handle.info()).status not in statuses:
            await asyncio.sleep(0.01)


async def start_each(engine: Engine) -> dict[str, str]:
    """Runs that wait, sleep, are paused, are tried again, completed, failed and were cancelled."""
    runs = {
        "asks": await engine.submit(asking, key="order-1"),
        "naps": await engine.submit(napping, seconds=2.0),
        "paused": await engine.submit(asking),
        "retries": await engine.submit(retrying),
        "completed": await engine.submit(pages, number=3),
        "failed": await engine.submit(failing),
        "cancelled": await engine.submit(asking),
    }
    for name in ("asks", "paused", "cancelled"):
        await is_(engine.get(runs[name]), "waiting")
    await engine.cancel(runs["cancelled"])
    await engine.pause(runs["paused"])
    for name in ("paused", "completed", "failed", "cancelled"):
        await is_(engine.get(runs[name]), name)
    return runs


async def end_each(engine: Engine, runs: dict[str, str]) -> None:
    asks, paused = engine.get(runs["asks"]), engine.get(runs["paused"])
    await engine.send_event(runs["asks"], Go(number=5))
    assert (await asks)[:2] == (5, 2)
    await engine.resume(runs["paused"])
    await engine.send_event(runs["paused"], Go(number=6))
    assert (await paused)[0] == 6
    assert await engine.get(runs["naps"]) == "awake"
    assert await engine.get(runs["retries"]) == 2
    assert (await engine.get(runs["completed"]))[0] == 3
    with pytest.raises(ValueError, match="it failed"):
        await engine.get(runs["failed"])
    assert (await engine.get(runs["cancelled"]).info()).status == "cancelled"
    events = [event async for event in engine.stream_events(runs["completed"])]
    assert [event.done for event in events] == [1, 2]


def url_of(directory: Path, name: str) -> str:
    return f"sqlite:///{directory / name}"


async def from_one_to_the_other(source: str, destination: str, **variables: str) -> None:
    async with engine_on(source) as engine:
        runs = await start_each(engine)
    said = treadle("copy", source, destination, "--all", "--wait", "30", **variables)
    assert f"{len(runs)} runs moved, 0 left" in said
    async with Engine(source) as engine:
        assert await engine.runs() == []
    async with engine_on(destination) as engine:
        await end_each(engine, runs)


async def test_runs_of_a_file_go_on_in_another_one(tmp_path: Path):
    await from_one_to_the_other(url_of(tmp_path, "laptop.db"), url_of(tmp_path, "other.db"))


@pytest.mark.postgres
async def test_a_laptops_file_grows_into_a_fleet(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("TREADLE_SECRET", raising=False)
    source = url_of(tmp_path, "laptop.db")
    async with engine_on(source) as engine:
        runs = await start_each(engine)
    there = treadle("copy", source, postgres, "--all", TREADLE_SECRET=SECRET)
    assert f"{len(runs)} runs moved" in there
    back = url_of(tmp_path, "back.db")
    variables = {"TREADLE_SECRET": SECRET, "TREADLE_TO_SECRET": ""}
    treadle("copy", postgres, back, "--all", "--wait", "30", **variables)
    async with engine_on(back) as engine:
        await end_each(engine, runs)


@pytest.mark.postgres
async def test_a_fleet_goes_on_with_what_came_from_a_laptop(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = url_of(tmp_path, "laptop.db")
    monkeypatch.delenv("TREADLE_SECRET", raising=False)
    async with engine_on(source) as engine:
        runs = await start_each(engine)
    async with engine_on(postgres, secret=SECRET) as engine:
        treadle("copy", source, postgres, "--all", TREADLE_SECRET=SECRET)
        await end_each(engine, runs)


async def test_a_copier_that_is_killed_is_run_again(tmp_path: Path):
    source, destination = url_of(tmp_path, "laptop.db"), url_of(tmp_path, "other.db")
    async with Engine(source, workflows=[asking]) as engine:
        runs = [await engine.submit(asking) for _ in range(40)]
        for run in runs:
            await is_(engine.get(run), "waiting")
    for words in ("written", "moved", "moved"):
        killed_after(words, source, destination)
    treadle("copy", source, destination, "--all")
    async with Engine(source) as engine:
        assert await engine.runs() == []
    async with Engine(destination, workflows=[asking]) as engine:
        for run in runs:
            await engine.send_event(run, Go(number=1))
            assert (await engine.get(run))[0] == 1


def killed_after(words: str, source: str, destination: str) -> None:
    command = [sys.executable, "-m", "treadle", "copy", source, destination, "--all"]
    copier = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert copier.stdout is not None
    for line in copier.stdout:
        if line.endswith(f" {words}\n"):
            break
    copier.kill()
    copier.wait()
    copier.stdout.close()


async def test_a_run_that_is_not_all_there_says_so_and_is_not_forked(tmp_path: Path):
    source, destination = url_of(tmp_path, "laptop.db"), url_of(tmp_path, "other.db")
    async with Engine(source, workflows=[asking]) as engine:
        runs = [await engine.submit(asking) for _ in range(40)]
        for run in runs:
            await is_(engine.get(run), "waiting")
    killed_after("written", source, destination)
    async with Engine(destination, workflows=[asking]) as engine:
        (run,) = [run for run in await engine.runs() if run.status == "copying"][:1]
        (reason,) = await engine.get(run.id).why()
        assert reason["kind"] == "copying"
        assert source in reason["text"]
        for refused in (engine.fork, engine.export):
            with pytest.raises(JournalConflict, match=run.id):
                await refused(run.id)
        with pytest.raises(JournalConflict, match=run.id):
            await engine.retry(run.id)
    treadle("copy", source, destination, "--all")


def unsigned(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**line, "signed_with": None} for line in lines]


async def test_a_whole_history_goes_along(tmp_path: Path):
    source, destination = url_of(tmp_path, "laptop.db"), url_of(tmp_path, "other.db")
    async with Engine(source, workflows=[turns], history="full") as engine:
        run = await engine.submit(turns)
        await engine.get(run)
        lines = unsigned(await engine.get(run).history())
        state = await engine.state(run, at=5)
    assert "1 runs moved" in treadle("copy", source, destination, "--all")
    async with Engine(destination, workflows=[turns], history="full") as engine:
        assert unsigned(await engine.get(run).history()) == lines
        assert await engine.state(run, at=5) == state


async def test_a_run_of_a_living_engine_stays_and_the_error_says_what_to_do(tmp_path: Path):
    source, destination = url_of(tmp_path, "laptop.db"), url_of(tmp_path, "other.db")
    async with Engine(source, workflows=[asking]) as engine:
        run = await engine.submit(asking)
        await is_(engine.get(run), "waiting")
        said = treadle("copy", source, destination, "--run", run, code=1)
        assert "a living process executes it" in said
        assert "--wait" in said
    assert "1 runs moved" in treadle("copy", source, destination, "--run", run)
    assert "1 had been moved before" in treadle("copy", source, destination, "--run", run)


async def test_what_another_secret_signed_stays_by_name(tmp_path: Path):
    source, destination = url_of(tmp_path, "laptop.db"), url_of(tmp_path, "other.db")
    async with Engine(source, workflows=[pages], secret=SECRET) as engine:
        run = await engine.submit(pages, number=1)
        await engine.get(run)
    said = treadle(
        "copy", source, destination, "--all", code=1, TREADLE_FROM_SECRET="quite-another-secret"
    )
    assert f"run {run} stays: it cannot be signed for the destination" in said
    async with Engine(source, secret=SECRET) as engine:
        assert (await engine.get(run).info()).status == "completed"
    treadle("copy", source, destination, "--all", TREADLE_FROM_SECRET=SECRET)


async def test_a_run_that_neither_journal_has_is_unknown(tmp_path: Path):
    source = url_of(tmp_path, "laptop.db")
    async with Engine(source, workflows=[pages]) as engine:
        await engine.get(await engine.submit(pages, number=1))
    said = treadle("copy", source, url_of(tmp_path, "b.db"), "--run", str(uuid4()), code=1)
    assert "there is no run" in said


async def test_two_journals_are_named_and_are_not_the_same(tmp_path: Path):
    source = url_of(tmp_path, "laptop.db")
    async with Engine(source):
        pass
    assert "the same journal" in treadle("copy", source, source, "--all", code=2)
    treadle("copy", url_of(tmp_path, "none.db"), source, "--all", code=2)

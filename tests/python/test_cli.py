"""The command line, as a user calls it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

MODULE = """
import asyncio
from treadle import Context, Engine, Event, Retry, StartEvent, StopEvent, Workflow, step

class Page(Event):
    number: int

class Go(Event):
    pass

@step(retry=Retry(attempts=2, initial=0.01))
async def begin(ctx: Context, ev: StartEvent) -> Page:
    if ctx.attempt == 1:
        raise ConnectionError("not yet")
    ctx.set("pair", (1, 2))
    ctx.write_event_to_stream(Page(number=0))
    return Page(number=ev.number)

@step
async def end(ctx: Context, ev: Page) -> StopEvent:
    if ev.number < 0:
        raise ValueError("negative")
    if ev.number > 9:
        await ctx.wait_for_event(Go)
    return StopEvent(result=ev.number)

flow = Workflow("flow", [begin, end])

def engine():
    return Engine("sqlite:///runs.db", workflows=[flow])

async def main():
    async with engine() as opened:
        for number in (1, -1):
            try:
                await opened.run(flow, number=number)
            except ValueError:
                pass
        run = opened.run(flow, number=10)
        await asyncio.sleep(0.2)
        with open("snapshot", "wb") as file:
            file.write(await run.snapshot(secret="a secret of the tests"))

if __name__ == "__main__":
    import story
    asyncio.run(story.main())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "story.py").write_text(MODULE)
    subprocess.run([sys.executable, "story.py"], cwd=folder, check=True, timeout=30)
    return folder


def treadle(folder: Path, *arguments: str, code: int = 0, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "treadle", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def runs(folder: Path, *arguments: str) -> dict[str, str]:
    listed = json.loads(treadle(folder, "runs", "sqlite:///runs.db", "--json", *arguments))
    return {run["status"]: run["id"] for run in listed}


def test_runs_are_listed(folder: Path):
    assert set(runs(folder)) == {"completed", "failed", "waiting"}
    assert set(runs(folder, "--status", "failed")) == {"failed"}
    text = treadle(folder, "runs", "sqlite:///runs.db", "--limit", "2")
    assert text.splitlines()[0].split() == [
        "run",
        "workflow",
        "key",
        "status",
        "created",
        "records",
    ]
    assert len(text.splitlines()) == 3


def test_a_run_is_shown_without_its_code(folder: Path):
    found = runs(folder)
    text = treadle(folder, "show", "sqlite:///runs.db", found["completed"])
    assert "attempt 1: ConnectionError: not yet" in text or "ConnectionError: not yet" in text
    assert "pair: opaque builtins:tuple" in text
    assert "outcome: result" in text
    failed = json.loads(treadle(folder, "show", "sqlite:///runs.db", found["failed"], "--json"))
    assert failed["outcome"]["class"] == "builtins:ValueError"
    waiting = treadle(folder, "show", "sqlite:///runs.db", found["waiting"])
    assert "waits for story:Go" in waiting
    assert "'end'" in waiting


def test_a_stream_is_followed_to_its_end(folder: Path):
    text = treadle(folder, "tail", "sqlite:///runs.db", runs(folder)["completed"])
    assert text == "1: story:Page(number: json, 1 B)\n"


def test_a_snapshot_is_inspected_and_checked(folder: Path):
    assert "workflow 'flow'" in treadle(folder, "inspect", "snapshot")
    assert json.loads(treadle(folder, "inspect", "snapshot", "--json"))["workflow"] == "flow"
    secret = {"TREADLE_SECRET": "a-secret-of-the-tests"}
    refused = treadle(folder, "check", "story:flow", "snapshot", code=1, **secret)
    assert "secret" in refused
    assert "fits" in treadle(folder, "check", "story:engine")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["inspect", "nowhere"], 2, "nowhere"),
        (["inspect", "story.py"], 1, "not a snapshot"),
        (["check", "nowhere:flow", "snapshot"], 2, "cannot be imported"),
        (["check", "story:nothing", "snapshot"], 2, "nothing"),
        (["check", "story:Page"], 2, "neither"),
        (["check", "story:flow"], 2, "name files"),
        (["check", "story"], 2, "MODULE:NAME"),
        (["runs", "sqlite:///nowhere.db"], 2, "no journal nowhere.db"),
        (["runs", "memory:"], 2, "memory"),
        (["runs", "http://x"], 2, "sqlite:///"),
        (["runs", "sqlite:///story.py"], 1, "not an SQLite database"),
        (["show", "sqlite:///runs.db", "x"], 2, "UUID"),
        (["show", "sqlite:///runs.db", "0198c0de-0000-7000-8000-000000000000"], 1, "no run"),
        (["cancel", "sqlite:///runs.db", "0198c0de-0000-7000-8000-000000000000"], 1, "no run"),
    ],
)
def test_mistakes_are_told_in_a_line(folder: Path, arguments, code, text):
    said = treadle(folder, *arguments, code=code)
    assert text in said
    assert said.startswith("treadle: ")
    assert not (folder / "nowhere.db").exists()


def test_a_worker_executes_what_others_ask_for(folder: Path):
    found = runs(folder)
    treadle(folder, "cancel", "sqlite:///runs.db", found["waiting"])
    forked = treadle(folder, "fork", "sqlite:///runs.db", found["completed"]).strip()
    worker = subprocess.Popen(
        [sys.executable, "-m", "treadle", "worker", "story:engine", "--grace", "1"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "working on sqlite:///runs.db\n"
        until = time.monotonic() + 20
        while time.monotonic() < until:
            listed = json.loads(treadle(folder, "runs", "sqlite:///runs.db", "--json"))
            status = {run["id"]: run["status"] for run in listed}
            if status[found["waiting"]] == "cancelled" and status[forked] == "completed":
                break
        else:
            raise AssertionError(status)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
        worker.stdout.close()


@pytest.mark.parametrize("seconds", [0.3, 0.8])
def test_the_demo_goes_on_after_it_was_killed(tmp_path: Path, seconds: float):
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(400):
        (tree / f"m{number}.py").write_text("x = 1\n" * 2000 + f"def f{number}(): pass\n")
    arguments = [sys.executable, "-m", "treadle", "demo", "--path", str(tree)]
    arguments += ["--journal", "demo.db"]
    first = subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        first.wait(seconds)
    except subprocess.TimeoutExpired:
        first.kill()
        first.wait()
    text = treadle(tmp_path, *arguments[3:])
    assert "400 modules" in text
    assert "800,400 lines, 400 functions" in text
    assert "1,201 steps" in text

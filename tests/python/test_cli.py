"""The command line, as a user calls it."""

import json
import os
import re
import shutil
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

class Count(Event):
    number: int

@step
async def count(ctx: Context, ev: StartEvent | Count) -> Count | StopEvent:
    number = ev.number if isinstance(ev, Count) else 0
    ctx.set("\\x1b[31m[red]large", "x" * 5000)
    ctx.write_event_to_stream(ev)
    return Count(number=number + 1) if number < 30 else StopEvent(result=number)

counting = Workflow("counting", [count], stream_limit=4)

def engine():
    return Engine("sqlite:///runs.db", workflows=[flow, counting])

signed = Engine("sqlite:///signed.db", workflows=[flow], secret="a secret of the tests")
in_memory = Engine("memory:", workflows=[flow])
idle = Engine("sqlite:///runs.db")

def needs(what): ...

async def later(): ...

async def main():
    async with engine() as opened:
        for number in (1, -1):
            try:
                await opened.run(flow, number=number)
            except ValueError:
                pass
        await opened.run(counting)
        run = opened.run(flow, number=10)
        await asyncio.sleep(0.2)
        with open("snapshot", "wb") as file:
            file.write(await run.snapshot(secret="a secret of the tests"))
    async with signed:
        signed.run(flow, number=10)
        await asyncio.sleep(0.2)

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
    arguments = ("--workflow", "flow", "--json", *arguments)
    listed = json.loads(treadle(folder, "runs", "sqlite:///runs.db", *arguments))
    return {run["status"]: run["id"] for run in listed}


def counting(folder: Path) -> str:
    arguments = ["runs", "sqlite:///runs.db", "--workflow", "counting", "--json"]
    found: str = json.loads(treadle(folder, *arguments))[0]["id"]
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


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
        "updated",
        "due",
        "records",
    ]
    # The third line, for whoever wants more, is not for those who read the table.
    assert len(text.splitlines()) == 3
    assert "there may be more" not in text


def test_a_run_is_shown_without_its_code(folder: Path):
    found = runs(folder)
    text = treadle(folder, "show", "sqlite:///runs.db", found["completed"])
    rows = [line.split() for line in text.splitlines()]
    course = [row for row in rows if len(row) > 7 and row[0].isdecimal()]
    assert [row[1:5] + row[7:] for row in course] == [
        ["1", "begin", "treadle:StartEvent", "1", "ConnectionError:", "not", "yet"],
        ["1", "begin", "treadle:StartEvent", "2", "finished"],
        ["2", "end", "story:Page", "1", "ended", "the", "run"],
    ]
    # The attempt that failed took some time as well.
    assert all(re.fullmatch(r"\d+\.\d{3}", row[6]) for row in course)
    assert "pair: opaque builtins:tuple" in text
    assert "\nresult: json, 1 B\n" in text
    failed = json.loads(treadle(folder, "show", "sqlite:///runs.db", found["failed"], "--json"))
    assert failed["outcome"]["class"] == "builtins:ValueError"
    assert failed["failure"]["text"] == "negative"
    text = treadle(folder, "show", "sqlite:///runs.db", found["failed"])
    assert "\nfailed: ValueError: negative\n" in text
    assert 'in step "end" for event story.Page, attempt 1' in text
    waiting = treadle(folder, "show", "sqlite:///runs.db", found["waiting"])
    assert "waits for story:Go" in waiting
    assert "'end'" in waiting
    assert "before its end" not in waiting


def test_a_history_without_its_beginning_says_so(folder: Path):
    text = treadle(folder, "show", "sqlite:///runs.db", counting(folder))
    found = re.search(r"the first (\d+) records are folded", text)
    assert found is not None
    numbers = [int(line.split()[0]) for line in text.splitlines() if line[:1].isdecimal()]
    assert min(numbers) == int(found[1]) > 0
    story = json.loads(treadle(folder, "show", "sqlite:///runs.db", counting(folder), "--json"))
    assert story["folded"] == int(found[1])
    assert "folded" not in treadle(folder, "show", "sqlite:///runs.db", runs(folder)["failed"])


def test_what_others_wrote_does_not_reach_the_terminal(folder: Path):
    text = treadle(folder, "show", "sqlite:///runs.db", counting(folder))
    assert "\\x1b[31m[red]large" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("has_rich", [True, False])
def test_tables_are_the_same_with_and_without_rich(folder: Path, has_rich: bool):
    pytest.importorskip("rich")
    block = "" if has_rich else "sys.modules['rich.console'] = None;"
    code = f"import sys; {block} from treadle.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "runs", "sqlite:///runs.db"],
        cwd=folder,
        env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=40,
        check=True,
    )
    assert all(run in done.stdout for run in runs(folder).values())
    assert ("\u2502" in done.stdout) == has_rich


def test_a_stream_is_followed_to_its_end(folder: Path):
    text = treadle(folder, "tail", "sqlite:///runs.db", runs(folder)["completed"])
    assert text == "1: story:Page(number: json, 1 B)\n"
    text = treadle(folder, "tail", "sqlite:///runs.db", counting(folder))
    first, *rest = text.splitlines()
    assert first == "27 events are no longer kept"
    assert [line.partition(":")[0] for line in rest] == ["28", "29", "30", "31"]
    text = treadle(folder, "tail", "sqlite:///runs.db", counting(folder), "--json", "--after", "26")
    assert [json.loads(line).get("number") for line in text.splitlines()] == [None, 28, 29, 30, 31]


@pytest.mark.parametrize("is_live", [False, True])
def test_looking_makes_and_changes_no_file(folder: Path, tmp_path: Path, is_live: bool):
    for name in ("story.py", "runs.db", "runs.db.secret", "signed.db"):
        shutil.copy(folder / name, tmp_path)
    found = runs(folder)
    # As a process leaves it that was killed.
    log = b"" if is_live else None
    if log is not None:
        (tmp_path / "runs.db-wal").write_bytes(log)
        treadle(tmp_path, "runs", "sqlite:///runs.db")
    before = contents(tmp_path)
    treadle(tmp_path, "runs", "sqlite:///runs.db")
    treadle(tmp_path, "show", "sqlite:///runs.db", found["completed"])
    treadle(tmp_path, "tail", "sqlite:///runs.db", found["completed"])
    treadle(tmp_path, "check", "story:engine", PYTHONDONTWRITEBYTECODE="1")
    treadle(tmp_path, "check", "story:signed", PYTHONDONTWRITEBYTECODE="1")
    treadle(tmp_path, "show", "sqlite:///signed.db", "x", code=2)
    after = contents(tmp_path)
    # SQLite's index of the log is no data.
    assert {**after, "runs.db-shm": b""} == {**before, "runs.db-shm": b""}


def test_a_copy_is_shown_without_the_secret_and_not_verified(folder: Path, tmp_path: Path):
    shutil.copy(folder / "runs.db", tmp_path)
    for status, run in runs(folder).items():
        whole = treadle(folder, "show", "sqlite:///runs.db", run).splitlines()
        text = treadle(tmp_path, "show", "sqlite:///runs.db", run).splitlines()
        said = [line for line in text if line not in whole]
        assert said == ["not verified: there is no secret to check the signatures with"], status
        assert len(text) == len(whole) + 1
    other = {"TREADLE_SECRET": "another-secret-of-the-tests"}
    said = treadle(tmp_path, "show", "sqlite:///runs.db", run, code=1, **other)
    assert "signed with another secret" in said
    assert os.listdir(tmp_path) == ["runs.db"]


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
        (["check", "story:engine", "snapshot"], 2, "no files"),
        (["check", "story:needs"], 2, "without arguments"),
        (["check", "story:later"], 2, "async function"),
        (["check", "story:in_memory"], 2, "memory"),
        (["check", "story:idle"], 1, "no workflow 'flow'"),
        (["worker", "story:flow"], 2, "not an Engine"),
        (["worker", "story:in_memory"], 2, "in memory"),
        (["worker", "story:idle"], 2, "no workflows"),
        (["runs", "runs.db"], 2, "sqlite:///runs.db"),
        (["runs", "sqlite:///."], 1, "directory"),
        (["runs", "sqlite:///runs.db", "--after", "x"], 2, "UUID"),
        (["runs", "sqlite:///runs.db", "--status", "odd"], 2, "waiting"),
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
    assert said.startswith("treadle: ") or arguments[:2] == ["check", "story:idle"]
    assert not (folder / "nowhere.db").exists()


@pytest.mark.parametrize("command", [["treadle"], ["python", "-m", "treadle"]])
def test_each_way_to_start_it_names_itself(command: list[str]):
    folder = Path(sys.executable).parent
    help_text = subprocess.check_output([folder / command[0], *command[1:], "--help"], text=True)
    assert help_text.startswith(f"usage: {' '.join(command)} [-h]")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["runs", "sqlite:///runs.db", "--since", "yesterday"], "2026-01-31"),
        (["runs", "sqlite:///runs.db", "--limit", "0"], "from 1 on"),
        (["tail", "sqlite:///runs.db", "x", "--after", "-1"], "from 0 on"),
        (["fork", "sqlite:///runs.db", "x", "--at", "-1"], "from 0 on"),
        (["worker", "story:engine", "--grace", "-1"], "seconds"),
        (["show", "sqlite:///runs.db"], "RUN"),
        (["nothing"], "invalid choice"),
    ],
)
def test_options_out_of_range_are_refused(folder: Path, arguments, text):
    assert text in treadle(folder, *arguments, code=2)


def test_a_run_that_is_over_is_not_cancelled_and_a_completed_one_not_retried(folder: Path):
    completed = runs(folder)["completed"]
    assert "is over" in treadle(folder, "cancel", "sqlite:///runs.db", completed, code=1)
    assert "is completed" in treadle(folder, "retry", "sqlite:///runs.db", completed, code=1)
    said = treadle(folder, "fork", "sqlite:///runs.db", completed, "--at", "999", code=2)
    assert f"run {completed} has no record 999" in said


def test_a_worker_executes_what_others_ask_for(folder: Path):
    found = runs(folder)
    treadle(folder, "cancel", "sqlite:///runs.db", found["waiting"])
    completed = found["completed"]
    forked = treadle(folder, "fork", "sqlite:///runs.db", completed, "--at", "1").strip()
    # It looks while nobody has the journal open, and goes on when somebody has.
    tail = subprocess.Popen(
        [sys.executable, "-m", "treadle", "tail", "sqlite:///runs.db", forked],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
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
        assert tail.communicate(timeout=20)[0] == "1: story:Page(number: json, 1 B)\n"
        assert tail.returncode == 0
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0
        assert worker.stdout.readline() == "stopping: steps that run have 1 s\n"
    finally:
        if tail.poll() is None:
            tail.kill()
            tail.communicate()
        if worker.poll() is None:
            worker.kill()
            worker.wait()
        worker.stdout.close()

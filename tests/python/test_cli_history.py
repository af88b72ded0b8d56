"""The command line: the history of runs, exported files, and acting on runs."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_history import of_key

from treadle import Engine, JournalError

MODULE = """
import asyncio
from treadle import Context, Engine, Event, StartEvent, StopEvent, Workflow, step

class Paid(Event):
    amount: int
    note: str = ""

class Answer(Event):
    yes: bool

class Begin(StartEvent):
    customer: str
    amount: int = 3

@step
async def order(ctx: Context, ev: Begin) -> Paid:
    ctx.set("customer", ev.customer)
    ctx.set("pair", (1, 2))
    ctx.set("filled", "x" * 70_000)
    return Paid(amount=ev.amount)

@step
async def ship(ctx: Context, ev: Paid) -> StopEvent:
    ctx.set("customer", ctx.get("customer").upper())
    ctx.set("filled", "y" * 70_000)
    got = await ctx.wait_for_event(Answer)
    return StopEvent(result=[ctx.get("customer"), ev.amount, got.yes])

orders = Workflow("orders", [order, ship])
engine = Engine("sqlite:///runs.db", workflows=[orders], history="full")

async def main():
    async with engine:
        run = engine.run(orders, customer="Ada", key="first")
        while (await engine.get(run.id).info()).status != "waiting":
            await asyncio.sleep(0.01)
        await engine.submit(orders, customer="Bo", key="second")

if __name__ == "__main__":
    import shop
    asyncio.run(shop.main())
"""
URL = "sqlite:///runs.db"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(MODULE)
    subprocess.run([sys.executable, "shop.py"], cwd=tmp_path, check=True, timeout=30)
    return tmp_path


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


def run_of(folder: Path, key: str = "first") -> str:
    rows = json.loads(treadle(folder, "runs", URL, "--json"))
    return next(str(row["id"]) for row in rows if row["key"] == key)


def work(folder: Path) -> None:
    """Execute the runs of the journal until none can continue."""
    code = """
import asyncio, shop
async def main():
    async with shop.engine as engine:
        async with asyncio.timeout(20):
            while any(it.status == "running" or it.inbox for it in await engine.runs()):
                await asyncio.sleep(0.01)
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, timeout=30)


def test_every_record_is_shown_with_its_values(folder: Path):
    run_id = run_of(folder)
    text = treadle(folder, "history", URL, run_id)
    assert 'queued delivery 1, step order, attempt 1, shop:Begin(customer="Ada", amount=3)' in text
    assert 'set key customer, "Ada"' in text
    assert "waiting delivery 2, class shop:Answer" in text
    lines = json.loads(treadle(folder, "history", URL, run_id, "--json"))
    assert [value for _, value in of_key(lines, "customer")] == ["Ada", "ADA"]
    page = json.loads(
        treadle(folder, "history", URL, run_id, "--json", "--after", "2", "--limit", "3")
    )
    assert [line["seq"] for line in page] == [3, 4, 5]


def test_the_state_behind_a_record_and_what_differs_are_shown(folder: Path):
    run_id = run_of(folder)
    lines = json.loads(treadle(folder, "history", URL, run_id, "--json"))
    (first, _), (second, _) = of_key(lines, "customer")
    assert 'customer: "Ada"' in treadle(folder, "state", URL, run_id, "--at", str(first))
    assert 'customer: "ADA"' in treadle(folder, "state", URL, run_id)
    found = json.loads(treadle(folder, "state", URL, run_id, "--at", str(first), "--json"))
    assert [value["key"] for value in found["state"]] == ["customer"]
    diff = treadle(folder, "diff", URL, run_id, str(first), str(second))
    assert '  customer: "Ada" -> "ADA"' in diff
    assert "+ pair: opaque builtins:tuple" in diff
    assert json.loads(treadle(folder, "diff", URL, run_id, "0", "0", "--json"))["state"] == []
    assert "nothing differs" in treadle(folder, "diff", URL, run_id, "1", "1")
    refused = treadle(folder, "state", URL, run_id, "--at", "999", code=2)
    assert "has no record 999: its records are numbered from 0" in refused


def test_why_a_run_waits_is_said(folder: Path):
    text = treadle(folder, "why", URL, run_of(folder))
    assert text == "step 'ship' (delivery 2) waits for an event shop:Answer\n"
    assert "no process has taken it" in treadle(folder, "why", URL, run_of(folder, "second"))
    reasons = json.loads(treadle(folder, "why", URL, run_of(folder), "--json"))
    assert [reason["kind"] for reason in reasons] == ["event"]


def test_runs_are_started_sent_to_paused_resumed_and_deleted(folder: Path):
    made = treadle(
        folder, "start", URL, "shop:orders", "customer=Cy", "amount=7", "--key", "c"
    ).strip()
    assert (
        treadle(
            folder, "start", URL, "shop:orders", "customer=Cy", "amount=7", "--key", "c"
        ).strip()
        == made
    )
    work(folder)
    assert "sent to run" in treadle(
        folder, "send", URL, made, "shop:Answer", "yes=true", "--id", "a"
    )
    assert "was sent 'a' before" in treadle(
        folder, "send", URL, made, "shop:Answer", "yes=true", "--id", "a"
    )
    work(folder)
    shown = json.loads(treadle(folder, "show", URL, made, "--json"))
    assert shown["status"] == "completed"
    first = run_of(folder)
    treadle(folder, "pause", URL, first)
    work(folder)
    assert "it is paused" in treadle(folder, "why", URL, first)
    treadle(folder, "resume", URL, first)
    treadle(folder, "delete", URL, made)
    assert "there is no run" in treadle(folder, "show", URL, made, code=1)


def test_a_fork_is_made_with_edits(folder: Path):
    run_id = run_of(folder)
    fork = treadle(
        folder,
        "fork",
        URL,
        run_id,
        "--set",
        "customer=Di",
        "--remove",
        "pair",
        "--event",
        "2.amount=9",
    ).strip()
    work(folder)
    treadle(folder, "send", URL, fork, "shop:Answer", "yes=false")
    work(folder)
    found = json.loads(treadle(folder, "state", URL, fork, "--json"))
    assert [value["json"] for value in found["state"] if value["key"] == "customer"] == ['"DI"']
    assert "pair" not in [value["key"] for value in found["state"]]
    for wrong, says in [
        (("--event", "2=9"), "DELIVERY.FIELD=VALUE expected"),
        (("--event", "2.size=9"), 'has no field "size"'),
        (("--event", "8.amount=9"), "no delivery 8 is pending there; these are: 2"),
        (("--set", "customer"), "NAME=VALUE expected"),
        (("--set", "a=1", "--remove", "a"), "both set and removed"),
    ]:
        assert says in treadle(folder, "fork", URL, run_id, *wrong, code=2)


def test_wrong_use_is_said_in_one_line(folder: Path):
    run_id = run_of(folder)
    for arguments, says in [
        (("start", URL, "shop:Paid"), "is not a Workflow"),
        (("start", URL, "shop:orders"), "customer"),
        (("start", URL, "shop:orders", "customer=a", "size=1"), "size"),
        (("send", URL, run_id, "shop:orders"), "is not a class of events"),
        (("send", URL, run_id, "shop:Answer", "yes=maybe"), "yes is <class 'bool'>, not 'maybe'"),
        (("send", URL, run_id, "shop:Answer"), "yes"),
        (("graph", "shop:engine"), "is not a Workflow"),
        (("export", URL, run_id, "shop.py"), "is there already"),
        (("open", "missing.treadle"), "there is no journal missing.treadle"),
    ]:
        said = treadle(folder, *arguments, code=2)
        assert says in said, said
        assert said.count("\n") == 1


def test_the_graph_of_a_workflow_is_printed(folder: Path):
    assert treadle(folder, "graph", "shop:orders").startswith("flowchart")


@pytest.fixture
def exported(folder: Path) -> Iterator[Path]:
    said = treadle(folder, "export", URL, run_of(folder), "run.treadle")
    assert "is in run.treadle" in said
    return folder / "run.treadle"


def test_an_exported_file_is_opened_without_the_journal_the_code_and_the_secret(
    folder: Path, exported: Path
):
    run_id = run_of(folder)
    journal = json.loads(treadle(folder, "show", URL, run_id, "--json"))
    history = json.loads(treadle(folder, "history", URL, run_id, "--json"))
    for name in ("runs.db", "runs.db.secret", "shop.py", "runs.db-wal", "runs.db-shm"):
        (folder / name).unlink(missing_ok=True)
    other = {"TREADLE_SECRET": "another secret that signed nothing of it"}
    shown = json.loads(treadle(folder, "open", "run.treadle", "--json", **other))
    assert shown["verified"] is False
    assert {**shown, "verified": True} == journal
    assert json.loads(treadle(folder, "history", "run.treadle", run_id, "--json")) == history
    assert "not verified" in treadle(folder, "open", "run.treadle")
    assert treadle(folder, "open", "run.treadle", "--at", "1").startswith(f"run {run_id} behind")
    assert "waits for an event" in treadle(folder, "why", "run.treadle", run_id)
    assert run_id in treadle(folder, "runs", "archive:///run.treadle")
    refused = treadle(folder, "cancel", "run.treadle", run_id, code=1)
    assert "is an archive of a run, which is only looked into" in refused


async def test_an_archive_is_an_engine_that_only_looks(folder: Path, exported: Path):
    async with Engine(f"archive:///{exported}") as engine:
        (info,) = await engine.runs()
        assert (info.workflow, info.key) == ("orders", "first")
        handle = engine.get(info.id)
        lines = await handle.history()
        assert lines[-1]["what"] == "waiting"
        first = of_key(lines, "customer")[0][0]
        assert await handle.state(at=first) == {"customer": "Ada"}
        with pytest.raises(JournalError, match="only looked into"):
            await engine.delete(info.id)
        for call in (engine.pause, engine.cancel):
            with pytest.raises(JournalError, match="only looked into"):
                await call(info.id)


@pytest.mark.parametrize("length", [0, 7, 19, 20, 36, 200])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, length: int):
    (tmp_path / "run.treadle").write_bytes(b"trdlrun\x1a\x00\x01"[:length].ljust(length, b"\xff"))
    said = treadle(tmp_path, "open", "run.treadle", code=1)
    assert "is no archive that can be read" in said


def test_an_archive_of_a_newer_version_says_so(folder: Path, exported: Path):
    data = exported.read_bytes()
    exported.write_bytes(data[:8] + b"\x00\x09" + data[10:])
    assert "upgrade treadle" in treadle(folder, "open", "run.treadle", code=1)

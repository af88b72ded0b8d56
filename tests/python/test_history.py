"""Whole histories: every record, the run behind any of them, and what differs between two."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from history_work import ROUNDS, SIZE, Go, asks, engine_on, turns
from journals import POSTGRES, journal_url

from treadle import Engine, InvalidSignature, UnknownRun

UNKNOWN = "00000000-0000-7000-8000-000000000000"


@pytest.fixture(params=["memory", "sqlite", POSTGRES])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return journal_url(request.param, request, tmp_path)


@pytest_asyncio.fixture
async def engine(url: str) -> AsyncIterator[Engine]:
    async with engine_on(url) as engine:
        yield engine


async def done(engine: Engine) -> Any:
    run = engine.run(turns)
    assert await run == 0.5
    return engine.get(run.id)


def of_key(lines: list[dict[str, Any]], key: str) -> list[tuple[int, Any]]:
    sets = [line for line in lines if line["what"] == "set" and line["key"] == key]
    return [(line["seq"], json.loads(line["value"]["json"])) for line in sets]


async def test_a_whole_history_has_every_record_of_every_part(engine: Engine):
    handle = await done(engine)
    lines = await handle.history()
    last = (await handle.info()).seq
    assert sorted({line["seq"] for line in lines} - {0}) == list(range(1, last + 1))
    assert [value for _, value in of_key(lines, "number")] == list(range(ROUNDS + 1))
    assert lines[-1]["what"] == "ended"
    kinds = {line["what"] for line in lines}
    assert kinds >= {"queued", "started", "finished", "set", "deleted", "published", "ended"}
    published = [line["number"] for line in lines if line["what"] == "published"]
    assert published == list(range(1, ROUNDS + 2))


async def test_a_history_is_read_in_pages(engine: Engine):
    handle = await done(engine)
    whole = [line for line in await handle.history() if line["seq"]]
    paged: list[dict[str, Any]] = []
    while page := await handle.history(after=paged[-1]["seq"] if paged else 0, limit=37):
        paged += [line for line in page if line["seq"]]
        assert len(page) <= 37
    assert paged == whole


async def test_the_state_behind_any_record_is_what_had_been_set_by_then(engine: Engine):
    handle = await done(engine)
    lines = await handle.history()
    state: dict[str, Any] = {}
    for line in lines:
        if line["what"] == "set" and line["value"]["tag"] == "json":
            state[line["key"]] = json.loads(line["value"]["json"])
        elif line["what"] == "deleted":
            del state[line["key"]]
        if line["seq"] % 9 == 0 or line is lines[-1]:
            found = await engine.state(handle.id, at=line["seq"])
            assert {key: it for key, it in found.items() if key in state} == state
            assert len(found) - len(state) in (0, 1, 2), "and those that are not JSON"
    assert await handle.state(at=0) == {}
    whole = await handle.state(at=lines[-1]["seq"])
    assert (whole["opaque"], whole["binary"]) == ({1, 2}, b"\x00\xff")
    assert whole == await handle.state()


async def test_a_record_that_is_not_there_is_refused(engine: Engine):
    handle = await done(engine)
    last = (await handle.info()).seq
    for at in (last + 1, 2**63 - 1):
        with pytest.raises(
            ValueError, match=rf"no record {at}: .* from 0, its creation, to {last}"
        ):
            await handle.state(at=at)
        with pytest.raises(ValueError, match=f"no record {at}"):
            await handle.inspect(at=at)
        with pytest.raises(ValueError, match=f"no record {at}"):
            await handle.diff(0, at)
        with pytest.raises(ValueError, match=f"no record {at}"):
            await handle.diff(at, 0)
    with pytest.raises(ValueError, match="at least 0"):
        await handle.state(at=-1)
    with pytest.raises(TypeError, match="an int expected"):
        await handle.diff(0, "1")
    for call in (engine.state(UNKNOWN, at=3), engine.get(UNKNOWN).diff(0, 1)):
        with pytest.raises(UnknownRun):
            await call


async def test_a_folded_history_begins_with_the_last_checkpoint_and_says_so(url: str):
    async with engine_on(url, history="folded") as engine:
        handle = await done(engine)
        lines = await handle.history()
        first = min(line["seq"] for line in lines)
        assert first > 0
        assert of_key(lines, "number")[-1][1] == ROUNDS
        assert (await handle.state(at=first))["number"] < ROUNDS
        with pytest.raises(
            ValueError, match=rf"no record {first - 1}: .* from {first} to .* folded"
        ):
            await handle.state(at=first - 1)
        assert (await handle.state())["number"] == ROUNDS


async def test_a_run_is_shown_as_it_was_with_values_that_need_no_trust(engine: Engine):
    handle = await done(engine)
    number = next(seq for seq, value in of_key(await handle.history(), "number") if value == 7)
    shown = await handle.inspect(at=number)
    state = {value["key"]: value for value in shown["state"]}
    assert state["number"]["json"] == "7"
    assert state["number"]["record"] == number
    assert state["binary"]["binary"] == b"\x00\xff"
    assert "json" not in state["opaque"]
    assert "binary" not in state["opaque"]
    assert state["opaque"]["type"] == "builtins:set"
    assert len(state["opaque"]["signed_with"]) == 16
    assert [it["fields"]["number"]["json"] for it in shown["pending"]] == ["7"]
    small = await handle.inspect(at=number, most_bytes=100)
    filled = next(value for value in small["state"] if value["key"] == "filled")
    assert "json" not in filled
    assert filled["size"] > SIZE
    assert (await handle.inspect())["record"] == (await handle.info()).seq


async def test_what_differs_between_two_records_is_told(engine: Engine):
    handle = await done(engine)
    numbers = {value: seq for seq, value in of_key(await handle.history(), "number")}
    diff = await handle.diff(numbers[2], numbers[17])
    keys = {it["key"]: it for it in diff["state"]}
    assert (keys["number"]["before"]["json"], keys["number"]["after"]["json"]) == ("2", "17")
    assert "binary" not in keys
    assert "opaque" not in keys
    assert (diff["published"], diff["status"]) == ((2, 17), None)
    deliveries = [(it["before"] is None, it["after"] is None) for it in diff["pending"]]
    assert deliveries == [(False, True), (True, False)]
    back = await handle.diff(numbers[17], numbers[2])
    assert [(it["after"], it["before"]) for it in back["state"] if it["key"] == "number"] == [
        (keys["number"]["before"], keys["number"]["after"])
    ]
    same = await handle.diff(numbers[5], numbers[5])
    assert not any(same[name] for name in ("state", "pending", "waits", "kept", "held", "children"))


async def test_a_fork_begins_at_any_record_of_a_whole_history(engine: Engine):
    handle = await done(engine)
    number = next(seq for seq, value in of_key(await handle.history(), "number") if value == 3)
    fork = await engine.fork(handle.id, at=number)
    assert await fork == 0.5
    lines = await fork.history()
    assert of_key(lines, "number")[0][1] in (3, 4)


async def test_a_run_that_is_retried_keeps_its_history(engine: Engine):
    run_id = await engine.submit(asks)
    handle = engine.get(run_id)
    await handle.cancel()
    with pytest.raises(Exception, match="cancelled"):
        await handle
    ended = (await handle.info()).seq
    await engine.retry(run_id)
    await handle.send_event(Go(number=4))
    assert await handle == 4
    kinds = [line["what"] for line in await handle.history()]
    assert kinds.count("ended") == 2
    assert (await handle.history())[0]["seq"] == 0
    assert await handle.state(at=ended) in ({}, {"asked": True})


async def test_deleting_a_run_forgets_its_history(engine: Engine):
    handle = await done(engine)
    await engine.delete(handle.id)
    with pytest.raises(UnknownRun):
        await handle.history()


async def test_a_history_that_is_signed_as_a_whole_is_verified_part_by_part(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    async with engine_on(url, sign="all") as engine:
        handle = await done(engine)
        assert len(of_key(await handle.history(), "number")) == ROUNDS + 1
        assert (await handle.state(at=5))["opaque"] == {1, 2}
    changed = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
rows = db.execute("SELECT run, seq, records FROM folded ORDER BY seq").fetchall()
run, seq, records = next(row for row in rows if b"xxxx" in row[2])
at = records.index(b"xxxx")
records = records[:at] + b"y" + records[at + 1:]
db.execute("UPDATE folded SET records = ? WHERE run = ? AND seq = ?", (records, run, seq))
db.commit()
"""
    _in_another_process(changed, tmp_path / "runs.db")
    async with engine_on(url, sign="all") as engine:
        with pytest.raises(InvalidSignature):
            await engine.get(handle.id).history()
        # The run itself goes on from its last checkpoint.
        assert (await engine.state(handle.id))["number"] == ROUNDS


async def test_an_opaque_value_that_was_forged_is_never_unpickled(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    async with engine_on(url, secret="the first secret of this test") as engine:
        handle = await done(engine)
    async with engine_on(url, secret="another secret of this test")._looking() as engine:
        with pytest.raises(InvalidSignature):
            await engine.get(handle.id).history()
    (tmp_path / "runs.db.secret").unlink(missing_ok=True)
    async with Engine(url)._looking() as engine:
        lines = await engine.get(handle.id).history()
        opaque = next(line for line in lines if line.get("key") == "opaque")
        assert set(opaque["value"]) == {"tag", "type", "size"}
        assert opaque["signed_with"]


async def test_a_fork_of_a_folded_part_is_refused_with_what_there_is(url: str):
    async with engine_on(url, history="folded") as engine:
        handle = await done(engine)
        first = (await handle.history())[0]["seq"]
        with pytest.raises(ValueError, match=rf"no record 0: .* from {first} to"):
            await engine.fork(handle.id, at=0)


def test_an_engine_refuses_a_history_that_it_does_not_know():
    with pytest.raises(ValueError, match="history"):
        engine_on("memory:", history="none")


def _in_another_process(code: str, path: Path) -> None:
    import subprocess
    import sys

    # Two copies of SQLite in one process drop each other's locks.
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=30)

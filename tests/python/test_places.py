"""Bytes that are moved within a journal: what was written for one place is taken at no other."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from treadle import (
    Context,
    DamagedRun,
    Engine,
    Event,
    InvalidSignature,
    SnapshotError,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)

UNPICKLED: list[str] = []


def unpickled(name: str) -> "Trap":
    UNPICKLED.append(name)
    return Trap(name)


class Trap:
    """An opaque value that tells when it is unpickled."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> Any:
        return unpickled, (self.name,)


class Transfer(Event):
    trap: Any


@step
async def publish_and_wait(ctx: Context, ev: StartEvent) -> StopEvent:
    for number in range(2):
        ctx.write_event_to_stream(Transfer(trap=Trap(f"stream {number}")))
    ctx.set("trap", Trap("state"))
    first = await ctx.wait_for_event(Transfer)
    return StopEvent(result=first.trap)


@step
async def publish_and_end(ctx: Context, ev: StartEvent) -> StopEvent:
    ctx.write_event_to_stream(Transfer(trap=Trap("stream")))
    return StopEvent(result=Trap("outcome"))


waiting = Workflow("waiting", [publish_and_wait])
ending = Workflow("ending", [publish_and_end])
SECRET = b"the secret of the journals that are attacked"


def open_engine(path: Path, *workflows: Workflow, sign: str = "opaque") -> Engine:
    return Engine(f"sqlite:///{path}", workflows=workflows, secret=SECRET, sign=sign)


async def until(engine: Engine, run_id: str, status: str) -> None:
    while (await engine.get(run_id).info()).status != status:
        await asyncio.sleep(0.01)


# What is left behind, by what is signed of it.
PREPARED: dict[str, tuple[bytes, dict[str, str]]] = {}


@pytest.fixture(autouse=True, scope="module")
def journals(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Make the journals that each test has a copy of."""
    for sign in ("opaque", "all"):
        path = tmp_path_factory.mktemp(sign) / "runs.db"
        ids = asyncio.run(prepare_anew(path, sign))
        PREPARED[sign] = path.read_bytes(), ids


def prepared(path: Path, sign: str) -> dict[str, str]:
    journal, ids = PREPARED[sign]
    path.write_bytes(journal)
    UNPICKLED.clear()
    return ids


async def prepare_anew(path: Path, sign: str) -> dict[str, str]:
    """Leave a run that waits with a message in its inbox, one like it, and one that is over."""
    ids = {}
    async with open_engine(path, waiting, ending, sign=sign) as engine:
        for name, workflow, status in [
            ("waits", waiting, "waiting"),
            ("other", waiting, "waiting"),
            ("ended", ending, "completed"),
        ]:
            ids[name] = await engine.submit(workflow)
            await until(engine, ids[name], status)
    async with open_engine(path, sign=sign) as engine:
        for name in ("waits", "other"):
            await engine.send_event(ids[name], Transfer(trap=Trap(f"inbox of {name}")))
    return ids


def edit(path: Path, *statements: str, **parameters: Any) -> None:
    """What a writer of the file can do who has no secret."""
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        for statement in statements:
            assert file.execute(statement, parameters).rowcount > 0, statement


N = "(SELECT n FROM runs WHERE id = :{})"
PLACES = {
    "stream 1": f"stream SET body = :body WHERE number = 1 AND run = {N.format('waits')}",
    "stream 2": f"stream SET body = :body WHERE number = 2 AND run = {N.format('waits')}",
    "inbox": f"inbox SET body = :body WHERE run = {N.format('waits')}",
    "stream of another": f"stream SET body = :body WHERE number = 1 AND run = {N.format('other')}",
    "inbox of another": f"inbox SET body = :body WHERE run = {N.format('other')}",
    "stream of the ended": f"stream SET body = :body WHERE run = {N.format('ended')}",
    "outcome": "runs SET outcome = :body WHERE id = :ended",
}
PAIRS = [(one, other) for one in PLACES for other in PLACES if one != other]


def move(path: Path, ids: dict[str, str], source: str, target: str) -> None:
    raw = {name: bytes.fromhex(run_id.replace("-", "")) for name, run_id in ids.items()}
    table, rest = PLACES[source].split(" SET ", 1)
    column, where = rest.split(" = :body ", 1)
    with contextlib.closing(sqlite3.connect(path)) as file:
        [body] = file.execute(f"SELECT {column} FROM {table} {where}", raw).fetchone()
    edit(path, f"UPDATE {PLACES[target]}", body=body, **raw)


async def read(engine: Engine, ids: dict[str, str], place: str) -> None:
    run_id = ids["waits"]
    if "another" in place:
        run_id = ids["other"]
    elif "ended" in place or place == "outcome":
        run_id = ids["ended"]
    if place == "outcome":
        await engine.get(run_id)
    else:
        after = 1 if place == "stream 2" else 0
        await anext(aiter(engine.stream_events(run_id, after)))


@pytest.mark.parametrize("sign", ["opaque", "all"])
@pytest.mark.parametrize(("source", "target"), PAIRS)
async def test_nothing_is_taken_from_another_place(
    tmp_path: Path, source: str, target: str, sign: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "runs.db"
    ids = prepared(path, sign)
    move(path, ids, source, target)
    if not target.startswith("inbox"):
        async with open_engine(path, sign=sign) as engine:
            with pytest.raises(SnapshotError, match=r"checksum|signature of"):
                await read(engine, ids, target)
        assert UNPICKLED == []
        return
    run_id = ids["other" if "another" in target else "waits"]
    async with open_engine(path, waiting, sign=sign) as engine:
        while not any("cannot be delivered" in record.getMessage() for record in caplog.records):
            await asyncio.sleep(0.01)
        assert (await engine.get(run_id).info()).finished is None
    assert not any(name.startswith(("stream", "outcome")) for name in UNPICKLED)


@pytest.mark.parametrize("sign", ["opaque", "all"])
async def test_a_checkpoint_is_not_taken_at_another_record(tmp_path: Path, sign: str) -> None:
    path = tmp_path / "runs.db"
    ids = prepared(path, sign)
    raw = bytes.fromhex(ids["waits"].replace("-", ""))
    # All numbers are moved by one, so that none is missing.
    run = f"WHERE run = {N.format('id')}"
    edit(
        path,
        f"UPDATE checkpoints SET seq = seq + 1 {run}",
        f"UPDATE commits SET seq = seq + 1001 {run}",
        f"UPDATE commits SET seq = seq - 1000 {run}",
        "UPDATE runs SET seq = seq + 1 WHERE id = :id",
        id=raw,
    )
    async with open_engine(path, sign=sign) as engine:
        with pytest.raises(SnapshotError, match="stands in the place of"):
            await engine.get(ids["waits"]).history()
    assert UNPICKLED == []


@pytest.mark.parametrize("sign", ["opaque", "all"])
async def test_a_fork_is_signed_anew_and_takes_nothing_of_its_origin(
    tmp_path: Path, sign: str
) -> None:
    path = tmp_path / "runs.db"
    ids = prepared(path, sign)
    async with open_engine(path, sign=sign) as engine:
        fork = (await engine.fork(ids["waits"])).id
        assert await engine.get(fork).history()
    raw = {"origin": bytes.fromhex(ids["waits"].replace("-", ""))}
    raw["fork"] = bytes.fromhex(fork.replace("-", ""))
    state = f"(SELECT state FROM checkpoints WHERE run = {N.format('origin')})"
    edit(path, f"UPDATE checkpoints SET state = {state} WHERE run = {N.format('fork')}", **raw)
    async with open_engine(path, waiting, sign=sign) as engine:
        with pytest.raises(DamagedRun, match="the checkpoint is of another run"):
            await engine.fork(fork)


@step
async def count(ctx: Context, ev: StartEvent) -> StopEvent:
    for number in range(3):
        ctx.set("number", number)
        await ctx.wait_for_event(Transfer)
    return StopEvent()


counting = Workflow("counting", [count])


async def test_a_log_that_is_chained_is_refused_with_a_commit_missing(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with open_engine(path, counting, sign="all") as engine:
        run_id = await engine.submit(counting)
        for number in range(2):
            await until(engine, run_id, "waiting")
            await engine.send_event(run_id, Transfer(trap=number))
            while (await engine.get(run_id).info()).seq < 4 * (number + 1):
                await asyncio.sleep(0.01)
        await until(engine, run_id, "waiting")
    commits = numbers(path)
    assert len(commits) >= 3
    edit(path, f"DELETE FROM commits WHERE seq = {commits[1]}")
    async with open_engine(path, sign="all") as engine:
        with pytest.raises((SnapshotError, DamagedRun)):
            await engine.get(run_id).history()


def numbers(path: Path) -> list[int]:
    with contextlib.closing(sqlite3.connect(path)) as file:
        return [seq for [seq] in file.execute("SELECT seq FROM commits ORDER BY seq")]


async def test_an_engine_that_signs_all_refuses_a_run_that_is_not_signed_so(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    ids = prepared(path, "opaque")
    async with open_engine(path, sign="all") as engine:
        for name in ids:
            with pytest.raises(InvalidSignature, match="not signed as a whole"):
                await engine.get(ids[name]).history()
        with pytest.raises(InvalidSignature, match="not signed as a whole"):
            await engine.get(ids["ended"])
    assert UNPICKLED == []


async def test_a_run_that_is_signed_as_a_whole_stays_so_whoever_goes_on_with_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "runs.db"
    ids = prepared(path, "all")
    async with open_engine(path, waiting, ending, sign="opaque") as engine:
        result = await engine.get(ids["waits"])
        assert result.name == "inbox of waits"
    async with open_engine(path, waiting, ending, sign="all") as engine:
        assert (await engine.get(ids["waits"])).name == "inbox of waits"
        assert await engine.get(ids["waits"]).history()
        assert (await engine.get(ids["other"])).name == "inbox of other"


def test_what_is_signed_is_one_of_two_words() -> None:
    with pytest.raises(ValueError, match='sign: "opaque" or "all" expected'):
        Engine("memory:", sign="everything")  # type: ignore[arg-type]

"""What earlier versions wrote: every journal and snapshot among the fixtures opens, and goes on."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
import pytest_asyncio
import stored_work as work
from stored_work import BLOB, PRICE, Answer, OutOfStock, Progress, Receipt

from treadle import Engine, InvalidSignature, KeyConflict, TreadleError, UnsignedValue, Workflow

VERSIONS = sorted(path.stem.removeprefix("journal-v") for path in work.FIXTURES.glob("*.db"))
VALUES = ["käse", PRICE, BLOB, bytearray(BLOB)]


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def journal(version: str, tmp_path: Path) -> Path:
    path = tmp_path / "runs.db"
    shutil.copy(work.FIXTURES / f"journal-v{version}.db", path)
    secret = path.with_name("runs.db.secret")
    shutil.copy(work.FIXTURES / f"journal-v{version}.db.secret", secret)
    secret.chmod(0o600)
    return path


@pytest.fixture
def ids(version: str) -> dict[str, str]:
    return json.loads((work.FIXTURES / f"runs-v{version}.json").read_text())


@pytest_asyncio.fixture
async def engine(journal: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    monkeypatch.setitem(work.MENDED, "is", True)
    async with Engine(f"sqlite:///{journal}", workflows=work.ALL) as engine:
        yield engine


async def stream(engine: Engine, run_id: str, count: int) -> list[object]:
    events = engine.stream_events(run_id)
    return [await anext(events) for _ in range(count)]


def price_of(number: int) -> Answer:
    return Answer(number=number, price=Decimal(number))


async def test_completed_runs_still_have_their_results_and_streams(engine, ids) -> None:
    receipt = await engine.get(ids["completed"])
    assert receipt == Receipt(order=1, price=PRICE)
    assert await stream(engine, ids["completed"], 2) == [
        Progress(done=1, price=PRICE, blob=BLOB),
        Progress(done=2, price=PRICE, blob=BLOB),
    ]
    assert await engine.get(ids["json"]) == [1, "two"]
    assert await engine.get(ids["opaque"]) == (1, PRICE)
    assert await engine.get(ids["binary"]) == BLOB


async def test_a_run_that_failed_still_has_its_error_and_can_be_retried(engine, ids) -> None:
    with pytest.raises(OutOfStock) as raised:
        await engine.get(ids["failed"])
    assert raised.value.args == ("nothing left", PRICE)
    assert await (await engine.retry(ids["failed"])) == VALUES


async def test_a_run_that_was_cancelled_still_is_and_can_be_retried(engine, ids) -> None:
    assert (await engine.get(ids["cancelled"]).info()).status == "cancelled"
    run = await engine.retry(ids["cancelled"])
    for number in (1, 2):
        await run.send_event(price_of(number))
    assert await run == ([(1, Decimal(1)), (2, Decimal(2))], VALUES, 2)


@pytest.mark.parametrize("name", ["waiting", "keyed"])
async def test_a_run_that_waits_goes_on(engine, ids, name) -> None:
    run = engine.get(ids[name])
    for number in (1, 2):
        await run.send_event(price_of(number))
    assert await run == ([(1, Decimal(1)), (2, Decimal(2))], VALUES, 2)
    [first, second] = await stream(engine, ids[name], 2)
    assert (first.done, second.done) == (1, 1)


@pytest.mark.parametrize("name", ["answered", "forked"])
async def test_a_run_that_has_received_an_event_still_has_it(engine, ids, name) -> None:
    run = engine.get(ids[name])
    await run.send_event(price_of(2))
    answers, values, _ = await run
    assert answers == [(1, PRICE), (2, Decimal(2))]
    assert values == VALUES


async def test_messages_that_nobody_took_are_delivered(engine, ids) -> None:
    answers, values, _ = await engine.get(ids["messaged"])
    assert answers == [(1, PRICE), (2, PRICE)]
    assert values == VALUES


async def test_a_message_that_was_sent_before_is_known_again(journal, ids) -> None:
    async with Engine(f"sqlite:///{journal}") as engine:
        assert not await engine.send_event(ids["messaged"], price_of(1), id="answer 1")


async def test_a_paused_run_goes_on_when_it_is_resumed(engine, ids) -> None:
    run = engine.get(ids["paused"])
    assert (await run.info()).status == "paused"
    await run.resume()
    for number in (1, 2):
        await run.send_event(price_of(number))
    assert (await run)[0] == [(1, Decimal(1)), (2, Decimal(2))]


async def test_retries_and_sleeps_are_over_when_they_are_due(engine, ids) -> None:
    assert await engine.get(ids["retrying"]) == (2, PRICE, VALUES)
    assert await engine.get(ids["sleeping"]) == PRICE


async def test_a_key_still_stands_for_its_run(engine, ids) -> None:
    again = await engine.submit(work.asking, key="order-7", **work.KEYED_INPUT)
    assert again == ids["keyed"]


async def test_another_input_under_a_key_still_is_a_conflict(engine, ids) -> None:
    other = {**work.KEYED_INPUT, "number": 8}
    with pytest.raises(KeyConflict):
        await engine.submit(work.asking, key="order-7", **other)
    with pytest.raises(KeyConflict):
        await engine.run(work.asking, key="order-7", **other)
    run = engine.run(work.asking, key="order-7", **work.KEYED_INPUT)
    while run.id != ids["keyed"]:
        await asyncio.sleep(0.01)


async def test_events_that_were_sent_and_collected_count_once(engine, ids) -> None:
    run = engine.get(ids["gathering"])
    await run.send_event(price_of(2))
    assert sorted(await run) == [(0, (0, 0)), (1, (1, 1)), (2, (2, 2))]


async def test_every_run_can_be_forked_or_says_why_not(engine, ids) -> None:
    for run_id in ids.values():
        assert (await engine.fork(run_id)).id != run_id


@pytest.mark.parametrize(
    ("name", "workflow", "answers"),
    [("waiting", work.asking, [2]), ("gathering", work.gathering, [2])],
)
async def test_a_snapshot_goes_on(version: str, name: str, workflow: Workflow, answers) -> None:
    snapshot = (work.FIXTURES / f"{name}-v{version}.snapshot").read_bytes()
    run = workflow.resume(snapshot, secret=work.SECRET)
    for number in answers:
        run.send_event(price_of(number))
    result = await asyncio.wait_for(run, 20)
    if name == "waiting":
        assert result == ([(1, PRICE), (2, Decimal(2))], VALUES, 2)
    else:
        assert sorted(result) == [(0, (0, 0)), (1, (1, 1)), (2, (2, 2))]


@pytest.mark.parametrize("digests", [1, 2])
async def test_events_that_were_sent_with_each_version_of_digests_count_once(digests: int) -> None:
    snapshot = (work.FIXTURES / f"sends-v{digests}.snapshot").read_bytes()
    run = work.gathering.resume(snapshot, secret=work.SECRET)
    run.send_event(price_of(2))
    assert sorted(await asyncio.wait_for(run, 20)) == [(0, (0, 0)), (1, (1, 1)), (2, (2, 2))]


async def test_a_snapshot_without_opaque_values_needs_no_secret(version: str) -> None:
    snapshot = (work.FIXTURES / f"unsigned-v{version}.snapshot").read_bytes()
    assert await work.napping.resume(snapshot, secret=[]) == [1, "two"]


async def test_without_the_secret_nothing_opaque_is_read(journal, ids, version) -> None:
    async with Engine(f"sqlite:///{journal}", secret=b"another secret of these") as engine:
        for name in ("opaque", "completed"):
            with pytest.raises(InvalidSignature):
                await engine.get(ids[name])
    snapshot = (work.FIXTURES / f"waiting-v{version}.snapshot").read_bytes()
    with pytest.raises((InvalidSignature, UnsignedValue)) as refused:
        work.asking.resume(snapshot, secret=b"another secret of these")
    assert isinstance(refused.value, TreadleError)


ARCHIVES = sorted(work.FIXTURES.glob("archive-v*.treadle"))


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.stem)
async def test_archives_are_still_opened_with_and_without_the_secret(archive: Path) -> None:
    secret = (work.FIXTURES / "journal-v2.db.secret").read_bytes()
    async with Engine(f"archive:///{archive}") as engine:
        (info,) = await engine.runs()
        assert (info.workflow, info.status, info.inbox) == ("asking", "waiting", 2)
        shown = {value["key"]: value for value in (await engine.get(info.id).inspect())["state"]}
        assert json.loads(shown["text"]["json"]) == "käse"
        assert shown["blob"]["binary"] == BLOB
        assert (
            "waits for an event stored_work:Answer" in (await engine.get(info.id).why())[-1]["text"]
        )
    async with Engine(f"archive:///{archive}", secret=secret) as engine:
        assert (await engine.state(info.id))["price"] == PRICE
    async with Engine(f"archive:///{archive}", secret="a secret that signed nothing") as engine:
        with pytest.raises(InvalidSignature):
            await engine.get(info.id).history()

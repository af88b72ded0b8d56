"""No statement of the journal reads the table of runs from one end to the other."""

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from durable_work import ALL, Go, asking, pages
from postgres_server import NoServer, Server, query

from treadle import Engine, StartEvent

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(240)]

ROWS = 100_000
EXPLAINED = (
    "session_preload_libraries=auto_explain",
    "auto_explain.log_min_duration=0",
    "log_line_prefix=",
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("TREADLE_SECRET", "a-secret-of-the-tests-on-PostgreSQL")
    try:
        server = Server("fsync=off", *EXPLAINED)
    except NoServer as error:
        pytest.fail(str(error), pytrace=False)
    yield server
    server.remove()


def fill(url: str) -> None:
    """Copy each run that there is until there are many."""
    columns = query(
        url,
        "SELECT attname FROM pg_attribute WHERE attrelid = 'treadle.runs'::regclass "
        "AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
    )
    # Those that are not over wait for ever, and are nobody's.
    made = {"id": "gen_random_uuid()", "key": "NULL", "key_digest": "NULL", "owner": "0"}
    made["wake"] = "CASE WHEN r.wake IS NOT NULL THEN 9223372036854775807 END"
    values = ", ".join(made.get(column, f"r.{column}") for column in columns)
    query(
        url,
        f"INSERT INTO treadle.runs ({', '.join(columns)}) SELECT {values} FROM treadle.runs r, "
        f"generate_series(1, {ROWS} / (SELECT count(*) FROM treadle.runs))",
    )
    query(url, "ANALYZE")


async def do_everything(url: str, name: str) -> None:
    """Have an engine ask all that it asks a journal."""
    async with (
        Engine(url, workflows=ALL, lease=1, keep=3600) as engine,
        Engine(url, lease=1) as other,
    ):
        asked = engine.run(asking, StartEvent(), key=f"one {name}")
        run_id = await other.submit(pages, number=1, key=f"two {name}")
        await other.get(run_id)
        while (await other.get(asked.id).info()).status != "waiting":
            await asyncio.sleep(0.01)
        await other.pause(asked.id)
        await other.resume(asked.id)
        await other.send_event(asked.id, Go(number=1))
        await asked
        fork = await other.fork(run_id)
        await fork
        assert [event.done async for event in engine.stream_events(run_id)] == [1, 2]
        cancelled = await other.submit(asking)
        await other.cancel(cancelled)
        while (await other.get(cancelled).info()).status != "cancelled":
            await asyncio.sleep(0.01)
        await other.retry(cancelled)
        while (await other.get(cancelled).info()).status != "waiting":
            await asyncio.sleep(0.01)
        await list_everything(other, name)
        await other.delete(run_id)


async def list_everything(engine: Engine, name: str) -> None:
    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    assert await engine.find(asking, f"one {name}") is not None
    statuses = ("running", "waiting", "paused", "completed", "failed", "cancelled", "stranded")
    for options in (
        {},
        {"workflow": asking.name},
        *({"status": status} for status in statuses),
        {"workflow": asking.name, "status": "waiting"},
        {"since": now - hour},
        {"key_prefix": "on"},
        {"finished_since": now - hour},
        {"finished_since": now - hour, "finished_before": now, "workflow": pages.name},
        {"include": "result", "limit": 5},
    ):
        page = await engine.runs(**options)  # type: ignore[arg-type]
        if len(page) > 1:
            await engine.runs(after=page[-1].id, **options)  # type: ignore[arg-type]


def test_no_statement_reads_all_runs(server: Server):
    asyncio.run(do_everything(server.url, "before"))
    fill(server.url)
    log = server.directory / "log"
    before = log.stat().st_size
    asyncio.run(do_everything(server.url, "after"))
    # The control: nothing finds a run by its reason.
    query(server.url, "SELECT count(*) FROM treadle.runs WHERE reason = 'none'")
    with open(log, "rb") as opened:
        opened.seek(before)
        said = opened.read().decode()
    # A plan begins with the text of its statement.
    plans = re.split(r"^LOG: +duration: .*plan:$", said, flags=re.MULTILINE)[1:]
    assert len(plans) > 50
    assert sum("Scan using runs" in plan or "Index Scan" in plan for plan in plans) > 20
    scans = {plan.strip() for plan in plans if re.search(r"Seq Scan on (\w+\.)?runs\b", plan)}
    assert [scan for scan in scans if "reason = 'none'" not in scan] == []
    assert len(scans) == 1
    print(f"{len(plans)} plans of statements on {ROWS} runs")

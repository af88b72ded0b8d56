"""What the page of runs is told, and what it may do, mounted in a service."""

import asyncio
import json
import logging
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from journals import POSTGRES, journal_url
from ui_work import ALL, Answer, asked, asks, failing, filled, serving, spreads

import treadle.ui
from treadle import Context, Engine, StartEvent, StopEvent, Workflow, step


@pytest_asyncio.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine("memory:", workflows=ALL, history="full") as engine:
        yield engine


async def told(app: Any, path: str, query: str = "", **headers: str) -> Any:
    status, _, body = await asked(app, path, query=query, **headers)
    assert status == 200, body
    return json.loads(body)


async def acted(app: Any, path: str, body: Any = None, method: str = "POST") -> tuple[int, Any]:
    status, _, raw = await asked(app, path, method, body, origin="http://localhost")
    return status, json.loads(raw)


async def waiting(engine: Engine) -> str:
    run = engine.run(asks, key="question").detach()
    while (await engine.get(run.id).info()).status != "waiting":
        await asyncio.sleep(0.01)
    return run.id


@pytest.mark.parametrize("kind", ["memory", "sqlite", POSTGRES])
async def test_runs_are_listed_on_every_journal(
    kind: str, request: pytest.FixtureRequest, tmp_path: Any
) -> None:
    async with Engine(journal_url(kind, request, tmp_path), workflows=ALL) as engine:
        app = treadle.ui.app(engine)
        run = engine.run(spreads, key="one")
        await run
        page = await told(app, "/api/runs")
        assert [row["id"] for row in page["runs"]] == [run.id]
        assert page["next"] is None
        head = await told(app, f"/api/run/{run.id}")
        assert (head["status"], head["key"]) == ("completed", "one")


async def test_numbers_are_exact_and_keys_in_their_order(engine: Engine) -> None:
    run = engine.run(spreads)
    await run
    app = treadle.ui.app(engine)
    state = {it["key"]: it for it in (await told(app, f"/api/run/{run.id}/state"))["state"]}
    assert state["large"]["json"] == str(2**53 + 1)
    assert list(json.loads(state["keys"]["json"])) == ["10", "2", "a"]
    head = await told(app, f"/api/run/{run.id}")
    assert str(2**60 + 1) in head["outcome"]["whole"]["json"]


async def test_a_number_that_a_browser_would_round_is_a_text(engine: Engine) -> None:
    run = await waiting(engine)
    await engine.pause(run)
    # What is kept is numbered from 2^62 on.
    await engine.send_event(run, Answer(by="Ada"))
    app = treadle.ui.app(engine)
    for _ in range(500):
        records = (await told(app, f"/api/run/{run}/records"))["records"]
        if any(it["what"] in ("held", "kept") for it in records):
            break
        await asyncio.sleep(0.01)

    def numbers(it: Any) -> Iterator[int]:
        if isinstance(it, dict):
            for one in it.values():
                yield from numbers(one)
        elif isinstance(it, list):
            for one in it:
                yield from numbers(one)
        elif isinstance(it, int):
            yield it

    assert all(abs(number) < 2**53 for number in numbers(records))


async def test_pages_follow_each_other_without_a_gap_and_without_a_run_twice(
    engine: Engine,
) -> None:
    ids = [await engine.submit(failing) for _ in range(7)]
    app = treadle.ui.app(engine)
    found: list[str] = []
    after = ""
    while True:
        page = await told(app, "/api/runs", f"limit=3&after={after}")
        found += [row["id"] for row in page["runs"]]
        if page["next"] is None:
            break
        after = page["next"]
    assert found == sorted(ids, reverse=True)
    assert await told(app, "/api/runs/count") == {"count": 7, "is_capped": False}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", {"pieces", "question", "wrong"}),
        ("status:failed", {"wrong"}),
        ("status:failed,waiting", {"wrong", "question"}),
        ("workflow:spreads", {"pieces"}),
        ("key:pie", {"pieces"}),
        ("pie", {"pieces"}),
        ('key:"pieces"', {"pieces"}),
        ("since:1h", {"pieces", "question", "wrong"}),
        ("since:2999-01-01", set()),
        ("error:HUNTER2", {"wrong"}),
        ("error:nothing", set()),
        ("longer:1h", set()),
        ("longer:0s status:completed", {"pieces"}),
    ],
)
async def test_a_filter_gives_the_runs_that_are_like_that(text: str, names: set[str]) -> None:
    async with Engine("memory:", workflows=ALL) as engine:
        runs = [engine.run(spreads, key="pieces"), engine.run(failing, key="wrong")]
        await asyncio.gather(*runs, return_exceptions=True)
        await waiting(engine)
        page = await told(treadle.ui.app(engine), "/api/runs", f"q={text.replace(' ', '+')}")
        assert {row["key"] for row in page["runs"]} == names


@pytest.mark.parametrize(
    "text",
    [
        "status:done",
        "since:soon",
        "longer:x",
        "colour:red",
        "parent:x",
        "key:a+key:b",
        "since:",
        "x" * 1001,
    ],
)
async def test_a_filter_that_makes_no_sense_is_explained(engine: Engine, text: str) -> None:
    status, _, body = await asked(treadle.ui.app(engine), "/api/runs", query=f"q={text}")
    assert status == 400
    assert json.loads(body)["text"]


async def test_records_come_in_pages(engine: Engine) -> None:
    run = engine.run(spreads)
    await run
    app = treadle.ui.app(engine)
    whole = (await told(app, f"/api/run/{run.id}/records", "limit=500"))["records"]
    paged: list[Any] = []
    after = 0
    while True:
        page = await told(app, f"/api/run/{run.id}/records", f"after={after}&limit=4")
        paged += page["records"]
        if page["next"] is None:
            break
        after = page["next"]
    assert [it["seq"] for it in paged if it["seq"]] == [it["seq"] for it in whole if it["seq"]]
    assert {it["what"] for it in whole} >= {"queued", "started", "set", "finished", "retried"}


async def test_a_state_behind_each_record_and_what_differs(engine: Engine) -> None:
    run = engine.run(spreads)
    await run
    app, path = treadle.ui.app(engine), f"/api/run/{run.id}"
    last = (await told(app, path))["seq"]
    keys: list[set[str]] = []
    for at in range(last + 1):
        state = (await told(app, f"{path}/state", f"at={at}"))["state"]
        keys.append({it["key"] for it in state})
    for at in range(1, last + 1):
        found = (await told(app, f"{path}/diff", f"a={at - 1}&b={at}"))["state"]
        added = {it["key"] for it in found if it["before"] is None}
        assert added == keys[at] - keys[at - 1]


def columns_of(body: bytes) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    (size,) = struct.unpack_from("<I", body)
    head = json.loads(body[4 : 4 + size])
    at, n, found = 4 + size, head["count"], {}
    assert at % 8 == 0
    kinds = {"start": "d", "queued": "f", "ran": "f", "waits": "f", "record": "I", "began": "I"}
    kinds |= {"ended": "I", "delivery": "I", "cause": "I", "step": "H", "event": "H"}
    kinds |= {"number": "H", "end": "B"}
    for name, kind in kinds.items():
        form = f"<{n}{kind}"
        found[name] = struct.unpack_from(form, body, at)
        at += struct.calcsize(form)
    assert at == len(body)
    return head, found


async def test_a_course_has_every_attempt_with_its_cause(engine: Engine) -> None:
    run = engine.run(spreads)
    await run
    status, _, body = await asked(treadle.ui.app(engine), f"/api/run/{run.id}/course")
    assert status == 200
    head, columns = columns_of(body)
    steps = [head["steps"][place] for place in columns["step"]]
    assert sorted(steps) == ["spread", *["work"] * 4]
    assert sorted(columns["number"]) == [1, 1, 1, 1, 2]
    causes = {head["steps"][columns["step"][it]] for it in columns["cause"] if it < len(steps)}
    assert causes == {"spread"}
    assert head["failures"][0][1].startswith("ConnectionError")
    ends = [columns["end"][n] for n, name in enumerate(steps) if name == "work"]
    assert sorted(ends).count(3) >= 2
    assert 4 in ends
    assert all(began > 0 for began in columns["start"])


async def test_a_run_that_waits_says_for_what_and_takes_an_answer(engine: Engine) -> None:
    run = await waiting(engine)
    app = treadle.ui.app(engine, access=lambda scope: {"send"})
    (found,) = (await told(app, "/api/waiting"))["waiting"]
    (event,) = found["events"]
    assert [field["name"] for field in event["form"]] == ["by", "amount"]
    path = f"/api/run/{run}/send"
    status, body = await acted(app, path, {"event": event["class"], "fields": {"by": 7}})
    assert (status, "by" in body["text"]) == (400, True)
    status, body = await acted(app, path, {"event": "os:system", "fields": {}})
    assert status == 400
    status, body = await acted(app, path, {"event": event["class"], "fields": {"by": "Ada"}})
    assert (status, body) == (200, {"is_new": True})
    assert await engine.get(run) == "Ada"


async def test_workflows_have_their_graphs_and_counts(engine: Engine) -> None:
    run = engine.run(spreads)
    await run
    found = {
        it["name"]: it for it in (await told(treadle.ui.app(engine), "/api/workflows"))["workflows"]
    }
    assert set(found) == {"spreads", "asks", "failing"}
    assert found["spreads"]["counts"]["completed"] == 1
    arrows = found["spreads"]["graph"]["arrows"]
    assert {"from": {"step": "spread"}, "event": "Piece", "to": {"step": "work"}} in arrows
    assert {"from": {"place": "start"}, "event": "StartEvent", "to": {"step": "spread"}} in arrows


async def test_processes_are_those_that_execute_runs(engine: Engine) -> None:
    started = asyncio.Event()

    @step
    async def lasts(ctx: Context, ev: StartEvent) -> StopEvent:
        started.set()
        await asyncio.sleep(60)
        return StopEvent()

    lasting = Workflow("lasting", [lasts])
    async with Engine("memory:", workflows=[lasting]) as other:
        run = other.run(lasting)
        await started.wait()
        (found,) = (await told(treadle.ui.app(other), "/api/processes"))["processes"]
        assert (found["runs"], found["workflows"]) == (1, ["lasting"])
        assert found["owner"] == (await other.get(run.id).info()).owner
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


# Access.


async def test_a_mounted_page_reads_and_changes_nothing_by_itself(engine: Engine) -> None:
    run = await waiting(engine)
    app = treadle.ui.app(engine)
    assert (await told(app, "/api/journal"))["actions"] == []
    for action in ["cancel", "pause", "resume", "retry", "fork", "send"]:
        assert (await acted(app, f"/api/run/{run}/{action}", {}))[0] == 403
    assert (await acted(app, f"/api/run/{run}", method="DELETE"))[0] == 403


async def test_access_says_who_may_do_what(engine: Engine) -> None:
    run = await waiting(engine)
    given: Any = None

    async def access(scope: Any) -> Any:
        return given

    app = treadle.ui.app(engine, access=access)
    assert (await asked(app, "/"))[0] == 403
    assert (await asked(app, "/api/runs"))[0] == 403
    given = {"pause"}
    assert (await told(app, "/api/journal"))["actions"] == ["pause"]
    assert (await acted(app, f"/api/run/{run}/pause", {}))[0] == 200
    assert (await acted(app, f"/api/run/{run}/cancel", {}))[0] == 403


@pytest.mark.parametrize("given", ["write", {"everything"}, 7, ValueError("no")])
async def test_access_that_makes_no_sense_is_no_access(
    engine: Engine, given: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def access(scope: Any) -> Any:
        if isinstance(given, Exception):
            raise given
        return given

    app = treadle.ui.app(engine, access=access)
    status, _, body = await asked(app, "/api/runs")
    assert status == 500
    assert b"runs" not in body
    assert "access" in caplog.text


async def test_a_mounted_page_is_reached_by_the_names_that_it_was_given(engine: Engine) -> None:
    app = treadle.ui.app(engine)
    for host, status in [("localhost:8000", 200), ("10.0.0.1", 200), ("[::1]:1", 200)]:
        assert (await asked(app, "/api/runs", host=host))[0] == status
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", ""]:
        assert (await asked(app, "/api/runs", host=host))[0] == 403
    named = treadle.ui.app(engine, hosts=["Runs.example.org"])
    assert (await asked(named, "/api/runs", host="runs.example.org:443"))[0] == 200
    assert (await asked(named, "/api/runs", host="localhost"))[0] == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"origin": "http://localhost"}, 200),
        ({"origin": "https://localhost"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"sec_fetch_site": "same-site", "origin": "http://localhost"}, 403),
        ({"sec_fetch_site": "cross-site", "origin": "http://localhost"}, 403),
        ({"sec_fetch_site": "none", "origin": "http://localhost"}, 403),
    ],
)
async def test_a_mounted_page_takes_changes_from_itself_alone(
    engine: Engine, headers: dict[str, str], status: int
) -> None:
    run = await waiting(engine)
    app = treadle.ui.app(engine, access=lambda scope: {"pause", "delete"})
    assert (await asked(app, f"/api/run/{run}/pause", "POST", {}, **headers))[0] == status
    expected = 409 if status == 200 else 403
    assert (await asked(app, f"/api/run/{run}", "DELETE", **headers))[0] == expected


async def test_actions_are_logged_with_their_user(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    class User:
        display_name = "Ada\nLovelace"

    caplog.set_level(logging.INFO, "treadle")
    run = await waiting(engine)
    app = treadle.ui.app(engine, access=lambda scope: {"cancel"})
    await asked(app, f"/api/run/{run}/cancel", "POST", {}, user=User(), origin="http://localhost")
    assert f"ui: 'Ada\\nLovelace': cancel run {run}" in caplog.text


async def test_what_is_redacted_is_nowhere_in_what_is_told(engine: Engine) -> None:
    names: set[str] = set()

    def redact(workflow: str, name: str) -> bool:
        names.add(name)
        return name in ("state.secret", "failure", "Piece.number", "result")

    done, wrong = engine.run(spreads), engine.run(failing)
    await asyncio.gather(done, wrong, return_exceptions=True)
    app = treadle.ui.app(engine, redact=redact)
    last = (await told(app, f"/api/run/{done.id}"))["seq"]
    for run in (done.id, wrong.id):
        for path in ["", "/records", "/state", "/why", "/stream", "/course", f"/diff?a=0&b={last}"]:
            path, _, query = path.partition("?")
            if run == wrong.id and query:
                continue
            status, _, body = await asked(app, f"/api/run/{run}{path}", query=query)
            assert status == 200, body
            assert b"hunter2" not in body, path
            assert b"ConnectionError" not in body, path
    for path in ["/api/runs", "/api/workflows", "/api/waiting"]:
        assert b"hunter2" not in (await asked(app, path))[2]
    assert (await asked(app, f"/api/run/{done.id}/export"))[0] == 403
    state = {it["key"]: it for it in (await told(app, f"/api/run/{done.id}/state"))["state"]}
    assert state["secret"]["is_redacted"]
    assert "json" in state["large"]
    assert names >= {"state.secret", "Piece.number", "failure", "result"}


async def test_a_value_is_left_out_if_redact_raises(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    def redact(workflow: str, name: str) -> bool:
        raise RuntimeError("no idea")

    run = engine.run(spreads)
    await run
    app = treadle.ui.app(engine, redact=redact)
    state = (await told(app, f"/api/run/{run.id}/state"))["state"]
    assert all("json" not in it for it in state)
    assert "no idea" in caplog.text


# Acting.


async def test_a_fork_with_edits_and_a_retry(engine: Engine) -> None:
    run = engine.run(spreads)
    await run
    app = treadle.ui.app(engine, access=lambda scope: {"fork", "retry", "delete"})
    body = {"at": 0, "state": {"secret": "other"}, "events": {}}
    status, found = await acted(app, f"/api/run/{run.id}/fork", body)
    assert status == 200
    assert (await engine.get(found["run"]))["sum"] == 3
    for wrong in ({"at": "x"}, {"nothing": 1}, {"at": True}, {"events": {"x": {}}}, {"at": 99999}):
        assert (await acted(app, f"/api/run/{run.id}/fork", wrong))[0] == 400
    assert (await acted(app, f"/api/run/{run.id}/retry", {}))[0] == 409
    assert (await acted(app, f"/api/run/{run.id}", method="DELETE"))[0] == 200
    assert (await asked(app, f"/api/run/{run.id}"))[0] == 404


async def test_an_archive_is_opened_and_only_looked_into(tmp_path: Any) -> None:
    async with Engine("memory:", workflows=ALL) as engine:
        run = engine.run(spreads)
        await run
        status, _, body = await asked(treadle.ui.app(engine), f"/api/run/{run.id}/export")
        assert status == 200
    file = tmp_path / "one.treadle"
    file.write_bytes(body)
    with serving(str(file), "--actions") as server:
        assert server.json("/api/journal")["is_archive"]
        assert [row["id"] for row in server.json("/api/runs")["runs"]] == [run.id]
        assert server.json(f"/api/run/{run.id}/state?at=5")["record"] == 5


# Streams.


async def events_of(app: Any, query: str) -> AsyncIterator[tuple[str, Any]]:
    """Read events of a stream until the test has enough of them."""
    parts: asyncio.Queue[bytes] = asyncio.Queue()
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        parts.put_nowait(message.get("body", b""))

    scope = {"type": "http", "method": "GET", "path": "/api/live", "root_path": ""}
    scope |= {"query_string": query.encode(), "headers": [(b"host", b"localhost")]}  # type: ignore[dict-item]
    task = asyncio.ensure_future(app(scope, receive, send))
    try:
        while True:
            text = (await parts.get()).decode()
            if text.startswith("event: "):
                name, _, data = text.partition("\ndata: ")
                yield name.removeprefix("event: "), json.loads(data)
    finally:
        gone.set()
        await task


async def test_what_changes_is_told_as_it_happens(engine: Engine) -> None:
    run = await waiting(engine)
    app = treadle.ui.app(engine)
    seen: list[str] = []
    events = events_of(app, f"q=&run={run}")
    async for name, body in events:
        if name == "run":
            seen.append(body["run"]["status"])
            if len(seen) == 1:
                await engine.send_event(run, Answer(by="Ada"))
        if seen and seen[-1] == "completed":
            break
    await events.aclose()
    assert seen[0] == "waiting"


async def test_a_new_run_and_one_that_is_deleted_are_told(engine: Engine) -> None:
    app = treadle.ui.app(engine)
    events = events_of(app, "q=")
    name, body = await anext(events)
    assert (name, body["runs"]) == ("runs", [])
    run = engine.run(failing)
    await asyncio.gather(run, return_exceptions=True)
    name, body = await anext(events)
    assert body["runs"][0]["id"] == run.id
    await events.aclose()
    events = events_of(app, f"run={run.id}")
    assert (await anext(events))[0] == "run"
    await engine.delete(run.id)
    assert (await anext(events))[0] == "gone"
    await events.aclose()


async def test_a_stream_ends_when_the_engine_is_closed() -> None:
    engine = Engine("memory:", workflows=ALL)
    await engine.open()
    events = events_of(treadle.ui.app(engine), "q=")
    assert (await anext(events))[0] == "runs"
    await engine.close()
    assert (await anext(events))[0] == "closed"
    await events.aclose()


async def test_the_page_is_found_where_it_is_mounted(engine: Engine) -> None:
    app = treadle.ui.app(engine)
    status, headers, _ = await asked(app, "", root="/team/treadle")
    assert (status, headers["location"]) == (307, "treadle/")
    status, headers, body = await asked(app, "/", root="/team/treadle")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b'src="main.js"' in body
    assert (await asked(app, "/vendor/preact.js", root="/team/treadle"))[0] == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [("engine", 1), ("access", 1), ("redact", 1), ("hosts", [1]), ("hosts", [""])],
)
def test_arguments_of_other_types_are_refused(name: str, value: Any) -> None:
    given = {"engine": Engine("memory:"), name: value}
    with pytest.raises(TypeError, match=name):
        treadle.ui.app(given.pop("engine"), **given)


async def test_a_page_that_is_not_open_yet_says_so() -> None:
    status, _, body = await asked(treadle.ui.app(Engine("memory:")), "/api/runs")
    assert (status, json.loads(body)["error"]) == (503, "EngineClosed")


def test_the_command_stops_when_it_is_told_to(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    asyncio.run(filled(url))
    with serving(url) as server:
        assert len(server.json("/api/runs")["runs"]) == 3
        assert server.stop() == 0

"""What others may try against the page of runs: the real server, asked as an attacker asks."""

import asyncio
import json
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from ui_work import MARKUP, Server, filled, serving

from treadle import Context, Engine, Event, StartEvent, StopEvent, Workflow, step

VERBS = ["POST", "PUT", "PATCH", "DELETE"]
ACTIONS = ["cancel", "pause", "resume", "retry", "fork", "send"]
ASKED = ["/api/journal", "/api/runs", "/api/workflows", "/api/processes", "/api/waiting"]


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    url = f"sqlite:///{tmp_path_factory.mktemp('ui') / 'runs.db'}"
    return url, asyncio.run(filled(url))


@pytest.fixture(scope="module")
def runs(journal: tuple[str, dict[str, str]]) -> dict[str, str]:
    return journal[1]


@pytest.fixture(scope="module")
def server(journal: tuple[str, dict[str, str]]) -> Iterator[Server]:
    """A server that may act."""
    with serving(journal[0], "--actions") as found:
        yield found


@pytest.fixture(scope="module")
def reader(journal: tuple[str, dict[str, str]]) -> Iterator[Server]:
    """A server that may only read."""
    with serving(journal[0]) as found:
        yield found


def paths_of(run: str) -> list[str]:
    names = ["", "/records", "/state", "/diff?a=1&b=2", "/why", "/stream", "/course", "/export"]
    return [f"/api/run/{run}{name}" for name in names]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "localhost.evil"])
def test_a_name_that_is_not_ours_gets_nothing_by_any_method(
    server: Server, runs: dict[str, str], host: str
) -> None:
    for path in ["/", "/main.js", *ASKED, *paths_of(runs["spreads"])]:
        for method in ["GET", "HEAD", "OPTIONS", *VERBS]:
            status, _, body = server.ask(path, method, host=host)
            assert status == 403, (method, path)
            assert runs["spreads"].encode() not in body


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]", "LOCALHOST"])
def test_the_names_of_this_machine_are_ours_with_the_port(server: Server, name: str) -> None:
    assert server.ask("/api/journal", host=f"{name}:{server.port}")[0] == 200
    assert server.ask("/api/journal", host=f"{name}:{server.port + 1}")[0] == 403


@pytest.mark.parametrize("token", [None, "x", "\x00", "ä"])
def test_nothing_is_told_without_the_token(
    server: Server, runs: dict[str, str], token: str | None
) -> None:
    for path in [*ASKED, "/api/live?q=", "/api/runs/count", *paths_of(runs["spreads"])]:
        if token == "\x00":
            assert server.ask(path, token=server.token[:-1])[0] == 401
            continue
        assert server.ask(path, token=token)[0] == 401, path
    for action in ACTIONS:
        assert (
            server.ask(f"/api/run/{runs['asks']}/{action}", "POST", {}, token=token and "no")[0]
            == 401
        )
    assert server.ask(f"/api/run/{runs['asks']}", "DELETE", token=None)[0] == 401


def test_the_token_is_no_parameter_of_the_url(server: Server) -> None:
    assert server.ask(f"/api/journal?token={server.token}", token=None)[0] == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
    ],
)
def test_another_page_changes_nothing_even_with_the_token(
    server: Server, runs: dict[str, str], headers: dict[str, str]
) -> None:
    for action in ACTIONS:
        path = f"/api/run/{runs['asks']}/{action}"
        assert server.ask(path, "POST", {}, **headers)[0] == 403, path
    for run in runs.values():
        assert server.ask(f"/api/run/{run}", "DELETE", **headers)[0] == 403
    assert server.json(f"/api/run/{runs['asks']}")["status"] == "waiting"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_that_a_form_could_send_is_not_taken(
    server: Server, runs: dict[str, str], kind: str
) -> None:
    path = f"/api/run/{runs['asks']}/cancel"
    assert server.ask(path, "POST", {}, Content_Type=kind)[0] == 415


def test_no_other_page_is_given_leave(server: Server) -> None:
    for path in ["/", "/api/runs"]:
        status, headers, _ = server.ask(path, "OPTIONS", Origin="https://evil.example")
        assert status in (403, 405)
        assert not [name for name in headers if name.lower().startswith("access-control")]


def test_every_answer_forbids_frames_foreign_code_and_copies(
    server: Server, runs: dict[str, str]
) -> None:
    for path in [
        "/",
        "/main.js",
        "/nowhere",
        "/api/runs",
        "/api/nowhere",
        f"/api/run/{runs['asks']}",
    ]:
        _, headers, _ = server.ask(path)
        named = {name.lower(): value for name, value in headers.items()}
        policy = named["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert named["cache-control"] == "no-store"
        assert named["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in named


@pytest.mark.parametrize(
    "path",
    [
        "/../app.py",
        "/vendor/../../app.py",
        "/%2e%2e/app.py",
        "/..%2fapp.py",
        "/vendor/%2e%2e%2f%2e%2e%2fapp.py",
        "//etc/passwd",
        "/static/index.html",
        "/vendor/LICENSE.preact%00.js",
        "/index.html/..",
        "/api/../api/run/../../app.py",
        "/__init__.py",
        "/vendor",
        "/vendor/",
    ],
)
def test_no_path_leads_out_of_the_page(server: Server, path: str) -> None:
    status, _, body = server.ask(path)
    assert status == 404, body
    assert b"import" not in body
    assert b"root:" not in body


def test_the_page_needs_nothing_from_elsewhere(server: Server) -> None:
    _, _, page = server.ask("/", token=None)
    assert b"http" not in page.replace(b"http-equiv", b"")
    assert b"<script>" not in page


def test_markup_in_values_stays_a_text(server: Server, runs: dict[str, str]) -> None:
    status, headers, body = server.ask(f"/api/run/{runs['spreads']}/state")
    assert (status, headers["content-type"]) == (200, "application/json")
    values = {value["key"]: value for value in json.loads(body)["state"]}
    assert json.loads(values["markup"]["json"]) == MARKUP


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> object:
        return (Path.touch, (self.marker,))


class Carrying(Event):
    what: object


@pytest.mark.parametrize("has_secret", [True, False])
def test_nothing_is_unpickled_signed_or_not(tmp_path: Path, has_secret: bool) -> None:
    marker, made = tmp_path / "unpickled", tmp_path / "runs.db"

    @step
    async def carry(ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.set("bomb", Bomb(marker))
        ctx.write_event_to_stream(Carrying(what=Bomb(marker)))
        return StopEvent(result=Bomb(marker))

    async def run_it() -> str:
        carrying = Workflow("carrying", [carry])
        async with Engine(f"sqlite:///{made}", workflows=[carrying]) as engine:
            return await _ended(engine, carrying)

    run = asyncio.run(run_it())
    marker.unlink(missing_ok=True)
    if not has_secret:
        (secret,) = [file for file in tmp_path.iterdir() if "secret" in file.name]
        secret.unlink()
    with serving(f"sqlite:///{made}") as server:
        for path in [*ASKED, *paths_of(run)]:
            assert server.ask(path)[0] == 200, path
        assert server.json(f"/api/run/{run}")["verified"] is has_secret
        (value,) = server.json(f"/api/run/{run}/state")["state"]
        assert (value["tag"], "json" in value) == ("opaque", False)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Bomb(marker)))
    assert marker.exists()


async def _ended(engine: Engine, workflow: Workflow) -> str:
    run = engine.run(workflow)
    await run
    return run.id


def test_an_opaque_value_is_named_and_not_shown(server: Server, runs: dict[str, str]) -> None:
    state = server.json(f"/api/run/{runs['spreads']}/state")["state"]
    (value,) = [value for value in state if value["key"] == "opaque"]
    assert value["tag"] == "opaque"
    assert not {"json", "binary"} & set(value)


def test_who_may_read_changes_nothing(
    reader: Server, journal: tuple[str, dict[str, str]], runs: dict[str, str]
) -> None:
    path = Path(journal[0].removeprefix("sqlite:///"))
    before = path.read_bytes()
    assert reader.json("/api/journal")["actions"] == []
    for action in ACTIONS:
        for run in runs.values():
            assert reader.ask(f"/api/run/{run}/{action}", "POST", {})[0] == 403
    for run in runs.values():
        assert reader.ask(f"/api/run/{run}", "DELETE")[0] == 403
    assert path.read_bytes() == before


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_are_refused(server: Server, runs: dict[str, str], method: str) -> None:
    for path in ["/", "/api/runs", f"/api/run/{runs['asks']}", f"/api/run/{runs['asks']}/cancel"]:
        assert server.ask(path, method)[0] in (403, 405), path
    assert server.ask(f"/api/run/{runs['asks']}/delete", "POST", {})[0] == 405


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
        b"GET http://evil/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/2\r\nHost: localhost\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX : y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X: y\r\n" for _ in range(200)) + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_what_is_read_in_two_ways_is_refused(server: Server, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(request_bytes)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.split(b" ")[1][:1] in (b"4", b"5"), answer[:200]
    assert server.ask("/api/journal")[0] == 200


def test_one_request_is_not_taken_for_two(server: Server) -> None:
    host = f"Host: 127.0.0.1:{server.port}"
    hidden = f"GET /api/runs HTTP/1.1\r\n{host}\r\n\r\n".encode()
    head = f"POST /api/runs HTTP/1.1\r\n{host}\r\nContent-Length: {len(hidden)}\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(head.encode() + b"Connection: close\r\n\r\n" + hidden)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "name", ["x", "..", "%2e%2e", "0" * 36, "01a22e78-9c1a-7f12-b0aa-71fa51736f9c"]
)
def test_a_run_that_is_not_there_is_said_so(server: Server, name: str) -> None:
    status, _, body = server.ask(f"/api/run/{name}/state")
    assert status in (400, 404), body


@pytest.mark.parametrize(
    "query",
    ["at=-1", "at=x", "at=9999999", "at=99999999999999999999", "most=1e9", "at=1&at=2&at=x"],
)
def test_a_number_that_is_none_is_refused(server: Server, runs: dict[str, str], query: str) -> None:
    assert server.ask(f"/api/run/{runs['spreads']}/state?{query}")[0] == 400

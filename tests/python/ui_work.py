"""Workflows whose runs the page shows, a server for them, and one who asks."""

import asyncio
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from treadle import Context, Engine, Event, Retry, StartEvent, StopEvent, Workflow, step

MARKUP = "</script><script>alert(1)</script>\u202e\x00<img src=x onerror=alert(2)>"


class Piece(Event):
    number: int


class Answer(Event):
    by: str
    amount: int = 0


@step
async def spread(ctx: Context, ev: StartEvent) -> list[Piece]:
    ctx.set("large", 2**53 + 1)
    ctx.set("keys", {"10": 1, "2": 2, "a": 2**63 - 1})
    ctx.set("markup", MARKUP)
    ctx.set("opaque", {1, 2})
    ctx.set("binary", b"\x00\xff")
    ctx.set("secret", "hunter2")
    return [Piece(number=n) for n in range(3)]


@step(retry=Retry(2, initial=0.01))
async def work(ctx: Context, ev: Piece) -> StopEvent | None:
    ctx.write_event_to_stream(ev)
    if ev.number == 1 and ctx.increment(f"tries of {ev.number}") == 1:
        raise ConnectionError(MARKUP)
    if ctx.increment("done") == 3:
        return StopEvent(result={"sum": 3, "large": 2**60 + 1})
    return None


spreads = Workflow("spreads", [spread, work])


@step
async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
    ctx.set("asked", True)
    answer = await ctx.wait_for_event(Answer, timeout=3600)
    return StopEvent(result=answer.by)


asks = Workflow("asks", [ask])


@step
async def fails(ctx: Context, ev: StartEvent) -> StopEvent:
    raise ValueError("hunter2 is wrong")


failing = Workflow("failing", [fails])
ALL = [spreads, asks, failing]


async def filled(url: str) -> dict[str, str]:
    """Make a run of each workflow; return their ids."""
    async with Engine(url, workflows=ALL, history="full") as engine:
        done = engine.run(spreads, key="pieces")
        waits = engine.run(asks, key="question")
        wrong = engine.run(failing, key="wrong")
        await asyncio.gather(done, wrong, return_exceptions=True)
        while (await engine.get(waits.id).info()).status != "waiting":
            await asyncio.sleep(0.01)
        waits.detach()
        return {"spreads": done.id, "asks": waits.id, "failing": wrong.id}


class Server:
    """`python -m treadle ui` in a process of its own."""

    def __init__(self, url: str, *options: str) -> None:
        command = [sys.executable, "-m", "treadle", "ui", url, *options]
        here = Path(__file__).parent
        self._process = subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        self.url = self._process.stdout.readline().strip()
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/#token=([\w-]+)", self.url)
        assert found is not None, self.url
        self.port, self.token = int(found[1]), found[2]

    def stop(self) -> int:
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGTERM)
        code = self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: Any = None,
        *,
        token: str | None = "",
        host: str | None = None,
        **headers: str,
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request as it is given; return status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", host or f"127.0.0.1:{self.port}")
            given = self.token if token == "" else token
            if given is not None:
                connection.putheader("Authorization", f"Bearer {given}")
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            raw = b"" if body is None else json.dumps(body).encode()
            if body is not None and "Content_Type" not in headers:
                connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(len(raw)))
            connection.endheaders(raw)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def json(self, path: str) -> Any:
        status, _, body = self.ask(path)
        assert status == 200, body
        return json.loads(body)


@contextmanager
def serving(url: str, *options: str) -> Iterator[Server]:
    """Serve a journal for as long as the test needs it."""
    server = Server(url, *options)
    try:
        yield server
    finally:
        server.stop()


async def asked(
    app: Any,
    path: str,
    method: str = "GET",
    body: Any = None,
    *,
    root: str = "",
    query: str = "",
    user: Any = None,
    **headers: str,
) -> tuple[int, dict[str, str], bytes]:
    """Call an ASGI application; return status, headers and body."""
    given = {"host": "localhost", **{name.replace("_", "-"): it for name, it in headers.items()}}
    raw = b"" if body is None else json.dumps(body).encode()
    if body is not None:
        given.setdefault("content-type", "application/json")
    scope: MutableMapping[str, Any] = {
        "type": "http",
        "method": method,
        "path": root + path,
        "root_path": root,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
    }
    if user is not None:
        scope["user"] = user
    sent: list[MutableMapping[str, Any]] = []
    messages = [{"type": "http.request", "body": raw, "more_body": False}]

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, b"".join(it.get("body", b"") for it in sent[1:])

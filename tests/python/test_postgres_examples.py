"""The example of a web service on PostgreSQL: one of its processes is killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]

EXAMPLES = Path(__file__).parents[2] / "examples"
ORDERS = 20


@pytest.fixture
def service(postgres: str) -> Iterator[str]:
    """The URL of a service of two processes."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    program = ["-m", "uvicorn", "--app-dir", str(EXAMPLES), "fastapi_durable:app"]
    options = ["--workers", "2", "--port", str(port), "--log-level", "error"]
    command = [sys.executable, *program, *options]
    process = subprocess.Popen(command, env={**os.environ, "JOURNAL": postgres})
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(30)


def answer(client: httpx.Client, method: str, path: str) -> dict[str, object]:
    """Ask until there is an answer: a process may be just starting, or have been killed."""
    until = time.monotonic() + 60
    while True:
        try:
            answered = client.request(method, path)
        except httpx.TransportError:
            assert time.monotonic() < until
            time.sleep(0.1)
            continue
        assert answered.status_code in (200, 202), answered.text
        found: dict[str, object] = answered.json()
        return found


def test_orders_go_on_when_a_process_is_killed(service: str):
    # A connection stays with one process: each request has its own, so that both are asked.
    options = {"limits": httpx.Limits(max_keepalive_connections=0), "timeout": 20}
    with httpx.Client(base_url=service, **options) as client:  # type: ignore[arg-type]
        taken_by = set()
        for number in range(ORDERS):
            taken = answer(client, "POST", f"/orders/{number}?amount={number}&seconds=1.5")
            taken_by.add(taken["taken_by"])
        victim = taken_by.pop()
        assert isinstance(victim, int)
        os.kill(victim, signal.SIGKILL)
        for number in range(ORDERS):
            until = time.monotonic() + 60
            while (found := answer(client, "GET", f"/orders/{number}"))["status"] != "completed":
                assert time.monotonic() < until, found
                time.sleep(0.05)
            result = found["result"]
            assert isinstance(result, dict)
            assert result["receipt"] == f"order {number}: {number} paid"
            assert result["shipped_by"] != victim
        # The same order again is the same run.
        again = answer(client, "POST", "/orders/1?amount=1&seconds=1.5")
        assert answer(client, "GET", "/orders/1")["status"] == "completed"
        assert again["run"]
        assert client.post("/orders/1?amount=2").status_code == 409

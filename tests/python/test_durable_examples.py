"""The durable examples are killed and continue."""

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from treadle import Engine

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 40


@contextmanager
def started(
    directory: Path, *command: str, **environment: str
) -> Iterator["subprocess.Popen[str]"]:
    """Start a process whose output can be read line by line, and kill it at the end."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", *command],
        cwd=directory,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def example(name: str, *arguments: str) -> list[str]:
    return [str(EXAMPLES / f"{name}.py"), *arguments]


def until(process: "subprocess.Popen[str]", pattern: str) -> "re.Match[str]":
    """Read what a process prints up to a line that matches."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"it ended before it printed {pattern!r}: {said}")


def killed(directory: Path, command: list[str], line: str) -> None:
    """Run a command, and kill it once it has printed a line."""
    with started(directory, *command) as process:
        until(process, line)
        process.kill()
        assert process.wait(SECONDS) == -signal.SIGKILL


def run(directory: Path, command: list[str]) -> list[str]:
    with started(directory, *command) as process:
        output, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, output
    return output.splitlines()


@pytest.mark.parametrize(("answer", "result"), [("approve", "shipped"), ("refuse", "refused")])
def test_an_approval_survives_a_restart(tmp_path: Path, answer: str, result: str) -> None:
    order = example("human_approval", "order", "order-42")
    killed(tmp_path, order, "waiting")
    for _ in range(2):
        assert run(tmp_path, example("human_approval", answer, "order-42")) == ["sent"]
    assert run(tmp_path, order) == ["waiting", result]
    assert run(tmp_path, order) == [result]
    assert run(tmp_path, example("human_approval", answer, "order-42")) == []


async def test_a_killed_job_repeats_no_finished_item(tmp_path: Path) -> None:
    killed(tmp_path, example("etl"), "30 %")
    lines = await asyncio.to_thread(run, tmp_path, example("etl"))
    assert lines[-2:] == ["100 %", f"sum of squares: {sum(n * n for n in range(10_000))}"]
    with closing(sqlite3.connect(tmp_path / "squares.db")) as database:
        assert database.execute("SELECT count(*), max(square) FROM squares").fetchone() == (
            10_000,
            9_999**2,
        )
    async with Engine(f"sqlite:///{tmp_path}/etl.db") as engine:
        (info,) = await engine.runs()
    # At most the items that were worked on at the moment of the kill were published twice.
    assert 10_000 <= info.published <= 10_200


@pytest.mark.parametrize("line", ["flight booked", "hotel booked", "hotel cancelled"])
def test_a_killed_saga_books_all_or_nothing(tmp_path: Path, line: str) -> None:
    killed(tmp_path, example("saga"), line)
    assert run(tmp_path, example("saga"))[-1] == "no trip: no car is available"
    with closing(sqlite3.connect(tmp_path / "agency.db")) as agency:
        bookings = agency.execute("SELECT what, is_cancelled FROM bookings ORDER BY what")
        assert bookings.fetchall() == [("flight", 1), ("hotel", 1)]


def test_a_saga_in_which_nothing_fails_books_everything(tmp_path: Path) -> None:
    killed(tmp_path, example("saga", "--car"), "hotel booked")
    assert run(tmp_path, example("saga", "--car"))[-1] == "booked: flight, hotel, car"


def test_a_payment_that_comes_while_no_process_runs_is_received(tmp_path: Path) -> None:
    order = example("payment_timeout", "order", "order-42")
    killed(tmp_path, order, "waiting")
    assert run(tmp_path, example("payment_timeout", "pay", "order-42")) == ["paid"]
    assert run(tmp_path, order) == ["waiting", "order-42: 30 euros received"]


def test_an_order_that_is_not_paid_in_time_is_released(tmp_path: Path) -> None:
    order = example("payment_timeout", "order", "order-42", "--seconds", "0.5")
    killed(tmp_path, order, "waiting")
    assert run(tmp_path, order)[-2:] == ["released order-42", "order-42: not paid in time"]


def test_a_killed_agent_does_not_ask_the_model_again(tmp_path: Path) -> None:
    question = example("agent", "What is the area of a room of 4 by 5 metres, in square feet?")
    killed(tmp_path, question, "multiply 4 5 = 20")
    lines = run(tmp_path, question)
    assert "the model calls multiply" not in lines
    assert lines[-1] == "The room has 215.3 square feet."


def test_a_killed_schedule_makes_each_report_once(tmp_path: Path) -> None:
    schedule = example("report", "--every", "0.2", "--times", "3")
    killed(tmp_path, schedule, "report 1")
    assert run(tmp_path, schedule)[-2:] == ["report 3", "3 reports"]
    made = sorted(path.name for path in tmp_path.glob("report-*.txt"))
    assert made == ["report-1.txt", "report-2.txt", "report-3.txt"]


@contextmanager
def served(directory: Path, name: str, *options: str) -> Iterator[tuple[str, int]]:
    """Start uvicorn on a free port; give its address and its process."""
    command = ["-m", "uvicorn", f"{name}:app", "--app-dir", str(EXAMPLES), "--port", "0"]
    with started(directory, *command, "--no-access-log", *options) as process:
        address = until(process, r"running on (http://\S+)")[1]
        if "--workers" not in options:
            yield address, process.pid
            return
        try:
            yield address, process.pid
        finally:
            # The process of uvicorn ends its workers; those of a killed one would go on.
            process.terminate()
            process.wait(SECONDS)


async def tokens(address: str, after: int, most: int) -> list[tuple[int, str, object]]:
    """Read messages of a stream as a browser does, until its end or so many have come."""
    found: list[tuple[int, str, object]] = []
    message: dict[str, str] = {}
    headers = {"Last-Event-ID": str(after)}
    async with (
        httpx.AsyncClient(base_url=address, timeout=SECONDS, trust_env=False) as client,
        client.stream("GET", "/chats/first/tokens", headers=headers) as answer,
    ):
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            message[name] = value
            if name == "data":
                found.append((int(message["id"]), message["event"], json.loads(value)))
                if len(found) == most:
                    break
    return found


async def test_a_stream_continues_behind_the_last_token_on_another_server(tmp_path: Path) -> None:
    with served(tmp_path, "token_stream") as (address, pid):
        async with httpx.AsyncClient(base_url=address, trust_env=False) as client:
            for _ in range(2):
                assert (await client.post("/chats/first?prompt=hello")).status_code == 200
            assert (await client.post("/chats/first?prompt=other")).status_code == 409
            assert (await client.get("/chats/second/tokens")).status_code == 404
        read = await tokens(address, 0, most=2)
        os.kill(pid, signal.SIGKILL)
    with served(tmp_path, "token_stream") as (address, _):
        read += await tokens(address, read[-1][0], most=100)
    words = ["You", "said", "hello", "and", "I", "repeat", "it:", "hello."]
    assert read == [*((n, "token", word) for n, word in enumerate(words, 1)), (8, "end", None)]


async def test_a_killed_worker_of_uvicorn_loses_no_order(tmp_path: Path) -> None:
    names = [f"order-{number}" for number in range(20)]
    with served(tmp_path, "two_workers", "--workers", "2") as (address, _):
        transport = httpx.AsyncHTTPTransport(retries=5)
        async with httpx.AsyncClient(
            base_url=address, timeout=SECONDS, trust_env=False, transport=transport
        ) as client:
            accepted = [(await client.post(f"/orders/{name}")).json() for name in names]
            os.kill(accepted[-1]["accepted_by"], signal.SIGKILL)
            shipped: dict[str, int] = {}
            async with asyncio.timeout(SECONDS):
                while len(shipped) < len(names):
                    for name in set(names) - set(shipped):
                        try:
                            order = (await client.get(f"/orders/{name}")).json()
                        except httpx.TransportError:
                            continue  # the connection was to the killed process
                        if order["status"] == "completed":
                            assert order["result"]["order"] == name
                            shipped[name] = order["result"]["shipped_by"]
                    await asyncio.sleep(0.05)


@pytest.mark.parametrize("line", ["asking", "answered"])
def test_a_killed_agent_asks_each_tool_once(tmp_path: Path, line: str) -> None:
    killed(tmp_path, example("research_agent"), line)
    answer = run(tmp_path, example("research_agent"))[-1]
    tools = ("search", "papers", "news", "wiki")
    assert answer == "; ".join(f"{tool} knows about tea" for tool in tools)
    calls = (tmp_path / "calls.txt").read_text().splitlines()
    # A call that was under way when the process was killed is made again.
    assert set(calls) == {f"{tool}: tea" for tool in tools}
    assert len(calls) <= 2 * len(tools)
    with closing(sqlite3.connect(tmp_path / "agent.db")) as journal:
        assert journal.execute("SELECT count(*) FROM runs").fetchone() == (5,)


@pytest.mark.parametrize("line", ["flight booked", "flight cancelled"])
def test_a_killed_saga_of_runs_books_all_or_nothing(tmp_path: Path, line: str) -> None:
    killed(tmp_path, example("saga_of_runs"), line)
    assert run(tmp_path, example("saga_of_runs"))[-1] == "no trip: no hotel is available"
    with closing(sqlite3.connect(tmp_path / "agency.db")) as agency:
        bookings = agency.execute("SELECT what, is_cancelled FROM bookings")
        assert bookings.fetchall() == [("flight", 1)]


def test_a_saga_of_runs_in_which_nothing_fails_books_everything(tmp_path: Path) -> None:
    killed(tmp_path, example("saga_of_runs", "--hotel"), "hotel booked")
    lines = run(tmp_path, example("saga_of_runs", "--hotel"))
    assert lines[-1] == "booked: flight and hotel"

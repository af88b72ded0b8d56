"""Passwords that a function gives, one for each connection."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from durable_work import Go, asking, pages
from postgres_server import NoServer, Server, query

from treadle import Engine, JournalError

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]


class Guarded:
    """A server whose role `app` has a password, which changes."""

    def __init__(self) -> None:
        self.server = Server("fsync=off")
        rules = Path(self.server.directory / "data" / "pg_hba.conf")
        rules.write_text(f"host all app 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        query(self.server.url, "SELECT pg_reload_conf()")
        query(self.server.url, "CREATE ROLE app LOGIN")
        query(self.server.url, "GRANT CREATE ON DATABASE postgres TO app")
        self.url = self.server.url.replace("treadle@", "app@")
        self.asked = 0
        self.rotate()

    def rotate(self) -> None:
        """Another password from now on, also for those who are connected."""
        self.password = f"token-{self.asked}-of-a-cloud"
        query(self.server.url, f"ALTER ROLE app PASSWORD '{self.password}'")
        query(
            self.server.url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'",
        )

    def give(self) -> str:
        self.asked += 1
        return self.password


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    monkeypatch.setenv("TREADLE_SECRET", "a-secret-of-the-tests-on-PostgreSQL")
    monkeypatch.setenv("PGPASSWORD", "what a variable says is not asked")
    try:
        guarded = Guarded()
    except NoServer as error:
        pytest.fail(str(error), pytrace=False)
    yield guarded
    guarded.server.remove()


async def test_each_connection_asks_for_the_password_of_its_time(guarded: Guarded):
    async with Engine(guarded.url, workflows=[asking], password=guarded.give) as engine:
        assert guarded.asked >= 1
        run = engine.run(asking)
        for _ in range(3):
            before = guarded.asked
            guarded.rotate()
            await engine.get(run.id).info()
            assert guarded.asked > before
        await engine.send_event(run.id, Go(number=4))
        assert (await run)[0] == 4


def raises(error: BaseException) -> Callable[[], NoReturn]:
    def give() -> NoReturn:
        raise error

    return give


@pytest.mark.parametrize(
    ("give", "said"),
    [
        (raises(ConnectionError("no token today")), "ConnectionError: no token today was raised"),
        (raises(StopIteration()), "StopIteration was raised"),
        (raises(KeyboardInterrupt()), "KeyboardInterrupt was raised"),
        (lambda: b"bytes-of-a-token", "a str is expected, not bytes"),
        (lambda: "\ud800", "no valid text"),
        (lambda: "a-wrong-token", "SQLSTATE 28P01"),
    ],
)
async def test_what_gives_no_password_is_said_when_the_journal_is_opened(
    guarded: Guarded, give: Callable[[], Any], said: str
):
    with pytest.raises(JournalError, match=said) as caught:
        await Engine(guarded.url, password=give).open()
    assert "token" not in str(caught.value).replace("no token today", "")


async def test_a_function_that_fails_for_a_while_holds_the_runs_up_and_loses_none(guarded: Guarded):
    fails = 0

    def give() -> str:
        nonlocal fails
        if fails:
            fails -= 1
            raise ConnectionError("the metadata service does not answer")
        return guarded.give()

    async with Engine(guarded.url, workflows=[pages], password=give) as engine:
        fails = 3
        guarded.rotate()
        assert (await engine.run(pages, number=3))[0] == 3
        assert fails == 0


LEAVES = """
import asyncio, sys, time
sys.path.insert(0, sys.argv[3])
from postgres_server import query
from treadle import Engine

slow = False

def give():
    if slow:
        print("asked", flush=True)
        time.sleep(1.0)
    return sys.argv[2]

async def main():
    global slow, engine
    engine = Engine(sys.argv[1], password=give)
    await engine.open()
    slow = True
    query(sys.argv[1].replace("app@", "treadle@"),
          "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
    await asyncio.sleep(0.5)

asyncio.new_event_loop().run_until_complete(main())
"""


def test_python_ends_in_order_while_a_password_is_asked_for(guarded: Guarded):
    command = [
        sys.executable,
        "-c",
        LEAVES,
        guarded.url,
        guarded.password,
        str(Path(__file__).parent),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "asked" in ended.stdout
    assert ended.returncode == 0, ended.stderr


async def of_a_coroutine() -> str:
    return "a token"


def test_where_no_password_is_asked_for_none_is_taken():
    url = "postgresql://app:word@127.0.0.1/app"
    with pytest.raises(ValueError, match="password: only a journal on a PostgreSQL server"):
        Engine("sqlite:///runs.db", password=lambda: "")
    for twice in (
        url,
        "postgresql://app@127.0.0.1/app?password=word",
        f"postgresql://app@h/d?listen={url}",
    ):
        with pytest.raises(ValueError, match="the URL has a password as well") as caught:
            Engine(twice, password=lambda: "")
        assert "word@" not in str(caught.value)
    for wrong in ("a token", of_a_coroutine):
        with pytest.raises(TypeError, match="password: a function that returns a str"):
            Engine("postgresql://app@127.0.0.1/app", password=wrong)  # type: ignore[arg-type]

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from postgres_server import NoServer, query
from postgres_server import url as postgres_server_url

from treadle import Context, StartEvent, StopEvent, Workflow, step


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--uvloop", action="store_true", help="run every event loop on uvloop")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--uvloop"):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    # What the last tests left behind is reported here: a traceback that is shown while `ast`
    # parses something else, of a plugin that is imported at the end, confuses that.
    gc.collect()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server: that of TREADLE_TEST_POSTGRES, or one of our own."""
    try:
        with postgres_server_url() as url:
            yield url
    except NoServer as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def postgres(postgres_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a journal in a schema of its own; there is a secret for it."""
    monkeypatch.setenv("TREADLE_SECRET", "a-secret-of-the-tests-on-PostgreSQL")
    schema = f"treadle_test_{uuid.uuid4().hex}"
    yield f"{postgres_server}{'&' if '?' in postgres_server else '?'}schema={schema}"
    query(postgres_server, f"DROP SCHEMA IF EXISTS {schema} CASCADE")


@pytest_asyncio.fixture
async def ctx() -> AsyncIterator[Context]:
    """The Context of a step of a run that goes on for as long as the test does."""
    given: asyncio.Future[Context] = asyncio.get_running_loop().create_future()
    enough = asyncio.Event()

    @step
    async def lend(ctx: Context, ev: StartEvent) -> StopEvent:
        given.set_result(ctx)
        await enough.wait()
        return StopEvent()

    async def drive() -> None:
        await Workflow("lend", [lend]).run()

    driver = asyncio.ensure_future(drive())
    yield await given
    enough.set()
    await driver


@pytest.fixture
def in_run() -> Callable[..., Any]:
    """Give a function that calls another one inside of a step of a run of its own."""

    def in_run(function: Callable[[Context], Any], *, debug: bool = False) -> Any:
        @step(inline=True)
        def body(ctx: Context, ev: StartEvent) -> StopEvent:
            return StopEvent(result=function(ctx))

        async def main() -> Any:
            return await Workflow("in_run", [body]).run()

        return asyncio.run(main(), debug=debug)

    return in_run


PRELUDE = """
import asyncio, gc, resource, sys, threading
from treadle import *

def in_run(function):
    @step(inline=True)
    def body(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=function(ctx))
    async def main():
        return await Workflow("in_run", [body]).run()
    return asyncio.run(main())

def in_small_stack(function):
    raised = []
    def call():
        try:
            function()
        except BaseException as error:
            raised.append(error)
    threading.stack_size(256 * 1024)
    thread = threading.Thread(target=call)
    thread.start()
    threading.stack_size(0)
    thread.join()
    if raised:
        raise raised[0]

def limit_memory(megabytes):
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

def resident_megabytes():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() >> 20
"""


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., str]:
    """Give a function that runs a script in its own process, and fails if that dies or hangs."""

    def run_script(source: str, *arguments: str, **environment: str) -> str:
        script = tmp_path / "script.py"
        script.write_text(PRELUDE + textwrap.dedent(source), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", str(script), *arguments],
            capture_output=True,
            text=True,
            timeout=50,
            env={**os.environ, **environment},
            check=False,
        )
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "panicked" not in done.stderr
        return done.stdout

    return run_script

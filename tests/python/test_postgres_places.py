"""Where a PostgreSQL journal must run: behind pgbouncer, over TLS, with a replica."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from durable_work import ALL, Go, asking, pages
from postgres_server import Bouncer, NoServer, Replica, Server, query

from treadle import (
    Context,
    Engine,
    JournalError,
    Retry,
    RunHandle,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_SECRET", "a-secret-of-the-tests-on-PostgreSQL")


@pytest.fixture
def server() -> Iterator[Server]:
    try:
        server = Server("fsync=off")
    except NoServer as error:
        pytest.fail(str(error), pytrace=False)
    yield server
    server.remove()


@pytest.fixture
def bouncer(server: Server) -> Iterator[Bouncer]:
    try:
        bouncer = Bouncer(server)
    except NoServer as error:
        pytest.fail(str(error), pytrace=False)
    yield bouncer
    bouncer.stop()


def engine_on(url: str) -> Engine:
    return Engine(url, workflows=ALL, lease=20)


async def is_waiting(handle: RunHandle) -> None:
    async with asyncio.timeout(30):
        while (await handle.info()).status != "waiting":
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("listens", [True, False])
async def test_runs_behind_pgbouncer_go_on_when_it_was_restarted(
    server: Server, bouncer: Bouncer, listens: bool
):
    url = f"{bouncer.url}?prepare=false&patience=2"
    url += f"&listen={quote(server.url, safe='')}" if listens else ""
    async with engine_on(url) as engine, Engine(url) as other, asyncio.timeout(90):
        runs = [engine.run(asking, StartEvent()) for _ in range(20)]
        for run in runs:
            await is_waiting(engine.get(run.id))
        bouncer.stop()
        bouncer.start()
        for run in runs:
            await other.send_event(run.id, Go(number=3))
        results = await asyncio.gather(*runs)
        assert [(number, bodies) for number, bodies, _ in results] == [(3, 1)] * 20
        run_id = await other.submit(pages, number=7)
        assert (await other.get(run_id))[0] == 7
    # Nothing of a session was changed: the connections of a pool are those of all its clients.
    with psycopg.connect(bouncer.url, prepare_threshold=None) as connection:
        shown = connection.execute("SHOW search_path").fetchone()
        prepared = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
    assert (shown, prepared) == (('"$user", public',), (0,))


async def test_a_transaction_of_a_step_goes_over_pgbouncer(server: Server, bouncer: Bouncer):
    query(server.url, "CREATE TABLE notes (what text)")

    async def note(connection: psycopg.AsyncConnection, what: str) -> str:
        await connection.execute("INSERT INTO notes VALUES (%s)", (what,))
        return what

    @step(retry=Retry(2, initial=0))
    async def write(ctx: Context, ev: StartEvent) -> StopEvent:
        options = {"prepare_threshold": None}
        async with await psycopg.AsyncConnection.connect(bouncer.url, **options) as connection:
            written = await ctx.transaction("note", connection, note, "once")
        if ctx.attempt == 1:
            raise ConnectionError("once more")
        return StopEvent(result=written)

    writing = Workflow("writing", [write])
    async with Engine(f"{bouncer.url}?prepare=false", workflows=[writing]) as engine:
        assert await engine.run(writing) == "once"
    assert query(server.url, "SELECT what FROM notes") == ["once"]


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """An authority of our own, and what it has signed."""

    def __init__(self, directory: Path, name: str) -> None:
        directory.mkdir()
        self._directory = directory
        self.certificate = directory / "authority.crt"
        self._key = directory / "authority.key"
        new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2, "-subj", f"/CN={name}")
        openssl(*new, "-keyout", self._key, "-out", self.certificate)

    def sign(self, host: str) -> tuple[str, str]:
        """Return the certificate of a host, and its key."""
        key, request, signed = (self._directory / f"server.{end}" for end in ("key", "csr", "crt"))
        names = self._directory / "names"
        names.write_text(f"subjectAltName=DNS:{host}\n")
        new = ("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={host}")
        openssl(*new, "-keyout", key, "-out", request)
        by = ("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial", "-days", 2)
        openssl("x509", "-req", "-in", request, *by, "-extfile", names, "-out", signed)
        return signed.read_text(), key.read_text()


async def test_tls_is_verified_by_the_authority_and_the_host(server: Server, tmp_path: Path):
    authority = Authority(tmp_path / "one", "an authority")
    other = Authority(tmp_path / "other", "another authority")
    certificate, key = authority.sign("localhost")
    files = [server.file("server.crt", certificate), server.file("server.key", key)]
    for name, value in zip(["ssl_cert_file", "ssl_key_file"], files, strict=True):
        query(server.url, f"ALTER SYSTEM SET {name} = '{value}'")
    query(server.url, "ALTER SYSTEM SET ssl = on")
    server.restart()

    def url(host: str, mode: str, by: Authority = authority) -> str:
        place = f"postgresql://treadle@{host}:{server.port}/postgres"
        return f"{place}?sslmode={mode}&sslrootcert={by.certificate}&connect_timeout=2"

    for mode in ("verify-full", "require", "verify-ca"):
        async with engine_on(url("localhost", mode)) as engine:
            assert (await engine.run(pages, number=1))[0] == 1
            encrypted = query(
                server.url,
                "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
                "WHERE ssl AND application_name = 'treadle'",
            )
            assert int(encrypted[0]) >= 1
    # The certificate is that of another host.
    async with engine_on(url("127.0.0.1", "verify-ca")):
        pass
    # It was signed by another authority.
    async with engine_on(url("localhost", "no-verify", other)):
        pass
    refused = [
        url("127.0.0.1", "verify-full"),
        url("localhost", "verify-full", other),
        url("localhost", "verify-ca", other),
    ]
    opened = await asyncio.gather(
        *(engine_on(place).open() for place in refused), return_exceptions=True
    )
    assert [type(error) for error in opened] == [JournalError] * 3


async def test_runs_go_on_at_a_replica_that_was_promoted(server: Server):
    async with engine_on(server.url):
        pass
    replica = Replica(server, "fsync=off")
    try:
        # What is acknowledged is at the replica.
        query(server.url, "ALTER SYSTEM SET synchronous_standby_names = '*'")
        query(server.url, "SELECT pg_reload_conf()")
        hosts = f"127.0.0.1:{server.port},127.0.0.1:{replica.port}"
        url = f"postgresql://treadle@{hosts}/postgres?patience=2&connect_timeout=1"
        async with engine_on(url) as engine, asyncio.timeout(90):
            runs = [engine.run(asking, StartEvent()) for _ in range(50)]
            for run in runs:
                await is_waiting(engine.get(run.id))
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(replica.promote)
            for run in runs:
                run.send_event(Go(number=5))
            results = await asyncio.gather(*runs)
            assert [(number, bodies) for number, bodies, _ in results] == [(5, 1)] * 50
            assert (await engine.run(pages, number=7))[0] == 7
        assert query(replica.url, "SELECT count(*) FROM treadle.runs WHERE phase = 3") == ["51"]
    finally:
        replica.remove()


async def test_an_engine_is_closed_while_its_server_is_away(server: Server):
    # What is not written is given up after the time of a lease.
    engine = Engine(server.url, workflows=ALL, lease=3)
    await engine.open()
    waiting = engine.run(asking, StartEvent()).detach()
    await is_waiting(engine.get(waiting.id))
    await asyncio.to_thread(server.stop)
    waiting.send_event(Go(number=1))
    async with asyncio.timeout(45):
        await engine.close(grace=0.1)
    await asyncio.to_thread(server.start)
    async with engine_on(server.url) as engine:
        await engine.send_event(waiting.id, Go(number=2))
        number, _, _ = await engine.get(waiting.id)
    assert number in (1, 2)


def test_a_program_ends_while_its_server_is_away(server: Server):
    source = """
        import asyncio, sys
        from treadle import Engine
        async def main():
            async with Engine(sys.argv[1]):
                print("open", flush=True)
                sys.stdin.readline()
        asyncio.run(main())
    """
    source = "\n".join(line[8:] for line in source.splitlines())
    command = [sys.executable, "-c", source, server.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        server.stop()
        process.communicate(b"\n", timeout=60)
    assert process.returncode == 0

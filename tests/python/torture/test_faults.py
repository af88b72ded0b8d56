"""Faults of processes, of the server and of what is between: nothing acknowledged is lost."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import NoServer, Server

from torture.faults import Faults
from torture.harness import Journal, settle
from torture.judge import judge
from torture.proxy import Proxy

pytestmark = pytest.mark.postgres

# `make torture` has ten times as many.
FAULTS = int(os.environ.get("KILLS", "300"))
FAULTS_AT_A_TIME = 60


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("TREADLE_SECRET", "a-secret-of-the-tests-on-PostgreSQL")
    try:
        # What the system has is not lost when a server is killed.
        server = Server("fsync=off", "max_connections=100")
    except NoServer as error:
        pytest.fail(str(error), pytrace=False)
    yield server
    server.remove()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


def journal_of(server: Server, proxy: Proxy, directory: Path) -> Journal:
    reached_by = (
        f"postgresql://treadle@127.0.0.1:{proxy.port}/postgres?patience=1&connect_timeout=1"
    )
    return Journal.below(directory, server.url, reached_by=reached_by)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("part", range(max(1, FAULTS // FAULTS_AT_A_TIME)))
def test_nothing_that_was_acknowledged_is_lost_or_done_twice(
    server: Server, proxy: Proxy, tmp_path: Path, part: int
):
    journal = journal_of(server, proxy, tmp_path)
    faults = Faults(journal, server, proxy, seed=part)
    try:
        faults.befall(FAULTS_AT_A_TIME)
    finally:
        faults.end()
    found = asyncio.run(settle(journal))
    verdict = judge(faults.judged(), found)
    print(f"{faults.counts}, {proxy.befell} at the proxy: {verdict}")
    assert sum(faults.counts.values()) == FAULTS_AT_A_TIME
    assert verdict.promises > FAULTS_AT_A_TIME
    assert verdict.faults() == {}


@pytest.mark.timeout(120)
def test_a_server_that_goes_on_from_an_older_state_is_noticed(
    server: Server, proxy: Proxy, tmp_path: Path
):
    """The control: a failover to a replica that had not everything."""
    journal = journal_of(server, proxy, tmp_path)
    faults = Faults(journal, server, proxy, seed=1)
    faults.befall(1)
    server.stop()
    old = tmp_path / "old"
    data = server.directory / "data"
    shutil.copytree(data, old)
    server.start()
    faults.befall(2)
    faults.end()
    server.stop()
    shutil.rmtree(data)
    shutil.copytree(old, data)
    for path in [data, *data.rglob("*")]:
        owner = server.directory.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
    server.start()
    found = asyncio.run(settle(journal))
    assert judge(faults.judged(), found).lost

"""Money is transferred by processes that are killed: it stays the same, and moves once."""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import pytest
from postgres_server import query

from torture.harness import HERE
from torture.money import plain_transfers, transfers
from treadle import Engine, Workflow

pytestmark = pytest.mark.postgres

WORKERS = 8
ACCOUNTS = 100
BALANCE = 1000
# Of `make torture` ten times as often.
KILLS = int(os.environ.get("KILLS", "300")) // 10
TRANSFERS = 20 * KILLS


class Bank:
    """Accounts in a database of their own, which holds the journal as well."""

    def __init__(self, server: str) -> None:
        name = f"bank_{uuid.uuid4().hex}"
        query(server, f"CREATE DATABASE {name}")
        self._server, self._name = server, name
        self.url = f"{server.partition('?')[0].rpartition('/')[0]}/{name}"
        query(
            self.url,
            "CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL); "
            "CREATE TABLE transfers (number int NOT NULL); "
            f"INSERT INTO accounts SELECT n, {BALANCE} FROM generate_series(1, {ACCOUNTS}) n",
        )

    def sum(self) -> int:
        (sum,) = query(self.url, "SELECT sum(balance) FROM accounts")
        return int(sum)

    def moved(self) -> list[int]:
        """The numbers of the transfers that were carried out."""
        return sorted(map(int, query(self.url, "SELECT number FROM transfers")))

    def remove(self) -> None:
        query(self._server, f"DROP DATABASE {self._name} WITH (FORCE)")


@pytest.fixture
def bank(postgres_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bank]:
    monkeypatch.setenv("TREADLE_SECRET", "a-secret-of-the-tests-on-PostgreSQL")
    bank = Bank(postgres_server)
    yield bank
    bank.remove()


class Workers:
    """Processes that execute transfers; one that is killed is replaced."""

    def __init__(self, bank: Bank) -> None:
        self._url = bank.url
        self._chance = random.Random(7)
        self._living = [self._start(number) for number in range(WORKERS)]
        self.killed = 0

    def _start(self, number: int) -> "subprocess.Popen[bytes]":
        given = [self._url, self._url, ["psycopg", "asyncpg"][number % 2]]
        source = "from torture.money import main; main()"
        command = [sys.executable, "-c", source, json.dumps(given)]
        return subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE)

    def kill_one(self) -> None:
        """Kill one that executes runs, and start another one."""
        number = self._chance.randrange(WORKERS)
        victim = self._living[number]
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"open\n"
        time.sleep(self._chance.uniform(0, 0.2))
        self._end(victim)
        self.killed += 1
        self._living[number] = self._start(number)

    def end(self) -> None:
        for living in self._living:
            self._end(living)

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        process.kill()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()


async def tortured(bank: Bank, workflow: Workflow) -> int:
    """Have transfers carried out by processes that are killed; return how many were."""
    chance = random.Random(3)
    async with Engine(bank.url) as engine:
        runs = []
        for number in range(TRANSFERS):
            source, target = chance.sample(range(1, ACCOUNTS + 1), 2)
            fields = {"source": source, "target": target, "amount": chance.randint(1, 100)}
            event = {"number": number, **fields}
            runs.append(await engine.submit(workflow, key=str(number), **event))
        workers = Workers(bank)
        try:
            for _ in range(KILLS):
                await asyncio.to_thread(workers.kill_one)
            async with asyncio.timeout(120):
                results = await asyncio.gather(*map(engine.get, runs))
        finally:
            workers.end()
    assert results == list(range(TRANSFERS))
    return workers.killed


@pytest.mark.timeout(300 + 20 * KILLS)
def test_every_transfer_is_carried_out_once(bank: Bank):
    killed = asyncio.run(tortured(bank, transfers))
    moved = bank.moved()
    print(f"{WORKERS} workers, {killed} kills, {len(moved)} transfers")
    assert killed == KILLS
    assert moved == list(range(TRANSFERS))
    assert bank.sum() == ACCOUNTS * BALANCE


@pytest.mark.timeout(300 + 20 * KILLS)
def test_a_plain_step_transfers_twice(bank: Bank):
    """The control: the same without a transaction of the step."""
    asyncio.run(tortured(bank, plain_transfers))
    moved = bank.moved()
    print(f"{len(moved) - TRANSFERS} of {TRANSFERS} transfers too many")
    assert set(moved) == set(range(TRANSFERS))
    assert len(moved) > TRANSFERS

"""Transactions of steps: rows of the user and what the run has done are written together."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from connecting import OPENING, asyncpg_connection, execute, psycopg_connection
from postgres_server import query

from treadle import (
    Context,
    Engine,
    JournalConflict,
    Retry,
    StartEvent,
    StopEvent,
    TransactionError,
    UnstorableValue,
    Workflow,
    connections,
    step,
)

pytestmark = pytest.mark.postgres

Body = Callable[[Context], Any]


class Table:
    """A table of the test's, and what is in it."""

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name = url, name

    def rows(self) -> list[str]:
        return query(self.url, f"SELECT what FROM {self.name} ORDER BY what")

    async def write(self, connection: Any, what: str) -> str:
        await execute(connection, f"INSERT INTO {self.name} VALUES ('{what}')")
        return f"wrote {what}"


@pytest.fixture
def table(postgres_server: str) -> Any:
    name = f"rows_{uuid.uuid4().hex}"
    query(postgres_server, f"CREATE TABLE {name} (what text)")
    yield Table(postgres_server, name)
    query(postgres_server, f"DROP TABLE {name}")


def schema_of(url: str) -> str:
    return url.partition("schema=")[2]


def work(body: Body, **options: Any) -> Workflow:
    @step(**options)
    async def only(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await body(ctx))

    return Workflow("only", [only])


async def run(journal: str, body: Body, **options: Any) -> Any:
    workflow = work(body, **options)
    async with Engine(journal, workflows=[workflow], lease=2) as engine:
        return await engine.run(workflow)


@asynccontextmanager
async def over(table: Table, kind: str = "psycopg") -> AsyncIterator[Any]:
    async with OPENING[kind](table.url) as connection:
        yield connection


@pytest.mark.parametrize("kind", OPENING)
async def test_rows_are_there_once_although_the_body_runs_again(
    postgres: str, table: Table, kind: str
):
    calls = []

    async def insert(connection: Any, what: str, *, more: str = "") -> tuple[str, str]:
        calls.append(what)
        return await table.write(connection, what), more

    async def body(ctx: Context) -> Any:
        async with over(table, kind) as connection:
            result = await ctx.transaction("insert", connection, insert, "a", more="b")
        if ctx.attempt < 3:
            raise ConnectionError("once more")
        return result

    assert await run(postgres, body, retry=Retry(3, initial=0)) == ("wrote a", "b")
    assert calls == ["a"]
    assert table.rows() == ["a"]


async def test_what_the_database_has_is_given_to_a_body_without_the_memo(
    postgres: str, table: Table
):
    """As after a crash between the two: the memo is void, since an earlier call is new."""
    calls = []

    async def insert(connection: Any) -> str:
        calls.append("insert")
        return await table.write(connection, "a")

    async def body(ctx: Context) -> Any:
        if ctx.attempt == 2:
            await ctx.once("new", asyncio.sleep, 0)
        async with over(table) as connection:
            result = await ctx.transaction("insert", connection, insert)
        if ctx.attempt < 3:
            raise ConnectionError("once more")
        return result, ctx.attempt

    assert await run(postgres, body, retry=Retry(3, initial=0)) == ("wrote a", 3)
    assert calls == ["insert"]
    assert table.rows() == ["a"]


async def test_the_same_transaction_twice_in_a_body_is_carried_out_twice(
    postgres: str, table: Table
):
    async def body(ctx: Context) -> Any:
        async with over(table) as connection:
            for _ in range(2):
                await ctx.transaction("insert", connection, table.write, "a")
        if ctx.attempt == 1:
            raise ConnectionError("once more")

    await run(postgres, body, retry=Retry(2, initial=0))
    assert table.rows() == ["a", "a"]


@pytest.mark.parametrize("kind", ["psycopg", "asyncpg", "sqlalchemy", "sqlalchemy, session"])
async def test_what_raises_is_undone(postgres: str, table: Table, kind: str):
    async def insert(connection: Any) -> None:
        await table.write(connection, "a")
        raise ValueError("not so")

    async def body(ctx: Context) -> Any:
        async with over(table, kind) as connection:
            with pytest.raises(ValueError, match="not so"):
                await ctx.transaction("insert", connection, insert)
            # The connection can be used again.
            return await ctx.transaction("insert", connection, table.write, "b")

    assert await run(postgres, body) == "wrote b"
    assert table.rows() == ["b"]


@pytest.mark.parametrize("kind", ["psycopg", "asyncpg", "sqlalchemy"])
async def test_a_transaction_that_is_cancelled_is_undone(postgres: str, table: Table, kind: str):
    async def insert(connection: Any) -> None:
        await table.write(connection, "a")
        await asyncio.sleep(60)

    async def body(ctx: Context) -> Any:
        async with over(table, kind) as connection:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await ctx.transaction("insert", connection, insert)
            return await ctx.transaction("insert", connection, table.write, "b")

    assert await run(postgres, body) == "wrote b"
    assert table.rows() == ["b"]


async def test_a_result_that_cannot_be_stored_undoes_the_transaction(postgres: str, table: Table):
    async def insert(connection: Any) -> Any:
        await table.write(connection, "a")
        return lambda: None

    async def body(ctx: Context) -> Any:
        async with over(table) as connection:
            with pytest.raises(UnstorableValue, match="insert"):
                await ctx.transaction("insert", connection, insert)

    await run(postgres, body)
    assert table.rows() == []


async def test_what_the_run_did_before_is_on_disk_when_rows_are_committed(
    postgres: str, table: Table
):
    async def insert(connection: Any, ctx: Context) -> None:
        ctx.set("inside", 1)
        await table.write(connection, "a")

    seen = []

    async def body(ctx: Context) -> Any:
        if seen:
            return ctx.get("outside"), ctx.get("inside")
        ctx.set("outside", 1)
        async with over(table) as connection:
            await ctx.transaction("insert", connection, lambda connection: insert(connection, ctx))
        # Others see the rows: then what led to them must not be lost.
        seen.append(
            query(table.url, f"SELECT seq > 0 FROM {postgres.partition('schema=')[2]}.runs")
        )
        raise ConnectionError("once more")

    assert await run(postgres, body, retry=Retry(2, initial=0)) == (1, 1)
    assert seen == [["t"]]


def asked(connection: Any, statement: str, parameters: list[str]) -> Any:
    """Ask without the event loop, which would hear meanwhile that the run is lost."""
    return connection.execute(connections._formatted(statement), parameters).fetchone()


@pytest.mark.parametrize("is_lost", [False, True])
async def test_the_last_statement_writes_nothing_without_the_lease(
    postgres: str, table: Table, is_lost: bool
):
    lose = f"UPDATE {schema_of(postgres)}.owners SET id = NULL"
    counted = []

    async def body(ctx: Context) -> Any:
        begun: Any = ctx._begin_transaction("insert", (), {})
        # What the run did before is on disk.
        await (begun.written() or asyncio.sleep(0))
        with psycopg.connect(table.url) as connection:
            before, has_lease, xid = asked(connection, *begun.begin())
            if is_lost:
                query(table.url, lose)
            counted.append((before, has_lease, *asked(connection, *begun.finish("a", xid))))
            if not is_lost:
                # It cannot be lost before the transaction ends.
                with pytest.raises(AssertionError, match="lock timeout"):
                    query(table.url, f"SET lock_timeout = '100ms'; {lose}")
        return xid

    workflow = work(body)
    async with Engine(postgres, workflows=[workflow], lease=30) as engine:
        running = engine.run(workflow)
        if is_lost:
            with pytest.raises(JournalConflict):
                await running
        else:
            await running
    ((before, has_lease, count, _),) = counted
    assert (before, has_lease, count) == (None, True, "0" if is_lost else "1")


async def test_a_process_that_lost_its_lease_commits_nothing(postgres: str, table: Table):
    async def insert(connection: Any) -> None:
        await table.write(connection, "a")
        # Others have declared this process lost.
        query(table.url, f"UPDATE {schema_of(postgres)}.owners SET id = NULL")

    async def body(ctx: Context) -> Any:
        async with over(table) as connection:
            await ctx.transaction("insert", connection, insert)

    with pytest.raises(JournalConflict):
        await run(postgres, body)
    assert table.rows() == []


async def test_serialization_failures_are_tried_again_by_retry(postgres: str, table: Table):
    tries = []

    async def insert(connection: Any) -> str:
        tries.append(1)
        # Only transactions that see one snapshot fail of what others have changed since.
        await execute(connection, f"SELECT count(*) FROM {table.name}")
        if len(tries) == 1:
            query(table.url, f"UPDATE {table.name} SET what = 'b'")
        await execute(connection, f"UPDATE {table.name} SET what = 'c'")
        return "done"

    async def body(ctx: Context) -> Any:
        async with psycopg_connection(table.url) as connection:
            await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            ctx.set("more", "to be written before")
            retry = Retry(3, initial=0, on=(psycopg.errors.SerializationFailure,))
            return await ctx.transaction("insert", connection, insert, retry=retry)

    query(table.url, f"INSERT INTO {table.name} VALUES ('a')")
    assert await run(postgres, body) == "done"
    assert len(tries) == 2
    assert table.rows() == ["c"]


@pytest.mark.parametrize("journal", ["memory", "sqlite", "none"])
async def test_journals_elsewhere_are_refused(table: Table, tmp_path: Path, journal: str):
    async def body(ctx: Context) -> Any:
        async with over(table) as connection:
            await ctx.transaction("insert", connection, table.write, "a")

    url = f"sqlite:///{tmp_path / 'runs.db'}" if journal == "sqlite" else "memory:"
    running = work(body).run() if journal == "none" else run(url, body)
    with pytest.raises(TransactionError, match="no transaction of a database can hold"):
        await running
    assert table.rows() == []


@pytest.mark.parametrize("has_schema", [False, True])
async def test_another_database_than_that_of_the_journal_is_refused(
    postgres: str, table: Table, has_schema: bool
):
    name = f"other_{uuid.uuid4().hex}"
    query(table.url, f"CREATE DATABASE {name}")
    other = f"{table.url.rpartition('/')[0]}/{name}"
    try:
        if has_schema:
            # As a copy of the database would have.
            async with Engine(f"{other}?{postgres.partition('?')[2]}"):
                pass

        async def body(ctx: Context) -> Any:
            async with psycopg_connection(other) as connection:
                await ctx.transaction("insert", connection, table.write, "a")

        with pytest.raises(TransactionError, match="to another database than the journal"):
            await run(postgres, body)
    finally:
        query(table.url, f"DROP DATABASE {name}")


async def test_a_connection_in_a_transaction_is_refused(postgres: str, table: Table):
    async def body(ctx: Context) -> Any:
        async with over(table) as connection:
            await execute(connection, "SELECT 1")
            await ctx.transaction("insert", connection, table.write, "a")

    with pytest.raises(TransactionError, match="is in a transaction already"):
        await run(postgres, body)


async def test_a_function_that_ends_the_transaction_is_told(postgres: str, table: Table):
    async def insert(connection: Any) -> None:
        await connection.execute("COMMIT")
        await connection.execute("BEGIN")

    async def body(ctx: Context) -> Any:
        async with asyncpg_connection(table.url) as connection:
            await ctx.transaction("insert", connection, insert)

    with pytest.raises(TransactionError, match="the function has ended the transaction"):
        await run(postgres, body)


async def test_what_is_no_connection_is_refused(postgres: str, table: Table):
    async def body(ctx: Context) -> Any:
        with pytest.raises(TypeError, match="an open connection of psycopg"):
            await ctx.transaction("insert", object(), table.write, "a")
        with pytest.raises(TypeError, match="the name of the memo, a str"):
            await ctx.transaction(7, object(), table.write, "a")  # type: ignore[arg-type]
        async with over(table) as connection:
            with pytest.raises(TypeError, match="is not an `async def`"):
                await ctx.transaction("insert", connection, repr)  # type: ignore[arg-type]
        return "refused"

    assert await run(postgres, body) == "refused"


async def test_of_two_transactions_of_one_call_one_is_committed(
    postgres: str, table: Table, monkeypatch: pytest.MonkeyPatch
):
    """The other one is that of an earlier body, of which the server was still busy."""
    ask = connections._Psycopg.ask
    raced = []

    async def ask_late(self: Any, statement: str, parameters: Any = ()) -> Any:
        if "INSERT" in statement and not raced:
            raced.append(1)
            async with psycopg_connection(table.url) as connection:
                other = connections.connection_of(connection)
                await other.begin()
                await table.write(connection, "by the other one")
                (xid,) = await ask(other, "SELECT pg_current_xact_id()::text")
                await ask(other, statement, [*parameters[:3], xid, *parameters[4:]])
                await other.commit()
        return await ask(self, statement, parameters)

    monkeypatch.setattr(connections._Psycopg, "ask", ask_late)
    calls = []

    async def insert(connection: Any) -> str:
        calls.append(1)
        return await table.write(connection, "a")

    async def body(ctx: Context) -> Any:
        async with over(table) as connection:
            return await ctx.transaction("insert", connection, insert)

    assert await run(postgres, body) == "wrote a"
    assert raced == calls == [1]
    assert table.rows() == ["by the other one"]


async def test_a_deleted_run_leaves_no_transaction(postgres: str, table: Table):
    async def body(ctx: Context) -> Any:
        async with over(table) as connection:
            return await ctx.transaction("insert", connection, table.write, "a")

    schema = schema_of(postgres)
    workflow = work(body)
    async with Engine(postgres, workflows=[workflow]) as engine:
        running = engine.run(workflow)
        await running
        assert query(table.url, f"SELECT count(*) FROM {schema}.transactions") == ["1"]
        await engine.delete(running.id)
    assert query(table.url, f"SELECT count(*) FROM {schema}.transactions") == ["0"]

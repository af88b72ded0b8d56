"""Connections of other packages to a PostgreSQL server, for tests."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
import psycopg
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

Opened = AbstractAsyncContextManager[Any]


@asynccontextmanager
async def psycopg_connection(url: str, **options: Any) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(url, **options) as connection:
        yield connection


@asynccontextmanager
async def asyncpg_connection(url: str, **options: Any) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url, **options)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


@asynccontextmanager
async def asyncpg_pooled(url: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(url, min_size=1) as pool, pool.acquire() as connection:
        yield connection


@asynccontextmanager
async def sqlalchemy_connection(url: str, driver: str = "asyncpg") -> AsyncIterator[Any]:
    engine = create_async_engine(f"postgresql+{driver}{url[10:]}", poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


@asynccontextmanager
async def sqlalchemy_session(url: str) -> AsyncIterator[Any]:
    engine = create_async_engine(f"postgresql+psycopg{url[10:]}", poolclass=NullPool)
    try:
        async with AsyncSession(engine) as session:
            yield session
    finally:
        await engine.dispose()


OPENING: dict[str, Callable[[str], Opened]] = {
    "psycopg": psycopg_connection,
    "psycopg, autocommit": lambda url: psycopg_connection(url, autocommit=True),
    "asyncpg": asyncpg_connection,
    "asyncpg, pool": asyncpg_pooled,
    "sqlalchemy": sqlalchemy_connection,
    "sqlalchemy, psycopg": lambda url: sqlalchemy_connection(url, "psycopg"),
    "sqlalchemy, session": sqlalchemy_session,
}


async def execute(connection: Any, statement: str) -> None:
    """Carry out a statement over a connection of any of them."""
    if hasattr(connection, "exec_driver_sql"):
        await connection.exec_driver_sql(statement)
    elif hasattr(connection, "flush"):
        await (await connection.connection()).exec_driver_sql(statement)
    else:
        await connection.execute(statement)

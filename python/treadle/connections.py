"""Connections to PostgreSQL of other packages, as transactions of steps use them.

None of these packages is imported here: an object of one of them has brought it along.
"""

import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from .exceptions import TransactionError

# What is said of a connection that is none.
_EXPECTED = (
    "an open connection of psycopg (AsyncConnection), asyncpg (Connection) or SQLAlchemy "
    "(AsyncConnection, AsyncSession)"
)


class Connection(ABC):
    """A connection of the user, and the transaction that is carried out over it."""

    def __init__(self, given: Any) -> None:
        self.given = given

    @property
    @abstractmethod
    def is_in_transaction(self) -> bool:
        """Whether a transaction is open."""

    @abstractmethod
    async def begin(self) -> None:
        """Begin a transaction."""

    @abstractmethod
    async def ask(self, statement: str, parameters: Sequence[str] = ()) -> Sequence[Any]:
        """Carry out a statement; return its only row. Parameters are `$1`, `$2`, … in order."""

    async def flush(self) -> None:
        """Carry out what the user's objects hold back."""
        return

    @abstractmethod
    async def commit(self) -> None:
        """Commit the transaction."""

    @abstractmethod
    async def roll_back(self) -> None:
        """Undo the transaction."""


class _Psycopg(Connection):
    def __init__(self, given: Any) -> None:
        super().__init__(given)
        self._transaction: Any = None

    @property
    def is_in_transaction(self) -> bool:
        # 0 is idle.
        return int(self.given.info.transaction_status) != 0

    async def begin(self) -> None:
        self._transaction = self.given.transaction()
        await self._transaction.__aenter__()

    async def ask(self, statement: str, parameters: Sequence[str] = ()) -> Sequence[Any]:
        from psycopg.rows import tuple_row

        async with self.given.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(_formatted(statement), parameters or None)
            return _row(await cursor.fetchone())

    async def commit(self) -> None:
        await self._transaction.__aexit__(None, None, None)

    async def roll_back(self) -> None:
        undone = _Undone()
        await self._transaction.__aexit__(_Undone, undone, None)


class _Asyncpg(Connection):
    def __init__(self, given: Any) -> None:
        super().__init__(given)
        self._transaction: Any = None

    @property
    def is_in_transaction(self) -> bool:
        return bool(self.given.is_in_transaction())

    async def begin(self) -> None:
        self._transaction = self.given.transaction()
        await self._transaction.start()

    async def ask(self, statement: str, parameters: Sequence[str] = ()) -> Sequence[Any]:
        return _row(await self.given.fetchrow(statement, *parameters))

    async def commit(self) -> None:
        await self._transaction.commit()

    async def roll_back(self) -> None:
        await self._transaction.rollback()


class _SqlAlchemy(Connection):
    """A connection or a session of SQLAlchemy."""

    def __init__(self, given: Any) -> None:
        super().__init__(given)
        self._transaction: Any = None
        self._is_session = hasattr(given, "flush")

    @property
    def is_in_transaction(self) -> bool:
        return bool(self.given.in_transaction())

    async def begin(self) -> None:
        self._transaction = await self.given.begin()

    async def flush(self) -> None:
        if self._is_session:
            await self.given.flush()

    async def ask(self, statement: str, parameters: Sequence[str] = ()) -> Sequence[Any]:
        connection = await self.given.connection() if self._is_session else self.given
        if connection.dialect.driver != "asyncpg":
            statement = _formatted(statement)
        found = await connection.exec_driver_sql(statement, tuple(parameters))
        return _row(found.fetchone())

    async def commit(self) -> None:
        await self._transaction.commit()

    async def roll_back(self) -> None:
        await self._transaction.rollback()


class _Undone(Exception):
    """Has a transaction of psycopg rolled back."""


# The classes of each package, and what they are used by.
_KINDS: tuple[tuple[str, tuple[str, ...], Callable[[Any], Connection]], ...] = (
    ("psycopg", ("AsyncConnection",), _Psycopg),
    ("asyncpg", ("Connection",), _Asyncpg),
    ("asyncpg.pool", ("PoolConnectionProxy",), _Asyncpg),
    ("sqlalchemy.ext.asyncio", ("AsyncConnection", "AsyncSession"), _SqlAlchemy),
)


def connection_of(given: object) -> Connection:
    """Return how a connection is used.

    Raises:
        TypeError: it is none that is known.
        TransactionError: it is in a transaction already.
    """
    for module, names, kind in _KINDS:
        loaded = sys.modules.get(module)
        classes = tuple(getattr(loaded, name) for name in names if hasattr(loaded, name))
        if classes and isinstance(given, classes):
            connection = kind(given)
            if connection.is_in_transaction:
                raise TransactionError(
                    "the connection is in a transaction already: what it has done so far would be "
                    "part of the step's; commit it first, or give another connection"
                )
            return connection
    raise TypeError(f"transaction: {_EXPECTED} expected, not {given!r}")


def sqlstate(error: BaseException) -> str | None:
    """Return the code of an error of the server, whichever package raises it."""
    seen: BaseException | None = error
    while seen is not None:
        code = getattr(seen, "sqlstate", None)
        if isinstance(code, str):
            return code
        seen = getattr(seen, "orig", None) or seen.__cause__
    return None


def _formatted(statement: str) -> str:
    return re.sub(r"\$\d+", "%s", statement)


def _row(row: Any) -> Sequence[Any]:
    if row is None:
        raise TransactionError("a statement gave no row: is there a proxy between?")
    return tuple(row)

"""Transactions of steps: rows of the user and what the run has done, written together."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from .connections import Connection, connection_of, sqlstate
from .exceptions import TransactionError
from .memos import Attempts
from .steps import check_retry
from .waiting import finished

if TYPE_CHECKING:
    from ._treadle import Context, TransactionBegun
    from .retry import Retry

_UNIQUE_VIOLATION = "23505"
# A table, a schema or a database that is not there.
_NOT_THERE = ("42P01", "3F000", "3D000")
_FORBIDDEN = "42501"


async def transaction_in(
    context: "Context",
    name: str,
    connection: Any,
    function: Callable[..., Awaitable[Any]],
    /,
    *args: Any,
    retry: "Retry | None" = None,
    **kwargs: Any,
) -> Any:
    """Call `function(connection, *args, **kwargs)` in a transaction that is committed once.

    See `Context.transaction`.
    """
    check_retry(retry)
    if not callable(function):
        raise TypeError(f"transaction {name!r}: a function expected, not {function!r}")
    begun: Any = context._begin_transaction(name, args, kwargs)
    if type(begun) is tuple:
        return begun[1]
    begun = cast("TransactionBegun", begun)
    attempts = Attempts(name, retry)
    while True:
        work = _Work(begun, connection_of(connection))
        try:
            result = await work.carry_out(lambda: function(connection, *args, **kwargs))
            break
        except _Raced:
            # The other one is there now, or was undone.
            continue
        except Exception as error:
            delay = attempts.delay_after(error)
            if delay is None:
                raise
        await asyncio.sleep(delay)
    begun.memo.keep(result, waits=False)
    return result


class _Raced(Exception):
    """Another transaction of the same call was committed first."""


class _Work:
    """One try of a transaction."""

    def __init__(self, begun: "TransactionBegun", connection: Connection) -> None:
        self._begun = begun
        self._connection = connection
        self._id = ""

    async def carry_out(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Carry it out, unless that was done before; return what it gave."""
        connection = self._connection
        result: Any = None
        await connection.begin()
        try:
            before = await self._before()
            if before is None:
                result = await self._called(call)
                await self._write(result)
        except BaseException:
            with suppress(Exception):
                await _in_any_case(connection.roll_back())
            raise
        if before is not None:
            await _in_any_case(connection.roll_back())
            return self._begun.given(before)
        await _in_any_case(connection.commit())
        return result

    async def _called(self, call: Callable[[], Awaitable[Any]]) -> Any:
        awaited = call()
        if not inspect.isawaitable(awaited):
            raise TypeError(f"{self._begun.title}: the function is not an `async def`")
        return await awaited

    async def _before(self) -> str | None:
        """Return what the transaction gave before, as it is stored."""
        try:
            before, has_lease, self._id = await self._connection.ask(*self._begun.begin())
        except Exception as error:
            raise self._refused(error) from error
        if before is None and not has_lease:
            raise await self._without_lease()
        return cast("str | None", before)

    async def _write(self, result: Any) -> None:
        """Write what the transaction gave, behind all that the run has done."""
        await self._connection.flush()
        statement, parameters = self._begun.finish(result, self._id)
        written = self._begun.written()
        if written is not None:
            await written
        try:
            count, now = await self._connection.ask(statement, parameters)
        except Exception as error:
            if sqlstate(error) == _UNIQUE_VIOLATION:
                raise _Raced from error
            raise
        if now != self._id:
            raise TransactionError(
                f"{self._begun.title}: the function has ended the transaction, or the connection "
                f"commits each statement: what was committed so far is not undone"
            )
        if count != "1":
            raise self._begun.lose()

    async def _without_lease(self) -> Exception:
        which, expected = self._begun.which
        found: tuple[Any, ...] | None = None
        if expected is not None:
            with suppress(Exception):
                found = tuple(await self._connection.ask(which))
        if found != expected and found is not None:
            return self._other_database()
        return self._begun.lose()

    def _refused(self, error: Exception) -> Exception:
        code = sqlstate(error)
        if code in _NOT_THERE:
            return self._other_database()
        if code == _FORBIDDEN:
            return TransactionError(
                f"{self._begun.title}: the role of the connection may not write to the journal: "
                f"give it the rights to the schema of {self._begun.journal}"
            )
        return error

    def _other_database(self) -> TransactionError:
        return TransactionError(
            f"{self._begun.title}: the connection is to another database than the journal, which "
            f"is {self._begun.journal}: no transaction can hold rows of both"
        )


async def _in_any_case(work: Awaitable[None]) -> None:
    """Await work to its end, also when the caller is cancelled meanwhile."""
    await finished(asyncio.ensure_future(work))

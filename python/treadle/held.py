"""One resource while it lives: how it is made, handed out and closed."""

import asyncio
from collections.abc import Callable
from contextvars import Context as Variables
from typing import Any

from .failures import Failure, add_note
from .providers import is_async_manager
from .waiting import settled


class Entered:
    """An object from a `with`: left where it was entered, with the same context variables."""

    def __init__(self, name: str, manager: Any, variables: Variables) -> None:
        self.name = name
        self.made = variables.run(type(manager).__enter__, manager)
        self._manager = manager
        self._variables = variables
        try:
            check_made(manager, self.made)
        except BaseException as error:
            self.close(error)
            raise

    def close(self, error: BaseException | None) -> None:
        """Leave the `with`; `error` is how the run failed.

        Raises:
            BaseException: whatever the leaving raised, but `error`.
        """
        try:
            leave = type(self._manager).__exit__
            self._variables.run(leave, self._manager, *_details(error))
        except BaseException as raised:
            if raised is not error:
                raise


class Held:
    """An object whose factory awaits. It is made and closed in a task of its own.

    A task group or a cancel scope must be left in the task that entered it. And the first
    caller can be cancelled without taking the object away from others who wait for it.
    """

    def __init__(
        self,
        name: str,
        given: Any,
        *,
        when_made: Callable[["Held", Any], None],
        when_over: Callable[[], object],
        when_cancelled: Callable[[], None],
    ) -> None:
        self.name = name
        self.is_manager = is_async_manager(type(given))
        self.is_abandoned = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._given = given
        self._when_made = when_made
        self._when_over = when_over
        self._when_cancelled = when_cancelled
        self._released: asyncio.Future[BaseException | None] = self.done.get_loop().create_future()
        self._askers = 0
        self._failure: Failure | None = None
        self._closing_error: BaseException | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, variables: Variables) -> None:
        """Begin to make the object."""
        name = f"treadle resource {self.name}"
        self._task = asyncio.create_task(self._live(), name=name, context=variables)
        self._task.add_done_callback(self._when_task_is_done)

    def _when_task_is_done(self, _: object) -> None:
        if self.done.done():
            return
        # It was cancelled before it began, so nothing in it has run.
        if asyncio.iscoroutine(self._given):
            self._given.close()
        self._failure = Failure(asyncio.CancelledError())
        self._finish_making()

    async def _live(self) -> None:
        try:
            made = await self._make()
        except BaseException as error:
            add_note(error, f'while making resource "{self.name}"')
            self._failure = Failure(error)
            self._finish_making()
            return
        self._when_made(self, made)
        self._finish_making()
        del made
        if self.is_manager:
            await self._until_released()
            await self._leave(self._released.result())

    async def _make(self) -> Any:
        if not self.is_manager:
            return await self._given
        manager = self._given
        made = await type(manager).__aenter__(manager)
        try:
            check_made(manager, made)
        except BaseException as error:
            await type(manager).__aexit__(manager, *_details(error))
            raise
        return made

    def _finish_making(self) -> None:
        self._when_over()
        # A loop that was closed in the middle has no waiter left to wake.
        if not self.done.get_loop().is_closed():
            self.done.set_result(None)

    async def _until_released(self) -> None:
        while not self._released.done():
            try:
                await asyncio.wait([self._released])
            except asyncio.CancelledError:
                # Others still use the object. They decide when it is closed; a cancellation of this
                # task is one of all tasks, because the loop shuts down.
                _uncancel()
                self._when_cancelled()

    async def _leave(self, error: BaseException | None) -> None:
        leave = type(self._given).__aexit__
        try:
            await leave(self._given, *_details(error))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as raised:
            if raised is not error:
                self._closing_error = raised

    async def wait(self) -> None:
        """Wait until the object is made; raise the reason if it cannot be.

        Once there is no waiter any more, the making is cancelled.
        """
        self._askers += 1
        try:
            await asyncio.wait([self.done])
        finally:
            self._askers -= 1
            if not self._askers and not self.done.done():
                self.abandon()
        if self._failure is not None and not self.is_abandoned:
            raise self._failure.for_next_asker()

    def abandon(self) -> None:
        """Cancel the factory. Steps that still wait for the object ask for it again."""
        # Once: a second cancellation would interrupt the undoing.
        if self._task is not None and not self.is_abandoned:
            self._task.cancel()
        self.is_abandoned = True

    async def close(self, error: BaseException | None) -> None:
        """Let the task close the object, and wait for it; `error` is the failure of the run.

        Raises:
            BaseException: whatever the closing raised, but `error`.
        """
        self._released.set_result(error)
        if self._task is not None:
            await settled(self._task)
        if self._closing_error is not None:
            raise self._closing_error


def check_made(manager: Any, made: Any) -> None:
    """Raise if entering gave nothing, as that of a lock does: it is an act, not a lifetime."""
    if made is None and type(manager).__module__ != "contextlib":
        raise TypeError(
            f"the factory returned a context manager ({type(manager).__qualname__}), and entering "
            f"it gives None; to share the object itself, yield it from a generator function"
        )


def _details(error: BaseException | None) -> tuple[Any, Any, Any]:
    return (None, None, None) if error is None else (type(error), error, error.__traceback__)


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()

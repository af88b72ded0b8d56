"""The resources that exist: those of a run, and those of an event loop."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Coroutine, Hashable
from contextvars import Context as Variables
from contextvars import copy_context
from typing import Any

from ._treadle import Context, Run
from .failures import add_note
from .held import Entered, Held
from .log import log_exception, report
from .providers import CALL, Provider, is_async_manager, is_manager
from .waiting import done_to_the_end, settled


class Scope:
    """Objects that are made at most once, and closed in the reverse order of their making.

    All of it happens on the thread of one event loop, so nothing changes between two `await`s.
    """

    # Whether one that cannot be closed is a failure for those that are closed after it.
    closes_as_one = True

    def __init__(self) -> None:
        self._values: dict[Hashable, Any] = {}
        self._making: dict[Hashable, Held] = {}
        self._closers: list[Entered | Held] = []

    def variables(self) -> Variables:
        """Return the context variables that a factory sees."""
        raise NotImplementedError

    def when_cancelled(self) -> None:
        """A task that holds an object was cancelled from outside."""

    async def obtain(
        self, provider: Provider, context: Context, call: "CallScope | None" = None
    ) -> Any:
        """Return an object; make it if it is not there, or wait for the task that makes it.

        Raises:
            BaseException: whatever the factory raised, with a note that names the resource.
        """
        key = provider.key
        while key not in self._values:
            if key not in self._making:
                needs = {
                    name: await obtain(need, context, call) for name, need in provider.needs.items()
                }
                # Another task may have begun while this one waited.
                if key not in self._values and key not in self._making:
                    self._make(provider, needs)
            held = self._making.get(key)
            if held is not None:
                await held.wait()
        return self._values[key]

    def _make(self, provider: Provider, needs: dict[str, Any]) -> None:
        variables = self.variables()
        try:
            given = variables.run(provider.open, **needs)
            if is_async_manager(type(given)) or inspect.isawaitable(given):
                self._hold(provider, given, variables)
            elif is_manager(type(given)):
                entered = Entered(provider.name, given, variables)
                self._closers.append(entered)
                self._values[provider.key] = entered.made
            else:
                self._values[provider.key] = given
        except BaseException as error:
            add_note(error, f'while making resource "{provider.name}"')
            raise

    def _hold(self, provider: Provider, given: Any, variables: Variables) -> None:
        key = provider.key

        def when_made(held: Held, made: Any) -> None:
            self._values[key] = made
            if held.is_manager:
                self._closers.append(held)

        held = Held(
            provider.name,
            given,
            when_made=when_made,
            when_over=lambda: self._making.pop(key, None),
            when_cancelled=self.when_cancelled,
        )
        self._making[key] = held
        held.start(variables)

    def takes_waiting(self) -> bool:
        """Tell whether closing has to await."""
        return bool(self._making) or any(isinstance(closer, Held) for closer in self._closers)

    async def close_all(self, failure: BaseException | None) -> list[BaseException]:
        """Close every object, and return what that raised; `failure` is how the run failed."""
        for held in list(self._making.values()):
            held.abandon()
            await settled(held.done)
        # A step that asks from now on gets new objects.
        closers, self._closers, self._values = self._closers, [], {}
        errors: list[BaseException] = []
        for closer in reversed(closers):
            try:
                closing = closer.close(failure)
                if closing is not None:
                    await closing
            except BaseException as error:
                add_note(error, f'while closing resource "{closer.name}"')
                errors.append(error)
                if self.closes_as_one:
                    failure = failure or error
        return errors


class RunScope(Scope):
    """The resources of one run. The run calls `close` when its last step has stopped."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.closing: asyncio.Future[None] | None = None
        self._run = run
        self._loop = asyncio.get_running_loop()
        self._is_closed = False
        self._error: BaseException | None = None
        self._loop_scope = LoopScope.of(self._loop)
        self._loop_scope.runs.add(self)

    def variables(self) -> Variables:
        return copy_context()

    def close(self, failure: BaseException | None) -> bool:
        """Begin to close the objects, and tell whether all are closed.

        If not, the run is told when they are.

        Raises:
            BaseException: the closing failed, of a run that had not failed before.
        """
        if self._loop.is_closed():
            self.abandon()
        elif not self._is_closed and self.closing is None:
            if self.takes_waiting():
                self._begin_to_close(failure)
            else:
                at_once(self._close(failure))
        if not self._is_closed:
            return False
        error, self._error = self._error, None
        if error is not None:
            raise error
        return True

    def abandon(self) -> None:
        """Close what can be closed although the run is over already."""
        if self._is_closed or self.closing is not None:
            return
        failure = asyncio.CancelledError("the run was abandoned")
        if not self._loop.is_closed():
            self._begin_to_close(failure)
            return
        for closer in self._closers:
            if isinstance(closer, Held):
                error = RuntimeError("its event loop was closed before the run ended")
                log_exception(f'resource "{closer.name}" is not closed', error)
        self._closers = [closer for closer in self._closers if isinstance(closer, Entered)]
        self._making.clear()
        at_once(self._close(failure))

    def _begin_to_close(self, failure: BaseException | None) -> None:
        async def close() -> None:
            await self._close(failure)
            error = self._error
            self._run._try_finish()
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                # As in a task of users: it ends the program.
                raise error

        self.closing = done_to_the_end(self._loop, close)

    async def _close(self, failure: BaseException | None) -> None:
        errors = await self.close_all(failure)
        if failure is None and errors:
            failure = self._error = errors.pop(0)
        for error in errors:
            log_exception(f"closing a resource of run {self._run.id} failed", error)
            if failure is not None and not isinstance(failure, asyncio.CancelledError):
                add_note(failure, f"{error.__notes__[-1]}: {type(error).__name__}: {error}")
        self._is_closed = True
        self._loop_scope.runs.discard(self)
        self._loop_scope.when_idle()


class LoopScope(Scope):
    """The resources that the runs of one event loop share; an attribute of the loop object."""

    closes_as_one = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.runs: set[RunScope] = set()
        self._steps = 0
        self._loop = loop
        self._is_cancelled = False
        self._closing: set[asyncio.Future[list[BaseException]]] = set()
        self._shutdown = _at_shutdown(self)
        at_once(_begin(self._shutdown))

    @staticmethod
    def of(loop: asyncio.AbstractEventLoop) -> "LoopScope":
        """Return the scope of an event loop, which is running in this thread."""
        scope: LoopScope | None = getattr(loop, _ATTRIBUTE, None)
        if scope is None:
            scope = LoopScope(loop)
            setattr(loop, _ATTRIBUTE, scope)
        return scope

    def variables(self) -> Variables:
        # The object outlives the first run that needs it, and must not belong to that run.
        return Variables()

    def __enter__(self) -> None:
        self._steps += 1

    def __exit__(self, *_: object) -> None:
        self._steps -= 1
        self.when_idle()

    def when_cancelled(self) -> None:
        """Close everything once it is used no more: the loop shuts down by cancelling all tasks."""
        self._is_cancelled = True
        self.when_idle()

    def when_idle(self) -> None:
        """Begin to close if that is due, and no step or run uses an object."""
        if self._is_cancelled and not self._steps and not self.runs:
            self._is_cancelled = False
            self._begin_to_close().add_done_callback(self._report)

    def _begin_to_close(self) -> "asyncio.Future[list[BaseException]]":
        closing = done_to_the_end(self._loop, lambda: self.close_all(None))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        return closing

    async def close(self) -> None:
        """Close everything now. It is closed to the end even if the caller is cancelled.

        Raises:
            BaseException: the first that closing an object raised.
        """
        closing = self._begin_to_close()
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            closing.add_done_callback(self._report)
            raise
        errors = closing.result()
        for error in errors[1:]:
            self._report_one(error)
        if errors:
            raise errors[0]

    async def shut_down(self) -> None:
        """Close everything, after the runs that close theirs at the moment."""
        for run in list(self.runs):
            if run.closing is not None:
                await settled(run.closing)
        for closing in list(self._closing):
            await settled(closing)
        for error in await self.close_all(None):
            self._report_one(error)

    def _report(self, closing: "asyncio.Future[list[BaseException]]") -> None:
        for error in closing.result():
            self._report_one(error)

    def _report_one(self, error: BaseException) -> None:
        report("closing a resource of this process failed", error, self._loop)


_ATTRIBUTE = "_treadle_resources"


class CallScope(Scope):
    """The resources of one call of a step: nothing of them is shared, all is closed at its end."""

    def variables(self) -> Variables:
        return copy_context()

    async def close(self, failure: BaseException | None) -> None:
        """Close everything; `failure` is what the step raised.

        Raises:
            BaseException: the first that closing raised, if the step has not failed. Others are
                logged.
        """
        errors = await self.close_all(failure)
        if failure is None and errors:
            failure = errors.pop(0)
            self._log(errors)
            raise failure
        self._log(errors)

    def _log(self, errors: list[BaseException]) -> None:
        for error in errors:
            log_exception("closing a resource of a call failed", error)


async def obtain(provider: Provider, context: Context, call: CallScope | None = None) -> Any:
    """Return the object of a provider, for the step that has this context."""
    scope: Scope
    if provider.scope == CALL and call is not None:
        scope = call
    elif provider.scope == "process":
        scope = LoopScope.of(asyncio.get_running_loop())
    else:
        scope = context._keeper(RunScope)
    return await scope.obtain(provider, context, call)


def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that does not wait for anything.

    Raises:
        BlockingIOError: it does.
    """
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    work.close()
    raise BlockingIOError("this takes waiting")


async def _at_shutdown(scope: LoopScope) -> AsyncGenerator[None, None]:
    """Close a scope when its loop shuts down: `shutdown_asyncgens` closes whatever was begun."""
    try:
        yield
    finally:
        await scope.shut_down()


async def _begin(generator: AsyncGenerator[None, None]) -> None:
    await anext(generator)

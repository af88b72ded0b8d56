"""Work that is awaited to its end, in spite of cancellation."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

# The event loop itself refers to its tasks only weakly.
_tasks: set["asyncio.Task[Any]"] = set()


async def settled(future: "asyncio.Future[Any]") -> None:
    """Wait until a future is done, however often the waiting is cancelled."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
    if not future.cancelled():
        # The creator of the future handles its exception.
        future.exception()


async def finished(
    future: "asyncio.Future[T]", when_cancelled: Callable[[], object] = lambda: None
) -> T:
    """Return the result of a future that continues when the waiter is cancelled.

    Then `when_cancelled` is called, and `CancelledError` is raised once the future is done.
    """
    try:
        if future.done():
            # From Python 3.14 on the future of a thread that has ended is done when it is made, and
            # what the thread has told the event loop to call comes first.
            await asyncio.sleep(0)
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        when_cancelled()
        await settled(future)
        raise


def done_to_the_end(
    loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, T]]
) -> "asyncio.Future[T]":
    """Begin work in a task of its own. The work itself must bear to be cancelled while it waits.

    A task that is cancelled before it has begun does nothing at all; then another one is made.
    """
    finished: asyncio.Future[T] = loop.create_future()

    def begin() -> None:
        task = loop.create_task(work())
        _tasks.add(task)
        task.add_done_callback(when_done)

    def when_done(task: "asyncio.Task[T]") -> None:
        _tasks.discard(task)
        if task.cancelled():
            begin()
        elif (error := task.exception()) is not None:
            finished.set_exception(error)
        else:
            finished.set_result(task.result())

    begin()
    return finished

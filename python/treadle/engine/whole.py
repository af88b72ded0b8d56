"""Work that is done completely, in spite of cancellation."""

import asyncio
from collections.abc import Callable
from typing import Any


async def to_the_end(task: asyncio.Task[None], hurry: Callable[[], Any]) -> None:
    """Wait until a task is done, whatever comes of it.

    When the waiter is cancelled, `hurry` is called; `CancelledError` is raised once the task is
    done. So nothing is left half done, and nothing continues after the waiter.
    """
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
            hurry()
    if cancelled is not None:
        raise cancelled

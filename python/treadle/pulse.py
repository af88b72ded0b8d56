"""A pulse: a change, reported to any number of waiters."""

import asyncio


class Pulse:
    """Counts changes. A waiter says which ones it has seen, so that none is missed."""

    def __init__(self) -> None:
        self.count = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def beat(self) -> None:
        """Something has changed."""
        self.count += 1
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def after(self, seen: int, timeout: float | None = None) -> None:
        """Wait for more changes than the first `seen`, or until the time is over."""
        if self.count != seen:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            return
        finally:
            self._waiting.discard(future)

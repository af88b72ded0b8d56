"""Answers that several tabs share: the same question is asked of the journal once at a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any


class Shared:
    """Answers by their questions, each for a while."""

    def __init__(self, most: int = 256) -> None:
        self._answers: dict[Hashable, tuple[float, asyncio.Task[Any]]] = {}
        self._most = most

    async def ask(
        self, question: Hashable, seconds: float, work: Callable[[], Awaitable[Any]]
    ) -> Any:
        """Return an answer that is at most so old, by doing the work if there is none."""
        now = time.monotonic()
        at, task = self._answers.get(question, (0.0, None))
        if task is None or (task.done() and now - at > seconds):
            self._forget(now)
            task = asyncio.ensure_future(_awaited(work))
            self._answers[question] = (now, task)
            task.add_done_callback(lambda done: self._done(question, done))
        # Whoever asks may leave: the others wait for the same answer.
        return await asyncio.shield(task)

    def _done(self, question: Hashable, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or task.exception() is not None:
            # An error is not kept: whoever waited has been told.
            if self._answers.get(question, (0, None))[1] is task:
                del self._answers[question]
        else:
            self._answers[question] = (time.monotonic(), task)

    def _forget(self, now: float) -> None:
        while len(self._answers) >= self._most:
            oldest = min(self._answers, key=lambda question: self._answers[question][0])
            del self._answers[oldest]


async def _awaited(work: Callable[[], Awaitable[Any]]) -> Any:
    return await work()

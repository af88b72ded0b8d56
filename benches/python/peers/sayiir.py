"""sayiir: a `Flow` run by `run_workflow`, which works on the caller's thread until it is done.

There is no awaitable call: inside an event loop it holds the loop for the length of a run.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from sayiir import (
    Flow,
    InMemoryBackend,
    LoopResult,
    resume_workflow,
    run_durable_workflow,
    run_workflow,
    send_signal,
)

from .interface import Run

LACKS = {
    "fan_out_suspend": "tasks run on no event loop that they could suspend to",
    "stream": "has no stream of events",
    "context": "has no store of keyed values",
}


def increment(n: int) -> int:
    return n + 1


def chain() -> Run:
    workflow = (
        Flow("chain")
        .then(increment, name="start")
        .then(increment, name="a")
        .then(increment, name="b")
        .build()
    )

    async def run() -> object:
        return run_workflow(workflow, 0)

    return run


def loop(steps: int) -> Run:
    def tick(n: int) -> LoopResult[int]:
        n += 1
        return LoopResult.again(n) if n < steps else LoopResult.done(n)

    workflow = Flow("loop").loop(tick, max_iterations=steps + 1).build()

    async def run() -> object:
        return run_workflow(workflow, 0)

    return run


def fan_out(workers: int, suspend: bool) -> Run:
    """The branches are fixed when the flow is built."""

    def work(n: int) -> int:
        return n

    def join(done: dict[str, Any]) -> int:
        return len(done)

    fork = Flow("fan_out").then(increment, name="start").fork()
    for n in range(workers):
        fork.branch(work, name=f"work_{n}")
    workflow = fork.join(join).build()

    async def run() -> object:
        return run_workflow(workflow, 0)

    return run


async def waiting(runs: int) -> AsyncGenerator[None, None]:
    """A waiting run is a snapshot in the memory backend; a signal and `resume_workflow` end it."""
    workflow = Flow("waiting").wait_for_signal("answer").then(increment, name="finish").build()
    backend = InMemoryBackend()
    for n in range(runs):
        run_durable_workflow(workflow, str(n), 0, backend=backend)
    yield
    for n in range(runs):
        send_signal(str(n), "answer", 1, backend)
        resume_workflow(workflow, str(n), backend)

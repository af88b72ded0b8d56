"""One engine's process: `python -m comparison.child ENGINE`.

Each line on standard input is a request, each line on standard output its answer, both JSON.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import sys
from types import ModuleType
from typing import Any

from . import measures, memory
from .workloads import WORKLOADS

QUIET = {
    "ANONYMIZED_TELEMETRY": "false",
    "BURR_TELEMETRY_ENABLED": "false",
    "HAMILTON_TELEMETRY_ENABLED": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
}


class Child:
    """The engine, and per workload the run that it built and its batch size."""

    def __init__(self, engine: ModuleType) -> None:
        self.engine = engine
        self.runs: dict[str, measures.Run] = {}
        self.times: dict[str, int] = {}

    async def answer(self, name: str, budget: float, quick: bool) -> dict[str, float]:
        workload = WORKLOADS[name]
        match workload.kind:
            case "memory":
                return await memory.waiting(self.engine.waiting, int(workload.args[0]))
            case "values":
                return await self.context(budget / 15, gigabyte=not quick and self.copies_nothing())
            case "lengths":
                return await measures.lengths(self.engine.loop, workload.args)
        run = self.runs.get(name)
        if run is None:
            run = self.runs[name] = getattr(self.engine, workload.function)(*workload.args)
            if workload.kind != "timed":  # a timed workload warms up while its batch grows
                await measures.gathered(run, workload.result, 20)
        match workload.kind:
            case "gathered":
                return {"seconds": await measures.gathered(run, workload.result, workload.unit)}
            case "clients":
                return await measures.clients(run, 200, 0.3 if quick else 2.0)
        taken, self.times[name], result = await measures.timed(
            run, workload.result, budget, self.times.get(name, 0)
        )
        answer = {"seconds": taken / workload.unit}
        if workload.function == "stream" and isinstance(result, int):
            answer["lost"] = 1 - result / workload.unit
        return answer

    async def context(self, budget: float, gigabyte: bool) -> dict[str, float]:
        from . import values  # it imports pydantic, which the other measures do without

        found: dict[str, float] = {}

        async def measure(store: Any) -> None:
            found.update(await values.measure(store, budget, gigabyte))

        await self.engine.context(measure)
        return found

    def copies_nothing(self) -> bool:
        """Only the engines that keep bytes by reference are given a gigabyte."""
        return self.engine.__name__ in ("peers.floor", "peers.treadle_engine")


def plain(error: Exception) -> str:
    """The error's first line, without the folders of the files it names."""
    return re.sub(r"(/[^\s/:]+)+/", "", str(error).partition("\n")[0])


def main() -> None:
    os.environ.update(QUIET)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever an engine prints goes to standard error

    def reply(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=replies, flush=True)

    try:
        engine = importlib.import_module(f"peers.{sys.argv[1]}")
    except Exception as error:
        reply({"failed": f"cannot be imported: {plain(error)}"})
        return
    child = Child(engine)
    reply({"lacks": engine.LACKS})
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = runner.run(child.answer(**request))
            except Exception as error:
                reply({"failed": f"{type(error).__name__}: {plain(error)}"})
            else:
                reply({"ok": answer})


if __name__ == "__main__":
    main()

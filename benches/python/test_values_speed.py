"""One `set` or `get` of the context inside a step, beside a plain dict, orjson or pickle."""

from __future__ import annotations

import asyncio
from types import ModuleType
from typing import Any

import pytest

values = pytest.importorskip("comparison.values")

KINDS: dict[str, Any] = {
    **values.kinds(gigabyte=False),
    "65,536 lists": {"lists": [[] for _ in range(1 << 16)]},
    "100,000 ints": {"ints": list(range(100_000))},
    "20,000 records": {
        "records": [{"id": n, "name": f"name {n}", "tags": ["a"]} for n in range(20_000)]
    },
    "10,000 short texts": {"texts": [f"text {n}" for n in range(10_000)]},
    "10,000 texts with accents": {"texts": [f"é {n}" for n in range(10_000)]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_set(kind: str, store: ModuleType, benchmark: Any, runner: asyncio.Runner) -> None:
    benchmark.group = f"set {kind}"

    async def measure(inside: Any) -> None:
        benchmark(inside.setter(kind, KINDS[kind]))

    runner.run(store.context(measure))


@pytest.mark.parametrize("kind", KINDS)
def test_get(kind: str, store: ModuleType, benchmark: Any, runner: asyncio.Runner) -> None:
    benchmark.group = f"get {kind}"

    async def measure(inside: Any) -> None:
        inside.setter(kind, KINDS[kind])()
        assert benchmark(inside.getter(kind)) == KINDS[kind]

    runner.run(store.context(measure))

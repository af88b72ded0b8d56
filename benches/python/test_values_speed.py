"""One `set` or `get` of the context inside a step, beside a plain dict, orjson or pickle."""

from __future__ import annotations

import asyncio
from types import ModuleType
from typing import Any

import pytest

values = pytest.importorskip("comparison.values")

KINDS = values.kinds(gigabyte=False)


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

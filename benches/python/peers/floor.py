"""The floors of the context table: a plain dict, orjson for JSON, pickle for models.

`set` and `get` of a number, a string or bytes are an assignment to a dict and a look-up; of a dict
they are `orjson.dumps` and `orjson.loads`; of a pydantic model `pickle.dumps` and `pickle.loads`.
"""

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from .interface import Store as StoreShape

LACKS: dict[str, str] = {}


class Store:
    def __init__(self) -> None:
        self.readers: dict[str, Callable[[], Any]] = {}

    def setter(self, key: str, value: Any) -> Callable[[], Any]:
        values: dict[str, Any] = {}

        def assign() -> None:
            values[key] = value

        if isinstance(value, dict):
            encoded = orjson.dumps(value)
            self.readers[key] = lambda: orjson.loads(encoded)
            return lambda: orjson.dumps(value)
        if not isinstance(value, (int, str, bytes)):
            pickled = pickle.dumps(value, 5)
            self.readers[key] = lambda: pickle.loads(pickled)
            return lambda: pickle.dumps(value, 5)
        self.readers[key] = lambda: values[key]
        return assign

    def getter(self, key: str) -> Callable[[], Any]:
        return self.readers[key]


async def context(measure: Callable[[StoreShape], Awaitable[None]]) -> object:
    await measure(Store())
    return None

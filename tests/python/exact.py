"""What "the same value, the same type" means in these tests."""

import struct
from collections.abc import Mapping
from typing import Any


def assert_exact(got: Any, expected: Any) -> None:
    """Compare by exact type, floats bit by bit, containers item by item and in order."""
    assert _spelled(got) == _spelled(expected)


def _spelled(value: Any) -> tuple[Any, ...]:
    kind = type(value)
    if isinstance(value, float):
        return kind, struct.pack("<d", value)
    if isinstance(value, complex):
        return kind, struct.pack("<dd", value.real, value.imag)
    if isinstance(value, Mapping):
        return kind, [(_spelled(key), _spelled(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return kind, [_spelled(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return kind, sorted((_spelled(item) for item in value), key=ascii)
    return kind, value

"""Keys: any str of valid Unicode; anything else is an error that names it."""

from collections.abc import Callable
from typing import Any

import pytest

from treadle import Context


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Subclass(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("never called")

    def __hash__(self) -> int:
        raise RuntimeError("never called")

    def __str__(self) -> str:
        return "a lie"


CALLS = [
    pytest.param(lambda ctx, key: ctx.set(key, 1), id="set"),
    pytest.param(lambda ctx, key: ctx.get(key), id="get"),
    pytest.param(lambda ctx, key: ctx.get(key, 1), id="get with default"),
    pytest.param(lambda ctx, key: ctx.set_bytes(key, b""), id="set_bytes"),
    pytest.param(lambda ctx, key: ctx.get_bytes(key), id="get_bytes"),
    pytest.param(lambda ctx, key: ctx.delete(key), id="delete"),
    pytest.param(lambda ctx, key: key in ctx, id="in"),
    pytest.param(lambda ctx, key: ctx.update(key, lambda old: old, default=0), id="update"),
    pytest.param(lambda ctx, key: ctx.increment(key), id="increment"),
    pytest.param(lambda ctx, key: ctx.state[key], id="state[]"),
    pytest.param(lambda ctx, key: ctx.state.__setitem__(key, 1), id="state[] ="),
    pytest.param(lambda ctx, key: ctx.state.__delitem__(key), id="del state[]"),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "key", [None, 1, 1.5, b"k", ("k",), ["k"], bytearray(b"k"), True], ids=repr
)
def test_a_key_that_is_not_a_str_is_a_type_error(
    ctx: Context, call: Callable[[Context, Any], Any], key: Any
) -> None:
    ctx.set("k", "old")
    with pytest.raises(TypeError, match=type(key).__name__):
        call(ctx, key)
    assert dict(ctx.state) == {"k": "old"}


@pytest.mark.parametrize("call", CALLS)
def test_a_key_whose_repr_raises_is_a_type_error(
    ctx: Context, call: Callable[[Context, Any], Any]
) -> None:
    with pytest.raises(TypeError, match="Unprintable"):
        call(ctx, Unprintable())


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("key", ["\ud800", "a\udfffb", "🧵\udc80", "\ud83e\uddf5"], ids=ascii)
def test_a_key_with_a_lone_surrogate_is_a_value_error(
    ctx: Context, call: Callable[[Context, Any], Any], key: str
) -> None:
    ctx.set("k", "old")
    with pytest.raises(ValueError, match="surrogate"):
        call(ctx, key)
    assert dict(ctx.state) == {"k": "old"}


@pytest.mark.parametrize(
    "key",
    ["", " ", "\x00", "a\x00b", "é", "e\u0301", "🧵", "\uffff", "k" * 10_000_000, "é" * 5_000_000],
    ids=lambda key: ascii(key[:10]),
)
def test_any_other_str_is_a_key(ctx: Context, key: str) -> None:
    ctx.set(key, 1)
    ctx.set_bytes(key, b"2")
    assert ctx.get_bytes(key) == b"2"
    assert ctx.update(key, len) == 1
    assert ctx.increment(key) == 2
    assert key in ctx
    assert key in ctx.state
    assert ctx.keys() == [key]
    assert ctx.get(key + "x", "other") == "other"
    del ctx.state[key]
    assert len(ctx) == 0


def test_keys_that_only_look_the_same_are_different(ctx: Context) -> None:
    keys = ["é", "e\u0301", "É", "", "\x00", "\x00\x00", " ", "K", "\u212a", "k"]
    for at, key in enumerate(keys):
        ctx.set(key, at)
    assert [ctx.get(key) for key in keys] == list(range(len(keys)))


def test_an_instance_of_a_subclass_of_str_is_the_key_that_it_spells(ctx: Context) -> None:
    key = Subclass("k")
    ctx.set(key, 1)
    assert ctx.get("k") == 1
    assert ctx.get(key) == 1
    assert [type(key) for key in ctx.keys()] == [str]  # noqa: SIM118
    assert ctx.keys() == ["k"]
    assert ctx.delete(key)


def test_an_error_about_a_huge_key_is_short(ctx: Context) -> None:
    with pytest.raises(TypeError) as caught:
        ctx.set("k" * 10_000_000, lambda: None)
    assert len(str(caught.value)) < 1000
    with pytest.raises(ValueError, match="surrogate") as caught_value:
        ctx.set("k" * 10_000_000 + "\ud800", 1)
    assert len(str(caught_value.value)) < 1000


def test_state_says_that_what_is_no_str_is_not_in_it(ctx: Context) -> None:
    ctx.set("1", 1)
    assert 1 not in ctx.state
    assert None not in ctx.state
    assert ["1"] not in ctx.state


def test_a_hundred_thousand_keys_are_kept_apart(ctx: Context) -> None:
    for at in range(100_000):
        ctx.set(f"key {at}", at)
    for at in range(0, 100_000, 2):
        ctx.delete(f"key {at}")
    assert len(ctx) == 50_000
    assert ctx.keys() == [f"key {at}" for at in range(1, 100_000, 2)]
    assert all(ctx.get(f"key {at}") == (at if at % 2 else None) for at in range(100_000))

"""update and increment: atomic read-modify-write."""

import decimal
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from exact import assert_exact
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from treadle import Context, UnstorableValue


def test_update_stores_and_returns_what_the_function_made(ctx: Context) -> None:
    ctx.set("k", [1])
    assert ctx.update("k", lambda old: [*old, 2]) == [1, 2]
    assert ctx.get("k") == [1, 2]


def test_update_of_a_missing_key_starts_from_the_default(ctx: Context) -> None:
    assert ctx.update("a", lambda old: old + 1, default=1) == 2
    assert ctx.update("b", lambda old: [old], default=None) == [None]
    assert ctx.update("a", lambda old: old + 1, default=100) == 3


def test_update_of_a_missing_key_without_a_default_is_a_key_error(ctx: Context) -> None:
    with pytest.raises(KeyError) as caught:
        ctx.update("k", pytest.fail)
    assert caught.value.args == ("k",)
    assert "k" not in ctx


@pytest.mark.parametrize(
    "call",
    [
        lambda ctx: ctx.update("k"),
        lambda ctx: ctx.update("k", len, 1, 2),
        lambda ctx: ctx.update("k", len, 1, default=2),
        lambda ctx: ctx.update("k", len, other=1),
        lambda ctx: ctx.update("k", "not a function", default=1),
        lambda ctx: ctx.set("k"),
        lambda ctx: ctx.get(),
        lambda ctx: ctx.increment("k", 1, 2),
    ],
)
def test_a_wrong_call_is_a_type_error(ctx: Context, call: Callable[[Context], Any]) -> None:
    with pytest.raises(TypeError):
        call(ctx)
    assert len(ctx) == 0


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, StopIteration])
def test_an_error_of_the_function_comes_through_and_the_old_value_stays(
    ctx: Context, error: type[BaseException]
) -> None:
    def function(old: Any) -> Any:
        old.append(2)
        raise error("mine")

    ctx.set("k", [1])
    with pytest.raises(error, match="mine"):
        ctx.update("k", function)
    assert ctx.get("k") == [1]


def test_the_old_value_stays_when_the_new_one_cannot_be_stored(ctx: Context) -> None:
    ctx.set("k", [1])
    with pytest.raises(UnstorableValue, match='"k"'):
        ctx.update("k", lambda _: lambda: None)
    assert ctx.get("k") == [1]


def test_a_function_that_always_sets_the_same_key_is_stopped_with_an_error(ctx: Context) -> None:
    calls = []

    def function(old: int) -> int:
        calls.append(old)
        ctx.set("k", old + 1)
        return -1

    ctx.set("k", 0)
    with pytest.raises(RuntimeError, match='"k"'):
        ctx.update("k", function)
    assert calls == list(range(len(calls)))
    assert ctx.get("k") == len(calls)


def test_a_function_that_sets_the_same_key_once_is_called_again_with_the_new_value(
    ctx: Context,
) -> None:
    calls = []

    def function(old: str) -> str:
        calls.append(old)
        if len(calls) == 1:
            ctx.set("k", "from within")
        return old + "!"

    ctx.set("k", "first")
    assert ctx.update("k", function) == "from within!"
    assert calls == ["first", "from within"]


def test_a_function_that_sets_the_same_value_again_is_still_called_again(ctx: Context) -> None:
    calls = []

    def function(old: int) -> int:
        calls.append(old)
        if len(calls) == 1:
            ctx.delete("k")
            ctx.set("k", old)
        return old + 1

    ctx.set("k", 1)
    assert ctx.update("k", function) == 2
    assert calls == [1, 1]


def test_a_function_that_deletes_the_key_finds_it_missing(ctx: Context) -> None:
    def function(old: int) -> int:
        ctx.delete("k")
        return old + 1

    ctx.set("k", 1)
    with pytest.raises(KeyError):
        ctx.update("k", function)
    ctx.set("k", 1)
    assert ctx.update("k", function, default=10) == 11


def test_updates_of_different_keys_nest(ctx: Context) -> None:
    ctx.update("a", lambda a: a + ctx.update("b", lambda b: b + ctx.increment("c"), 0), 0)
    assert dict(ctx.state) == {"c": 1, "b": 1, "a": 1}


def test_increment_counts_from_zero(ctx: Context) -> None:
    assert_exact(ctx.increment("k"), 1)
    assert_exact(ctx.increment("k", 5), 6)
    assert_exact(ctx.increment("k", by=-7), -1)
    assert_exact(ctx.increment("k", 0), -1)
    assert_exact(ctx.get("k"), -1)
    assert_exact(ctx.increment("f", 0.5), 0.5)


def bits(number: int) -> str:
    return f"{number.bit_length()} bits"


@pytest.mark.parametrize("start", [2**63 - 1, -(2**63), 2**64, 10**5000, 2**31 - 1], ids=bits)
@pytest.mark.parametrize("by", [1, -1, 2**63, -(2**64), 10**400], ids=bits)
def test_increment_knows_no_overflow(ctx: Context, start: int, by: int) -> None:
    ctx.set("k", start)
    assert ctx.increment("k", by) == start + by
    assert_exact(ctx.get("k"), start + by)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.integers() | st.floats(-1e300, 1e300),
    by=st.integers(-(2**70), 2**70) | st.floats(),
)
def test_increment_adds_as_python_does(ctx: Context, start: float, by: float) -> None:
    try:
        expected = start + by
    except OverflowError:
        return
    ctx.set("k", start)
    got = ctx.increment("k", by)
    stored = ctx.get("k")
    if isinstance(expected, float) and math.isnan(expected):
        assert math.isnan(got)
        assert math.isnan(stored)
    else:
        assert_exact(got, expected)
        assert_exact(stored, expected)


def test_an_integer_too_large_for_a_float_stays(ctx: Context) -> None:
    ctx.set("k", 10**400)
    with pytest.raises(OverflowError):
        ctx.increment("k", 0.5)
    assert ctx.get("k") == 10**400


class MyInt(int):
    pass


WRONG = [None, True, "1", b"1", [1], {}, (1,), 1j, decimal.Decimal(1), np.int64(1), MyInt(1)]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_increment_of_what_is_no_number_is_a_type_error(ctx: Context, wrong: Any) -> None:
    ctx.set("the key", wrong)
    with pytest.raises(TypeError, match=f'"the key".*{type(wrong).__name__}'):
        ctx.increment("the key")
    assert_exact(ctx.get("the key"), wrong)


@pytest.mark.parametrize("wrong", WRONG[1:], ids=repr)
def test_increment_by_what_is_no_number_is_a_type_error(ctx: Context, wrong: Any) -> None:
    ctx.set("the key", 1)
    with pytest.raises(TypeError, match=f'"the key".*{type(wrong).__name__}'):
        ctx.increment("the key", wrong)
    with pytest.raises(TypeError):
        ctx.increment("missing", wrong)
    assert dict(ctx.state) == {"the key": 1}

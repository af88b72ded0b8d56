"""What is stored is a snapshot: nobody else's change shows in it."""

import collections
import copy
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from treadle import Context


class Holder:
    def __init__(self, items: list[int]) -> None:
        self.items = items

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Holder) and other.items == self.items

    __hash__ = None


def change_list(value: list[Any]) -> None:
    value.append(0)


CASES = [
    pytest.param([1], change_list, id="list"),
    pytest.param([[1]], lambda v: v[0].append(0), id="list in a list"),
    pytest.param({"a": 1}, lambda v: v.update(b=2), id="dict"),
    pytest.param({"a": {"b": [1]}}, lambda v: v["a"]["b"].clear(), id="list in a dict"),
    pytest.param(bytearray(b"ab"), lambda v: v.extend(b"c"), id="bytearray"),
    pytest.param([bytearray(b"ab")], lambda v: v[0].clear(), id="bytearray in a list"),
    pytest.param(([1],), lambda v: v[0].append(0), id="list in a tuple"),
    pytest.param({1, 2}, lambda v: v.add(3), id="set"),
    pytest.param(Holder([1]), lambda v: v.items.append(0), id="object"),
    pytest.param([Holder([1])], lambda v: v[0].items.append(0), id="object in a list"),
    pytest.param(collections.deque([1]), lambda v: v.append(0), id="deque"),
    pytest.param(collections.Counter("a"), lambda v: v.update("b"), id="counter"),
]


@pytest.mark.parametrize(("value", "change"), CASES)
def test_changing_a_value_after_set_changes_nothing(
    ctx: Context, value: Any, change: Callable[[Any], object]
) -> None:
    value, original = copy.deepcopy(value), copy.deepcopy(value)
    ctx.set("k", value)
    change(value)
    assert value != original
    assert ctx.get("k") == original


@pytest.mark.parametrize(("value", "change"), CASES)
def test_changing_what_get_gave_changes_nothing(
    ctx: Context, value: Any, change: Callable[[Any], object]
) -> None:
    ctx.set("k", copy.deepcopy(value))
    change(ctx.get("k"))
    change(ctx.state["k"])
    assert ctx.get("k") == value


@pytest.mark.parametrize(("value", "change"), CASES)
def test_changing_what_update_got_or_gave_changes_nothing(
    ctx: Context, value: Any, change: Callable[[Any], object]
) -> None:
    new = copy.deepcopy(value)
    ctx.set("k", copy.deepcopy(value))

    def function(old: Any) -> Any:
        change(old)
        return new

    change(ctx.update("k", function))
    change(new)
    assert ctx.get("k") == value


@pytest.mark.parametrize(("value", "change"), CASES)
def test_the_default_of_get_is_not_stored(
    ctx: Context, value: Any, change: Callable[[Any], object]
) -> None:
    default = copy.deepcopy(value)
    assert ctx.get("k", default) is default
    assert "k" not in ctx


def test_changing_the_buffer_under_a_memoryview_changes_nothing(ctx: Context) -> None:
    buffer = bytearray(b"abc")
    ctx.set("k", memoryview(buffer))
    buffer[0] = 0
    buffer_of_numpy = np.arange(3, dtype=np.uint8)
    ctx.set("n", memoryview(buffer_of_numpy))
    buffer_of_numpy[:] = 9
    assert ctx.get("k") == b"abc"
    assert ctx.get("n") == bytes([0, 1, 2])


def test_a_stored_memoryview_does_not_lock_its_buffer(ctx: Context) -> None:
    buffer = bytearray(b"abc")
    with memoryview(buffer) as view:
        ctx.set("k", view)
    buffer.extend(b"def")
    assert ctx.get("k") == b"abc"


def test_two_keys_that_were_set_to_one_object_are_independent(ctx: Context) -> None:
    value = [1]
    ctx.set("a", value)
    ctx.set("b", value)
    ctx.get("a").append(2)
    ctx.set("a", [3])
    assert ctx.get("b") == [1]


@pytest.fixture
def collector() -> Iterator[None]:
    was_enabled = gc.isenabled()
    yield
    (gc.enable if was_enabled else gc.disable)()


LARGE = [[{"n": n}] for n in range(2000)]


@pytest.mark.usefixtures("collector")
@pytest.mark.parametrize("is_enabled", [True, False])
@pytest.mark.parametrize("value", [LARGE, [LARGE, object]], ids=["JSON", "opaque"])
def test_get_leaves_the_garbage_collector_as_it_was(
    ctx: Context, value: Any, is_enabled: bool
) -> None:
    (gc.enable if is_enabled else gc.disable)()
    ctx.set("k", value)
    for _ in range(3):
        assert ctx.get("k") == value
        assert gc.isenabled() is is_enabled


@pytest.mark.usefixtures("collector")
def test_cycles_are_collected_where_nothing_but_get_makes_containers(ctx: Context) -> None:
    class Cycle:
        pass

    gc.enable()
    gc.collect()
    cycle = Cycle()
    cycle.me = cycle
    watched = weakref.ref(cycle)
    del cycle
    ctx.set("k", LARGE)
    for _ in range(3):
        ctx.get("k")
    assert watched() is None

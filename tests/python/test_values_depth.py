"""Deep values, each in a process of its own: a crash of the interpreter is a failed test.

How deep a value may be that is pickled is for the interpreter to say. CPython 3.11 counts its own
recursion in C as that of Python. From 3.12 on, recursion in C has a limit of its own, which is
built in: 1,500 levels in early releases of 3.12, 10,000 later.
"""

import sys
from collections.abc import Callable

import pytest

SCRIPT = """
kind, depth, where, limit = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])

class Node:
    pass

class Reducible:
    def __init__(self, inner):
        self.inner = inner
    def __reduce__(self):
        return Reducible, (self.inner,)

class MyList(list):
    pass

def node(inner):
    made = Node()
    made.inner = inner
    return made

wrap, unwrap = {
    "list": (lambda inner: [inner], lambda outer: outer[0]),
    "dict": (lambda inner: {"k": inner}, lambda outer: outer["k"]),
    "both": (lambda inner: [{"k": inner}], lambda outer: outer[0]["k"]),
    "tuple": (lambda inner: (inner,), lambda outer: outer[0]),
    "subclass": (lambda inner: MyList([inner]), lambda outer: outer[0]),
    "object": (node, lambda outer: outer.inner),
    "reduce": (Reducible, lambda outer: outer.inner),
}[kind]

def make():
    value = "innermost"
    for _ in range(depth):
        value = wrap(value)
    return value

kept = []

def use(ctx):
    if limit:
        sys.setrecursionlimit(limit)
    value = make()
    kept.append(value)
    def round_trip():
        ctx.set("k", "old")
        try:
            ctx.set("k", value)
        except UnstorableValue as error:
            assert isinstance(error.__cause__, RecursionError), error
            assert ctx.get("k") == "old"
            print("refused")
            return
        try:
            got = ctx.get("k")
        except UnreadableValue as error:
            assert isinstance(error.__cause__, RecursionError), error
            print("unreadable")
            return
        kept.append(got)
        for _ in range(depth):
            assert type(got) is type(value) or kind == "both"
            got = unwrap(got)
        assert got == "innermost"
        print("exact")
    if where == "small stack":
        in_small_stack(round_trip)
    else:
        round_trip()

in_run(use)
sys.stdout.flush()
# Taking the value apart would be the interpreter's own recursion.
import os
os._exit(0)
"""

WHERE = ["main thread", "small stack"]


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("depth", [10, 127, 128, 129, 200])
@pytest.mark.parametrize("kind", ["list", "dict", "both"])
def test_a_deep_value_comes_back(
    run_script: Callable[..., str], kind: str, depth: int, where: str
) -> None:
    wraps = depth // 2 if kind == "both" else depth
    assert run_script(SCRIPT, kind, str(wraps), where, "0") == "exact\n"


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("depth", [10, 128])
@pytest.mark.parametrize("kind", ["tuple", "subclass", "object", "reduce"])
def test_a_deep_opaque_value_comes_back(
    run_script: Callable[..., str], kind: str, depth: int, where: str
) -> None:
    assert run_script(SCRIPT, kind, str(depth), where, "0") == "exact\n"


PICKLED = ["list", "dict", "both", "tuple", "object", "reduce", "subclass"]
COUNTS_AS_PYTHON = sys.version_info < (3, 12)
# Python 3.14 measures the stack instead of counting calls, and goes deeper with small frames.
TOO_DEEP = 1_000 if COUNTS_AS_PYTHON else 50_000 if sys.version_info < (3, 14) else 200_000


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("depth", [300, 1_000, 3_000, 9_000, 30_000, 1_000_000])
@pytest.mark.parametrize("kind", PICKLED)
def test_a_value_of_any_depth_comes_back_or_is_refused(
    run_script: Callable[..., str], kind: str, depth: int, where: str
) -> None:
    assert run_script(SCRIPT, kind, str(depth), where, "0") in ("exact\n", "refused\n")


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("depth", [TOO_DEEP, 1_000_000])
@pytest.mark.parametrize("kind", ["list", "dict", "both", "tuple", "object"])
def test_a_value_deeper_than_the_recursion_limit_is_refused(
    run_script: Callable[..., str], kind: str, depth: int, where: str
) -> None:
    assert run_script(SCRIPT, kind, str(depth), where, "0") == "refused\n"


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("kind", ["list", "dict", "tuple", "subclass", "object", "reduce"])
def test_a_raised_recursion_limit_lets_deeper_values_through_where_it_counts_for_c(
    run_script: Callable[..., str], kind: str, where: str
) -> None:
    expected = "exact\n" if COUNTS_AS_PYTHON else "refused\n"
    assert run_script(SCRIPT, kind, "100000", where, "1000000") == expected


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("kind", ["list", "object"])
def test_a_raised_recursion_limit_still_refuses_what_is_deeper(
    run_script: Callable[..., str], kind: str, where: str
) -> None:
    assert run_script(SCRIPT, kind, "1000000", where, "1000000") == "refused\n"

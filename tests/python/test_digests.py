"""What is equal by type and content has one digest, in every process."""

import decimal
import itertools
import json
import math
import pickle
import random
import threading
from collections.abc import Iterator
from typing import Any

import digest_values as values
import pytest
from digest_values import DIFFERENT, HERE, Teller, digest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from treadle import StartEvent
from treadle._treadle import Journal

GOLDEN = HERE / "fixtures" / "digests-v1.json"
SEEDS = [0, 1, 2, 3, "random"]


@pytest.fixture(scope="module")
def tellers() -> Iterator[list[Teller]]:
    tellers = [Teller(seed) for seed in SEEDS]
    yield tellers
    for teller in tellers:
        teller.close()


def test_other_content_or_another_type_has_another_digest():
    digests = {name: digest(value) for name, value in DIFFERENT.items()}
    for (one, digest_of_one), (other, digest_of_other) in itertools.combinations(
        digests.items(), 2
    ):
        assert digest_of_one != digest_of_other, (one, other)


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_value_has_the_digest_that_it_had_in_every_version(name: str):
    assert digest(DIFFERENT[name]) == json.loads(GOLDEN.read_text())[name]


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_value_has_the_same_digest_in_every_process(name: str, tellers: list[Teller]):
    value = DIFFERENT[name]
    assert {teller.digest(value) for teller in tellers} == {digest(value)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (StartEvent(a=1, b=2), StartEvent(b=2, a=1)),
        (0.0, -0.0),
        (math.nan, -math.nan),
        (decimal.Decimal("1.0"), decimal.Decimal("1.00")),
        (decimal.Decimal("100"), decimal.Decimal("1E+2")),
        (decimal.Decimal("0.00"), decimal.Decimal("-0")),
        (values.Model(), values.Model(name="none", tags=set())),
        (values.Parcel(1, set(), made=1.0), values.Parcel(1, set(), made=2.0)),
        (values.Attrs("a", set(), made=1.0), values.Attrs("a", set(), made=2.0)),
        (
            values.Ordered(number=1, tags=set(), made=1.0),
            values.Ordered(number=1, tags=set(), made=2.0),
        ),
        (values.Table(a=1, b=2), values.Table(b=2, a=1)),
        (values.Plain(a=1, b=2), values.Plain(b=2, a=1)),
        (values.Reduced("a"), values.Reduced("a")),
        (memoryview(b"bytes"), b"bytes"),
    ],
    ids=str,
)
def test_what_is_equal_has_one_digest(one: object, other: object):
    assert digest(one) == digest(other)


def test_which_parts_are_shared_does_not_count():
    text, other = "x" * 100, "".join(["x"] * 100)
    assert text is not other
    assert digest([text, text]) == digest([text, other])
    inner, equal = [text, {"a": [1] * 50}], [other, {"a": [1] * 50}]
    assert digest({"a": inner, "b": inner}) == digest({"a": inner, "b": equal})


def test_private_attributes_of_a_model_count_as_they_do_for_its_equality():
    one, other = values.Model(), values.Model()
    other._seen = 1
    assert one != other
    assert digest(one) != digest(other)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.datetimes()
    | st.uuids()
    | st.sampled_from(values.Colour)
)
hashable = st.recursive(
    scalars, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4), max_leaves=6
)
anything = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(hashable, inner, max_size=5)
        | st.sets(hashable, max_size=5)
        | st.builds(lambda **fields: values.Plain(**fields), a=inner, b=inner)
        | st.builds(values.Slotted, inner, inner)
        | st.builds(values.OpenModel, name=st.text(), more=inner)
    ),
    max_leaves=15,
)

# One example starts nothing, but asks other processes.
asking = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@asking
@given(value=anything)
def test_any_value_has_the_same_digest_in_every_process(value: object, tellers: list[Teller]):
    expected = digest(value)
    assert {teller.digest(value) for teller in tellers[1:3]} == {expected}


def rebuilt(value: Any, order: random.Random) -> Any:
    """Build the same content of other objects, in another order where that does not count."""
    if type(value) is dict:
        items = [(rebuilt(key, order), rebuilt(item, order)) for key, item in value.items()]
        order.shuffle(items)
        return dict(items)
    if type(value) in (set, frozenset):
        items = [rebuilt(item, order) for item in value]
        order.shuffle(items)
        return type(value)(items)
    if type(value) in (list, tuple):
        return type(value)(rebuilt(item, order) for item in value)
    return pickle.loads(pickle.dumps(value))


@settings(deadline=None)
@given(value=anything, order=st.randoms(use_true_random=False))
def test_the_same_content_made_anew_has_the_same_digest(value: object, order: random.Random):
    assert digest(rebuilt(value, order)) == digest(value)


def told(value: Any) -> Any:
    """What a value is, so that what is told of two values is equal if they are, type by type."""
    kind = type(value)
    if kind in (list, tuple):
        return kind.__name__, tuple(map(told, value))
    if kind in (set, frozenset):
        return kind.__name__, frozenset(map(told, value))
    if kind is dict:
        return "dict", frozenset((told(key), told(item)) for key, item in value.items())
    if kind is values.Plain:
        return "Plain", told(vars(value))
    if kind is values.Slotted:
        return "Slotted", told([value.one, value.other])
    if kind is values.OpenModel:
        return "OpenModel", told([value.name, value.__pydantic_extra__])
    return kind.__name__, value


@settings(deadline=None)
@given(one=anything, other=anything)
def test_digests_are_equal_if_and_only_if_type_and_content_are(one: object, other: object):
    assert (digest(one) == digest(other)) == (told(one) == told(other))


# What is hostile, or has no end.


class Raises:
    def __init__(self, raised: BaseException) -> None:
        self.raised = raised

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise self.raised


class Getting:
    """Every attribute of it raises, or is another of it."""

    __dataclass_fields__ = values.Parcel.__dataclass_fields__

    def __getattr__(self, name: str) -> Any:
        return Getting()


class Bomb(values.Parcel):
    @property
    def weight(self) -> int:  # type: ignore[override]
        raise RuntimeError("no")

    @weight.setter
    def weight(self, weight: int) -> None:
        pass


class Endless:
    def __reduce__(self) -> Any:
        return list, (), None, itertools.count()


class Deeper:
    def __reduce__(self) -> Any:
        return Deeper, (Deeper(),)


class Nonsense:
    def __init__(self, reduced: Any) -> None:
        self.reduced = reduced

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.reduced


class Changing:
    """Empties the list that it is in while the digest is made."""

    def __init__(self, of: list[Any]) -> None:
        self.of = of

    def __reduce__(self) -> Any:
        self.of.clear()
        return Changing, ([],)


class Liar(set[str]):
    def __iter__(self) -> Any:
        raise RuntimeError("no")

    def __len__(self) -> int:
        return -1


class Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError("no")


class Unruly(metaclass=Meta):
    pass


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def unnest(value: list[Any]) -> None:
    # A list that deep is let go of level by level.
    while value:
        value = value[0]


def test_no_depth_is_too_deep():
    one, other = nested(1_000_000), nested(1_000_001)
    try:
        assert digest(one) != digest(other)
    finally:
        unnest(one)
        unnest(other)


def doubled(depth: int) -> list[Any]:
    value: list[Any] = ["x" * 100]
    for _ in range(depth):
        value = [value, value]
    return value


def test_parts_that_are_shared_cost_what_they_cost_once():
    assert digest(doubled(500)) != digest(doubled(501))


def test_cycles_end():
    one: dict[str, Any] = {"name": "a"}
    one["self"] = one
    other: dict[str, Any] = {"name": "a"}
    other["self"] = other
    assert digest(one) == digest(other)
    one["name"] = "b"
    assert digest(one) != digest(other)
    nodes = [values.Plain(number=number) for number in range(100)]
    for node, following in zip(nodes, [*nodes[1:], nodes[0]], strict=True):
        node.following = following
    assert len({digest(node) for node in nodes}) == 100


class Wrapped:
    """A cycle that is made anew each time, and that nothing else refers to."""

    def __init__(self, through: int) -> None:
        self.through = through

    def __reduce__(self) -> Any:
        cycle: list[Any] = ["a"]
        cycle.append(cycle)
        if self.through == 0:
            return list, (cycle,)
        if self.through == 1:
            return list, (), None, iter([cycle])
        return dict, (), {"state": cycle}, None, iter([("a", cycle)])


@pytest.mark.parametrize("through", range(3))
def test_a_cycle_that_only_the_walk_refers_to_ends(through: int):
    assert digest(Wrapped(through)) == digest(Wrapped(through))


def test_a_cycle_within_shared_parts_ends():
    knot: list[Any] = ["x" * 100]
    value: list[Any] = [knot]
    for _ in range(300):
        value = [value, value, "x" * 100]
    knot.append(value)
    assert digest(value) == digest(value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Raises(ValueError("no")),
        lambda: Raises(StopIteration()),
        lambda: Raises(RecursionError()),
        Getting,
        lambda: Bomb(1, set()),
        Endless,
        Deeper,
        lambda: Nonsense(None),
        lambda: Nonsense((1,)),
        lambda: Nonsense(tuple(range(9))),
        lambda: Nonsense((list, (), None, 5, 5)),
        lambda: Nonsense((dict, (), None, None, iter([1, 2]))),
        lambda: Liar("abc"),
        lambda: Unruly(),
        threading.Lock,
        lambda: (number for number in range(3)),
        lambda: memoryview(b"abc"),
        object,
    ],
)
def test_what_tells_nothing_counts_by_its_class(make: Any):
    assert digest(make()) == digest(make())
    assert digest(make()) != digest(5)


def test_what_tells_nothing_is_a_part_like_others():
    assert digest([threading.Lock(), 1]) == digest([threading.Lock(), 1])
    assert digest([threading.Lock(), 1]) != digest([threading.Lock(), 2])


def test_a_list_that_is_changed_meanwhile_is_what_it_was():
    changing: list[Any] = []
    changing.extend([Changing(changing), 1, 2])
    same: list[Any] = []
    same.extend([Changing(same), 1, 2])
    assert digest(changing) == digest(same)
    assert changing == []


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, MemoryError])
def test_what_is_not_about_the_value_is_raised(raised: type[BaseException]):
    with pytest.raises(raised):
        digest(Raises(raised()))


def test_a_released_view_counts_by_its_class():
    view = memoryview(b"abc")
    view.release()
    assert digest(view) != digest(b"abc")


def test_huge_numbers_have_digests():
    assert digest(1 << 10_000_000) != digest(1 << 10_000_001)


def test_the_version_is_in_the_digest_of_an_input():
    assert Journal.input(StartEvent())[-1] == 1

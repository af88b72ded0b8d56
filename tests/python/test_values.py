"""Every value comes back as the same value of the same type."""

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import pathlib
import struct
import sys
import typing
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

import attrs
import msgspec
import numpy as np
import pydantic
import pytest
from exact import assert_exact

from treadle import Context, StopEvent, TreadleError, UnstorableValue


class Level(enum.IntEnum):
    LOW = 1


class Colour(str, enum.Enum):  # noqa: UP042
    RED = "red"


class Mode(enum.StrEnum):
    ON = "on"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class MyInt(int):
    pass


class MyStr(str):
    __slots__ = ()


class MyFloat(float):
    pass


class MyDict(dict):
    pass


class MyList(list):
    pass


class MyBytes(bytes):
    pass


class MyByteArray(bytearray):
    pass


class WithDunders:
    def __init__(self, name: str) -> None:
        self.name = name

    def __float__(self) -> float:
        return 1.0

    def __index__(self) -> int:
        return 1

    def __bytes__(self) -> bytes:
        return b"1"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WithDunders) and other.name == self.name

    __hash__ = None


class Profile(pydantic.BaseModel):
    name: str
    score: float


class Team(pydantic.BaseModel):
    members: list[Profile]


@dataclasses.dataclass
class Point:
    x: int
    y: list[int]


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenPoint:
    x: int


@attrs.define
class Box:
    width: int


class Struct(msgspec.Struct):
    a: int
    b: list[str]


class Pair(typing.NamedTuple):
    left: int
    right: str


Old = collections.namedtuple("Old", "a b")

JSON_VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    -(2**31),
    2**63 - 1,
    -(2**63),
    0.0,
    -0.0,
    0.1,
    1e22,
    1e16,
    123456789012345680.0,
    1e-320,
    5e-324,
    sys.float_info.max,
    -sys.float_info.max,
    sys.float_info.min,
    "",
    "\u0000",
    "plain",
    "é",
    "\x7f\x80\xff",
    "emoji 🧵👩‍👩‍👧",
    "\ufffe\uffff\U0010ffff",
    "".join(map(chr, range(0x30))) + '"\\/\u2028\u2029',
    "quote at byte 16:" + '"' * 3 + "x" * 40 + "\\",
    [],
    {},
    [[]],
    [{}],
    {"": []},
    {"": None},
    [1, 1.0, True, "1", None],
    [0, -0.0, 0.0, False],
    {"z": 1, "a": 2, "m": {"y": 1, "b": [2, {"x": 3}]}},
    {"\u0000": "\u0000", "é": "🧵", '"': "\\"},
    ["x" * length for length in range(70)],
    {"k" * length: length for length in range(70)},
]

OPAQUE_VALUES = [
    2**63,
    2**64,
    -(2**63) - 1,
    10**5000,
    float("inf"),
    float("-inf"),
    float("nan"),
    -float("nan"),
    struct.unpack("<d", struct.pack("<Q", 0x7FF8000000001234))[0],
    "\ud800",
    "a\udfffb",
    "🧵\udc80",
    (),
    (1, "a", [2]),
    ((),),
    set(),
    {1, "a", 2.5, None},
    frozenset(),
    frozenset({frozenset({1}), (2, 3)}),
    {1: "a", "1": "b"},
    {True: 1, 1.5: 2, None: 3, (1, 2): 4},
    {1.0: "float", "1.0": "str", b"1": "bytes"},
    Pair(1, "a"),
    Old(1, b=[2]),
    collections.OrderedDict(z=1, a=2),
    collections.defaultdict(list, {"a": [1]}),
    collections.Counter("abca"),
    collections.deque([1, 2, 3, 4], maxlen=3),
    Level.LOW,
    Colour.RED,
    Mode.ON,
    Access.READ | Access.WRITE,
    MyInt(5),
    MyStr("text"),
    MyFloat(2.5),
    MyDict(a=1),
    MyList([1, [2]]),
    MyBytes(b"bytes"),
    MyByteArray(b"bytes"),
    decimal.Decimal("1.10"),
    decimal.Decimal("-0E+3"),
    fractions.Fraction(1, 3),
    datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC),
    datetime.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=1),
    datetime.date(1, 1, 1),
    datetime.timedelta(microseconds=-1),
    uuid.UUID(int=7),
    pathlib.PurePosixPath("/a/b"),
    pathlib.Path("relative"),
    complex(-0.0, float("inf")),
    range(0, 10, 3),
    slice(1, None, 2),
    ...,
    NotImplemented,
    int,
    len,
    Profile,
    WithDunders("d"),
    Profile(name="Alice", score=0.95),
    Team(members=[Profile(name="A", score=1), Profile(name="B", score=-0.0)]),
    Point(1, [2]),
    FrozenPoint(1),
    Box(3),
    Struct(1, ["b"]),
    np.float64(1.5),
    np.float32(1.5),
    np.int64(-1),
    np.bool_(True),
    np.str_("s"),
    np.datetime64("2024-01-01"),
]

BINARY_VALUES = [b"", b"\x00", b"\xff" * 100, bytearray(), bytearray(b"\x00\xff")]

ALL_VALUES = JSON_VALUES + OPAQUE_VALUES + BINARY_VALUES


def name(value: Any) -> str:
    text = ascii(value) if not isinstance(value, int) or abs(value) < 2**70 else "huge int"
    return f"{type(value).__name__} {text[:40]}"


@pytest.mark.parametrize("value", ALL_VALUES, ids=name)
def test_a_value_comes_back_as_it_was(ctx: Context, value: Any) -> None:
    ctx.set("k", value)
    assert_exact(ctx.get("k"), value)
    assert_exact(ctx.get("k"), value)


@pytest.mark.parametrize(
    "nest",
    [
        lambda value: [value],
        lambda value: {"k": value},
        lambda value: [[{"a": [value, None]}], value],
        lambda value: (value,),
        lambda value: {1: value},
        lambda value: MyList([value]),
        lambda value: Point(0, [value]),
    ],
    ids=["list", "dict", "deep", "tuple", "int-keyed dict", "list subclass", "dataclass"],
)
@pytest.mark.parametrize("value", ALL_VALUES, ids=name)
def test_a_value_comes_back_as_it_was_inside_of_another(
    ctx: Context, value: Any, nest: Callable[[Any], Any]
) -> None:
    ctx.set("k", nest(value))
    got = ctx.get("k")
    if isinstance(got, Point):
        assert_exact(got.y, [value])
    else:
        assert_exact(got, nest(value))


def test_all_values_come_back_from_one_list_and_from_one_key_each(ctx: Context) -> None:
    ctx.set("all", ALL_VALUES)
    for at, value in enumerate(ALL_VALUES):
        ctx.set(f"k{at}", value)
    assert_exact(ctx.get("all"), ALL_VALUES)
    for at, value in enumerate(ALL_VALUES):
        assert_exact(ctx.get(f"k{at}"), value)


def test_any_value_can_take_the_place_of_any_other(ctx: Context) -> None:
    samples = [None, 1, "s", [1], {"a": 1}, b"b", bytearray(b"b"), (1,), 2**70, float("inf")]
    for before in samples:
        for after in samples:
            ctx.set("k", before)
            ctx.set("k", after)
            assert_exact(ctx.get("k"), after)


@pytest.mark.parametrize("value", ALL_VALUES, ids=name)
def test_a_value_passes_through_state_update_and_the_result(
    in_run: Callable[..., Any], value: Any
) -> None:
    def use(ctx: Context) -> Any:
        ctx.state["s"] = value
        assert_exact(ctx.state["s"], value)
        ctx.update("u", lambda _: value, default=0)
        assert_exact(ctx.get("u"), value)
        return ctx.get("u")

    assert_exact(in_run(use), value)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("character", ["a", "é", "🧵"])
def test_a_string_of_100_mb_comes_back(ctx: Context, character: str, nested: bool) -> None:
    text = character * (100_000_000 // len(character.encode()))
    ctx.set("k", [text] if nested else text)
    got = ctx.get("k")
    assert (got[0] if nested else got) == text


def test_bytes_are_kept_by_reference(ctx: Context) -> None:
    blob = bytes(10_000)
    ctx.set("k", blob)
    assert ctx.get("k") is blob
    assert ctx.get_bytes("k") is blob


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"abcdef"),
        memoryview(bytearray(b"abcdef")),
        memoryview(b"abcdef")[::2],
        memoryview(b"abcdef")[::-1],
        memoryview(b""),
        memoryview(b"abcdef").cast("B", [2, 3]),
        memoryview(b"abcdefgh").cast("i"),
        memoryview(np.arange(12, dtype=np.int16).reshape(3, 4)[:, ::2]),
    ],
    ids=["bytes", "bytearray", "strided", "reversed", "empty", "2D", "int", "numpy strided"],
)
def test_a_memoryview_comes_back_as_bytes(ctx: Context, view: memoryview) -> None:
    ctx.set("k", view)
    assert_exact(ctx.get("k"), view.tobytes())
    ctx.set_bytes("k", view)
    assert_exact(ctx.get_bytes("k"), view.tobytes())


def test_a_memoryview_inside_of_another_value_is_an_error(ctx: Context) -> None:
    ctx.set("k", "old")
    with pytest.raises(UnstorableValue, match=r'key "k".*memoryview'):
        ctx.set("k", [memoryview(b"abc")])
    assert ctx.get("k") == "old"


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3),
        np.array([]),
        np.array(5),
        np.array([1.5, np.nan]),
        np.array(["a", "bc"]),
        np.array([{"a": 1}, None], dtype=object),
        np.array([(1, 2.0)], dtype=[("i", "i4"), ("f", "f8")]),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
    ],
    ids=["2D", "empty", "0D", "nan", "str", "object", "record", "fortran"],
)
def test_a_numpy_array_comes_back_with_its_type_and_shape(ctx: Context, array: Any) -> None:
    ctx.set("k", array)
    got = ctx.get("k")
    assert (type(got), got.dtype, got.shape) == (type(array), array.dtype, array.shape)
    np.testing.assert_array_equal(got, array)


def test_attributes_of_a_subclass_come_back(ctx: Context) -> None:
    value = MyDict(a=1)
    value.extra = [1]
    counting = collections.defaultdict(int, a=1)
    recent = collections.deque([1, 2, 3], maxlen=3)
    ctx.set("k", [value, counting, recent])
    got_value, got_counting, got_recent = ctx.get("k")
    assert got_value.extra == [1]
    assert got_counting.default_factory is int
    assert got_recent.maxlen == 3


def test_an_object_that_two_places_share_is_still_shared_in_an_opaque_value(ctx: Context) -> None:
    shared = [1]
    ctx.set("k", (shared, shared))
    left, right = ctx.get("k")
    assert left is right


def unstorable_objects() -> list[Any]:
    class Local:
        pass

    def local() -> None: ...

    return [Local(), Local, local, lambda: None, (n for n in ()), sys, open(__file__, "rb")]


@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"k": (v,)}])
def test_what_cannot_be_pickled_is_an_error_with_three_names(
    ctx: Context, wrap: Callable[[Any], Any]
) -> None:
    objects = unstorable_objects()
    for value in objects:
        value = wrap(value)
        ctx.set("the key", ["old"])
        with pytest.raises(TypeError) as caught:
            ctx.set("the key", value)
        assert isinstance(caught.value, TreadleError)
        text = str(caught.value)
        assert '"the key"' in text
        assert type(value).__qualname__ in text
        assert "ctx.session" in text
        assert caught.value.__cause__ is not None
        assert ctx.get("the key") == ["old"]
    objects[-1].close()


def test_a_context_is_not_a_value(ctx: Context) -> None:
    with pytest.raises(UnstorableValue, match="Context"):
        ctx.set("k", ctx)
    assert "k" not in ctx


def test_an_event_can_be_a_value(ctx: Context) -> None:
    ctx.set("k", StopEvent(result=[1]))
    assert_exact(ctx.get("k"), StopEvent(result=[1]))

"""Values, and a process that tells their digests: each has a hash seed of its own."""

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import os
import pathlib
import pickle
import subprocess
import sys
import types
import uuid
import zoneinfo
from typing import Any, ClassVar, NamedTuple

import attrs
import msgspec
import pydantic

from treadle import Event, StartEvent
from treadle._treadle import Journal

HERE = pathlib.Path(__file__).parent


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Parcel:
    weight: int
    tags: set[str]
    made: float = dataclasses.field(default=0.0, compare=False)
    unit: ClassVar[str] = "kg"


@dataclasses.dataclass(slots=True, frozen=True)
class SlottedParcel:
    weight: int
    tags: frozenset[str]


class Model(pydantic.BaseModel):
    name: str = "none"
    tags: set[str] = set()
    _seen: int = pydantic.PrivateAttr(default=0)


class OpenModel(pydantic.BaseModel, extra="allow"):
    name: str


@attrs.define
class Attrs:
    name: str
    tags: set[str]
    made: float = attrs.field(default=0.0, eq=False)


class Struct(msgspec.Struct):
    name: str
    tags: set[str]


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("one", "other")

    def __init__(self, one: Any, other: Any) -> None:
        self.one, self.other = one, other


class Names(set[str]):
    pass


class Table(dict[str, Any]):
    pass


class Reduced:
    """Makes itself again from its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cache = object()

    def __reduce__(self) -> tuple[Any, ...]:
        return Reduced, (self.name,)


class Ordered(Event):
    number: int
    tags: set[str]
    made: float = dataclasses.field(default=0.0, compare=False)


def digest(value: object) -> str:
    """Return the digest of a value as an input's field."""
    return Journal.input(StartEvent(value=value)).hex()


class Teller:
    """A process that tells the digests of pickled values."""

    def __init__(self, hash_seed: int | str) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-c", "import digest_values; digest_values.tell()"],
            cwd=HERE,
            env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def digest(self, value: object) -> str:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(pickle.dumps(value).hex().encode() + b"\n")
        self._popen.stdin.flush()
        return self._popen.stdout.readline().decode().strip()

    def close(self) -> None:
        self._popen.communicate(timeout=20)


def tell() -> None:
    for line in sys.stdin:
        print(digest(pickle.loads(bytes.fromhex(line))), flush=True)


def _cyclic() -> list[Any]:
    cyclic: list[Any] = [1]
    cyclic.append(cyclic)
    return cyclic


_WHEN = datetime.datetime(2024, 2, 29, 12, 30, 15, 42, fold=1)

# Every value is of other content or of another type than each other one.
DIFFERENT: dict[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "one": 1,
    "minus one": -1,
    "127": 127,
    "128": 128,
    "255": 255,
    "-128": -128,
    "-129": -129,
    "2**63": 2**63,
    "-2**63": -(2**63),
    "2**64": 2**64,
    "huge": 7**5000,
    "float one": 1.0,
    "float zero": 0.0,
    "nan": float("nan"),
    "inf": float("inf"),
    "complex": 1 + 2j,
    "no text": "",
    "text": "käse",
    "long text": "k" * 100,
    "longer text": "k" * 101,
    "surrogate": "\ud800",
    "no bytes": b"",
    "bytes": b"bytes",
    "text of the bytes": "bytes",
    "bytearray": bytearray(b"bytes"),
    "no list": [],
    "list": [1, 2],
    "list backwards": [2, 1],
    "lists": [[1], [2]],
    "lists otherwise": [[1, [2]]],
    "no tuple": (),
    "tuple": (1, 2),
    "no dict": {},
    "dict": {"a": 1, "b": 2},
    "dict across": {"a": 2, "b": 1},
    "dict of ints": {1: "a"},
    "items of the dict": [("a", 1), ("b", 2)],
    "no set": set(),
    "set": {"a", "b", "c"},
    "frozenset": frozenset("abc"),
    "set of sets": {frozenset("ab"), frozenset("cd")},
    "set of ints": {1, 2, 3},
    "set subclass": Names("abc"),
    "dict subclass": Table(a=1, b=2),
    "cyclic": _cyclic(),
    "member": Colour.RED,
    "other member": Colour.GREEN,
    "int member": Level.LOW,
    "flags": Access.READ | Access.WRITE,
    "flag": Access.READ,
    "named tuple": Point(1, 2),
    "dataclass": Parcel(1, {"a", "b"}),
    "other dataclass": Parcel(2, {"a", "b"}),
    "slotted dataclass": SlottedParcel(1, frozenset("ab")),
    "pydantic": Model(name="a", tags={"x", "y"}),
    "pydantic with more": OpenModel.model_validate({"name": "a", "size": 1}),
    "attrs": Attrs("a", {"x", "y"}),
    "msgspec": Struct("a", {"x", "y"}),
    "object": Plain(one=1, tags={"x", "y"}),
    "object with slots": Slotted(1, {"x", "y"}),
    "reduced": Reduced("a"),
    "event": Ordered(number=1, tags={"x", "y"}),
    "event with other fields": StartEvent(a=1, b=2),
    "decimal": decimal.Decimal("1.50"),
    "decimal one": decimal.Decimal(1),
    "decimal nan": decimal.Decimal("nan"),
    "fraction": fractions.Fraction(1, 3),
    "datetime": _WHEN,
    "datetime unfolded": _WHEN.replace(fold=0),
    "datetime in UTC": _WHEN.replace(tzinfo=datetime.UTC),
    "datetime at an offset": _WHEN.replace(
        tzinfo=datetime.timezone(datetime.timedelta(hours=1), "there")
    ),
    "datetime in a zone": _WHEN.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
    "date": _WHEN.date(),
    "time": _WHEN.time(),
    "timedelta": datetime.timedelta(days=1, seconds=2, microseconds=3),
    "uuid": uuid.UUID(int=7),
    "path": pathlib.PurePosixPath("/a/b"),
    "windows path": pathlib.PureWindowsPath("/a/b"),
    "path here": pathlib.Path("a/b"),
    "deque": collections.deque([1, 2], maxlen=3),
    "counter": collections.Counter("aab"),
    "default dict": collections.defaultdict(list, a=[1]),
    "ordered dict": collections.OrderedDict(a=1, b=2),
    "ordered dict backwards": collections.OrderedDict(b=2, a=1),
    "range": range(3),
    "slice": slice(1, 2),
    "namespace": types.SimpleNamespace(a=1, b=2),
    "ellipsis": ...,
    "class": int,
    "own class": Plain,
    "function": digest,
    "builtin function": len,
    "method of a class": dict.fromkeys,
    "exception": ValueError("a", 1),
}

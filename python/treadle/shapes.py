"""What the digest of an object is made of, found once for each class."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # The kind, the name that stands for the class (empty: its own), and the names of fields.
    Shape = tuple[str, str, tuple[str, ...]]

_BUILTIN = (int, float, complex, str, bytes, bytearray, list, tuple, dict, BaseException, type)

# Classes of the standard library whose pickles differ between versions of Python.
_STANDARD = {
    ("fractions", "Fraction"): ("numerator", "denominator"),
    ("uuid", "UUID"): ("int",),
    ("zoneinfo", "ZoneInfo"): ("key",),
}
_PATHS = ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath")


def shape(cls: type) -> "Shape":
    """Return what the digest of an object of this class is made of.

    The kinds are "vars" (all attributes but the named ones), "fields" (the named attributes),
    "model" (those, and what a pydantic model has besides), "member" (of an enum, by its name),
    "flag" (by its value), "decimal", "set", "frozenset", "ordered" and "rebuilt" (by what pickle
    would make the object of again; "ordered" if the order of its items counts).
    """
    from .events import is_stored_by_field

    if is_stored_by_field(cls):
        return "vars", "", _uncompared(cls)
    if issubclass(cls, (set, frozenset)):
        return "set" if issubclass(cls, set) else "frozenset", "", ()
    enum = _enum_kind(cls)
    if enum:
        return enum, "", ()
    standard = _standard(cls)
    if standard is not None:
        return standard
    if issubclass(cls, _BUILTIN):
        return "ordered" if _is_ordered_dict(cls) else "rebuilt", "", ()
    return _model(cls) or ("rebuilt", "", ())


def _model(cls: "Any") -> "Shape | None":
    if hasattr(cls, "__pydantic_private__"):
        return "model", "", tuple(_pydantic_fields(cls))
    if hasattr(cls, "__dataclass_fields__"):
        from dataclasses import fields

        return "fields", "", tuple(field.name for field in fields(cls) if field.compare)
    if hasattr(cls, "__attrs_attrs__"):
        return "fields", "", tuple(field.name for field in cls.__attrs_attrs__ if field.eq)
    if hasattr(cls, "__struct_fields__"):
        return "fields", "", tuple(cls.__struct_fields__)
    return None


def _pydantic_fields(cls: "Any") -> "Any":
    # Before pydantic 2.10 a class has them under its public name alone.
    fields = getattr(cls, "__pydantic_fields__", None)
    return cls.model_fields if fields is None else fields


def _uncompared(cls: type) -> "tuple[str, ...]":
    """Return the fields that two equal events may differ in."""
    fields = getattr(cls, "__dataclass_fields__", {})
    return tuple(name for name, field in fields.items() if not field.compare)


def _enum_kind(cls: type) -> str:
    # Where there is a member of an enum, the module was imported.
    from enum import Enum, Flag

    if not issubclass(cls, Enum):
        return ""
    return "flag" if issubclass(cls, Flag) else "member"


def _standard(cls: type) -> "Shape | None":
    module, name = cls.__module__, cls.__qualname__
    if (module, name) == ("decimal", "Decimal"):
        return "decimal", "", ()
    if module in ("pathlib", "pathlib._local") and name in _PATHS:
        return "fields", f"pathlib:{name}", ("parts",)
    fields = _STANDARD.get((module, name))
    return None if fields is None else ("fields", "", fields)


def _is_ordered_dict(cls: type) -> bool:
    from collections import OrderedDict

    return issubclass(cls, OrderedDict)


def decimal_text(number: "Any") -> str:
    """Return a text that is the same for equal decimal numbers."""
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        return str(number)
    text = "".join(map(str, digits)).lstrip("0")
    if not text:
        return "0"
    short = text.rstrip("0")
    return f"{'-' if sign else ''}{short}e{exponent + len(text) - len(short)}"

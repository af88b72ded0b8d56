"""What a fork changes of the run that it comes from, checked against the classes of its events."""

import collections.abc
import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from ..events import Event, StartEvent

# The events that are pending where the fork begins, by delivery: step, class, names of fields.
Pending = dict[int, tuple[str | None, str, list[str] | None]]
Edits = tuple[dict[str, Any], list[str], dict[int, Any]]


def given(
    events: Mapping[int, Any] | None, state: Mapping[str, Any] | None, remove: Iterable[str]
) -> Edits | None:
    """Return the edits as they were given, if there are any.

    Raises:
        TypeError, ValueError: they are none, whatever the run.
    """
    keys, deliveries = dict(state or {}), dict(events or {})
    if isinstance(remove, str):
        raise TypeError(f"remove: a list of keys expected, not {remove!r}")
    removed = list(dict.fromkeys(remove))
    if both := [key for key in removed if key in keys]:
        raise ValueError(f"fork: the key {both[0]!r} is both set and removed")
    for delivery, edit in deliveries.items():
        if isinstance(delivery, bool) or not isinstance(delivery, int) or delivery < 0:
            raise TypeError(f"events: the number of a delivery expected, not {delivery!r}")
        if not isinstance(edit, (Event, Mapping)):
            raise TypeError(
                f"events: an event, or a dict of fields, expected for delivery {delivery}, "
                f"not {edit!r}"
            )
    return (keys, removed, deliveries) if keys or removed or deliveries else None


def checked(edits: Edits, pending: Pending, classes: Mapping[str, type]) -> Edits:
    """Check the fields of events against their classes, as far as these are known here.

    Raises:
        TypeError: a class has no such field, or its value is of another type.
    """
    keys, removed, deliveries = edits
    events: dict[int, Any] = {}
    for delivery, edit in deliveries.items():
        known = pending.get(delivery)
        cls = None if known is None else classes.get(known[1])
        if cls is not None:
            _check(delivery, cls, vars(edit) if isinstance(edit, Event) else edit)
        events[delivery] = edit if isinstance(edit, Event) else dict(edit)
    return keys, removed, events


def _check(delivery: int, cls: type, fields: Mapping[str, Any]) -> None:
    if not dataclasses.is_dataclass(cls):
        # It takes any fields, or says itself which.
        return
    known = {field.name for field in dataclasses.fields(cls)}
    try:
        hints = typing.get_type_hints(cls)
    except Exception:
        # Annotations that only a type checker can resolve: the names are all that is known.
        hints = {}
    for name, value in fields.items():
        if name not in known and not _takes_any(cls):
            names = ", ".join(sorted(known)) or "none"
            raise TypeError(
                f"events: {cls.__name__}, the event of delivery {delivery}, has no field {name!r}; "
                f"its fields are: {names}"
            )
        if name in hints and not fits(value, hints[name]):
            raise TypeError(
                f"events: {cls.__name__}.{name} of delivery {delivery} is {_shown(hints[name])}, "
                f"not {value!r}"
            )


def _takes_any(cls: type) -> bool:
    return cls is StartEvent


def fits(value: Any, hint: Any) -> bool:
    """Tell whether a value may be of an annotated type. What is not understood fits."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(hint, type) and origin is None:
        return isinstance(value, hint) if _is_plain(hint) else True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inside)
    if origin is typing.Literal:
        return any(value == one and type(value) is type(one) for one in inside)
    if origin is typing.Annotated:
        return fits(value, inside[0])
    if origin in (list, set, frozenset, collections.abc.Sequence) and inside:
        is_list = isinstance(value, origin) and not isinstance(value, (str, bytes))
        return is_list and all(fits(one, inside[0]) for one in value)
    if origin in (dict, collections.abc.Mapping) and inside:
        return isinstance(value, origin) and all(
            fits(key, inside[0]) and fits(one, inside[1]) for key, one in value.items()
        )
    if origin is tuple and inside:
        return isinstance(value, tuple) and _fits_tuple(value, inside)
    return True


def _fits_tuple(value: tuple[Any, ...], inside: tuple[Any, ...]) -> bool:
    if len(inside) == 2 and inside[1] is Ellipsis:
        return all(fits(one, inside[0]) for one in value)
    pairs = zip(value, inside, strict=False)
    return len(value) == len(inside) and all(fits(one, hint) for one, hint in pairs)


def _is_plain(cls: type) -> bool:
    # What a protocol or a metaclass says an instance is may be anything.
    return type(cls) in (type, type(collections.abc.Sized)) and not getattr(
        cls, "_is_protocol", False
    )


def _shown(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)

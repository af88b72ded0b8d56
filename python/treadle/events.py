"""Events: typed messages between steps."""

from .lazy_annotations import annotations_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import field
    from typing import Any, dataclass_transform
else:
    field = None

    def dataclass_transform(**_):
        return lambda cls: cls


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class Event:
    """A message from one step to others. A subclass declares its fields as a dataclass does.

    Events are made by keyword; a missing or an unknown field is a `TypeError`. Defaults,
    `dataclasses.field`, `ClassVar` and `__post_init__` mean what they mean in a dataclass.

    >>> class Page(Event):
    ...     url: str
    ...     size: int = 0
    >>> Page(url="https://example.org")
    Page(url='https://example.org', size=0)
    """

    def __init_subclass__(cls, **options: "Any") -> None:
        super().__init_subclass__(**options)
        # A class without fields of its own needs nothing made for it.
        if annotations_of(cls):
            from dataclasses import dataclass

            dataclass(kw_only=True, init="__init__" not in cls.__dict__)(cls)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__qualname__}({fields})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


class StartEvent(Event):
    """The first event of a run. Takes any fields, unless a subclass declares them.

    >>> StartEvent(url="https://example.org").url
    'https://example.org'
    """

    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None: ...

        def __getattr__(self, name: str) -> Any: ...
    else:

        def __init__(self, /, **fields):
            self.__dict__.update(fields)


class StopEvent(Event):
    """Ends the run. `result` is the result of the run.

    For a subclass, which declares its own fields, the result is the event itself.
    """

    if TYPE_CHECKING:
        # Not a field, so that subclasses do not take it.
        result: Any = field(init=False)

        def __init__(self, *, result: Any = None) -> None: ...
    else:

        def __init__(self, *, result=None):
            self.result = result


class Lagged(Event):
    """In a stream: the number of events that the reader missed; they are no longer kept."""

    if TYPE_CHECKING:
        missed: int
    else:

        def __init__(self, *, missed):
            self.missed = missed


class StepFailed(Event):
    """A step has failed in all its attempts: the event for a step that handles failures.

    A step that accepts it gets the failures of every step without `@step(on_error=...)`. If such a
    step fails itself, the run fails.

    `started_at` is when the first attempt began, and `failed_at` when the last one failed, in
    seconds since the Unix epoch; `None` if it is not known.
    """

    if not TYPE_CHECKING:
        # An event that an earlier version stored has none.
        started_at = None
        failed_at = None

    if TYPE_CHECKING:
        step: str
        event: Any
        error: BaseException
        attempts: int
        started_at: float | None = None
        failed_at: float | None = None
    else:

        def __init__(self, *, step, event, error, attempts, started_at=None, failed_at=None):
            self.started_at = started_at
            self.failed_at = failed_at
            self.step = step
            self.event = event
            self.error = error
            self.attempts = attempts


def is_stored_by_field(cls: type) -> bool:
    """Tell whether the fields of an event are all that there is of it.

    Then each is stored as a value of its own. Any other event is pickled whole.
    """
    if not issubclass(cls, Event) or getattr(cls, "__dictoffset__", 0) == 0:
        return False
    hooks = ("__reduce__", "__reduce_ex__", "__getstate__")
    if any(getattr(cls, hook) is not getattr(object, hook) for hook in hooks):
        return False
    if hasattr(cls, "__setstate__") or hasattr(cls, "__getnewargs__"):
        return False
    return not hasattr(cls, "__getnewargs_ex__") and not any(
        vars(base).get("__slots__") for base in cls.__mro__ if base is not object
    )


def restored(cls: type, fields: "dict[str, Any]") -> object:
    """Make an event of its stored fields, without calling its `__init__`.

    A field that the class has got since is given its default.

    Raises:
        IncompatibleSnapshot: a field that the class has got since has no default.
    """
    event: object = object.__new__(cls)
    vars(event).update(fields)
    for name, field in getattr(cls, "__dataclass_fields__", {}).items():
        if name not in fields:
            vars(event)[name] = _default(cls, name, field)
    return event


def _default(cls: type, name: str, field: "Any") -> "Any":
    from dataclasses import MISSING

    from .exceptions import IncompatibleSnapshot

    if field.default is not MISSING:
        return field.default
    if field.default_factory is not MISSING:
        return field.default_factory()
    raise IncompatibleSnapshot(
        [f"event {cls.__qualname__}: it has no field {name!r}, and the class has no default for it"]
    )


def has_fields(fields: "dict[str, Any]") -> "Callable[[object], bool]":
    """Return a test of whether an event has all of these fields with these values."""
    missing = object()

    def matches(event: object) -> bool:
        return all(getattr(event, name, missing) == value for name, value in fields.items())

    return matches

"""What a run is started with beside its first event: limits of its own, and its first state."""

from . import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from typing import Any

    Options = tuple[float | None, float | None, dict[str, Any] | None]


class NotGiven:
    """Stands for an argument that was not given, where `None` is one."""

    def __repr__(self) -> str:
        return "<not given>"


NOT_GIVEN: "Any" = NotGiven()


def options_of(
    timeout: "float | timedelta | None" = NOT_GIVEN,
    deadline: "float | timedelta | None" = NOT_GIVEN,
    state: "Mapping[str, Any] | None" = NOT_GIVEN,
) -> "Options | None":
    """Return what `Plan.start` takes, checked; `None` if nothing was given.

    Raises:
        TypeError, ValueError: an option is of a wrong type or out of range.
    """
    if timeout is NOT_GIVEN and deadline is NOT_GIVEN and state is NOT_GIVEN:
        return None
    return _time("timeout", timeout), _time("deadline", deadline), _pairs(state)


def check_names(start_class: "type | None", **options: "Any") -> None:
    """Raise if an option that was given is a field of the start event as well.

    Raises:
        TypeError: it is: which of them is meant is not clear.
    """
    given = [name for name, value in options.items() if value is not NOT_GIVEN]
    if not given or start_class is None:
        return
    fields = _fields(start_class)
    for name in given:
        if name in fields:
            raise TypeError(
                f"run(): {name!r} is an option of run() and a field of the start event "
                f"{start_class.__name__}; give the event itself: "
                f"run({start_class.__name__}({name}=...))"
            )


def _time(name: str, value: "float | timedelta | None") -> float | None:
    return None if value is NOT_GIVEN or value is None else checks.duration(name, value)


def _pairs(state: "Mapping[str, Any] | None") -> "dict[str, Any] | None":
    if state is NOT_GIVEN or state is None:
        return None
    from collections.abc import Mapping

    if not isinstance(state, Mapping):
        raise TypeError(f"state: a mapping of keys and values expected, not {state!r}")
    return dict(state)


def _fields(cls: type) -> set[str]:
    """Return the names that a class takes by keyword; what it takes as `**fields` has none."""
    import inspect

    try:
        parameters = inspect.signature(cls).parameters.values()
    except (TypeError, ValueError):
        return set()
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {one.name for one in parameters if one.kind not in kinds}

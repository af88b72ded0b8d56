"""Children: runs that a step starts, and which a body that runs again finds."""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from . import checks
from .starting import NOT_GIVEN, options_of
from .stored_errors import fields_of, from_fields
from .workflow import Workflow

if TYPE_CHECKING:
    from ._treadle import ChildRun, Context

MAX_DEPTH = 100

# More than any family has, and what the core counts with.
_DEEPEST = 2**31


def run_in(
    context: "Context",
    workflow: Workflow,
    event: object = None,
    /,
    *,
    key: str | None = None,
    on_parent_end: Literal["cancel", "detach"] = "cancel",
    max_depth: int = MAX_DEPTH,
    timeout: float | timedelta | None = NOT_GIVEN,
    deadline: float | timedelta | None = NOT_GIVEN,
    state: Mapping[str, Any] | None = NOT_GIVEN,
    **fields: Any,
) -> "ChildRun":
    """Start a run of a workflow as a child, or find it again: see `Context.run`."""
    if not isinstance(workflow, Workflow):
        raise TypeError(f"ctx.run: a workflow expected, not {workflow!r}")
    if key is not None and not isinstance(key, str):
        raise TypeError(f"key: a str expected, not {key!r}")
    if on_parent_end not in ("cancel", "detach"):
        raise ValueError(f"on_parent_end: 'cancel' or 'detach' expected, not {on_parent_end!r}")
    if max_depth is not MAX_DEPTH:
        max_depth = min(checks.whole("max_depth", max_depth), _DEEPEST)
    options = options_of(timeout, deadline, state)
    named = None
    if event is None:
        named = {
            "key": NOT_GIVEN if key is None else key,
            "on_parent_end": NOT_GIVEN if on_parent_end == "cancel" else on_parent_end,
            "max_depth": NOT_GIVEN if max_depth == MAX_DEPTH else max_depth,
            "timeout": timeout,
            "deadline": deadline,
            "state": state,
        }
    first = workflow._first_event(event, fields, named)
    detaches = on_parent_end == "detach"
    return context._run_child(workflow, first, key, detaches, max_depth, options)


def fields_of_failure(error: BaseException) -> dict[str, Any]:
    """Return what a parent keeps of the exception of a child."""
    return {"class": type(error).__qualname__, **fields_of(error)}


def failure_from_fields(fields: dict[str, Any]) -> BaseException:
    """Return the exception of a child from what its parent keeps of it."""
    return from_fields(fields["class"], fields)

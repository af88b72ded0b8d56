"""What a callable is: the function behind it, its name, its kind and its annotations."""

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from types import FrameType
from typing import Any

from .lazy_annotations import annotations_of
from .steps import local_names


class Problem(Exception):
    """Something is wrong with a step, or with a resource that one asks for."""


def inner_function(function: Any) -> Any:
    """Return the plain function whose annotations and code count."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, types.MethodType):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif isinstance(function, types.FunctionType):
            return function
        elif isinstance(call := getattr(type(function), "__call__", None), types.FunctionType):  # noqa: B004
            return call
        else:
            raise Problem(f"{function!r} is not a function, and has no annotations to read")


def name_of(function: Any) -> str:
    """Return the name of a function, behind `functools.partial`, or of an object's class."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", None)
    return str(name if name is not None else type(function).__name__)


def kind_of(function: Any) -> str:
    """Say whether it is a "coroutine", "generator" or "asynchronous generator" or "function"."""
    outer = function
    while isinstance(outer, functools.partial):
        outer = outer.func
    if not inspect.isroutine(outer):
        outer = type(outer).__call__
    if inspect.iscoroutinefunction(outer):
        return "coroutine"
    if inspect.isasyncgenfunction(outer):
        return "asynchronous generator"
    if inspect.isgeneratorfunction(outer):
        return "generator"
    return "function"


def bound_by_partial(function: Any) -> set[str]:
    """Return the names of the parameters that `functools.partial` gives by keyword."""
    bound: set[str] = set()
    while isinstance(function, functools.partial):
        bound.update(function.keywords)
        function = function.func
    return bound


def names_around(
    inner: Any, frame: FrameType | None, known: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the local names that the annotations of a function may use.

    Those are the names of the functions that enclose it and are on the stack, `known` ones, and
    those of its closure.
    """
    names = dict(local_names(inner, frame))
    names.update(known or {})
    closure = getattr(inner, "__closure__", None) or ()
    for name, cell in zip(inner.__code__.co_freevars, closure, strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:
            continue
    return names


def parameter_hints(function: Callable[..., Any], names: Iterable[str]) -> dict[str, Any]:
    """Resolve the annotations of some parameters; those of others may be unresolvable."""
    init = getattr(function, "__init__", None) if isinstance(function, type) else None
    inner = inner_function(init or function)

    def holder() -> None: ...

    annotations = annotations_of(inner)
    holder.__annotations__ = {name: annotations[name] for name in names if name in annotations}
    return typing.get_type_hints(
        holder,
        globalns=getattr(inner, "__globals__", {}),
        localns=names_around(inner, sys._getframe(1)),
        include_extras=True,
    )

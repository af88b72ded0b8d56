"""What the annotations of a step say: which events it accepts, which it emits, how it is called."""

import collections.abc
import functools
import inspect
import sys
import types
import typing
from typing import Any

from . import bodies
from ._treadle import Context
from .events import Event, StartEvent, StopEvent
from .steps import MARK, StepOptions, local_names


class Problem(Exception):
    """Something is wrong with one step."""


class StepInfo:
    """One step, as its function, its annotations and its options describe it."""

    def __init__(self, function: Any) -> None:
        options: StepOptions | None = getattr(function, MARK, None)
        label = getattr(function, "__name__", None) or repr(function)
        if options is None:
            raise Problem(f"{label!r} is not a step; decorate it with @step")
        self.function = function
        self.options = options
        self.name = options.name or _name(function)
        self._hints = self._resolve()
        self.context_first, self.takes_context, event = self._parameters()
        self.accepts = self._accepted(event)
        self.emits = _emitted(self._hints.get("return", inspect.Parameter.empty))

    def _resolve(self) -> dict[str, Any]:
        inner = _inner(self.function)
        names = dict(local_names(inner, sys._getframe(1)))
        names.update(self.options.namespace)
        closure = getattr(inner, "__closure__", None) or ()
        for name, cell in zip(inner.__code__.co_freevars, closure, strict=False):
            try:
                names[name] = cell.cell_contents
            except ValueError:
                continue
        try:
            return typing.get_type_hints(inner, localns=names, include_extras=True)
        except NameError as error:
            raise Problem(
                f"step {self.name!r}: annotation {error.name!r} cannot be resolved; is it defined "
                f"where the step or the workflow is made?"
            ) from None
        except Exception as error:
            raise Problem(
                f"step {self.name!r}: its annotations cannot be resolved: {error}"
            ) from error

    def _parameters(self) -> tuple[bool, bool, inspect.Parameter]:
        self._check_self()
        parameters = [
            parameter
            for parameter in inspect.signature(self.function).parameters.values()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
        for parameter in parameters:
            if parameter.name not in self._hints:
                raise Problem(
                    f"step {self.name!r}: parameter {parameter.name!r} has no annotation; annotate "
                    f"it with Context or with the class of the events that the step accepts"
                )
        contexts = [p for p in parameters if _is_context(self._hints[p.name])]
        events = [p for p in parameters if p not in contexts]
        if len(events) != 1 or len(contexts) > 1:
            raise Problem(
                f"step {self.name!r}: one parameter for the event expected, and at most one for "
                f"the Context; it has {_listed([p.name for p in parameters])}"
            )
        self._by_keyword = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        context_first = bool(contexts) and parameters.index(contexts[0]) == 0
        self._names = [p.name for p in parameters]
        return context_first, bool(contexts), events[0]

    def _check_self(self) -> None:
        if not isinstance(self.function, types.MethodType):
            return
        first = next(iter(inspect.signature(self.function.__func__).parameters.values()), None)
        if first is not None and first.name in self._hints:
            raise Problem(
                f"step {self.name!r}: its first parameter {first.name!r} gets the workflow itself; "
                f"a method takes self first"
            )

    def _accepted(self, parameter: inspect.Parameter) -> list[type]:
        classes = _classes(self._hints[parameter.name])
        if classes is None:
            raise Problem(
                f"step {self.name!r}: the annotation of {parameter.name!r} is not a class or a "
                f"union of classes: {self._hints[parameter.name]!r}"
            )
        classes = [cls for cls in classes if cls is not types.NoneType]
        if not classes:
            raise Problem(f"step {self.name!r}: {parameter.name!r} accepts nothing")
        for cls in classes:
            if issubclass(cls, StopEvent):
                raise Problem(f"step {self.name!r}: a {cls.__name__} ends the run; no step gets it")
        return list(dict.fromkeys(classes))

    def description(self) -> dict[str, Any]:
        """Return the step as the compiled plan takes it."""
        function, arguments, awaitable = self._body()
        options = self.options
        return {
            "name": self.name,
            "function": function,
            "arguments": arguments,
            "awaitable": awaitable,
            "accepts": self.accepts,
            "concurrency": options.concurrency,
            "timeout": None if options.timeout is None else float(options.timeout),
            "external": options.external,
        }

    def _body(self) -> tuple[Any, str, bool]:
        kind = _kind(self.function)
        if kind == "coroutine" or (kind == "function" and self.options.inline):
            awaitable = kind == "coroutine"
            if self._by_keyword:
                return self._call_with_both(), "context, event", awaitable
            return self.function, self._arguments(), awaitable
        if self.options.inline:
            raise Problem(f"step {self.name!r}: inline is for a plain function, not for a {kind}")
        call = self._call_with_both()
        if kind == "asynchronous generator":
            return bodies.from_async_generator(call), "context, event", True
        if kind == "generator":
            return bodies.from_generator(call), "context, event", True
        return bodies.in_thread(call), "context, event", True

    def _arguments(self) -> str:
        if not self.takes_context:
            return "event"
        return "context, event" if self.context_first else "event, context"

    def _call_with_both(self) -> Any:
        """Return a function of context and event, whatever the step's own function takes."""
        function, arguments = self.function, self._arguments()
        if self._by_keyword:
            order = arguments.split(", ")

            def by_keyword(context: Context, event: Any) -> Any:
                values = {"context": context, "event": event}
                positional = [
                    values[what]
                    for what, name in zip(order, self._names, strict=True)
                    if name not in self._by_keyword
                ]
                keywords = {
                    name: values[what]
                    for what, name in zip(order, self._names, strict=True)
                    if name in self._by_keyword
                }
                return function(*positional, **keywords)

            return by_keyword
        if arguments == "event":
            return lambda context, event: function(event)
        if arguments == "event, context":
            return lambda context, event: function(event, context)
        return function


def _inner(function: Any) -> Any:
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


def _name(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", None)
    return str(name if name is not None else type(function).__name__)


def _kind(function: Any) -> str:
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


def _is_context(annotation: Any) -> bool:
    return annotation is Context or (
        typing.get_origin(annotation) is typing.Annotated
        and typing.get_args(annotation)[0] is Context
    )


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


def _classes(annotation: Any) -> list[type] | None:
    """Flatten a class or a union of classes; `None` if it is anything else."""
    if annotation is Any:
        return [object]
    if annotation is None:
        return [types.NoneType]
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _classes(typing.get_args(annotation)[0])
    if origin is typing.Union or origin is types.UnionType:
        members = [_classes(member) for member in typing.get_args(annotation)]
        if any(member is None for member in members):
            return None
        return [cls for member in members if member is not None for cls in member]
    if isinstance(annotation, typing.TypeVar):
        if annotation.__constraints__:
            return _classes(typing.Union[annotation.__constraints__])  # noqa: UP007
        return _classes(annotation.__bound__) if annotation.__bound__ is not None else [object]
    if isinstance(origin, type) and origin not in _SEVERAL:
        # A generic class of events: instances do not know their arguments.
        return [origin]
    return [annotation] if isinstance(annotation, type) and origin is None else None


_SEVERAL = (
    list,
    collections.abc.Sequence,
    collections.abc.Iterable,
    collections.abc.Iterator,
    collections.abc.Generator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncIterator,
    collections.abc.AsyncGenerator,
)


def _emitted(annotation: Any) -> list[type] | None:
    """Flatten a return annotation to classes of events; `None` if it does not tell."""
    if annotation in (typing.NoReturn, typing.Never):
        return []
    origin = typing.get_origin(annotation)
    if annotation in _SEVERAL:
        return None
    if origin in _SEVERAL:
        arguments = typing.get_args(annotation)
        return _emitted(arguments[0]) if arguments else None
    if origin is typing.Union or origin is types.UnionType:
        members = [_emitted(member) for member in typing.get_args(annotation)]
        if any(member is None for member in members):
            return None
        return [cls for member in members if member is not None for cls in member]
    if annotation is inspect.Parameter.empty:
        return None
    classes = _classes(annotation)
    # A step that says no more than `Event` may emit any; so may one that returns nothing at all and
    # sends by hand, but that is for the whole graph to judge.
    if classes is None or any(cls in (object, Event, StartEvent) for cls in classes):
        return None
    return [cls for cls in classes if cls is not types.NoneType]

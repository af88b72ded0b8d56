"""What the annotations of a step say: which events it accepts, which it emits, how it is called."""

import collections.abc
import inspect
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

from . import bodies
from ._treadle import Context
from .events import Event, StartEvent, StepFailed, StopEvent
from .providers import Provider, Providers, resource_in
from .signatures import (
    Problem,
    bound_by_partial,
    inner_function,
    kind_of,
    name_of,
    names_around,
)
from .steps import MARK, StepOptions


class StepInfo:
    """One step, as its function, its annotations and its options describe it."""

    def __init__(self, function: Any, providers: Providers) -> None:
        options: StepOptions | None = getattr(function, MARK, None)
        label = getattr(function, "__name__", None) or repr(function)
        if options is None:
            raise Problem(f"{label!r} is not a step; decorate it with @step")
        self.function = function
        self.options = options
        self.name = options.name or name_of(function)
        self._hints = self._resolve()
        self._providers = self._resources(providers)
        self.context_first, self.takes_context, event = self._parameters()
        self.accepts = self._accepted(event)
        returned = self._hints.get("return", inspect.Parameter.empty)
        self.emits = _emitted(returned)
        self.emits_several = _is_several(returned)

    def _resolve(self) -> dict[str, Any]:
        inner = inner_function(self.function)
        names = names_around(inner, sys._getframe(1), self.options.namespace)
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

    def _resources(self, providers: Providers) -> dict[str, Provider]:
        self._wanted: set[str] = set()
        found = {}
        bound = bound_by_partial(self.function)
        for parameter in inspect.signature(self.function).parameters.values():
            where = f"step {self.name!r}: parameter {parameter.name!r}"
            resource = resource_in(self._hints.get(parameter.name), where)
            if resource is None or parameter.name in bound:
                continue
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise Problem(f"{where} is positional only; a resource is given by keyword")
            self._wanted.add(parameter.name)
            provider = providers.provider(resource)
            if provider is not None:
                found[parameter.name] = provider
        return found

    def _parameters(self) -> tuple[bool, bool, inspect.Parameter]:
        self._check_self()
        parameters = [
            parameter
            for parameter in inspect.signature(self.function).parameters.values()
            if parameter.default is parameter.empty
            and parameter.name not in self._wanted
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
        self._by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
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

    @property
    def takes_failures(self) -> bool:
        """Whether the step deals with failures of other steps."""
        return StepFailed in self.accepts

    @property
    def may_take_failures(self) -> bool:
        """Whether it may be given a `StepFailed`: as any event, if it accepts any."""
        return any(issubclass(StepFailed, cls) for cls in self.accepts)

    def is_named_by(self, wanted: Any) -> bool:
        """Tell whether this is the step that a name, or a function, stands for."""
        if isinstance(wanted, str):
            return self.name == wanted
        wanted = getattr(wanted, "__func__", wanted)
        function = getattr(self.function, "__func__", self.function)
        if function is wanted:
            return True
        # A method stands for those that override it.
        name = getattr(function, "__name__", "")
        classes = type(getattr(self.function, "__self__", None)).__mro__
        return any(vars(cls).get(name) is wanted for cls in classes)

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
            "timeout": options.timeout,
            "external": options.external,
            "retry": options.retry,
            "on_error": None,
            "takes_failures": self.takes_failures,
        }

    def _body(self) -> tuple[Any, str, bool]:
        kind = kind_of(self.function)
        if self.options.inline and kind not in ("coroutine", "function"):
            raise Problem(f"step {self.name!r}: inline is for a plain function, not for a {kind}")
        if self.options.process:
            return self._body_in_process(kind)
        if self._providers:
            return self._body_with_resources(kind)
        if kind == "coroutine" or (kind == "function" and self.options.inline):
            awaitable = kind == "coroutine"
            if self._by_keyword:
                return self._call_with_both(), "context, event", awaitable
            return self.function, self._arguments(), awaitable
        return _SHAPES[kind](self._call_with_both()), "context, event", True

    def _body_in_process(self, kind: str) -> tuple[Any, str, bool]:
        where = f"step {self.name!r}: process=True"
        if self.options.inline:
            raise Problem(f"{where} and inline=True exclude each other")
        if kind != "function":
            raise Problem(f"{where} is for a plain function, not for a {kind}")
        if self.takes_context:
            raise Problem(f"{where}: another process has no Context; return what it would set")
        if self._providers:
            raise Problem(f"{where}: resources do not reach another process; make them there")
        if not _is_importable(self.function):
            raise Problem(
                f"{where}: another process imports the function by its name; define it at the top "
                f"of a module"
            )
        from .processes import in_process

        keyword = self._by_keyword[0] if self._by_keyword else None
        return in_process(self.name, self.function, keyword), "context, event", True

    def _body_with_resources(self, kind: str) -> tuple[Any, str, bool]:
        call = self._call_by_name()
        if kind == "coroutine" or not self.options.inline:
            shape = _SHAPES[kind]
            return bodies.with_resources(shape, call, self._providers), "context, event", True
        waiting = [p.name for top in self._providers.values() for p in top.walk() if p.is_async]
        if waiting:
            raise Problem(
                f"step {self.name!r}: inline=True cannot wait for what is made asynchronously: "
                f"{_listed(list(dict.fromkeys(waiting)))}"
            )
        return bodies.with_resources_at_once(call, self._providers), "context, event", False

    def _call_by_name(self) -> Any:
        """Return a function of context and event that takes the resources by keyword."""
        function, names, first = self.function, self._names, self._by_position
        is_context_first = self.context_first

        def call(context: Context, event: Any, /, **resources: Any) -> Any:
            both = (context, event) if is_context_first else (event, context)
            values = dict(zip(names, both, strict=False))
            positional = [values.pop(name) for name in first]
            return function(*positional, **values, **resources)

        return call

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


def _as_it_is(call: Any) -> Any:
    return call


_SHAPES: dict[str, Callable[[Any], Any]] = {
    "coroutine": _as_it_is,
    "function": bodies.in_thread,
    "generator": bodies.from_generator,
    "asynchronous generator": bodies.from_async_generator,
}


def _is_importable(function: Any) -> bool:
    module = sys.modules.get(getattr(function, "__module__", ""))
    return getattr(module, getattr(function, "__qualname__", ""), None) is function


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


def _is_several(annotation: Any) -> bool:
    """Tell whether a return annotation lets a step emit several events at a time."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Annotated, typing.Union, types.UnionType):
        return any(map(_is_several, typing.get_args(annotation)))
    return origin in _SEVERAL


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

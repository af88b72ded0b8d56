"""Which classes the steps of a workflow name: those that stored events may be of.

Stored bytes name a class; they never cause an import. A class is found if a step names it: in an
annotation, in its code, or as a base of one that it names.
"""

import types
from collections.abc import Iterable, Iterator
from typing import Any

from .annotations import StepInfo
from .events import Event, StartEvent, StepFailed, StopEvent
from .signatures import inner_function

_PLAIN = (bool, int, float, str, list, dict, bytes, bytearray, type(None))


def named_classes(steps: Iterable[StepInfo]) -> dict[str, type]:
    """Return the classes that the steps name, by module and qualified name."""
    found: dict[str, type] = {}
    # What a step names itself comes last: it counts, if two classes have the same name.
    named = [cls for step in steps for cls in _named_by(step)]
    for cls in named:
        for base in cls.__mro__:
            found[class_name(base)] = base
    for cls in named:
        if cls is not object:
            for derived in _derived(cls):
                found[class_name(derived)] = derived
    always: list[type] = [*_PLAIN, Event, StartEvent, StepFailed, StopEvent]
    for cls in [*always, *named]:
        found[class_name(cls)] = cls
    return found


def class_name(cls: type) -> str:
    """Return the name by which stored events refer to a class."""
    return f"{cls.__module__}:{cls.__qualname__}"


def _named_by(step: StepInfo) -> Iterator[type]:
    yield from step.accepts
    yield from step.emits or ()
    function = inner_function(step.function)
    scope = dict(function.__globals__)
    scope.update(step.options.namespace)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            scope[name] = cell.cell_contents
        except ValueError:
            continue
    names = set(_names_in(function.__code__))
    for name in names:
        value = scope.get(name)
        if isinstance(value, type):
            yield value
        elif isinstance(value, types.ModuleType):
            for attribute in names:
                member = vars(value).get(attribute)
                if isinstance(member, type):
                    yield member


def _names_in(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    yield from code.co_freevars
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)


def _derived(cls: type) -> Iterator[type]:
    seen: set[type] = set()
    waiting: list[Any] = [cls]
    while waiting:
        for derived in type.__subclasses__(waiting.pop()):
            if derived not in seen:
                seen.add(derived)
                waiting.append(derived)
                yield derived

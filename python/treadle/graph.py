"""The graph of a workflow: which step accepts what another emits, and what is wrong with it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .annotations import StepInfo
from .events import StartEvent, StopEvent
from .flow import Flow, meet
from .providers import Providers
from .retry import Retry
from .signatures import Problem
from .steps import MARK


@dataclass(frozen=True)
class Place:
    """Where an arrow begins or ends that is no step."""

    name: str
    mermaid: str


START = Place("start", "start((start))")
OUTSIDE = Place("outside", "outside((outside))")
STOP = Place("stop", "stop((stop))")
ANY = Place("any", "any((?))")

# From where, the class of the events (`None`: any), to where.
Arrow = tuple[str | Place, str | None, str | Place]


class Graph:
    """The steps of a workflow, and everything that is wrong with them and their connections."""

    def __init__(self, name: str, functions: Iterable[Any], problems: Iterable[str] = ()) -> None:
        self.name = name
        self.steps: list[StepInfo] = []
        self.problems = list(problems)
        providers = Providers()
        for function in functions:
            try:
                self.steps.append(StepInfo(function, providers))
            except Problem as problem:
                self.problems.append(str(problem))
        self.problems += providers.problems
        self._check_names()
        self._check_bodies()
        self._find_handlers()
        self.flow = Flow(self.steps, self.handlers)
        if not self.problems:
            self.problems = self.flow.problems()

    def _check_names(self) -> None:
        if not self.steps and not self.problems:
            self.problems.append("it has no steps; is anything decorated with @step?")
        seen: set[str] = set()
        for step in self.steps:
            if step.name in seen:
                self.problems.append(f"two steps have the name {step.name!r}")
            seen.add(step.name)

    def _check_bodies(self) -> None:
        for step in self.steps:
            try:
                step.description()
            except Problem as problem:
                self.problems.append(str(problem))

    def _find_handlers(self) -> None:
        """Find the steps that deal with the failures of others, by `on_error`."""
        self.handlers: dict[str, int] = {}
        for step in self.steps:
            wanted = step.options.on_error
            if wanted is None:
                continue
            found = [at for at, other in enumerate(self.steps) if other.is_named_by(wanted)]
            label = wanted if isinstance(wanted, str) else getattr(wanted, "__name__", wanted)
            if not found:
                self.problems.append(
                    f"step {step.name!r}: on_error={label!r} is not a step of this workflow"
                )
            elif not self.steps[found[0]].may_take_failures:
                self.problems.append(
                    f"step {step.name!r}: on_error={label!r} does not accept a StepFailed"
                )
            else:
                self.handlers[step.name] = found[0]

    def warnings(self) -> list[str]:
        """Return what works, and is seldom meant."""
        named = set(self.handlers.values())
        names = [
            step.name
            for at, step in enumerate(self.steps)
            if step.takes_failures and at not in named
        ]
        if len(names) < 2:
            return []
        listed = " and ".join(map(repr, names))
        return [
            f"workflow {self.name!r}: steps {listed} each get every failure that no on_error= names"
            " another step for; name the one that is meant with on_error=, or leave one"
        ]

    def descriptions(self, retry: Retry | None) -> list[dict[str, Any]]:
        """Return the steps as the compiled plan takes them. `retry` is for those without one."""
        named = set(self.handlers.values())
        descriptions = []
        for at, step in enumerate(self.steps):
            description = step.description()
            description["retry"] = description["retry"] or retry
            description["on_error"] = self.handlers.get(step.name)
            # A step that others name deals with their failures alone.
            description["takes_failures"] = step.takes_failures and at not in named
            descriptions.append(description)
        return descriptions

    def _starts(self) -> list[type]:
        accepted = dict.fromkeys(cls for step in self.steps for cls in step.accepts)
        return [cls for cls in accepted if issubclass(cls, StartEvent)]

    def start_class(self) -> type | None:
        """Return the class of the start event; `None` if it could be several."""
        starts = self._starts()
        if StartEvent in starts or not starts:
            return StartEvent
        return starts[0] if len(starts) == 1 else None

    def start_names(self) -> str:
        """Name the classes of start events."""
        return ", ".join(cls.__name__ for cls in self._starts())

    def arrows(self) -> list[Arrow]:
        """Return the arrows of the graph: events, from the step that emits to one that accepts."""
        found: list[Arrow] = []
        for step in self.steps:
            for cls in step.accepts:
                if meet(cls, StartEvent):
                    label = cls.__name__ if issubclass(cls, StartEvent) else "StartEvent"
                    found.append((START, label, step.name))
                elif step.options.external:
                    found.append((OUTSIDE, cls.__name__, step.name))
        for step in self.steps:
            if step.emits is None:
                found.append((step.name, None, ANY))
            for cls in step.emits or ():
                if issubclass(cls, StopEvent):
                    found.append((step.name, cls.__name__, STOP))
                for taker in [] if issubclass(cls, StopEvent) else self.flow.takers(cls):
                    found.append((step.name, cls.__name__, taker.name))
        return list(dict.fromkeys(found))

    def to_mermaid(self) -> str:
        """Return the graph as a Mermaid flowchart: steps are boxes, events are the arrows."""
        ids = {step.name: f"s{number}" for number, step in enumerate(self.steps)}
        lines = ["flowchart TD"]
        lines += [f'    {ids[step.name]}["{_escaped(step.name)}"]' for step in self.steps]
        for start, label, end in self.arrows():
            first = start.mermaid if isinstance(start, Place) else ids[start]
            last = end.mermaid if isinstance(end, Place) else ids[end]
            arrow = "-.->|any|" if label is None else f"-->|{_escaped(label)}|"
            lines.append(f"    {first} {arrow} {last}")
        return "\n".join(dict.fromkeys(lines)) + "\n"


def methods_of(workflow: object) -> tuple[list[Any], list[str]]:
    """Find the methods of a workflow's class that are steps, and what is wrong with them."""
    problems = []
    methods = []
    names: dict[str, bool] = {}
    for cls in reversed(type(workflow).__mro__):
        for name, value in vars(cls).items():
            is_step = hasattr(getattr(value, "__func__", value), MARK)
            if names.get(name) and not is_step and callable(value):
                problems.append(
                    f"{cls.__qualname__}.{name} overrides a step, but is not one; add @step"
                )
            if is_step or name in names:
                names[name] = is_step
    for name, is_step in names.items():
        if is_step:
            methods.append(getattr(workflow, name))
    return methods, problems


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")

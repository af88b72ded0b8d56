"""Where the events of a workflow's steps lead: what nothing reaches, and where no run can end."""

from collections.abc import Callable, Iterable, Mapping
from itertools import chain

from .annotations import StepInfo
from .events import StartEvent, StopEvent


class Flow:
    """The arrows between steps: by the events that they emit, and by their failures."""

    def __init__(self, steps: list[StepInfo], handlers: Mapping[str, int]) -> None:
        self.steps = steps
        self._accepted = list(dict.fromkeys(cls for step in steps for cls in step.accepts))
        self._takers_of = {
            cls: [step for step in steps if cls in step.accepts] for cls in self._accepted
        }
        self._known_ways: dict[type, list[list[StepInfo]]] = {}
        self._handlers = handlers
        self._catch_all = [
            step
            for at, step in enumerate(steps)
            if step.takes_failures and at not in handlers.values()
        ]

    def takers(self, emitted: type) -> list[StepInfo]:
        """Find the steps that may get an event which is declared to be of this class."""
        return list(dict.fromkeys(chain.from_iterable(self._ways_of(emitted))))

    def problems(self) -> list[str]:
        """Return everything that is wrong with the arrows."""
        problems = []
        if not any(meet(cls, StartEvent) for cls in self._accepted):
            problems.append("no step accepts a StartEvent, so no run could start")
        for step in self.steps:
            for cls in step.emits or ():
                if not issubclass(cls, StopEvent) and not self.takers(cls):
                    problems.append(
                        f"step {step.name!r} returns {cls.__name__}, which no step accepts"
                    )
        # A step that does not say what it emits may send an event to any other; so may one that
        # returns nothing.
        if any(not step.emits for step in self.steps):
            return problems
        first = self._first()
        reached = _closure(first, self._next)
        if first:
            problems += [_unreached(step) for step in self.steps if step not in reached]
        if any(map(_stops, self.steps)):
            problems += self._without_end(reached)
        else:
            problems.append("no step returns a StopEvent, so no run could end")
        return problems

    def _first(self) -> list[StepInfo]:
        return [
            step
            for step in self.steps
            if step.options.external or any(meet(cls, StartEvent) for cls in step.accepts)
        ]

    def _ways_of(self, emitted: type) -> list[list[StepInfo]]:
        """List where an event of a declared class may go: the steps that get it, for each way."""
        if emitted not in self._known_ways:
            own = next((base for base in emitted.__mro__ if base in self._takers_of), None)
            # A subclass may be returned as well, and go elsewhere.
            below = [cls for cls in self._accepted if cls is not own and issubclass(cls, emitted)]
            classes = below if own is None else [own, *below]
            self._known_ways[emitted] = [self._takers_of[cls] for cls in classes]
        return self._known_ways[emitted]

    def _handlers_of(self, step: StepInfo) -> list[StepInfo]:
        named = self._handlers.get(step.name)
        return self._catch_all if named is None else [self.steps[named]]

    def _next(self, step: StepInfo) -> list[StepInfo]:
        emitted = chain.from_iterable(map(self.takers, step.emits or ()))
        return [*emitted, *self._handlers_of(step)]

    # A way of an event that leads to steps without a way to the end is a trap, unless the run may
    # have other events then: those may end it. It is better to let a trap pass than to refuse a
    # workflow that works.

    def _without_end(self, reached: set[StepInfo]) -> list[str]:
        ends = self._that_end()
        if any(step.options.external and step in ends for step in self.steps):
            return []
        accompanied = self._accompanied(ends)
        ways = self._starts()
        for step in (reached & ends) - accompanied:
            ways += self._ways(step)
        traps = [way for way in ways if ends.isdisjoint(way)]
        lost = _closure(chain.from_iterable(traps), self._next)
        if not lost:
            return []
        names = ", ".join(repr(step.name) for step in self.steps if step in lost)
        who = f"step {names} leads" if len(lost) == 1 else f"steps {names} lead"
        return [f"{who} to no StopEvent: a run that gets there could not end"]

    def _starts(self) -> list[list[StepInfo]]:
        return [takers for cls, takers in self._takers_of.items() if meet(cls, StartEvent)]

    def _ways(self, step: StepInfo) -> Iterable[list[StepInfo]]:
        for cls in step.emits or ():
            if not issubclass(cls, StopEvent):
                yield from self._ways_of(cls)

    def _that_end(self) -> set[StepInfo]:
        """Find the steps from which there may be a way to the end of the run."""
        before: dict[StepInfo, list[StepInfo]] = {step: [] for step in self.steps}
        for step in self.steps:
            for to in self._next(step):
                before[to].append(step)
        # A step that returns an event that no step accepts is named for that.
        ending = [
            step
            for step in self.steps
            if _stops(step) or not all(map(self.takers, step.emits or ()))
        ]
        return _closure(ending, before.__getitem__)

    def _accompanied(self, ends: set[StepInfo]) -> set[StepInfo]:
        """Find the steps beside which a run may have other events, which may end it."""
        beside = [to for way in self._starts() if _may_end_apart(way, ends) for to in way]
        for step in self.steps:
            good = [way for way in self._ways(step) if not ends.isdisjoint(way)]
            if step.emits_several and (good or _stops(step)):
                beside.append(step)
            elif step.takes_context and good:
                # It may send one event and return another.
                beside.append(step)
            else:
                beside += [to for way in good if _may_end_apart(way, ends) for to in way]
        return _closure(beside, self._next)


def meet(accepted: type, other: type) -> bool:
    """Tell whether an event of one class may be one of the other."""
    return issubclass(accepted, other) or issubclass(other, accepted)


def _closure(
    steps: Iterable[StepInfo], following: Callable[[StepInfo], Iterable[StepInfo]]
) -> set[StepInfo]:
    """Return steps and all that follow them."""
    found = set(steps)
    waiting = list(found)
    while waiting:
        fresh = set(following(waiting.pop())) - found
        found |= fresh
        waiting += fresh
    return found


def _may_end_apart(way: list[StepInfo], ends: set[StepInfo]) -> bool:
    """Tell whether an event goes to several steps, of which one may end the run."""
    return len(way) > 1 and not ends.isdisjoint(way)


def _stops(step: StepInfo) -> bool:
    return any(issubclass(cls, StopEvent) for cls in step.emits or ())


def _unreached(step: StepInfo) -> str:
    names = " | ".join(cls.__name__ for cls in step.accepts)
    return (
        f"nothing reaches step {step.name!r}: no step that a run gets to returns {names} (if it is "
        f"sent from outside, say @step(external=True))"
    )

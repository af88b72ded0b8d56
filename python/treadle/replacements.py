"""Which factories are replaced by others, in the context of a test."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from .providers import Provider, check_scopes
from .signatures import Problem

Factory = Callable[..., Any]


class Replacement:
    """What stands in for a factory during one `override`; a new one is made for each."""

    __slots__ = ("provider",)

    def __init__(self, provider: Provider) -> None:
        self.provider = provider


class Replacements:
    """All that is replaced, and what was before the last `override`."""

    __slots__ = ("by_factory", "outer")

    def __init__(
        self, by_factory: dict[Factory, Replacement], outer: "Replacements | None"
    ) -> None:
        self.by_factory = by_factory
        self.outer = outer


_active: ContextVar[Replacements | None] = ContextVar("treadle_replacements", default=None)


def replace(factory: Factory, provider: Provider) -> None:
    """Replace a factory, until `restore`, for all that runs in this context."""
    outer = _active.get()
    before = {} if outer is None else outer.by_factory
    _active.set(Replacements({**before, factory: Replacement(provider)}, outer))


def restore() -> None:
    """Take back the last `replace` of this context."""
    active = _active.get()
    # A fixture may be torn down in a context other than that in which it was set up: nothing was
    # replaced there.
    if active is not None:
        _active.set(active.outer)


def actual(provider: Provider) -> Provider:
    """Return what makes an object here: the provider itself, unless a factory is replaced."""
    active = _active.get()
    return provider if active is None else _resolved(provider, active.by_factory)


def _resolved(provider: Provider, replaced: dict[Factory, Replacement]) -> Provider:
    replacement = replaced.get(provider.factory)
    if replacement is not None:
        # What replaces a factory may itself ask for the original.
        rest = {factory: r for factory, r in replaced.items() if factory != provider.factory}
        found = _resolved(replacement.provider, rest)
        found = found.with_needs(found.needs)
        found.scope = provider.scope
        # An object that was made for one override is never met in another, or outside of it.
        found.key = (replacement, found.key)
    else:
        needs = {name: _resolved(need, replaced) for name, need in provider.needs.items()}
        if all(needs[name] is need for name, need in provider.needs.items()):
            return provider
        found = provider.with_needs(needs)
    try:
        check_scopes(found)
    except Problem as problem:
        raise TypeError(f"a replacement does not fit: {problem}") from None
    return found

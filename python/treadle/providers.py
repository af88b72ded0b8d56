"""What `Resource` annotations say: how each object is made, what it needs, and what is wrong."""

import contextlib
import inspect
import typing
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from ._treadle import Context
from .resources import Resource
from .signatures import Problem, bound_by_partial, kind_of, name_of, parameter_hints

SCOPES = ("run", "process")
# The scope of what is made for each call of a step; the longest life comes last.
CALL = "call"
_LIVES = (CALL, *SCOPES)


class Provider:
    """How one object is made. `key` tells the objects of a scope apart: it is the factory."""

    __slots__ = ("factory", "is_async", "key", "name", "needs", "open", "scope")

    def __init__(self, resource: Resource, needs: dict[str, "Provider"]) -> None:
        self.factory = resource.factory
        self.key: Hashable = resource.factory
        self.name = resource.name or name_of(resource.factory)
        self.scope: str = scope_of(resource)
        self.needs = needs
        self.open = _opener(resource.factory)
        self.is_async = _is_async(resource.factory)

    def with_needs(self, needs: dict[str, "Provider"]) -> "Provider":
        """Return a provider of a different object: one whose factory gets other arguments."""
        other = Provider(Resource(self.factory, name=self.name), needs)
        other.scope = self.scope
        other.key = (self.factory, *[need.key for need in needs.values()])
        return other

    def walk(self) -> Iterator["Provider"]:
        """Yield this provider and all that it needs."""
        yield self
        for need in self.needs.values():
            yield from need.walk()


class Providers:
    """The providers of one workflow, and everything that is wrong with their resources."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._known: dict[Hashable, Provider] = {}
        self._reading: list[Resource] = []

    def provider(self, resource: Resource) -> Provider | None:
        """Return how a resource is made; `None`, after noting a problem, if that cannot be told."""
        try:
            _check(resource)
            return self._known_or_read(resource)
        except Problem as problem:
            if str(problem) not in self.problems:
                self.problems.append(str(problem))
            return None

    def _known_or_read(self, resource: Resource) -> Provider | None:
        known = self._known.get(_known_as(resource))
        if known is None:
            known = self._read(resource)
        elif known.scope != scope_of(resource):
            raise Problem(
                f"resource {known.name!r} is wanted with the scope {known.scope!r} and with the "
                f"scope {resource.scope!r}"
            )
        return known

    def _read(self, resource: Resource) -> Provider | None:
        factories = [other.factory for other in self._reading]
        if resource.factory in factories:
            circle = [*self._reading[factories.index(resource.factory) :], resource]
            names = " -> ".join(label(other) for other in circle)
            raise Problem(f"resources need each other in a circle: {names}")
        self._reading.append(resource)
        try:
            needs = self._needs(resource)
        finally:
            self._reading.pop()
        complete = {name: need for name, need in needs.items() if need is not None}
        if len(complete) < len(needs):
            return None
        provider = Provider(resource, complete)
        check_scopes(provider)
        self._known[_known_as(resource)] = provider
        return provider

    def _needs(self, resource: Resource) -> dict[str, Provider | None]:
        parameters = _parameters(resource)
        hints = _hints(resource, [parameter.name for parameter in parameters])
        needs: dict[str, Provider | None] = {}
        for parameter in parameters:
            where = f"resource {label(resource)!r}: parameter {parameter.name!r}"
            hint = hints.get(parameter.name)
            wanted = resource_in(hint, where)
            if wanted is not None and parameter.kind is not parameter.POSITIONAL_ONLY:
                needs[parameter.name] = self.provider(wanted)
            elif wanted is not None:
                raise Problem(f"{where} is positional only; a resource is given by keyword")
            elif parameter.default is parameter.empty and hint is Context:
                raise Problem(
                    f"{where} cannot be a Context: the object is shared by steps, each of which "
                    f"has its own"
                )
            elif parameter.default is parameter.empty:
                raise Problem(
                    f"{where} is filled by nothing; annotate it with "
                    f"Annotated[..., Resource(factory)], or give it a default"
                )
        return needs


def scope_of(resource: Resource) -> str:
    """Return how long an object lives: for a call, a run, or as long as the process."""
    return resource.scope if resource.cache else CALL


def _known_as(resource: Resource) -> Hashable:
    """One factory may make an object for a run, and others for calls."""
    return resource.factory, resource.cache


def label(resource: Resource) -> str:
    """Return the name of a resource for messages."""
    return resource.name or name_of(resource.factory)


def resource_in(annotation: Any, where: str) -> Resource | None:
    """Return the `Resource` in an `Annotated`, if there is one.

    Raises:
        Problem: there are several, or the class itself; the message begins with `where`.
    """
    while type(annotation).__name__ == "TypeAliasType":
        # A `type` statement of Python 3.12.
        annotation = annotation.__value__
    if typing.get_origin(annotation) is not typing.Annotated:
        return None
    extras = annotation.__metadata__
    if Resource in extras:
        raise Problem(f"{where}: Resource takes a factory: Annotated[..., Resource(factory)]")
    found = [extra for extra in extras if isinstance(extra, Resource)]
    if len(found) > 1:
        raise Problem(f"{where} has more than one Resource")
    return found[0] if found else None


def check_scopes(provider: Provider) -> None:
    """Raise if an object would outlive what it needs.

    Raises:
        Problem: it would.
    """
    for need in provider.needs.values():
        if _LIVES.index(need.scope) < _LIVES.index(provider.scope):
            short = (
                "which is made for each call (cache=False)"
                if need.scope == CALL
                else f"which has the scope {need.scope!r}"
            )
            raise Problem(
                f"resource {provider.name!r} has the scope {provider.scope!r}, and cannot need "
                f"{need.name!r}, {short}"
            )


def _check(resource: Resource) -> None:
    if not callable(resource.factory):
        raise Problem(f"{resource!r}: a function or a class expected, not {resource.factory!r}")
    try:
        hash(resource.factory)
    except TypeError:
        raise Problem(f"{resource!r}: its factory is not hashable") from None
    if not isinstance(resource.cache, bool):
        raise Problem(
            f"resource {label(resource)!r}: cache is True or False, not {resource.cache!r}"
        )
    if not resource.cache and resource.scope == "process":
        raise Problem(
            f"resource {label(resource)!r}: cache=False makes an object for each call, and the "
            f"scope 'process' one for all; give one of them"
        )
    if resource.scope not in SCOPES:
        raise Problem(
            f"resource {label(resource)!r}: the scope is 'run' or 'process', not {resource.scope!r}"
        )


def _parameters(resource: Resource) -> list[inspect.Parameter]:
    try:
        signature = inspect.signature(resource.factory)
    except (TypeError, ValueError):
        # A class written in C may not tell; then it is called without arguments.
        return []
    bound = bound_by_partial(resource.factory)
    return [
        parameter
        for parameter in signature.parameters.values()
        if parameter.name not in bound
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


def _hints(resource: Resource, names: list[str]) -> dict[str, Any]:
    if not names:
        return {}
    try:
        return parameter_hints(resource.factory, names)
    except Problem:
        # It is written in C, and has no annotations.
        return {}
    except NameError as error:
        raise Problem(
            f"resource {label(resource)!r}: annotation {error.name!r} cannot be resolved; is it "
            f"defined where the factory or the workflow is made?"
        ) from None
    except Exception as error:
        raise Problem(
            f"resource {label(resource)!r}: its annotations cannot be resolved: {error}"
        ) from error


def _opener(factory: Callable[..., Any]) -> Callable[..., Any]:
    kind = kind_of(factory)
    if kind == "generator":
        return contextlib.contextmanager(factory)
    if kind == "asynchronous generator":
        return contextlib.asynccontextmanager(factory)
    return factory


async def _nothing() -> typing.AsyncIterator[None]:
    yield


_DECORATED = contextlib.asynccontextmanager(_nothing).__code__


def _is_async(factory: Any) -> bool:
    """Say whether making the object surely takes waiting; what a function returns may as well."""
    if kind_of(factory) in ("coroutine", "asynchronous generator"):
        return True
    if isinstance(factory, type):
        return is_async_manager(factory)
    return getattr(factory, "__code__", None) is _DECORATED


def is_async_manager(cls: type) -> bool:
    """Say whether `async with` takes instances of a class."""
    return hasattr(cls, "__aenter__") and hasattr(cls, "__aexit__")


def is_manager(cls: type) -> bool:
    """Say whether `with` takes instances of a class."""
    return hasattr(cls, "__enter__") and hasattr(cls, "__exit__")

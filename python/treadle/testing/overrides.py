"""Other resources for a test."""

import functools
import inspect
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ..providers import Provider, Providers
from ..replacements import replace, restore
from ..resources import Resource

if TYPE_CHECKING:
    from collections.abc import Callable

    F = TypeVar("F", bound=Callable[..., Any])


class override:
    """Replace the factory of a resource for everything inside of a `with`.

    It counts for the runs that are made inside, whichever workflow they are of, and for whatever
    needs the resource. Tests that run at the same time do not see each other's replacements: they
    are kept in a context variable.

    >>> import asyncio
    >>> from typing import Annotated
    >>> from treadle import StartEvent, StopEvent, Workflow, step
    >>> def clock() -> str:
    ...     return "the real one"
    >>> @step
    ... async def tell(ev: StartEvent, time: Annotated[str, Resource(clock)]) -> StopEvent:
    ...     return StopEvent(result=time)
    >>> workflow = Workflow("tell", [tell])
    >>> async def main():
    ...     with override(clock, lambda: "noon"):
    ...         print(await workflow.run())
    ...     print(await workflow.run())
    >>> asyncio.run(main())
    noon
    the real one

    As a decorator it does the same for each call of a function, `async def` or not.

    Args:
        replaced: the factory, or a `Resource` with it.
        replacement: a factory of any kind that `Resource` takes, or a `Resource` with one. The
            scope stays that of what is replaced. Its own parameters are resources; it may ask for
            the factory that it replaces, and gets the original.

    Raises:
        TypeError: an argument is not callable, or the replacement cannot work as a factory.
    """

    def __init__(
        self,
        replaced: "Callable[..., Any] | Resource",
        replacement: "Callable[..., Any] | Resource",
    ) -> None:
        self._replaced = _factory("replaced", replaced)
        self._provider = _provider(_factory("replacement", replacement))

    def __enter__(self) -> None:
        replace(self._replaced, self._provider)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        restore()

    def __call__(self, function: "F") -> "F":
        is_generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        if is_generator or isinstance(function, type):
            raise TypeError(f"override decorates a function, and no generator: {function!r}")

        @functools.wraps(function)
        async def awaited(*args: Any, **keywords: Any) -> Any:
            with self:
                return await function(*args, **keywords)

        @functools.wraps(function)
        def called(*args: Any, **keywords: Any) -> Any:
            with self:
                return function(*args, **keywords)

        is_async = inspect.iscoroutinefunction(function)
        return awaited if is_async else called  # type: ignore[return-value]

    def __repr__(self) -> str:
        return f"override({self._replaced!r}, {self._provider.factory!r})"


def _factory(what: str, given: Any) -> Any:
    factory = given.factory if isinstance(given, Resource) else given
    if not callable(factory):
        raise TypeError(f"{what}: a factory or a Resource expected, not {given!r}")
    return factory


def _provider(factory: "Callable[..., Any]") -> Provider:
    providers = Providers()
    provider = providers.provider(Resource(factory))
    if provider is None or providers.problems:
        raise TypeError("; ".join(providers.problems))
    return provider

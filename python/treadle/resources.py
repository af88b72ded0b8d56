"""Resources: objects that steps share, created when first needed and closed at the end."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal


class Resource:
    """In `Annotated[T, Resource(factory)]`: the factory of an object that a step needs.

    The object is the result of the first of these that fits: `async with factory() as it`,
    `with factory() as it`, `it = await factory()`, `it = factory()`. A generator function, async or
    not, is used as a context manager that yields the object. Steps that name the same factory get
    the same object, whichever `Resource` they name it by.

    A mistake in a resource is reported by the `WorkflowDefinitionError` of the workflow that uses
    it.

    >>> import asyncio
    >>> from typing import Annotated
    >>> from treadle import StartEvent, StopEvent, Workflow, step
    >>> async def answer() -> int:
    ...     return 42
    >>> @step
    ... async def ask(ev: StartEvent, found: Annotated[int, Resource(answer)]) -> StopEvent:
    ...     return StopEvent(result=found)
    >>> async def main():
    ...     print(await Workflow("ask", [ask]).run())
    >>> asyncio.run(main())
    42

    Args:
        factory: creates the object. It is called on the event loop and should not block. Each of
            its parameters without a default is a resource as well, annotated in the same way.
        scope: "run" creates one object for each run and closes it before the run is over; "process"
            creates one for each event loop of the process, shared by all runs, and closes it when
            the loop shuts down, or by `close_resources`.
        name: for errors and logs; the name of the factory if not given.
        cache: with `False`, each call of a step gets an object of its own, which is closed at the
            end of the call, before its events go on. It has no scope then.
    """

    __slots__ = ("cache", "factory", "name", "scope")

    def __init__(
        self,
        factory: "Callable[..., Any]",
        scope: "Literal['run', 'process']" = "run",
        name: str | None = None,
        *,
        cache: bool = True,
    ) -> None:
        self.factory = factory
        self.cache = cache
        self.scope = scope
        self.name = name

    def __repr__(self) -> str:
        factory = getattr(self.factory, "__qualname__", None) or repr(self.factory)
        name = "" if self.name is None else f", name={self.name!r}"
        cache = "" if self.cache is True else f", cache={self.cache!r}"
        return f"Resource({factory}, scope={self.scope!r}{name}{cache})"


async def close_resources() -> None:
    """Close the resources of scope "process" on this event loop now, the last created first.

    An event loop that `asyncio.run` drives does so itself when it shuts down. This does not wait
    for runs that still use the resources: call it when there are none. A step that needs one
    afterwards gets a new object.

    All of them are closed in any case; the first exception is raised, others are logged.
    """
    import asyncio

    from .keeping import LoopScope

    await LoopScope.of(asyncio.get_running_loop()).close()

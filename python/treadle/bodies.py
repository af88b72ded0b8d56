"""How steps that are more than coroutine functions run: in threads, generators, with resources."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import copy_context
from typing import Any

from ._treadle import Context
from .keeping import CallScope, LoopScope, at_once, obtain
from .providers import CALL, Provider
from .replacements import actual
from .waiting import finished

Call = Callable[[Context, Any], Any]
Body = Callable[[Context, Any], Any]


def in_thread(call: Call) -> Body:
    """Run a function in the loop's default executor.

    A thread cannot be interrupted. When the step is cancelled, its context is revoked, so that
    nothing that the function does from then on counts, and the function's end is awaited.
    """

    async def body(context: Context, event: Any) -> Any:
        loop = asyncio.get_running_loop()
        inside = copy_context()
        is_cancelled = threading.Event()

        def work() -> Any:
            # A function that has not begun when its step is cancelled never does.
            return None if is_cancelled.is_set() else inside.run(_call, call, context, event)

        def cancel() -> None:
            is_cancelled.set()
            context._revoke()

        result = await finished(loop.run_in_executor(None, work), cancel)
        return await result if asyncio.iscoroutine(result) else result

    return body


def _call(call: Call, context: Context, event: Any) -> Any:
    context._enter_thread()
    try:
        return call(context, event)
    except (StopIteration, GeneratorExit) as error:
        # From a future they would end or close what waits for it (PEP 479).
        raise RuntimeError(f"a step raised {error!r}") from error


def from_async_generator(call: Callable[[Context, Any], AsyncIterator[Any]]) -> Body:
    """Send each event that an asynchronous generator yields as it comes."""

    async def body(context: Context, event: Any) -> None:
        events = call(context, event)
        try:
            async for emitted in events:
                if emitted is not None:
                    context.send_event(emitted)
        finally:
            aclose = getattr(events, "aclose", None)
            if aclose is not None:
                await aclose()

    return body


def from_generator(call: Callable[[Context, Any], Iterator[Any]]) -> Body:
    """Send each event that a generator yields, from the thread in which it runs."""

    def send_all(context: Context, event: Any) -> None:
        for emitted in call(context, event):
            if emitted is not None:
                context.send_event(emitted)

    return in_thread(send_all)


def with_resources(
    shape: Callable[[Any], Body], call: Callable[..., Any], providers: dict[str, Provider]
) -> Body:
    """Obtain resources, then run a step that gets them by keyword; `shape` says how it runs."""

    async def body(context: Context, event: Any) -> Any:
        with LoopScope.of(asyncio.get_running_loop()):
            given = {
                name: await obtain(actual(provider), context)
                for name, provider in providers.items()
            }
            return await shape(functools.partial(call, **given))(context, event)

    async def body_with_own(context: Context, event: Any) -> Any:
        own = CallScope()
        with LoopScope.of(asyncio.get_running_loop()):
            try:
                given = {
                    name: await obtain(actual(provider), context, own)
                    for name, provider in providers.items()
                }
                result = await shape(functools.partial(call, **given))(context, event)
            except BaseException as error:
                await own.close(error)
                raise
            await own.close(None)
            return result

    return body_with_own if _has_own(providers) else body


def _has_own(providers: dict[str, Provider]) -> bool:
    """Tell whether any object is made for each call alone."""
    return any(one.scope == CALL for top in providers.values() for one in top.walk())


def with_resources_at_once(call: Callable[..., Any], providers: dict[str, Provider]) -> Body:
    """Obtain resources, and then call a function that gets them by keyword, all without waiting."""

    def body(context: Context, event: Any) -> Any:
        given = {name: _obtain_at_once(provider, context) for name, provider in providers.items()}
        return call(context, event, **given)

    def body_with_own(context: Context, event: Any) -> Any:
        own = CallScope()
        try:
            given = {
                name: _obtain_at_once(provider, context, own)
                for name, provider in providers.items()
            }
            result = call(context, event, **given)
        except BaseException as error:
            at_once(own.close(error))
            raise
        at_once(own.close(None))
        return result

    return body_with_own if _has_own(providers) else body


def _obtain_at_once(provider: Provider, context: Context, own: CallScope | None = None) -> Any:
    try:
        return at_once(obtain(actual(provider), context, own))
    except BlockingIOError:
        raise TypeError(
            f"resource {provider.name!r} takes waiting, which a step with inline=True cannot do"
        ) from None

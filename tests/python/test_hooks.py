"""What becomes of each exception that the user's code may raise, at each place where it is called.

The table in docs/semantics.md says the same.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Annotated, Any

import pytest

from treadle import (
    Context,
    Event,
    Resource,
    Retry,
    Run,
    RunCancelled,
    StartEvent,
    StepFailed,
    StopEvent,
    UnreadableValue,
    UnstorableValue,
    Workflow,
    step,
)

EXCEPTIONS: list[type[BaseException]] = [
    ValueError,
    StopIteration,
    StopAsyncIteration,
    GeneratorExit,
    asyncio.CancelledError,
    KeyboardInterrupt,
    SystemExit,
]
Raise = Callable[[], Any]


class Hello(Event):
    text: str = "hello"


class Hostile:
    """An object whose hooks raise once it is told to."""

    def __init__(self, fail: Raise) -> None:
        self.fail = fail


def body_of_coroutine(fail: Raise) -> Workflow:
    @step
    async def body(ev: StartEvent) -> StopEvent:
        await asyncio.sleep(0)
        return StopEvent(result=fail())

    return Workflow("hooks", [body])


def body_in_thread(fail: Raise) -> Workflow:
    @step
    def body(ev: StartEvent) -> StopEvent:
        return StopEvent(result=fail())

    return Workflow("hooks", [body])


def body_inline(fail: Raise) -> Workflow:
    @step(inline=True)
    def body(ev: StartEvent) -> StopEvent:
        return StopEvent(result=fail())

    return Workflow("hooks", [body])


def body_of_generator(fail: Raise) -> Workflow:
    @step
    def body(ev: StartEvent) -> Iterator[StopEvent]:
        fail()
        yield StopEvent(result="not reached")

    return Workflow("hooks", [body])


def body_of_async_generator(fail: Raise) -> Workflow:
    @step
    async def body(ev: StartEvent) -> AsyncIterator[StopEvent]:
        fail()
        yield StopEvent(result="not reached")

    return Workflow("hooks", [body])


def failure_handler(fail: Raise) -> Workflow:
    @step
    async def handle(ev: StepFailed) -> StopEvent:
        return StopEvent(result=fail())

    @step(on_error=handle)
    async def body(ev: StartEvent) -> StopEvent:
        raise ValueError

    return Workflow("hooks", [body, handle])


def function_of_update(fail: Raise) -> Workflow:
    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ctx.update("key", lambda _: fail(), default=1))

    return Workflow("hooks", [body])


def factory_of_resource(fail: Raise) -> Workflow:
    def factory() -> object:
        return fail()

    @step
    async def body(ev: StartEvent, it: Annotated[object, Resource(factory)]) -> StopEvent:
        return StopEvent(result="not reached")

    return Workflow("hooks", [body])


def async_factory_of_resource(fail: Raise) -> Workflow:
    async def factory() -> AsyncIterator[object]:
        await asyncio.sleep(0)
        yield fail()

    @step
    async def body(ev: StartEvent, it: Annotated[object, Resource(factory)]) -> StopEvent:
        return StopEvent(result="not reached")

    return Workflow("hooks", [body])


def retry_if(fail: Raise) -> Workflow:
    @step(retry=Retry(3, initial=0, retry_if=lambda _: fail()))
    async def body(ev: StartEvent) -> StopEvent:
        raise ValueError("worth another attempt?")

    return Workflow("hooks", [body])


def truth_of_retry_if(fail: Raise) -> Workflow:
    class Answer(Hostile):
        def __bool__(self) -> bool:
            return bool(self.fail())

    @step(retry=Retry(3, initial=0, retry_if=lambda _: Answer(fail)))  # type: ignore[arg-type,return-value]
    async def body(ev: StartEvent) -> StopEvent:
        raise ValueError("worth another attempt?")

    return Workflow("hooks", [body])


def class_of_retry_on(fail: Raise) -> Workflow:
    class Asking(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return bool(fail())

    class Worth(Exception, metaclass=Asking): ...

    @step(retry=Retry(3, initial=0, on=Worth))
    async def body(ev: StartEvent) -> StopEvent:
        raise ValueError("worth another attempt?")

    return Workflow("hooks", [body])


def match(fail: Raise) -> Workflow:
    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await ctx.wait_for_event(Hello, match=lambda _: fail()))

    return Workflow("hooks", [body])


def equality_in_match(fail: Raise) -> Workflow:
    class Text(Hostile):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return bool(self.fail())

    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await ctx.wait_for_event(Hello, match={"text": Text(fail)}))

    return Workflow("hooks", [body])


def class_of_wait(fail: Raise) -> Workflow:
    class Asking(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return bool(fail())

    class Wanted(metaclass=Asking): ...

    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=await ctx.wait_for_event(Wanted))

    return Workflow("hooks", [body])


def closing_of_resource(fail: Raise) -> Workflow:
    def factory() -> Iterator[str]:
        yield "it"
        fail()

    @step
    async def body(ev: StartEvent, it: Annotated[str, Resource(factory)]) -> StopEvent:
        return StopEvent(result="too early")

    return Workflow("hooks", [body])


def exit_of_resource(fail: Raise) -> Workflow:
    class Manager:
        def __enter__(self) -> str:
            return "it"

        def __exit__(self, *_: object) -> None:
            fail()

    @step
    async def body(ev: StartEvent, it: Annotated[str, Resource(Manager)]) -> StopEvent:
        return StopEvent(result="too early")

    return Workflow("hooks", [body])


def async_closing_of_resource(fail: Raise) -> Workflow:
    async def factory() -> AsyncIterator[str]:
        yield "it"
        await asyncio.sleep(0)
        fail()

    @step
    async def body(ev: StartEvent, it: Annotated[str, Resource(factory)]) -> StopEvent:
        return StopEvent(result="too early")

    return Workflow("hooks", [body])


def async_exit_of_resource(fail: Raise) -> Workflow:
    class Manager:
        async def __aenter__(self) -> str:
            return "it"

        async def __aexit__(self, *_: object) -> None:
            fail()

    @step
    async def body(ev: StartEvent, it: Annotated[str, Resource(Manager)]) -> StopEvent:
        return StopEvent(result="too early")

    return Workflow("hooks", [body])


def observer(fail: Raise) -> Workflow:
    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.set("key", 1)
        return StopEvent(result="too early")

    class Observed(Workflow):
        def run(self, event: object = None, /, **fields: Any) -> Run:
            run = super().run(event, **fields)
            run._probe(lambda _, what: fail() if what == "started" else None)
            return run

    return Observed("hooks", [body])


def pickling_of_value(fail: Raise) -> Workflow:
    class Value(Hostile):
        def __reduce__(self) -> str:
            return str(self.fail())

    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ctx.set("key", Value(fail)))

    return Workflow("hooks", [body])


def getstate_of_value(fail: Raise) -> Workflow:
    class Value(Hostile):
        def __getstate__(self) -> object:
            return self.fail()

    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ctx.set("key", [Value(fail)]))

    return Workflow("hooks", [body])


_fail: list[Raise] = []


class Unreadable:
    """A value that cannot be read back."""

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        return _read, ()


def _read() -> Any:
    return _fail[-1]()


def unpickling_of_value(fail: Raise) -> Workflow:
    _fail[:] = [fail]

    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.set("key", Unreadable())
        return StopEvent(result=ctx.get("key"))

    return Workflow("hooks", [body])


# What a run that is not over can be.
ACTIVE = ("running", "waiting")


BODIES = [
    body_of_coroutine,
    body_in_thread,
    body_inline,
    body_of_generator,
    body_of_async_generator,
    failure_handler,
    function_of_update,
    factory_of_resource,
    async_factory_of_resource,
]
HOOKS = [
    retry_if,
    truth_of_retry_if,
    class_of_retry_on,
    match,
    equality_in_match,
    class_of_wait,
    closing_of_resource,
    exit_of_resource,
    async_closing_of_resource,
    async_exit_of_resource,
    observer,
]
CODECS = [pickling_of_value, getstate_of_value, unpickling_of_value]


def expected(place: Callable[..., Workflow], raised: type[BaseException]) -> type[BaseException]:
    """Return the class of the exception that whoever awaits the run is given."""
    if place in CODECS and raised is not KeyboardInterrupt:
        return UnreadableValue if place is unpickling_of_value else UnstorableValue
    if raised in (StopIteration, GeneratorExit):
        return RuntimeError
    if place in HOOKS and raised is asyncio.CancelledError:
        return RuntimeError
    is_async_generator = place in (
        body_of_async_generator,
        async_factory_of_resource,
        async_closing_of_resource,
    )
    if raised is StopAsyncIteration and is_async_generator:
        return RuntimeError
    return raised


class Seen:
    """What a program saw of a run."""

    status: str | None = None
    error: BaseException | None = None
    result: object = None
    sender: BaseException | None = None


async def program(workflow: Workflow, seen: Seen, *, awaits: bool) -> None:
    """Start a run, send it an event, and look at how it ends."""
    run = workflow.run()
    try:
        if not awaits:
            while run.status in ACTIVE and seen.sender is None:
                await asyncio.sleep(0.001)
                with suppress(Exception):
                    run.send_event(Hello())
        else:
            asyncio.get_running_loop().call_soon(send, run, seen)
        async with asyncio.timeout(30):
            seen.result = await run
    except BaseException as error:
        seen.error = error
        raise
    finally:
        seen.status = run.status


def send(run: Run, seen: Seen) -> None:
    """Send an event, and note what the sender is told."""
    if run.status not in ACTIVE:
        return
    try:
        run.send_event(Hello())
    except BaseException as error:
        seen.sender = error


def run_program(work: Awaitable[None]) -> BaseException | None:
    """Run a program, and return how it ended."""

    async def main() -> None:
        # What nobody retrieves is no matter of this test.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        await work

    try:
        asyncio.run(main())
    except BaseException as error:
        return error
    return None


def raiser(raised: type[BaseException]) -> Raise:
    def fail() -> Any:
        raise raised("of the user")

    return fail


PLACES = [*BODIES, *HOOKS, *CODECS]


@pytest.mark.parametrize("awaits", [True, False], ids=["awaited", "alone"])
@pytest.mark.parametrize("raised", EXCEPTIONS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_a_run_fails_with_what_the_users_code_raised_and_says_so_everywhere(
    place: Callable[[Raise], Workflow], raised: type[BaseException], awaits: bool
) -> None:
    seen = Seen()
    ended = run_program(program(place(raiser(raised)), seen, awaits=awaits))
    assert seen.sender is None, "the sender of an event is told of a failure of the receiver"
    wanted = expected(place, raised)
    if issubclass(wanted, (KeyboardInterrupt, SystemExit)):
        assert type(ended) is wanted, "the program goes on"
        assert seen.result is None
        # What was left behind is reported here: a traceback that is shown while `ast` parses
        # something else confuses that.
        gc.collect()
        return
    if wanted is asyncio.CancelledError:
        assert seen.status == "cancelled"
        assert isinstance(seen.error, RunCancelled)
        return
    assert seen.status == "failed"
    assert type(seen.error) is wanted, repr(seen.error)
    assert ended is seen.error
    assert raised in [type(cause) for cause in causes_of(seen.error)]


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("place", [*BODIES, *HOOKS], ids=lambda place: place.__name__)
def test_what_ends_the_program_does_so_though_nobody_awaits_the_run(
    place: Callable[[Raise], Workflow], raised: type[BaseException]
) -> None:
    async def work() -> None:
        run = place(raiser(raised)).run()
        async with asyncio.timeout(30):
            while True:
                await asyncio.sleep(0.001)
                with suppress(Exception):
                    run.send_event(Hello())

    assert type(run_program(work())) is raised
    gc.collect()


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, its cause, the cause of that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__

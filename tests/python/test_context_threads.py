"""The Context from threads, from other event loops, and after its time."""

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from treadle import (
    Context,
    Event,
    Run,
    RunCancelled,
    RunEnded,
    StartEvent,
    StopEvent,
    TreadleError,
    UnstorableValue,
    Workflow,
    step,
)


@pytest.fixture
def fast_switching() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def in_threads(*functions: Callable[[], object]) -> None:
    """Run each in a thread of its own, and raise the first error of any."""
    errors: list[BaseException] = []

    def guarded(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.usefixtures("fast_switching")
def test_eight_threads_lose_no_update(ctx: Context) -> None:
    start = 2**63 - 1000

    def work() -> None:
        for _ in range(2000):
            ctx.increment("n")
            ctx.increment("big")
            ctx.update("u", lambda old: old + 1, default=0)
            ctx.update("list", lambda old: [old[0] + 1, (old[0],)], default=[0, None])

    ctx.set("big", start)
    in_threads(*[work] * 8)
    assert ctx.get("n") == 16_000
    assert ctx.get("u") == 16_000
    assert ctx.get("big") == start + 16_000
    assert ctx.get("list") == [16_000, (15_999,)]


@pytest.mark.usefixtures("fast_switching")
async def test_steps_in_threads_lose_no_update() -> None:
    class Part(Event):
        pass

    @step
    async def split(ctx: Context, ev: StartEvent) -> list[Part]:
        return [Part() for _ in range(32)]

    @step(concurrency=8)
    def work(ctx: Context, ev: Part) -> StopEvent | None:
        for _ in range(100):
            ctx.increment("n")
            ctx.update("u", lambda old: old + 1, default=0)
        done = ctx.increment("done")
        return StopEvent(result=(ctx.get("n"), ctx.get("u"))) if done == 32 else None

    assert await Workflow("w", [split, work]).run() == (3200, 3200)


async def test_ordinary_code_without_await_loses_no_update() -> None:
    class Part(Event):
        pass

    @step
    async def split(ctx: Context, ev: StartEvent) -> list[Part]:
        ctx.set("n", 0)
        return [Part() for _ in range(100)]

    @step
    async def work(ctx: Context, ev: Part) -> StopEvent | None:
        for _ in range(3):
            ctx.set("n", ctx.get("n") + 1)
            await asyncio.sleep(0)
        return StopEvent(result=ctx.get("n")) if ctx.increment("done") == 100 else None

    assert await Workflow("w", [split, work]).run() == 300


@pytest.mark.usefixtures("fast_switching")
def test_threads_that_set_and_delete_the_same_keys_see_whole_values(ctx: Context) -> None:
    def write(seed: int) -> None:
        for at in range(2000):
            key = str(at % 5)
            ctx.set(key, [[seed, at]] * 3 if at % 2 else ((seed, at),) * 3)
            if at % 7 == 0:
                ctx.delete(key)

    def read() -> None:
        for at in range(4000):
            got = ctx.get(str(at % 5))
            assert got is None or (len(got) == 3 and got[0] == got[1] == got[2])
            assert set(ctx.keys()) <= set("01234")
            assert 0 <= len(ctx) <= 5

    in_threads(lambda: write(1), lambda: write(2), read, read)


class Yields:
    """Lets other threads in while it is pickled."""

    def __reduce__(self) -> Any:
        for _ in range(50):
            pass
        return Yields, ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Yields)

    __hash__ = None


@pytest.mark.usefixtures("fast_switching")
@pytest.mark.parametrize("kind", ["json", "opaque"])
def test_a_dict_that_another_thread_resizes_is_stored_whole_or_refused(
    ctx: Context, kind: str
) -> None:
    extra = {} if kind == "json" else {"opaque": Yields()}
    shared: dict[str, Any] = {str(at): [at] for at in range(50)} | extra
    stop = threading.Event()
    stored = 0

    def resize() -> None:
        at = 0
        while not stop.is_set():
            at += 1
            shared[str(at % 200)] = [at % 200]
            shared.pop(str((at + 100) % 200), None)

    def store() -> None:
        nonlocal stored
        try:
            for _ in range(1500):
                try:
                    ctx.set("k", shared)
                except UnstorableValue:
                    continue
                stored += 1
                for key, value in ctx.get("k").items():
                    assert value == ([int(key)] if key != "opaque" else Yields())
        finally:
            stop.set()

    in_threads(resize, resize, store)
    assert stored > 0


@pytest.mark.usefixtures("fast_switching")
def test_a_bytearray_that_another_thread_resizes_is_stored_whole(ctx: Context) -> None:
    buffer = bytearray()
    stop = threading.Event()

    def resize() -> None:
        while not stop.is_set():
            try:
                buffer.extend(b"x" * 1000)
                if len(buffer) > 100_000:
                    buffer.clear()
            except BufferError:
                continue

    def store() -> None:
        try:
            for _ in range(2000):
                ctx.set("k", buffer)
                got = ctx.get("k")
                assert len(got) % 1000 == 0
                assert got.count(b"x") == len(got)
        finally:
            stop.set()

    in_threads(resize, store)


USES: dict[str, Callable[[Context], Any]] = {
    "get": lambda ctx: ctx.get("k"),
    "get_bytes": lambda ctx: ctx.get_bytes("b"),
    "set": lambda ctx: ctx.set("new", 1),
    "set_bytes": lambda ctx: ctx.set_bytes("new", b""),
    "delete": lambda ctx: ctx.delete("k"),
    "in": lambda ctx: "k" in ctx,
    "len": len,
    "keys": lambda ctx: ctx.keys(),
    "state": lambda ctx: dict(ctx.state),
    "state[]": lambda ctx: ctx.state["k"],
    "state[] =": lambda ctx: ctx.state.update(new=1),
    "update": lambda ctx: ctx.update("k", lambda old: old),
    "increment": lambda ctx: ctx.increment("new"),
    "session": lambda ctx: ctx.session,
    "send_event": lambda ctx: ctx.send_event(StartEvent()),
    "send_event(StopEvent)": lambda ctx: ctx.send_event(StopEvent()),
    "write_event_to_stream": lambda ctx: ctx.write_event_to_stream(StopEvent()),
}
WRITES = {
    "set",
    "set_bytes",
    "delete",
    "state[] =",
    "update",
    "increment",
    "send_event",
    "send_event(StopEvent)",
    "write_event_to_stream",
}


def ended() -> tuple[Context, Run]:
    """Give the context and the handle of a run that is over, as is its event loop."""
    kept: list[Context] = []

    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        kept.append(ctx)
        ctx.set("k", [1])
        ctx.set("b", b"2")
        return StopEvent()

    async def main() -> Run:
        run = Workflow("w", [body]).run()
        await run
        return run

    run = asyncio.run(main())
    return kept[0], run


def call_here(use: Callable[[Context], Any], ctx: Context) -> None:
    use(ctx)


def call_in_a_thread(use: Callable[[Context], Any], ctx: Context) -> None:
    in_threads(lambda: use(ctx))


def call_in_another_loop(use: Callable[[Context], Any], ctx: Context) -> None:
    async def main() -> None:
        use(ctx)

    asyncio.run(main())


PLACES = [call_here, call_in_a_thread, call_in_another_loop]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("handle", ["kept", "dropped"])
def test_after_the_run_reading_works_and_writing_is_an_error(
    place: Callable[..., None], use: str, handle: str
) -> None:
    ctx, run = ended()
    if handle == "dropped":
        del run
        gc.collect()
    if use in WRITES:
        with pytest.raises(RunEnded):
            place(USES[use], ctx)
    else:
        place(USES[use], ctx)
    assert dict(ctx.state) == {"k": [1], "b": b"2"}
    assert ctx.run_id() in repr(ctx)
    assert ctx.attempt == 1


def test_after_the_run_values_are_still_exact() -> None:
    ctx, _ = ended()
    assert ctx.get("k") == [1]
    assert ctx.get_bytes("b") == b"2"
    assert ctx.keys() == ["k", "b"]
    assert "k" in ctx
    assert len(ctx) == 2


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("elsewhere", ["thread", "another loop"])
@pytest.mark.parametrize("use", [use for use in USES if "send" not in use])
def test_while_the_run_goes_on_the_context_works_from_elsewhere(
    use: str, elsewhere: str, debug: bool
) -> None:
    async def use_in_loop(ctx: Context) -> None:
        USES[use](ctx)

    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.set("k", [1])
        ctx.set("b", b"2")
        if elsewhere == "thread":
            await asyncio.to_thread(USES[use], ctx)
        else:
            await asyncio.to_thread(lambda: asyncio.run(use_in_loop(ctx)))
        return StopEvent(result="end")

    async def main() -> Any:
        return await Workflow("w", [body]).run()

    assert asyncio.run(main(), debug=debug) == "end"


@pytest.mark.parametrize("debug", ["", "1"], ids=["plain", "debug"])
@pytest.mark.parametrize("event", ["More", "StopEvent"])
@pytest.mark.parametrize("elsewhere", ["step", "thread", "another loop"])
def test_an_event_sent_from_elsewhere_takes_its_way_while_other_steps_wait(
    run_script: Callable[..., str], event: str, elsewhere: str, debug: str
) -> None:
    source = """
elsewhere = sys.argv[1]

class Go(Event):
    who: int

class More(Event):
    result: int

async def send_in_loop(ctx):
    ctx.send_event(EVENT(result=7))

def send(ctx):
    if elsewhere == "another loop":
        asyncio.run(send_in_loop(ctx))
    else:
        ctx.send_event(EVENT(result=7))

@step
async def start(ctx: Context, ev: StartEvent) -> list[Go]:
    return [Go(who=0), Go(who=1)]

@step
async def waits(ctx: Context, ev: Go) -> More | None:
    if ev.who == 1 and elsewhere != "step":
        await asyncio.sleep(0.01)
        thread = threading.Thread(target=send, args=(ctx,))
        thread.start()
    await asyncio.sleep(1000)

@step
def sends(ctx: Context, ev: Go) -> More | None:
    if ev.who == 1 and elsewhere == "step":
        send(ctx)

@step
async def finish(ctx: Context, ev: More) -> StopEvent:
    return StopEvent(result=ev.result)

async def main():
    assert await Workflow("w", [start, waits, sends, finish]).run() == 7

asyncio.run(main())
""".replace("EVENT", event)
    run_script(source, elsewhere, PYTHONASYNCIODEBUG=debug)


def test_nothing_counts_that_a_cancelled_step_does_in_its_thread() -> None:
    outcomes: dict[str, BaseException | None] = {}
    running, goes_on = threading.Event(), threading.Event()
    kept: list[Context] = []

    @step
    def body(ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.set("k", [1])
        kept.append(ctx)
        running.set()
        goes_on.wait()
        for name, use in USES.items():
            try:
                use(ctx)
            except BaseException as error:
                outcomes[name] = error
            else:
                outcomes[name] = None
        assert ctx.run_id() in repr(ctx)
        return StopEvent(result="never")

    async def main() -> None:
        run = Workflow("w", [body]).run()
        run.detach()
        waiting = asyncio.ensure_future(consume(run))
        await asyncio.to_thread(running.wait)
        run.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        goes_on.set()
        with pytest.raises(RunCancelled):
            await waiting
        assert run.status == "cancelled"

    async def consume(run: Run) -> Any:
        return await run

    asyncio.run(main())
    assert set(outcomes) == set(USES)
    assert {type(error).__name__ for error in outcomes.values()} == {"StepCancelled"}
    assert all(isinstance(error, TreadleError) for error in outcomes.values())
    with pytest.raises(TreadleError):
        kept[0].set("new", 1)


class Marker:
    pass


def leave_cycles(fails: bool, in_session: bool, count: int = 200) -> list[weakref.ref[Marker]]:
    """Run workflows whose contexts are in cycles, and give what tells if they are alive."""
    markers: list[weakref.ref[Marker]] = []

    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        marker = Marker()
        markers.append(weakref.ref(marker))
        ctx.session["marker"] = marker
        if in_session:
            ctx.session["context"] = ctx
        if fails:
            raise ValueError("mine")
        return StopEvent()

    async def main() -> None:
        for _ in range(count):
            try:
                await Workflow("w", [body]).run()
            except ValueError:
                continue

    asyncio.run(main())
    return markers


@pytest.mark.parametrize("in_session", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_a_context_in_a_cycle_is_collected(fails: bool, in_session: bool) -> None:
    markers = leave_cycles(fails, in_session)
    gc.collect()
    assert sum(marker() is not None for marker in markers) == 0


def test_a_context_is_visible_to_the_collector(in_run: Callable[..., Any]) -> None:
    assert [in_run(gc.is_tracked) for _ in range(100)] == [True] * 100

"""The Context as a step sees it: keys, mapping, session, identity, events."""

import asyncio
import threading
import uuid
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest
from exact import assert_exact
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from treadle import Context, Event, StartEvent, StopEvent, Workflow, step


class Progress(Event):
    done: int


def test_a_missing_key_gives_the_default(ctx: Context) -> None:
    default = object()
    assert ctx.get("k") is None
    assert ctx.get("k", default) is default
    assert ctx.get("k", default=default) is default
    assert ctx.get_bytes("k") is None
    assert ctx.get_bytes("k", default) is default


def test_a_stored_none_is_present_and_not_the_default(ctx: Context) -> None:
    ctx.set("k", None)
    assert "k" in ctx
    assert len(ctx) == 1
    assert ctx.keys() == ["k"]
    assert ctx.get("k", "default") is None
    assert ctx.state["k"] is None
    assert ctx.update("k", lambda old: [old], default="default") == [None]


def test_set_returns_none_and_takes_keywords(ctx: Context) -> None:
    assert ctx.set(key="k", value=1) is None
    assert ctx.get(key="k") == 1


def test_delete_says_whether_the_key_was_there(ctx: Context) -> None:
    ctx.set("k", 1)
    assert ctx.delete("k") is True
    assert ctx.delete("k") is False
    assert "k" not in ctx
    assert ctx.get("k", "gone") == "gone"
    assert len(ctx) == 0


def test_keys_come_in_the_order_in_which_they_were_set_first(ctx: Context) -> None:
    for key in ("c", "a", "b"):
        ctx.set(key, 0)
    ctx.set("a", 1)
    assert ctx.keys() == ["c", "a", "b"]
    ctx.delete("c")
    ctx.set("c", 2)
    assert ctx.keys() == ["a", "b", "c"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    calls=st.lists(
        st.tuples(st.sampled_from(["set", "delete", "get"]), st.integers(0, 30).map(str)),
        max_size=200,
    )
)
def test_a_context_does_what_a_dict_does(ctx: Context, calls: list[tuple[str, str]]) -> None:
    ctx.state.clear()
    model: dict[str, int] = {}
    for value, (call, key) in enumerate(calls):
        if call == "set":
            ctx.set(key, value)
            model[key] = value
        elif call == "delete":
            assert ctx.delete(key) == (key in model)
            model.pop(key, None)
        assert ctx.get(key, "missing") == model.get(key, "missing")
        assert (key in ctx) == (key in model)
        assert len(ctx) == len(model)
    assert ctx.keys() == list(model)
    assert list(ctx.state.items()) == list(model.items())


def test_state_is_a_mutable_mapping(ctx: Context) -> None:
    state = ctx.state
    assert isinstance(state, MutableMapping)
    state["a"] = 1
    state.update({"b": [2]}, c=None)
    assert list(state) == ["a", "b", "c"]
    assert dict(state) == {"a": 1, "b": [2], "c": None}
    assert state == {"a": 1, "b": [2], "c": None}
    assert (len(state), bool(state)) == (3, True)
    assert list(state.values()) == [1, [2], None]
    assert state.get("missing", 5) == 5
    assert state.setdefault("c", 9) is None
    assert state.setdefault("d", 9) == 9
    assert state.pop("d") == 9
    assert state.pop("d", "gone") == "gone"
    assert state.popitem() == ("a", 1)
    del state["b"]
    assert ctx.keys() == ["c"]
    state.clear()
    assert (len(ctx), bool(state)) == (0, False)


def test_state_and_context_are_the_same_store(ctx: Context) -> None:
    state = ctx.state
    ctx.set("k", 1)
    assert state["k"] == 1
    state["k"] = 2
    assert ctx.get("k") == 2
    assert ctx.state == state
    assert "'k': 2" in repr(state)


@pytest.mark.parametrize(
    "call", [lambda s: s["k"], lambda s: s.pop("k"), lambda s: s.__delitem__("k")]
)
def test_a_missing_key_of_state_is_a_key_error(ctx: Context, call: Callable[[Any], Any]) -> None:
    with pytest.raises(KeyError) as caught:
        call(ctx.state)
    assert caught.value.args == ("k",)


def test_state_has_no_attributes_of_its_own(ctx: Context) -> None:
    with pytest.raises(AttributeError):
        ctx.state.k = 1


@pytest.mark.parametrize("value", [b"a\x00", bytearray(b"ab"), b"", bytearray()])
def test_set_bytes_takes_binary(ctx: Context, value: Any) -> None:
    ctx.set_bytes("k", value)
    assert_exact(ctx.get_bytes("k"), value)
    assert_exact(ctx.get("k"), value)
    ctx.set("k", value)
    assert_exact(ctx.get_bytes("k"), value)


class HasBytes:
    def __bytes__(self) -> bytes:
        return b"x"


@pytest.mark.parametrize("value", ["text", 1, None, [1], (1,), [b"x"], HasBytes(), True], ids=repr)
def test_set_bytes_takes_nothing_else(ctx: Context, value: Any) -> None:
    ctx.set("k", b"old")
    with pytest.raises(TypeError, match=rf'"k".*{type(value).__name__}'):
        ctx.set_bytes("k", value)
    assert ctx.get("k") == b"old"


@pytest.mark.parametrize("value", ["text", 1, None, [1], (1,), {"a": b"x"}], ids=repr)
def test_get_bytes_gives_nothing_else(ctx: Context, value: Any) -> None:
    ctx.set("k", value)
    is_opaque = isinstance(value, (tuple, dict))
    named = "opaque" if is_opaque else type(value).__name__
    with pytest.raises(TypeError, match=rf'"k".*{named}'):
        ctx.get_bytes("k")
    assert ctx.get("k") == value


def test_session_keeps_the_identity_of_live_objects(in_run: Callable[..., Any]) -> None:
    lock = threading.Lock()

    def use(ctx: Context) -> Any:
        session = ctx.session
        session["lock"] = lock
        session[3] = lambda: 4
        assert ctx.session is session
        assert "lock" not in ctx
        assert len(ctx) == 0
        assert ctx.session[3]() == 4
        return ctx.session["lock"]

    assert in_run(use) is lock
    assert in_run(lambda ctx: dict(ctx.session)) == {}


async def test_session_is_shared_by_the_steps_of_a_run() -> None:
    connection = object()

    class Next(Event):
        pass

    @step
    async def first(ctx: Context, ev: StartEvent) -> Next:
        ctx.session["connection"] = connection
        ctx.set("n", [1])
        return Next()

    @step
    def second(ctx: Context, ev: Next) -> StopEvent:
        assert ctx.get("n") == [1]
        return StopEvent(result=ctx.session["connection"])

    assert await Workflow("w", [first, second]).run() is connection


async def test_run_id_is_the_uuid_of_the_run() -> None:
    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ctx.run_id())

    runs = [Workflow("w", [body]).run() for _ in range(100)]
    ids = [await run for run in runs]
    assert ids == [run.id for run in runs]
    assert len(set(ids)) == 100
    assert {uuid.UUID(run_id).version for run_id in ids} == {7}
    assert {uuid.UUID(run_id).variant for run_id in ids} == {uuid.RFC_4122}
    assert [str(uuid.UUID(run_id)) for run_id in ids] == ids


async def test_two_runs_share_nothing() -> None:
    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        before = ctx.keys()
        ctx.set("k", ev.value)
        return StopEvent(result=(before, ctx.get("k")))

    workflow = Workflow("w", [body])
    runs = [workflow.run(value=value) for value in range(5)]
    assert [await run for run in runs] == [([], value) for value in range(5)]


def test_attempt_is_1_on_the_first_try(in_run: Callable[..., Any]) -> None:
    assert_exact(in_run(lambda ctx: ctx.attempt), 1)


async def test_an_idempotency_key_tells_deliveries_apart() -> None:
    class Part(Event):
        pass

    seen: list[str] = []

    @step
    async def split(ctx: Context, ev: StartEvent) -> list[Part]:
        seen.append(ctx.idempotency_key)
        assert ctx.idempotency_key == ctx.idempotency_key
        return [Part(), Part(), Part()]

    @step
    async def work(ctx: Context, ev: Part) -> StopEvent | None:
        seen.append(ctx.idempotency_key)
        return StopEvent() if len(seen) == 4 else None

    await Workflow("w", [split, work]).run()
    assert len(set(seen)) == 4


async def test_send_event_routes_now_and_the_step_may_return_none() -> None:
    class Sent(Event):
        at: int

    @step
    async def sender(ctx: Context, ev: StartEvent) -> Sent | None:
        for at in range(3):
            assert ctx.send_event(Sent(at=at)) is None
        return None

    @step
    async def receiver(ctx: Context, ev: Sent) -> StopEvent | None:
        total = ctx.update("seen", lambda seen: [*seen, ev.at], default=[])
        return StopEvent(result=sorted(total)) if len(total) == 3 else None

    assert await Workflow("w", [sender, receiver]).run() == [0, 1, 2]


async def test_what_a_step_streams_is_visible_while_it_still_runs() -> None:
    goes_on = asyncio.Event()

    @step
    async def body(ctx: Context, ev: StartEvent) -> StopEvent:
        assert ctx.write_event_to_stream(Progress(done=1)) is None
        await goes_on.wait()
        ctx.write_event_to_stream(Progress(done=2))
        return StopEvent(result="end")

    run = Workflow("w", [body]).run()
    seen = []
    async for event in run.stream_events():
        seen.append(event)
        goes_on.set()
    assert seen == [Progress(done=1), Progress(done=2)]
    assert await run == "end"


def test_a_context_cannot_be_made_or_inherited_from() -> None:
    with pytest.raises(TypeError):
        Context()
    with pytest.raises(TypeError):
        type("Mine", (Context,), {})


def test_repr_names_the_step_and_the_run(ctx: Context) -> None:
    assert "lend" in repr(ctx)
    assert ctx.run_id() in repr(ctx)

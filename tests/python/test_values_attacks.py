"""Hostile values: a correct round trip or a typed error; the process lives, the old value stays."""

import asyncio
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from exact import assert_exact

from treadle import (
    Context,
    Event,
    StartEvent,
    StopEvent,
    UnreadableValue,
    UnstorableValue,
    Workflow,
    step,
)


class Reduces:
    """An object whose `__reduce__` is whatever a test makes of it."""

    def __init__(self, reduce: Callable[[], Any]) -> None:
        self.reduce = reduce

    def __reduce__(self) -> Any:
        return self.reduce()


class GivesState:
    def __init__(self, get_state: Callable[[], Any]) -> None:
        self.get_state = get_state

    def __getstate__(self) -> Any:
        return self.get_state()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Plain:
    pass


def fail(error: BaseException) -> Any:
    raise error


def build(*_: object) -> str:
    return "built"


def raise_on_load(name: str) -> Any:
    raise {"ValueError": ValueError("on load"), "KeyboardInterrupt": KeyboardInterrupt()}[name]


class NeedsTwoArguments(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


WRAPS = [
    pytest.param(lambda value: value, id="bare"),
    pytest.param(lambda value: [1, value], id="in a list"),
    pytest.param(lambda value: {"a": {"b": value}}, id="in a dict"),
    pytest.param(lambda value: (value,), id="in a tuple"),
]

NONSENSE = [
    None,
    1,
    "no.such.name",
    "",
    b"",
    object(),
    (),
    (build,),
    (1, 2),
    (None, ()),
    (build, 1),
    (build, None),
    (build, (), 1, 2, 3, 4, 5, 6),
    (build, (), None, 5),
    (build, (), None, None, [1]),
    ("a", ("b",)),
]


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("hostile", [Reduces, GivesState])
@pytest.mark.parametrize(
    "error",
    [ValueError("no"), TypeError("no"), RecursionError(), UnstorableValue("mine")],
    ids=repr,
)
def test_an_object_whose_pickling_raises_is_an_error(
    ctx: Context, hostile: Any, error: Exception, wrap: Callable[[Any], Any]
) -> None:
    ctx.set("k", ["old"])
    with pytest.raises(UnstorableValue, match=r'"k".*ctx\.session') as caught:
        ctx.set("k", wrap(hostile(lambda: fail(error))))
    assert caught.value.__cause__ is error
    assert ctx.get("k") == ["old"]


@pytest.mark.parametrize("hostile", [Reduces, GivesState])
@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, asyncio.CancelledError])
def test_a_value_cannot_end_the_program_that_pickles_it(
    ctx: Context, hostile: Any, error: type[BaseException]
) -> None:
    ctx.set("k", ["old"])
    with pytest.raises(UnstorableValue) as caught:
        ctx.set("k", [hostile(lambda: fail(error()))])
    assert type(caught.value.__cause__) is error
    assert ctx.get("k") == ["old"]


@pytest.mark.parametrize("hostile", [Reduces, GivesState])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_while_pickling_comes_through_as_itself(
    ctx: Context, hostile: Any, error: type[BaseException]
) -> None:
    ctx.set("k", ["old"])
    with pytest.raises(error) as caught:
        ctx.set("k", [hostile(lambda: fail(error()))])
    assert type(caught.value) is error
    assert ctx.get("k") == ["old"]


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda v: ascii(v).split(" at ")[0])
def test_a_reduce_that_returns_nonsense_is_an_error(
    ctx: Context, nonsense: Any, wrap: Callable[[Any], Any]
) -> None:
    ctx.set("k", ["old"])
    with pytest.raises(UnstorableValue):
        ctx.set("k", wrap(Reduces(lambda: nonsense)))
    assert ctx.get("k") == ["old"]


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_reduce_that_sets_the_same_key_is_written_over(
    ctx: Context, wrap: Callable[[Any], Any]
) -> None:
    seen = []

    def reduce() -> Any:
        seen.append(ctx.get("k"))
        ctx.set("k", [1, ("inner",)])
        seen.append(ctx.get("k"))
        return build, ()

    ctx.set("k", "old")
    ctx.set("k", wrap(Reduces(reduce)))
    assert seen == ["old", [1, ("inner",)]]
    assert ctx.get("k") == wrap("built")


@pytest.mark.parametrize("wrap", WRAPS)
def test_what_a_reduce_set_before_it_raised_stays(ctx: Context, wrap: Callable[[Any], Any]) -> None:
    def reduce() -> Any:
        ctx.set("k", "inner")
        raise ValueError

    ctx.set("k", "old")
    with pytest.raises(UnstorableValue):
        ctx.set("k", wrap(Reduces(reduce)))
    assert ctx.get("k") == "inner"


def test_a_reduce_may_use_the_whole_context(ctx: Context) -> None:
    def reduce() -> Any:
        ctx.delete("k")
        ctx.increment("n")
        ctx.update("u", lambda old: [*old, 1], default=[])
        ctx.state.clear()
        ctx.set("other", {"a": [1]})
        return build, ()

    ctx.set("k", "old")
    ctx.set("k", [Reduces(reduce)])
    assert dict(ctx.state) == {"other": {"a": [1]}, "k": ["built"]}


def test_a_reduce_that_stores_itself_again_and_again_is_stopped(ctx: Context) -> None:
    def reduce() -> Any:
        ctx.set("k", Reduces(reduce))
        return build, ()

    ctx.set("k", "old")
    with pytest.raises(UnstorableValue):
        ctx.set("k", Reduces(reduce))
    assert ctx.get("k") == "old"


def test_a_reduce_that_changes_the_container_around_it_does_no_harm(ctx: Context) -> None:
    around: list[Any] = []
    mapping: dict[str, Any] = {}

    def reduce() -> Any:
        around.clear()
        mapping.clear()
        mapping.update({str(at): at for at in range(1000)})
        return build, ()

    around.extend([Reduces(reduce)] * 5)
    try:
        ctx.set("k", around)
    except UnstorableValue:
        # The pickler of Python 3.14 notices.
        assert "k" not in ctx
    else:
        assert ctx.get("k") in (["built"], ["built"] * 5)
    mapping.clear()
    mapping.update({"a": Reduces(reduce), "b": 2})
    with pytest.raises(UnstorableValue):
        ctx.set("m", mapping)
    assert "m" not in ctx


@pytest.mark.parametrize(
    "value",
    [
        Reduces(lambda: (raise_on_load, ("ValueError",))),
        Reduces(lambda: (int, ("not a number",))),
        Reduces(lambda: (Plain, (), object)),
        NeedsTwoArguments("a", "b"),
    ],
    ids=["raises", "bad argument", "bad state", "exception"],
)
@pytest.mark.parametrize("wrap", WRAPS)
def test_an_object_whose_unpickling_raises_is_an_error_at_get(
    ctx: Context, value: Any, wrap: Callable[[Any], Any]
) -> None:
    ctx.set("the key", wrap(value))
    calls: list[Callable[[], object]] = [
        lambda: ctx.get("the key"),
        lambda: ctx.get("the key", "default"),
        lambda: ctx.state["the key"],
        lambda: ctx.update("the key", lambda old: old),
        lambda: ctx.increment("the key"),
    ]
    for call in calls:
        with pytest.raises(UnreadableValue, match='"the key"') as caught:
            call()
        assert isinstance(caught.value.__cause__, Exception)
    assert "the key" in ctx
    ctx.set("the key", 1)
    assert ctx.get("the key") == 1


def test_an_interrupt_while_unpickling_comes_through_as_itself(ctx: Context) -> None:
    ctx.set("k", Reduces(lambda: (raise_on_load, ("KeyboardInterrupt",))))
    with pytest.raises(KeyboardInterrupt):
        ctx.get("k")


def test_an_error_that_has_no_text_is_still_a_typed_error(ctx: Context) -> None:
    with pytest.raises(UnstorableValue, match='"k"'):
        ctx.set("k", Reduces(lambda: fail(UnprintableError())))


def test_a_type_that_hides_its_name_is_still_a_typed_error(ctx: Context) -> None:
    class Hiding(type):
        def __getattribute__(cls, name: str) -> Any:
            raise RuntimeError(name)

    class Hidden(metaclass=Hiding):
        def __reduce_ex__(self, protocol: Any) -> Any:
            raise ValueError("no")

    with pytest.raises(UnstorableValue, match='"k"'):
        ctx.set("k", Hidden())


def test_an_error_text_with_surrogates_is_still_a_typed_error(ctx: Context) -> None:
    with pytest.raises(UnstorableValue, match='"k"'):
        ctx.set("k", Reduces(lambda: fail(ValueError("\ud800"))))


def test_the_same_container_in_itself_comes_back_as_such(ctx: Context) -> None:
    cyclic_list: list[Any] = [1]
    cyclic_list.append(cyclic_list)
    cyclic_dict: dict[str, Any] = {"a": 1}
    cyclic_dict["self"] = [cyclic_dict]
    ctx.set("list", cyclic_list)
    ctx.set("dict", cyclic_dict)
    got_list, got_dict = ctx.get("list"), ctx.get("dict")
    assert got_list[0] == 1
    assert got_list[1] is got_list
    assert list(got_dict) == ["a", "self"]
    assert got_dict["self"][0] is got_dict


def test_two_lists_in_each_other_come_back_as_such(ctx: Context) -> None:
    left: list[Any] = []
    right = [left, left]
    left.extend([right, right])
    ctx.set("k", left)
    got = ctx.get("k")
    assert got[0] is got[1]
    assert got[0][0] is got


def test_a_released_memoryview_is_an_error(ctx: Context) -> None:
    view = memoryview(b"abc")
    view.release()
    ctx.set("k", "old")
    for call in (ctx.set, ctx.set_bytes):
        with pytest.raises(ValueError, match="released"):
            call("k", view)
    assert ctx.get("k") == "old"


class Evil:
    loaded = 0

    def __reduce__(self) -> Any:
        return Evil.load, ()

    @staticmethod
    def load() -> str:
        Evil.loaded += 1
        return "pwned"


PICKLE = pickle.dumps(Evil())

LOOKALIKES: list[Any] = [
    PICKLE,
    bytearray(PICKLE),
    PICKLE.decode("latin-1"),
    [PICKLE.decode("latin-1")],
    [PICKLE],
    {"tag": "opaque", "bytes": PICKLE.decode("latin-1")},
    {"__treadle__": "opaque", "data": PICKLE.hex()},
    {"__pickle__": PICKLE.hex()},
    {"$type": "pickle", "$value": PICKLE.hex()},
    {"Opaque": [1]},
    {"Binary": "AAEC"},
    {"type": "Buffer", "data": [1]},
    ["opaque", "x"],
    ["Json", "null"],
    [1, PICKLE.decode("latin-1")],
    b"null",
    b"[1]",
    b'{"a":1}',
    "null",
    "true",
    "[1]",
    '{"a":1}',
    "NaN",
    ["NaN", "Infinity", "-Infinity"],
    "b'x'",
    "\x00opaque",
    "\x02\x03",
    "binary:AAEC",
    "base64:AAEC",
    "!!python/object:os.system",
    {"py/object": "os.system"},
    {"__class__": "UserProfile", "__module__": "x"},
    {"": {"": {"": ""}}},
    "\\ud800",
    "\\u0000",
]


@pytest.mark.parametrize("value", LOOKALIKES, ids=lambda v: ascii(v)[:40])
async def test_user_data_that_looks_like_a_marker_stays_user_data(ctx: Context, value: Any) -> None:
    class Carries(Event):
        data: Any

    @step
    async def first(ctx: Context, ev: StartEvent) -> Carries:
        ctx.set("value", value)
        ctx.set("nested", {"a": [value]})
        ctx.write_event_to_stream(Carries(data=value))
        return Carries(data=ev.data)

    @step
    async def last(ctx: Context, ev: Carries) -> StopEvent:
        assert_exact(ctx.get("value"), value)
        assert_exact(ctx.get("nested"), {"a": [value]})
        return StopEvent(result=ev.data)

    loaded = Evil.loaded
    run = Workflow("lookalikes", [first, last]).run(data=value)
    assert_exact(await run, value)
    assert [event.data async for event in run.stream_events()] == [value]
    if isinstance(value, str):
        ctx.set(value, 1)
        assert ctx.keys() == [value]
    assert Evil.loaded == loaded


def test_only_an_opaque_value_is_ever_unpickled(ctx: Context) -> None:
    Evil.loaded = 0
    for key, value in enumerate(
        [PICKLE, bytearray(PICKLE), memoryview(PICKLE), PICKLE.decode("latin-1")]
    ):
        ctx.set(str(key), value)
        ctx.get(str(key))
    assert Evil.loaded == 0
    ctx.set("evil", Evil())
    assert ctx.get("evil") == "pwned"
    assert Evil.loaded == 1


def test_get_bytes_unpickles_nothing(ctx: Context) -> None:
    Evil.loaded = 0
    ctx.set("evil", Evil())
    with pytest.raises(TypeError, match='"evil"'):
        ctx.get_bytes("evil")
    assert Evil.loaded == 0


def test_a_finaliser_that_sets_a_value_during_set_does_no_harm(
    run_script: Callable[..., str],
) -> None:
    # The collector may run any finaliser while the error about the surrogate is made.
    run_script(
        """
        class Cycle:
            def __init__(self, ctx):
                self.me, self.ctx = self, ctx
            def __del__(self):
                try:
                    self.ctx.set("from the finaliser", [1, {"a": 2}])
                except BaseException as error:
                    raised.append(error)
        raised = []
        def use(ctx):
            for round in range(40):
                for _ in range(round % 7):
                    Cycle(ctx)
                gc.set_threshold(1)
                ctx.set("k", ["a", chr(0xD800), {"b": 1}])
                gc.set_threshold(700)
                assert ctx.get("k") == ["a", chr(0xD800), {"b": 1}]
            gc.collect()
            assert ctx.get("from the finaliser") == [1, {"a": 2}]
        in_run(use)
        assert raised == [], raised
        """,
        RUST_BACKTRACE="0",
    )


@pytest.mark.parametrize("attack", ["list", "dict values", "dict keys"])
def test_a_long_string_in_many_places_takes_memory_once(
    run_script: Callable[..., str], attack: str
) -> None:
    run_script(
        """
        text = "x" * 10_000_000
        value = {
            "list": [text] * 400,
            "dict values": {str(at): text for at in range(400)},
            "dict keys": [{text: at} for at in range(400)],
        }[sys.argv[1]]
        limit_memory(1500)
        def use(ctx):
            ctx.set("k", "old")
            try:
                ctx.set("k", value)
            except (TypeError, MemoryError):
                assert ctx.get("k") == "old"
            else:
                assert ctx.get("k") == value
        in_run(use)
        """,
        attack,
        RUST_BACKTRACE="0",
    )


@pytest.mark.parametrize("levels", [10, 16, 22, 24, 100, 127, 128, 200])
@pytest.mark.parametrize("kind", ["list", "dict"])
def test_nested_pairs_of_one_object_stay_small(
    run_script: Callable[..., str], levels: int, kind: str
) -> None:
    # 2 ** levels leaves, if each way to them were written out.
    run_script(
        """
        levels, kind = int(sys.argv[1]), sys.argv[2]
        value = [] if kind == "list" else {}
        for _ in range(levels):
            value = [value, value] if kind == "list" else {"a": value, "b": value}
        def use(ctx):
            before = resident_megabytes()
            ctx.set("k", value)
            got = ctx.get("k")
            assert resident_megabytes() - before < 200
            for _ in range(levels):
                assert len(got) == 2
                got = got[0] if kind == "list" else got["a"]
            assert got == ([] if kind == "list" else {})
        in_run(use)
        """,
        str(levels),
        kind,
    )


def test_a_million_sets_and_gets_take_no_memory(run_script: Callable[..., str]) -> None:
    run_script(
        """
        class Plain:
            pass
        class Fails:
            def __reduce__(self):
                raise ValueError
        values = [1, "s", [1, {"a": "b"}], b"b", bytearray(b"b"), memoryview(b"m"), (1,), 2**70,
                  Plain(), Fails(), ["\\ud800"], float("inf")]
        def use(ctx):
            def rounds(count):
                for _ in range(count):
                    for at, value in enumerate(values):
                        try:
                            ctx.set(f"k{at}", value)
                        except TypeError:
                            pass
                        ctx.get(f"k{at}")
                        ctx.delete(f"k{at}")
            rounds(2_000)
            before = resident_megabytes()
            rounds(40_000)
            assert resident_megabytes() - before < 10, resident_megabytes() - before
        in_run(use)
        """
    )


def test_a_raised_recursion_limit_needs_no_memory_for_small_values(
    run_script: Callable[..., str],
) -> None:
    run_script(
        """
        def use(ctx):
            limit_memory(600)
            sys.setrecursionlimit(10**6)
            try:
                ctx.set("k", (1, 2))
            except Exception as error:
                assert isinstance(error, (TypeError, MemoryError, TreadleError)), error
            else:
                assert ctx.get("k") == (1, 2)
        in_run(use)
        """
    )


def test_the_interpreter_leaves_while_values_of_all_kinds_are_stored() -> None:
    source = """if True:
        import asyncio
        from treadle import *
        kept = []
        class Plain: pass
        @step
        async def body(ctx: Context, ev: StartEvent) -> StopEvent:
            kept.append(ctx)
            for at, value in enumerate([1, [1], b"b", bytearray(b"b"), (1,), Plain()]):
                ctx.set(str(at), value)
            ctx.session["self"] = ctx
        async def main():
            run = Workflow("w", [body]).run()
            kept.append(run)
            await asyncio.sleep(0.01)
        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, check=False, timeout=50
    )
    assert done.returncode == 0, done.stderr
    assert b"panicked" not in done.stderr

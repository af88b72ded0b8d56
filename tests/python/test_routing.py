import dataclasses
from typing import Any

import msgspec
import pydantic
import pytest

from treadle import (
    Context,
    Event,
    RunStalled,
    StartEvent,
    StopEvent,
    TreadleError,
    UnroutedEvent,
    Workflow,
    step,
)


class Animal(Event):
    n: int = 0


class Dog(Animal):
    pass


class Puppy(Dog):
    pass


class Cat(Animal):
    pass


class Stone(Event):
    pass


class Model(pydantic.BaseModel):
    n: int


@dataclasses.dataclass
class Data:
    n: int


class Struct(msgspec.Struct):
    n: int


class Plain:
    def __init__(self, n: int) -> None:
        self.n = n


async def routed(first: Any, *steps: Any) -> Any:
    """Run a workflow whose first step returns `first`; gives the names of the steps that got it."""

    @step
    async def begin(ev: StartEvent):
        return first

    return await Workflow("routed", [begin, *steps]).run()


@step
async def animal(ev: Animal) -> StopEvent:
    return StopEvent(result=("animal", type(ev)))


@step
async def dog(ev: Dog) -> StopEvent:
    return StopEvent(result=("dog", type(ev)))


@step
async def anything(ev: Event) -> StopEvent:
    return StopEvent(result=("anything", type(ev)))


@pytest.mark.parametrize(
    ("event", "taker"),
    [
        (Puppy(), "dog"),
        (Dog(), "dog"),
        (Cat(), "animal"),
        (Animal(), "animal"),
        (Stone(), "anything"),
    ],
)
async def test_an_event_goes_to_the_steps_of_its_most_specific_class(event: Event, taker: str):
    assert await routed(event, anything, animal, dog) == (taker, type(event))


async def test_every_step_that_accepts_the_most_specific_class_gets_the_event():
    got: list[str] = []

    @step
    async def begin(ev: StartEvent) -> Dog:
        return Dog(n=1)

    def taker(label: str) -> Any:
        @step(name=label)
        async def take(ctx: Context, ev: Dog) -> Stone:
            got.append(label)
            return Stone()

        return take

    @step
    async def join(ctx: Context, ev: Stone) -> StopEvent | None:
        return StopEvent(result=sorted(got)) if ctx.increment("n") == 3 else None

    assert await Workflow("w", [begin, taker("a"), taker("b"), taker("c"), join]).run() == list(
        "abc"
    )


async def test_a_step_that_accepts_a_union_gets_events_of_each_member():
    @step
    async def begin(ev: StartEvent) -> list[Dog | Stone]:
        return [Dog(), Stone(), Dog()]

    @step
    async def either(ctx: Context, ev: Dog | Stone) -> StopEvent | None:
        seen = ctx.update("seen", lambda names: [*names, type(ev).__name__], default=[])
        return StopEvent(result=seen) if len(seen) == 3 else None

    assert await Workflow("w", [begin, either]).run() == ["Dog", "Stone", "Dog"]


async def test_a_step_that_accepts_a_class_and_its_base_gets_an_event_once():
    @step
    async def begin(ev: StartEvent) -> list[Dog]:
        return [Dog(), Dog()]

    @step
    async def both(ctx: Context, ev: Dog | Animal) -> StopEvent | Stone:
        return StopEvent(result=ctx.get("n")) if ctx.increment("n") == 2 else Stone()

    @step
    async def nothing(ev: Stone) -> None: ...

    assert await Workflow("w", [begin, both, nothing]).run() == 2


async def test_event_takes_the_start_event_if_no_step_names_it():
    @step
    async def first(ev: Event):
        return StopEvent(result=type(ev).__name__)

    assert await Workflow("w", [first]).run() == "StartEvent"


async def test_event_does_not_take_what_a_step_names_more_exactly():
    @step
    async def catch_all(ev: Event):
        return StopEvent(result="catch all")

    @step
    async def begin(ev: StartEvent):
        return StopEvent(result="begin")

    assert await Workflow("w", [catch_all, begin]).run() == "begin"


@pytest.mark.parametrize(
    "event",
    [Model(n=5), Data(n=5), Struct(n=5), Plain(5), (5,), "five", 5, {"n": 5}, b"5"],
    ids=repr,
)
async def test_an_instance_of_any_class_can_be_an_event(event: Any):
    cls: Any = type(event)

    @step
    async def take(ev: cls) -> StopEvent:
        return StopEvent(result=ev)

    assert await routed(event, take) is event


async def test_an_event_arrives_as_the_same_object():
    event = Dog(n=3)

    @step
    async def take(ev: Dog) -> StopEvent:
        return StopEvent(result=ev)

    assert await routed(event, take) is event


async def test_diamond_inheritance_follows_the_method_resolution_order():
    class Left(Animal):
        pass

    class Right(Animal):
        pass

    class Bottom(Left, Right):
        pass

    @step
    async def right(ev: Right) -> StopEvent:
        return StopEvent(result="right")

    @step
    async def left(ev: Left) -> StopEvent:
        return StopEvent(result="left")

    assert await routed(Bottom(), right, left) == "left"
    assert await routed(Bottom(), right, animal) == "right"


async def test_deep_inheritance_finds_the_nearest_class():
    cls: type = Dog
    for level in range(300):
        cls = type(f"Dog{level}", (cls,), {})
    assert (await routed(cls(), animal, dog))[0] == "dog"


async def test_many_classes_made_at_run_time_are_routed_right():
    @step
    async def begin(ev: StartEvent):
        return [type("Made", (Dog if i % 2 else Cat,), {})() for i in range(10_000)]

    @step
    async def dogs(ctx: Context, ev: Dog):
        ctx.increment("dogs")
        return done(ctx)

    @step
    async def cats(ctx: Context, ev: Cat):
        ctx.increment("cats")
        return done(ctx)

    def done(ctx: Context) -> StopEvent | None:
        dogs, cats = ctx.get("dogs", 0), ctx.get("cats", 0)
        return StopEvent(result=(dogs, cats)) if dogs + cats == 10_000 else None

    assert await Workflow("w", [begin, dogs, cats]).run() == (5000, 5000)


async def test_an_event_that_no_step_accepts_fails_the_run_with_unrouted_event():
    with pytest.raises(UnroutedEvent, match=r"begin.*Stone") as caught:
        await routed(Stone(), dog)
    assert isinstance(caught.value, TreadleError)


async def test_send_event_raises_unrouted_event_in_the_step():
    @step
    async def begin(ctx: Context, ev: StartEvent) -> StopEvent:
        with pytest.raises(UnroutedEvent, match="Stone"):
            ctx.send_event(Stone())
        return StopEvent(result="caught")

    assert await Workflow("w", [begin]).run() == "caught"


def test_a_start_event_that_no_step_accepts_is_refused_at_once():
    async def main() -> None:
        @step
        async def begin(ev: StartEvent) -> StopEvent:
            return StopEvent()

        with pytest.raises(UnroutedEvent, match="Stone"):
            Workflow("w", [begin]).run(Stone())

    import asyncio

    asyncio.run(main())


async def test_the_first_stop_event_gives_the_result_and_the_rest_is_ignored():
    @step
    async def begin(ev: StartEvent) -> list[StopEvent | Dog]:
        return [StopEvent(result=1), StopEvent(result=2), Dog()]

    @step
    async def never(ev: Dog) -> None:
        raise AssertionError("it must not start")

    assert await Workflow("w", [begin, never]).run() == 1


async def test_a_subclass_of_stop_event_is_the_result_itself():
    class Report(StopEvent):
        lines: int

    @step
    async def begin(ev: StartEvent) -> Report:
        return Report(lines=3)

    result = await Workflow("w", [begin]).run()
    assert type(result) is Report
    assert result.lines == 3


async def test_a_list_may_hold_none_and_be_empty():
    @step
    async def begin(ctx: Context, ev: StartEvent) -> list[Dog | Stone | None]:
        return [None, Dog(), None, Stone()]

    @step
    async def empty(ev: Stone) -> list[Dog]:
        return []

    assert (await Workflow("w", [begin, empty, dog]).run())[0] == "dog"


async def test_what_is_neither_an_event_nor_none_is_unrouted():
    with pytest.raises(UnroutedEvent, match="42"):
        await routed(42, dog)


async def test_events_of_one_step_are_taken_in_the_order_in_which_they_were_sent():
    @step
    async def begin(ctx: Context, ev: StartEvent) -> list[Dog]:
        for n in range(5):
            ctx.send_event(Dog(n=n))
        return [Dog(n=n) for n in range(5, 10)]

    @step
    async def note(ctx: Context, ev: Dog) -> StopEvent | None:
        seen = ctx.update("seen", lambda seen: [*seen, ev.n], default=[])
        return StopEvent(result=seen) if len(seen) == 10 else None

    assert await Workflow("w", [begin, note]).run() == list(range(10))


async def test_events_with_hostile_methods_are_routed_all_the_same():
    class Hostile(Event):
        def __eq__(self, other: object) -> bool:
            raise AssertionError("__eq__")

        def __bool__(self) -> bool:
            raise AssertionError("__bool__")

        def __len__(self) -> int:
            raise AssertionError("__len__")

        def __repr__(self) -> str:
            raise AssertionError("__repr__")

        def __iter__(self) -> Any:
            raise AssertionError("__iter__")

        __hash__ = None  # type: ignore[assignment]

    @step
    async def take(ev: Hostile) -> StopEvent:
        return StopEvent(result="taken")

    assert await routed(Hostile(), take) == "taken"
    with pytest.raises(UnroutedEvent, match="Hostile"):
        await routed(Hostile(), dog)


async def test_an_event_that_sends_another_when_it_is_destroyed_does_no_harm():
    sent: list[int] = []

    class Dying(Event):
        context: Any = None

        def __del__(self) -> None:
            if self.context is not None:
                sent.append(1)
                self.context.send_event(Dog())

    @step
    async def begin(ctx: Context, ev: StartEvent) -> list[Dying]:
        return [Dying(context=ctx) for _ in range(3)]

    @step
    async def take(ev: Dying) -> None: ...

    @step
    async def count(ctx: Context, ev: Dog) -> StopEvent | None:
        return StopEvent(result=len(sent)) if ctx.increment("n") == 3 else None

    assert await Workflow("w", [begin, take, count]).run() == 3


async def test_a_run_that_can_go_nowhere_stalls():
    with pytest.raises(RunStalled, match="StopEvent"):
        await routed(None, dog)


async def test_a_run_whose_fan_out_ends_in_nothing_stalls():
    import asyncio

    @step
    async def begin(ev: StartEvent) -> list[Dog]:
        return [Dog(n=n) for n in range(20)]

    @step
    async def sink(ev: Dog) -> None:
        await asyncio.sleep(0.001 * ev.n)

    @step
    async def never(ev: Stone) -> StopEvent:
        return StopEvent()

    with pytest.raises(RunStalled):
        await Workflow("w", [begin, sink, never]).run()


async def test_ten_thousand_steps_in_a_chain_do_not_nest():
    @step
    async def begin(ev: StartEvent) -> Dog:
        return Dog(n=0)

    @step
    async def again(ev: Dog) -> Dog | StopEvent:
        return StopEvent(result=ev.n) if ev.n == 10_000 else Dog(n=ev.n + 1)

    assert await Workflow("w", [begin, again]).run() == 10_000

import copy
import dataclasses
import pickle
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle import Event, Lagged, StartEvent, StopEvent


class Page(Event):
    url: str
    size: int = 0


class Named(Page):
    name: str


class Tags(Event):
    tags: list[str] = dataclasses.field(default_factory=list)
    count: ClassVar[int] = 7


class Empty(Event):
    pass


def test_fields_are_given_by_keyword():
    page = Page(url="x", size=3)
    assert (page.url, page.size) == ("x", 3)


def test_a_default_fills_in_for_a_field():
    assert Page(url="x").size == 0


def test_a_missing_field_is_a_type_error_that_names_it():
    with pytest.raises(TypeError, match="url"):
        Page(size=1)


@pytest.mark.parametrize("cls", [Page, Empty, Event, Lagged, StopEvent])
def test_an_unknown_field_is_a_type_error(cls: Any):
    with pytest.raises(TypeError):
        cls(url="x", unknown=1)


@pytest.mark.parametrize("cls", [Page, Empty, Event, StopEvent, StartEvent])
def test_positional_values_are_a_type_error(cls: Any):
    with pytest.raises(TypeError):
        cls("x")


def test_a_subclass_inherits_fields_and_may_add_one_without_a_default():
    named = Named(url="u", name="n")
    assert vars(named) == {"url": "u", "size": 0, "name": "n"}


def test_a_mutable_default_is_refused_where_the_class_is_made():
    with pytest.raises(ValueError, match="mutable default"):

        class Wrong(Event):
            items: list[str] = []  # noqa: RUF012


def test_default_factories_make_a_fresh_value_each_time():
    assert Tags().tags == []
    assert Tags().tags is not Tags().tags


def test_a_class_variable_is_no_field():
    assert Tags.count == 7
    with pytest.raises(TypeError):
        Tags(count=1)


def test_post_init_is_called():
    class Twice(Event):
        n: int

        def __post_init__(self) -> None:
            self.n *= 2

    assert Twice(n=4).n == 8


def test_an_own_init_is_kept():
    class Own(Event):
        n: int

        def __init__(self, text: str) -> None:
            self.n = int(text)

    assert Own("5").n == 5


def test_events_are_equal_by_class_and_fields():
    assert Page(url="x") == Page(url="x")
    assert Page(url="x") != Page(url="y")
    assert Empty() == Empty()
    assert Empty() != Event()
    assert StopEvent(result=1) == StopEvent(result=1)
    assert StopEvent(result=1) != StopEvent(result=2)


def test_an_event_of_a_subclass_is_not_equal_to_one_of_its_base():
    class Other(Page):
        pass

    assert Other(url="x") != Page(url="x")


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Page(url="x"), "Page(url='x', size=0)"),
        (Empty(), "Empty()"),
        (StartEvent(a=1), "StartEvent(a=1)"),
        (StopEvent(result="r"), "StopEvent(result='r')"),
        (Lagged(missed=3), "Lagged(missed=3)"),
    ],
)
def test_the_repr_names_class_and_fields(event: Event, text: str):
    assert repr(event) == text


@pytest.mark.parametrize(
    "event",
    [Page(url="x"), Named(url="u", name="n"), Empty(), StartEvent(a=[1]), StopEvent(result=2)],
)
def test_events_survive_copying_and_pickling(event: Event):
    assert pickle.loads(pickle.dumps(event)) == event
    assert copy.deepcopy(event) == event
    assert copy.copy(event) == event


def test_a_start_event_takes_any_fields():
    assert StartEvent(url="x", depth=2).depth == 2


def test_a_start_event_has_no_other_attributes():
    with pytest.raises(AttributeError, match="nope"):
        _ = StartEvent(url="x").nope


def test_a_start_event_with_declared_fields_takes_only_these():
    class Crawl(StartEvent):
        url: str

    assert Crawl(url="x").url == "x"
    with pytest.raises(TypeError, match="depth"):
        Crawl(url="x", depth=1)
    with pytest.raises(TypeError, match="url"):
        Crawl()


def test_a_stop_event_has_the_result_none_by_default():
    assert StopEvent().result is None


def test_a_stop_event_with_declared_fields_has_these_alone():
    class Done(StopEvent):
        n: int

    assert Done(n=1).n == 1
    with pytest.raises(TypeError, match="result"):
        Done(n=1, result=2)  # type: ignore[call-arg]


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True), st.integers() | st.text() | st.none()
    )
)
def test_a_start_event_gives_back_every_field(fields: dict[str, Any]):
    event = StartEvent(**fields)
    assert vars(event) == fields
    assert all(getattr(event, name) == value for name, value in fields.items())


def test_fields_may_have_any_name_that_a_keyword_may_have():
    assert vars(StartEvent(self=1, event=2, name=3)) == {
        "self": 1,
        "event": 2,
        "name": 3,
    }


def test_a_hundred_levels_of_inheritance_keep_their_fields():
    cls: Any = Page
    for level in range(100):
        cls = type(
            f"Level{level}", (cls,), {"__annotations__": {f"f{level}": int}, f"f{level}": level}
        )
    event = cls(url="x")
    assert event.f99 == 99
    assert event.f0 == 0
    assert event.url == "x"

"""The rules for values, on whatever Hypothesis comes up with."""

import json
import pickle
from typing import Any

from exact import assert_exact
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from treadle import Context

quick = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

any_text = st.text(st.characters())  # with lone surrogates
text = st.text(st.characters(exclude_categories=["Cs"]))
json_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)
json_values = st.recursive(
    json_scalars, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=40
)
hashable = st.recursive(
    json_scalars
    | any_text
    | st.integers()
    | st.floats()
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.uuids(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
any_values = st.recursive(
    hashable | st.binary().map(bytearray) | st.complex_numbers(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(hashable, inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(text, inner)
    ),
    max_leaves=25,
)


@quick
@given(value=json_values)
def test_every_json_value_comes_back(ctx: Context, value: Any) -> None:
    ctx.set("k", value)
    assert_exact(ctx.get("k"), value)


@quick
@given(value=any_values)
def test_every_value_comes_back(ctx: Context, value: Any) -> None:
    ctx.set("k", value)
    assert_exact(ctx.get("k"), value)


@quick
@given(values=st.lists(st.floats(), min_size=1))
def test_every_float_comes_back_bit_by_bit(ctx: Context, values: list[float]) -> None:
    for value in [values, *values]:
        ctx.set("k", value)
        assert_exact(ctx.get("k"), value)


@quick
@given(values=st.lists(st.integers(-(2**66), 2**66), min_size=1))
def test_every_integer_comes_back(ctx: Context, values: list[int]) -> None:
    for value in [values, *values]:
        ctx.set("k", value)
        assert_exact(ctx.get("k"), value)


@quick
@given(value=any_text)
def test_every_string_comes_back_as_value_and_as_part(ctx: Context, value: str) -> None:
    for whole in (value, [value], {value: value}, (value,)):
        ctx.set("k", whole)
        assert_exact(ctx.get("k"), whole)


@quick
@given(value=json_values)
def test_bytes_that_spell_a_value_stay_bytes(ctx: Context, value: Any) -> None:
    for spelled in (json.dumps(value).encode(), pickle.dumps(value)):
        for binary in (spelled, bytearray(spelled)):
            ctx.set("k", binary)
            assert_exact(ctx.get("k"), binary)
    ctx.set("k", json.dumps(value))
    assert_exact(ctx.get("k"), json.dumps(value))


@quick
@given(key=text, value=json_values)
def test_every_key_of_valid_unicode_works(ctx: Context, key: str, value: Any) -> None:
    ctx.set(key, value)
    assert_exact(ctx.get(key), value)
    assert key in ctx
    assert key in ctx.keys()  # noqa: SIM118
    assert ctx.delete(key)
    assert key not in ctx


@settings(quick, max_examples=50)
@given(values=st.dictionaries(text, any_values, max_size=4))
def test_the_state_equals_the_dict_that_was_put_into_it(
    ctx: Context, values: dict[str, Any]
) -> None:
    ctx.state.clear()
    ctx.state.update(values)
    assert ctx.keys() == list(values)
    assert len(ctx) == len(values)
    assert_exact(dict(ctx.state), values)

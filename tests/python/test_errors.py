"""Each exception has a place in the documentation, with its cause and the remedy."""

import re
from pathlib import Path

import pytest

import treadle

ROOT = Path(__file__).parents[2]
ERRORS = [
    getattr(treadle, name)
    for name in treadle.__all__
    if isinstance(getattr(treadle, name), type)
    and issubclass(getattr(treadle, name), (treadle.TreadleError, Warning))
]
SECTIONS = re.compile(r"^#{2,3} (\w+)\n(.*?)(?=^##|\Z)", re.DOTALL | re.MULTILINE)


def sections() -> dict[str, str]:
    return dict(SECTIONS.findall((ROOT / "docs/errors.md").read_text("utf-8")))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_an_exception_names_its_place_in_the_documentation(error: type[Exception]) -> None:
    page, _, anchor = error.docs.partition("#")  # type: ignore[attr-defined]
    assert page == "docs/errors.md"
    assert anchor in map(str.lower, sections()), f"docs/errors.md has no heading {error.__name__}"


@pytest.mark.parametrize(
    "error",
    [error for error in ERRORS if error is not treadle.TreadleError],
    ids=lambda error: error.__name__,
)
def test_the_documentation_has_the_cause_and_the_remedy(error: type[Exception]) -> None:
    text = sections()[error.__name__]
    assert "**Cause**" in text
    assert "**Remedy**" in text


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_the_documentation_names_the_built_in_base(error: type[Exception]) -> None:
    text = sections()[error.__name__]
    for base in error.__bases__:
        if base not in (treadle.TreadleError, Exception, UserWarning):
            assert f"`{base.__name__}`" in text


def test_the_documentation_lists_no_exception_that_does_not_exist() -> None:
    named = {name for name in sections() if hasattr(treadle, name)}
    assert named == {error.__name__ for error in ERRORS}


def test_a_derived_exception_of_users_has_the_place_of_its_base_or_its_own() -> None:
    class Refused(treadle.RunEnded):
        pass

    class Elsewhere(treadle.RunEnded):
        docs = "https://example.org/elsewhere"

    assert Refused.docs == "docs/errors.md#runended"
    assert Elsewhere.docs == "https://example.org/elsewhere"

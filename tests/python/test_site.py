"""What the site is made of: the navigation has every page, the reference every public name."""

import re
import sys
from pathlib import Path

import pytest

import treadle
import treadle.testing

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "site"))
import build  # noqa: E402
import links  # noqa: E402
import reference  # noqa: E402


def listed(index: str) -> list[str]:
    text = (ROOT / "docs" / index).read_text("utf-8")
    return re.findall(r"\]\(([^)#:]+\.md)\)", text)


def test_the_index_lists_every_page() -> None:
    there = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert there - set(listed("index.md")) == set(), "add them to docs/index.md"


def test_the_tutorial_lists_every_step() -> None:
    there = {path.name for path in (ROOT / "docs/tutorial").glob("*.md")} - {"index.md"}
    assert there - set(listed("tutorial/index.md")) == set()


def test_the_reference_has_every_public_name() -> None:
    pages = reference.pages()
    text = "\n".join(pages.values())
    names = {*treadle.__all__, *treadle.testing.__all__} - {"__version__"}
    assert {name for name in names if f"\n## {name} " not in text} == set()
    for name in names:
        assert f"#{name.lower()})" in pages["index.md"]


@pytest.mark.parametrize("name", ["Engine.submit", "Context.wait_for_event", "Run.pause"])
def test_the_reference_has_signature_and_text_of_a_method(name: str) -> None:
    text = "\n".join(reference.pages().values())
    section = text.split(f"\n### {name} ")[1].split("\n### ")[0]
    assert f"{name.partition('.')[2]}(" in section
    assert "**Raises:**" in section
    assert "(self" not in section


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("docs/engine.md", "engine.md"),
        ("examples", "examples/index.md"),
        ("examples/saga.py", "examples/saga.md"),
        ("CHANGELOG.md", "changes.md"),
    ],
)
def test_a_file_of_the_project_has_a_place_on_the_site(target: str, place: str) -> None:
    assert build.place(Path(target)) == place


def test_what_a_page_loads_from_elsewhere_is_found(tmp_path: Path) -> None:
    page = '<a href="https://x"></a><script src="https://x/y.js"></script>'
    (tmp_path / "page.html").write_text(page + '<link rel="stylesheet" href="//x/y.css">')
    assert links.broken(tmp_path) == [
        "page.html: loads //x/y.css",
        "page.html: loads https://x/y.js",
    ]


def test_a_link_to_a_missing_page_or_heading_is_found(tmp_path: Path) -> None:
    (tmp_path / "good.html").write_text(
        '<h1 id="top">a</h1><a href="#top"></a><a href="https://x">'
    )
    (tmp_path / "bad.html").write_text(
        '<a href="good.html#top"></a><a href="good.html#gone"></a><img src="gone.svg">'
    )
    assert links.broken(tmp_path) == [
        "bad.html: gone.svg",
        "bad.html: good.html#gone: no such heading",
    ]

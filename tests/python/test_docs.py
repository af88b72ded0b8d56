"""Every example in README and docs/ runs as printed, and prints what is shown below it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from sessions import play

import treadle

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
SECONDS = 30

# A block of Python and, if one follows at once, the block of text that it prints.
EXAMPLE = re.compile(
    r"^```python\n(?!# \w+\.py\n)(.*?)^```\n(?:\n```text\n(.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
# A block that begins with the name of its file is for the sessions of the page.
FILE = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
SESSION = re.compile(r"^```console\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)]*))?\)")


class Example(NamedTuple):
    source: str
    output: str | None


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def examples() -> list[object]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in EXAMPLE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(pytest.param(Example(*match.groups()), id=f"{name_of(page)}:{line}"))
    return found


@pytest.mark.parametrize("example", examples())
def test_an_example_prints_what_is_shown(example: Example, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(example.source, encoding="utf-8")
    finished = subprocess.run(
        [sys.executable, "-W", "error", script],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    if example.output is not None:
        assert finished.stdout == example.output


@pytest.mark.parametrize(
    "page", [page for page in PAGES if SESSION.search(page.read_text("utf-8"))], ids=name_of
)
def test_the_sessions_of_a_page_print_what_is_shown(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    parts = sorted([*FILE.finditer(text), *SESSION.finditer(text)], key=re.Match.start)
    for part in parts:
        if part.re is FILE:
            (tmp_path / part[1]).write_text(part[2], encoding="utf-8")
        else:
            play(part[1], tmp_path)


def test_the_readme_begins_with_a_short_example_that_shows_its_output() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    source, output = EXAMPLE.findall(text)[0]
    assert output
    assert len([line for line in source.splitlines() if line]) <= 16
    assert "Killed" in text


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if not target.startswith(("https://", "http://", "mailto:")):
            goal = page.parent / target if target else page
            assert goal.exists(), target
            assert not anchor or anchor in anchors(goal), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Return the names of the headings of a page, as links spell them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_of_python_is_run(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("```python") == len(EXAMPLE.findall(text)) + len(FILE.findall(text))
    assert not FILE.search(text) or SESSION.search(text)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_table_says_the_same_thing_twice(page: Path) -> None:
    rows = re.findall(r"^\| (`[^|]*)\|.*\n(?=((?:\|.*\n)*))", page.read_text("utf-8"), re.MULTILINE)
    twice = [name for name, below in rows if f"| {name}|" in below]
    assert not twice


@pytest.mark.parametrize(
    "public", [treadle.Engine, treadle.RunHandle], ids=lambda cls: cls.__name__
)
def test_the_page_of_the_engine_names_every_call(public: type) -> None:
    text = (ROOT / "docs/engine.md").read_text("utf-8")
    if public is treadle.RunHandle:
        (text,) = re.findall(r"a `RunHandle`: (.*)", text)
    calls = [name for name in vars(public) if not name.startswith("_") and name != "open"]
    assert [name for name in calls if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_call_that_a_page_names_exists(page: Path) -> None:
    known = {
        "ctx": treadle.Context,
        "engine": treadle.Engine,
        "run": treadle.Run,
        "wf": treadle.Workflow,
        "workflow": treadle.Workflow,
        "reader": treadle.StreamReader,
    }
    text = page.read_text("utf-8")
    calls = re.findall(rf"(?<![./\w\[])({'|'.join(known)})\.([a-z_]+)\b(?!\))", text)
    assert [
        call for call in calls if not hasattr(known[call[0]], call[1]) and call[1] != "md"
    ] == []


def test_every_public_name_is_in_the_docs() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in treadle.__all__:
        if name not in ("__version__", "StreamReader"):
            assert re.search(rf"\b{name}\b", text), name

"""The public API is that of its snapshot: no name and no signature changes by accident."""

import difflib
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SNAPSHOT = ROOT / "tests/python/fixtures/public_api.txt"

sys.path.insert(0, str(ROOT / "site"))
import public_api  # noqa: E402

CHANGED = """the public API has changed:

{difference}
If that is intended:
  1. python site/public_api.py > tests/python/fixtures/public_api.txt
  2. say in CHANGELOG.md what users have to do; what is removed or renamed was deprecated before
     (docs/stability.md)
"""


def test_the_public_api_is_that_of_its_snapshot() -> None:
    before = SNAPSHOT.read_text("utf-8").splitlines(keepends=True)
    after = public_api.listing().splitlines(keepends=True)
    difference = "".join(
        line for line in difflib.unified_diff(before, after, n=0) if not line.startswith("@@")
    )
    assert not difference, CHANGED.format(difference=difference)


def test_every_public_class_and_method_has_a_docstring() -> None:
    without = [
        f"{public.name}.{member.name}"
        for public in public_api.public_api()
        for member in public.members
        if not member.doc and "(" in member.signatures[0] and not member.name.startswith("__")
    ]
    undocumented = [public.name for public in public_api.public_api() if not public.doc]
    # Those that only do what they do for any coroutine; a variable has no docstring.
    assert set(without) <= {
        f"{name}.{method}" for name in ("Run", "ChildRun") for method in ("send", "throw", "close")
    }
    assert undocumented == ["current_clock"]

"""The journals that tests run on, by kind."""

from pathlib import Path

import pytest

# Marks a kind of journal among the parameters of a test.
POSTGRES = pytest.param("postgres", marks=pytest.mark.postgres)


def journal_url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a journal of this kind, for one test."""
    if kind == "postgres":
        return str(request.getfixturevalue("postgres"))
    return "memory:" if kind == "memory" else f"sqlite:///{tmp_path / 'runs.db'}"


def url_of(journal: Path | str) -> str:
    """Return the URL of a journal that is a file or has one."""
    return journal if isinstance(journal, str) else f"sqlite:///{journal}"

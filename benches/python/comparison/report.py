"""The Markdown page, and its place in a file that may hold more than it."""

from __future__ import annotations

from pathlib import Path

from . import tables
from .figures import Figures
from .notes import Notes
from .prose import CLIENTS_NOTE, HEAD, IMPORT_NOTE, MEMORY_NOTE, REPEAT, VALUES_NOTE

BEGIN = "<!-- compare_peers: begin; written by benches/python/compare_peers.py -->"
END = "<!-- compare_peers: end -->"


def write(path: Path, page: str) -> None:
    """Replaces what stands between the two marks, or appends both to the page."""
    old = path.read_text() if path.exists() else "# Performance\n"
    before, _, rest = old.partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before.rstrip()}\n\n{BEGIN}\n\n{page}\n{END}\n{after.lstrip()}")


def page(figures: Figures) -> str:
    notes = Notes()
    sections = [
        HEAD.format(rounds=figures.rounds),
        tables.workloads(figures.results, notes),
        CLIENTS_NOTE,
        "### Context: `set` / `get` inside a step",
        VALUES_NOTE,
        tables.values(figures.results, notes),
        "### Memory of runs that wait for an event",
        MEMORY_NOTE,
        tables.memory(figures.results, notes),
        "### Import time",
        IMPORT_NOTE,
        tables.imports(figures.imports),
        "### No figure, and why",
        str(notes),
        "### Machine and versions",
        tables.table(["", ""], [[name, value] for name, value in figures.facts.items()]),
        REPEAT,
    ]
    return "\n\n".join(sections) + "\n"

"""What the command line prints: tables, and lines that cannot confuse a terminal."""

import json
from collections.abc import Iterable, Sequence
from typing import Any


def say(text: str) -> None:
    """Print a line at once. What it shows was written by others: it may hold anything."""
    print(printable(text), flush=True)


def printable(text: str) -> str:
    """Show characters that a terminal would act on as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def print_json(value: Any) -> None:
    """Print JSON."""
    print(json.dumps(value, indent=2, default=str))


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table, in a terminal by `rich` if it is there."""
    texts = [[printable(str(cell)) for cell in row] for row in rows]
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        _print_plain(head, texts)
        return
    console = Console()
    if not console.is_terminal:
        _print_plain(head, texts)
        return
    table = Table()
    for at, name in enumerate(head):
        # Ids are for copying: they stay on one line.
        table.add_column(name, no_wrap=at == 0, overflow="fold")
    for row in texts:
        # As text, and not as markup: it was written by others.
        table.add_row(*map(Text, row))
    console.print(table)


def _print_plain(head: Sequence[str], rows: list[list[str]]) -> None:
    lines = [list(head), *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())

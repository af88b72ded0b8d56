"""Measures a tree of Python files: one run that fans out over the files and joins what it found.

    python -m treadle demo                  the standard library of this interpreter
    python -m treadle demo --path DIR       any other tree
    python -m treadle demo --concurrency 4  at most four files at once
    python -m treadle demo --journal FILE   a durable run: killed, the same command goes on with it

Each file is read and parsed in a worker thread. One that cannot be is listed and stops nothing.

A step whose process was killed runs again, and finds what it had set. So what the steps leave in
the Context has a key of its own for each file: set twice, it is there once. And what counts the
files is `collect_events`, which takes each event once, not a number that a body would add to again.
"""

import argparse
import ast
import asyncio
import os
import stat
import sys
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treadle import (
    Context,
    Engine,
    Event,
    JournalError,
    Lagged,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)

MOST_LISTED = 20
NOT_ENTERED = ("site-packages", "__pycache__")


@dataclass(frozen=True)
class Module:
    """What one file holds. It goes into the Context whole, as an opaque value."""

    path: str
    size: int
    lines: int
    functions: int
    classes: int
    imports: tuple[str, ...]
    longest: str = ""
    longest_lines: int = 0


@dataclass(frozen=True)
class Report:
    """What the run found."""

    totals: dict[str, int]
    largest: list[Module]
    most_imported: list[tuple[str, int]]
    skipped: list[list[str]]


class Measure(StartEvent):
    root: str


class Found(Event):
    """A file, to be read."""

    path: str


class Loaded(Event):
    """A file whose bytes are in the Context."""

    path: str
    key: str


class Finished(Event):
    """Nothing more is to be done about a file."""

    path: str


class Progress(Event):
    """A file is finished. A step that runs again says so again."""

    path: str
    total: int


@step
def find(ctx: Context, ev: Measure) -> list[Found] | StopEvent:
    """List the files. A plain `def`, so it runs in a worker thread."""
    paths: list[str] = []
    unreadable: list[OSError] = []
    for folder, folders, files in os.walk(ev.root, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if name not in NOT_ENTERED)
        paths += [os.path.join(folder, name) for name in sorted(files) if name.endswith(".py")]
    for error in unreadable:
        skip(ctx, error.filename, error.strerror or str(error))
    ctx.set("files", len(paths))
    return [Found(path=path) for path in paths] or StopEvent(result=reported(ctx))


def load(ctx: Context, ev: Found) -> Loaded | Finished:
    """Read a file into the Context, as bytes."""
    key = f"source {ev.path!a}"
    try:
        if not stat.S_ISREG(os.stat(ev.path).st_mode):
            return skip(ctx, ev.path, "not a readable file", steps=2)
        ctx.set(key, Path(ev.path).read_bytes())
    except OSError as error:
        return skip(ctx, ev.path, error.strerror or str(error), steps=2)
    return Loaded(path=ev.path, key=key)


def measure(ctx: Context, ev: Loaded) -> Finished:
    """Parse the bytes, and put what they hold into the Context."""
    source = ctx.get_bytes(ev.key)
    if source is None:
        # Killed after the last line below.
        return Finished(path=ev.path)
    try:
        module = describe(ev.path, source, ast.parse(source))
    except (SyntaxError, ValueError) as error:
        skip(ctx, ev.path, f"not Python: {error.args[0] if error.args else error}", steps=3)
    except (RecursionError, MemoryError):
        skip(ctx, ev.path, "nested too deeply", steps=3)
    else:
        ctx.set(f"module {ev.path!a}", module)
    ctx.delete(ev.key)
    return Finished(path=ev.path)


@step
async def report(ctx: Context, ev: Finished) -> StopEvent | None:
    """Join: once every file is finished, report."""
    total = ctx.get("files")
    ctx.write_event_to_stream(Progress(path=ev.path, total=total))
    finished = ctx.collect_events(ev, [Finished] * total)
    return None if finished is None else StopEvent(result=reported(ctx))


def skip(ctx: Context, path: str, why: str, steps: int = 0) -> Finished:
    """Note that a file could not be measured, and how many steps it took to find out."""
    ctx.set(f"skipped {path!a}", [path, why, steps])
    return Finished(path=path)


def reported(ctx: Context) -> Report:
    """Sum up what the steps left in the Context."""
    modules: list[Module] = [ctx.get(key) for key in ctx.state if key.startswith("module ")]
    skipped: list[list[Any]] = [ctx.get(key) for key in ctx.state if key.startswith("skipped ")]
    imports = Counter(name for module in modules for name in module.imports)
    return Report(
        totals={
            "modules": len(modules),
            "bytes": sum(module.size for module in modules),
            "lines": sum(module.lines for module in modules),
            "functions": sum(module.functions for module in modules),
            "classes": sum(module.classes for module in modules),
            "steps": 1 + 3 * len(modules) + sum(steps for _, _, steps in skipped),
        },
        largest=sorted(modules, key=lambda module: (-module.lines, module.path))[:10],
        most_imported=sorted(imports.items(), key=lambda item: (-item[1], item[0]))[:10],
        skipped=sorted([path, why] for path, why, _ in skipped),
    )


def workflow(concurrency: int) -> Workflow:
    """Make the workflow; it may work on as many files at once as `concurrency` says."""
    at_once = step(concurrency=concurrency)
    return Workflow("measure", [find, at_once(load), at_once(measure), report])


def describe(path: str, source: bytes, tree: ast.Module) -> Module:
    """Count what is in a syntax tree."""
    functions = classes = 0
    imports: set[str] = set()
    longest, longest_lines = "", 0
    for node in statements(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            functions += 1
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > longest_lines:
                longest, longest_lines = node.name, lines
        elif isinstance(node, ast.ClassDef):
            classes += 1
        elif isinstance(node, ast.Import):
            imports.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports.add(node.module.partition(".")[0])
    lines = len(source.splitlines())
    names = tuple(sorted(imports))
    return Module(path, len(source), lines, functions, classes, names, longest, longest_lines)


def statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield every statement. Expressions hold no functions, classes or imports: leave them out."""
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        yield node
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            nodes += getattr(node, name, ())


async def show_progress(events: AsyncIterator[Any], before: int = 0) -> None:
    """Print how far the run is: as a bar in a terminal, elsewhere as a line for each quarter.

    The first events, as many as `before` says, are of processes that were killed.
    """
    finished: set[str] = set()
    number = quarters = 0
    async for ev in events:
        if isinstance(ev, Lagged):
            number += ev.missed
        if not isinstance(ev, Progress):
            continue
        number += 1
        finished.add(ev.path)
        done = len(finished)
        if number == before:
            print(f"Going on: {done:,} files need not be read again", flush=True)
            quarters = 4 * done // ev.total
        elif number > before and sys.stdout.isatty():
            bar = "#" * (40 * done // ev.total)
            end = "\n" if done == ev.total else ""
            print(f"\r[{bar:<40}] {done:,} of {ev.total:,} files", end=end, flush=True)
        elif number > before and 4 * done // ev.total > quarters:
            quarters = 4 * done // ev.total
            print(f"{done:,} of {ev.total:,} files", flush=True)


def show(report: Report, root: str, run_id: str, seconds: float) -> None:
    """Print the report."""

    def shown(path: str) -> str:
        name = os.path.relpath(path, root)
        # A file's name may hold anything, also what would confuse a terminal.
        name = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
        return name if len(name) <= 40 else f"...{name[-37:]}"

    totals = report.totals
    if report.largest:
        print("\nLargest modules")
        print(f"  {'':40} {'lines':>7} {'defs':>6} {'classes':>7}  longest function")
        for module in report.largest:
            longest = f"{module.longest} ({module.longest_lines})" if module.longest else "-"
            counts = f"{module.lines:>7,} {module.functions:>6,} {module.classes:>7,}"
            print(f"  {shown(module.path):40} {counts}  {longest}")
    if report.most_imported:
        print("\nMost imported (by how many modules)")
        for name, count in report.most_imported:
            print(f"  {name:40} {count:>7,}")
    if report.skipped:
        print("\nSkipped")
        for path, why in report.skipped[:MOST_LISTED]:
            print(f"  {shown(path):40} {why}")
        if len(report.skipped) > MOST_LISTED:
            print(f"  and {len(report.skipped) - MOST_LISTED:,} more")
    size = f"{totals['bytes'] / 1e6:,.1f} MB"
    counts = f"{totals['functions']:,} functions, {totals['classes']:,} classes"
    print("\nTotals")
    print(f"  {totals['modules']:,} modules of {size}, {len(report.skipped):,} skipped")
    print(f"  {totals['lines']:,} lines, {counts}")
    print(f"\nRun {run_id}")
    rate = totals["steps"] / seconds
    print(f"  {totals['steps']:,} steps in {seconds:.2f} s: {rate:,.0f} steps per second")


async def run_and_show(root: str, concurrency: int) -> None:
    """Start a run, show its progress, and print what it found."""
    print(f"Measuring {root}", flush=True)
    began = time.perf_counter()
    run = workflow(concurrency).run(root=root)
    await show_progress(run.stream_events())
    report: Report = await run
    show(report, root, run.id, time.perf_counter() - began)


async def run_durably(root: str, concurrency: int, journal: str) -> None:
    """Start the run, or go on with the one of the same tree, and print what it found."""
    measuring = workflow(concurrency)
    began = time.perf_counter()
    async with Engine(f"sqlite:///{journal}", workflows=[measuring]) as engine:
        run_id = await engine.submit(measuring, root=root, key=root)
        before = (await engine.get(run_id).info()).published
        print(f"Measuring {root}", flush=True)
        await show_progress(engine.stream_events(run_id), before)
        report: Report = await engine.get(run_id)
    show(report, root, run_id, time.perf_counter() - began)


def positive(text: str) -> int:
    """Read a number that is at least 1."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command line takes."""
    parser.add_argument(
        "--path",
        metavar="DIR",
        default=sysconfig.get_path("stdlib"),
        help="the tree to measure (the standard library of this interpreter)",
    )
    parser.add_argument(
        "--concurrency",
        metavar="N",
        type=positive,
        default=8,
        help="how many files are worked on at once (8)",
    )
    parser.add_argument(
        "--journal",
        metavar="FILE",
        help="write the run to this file; the same command goes on with it after a crash",
    )


def main(path: str, concurrency: int, journal: str | None = None) -> int:
    """Run the demo. Returns the exit code."""
    if not os.path.isdir(path):
        print(f"{path}: not a directory", file=sys.stderr)
        return 2
    with warnings.catch_warnings():
        # Python warns of old habits in the files that it parses.
        warnings.simplefilter("ignore")
        if journal is None:
            asyncio.run(run_and_show(path, concurrency))
            return 0
        try:
            # The process that goes on with the run may have another working directory.
            asyncio.run(run_durably(os.path.abspath(path), concurrency, journal))
        except JournalError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Measures a tree of Python files.")
    add_arguments(arguments)
    sys.exit(main(**vars(arguments.parse_args())))

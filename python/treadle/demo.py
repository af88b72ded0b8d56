"""Measures a tree of Python files: one run that fans out over the files and joins what it found.

    python -m treadle demo                  the standard library of this interpreter
    python -m treadle demo --path DIR       any other tree
    python -m treadle demo --concurrency 4  at most four files at once

Each file is read and parsed in a worker thread. One that cannot be is listed and stops nobody.
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from treadle import Context, Event, Run, StartEvent, StopEvent, Workflow, step

MOST_LISTED = 20
NOT_ENTERED = ("site-packages", "__pycache__")


@dataclass(frozen=True)
class Module:
    """What one file holds. It goes into the Context whole, as an opaque value."""

    path: str
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
    done: int
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
    ctx.set("totals", dict.fromkeys(("modules", "bytes", "lines", "functions", "classes"), 0))
    ctx.set("steps", 1)
    return [Found(path=path) for path in paths] or StopEvent(result=reported(ctx))


def load(ctx: Context, ev: Found) -> Loaded | Finished:
    """Read a file into the Context, as bytes."""
    number = ctx.increment("steps")
    try:
        if not stat.S_ISREG(os.stat(ev.path).st_mode):
            return skip(ctx, ev.path, "not a readable file")
        ctx.set(f"source {number}", Path(ev.path).read_bytes())
    except OSError as error:
        return skip(ctx, ev.path, error.strerror or str(error))
    return Loaded(path=ev.path, key=f"source {number}")


def measure(ctx: Context, ev: Loaded) -> Finished:
    """Parse the bytes, and put what they hold into the Context."""
    number = ctx.increment("steps")
    source = ctx.get_bytes(ev.key)
    ctx.delete(ev.key)
    try:
        module = describe(ev.path, source, ast.parse(source))
    except (SyntaxError, ValueError) as error:
        return skip(ctx, ev.path, f"not Python: {error.args[0] if error.args else error}")
    except (RecursionError, MemoryError):
        return skip(ctx, ev.path, "nested too deeply")
    ctx.set(f"module {number}", module)
    ctx.update("totals", lambda totals: added(totals, module, len(source)))
    return Finished(path=ev.path)


@step
async def report(ctx: Context, ev: Finished) -> StopEvent | None:
    """Join: once every file is finished, report."""
    ctx.increment("steps")
    done, total = ctx.increment("done"), ctx.get("files")
    ctx.write_event_to_stream(Progress(done=done, total=total))
    return StopEvent(result=reported(ctx)) if done == total else None


def skip(ctx: Context, path: str, why: str) -> Finished:
    """Note that a file could not be measured."""
    ctx.set(f"skipped {path!a}", [path, why])
    return Finished(path=path)


def reported(ctx: Context) -> Report:
    """Sum up what the steps left in the Context."""
    modules: list[Module] = [ctx.get(key) for key in ctx.state if key.startswith("module ")]
    imports = Counter(name for module in modules for name in module.imports)
    return Report(
        totals=ctx.get("totals") | {"steps": ctx.get("steps")},
        largest=sorted(modules, key=lambda module: (-module.lines, module.path))[:10],
        most_imported=sorted(imports.items(), key=lambda item: (-item[1], item[0]))[:10],
        skipped=sorted(ctx.get(key) for key in ctx.state if key.startswith("skipped ")),
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
    return Module(path, lines, functions, classes, tuple(sorted(imports)), longest, longest_lines)


def statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield every statement. Expressions hold no functions, classes or imports: leave them out."""
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        yield node
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            nodes += getattr(node, name, ())


def added(totals: dict[str, int], module: Module, size: int) -> dict[str, int]:
    """Return the totals with one more module in them."""
    return {
        "modules": totals["modules"] + 1,
        "bytes": totals["bytes"] + size,
        "lines": totals["lines"] + module.lines,
        "functions": totals["functions"] + module.functions,
        "classes": totals["classes"] + module.classes,
    }


async def show_progress(run: Run) -> None:
    """Print how far the run is: as a bar in a terminal, elsewhere as a line for each quarter."""
    quarters = 0
    async for ev in run.stream_events():
        if not isinstance(ev, Progress):
            continue
        if sys.stdout.isatty():
            bar = "#" * (40 * ev.done // ev.total)
            end = "\n" if ev.done == ev.total else ""
            print(f"\r[{bar:<40}] {ev.done:,} of {ev.total:,} files", end=end, flush=True)
        elif 4 * ev.done // ev.total > quarters:
            quarters = 4 * ev.done // ev.total
            print(f"{ev.done:,} of {ev.total:,} files", flush=True)


def show(report: Report, root: str, run: Run, seconds: float) -> None:
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
    print(f"\nRun {run.id}")
    rate = totals["steps"] / seconds
    print(f"  {totals['steps']:,} steps in {seconds:.2f} s: {rate:,.0f} steps per second")


async def run_and_show(root: str, concurrency: int) -> None:
    """Start a run, show its progress, and print what it found."""
    print(f"Measuring {root}", flush=True)
    began = time.perf_counter()
    run = workflow(concurrency).run(root=root)
    await show_progress(run)
    report: Report = await run
    show(report, root, run, time.perf_counter() - began)


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


def main(path: str, concurrency: int) -> int:
    """Run the demo. Returns the exit code."""
    if not os.path.isdir(path):
        print(f"{path}: not a directory", file=sys.stderr)
        return 2
    with warnings.catch_warnings():
        # Python warns of old habits in the files that it parses.
        warnings.simplefilter("ignore")
        asyncio.run(run_and_show(path, concurrency))
    return 0


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Measures a tree of Python files.")
    add_arguments(arguments)
    sys.exit(main(**vars(arguments.parse_args())))

"""The Markdown page: the figures as multiples of `task`, the goals beside them, what is missing."""

from __future__ import annotations

from pathlib import Path

from peers import ENGINES

from .parent import Cell, Settings
from .prose import CLIENTS_NOTE, HEAD, IMPORT_NOTE, MEMORY_NOTE, REPEAT, VALUES_NOTE
from .workloads import VALUE_GOALS, WORKLOADS

Results = dict[str, dict[str, Cell]]

BEGIN = "<!-- compare_peers: begin; written by benches/python/compare_peers.py -->"
END = "<!-- compare_peers: end -->"
TASK, TREADLE = "asyncio_tasks", "treadle_engine"


def write(path: Path, page: str) -> None:
    """Replaces what stands between the two marks, or appends both to the page."""
    old = path.read_text() if path.exists() else "# Performance\n"
    before, _, rest = old.partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before.rstrip()}\n\n{BEGIN}\n\n{page}\n{END}\n{after.lstrip()}")


def page(
    results: Results,
    imports: dict[str, dict[str, float]],
    facts: dict[str, str],
    settings: Settings,
) -> str:
    notes: list[str] = []
    sections = [
        HEAD.format(rounds=settings.rounds),
        _workloads(results, notes),
        CLIENTS_NOTE,
        "### Context: `set` / `get` inside a step",
        VALUES_NOTE,
        _values(results, notes),
        "### Memory of runs that wait for an event",
        MEMORY_NOTE,
        _memory(results, notes),
        "### Import time",
        IMPORT_NOTE,
        _imports(imports),
        "### No figure, and why",
        "\n".join(f"- [{n}] {note}" for n, note in enumerate(notes, 1)) or "None is missing.",
        "### Machine and versions",
        _table(["", ""], [[name, value] for name, value in facts.items()]),
        REPEAT,
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _workloads(results: Results, notes: list[str]) -> str:
    names = [n for n in results if WORKLOADS[n].kind in ("timed", "gathered", "clients")]
    engines = [e for e in ENGINES if e != TASK and any(e in results[n] for n in names)]
    rows = []
    for name in names:
        workload, row = WORKLOADS[name], results[name]
        base = row.get(TASK, Cell()).figures.get("seconds")
        cells = [_multiple(row.get(e), base, e, workload.title, notes) for e in engines]
        goal = _goal(workload.goal, row.get(TREADLE), base)
        rows.append([workload.title, f"{_time(base)} / {workload.per}", *cells, goal])
        if workload.kind == "clients":
            for label, key, scale, bound in CLIENT_ROWS:
                shown = [_plain(row.get(e), key, scale) for e in (TASK, *engines)]
                rows.append([label, *shown, bound])
    if (spread := _spread(results, engines)) is not None:
        rows.append(spread)
    labels = [ENGINES[e].label for e in engines]
    return _table(["", "`task`", *labels, "goal for treadle"], rows)


CLIENT_ROWS = (
    ("W8 latest heartbeat, ms", "late", 1e3, "≤ 20"),
    ("W8 share of clients served, %", "served", 1e2, "100"),
    ("W8 runs a second", "runs", 1, ""),
)


def _spread(results: Results, engines: list[str]) -> list[str] | None:
    """Time per step of the slowest loop length over that of the quickest one."""
    lengths = [name for name in results if WORKLOADS[name].function == "loop"]
    if len(lengths) < 2:
        return None
    shown = []
    for engine in (TASK, *engines):
        cells = [results[name].get(engine, Cell()) for name in lengths]
        taken = [cell.figures["seconds"] for cell in cells if cell.figures]
        shown.append(_number(max(taken) / min(taken)) if len(taken) > 1 else "")
    return ["W2 per step, slowest length / quickest", *shown, "≤ 1.1"]


def _values(results: Results, notes: list[str]) -> str:
    row = results.get("context", {})
    floor = row.get("floor", Cell()).figures
    engines = [e for e in row if e != "floor"]
    if not floor:
        return "Not measured."
    rows = []
    for kind, goals in VALUE_GOALS.items():
        pair = (f"{kind}.set", f"{kind}.get")
        if pair[0] not in floor:
            continue
        cells = []
        for engine in engines:
            if reason := row[engine].reason:
                cells.append(_note(ENGINES[engine].label, "Context", reason, notes))
            elif pair[0] in row[engine].figures:
                times = [row[engine].figures[key] for key in pair]
                multiples = [time / floor[key] for time, key in zip(times, pair, strict=True)]
                late = engine == TREADLE and any(
                    m > g for m, g in zip(multiples, goals, strict=True)
                )
                shown = " / ".join(f"{_number(m)}" for m in multiples)
                cells.append(f"{shown} ({' / '.join(map(_time, times))})" + " missed" * late)
            else:
                cells.append("")
        base = " / ".join(_time(floor[key]) for key in pair)
        rows.append([kind, base, *cells, " / ".join(f"≤ {goal:g}" for goal in goals)])
    return _table(["", "floor", *[ENGINES[e].label for e in engines], "goal for treadle"], rows)


def _memory(results: Results, notes: list[str]) -> str:
    rows = []
    for name, row in results.items():
        if WORKLOADS[name].kind != "memory":
            continue
        for engine, cell in row.items():
            label = ENGINES[engine].label
            if cell.reason:
                _note(label, WORKLOADS[name].title, cell.reason, notes)
                continue
            held, kept = (f"{cell.figures[key] / 1000:.2f}" for key in ("bytes", "kept"))
            times = (_time(cell.figures[key]) for key in ("start", "answer"))
            goal = "≤ 3, 0 after" if engine == TREADLE else ""
            rows.append([WORKLOADS[name].title, label, held, kept, *times, goal])
    head = ["", "", "KB each", "KB each after the end", "to start one", "to answer one", "goal"]
    return _table(head, rows) if rows else "Not measured."


def _imports(imports: dict[str, dict[str, float]]) -> str:
    rows = []
    for engine, taken in imports.items():
        times = (f"{taken[key] * 1e3:.0f}" for key in ("bare", "asyncio"))
        rows.append([ENGINES[engine].label, *times, "≤ 15" if engine == TREADLE else ""])
    return _table(["", "beyond an empty program, ms", "beyond asyncio, ms", "goal"], rows)


def _multiple(
    cell: Cell | None, base: float | None, engine: str, title: str, notes: list[str]
) -> str:
    if cell is None:
        return ""
    if cell.reason:
        return _note(ENGINES[engine].label, title, cell.reason, notes)
    if base is None:
        return _time(cell.figures["seconds"])
    multiple = cell.figures["seconds"] / base
    shown = f"**{_number(multiple)}**" if engine == TREADLE else _number(multiple)
    lost = cell.figures.get("lost", 0.0)
    return shown + (f", loses {lost:.0%}" if lost else "")


def _goal(goal: float | None, cell: Cell | None, base: float | None) -> str:
    if goal is None:
        return ""
    reached = cell is None or base is None or cell.figures.get("seconds", 0.0) <= goal * base
    return f"≤ {goal:g}" + ("" if reached else ", missed")


def _plain(cell: Cell | None, key: str, scale: float) -> str:
    if cell is None or not cell.figures:
        return ""
    return f"{cell.figures[key] * scale:,.0f}"


def _note(label: str, title: str, reason: str, notes: list[str]) -> str:
    """The number of the note that says why `label` has no figure; equal reasons share one."""
    if reason.startswith("cannot be imported"):
        title = "everything"
    for number, note in enumerate(notes, 1):
        head, _, known = note.partition(": ")
        if known == reason and head.startswith(f"{label} ("):
            if title not in head:
                notes[number - 1] = f"{head[:-1]}; {title}): {reason}"
            return f"[{number}]"
    notes.append(f"{label} ({title}): {reason}")
    return f"[{len(notes)}]"


def _number(value: float) -> str:
    if value < 0.001:
        return "< 0.001"
    if value < 0.1:
        return f"{value:.3f}"
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    for scale, unit in ((1e9, "ns"), (1e6, "µs"), (1e3, "ms")):
        if seconds * scale < 1000:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

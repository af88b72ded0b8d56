"""The tables of the page: multiples of `task` or of a floor, with the goals beside treadle's."""

from __future__ import annotations

from peers import ENGINES

from .figures import NOTHING, Cell
from .notes import Notes
from .workloads import VALUE_GOALS, WORKLOADS

Results = dict[str, dict[str, Cell]]

TASK, TREADLE = "asyncio_tasks", "treadle_engine"
CLIENT_ROWS = (
    ("W8 latest heartbeat, ms", "late", 1e3, 20.0),
    ("W8 share of clients served, %", "served", 1e2, None),
    ("W8 runs a second", "runs", 1, None),
)


def workloads(results: Results, notes: Notes) -> str:
    names = [n for n in results if WORKLOADS[n].kind in ("timed", "lengths", "gathered", "clients")]
    engines = [e for e in ENGINES if e != TASK and any(e in results[n] for n in names)]
    rows = []
    for name in names:
        workload, row = WORKLOADS[name], results[name]
        base = row.get(TASK, NOTHING)
        if workload.kind == "lengths":
            spreads = [_plain(row.get(e, NOTHING), "spread", 1, digits=2) for e in engines]
            rows.append([workload.title, "", *spreads, _bound(1.1, row.get(TREADLE), "spread")])
            continue
        cells = [_multiple(row.get(e, NOTHING), base, e, workload.title, notes) for e in engines]
        measure = f"{time(base.median())} / {workload.per}" if base else "?"
        goal = _goal(workload.goal, row.get(TREADLE, NOTHING), base)
        rows.append([workload.title, measure, *cells, goal])
        if workload.kind == "clients":
            for label, key, scale, bound in CLIENT_ROWS:
                shown = [_plain(row.get(e, NOTHING), key, scale) for e in (TASK, *engines)]
                rows.append([label, *shown, _bound(bound, row.get(TREADLE), key, scale)])
    labels = [ENGINES[e].label for e in engines]
    return table(["", "`task`", *labels, "goal for treadle"], rows)


def values(results: Results, notes: Notes) -> str:
    row = results.get("context", {})
    floor = row.get("floor", NOTHING)
    engines = [e for e in row if e != "floor"]
    rows = []
    for kind, goals in VALUE_GOALS.items():
        pair = (f"{kind}.set", f"{kind}.get")
        if not floor or pair[0] not in floor.rounds[0]:
            continue
        cells, missed = [], False
        for engine in engines:
            cell = row[engine]
            if cell.reason:
                cells.append(notes.number(ENGINES[engine].label, "context", cell.reason))
            elif pair[0] not in cell.rounds[0]:
                cells.append("")
            else:
                multiples = [cell.multiple(floor, key) for key in pair]
                times = [time(cell.median(key)) for key in pair]
                cells.append(f"{' / '.join(map(number, multiples))} ({' / '.join(times)})")
                if engine == TREADLE:
                    missed = any(m > g for m, g in zip(multiples, goals, strict=True))
        goal = " / ".join(f"≤ {goal:g}" for goal in goals) + (", missed" if missed else "")
        rows.append([kind, " / ".join(time(floor.median(key)) for key in pair), *cells, goal])
    return table(["", "floor", *[ENGINES[e].label for e in engines], "goal for treadle"], rows)


def memory(results: Results, notes: Notes) -> str:
    rows = []
    for name in results:
        title = WORKLOADS[name].title
        for engine, cell in results[name].items() if WORKLOADS[name].kind == "memory" else ():
            label = ENGINES[engine].label
            if cell.reason:
                notes.number(label, title, cell.reason)
                continue
            sizes = [_plain(cell, key, 1e-3, digits=2) for key in ("bytes", "kept")]
            times = [time(cell.median(key)) for key in ("start", "answer")]
            goal = _bound(3, cell, "bytes", 1e-3) if engine == TREADLE else ""
            rows.append([title, label, *sizes, *times, goal])
    head = ["", "", "KB each", "KB each after the end", "to start one", "to answer one", "goal"]
    return table(head, rows)


def imports(taken: dict[str, dict[str, float]]) -> str:
    rows = []
    for engine, seconds in taken.items():
        times = [f"{seconds[key] * 1e3:.0f}" for key in ("bare", "asyncio")]
        goal = _bound(15, Cell([seconds]), "bare", 1e3) if engine == TREADLE else ""
        rows.append([ENGINES[engine].label, *times, goal])
    return table(["", "beyond an empty program, ms", "beyond asyncio, ms", "goal"], rows)


def table(head: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return "Not measured."
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    if value < 0.001:
        return "< 0.001"
    if value < 0.1:
        return f"{value:.3f}"
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def time(seconds: float) -> str:
    for scale, unit in ((1e9, "ns"), (1e6, "µs"), (1e3, "ms")):
        if seconds * scale < 1000:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def _multiple(cell: Cell, base: Cell, engine: str, title: str, notes: Notes) -> str:
    if cell.reason:
        return notes.number(ENGINES[engine].label, title, cell.reason)
    if not cell:
        return ""
    if not base:
        return time(cell.median())
    shown = number(cell.multiple(base))
    lost = cell.rounds[0].get("lost", 0.0)
    return (f"**{shown}**" if engine == TREADLE else shown) + (
        f", loses {lost:.0%}" if lost else ""
    )


def _goal(goal: float | None, cell: Cell, base: Cell) -> str:
    if goal is None:
        return ""
    missed = cell and base and cell.multiple(base) > goal
    return f"≤ {goal:g}" + (", missed" if missed else "")


def _bound(bound: float | None, cell: Cell | None, key: str, scale: float = 1) -> str:
    if bound is None:
        return ""
    missed = cell and cell.median(key) * scale > bound
    return f"≤ {bound:g}" + (", missed" if missed else "")


def _plain(cell: Cell, key: str, scale: float, digits: int = 0) -> str:
    return f"{cell.median(key) * scale:,.{digits}f}" if cell else ""

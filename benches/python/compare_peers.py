"""Compares treadle with other workflow engines, on this machine, in one run.

    python benches/python/compare_peers.py                           print the figures
    python benches/python/compare_peers.py --quick                   a smoke run
    python benches/python/compare_peers.py --write docs/performance.md

The measure is `task`: a dispatch loop in plain asyncio that makes a task for every step.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from comparison import machine, plot, report, startup
from comparison.figures import Cell, Figures
from comparison.parent import Settings, compare
from comparison.workloads import WORKLOADS
from peers import ENGINES


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="Markdown page to write")
    parser.add_argument("--raw", type=Path, metavar="FILE", help="also write every figure as JSON")
    parser.add_argument(
        "--read", type=Path, metavar="FILE", help="show a --raw file, measure nothing"
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run: small sizes, one round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; figures are medians (5)")
    parser.add_argument("--limit", type=float, default=90, help="seconds for one measure (90)")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    return parser.parse_args()


def measure(asked: argparse.Namespace) -> Figures:
    settings = (
        Settings(rounds=1, budget=0.02, limit=min(asked.limit, 20), quick=True)
        if asked.quick
        else Settings(asked.rounds, budget=0.3, limit=asked.limit, quick=False)
    )
    results: dict[str, dict[str, Cell]] = {}
    for name in asked.workloads:
        workload = WORKLOADS[name]
        if not (workload.quick if asked.quick else workload.full):
            continue
        wanted = [*asked.engines, "floor"]
        engines = [e for e in workload.engines or ENGINES if e in wanted]
        print(workload.title, flush=True)
        results[name] = compare(name, engines, settings, lambda line: print(line, flush=True))
    imports = startup.measure(asked.engines, 3 if asked.quick else 15)
    return Figures(results, imports, machine.describe(asked.engines), settings.rounds)


def main() -> None:
    asked = arguments()
    figures = Figures.read(asked.read) if asked.read else measure(asked)
    if asked.raw:
        figures.write(asked.raw)
    page = report.page(figures)
    if asked.write:
        asked.write.with_suffix(".svg").write_text(plot.draw(figures.results))
        report.write(asked.write, page)
    else:
        print(page)


if __name__ == "__main__":
    main()

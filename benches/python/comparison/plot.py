"""The picture: horizontal bars on a logarithmic axis, one group for each workload."""

from __future__ import annotations

from html import escape
from math import ceil, floor, log10

from peers import ENGINES

from .figures import Cell
from .tables import number
from .workloads import WORKLOADS

SHOWN = ("chain", "chain_1000", "loop_1k", "fan_out_1k", "fan_out_sleep_1k", "stream")
COLOURS = {
    "asyncio_inline": "#9aa0a6",
    "sayiir": "#7e9cc7",
    "burr": "#b8a1d9",
    "pydantic_graph": "#8fbf9f",
    "blazen": "#d9b38c",
    "langgraph": "#d98c8c",
    "llamaindex": "#a8a15f",
    "treadle_engine": "#c0392b",
}
LEFT, WIDTH, BAR, GAP, HEADING = 120, 620, 13, 14, 20


def draw(results: dict[str, dict[str, Cell]]) -> str:
    """An SVG of the multiples of `task`; an engine without a figure has its name and a dash."""
    groups = [(name, _multiples(results[name])) for name in SHOWN if name in results]
    values = [v for _, group in groups for v in group.values() if v is not None] or [1.0]
    low, high = floor(log10(min(values))), max(1, ceil(log10(max(values))))

    def x(value: float) -> float:
        return LEFT + (log10(value) - low) / (high - low) * WIDTH

    parts: list[str] = []
    y = 40.0
    for name, group in groups:
        title = WORKLOADS[name].title.replace("`", "")
        parts.append(_text(8, y + 14, title, weight="bold"))
        y += HEADING
        for engine, value in group.items():
            label = ENGINES[engine].label
            parts.append(_text(LEFT - 6, y + BAR - 3, label, anchor="end"))
            if value is None:
                parts.append(_text(LEFT + 4, y + BAR - 3, "–"))
            else:
                parts.append(
                    f'<rect x="{LEFT}" y="{y}" width="{x(value) - LEFT:.1f}" height="{BAR - 3}"'
                    f' fill="{COLOURS[engine]}"/>'
                )
                lost = results[name][engine].rounds[0].get("lost", 0.0)
                shown = f"{number(value)} ×" + (f", loses {lost:.0%}" if lost else "")
                parts.append(_text(x(value) + 4, y + BAR - 3, shown))
            y += BAR
        y += GAP
    axis = []
    for power in range(low, high + 1):
        at = x(10.0**power)
        colour = "#333" if power == 0 else "#ddd"
        axis.append(f'<line x1="{at:.1f}" y1="34" x2="{at:.1f}" y2="{y:.0f}" stroke="{colour}"/>')
        axis.append(_text(at, 28, "task" if power == 0 else f"{10.0**power:,g} ×", anchor="middle"))
    height, width = y + 10, LEFT + WIDTH + 60
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}"'
            f' width="{width}" height="{height:.0f}" font-family="sans-serif" font-size="11">',
            f'<rect width="{width}" height="{height:.0f}" fill="#fff"/>',
            _text(8, 14, "Time as a multiple of a hand-written asyncio loop (lower is better)"),
            *axis,
            *parts,
            "</svg>\n",
        ]
    )


def _multiples(row: dict[str, Cell]) -> dict[str, float | None]:
    base = row.get("asyncio_tasks")
    if not base:
        return {}
    return {e: row[e].multiple(base) if row[e] else None for e in COLOURS if e in row}


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}"'
        f' fill="#222">{escape(text)}</text>'
    )

"""What concerns many runs: workflows, processes, and questions that wait for an answer."""

import dataclasses
import typing
from typing import TYPE_CHECKING, Any

from ..exceptions import TreadleError
from ..graph import Graph, Place
from ..runs import RunInfo
from .listing import Listing
from .query import STATUSES, lasted
from .shared import Shared
from .showing import Redact, Showing

if TYPE_CHECKING:
    from ..engine import Engine

# How many of the newest runs are looked through, and how many at a time.
MOST_SEEN = 2000
_AT_ONCE = 200
_MOST_WAITING = 50


class Overview:
    """Looks at the newest runs of a journal."""

    def __init__(
        self, engine: "Engine", redact: Redact | None, listing: Listing, shared: Shared
    ) -> None:
        self._engine = engine
        self._redact = redact
        self._listing = listing
        self._shared = shared

    async def workflows(self) -> dict[str, Any]:
        """Return the workflows of the newest runs and of this process, each with its graph."""
        infos = await self._newest(None)
        named: dict[str, list[RunInfo]] = {name: [] for name in self._known()}
        for info in infos:
            named.setdefault(info.workflow, []).append(info)
        found = [self._workflow(name, runs) for name, runs in sorted(named.items())]
        return {"workflows": found, "seen": len(infos), "is_capped": len(infos) >= MOST_SEEN}

    def _known(self) -> dict[str, Any]:
        return self._engine._settings.workflows

    def _workflow(self, name: str, infos: list[RunInfo]) -> dict[str, Any]:
        counts: dict[str, int] = dict.fromkeys(STATUSES, 0)
        for info in infos:
            counts[info.status] = counts.get(info.status, 0) + 1
        times = sorted(lasted(info, 0) for info in infos if info.finished is not None)
        workflow = self._known().get(name)
        graph = None if workflow is None else graph_of(workflow._graph)
        over = sum(counts[status] for status in ("completed", "failed", "cancelled"))
        return {
            "name": name,
            "counts": counts,
            "failed_share": counts["failed"] / over if over else None,
            "p50": _quantile(times, 0.5),
            "p99": _quantile(times, 0.99),
            "graph": graph,
        }

    async def processes(self) -> dict[str, Any]:
        """Return the processes that execute runs, as far as the newest runs tell."""
        infos = await self._newest(["running", "waiting", "paused"])
        named: dict[str | None, list[RunInfo]] = {}
        for info in infos:
            if info.owner is not None or info.status == "running":
                named.setdefault(info.owner, []).append(info)
        found = [
            {
                "owner": owner,
                "runs": len(runs),
                "running": sum(info.status == "running" for info in runs),
                "workflows": sorted({info.workflow for info in runs}),
                "updated": max(info.updated for info in runs),
                "oldest": min(info.updated for info in runs),
                "epoch": max(info.epoch for info in runs),
                "recoveries": sum(info.recoveries for info in runs),
            }
            for owner, runs in named.items()
        ]
        found.sort(key=lambda it: (it["owner"] is not None, str(it["owner"])))
        return {"processes": found, "seen": len(infos), "is_capped": len(infos) >= MOST_SEEN}

    async def waiting(self, after: str | None) -> dict[str, Any]:
        """Return runs that wait for events, each with what it waits for."""
        infos = await self._engine.runs(status="waiting", after=after, limit=_MOST_WAITING)
        found = [await self._waiting(info) for info in infos]
        last = infos[-1].id if len(infos) == _MOST_WAITING else None
        return {"waiting": [one for one in found if one["events"]], "next": last}

    async def _waiting(self, info: RunInfo) -> dict[str, Any]:
        reasons = await self._shared.ask(
            ("why", info.id, info.seq, info.inbox), 60, lambda: self._why(info.id)
        )
        events = [
            {**reason, "form": self._form(info.workflow, reason["class"])}
            for reason in Showing(self._redact, info.workflow).plain(reasons)
            if reason["kind"] == "event"
        ]
        return {"run": await self._listing.row(info), "events": events}

    async def _why(self, run_id: str) -> list[dict[str, Any]]:
        try:
            return await self._engine.get(run_id).why()
        except TreadleError:
            # It was deleted meanwhile, or is damaged, which its own page says.
            return []

    def _form(self, workflow: str, label: str) -> list[dict[str, Any]] | None:
        """Return the fields of a class of events, if this process has it."""
        cls = self._engine._settings.classes.get(workflow, {}).get(label)
        if cls is None or not dataclasses.is_dataclass(cls):
            return None
        try:
            hints = typing.get_type_hints(cls)
        except Exception:
            # Annotations that only a type checker can resolve.
            hints = {}
        return [
            {"name": field.name, "type": _shown(hints.get(field.name)), "is_needed": _needed(field)}
            for field in dataclasses.fields(cls)
            if field.init
        ]

    async def _newest(self, status: list[str] | None) -> list[RunInfo]:
        key = ("newest", None if status is None else tuple(status))
        found: list[RunInfo] = await self._shared.ask(key, 2, lambda: self._read(status))
        return found

    async def _read(self, status: list[str] | None) -> list[RunInfo]:
        infos: list[RunInfo] = []
        while len(infos) < MOST_SEEN:
            after = infos[-1].id if infos else None
            page = await self._engine.runs(status=status, after=after, limit=_AT_ONCE)
            infos += page
            if len(page) < _AT_ONCE:
                break
        return infos


def graph_of(graph: Graph) -> dict[str, Any]:
    """Return the steps and the arrows of a workflow."""

    def name_of(end: str | Place) -> dict[str, str]:
        return {"place": end.name} if isinstance(end, Place) else {"step": end}

    arrows = [
        {"from": name_of(start), "event": label, "to": name_of(end)}
        for start, label, end in graph.arrows()
    ]
    return {"steps": [step.name for step in graph.steps], "arrows": arrows}


def _quantile(times: list[float], share: float) -> float | None:
    return times[min(int(len(times) * share), len(times) - 1)] if times else None


def _shown(hint: Any) -> str:
    if hint is None:
        return "any"
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def _needed(field: "dataclasses.Field[Any]") -> bool:
    none = dataclasses.MISSING
    return field.default is none and field.default_factory is none

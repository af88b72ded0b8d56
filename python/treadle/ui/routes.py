"""What answers which path."""

import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from .. import __version__
from .acting import Acting
from .http import Refused, Request, Response, json_of
from .listing import MOST_ROWS, Listing
from .live import Live
from .overview import Overview
from .reading import MOST_RECORDS, MOST_STREAM, MOST_VALUE, USUAL_BYTES, Reading
from .shared import Shared
from .showing import Redact

if TYPE_CHECKING:
    from ..engine import Engine

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Routes:
    """The paths of the page and of what it asks."""

    def __init__(self, engine: "Engine", redact: Redact | None, *, needs_token: bool) -> None:
        shared = Shared()
        self._engine = engine
        self._needs_token = needs_token
        self._listing = Listing(engine, redact, shared)
        self._reading = Reading(engine, redact, self._listing)
        self._overview = Overview(engine, redact, self._listing, shared)
        self._acting = Acting(engine)
        self._live = Live(engine, self._listing, shared)
        self._files = _page()
        self._redacts = redact is not None

    def page(self, request: Request) -> Response:
        """Answer with a file of the page: one that was there at the start."""
        if request.method not in ("GET", "HEAD"):
            raise Refused(405, f"{request.method} is not for this path")
        if not request.path:
            # The names of the other files are relative to the page.
            where = f"{request.scope.get('root_path', '').rpartition('/')[2]}/"
            return Response(b"", "text/plain", 307, {"location": where})
        found = self._files.get(request.path)
        if found is None:
            raise Refused(404, "there is no such page")
        return Response(*found)

    async def answer(self, request: Request, allowed: frozenset[str]) -> Response:
        """Answer a question about runs, or carry out an action."""
        parts = request.path.removeprefix("/api/").split("/")
        if request.method in ("POST", "DELETE"):
            return await self._act(request, allowed, parts)
        if request.method not in ("GET", "HEAD"):
            raise Refused(405, f"{request.method} is not for this path")
        if parts[0] == "run" and len(parts) in (2, 3):
            return await self._of_run(request, parts[1], parts[2] if len(parts) == 3 else "head")
        return await self._of_all(request, allowed, "/".join(parts))

    async def _act(self, request: Request, allowed: frozenset[str], parts: list[str]) -> Response:
        if parts[0] == "run" and len(parts) == 3 and request.method == "POST":
            run_id, action = parts[1], parts[2]
        elif parts[0] == "run" and len(parts) == 2 and request.method == "DELETE":
            run_id, action = parts[1], "delete"
        else:
            raise Refused(405, f"{request.method} is not for this path")
        if action == "delete" and request.method == "POST":
            raise Refused(405, "runs are deleted by DELETE")
        return json_of(await self._acting.act(request, allowed, run_id, action))

    async def _of_all(self, request: Request, allowed: frozenset[str], name: str) -> Response:
        query = request.query()
        if name == "journal":
            return json_of(self._journal(allowed))
        if name == "runs":
            limit = request.number("limit", 50, 1, MOST_ROWS)
            after = query.get("after") or None
            return json_of(await self._listing.page(query.get("q", ""), after, limit))
        if name == "runs/count":
            return json_of(await self._listing.count(query.get("q", "")))
        if name == "runs/rows":
            ids = [one for one in query.get("ids", "").split(",") if one]
            return json_of({"runs": await self._listing.rows(ids), "now": time.time()})
        if name == "workflows":
            return json_of(await self._overview.workflows())
        if name == "processes":
            return json_of(await self._overview.processes())
        if name == "waiting":
            return json_of(await self._overview.waiting(query.get("after") or None))
        if name == "live":
            await self._live.check(query.get("q"), query.get("run"))
            body = self._live.events(query.get("q"), query.get("run"), request.receive)
            return Response(body, "text/event-stream", headers={"x-accel-buffering": "no"})
        raise Refused(404, "there is no such path")

    async def _of_run(self, request: Request, run_id: str, name: str) -> Response:
        reading, query = self._reading, request.query()
        most = request.number("most", USUAL_BYTES, 0, MOST_VALUE)
        if name == "head":
            return json_of({**await reading.head(run_id), "now": time.time()})
        if name == "records":
            after, limit = request.number("after", 0), request.number("limit", 200, 1, MOST_RECORDS)
            return json_of(await reading.records(run_id, after, limit, most))
        if name == "state":
            at = request.number("at", 0) if query.get("at") else None
            return json_of(await reading.state(run_id, at, most))
        if name == "diff":
            a, b = request.number("a", 0), request.number("b", 0)
            return json_of(await reading.diff(run_id, a, b, most))
        if name == "why":
            return json_of({"reasons": await reading.why(run_id)})
        if name == "stream":
            after, limit = request.number("after", 0), request.number("limit", 200, 1, MOST_STREAM)
            return json_of(await reading.stream(run_id, after, limit))
        if name == "course":
            return Response(await reading.course(run_id), "application/octet-stream")
        if name == "export":
            return Response(await reading.export(run_id), "application/octet-stream")
        raise Refused(404, "there is no such path")

    def _journal(self, allowed: frozenset[str]) -> dict[str, Any]:
        settings = self._engine._settings
        return {
            "url": self._engine.url,
            "version": __version__,
            "actions": sorted(allowed),
            "workflows": sorted(settings.workflows),
            "is_archive": settings.is_archive,
            "may_export": not self._redacts,
            "needs_token": self._needs_token,
            "now": time.time(),
        }


def _page() -> dict[str, tuple[bytes, str]]:
    """Read the files of the page, by their paths."""
    found: dict[str, tuple[bytes, str]] = {}
    root = files("treadle.ui") / "static"
    for folder in (root, root / "vendor"):
        prefix = "/" if folder is root else "/vendor/"
        for file in folder.iterdir():
            ending = f".{file.name.rpartition('.')[2]}"
            if file.is_file() and ending in _KINDS:
                found[f"{prefix}{file.name}"] = (file.read_bytes(), _KINDS[ending])
    found["/"] = found.pop("/index.html")
    return found

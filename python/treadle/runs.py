"""Runs of a journal, whichever process executes them: facts about them, and handles."""

from collections.abc import AsyncIterator, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .exceptions import RunCancelled

if TYPE_CHECKING:
    from .engine import Engine


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a journal knows of a run. Times are in seconds since the Unix epoch.

    `status` is "running" (it can continue at once; without an `owner` no process has taken it yet),
    "waiting" (for an event or a time), "paused",
    "completed", "failed", "cancelled", "copying" (on its way from one journal to another) or
    "stranded" (no process continues it until it is retried;
    `reason` is the reason). `recoveries` counts the processes that it lost since its last progress;
    `dead_letters` counts the messages to it that could not be read.
    `parent` is the run that started it by `Context.run`, and `root` the first run of its family.
    `is_damaged` says that the end of its log is missing in the file. `result` and `error` are those
    of a run that is over, if they were asked for.
    """

    id: str
    workflow: str
    key: str | None
    status: str
    created: float
    updated: float
    finished: float | None
    due: float | None
    owner: str | None
    epoch: int
    seq: int
    inbox: int
    published: int
    recoveries: int
    reason: str | None
    dead_letters: int
    is_damaged: bool = False
    parent: str | None = None
    root: str | None = None
    result: Any = None
    error: BaseException | None = None


class RunHandle:
    """A run by its id, whichever process executes it. Await it for the result."""

    def __init__(self, engine: "Engine", run_id: str) -> None:
        self._engine = engine
        self.id = run_id

    def __await__(self) -> Generator[Any, None, Any]:
        return self._engine._session().result_of(self.id).__await__()

    async def info(self) -> RunInfo:
        """Return what the journal knows of the run.

        Raises:
            UnknownRun: there is no such run.
        """
        return await self._engine._info(self.id)

    async def history(
        self, *, after: int = 0, limit: int | None = None, most_bytes: int = 65_536
    ) -> list[dict[str, Any]]:
        """Return the history of the run, a dict for each record, and page by page if it is long.

        `seq` is the number of the record, and `what` says what happened; the rest depends on that.
        JSON values are shown as their text (`json`) and binary ones as `bytes` (`binary`). Nothing
        is unpickled: of an opaque value there is its class, its size and the id of the key that it
        is signed with. With `Engine(history="folded")` the records before the last checkpoint of a
        long run are not kept.

        Args:
            after: only records behind this one.
            limit: the largest number of records to return.
            most_bytes: of larger values only tag and size are shown.

        Raises:
            UnknownRun: there is no such run.
            DamagedRun: what the journal has of it is incomplete or makes no sense.
            TypeError, ValueError: an argument is of a wrong type or out of range.
        """
        return await self._engine._history(self.id, after, limit, most_bytes)

    async def inspect(self, *, at: int | None = None, most_bytes: int = 65_536) -> dict[str, Any]:
        """Return the run as plain data behind a record: state, pending deliveries, waits, events.

        Values are shown as in `history`; `record` of a key is the record that set it, if that is
        behind the last checkpoint. Without `at` it is the run as it is now, and one that is over
        as it was just before its end.

        Raises:
            UnknownRun: there is no such run.
            DamagedRun: what the journal has of it is incomplete or makes no sense.
            TypeError, ValueError: there is no such record, or it was folded into a checkpoint.
        """
        return await self._engine._inspect(self.id, at, most_bytes)

    async def diff(self, a: int, b: int, *, most_bytes: int = 65_536) -> dict[str, Any]:
        """Return what differs between the run behind record `a` and behind record `b`.

        `state`, `pending`, `waits`, `groups`, `kept`, `held` and `children` are lists of what is
        different, each with `before` and `after`: `None` for what is not there. `status` and
        `published` are pairs, or `None`. Values are shown as in `history`.

        Raises:
            UnknownRun: there is no such run.
            DamagedRun: what the journal has of it is incomplete or makes no sense.
            TypeError, ValueError: there is no such record, or it was folded into a checkpoint.
        """
        return await self._engine._diff(self.id, a, b, most_bytes)

    async def why(self) -> list[dict[str, Any]]:
        """Return the reasons for which the run waits, or does not continue; the broadest first.

        Each has a `kind`, a `text` for people, and facts that depend on the kind.

        Raises:
            UnknownRun: there is no such run.
            DamagedRun: what the journal has of it is incomplete or makes no sense.
        """
        return await self._engine._why(self.id)

    async def pause(self) -> None:
        """As `Engine.pause`."""
        await self._engine.pause(self.id)

    async def resume(self) -> None:
        """As `Engine.resume`."""
        await self._engine.resume(self.id)

    async def send_event(self, event: object, *, id: str | None = None) -> bool:
        """As `Engine.send_event`."""
        return await self._engine.send_event(self.id, event, id=id)

    async def state(self, *, at: int | None = None) -> dict[str, Any]:
        """As `Engine.state`."""
        return await self._engine.state(self.id, at=at)

    async def update_state(
        self, keys: Mapping[str, Any] | None = None, *, remove: Iterable[str] = ()
    ) -> None:
        """As `Engine.update_state`."""
        await self._engine.update_state(self.id, keys, remove=remove)

    async def cancel(self) -> None:
        """As `Engine.cancel`."""
        await self._engine.cancel(self.id)

    def stream_events(self, after: int = 0) -> AsyncIterator[Any]:
        """As `Engine.stream_events`."""
        return self._engine.stream_events(self.id, after)

    def __repr__(self) -> str:
        return f"<RunHandle {self.id}>"


def result_of(run_id: str, status: str, value: Any) -> Any:
    """Return the result of a run that is over, or raise its error."""
    if status == "failed":
        raise value
    if status == "cancelled":
        raise RunCancelled(f"run {run_id} was cancelled")
    return value

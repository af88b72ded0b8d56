"""Runs that a journal has, whichever process executes them."""

import asyncio
import functools
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, cast

from .. import checks
from ..exceptions import EngineClosed, UnknownRun
from ..runs import RunHandle, RunInfo
from ..starting import NOT_GIVEN
from ..workflow import Workflow
from . import history, looking
from .edits import checked
from .edits import given as given_edits
from .exporting import exported
from .session import CANCEL, PAUSE, RESUME, Session
from .settings import Settings

if TYPE_CHECKING:
    from .engine import Engine


class KnownRuns:
    """The calls of an engine about runs of its journal, by their ids."""

    _settings: Settings
    _opened: Session | None

    def get(self, run_id: str) -> RunHandle:
        """Return a handle of a run, whichever process executes it."""
        return RunHandle(cast("Engine", self), run_id)

    async def find(self, workflow: "Workflow | str", key: str) -> RunHandle | None:
        """Return a handle of the run of a key; `None` if there is none.

        Args:
            workflow: the workflow, or its name.
            key: the key that the run was started with.

        Raises:
            TypeError: an argument is of a wrong type.
        """
        check_key(key)
        rows = await self._session().journal.list_runs(
            workflow=_name_of(workflow), status=None, since=None, after=None, limit=1, key=key
        )
        return self.get(rows[0]["id"]) if rows else None

    async def runs(
        self,
        *,
        workflow: str | None = None,
        status: str | Iterable[str] | None = None,
        since: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
        key_prefix: str | None = None,
        finished_since: datetime | None = None,
        finished_before: datetime | None = None,
        parent: str | None = None,
        root: str | None = None,
        include: Literal["result"] | None = None,
    ) -> list[RunInfo]:
        """List runs, newest first.

        Args:
            workflow: only runs of this workflow, by name.
            status: only runs that are "running", "waiting", "paused", "completed", "failed",
                "cancelled" or "stranded"; or that are any of several of these.
            since: only runs that were created then or later.
            after: only runs behind this one: the id of the last run of the page before.
            limit: the largest number of runs to return.
            key_prefix: only runs of which the key begins so.
            finished_since: only runs that ended then or later.
            finished_before: only runs that ended before that.
            parent: only children of this run, by its id.
            root: only runs of the family of which this run is the first, by its id; without it.
            include: "result": each run that is over has its `result`, or its `error`. That is one
                read of the journal more for each; what cannot be read is the error.

        Raises:
            TypeError, ValueError: an argument is of a wrong type or out of range.
        """
        limit = checks.whole("limit", limit)
        if include not in (None, "result"):
            raise ValueError(f"include: 'result' or None expected, not {include!r}")
        session = self._session()
        list_runs = functools.partial(
            session.journal.list_runs,
            workflow=workflow,
            since=_moment("since", since),
            after=after,
            limit=limit,
            key_prefix=key_prefix,
            finished=(
                _moment("finished_since", finished_since),
                _moment("finished_before", finished_before),
            ),
            family=(parent, root),
        )
        # Each status is a list of its own, which an index has in its order.
        asked = [list_runs(status=one) for one in _each(status)]
        pages = [await page for page in asked]
        rows = [row for page in pages for row in page]
        if len(pages) != 1:
            rows = sorted(rows, key=lambda row: str(row["id"]), reverse=True)[:limit]
        if include is not None:
            rows = await asyncio.gather(*(session.with_outcome(row) for row in rows))
        return [RunInfo(**row) for row in rows]

    async def send_event(
        self,
        run_id: str | None = None,
        event: object = NOT_GIVEN,
        *,
        id: str | None = None,
        key: str | None = None,
        workflow: "Workflow | str | None" = None,
    ) -> bool:
        """Send an event into a run, whichever process executes it; return once it is on disk.

        It is delivered once, and kept while no process executes the run. The run is given by its
        id, or by its key and its workflow.

        Args:
            run_id: the run.
            event: the event.
            id: a name for the message: an event that is sent again under the same name is not
                delivered again.
            key: the key of the run, in the place of its id.
            workflow: the workflow of that run, or its name.

        Returns:
            Whether it is new.

        Raises:
            UnknownRun: there is no such run.
            RunEnded: it is over.
            TypeError: the run is given in neither way, or in both; or there is no event.
        """
        if event is NOT_GIVEN:
            raise TypeError("send_event: an event expected")
        if (run_id is None) == (key is None) or (key is None) != (workflow is None):
            raise TypeError("send_event: the id of the run expected, or its key and its workflow")
        if key is not None and workflow is not None:
            found = await self.find(workflow, key)
            if found is None:
                raise UnknownRun(f"workflow {_name_of(workflow)!r} has no run of the key {key!r}")
            run_id = found.id
        assert run_id is not None
        name = uuid.uuid4() if id is None else uuid.uuid5(uuid.NAMESPACE_OID, id)
        return await self._session().send_event(run_id, event, name)

    async def cancel(self, run_id: str) -> None:
        """Request that the owner of a run cancels it; return when the request is on disk.

        Raises:
            UnknownRun: there is no such run.
            RunEnded: it is over.
        """
        await self._wish(run_id, CANCEL)

    async def pause(self, run_id: str) -> None:
        """Request that the owner of a run pauses it; return when the request is on disk.

        The run then starts no more steps, also after a restart, until it is resumed.

        Raises:
            UnknownRun: there is no such run.
            RunEnded: it is over.
        """
        await self._wish(run_id, PAUSE)

    async def resume(self, run_id: str) -> None:
        """Request that a paused run continues; return when the request is on disk.

        Raises:
            UnknownRun: there is no such run.
            RunEnded: it is over.
        """
        await self._wish(run_id, RESUME)

    async def _wish(self, run_id: str, kind: int) -> None:
        await self._session().wish(run_id, kind)

    async def state(self, run_id: str, *, at: int | None = None) -> dict[str, Any]:
        """Return the state of a run, whichever process executes it.

        It is what the journal has: what a step has set is there once its commit is on disk. Changes
        by `update_state` are there as soon as that has returned.

        Args:
            run_id: the run.
            at: the number of a record: the state behind it. Without it, the state as it is now.

        Raises:
            UnknownRun: there is no such run.
            DamagedRun: what the journal has of it is incomplete or makes no sense.
            UnreadableValue: a value cannot be read.
            TypeError, ValueError: there is no such record, or it was folded into a checkpoint.
        """
        return await self._session().state_of(run_id, _record("at", at))

    async def update_state(
        self,
        run_id: str,
        keys: Mapping[str, Any] | None = None,
        *,
        remove: Iterable[str] = (),
    ) -> None:
        """Set and remove keys of a run's state; return once that is on disk.

        All of it is one change: the process that executes the run makes it between two of its
        commits, as soon as it hears of it, also while the run waits or is paused. If no process
        executes the run, the next one makes it before anything else.

        Args:
            run_id: the run.
            keys: keys with their new values.
            remove: keys to remove; one that is not there is ignored.

        Raises:
            UnknownRun: there is no such run.
            RunEnded: it is over.
            UnstorableValue: a value cannot be stored.
            TypeError, ValueError: a key is not a `str`, or it is both set and removed, or there is
                no key at all.
        """
        given = dict(keys or {})
        if isinstance(remove, str):
            raise TypeError(f"remove: a list of keys expected, not {remove!r}")
        removed = list(dict.fromkeys(remove))
        if both := [key for key in removed if key in given]:
            raise ValueError(f"update_state: the key {both[0]!r} is both set and removed")
        if not given and not removed:
            raise ValueError("update_state: a key to set or to remove expected")
        await self._session().change(run_id, given, removed)

    async def retry(self, run_id: str) -> RunHandle:
        """Continue a run that failed, was cancelled or is stranded, from where that happened.

        Every step that was not finished begins at once, with all its attempts; time limits, waits
        and sleeps count from the beginning.

        Raises:
            UnknownRun: there is no such run.
            RunEnded: it is completed; its result is final.
            JournalConflict: it is not over.
        """
        session = self._session()
        journal = session.journal_with(run_id)
        await (await journal.load(run_id)).reopen(journal)
        session.changed()
        return self.get(run_id)

    async def fork(
        self,
        run_id: str,
        *,
        at: int | None = None,
        events: Mapping[int, Any] | None = None,
        state: Mapping[str, Any] | None = None,
        remove: Iterable[str] = (),
    ) -> RunHandle:
        """Create a new run that continues from a point of another one.

        Its stream begins with the events that the other run had published at that point. A step
        whose event is changed begins from its start: what it had received, called once and sent
        is forgotten. Every other step that was not finished finds what it had done.

        Args:
            run_id: the other run.
            at: the number of the record of its log behind which the new run continues; the last
                record before its end if not given.
            events: changes of pending events, by the number of their delivery: a dict of fields
                with their new values, or an event of the same class.
            state: keys with their new values.
            remove: keys to remove; one that is not there is ignored.

        Raises:
            UnknownRun: there is no such run.
            DamagedRun: what the journal has of it is incomplete or makes no sense.
            TypeError, ValueError: there is no such record, or it was folded into a checkpoint;
                there is no such delivery or field, or a value does not fit the class.
            UnstorableValue: a value cannot be stored.
        """
        at = _record("at", at)
        edits = given_edits(events, state, remove)
        session = self._session()
        journal = session.journal_with(run_id)
        loaded = await (journal.load(run_id) if at is None else journal.segment(run_id, at))
        if edits is not None:
            classes = self._settings.classes.get(loaded.workflow, {})
            edits = checked(edits, loaded.pending_at(journal, at), classes)
        stream = await looking.kept_stream(session, run_id)
        new, written = loaded.fork(journal, stream, at, edits)
        await written
        session.changed()
        return self.get(new)

    async def export(self, run_id: str) -> bytes:
        """Return an archive: a file of one run, as an engine on `archive:///FILE` looks into it.

        It has the history that the journal has, the stream, the messages that wait, and how the run
        ended. Nothing is decrypted or unpickled; signatures stay as they are in the journal.

        Raises:
            UnknownRun: there is no such run.
            DamagedRun: what the journal has of it is incomplete or makes no sense.
            JournalError: the run moves on faster than it can be read.
        """
        return await exported(self._session(), run_id)

    async def redeliver(self, run_id: str) -> int:
        """Send the dead letters of a run again: messages to it that could not be read.

        They are kept, and listed by `python -m treadle show`. A message that still cannot be read
        becomes a dead letter again.

        Returns:
            The number of dead letters.

        Raises:
            UnknownRun: there is no such run.
            RunEnded: it is over.
        """
        return await self._session().redeliver(run_id)

    async def delete(self, run_id: str) -> None:
        """Delete a run.

        Raises:
            UnknownRun: there is no such run.
            JournalConflict: it is being executed.
        """
        await self._session().delete(run_id)

    async def stream_events(self, run_id: str, after: int = 0) -> AsyncIterator[Any]:
        """Read the stream of a run from behind the event with the number `after` until its end.

        Raises:
            UnknownRun: there is no such run.
            TypeError, ValueError: `after` is not a number, or less than 0.
            RunStranded: no process continues the run.
        """
        after = checks.whole("after", after, least=0)
        session = self._session()
        async for event in looking.events(session, await looking.info(session, run_id), after):
            yield event

    async def _info(self, run_id: str) -> RunInfo:
        return await looking.info(self._session(), run_id)

    async def _history(
        self, run_id: str, after: int, limit: int | None, most_bytes: int
    ) -> list[dict[str, Any]]:
        after = checks.whole("after", after, least=0)
        limit = None if limit is None else checks.whole("limit", limit)
        most_bytes = checks.whole("most_bytes", most_bytes, least=0)
        return await history.lines(self._session(), run_id, after, limit, most_bytes)

    async def _inspect(self, run_id: str, at: int | None, most_bytes: int) -> dict[str, Any]:
        most_bytes = checks.whole("most_bytes", most_bytes, least=0)
        return await history.at_record(self._session(), run_id, _record("at", at), most_bytes)

    async def _diff(self, run_id: str, a: int, b: int, most_bytes: int) -> dict[str, Any]:
        a, b = checks.whole("a", a, least=0), checks.whole("b", b, least=0)
        most_bytes = checks.whole("most_bytes", most_bytes, least=0)
        return await history.diff(self._session(), run_id, a, b, most_bytes)

    async def _why(self, run_id: str) -> list[dict[str, Any]]:
        return await history.why(self._session(), run_id)

    def _session(self, call: str = "a method of the engine") -> Session:
        session = self._opened
        if session is None:
            raise self._never_opened()
        session.check_loop(call)
        return session

    def _never_opened(self) -> EngineClosed:
        shown = self._settings.shown
        return EngineClosed(f"the engine on {shown} is not open; use `async with Engine(...)`")


def _record(name: str, number: int | None) -> int | None:
    return None if number is None else checks.whole(name, number, least=0)


def check_key(key: object) -> None:
    if not isinstance(key, str):
        raise TypeError(f"key: a str expected, not {key!r}")


def _name_of(workflow: "Workflow | str") -> str:
    if isinstance(workflow, Workflow):
        return workflow.name
    if not isinstance(workflow, str):
        raise TypeError(f"workflow: a workflow or its name expected, not {workflow!r}")
    return workflow


def _moment(name: str, moment: datetime | None) -> float | None:
    if moment is not None and not isinstance(moment, datetime):
        raise TypeError(f"{name}: a datetime expected, not {moment!r}")
    return None if moment is None else moment.timestamp()


def _each(status: str | Iterable[str] | None) -> list[str | None]:
    if status is None or isinstance(status, str):
        return [status]
    return list(dict.fromkeys(status))

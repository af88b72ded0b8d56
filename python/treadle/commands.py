"""What the command line does with snapshots and journals."""

import asyncio
import inspect as inspect_module
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from importlib import import_module
from typing import Any

from . import signing
from ._treadle import copy_runs, postgres_statements
from .course import HEAD, attempts, others
from .engine import Engine, looking
from .exceptions import TreadleError
from .inspection import brief, inspect, lines_of, moment, shown
from .runs import RunInfo
from .tables import print_json, print_table, say
from .workflow import Workflow

DONE, FOUND_PROBLEMS, WRONG_USE = 0, 1, 2


class WrongUse(Exception):
    """The command cannot be carried out as it was given."""


def inspect_file(file: str, as_json: bool) -> int:
    """Show what is in a snapshot."""
    inspection = inspect(_read(file))
    if as_json:
        print_json(vars(inspection))
        return DONE
    for line in [*inspection._head(), *lines_of(vars(inspection))]:
        say(line)
    return DONE


def check(target: str, files: list[str], as_json: bool) -> int:
    """Print the reasons for which snapshots, or the runs of an engine, cannot continue."""
    found = load(target)
    if isinstance(found, Workflow):
        if not files:
            raise WrongUse(f"{target} is a Workflow: name files with snapshots to check")
        problems = {file: found.check(_read(file)) for file in files}
    elif isinstance(found, Engine):
        if files:
            raise WrongUse(f"{target} is an Engine: its journal is checked, and no files")
        _check_journal(found)
        problems = asyncio.run(_check_runs(found))
    else:
        raise WrongUse(f"{target} is neither a Workflow nor an Engine, but {found!r}")
    if as_json:
        print_json(problems)
        return FOUND_PROBLEMS if any(problems.values()) else DONE
    if not problems:
        say("there are no unfinished runs")
    for name, lines in problems.items():
        say(f"{name}: {'fits' if not lines else 'does not fit'}")
        for line in lines:
            say(f"  - {line}")
    return FOUND_PROBLEMS if any(problems.values()) else DONE


async def _check_runs(engine: Engine) -> dict[str, list[str]]:
    problems = {}
    async with engine._looking():
        for status in ("running", "waiting", "paused", "stranded"):
            after = None
            while page := await engine.runs(status=status, after=after):
                after = page[-1].id
                for info in page:
                    problems[info.id] = await looking.problems(engine._session(), info)
    return problems


def runs(url: str, as_json: bool, limit: int, **filters: Any) -> int:
    """List the runs of a journal."""

    async def work(engine: Engine) -> int:
        infos = await engine.runs(limit=limit, **filters)
        if as_json:
            print_json([vars(info) for info in infos])
            return DONE
        print_table(_RUNS, [_run_row(info) for info in infos])
        if len(infos) == limit:
            print(f"there may be more: --after {infos[-1].id}", file=sys.stderr)
        return DONE

    return looking_at(url, work)


_RUNS = ("run", "workflow", "key", "status", "created", "updated", "due", "records")


def _run_row(info: RunInfo) -> tuple[object, ...]:
    key = "" if info.key is None else info.key
    times = [brief(time) if time else "" for time in (info.created, info.updated, info.due)]
    status = f"{info.status}, damaged" if info.is_damaged else info.status
    return (info.id, info.workflow, key, status, *times, info.seq)


def show(url: str, run_id: str, as_json: bool) -> int:
    """Show one run: its course, its state, what is pending, how it ended."""

    return looking_at(url, lambda engine: show_run(engine, run_id, as_json))


async def show_run(engine: Engine, run_id: str, as_json: bool) -> int:
    """Show one run of a journal that is open."""
    story = await looking.story(engine._session(), run_id)
    if as_json:
        print_json(story)
        return DONE
    for line in _head(story):
        say(line)
    print_table(HEAD, [attempt.row(story["created"]) for attempt in attempts(story)])
    for number, text in others(story["history"]):
        say(f"record {number}: {text}")
    if story["finished"]:
        say("before its end:")
    if story["unreadable"] is not None:
        say(f"its records cannot be read: {story['unreadable']}")
    else:
        for line in [*lines_of(story["now"]), *_end(story)]:
            say(line)
    return DONE


def _head(story: dict[str, Any]) -> Iterator[str]:
    key = "" if story["key"] is None else f", key {story['key']!r}"
    yield f"run {story['id']} of workflow {story['workflow']!r}{key}: {story['status']}"
    finished = f", ended {moment(story['finished'])}" if story["finished"] else ""
    yield f"created {moment(story['created'])}, updated {moment(story['updated'])}{finished}"
    if story["owner"]:
        yield f"executed by process {story['owner']}"
    if story["due"]:
        yield f"goes on at {moment(story['due'])} at the latest"
    if story["now"] and story["now"]["deadline"] and not story["finished"]:
        yield f"has time until {moment(story['now']['deadline'])}"
    if story["reason"]:
        what = "stranded" if story["status"] == "stranded" else "refused by a process"
        yield f"{what}: {story['reason']}"
    if story["recoveries"]:
        yield f"lost its process {story['recoveries']} times since it got further"
    if story["dead_letters"]:
        plural = "" if story["dead_letters"] == 1 else "s"
        yield f"{story['dead_letters']} dead letter{plural}, not readable as an event:"
    for letter in story["undelivered"]:
        event = letter["event"]
        name = "unreadable" if event is None else event["class"]
        yield f"  {name}, {letter['size']} B, sent {moment(letter['at'])}: {letter['why']}"
    if story["inbox"]:
        yield f"{story['inbox']} messages wait to be taken"
    yield f"records: {story['seq']}, events published: {story['published']}"
    if not story["verified"]:
        yield "not verified: there is no secret to check the signatures with"
    if story["folded"]:
        yield f"the first {story['folded']} records are folded: what they told is not shown"


def _end(story: dict[str, Any]) -> Iterator[str]:
    outcome, failure = story["outcome"], story["failure"]
    if failure is not None:
        yield f"failed: {failure['class'].rpartition(':')[2]}: {failure.get('text', '')}"
        for note in failure.get("notes", ()):
            yield f"  {note}"
    elif outcome is not None and "whole" in outcome:
        yield f"{outcome['class']}: {shown(outcome['whole'])}"
    elif outcome is not None:
        yield f"outcome: {outcome['class']}"
        for name, value in outcome["fields"].items():
            yield f"  {name}: {shown(value)}"


def tail(url: str, run_id: str, after: int, as_json: bool) -> int:
    """Follow what a run publishes, until it is over."""

    async def work(engine: Engine) -> int:
        async for event in looking.peek_stream(engine._session(), run_id, after):
            if as_json:
                print(json.dumps(event), flush=True)
            elif "missed" in event:
                say(f"{event['missed']} events are no longer kept")
            else:
                fields = event.get("fields", {})
                parts = ", ".join(f"{name}: {shown(value)}" for name, value in fields.items())
                inside = shown(event["whole"]) if "whole" in event else parts
                say(f"{event['number']}: {event['class']}({inside})")
        return DONE

    return looking_at(url, work)


def copy(source: str, destination: str, run: str | None, is_all: bool, wait: float) -> int:
    """Move runs from one journal to another; say which ones, and why others stay."""
    _engine_of(destination)
    _check_journal(_engine_of(source))
    if source == destination:
        raise WrongUse("FROM and TO are the same journal")
    secrets = (signing.secrets_of_end("FROM"), signing.secrets_of_end("TO"))
    moved, there, left = copy_runs(
        source, destination, secrets, None if is_all else run, wait, _tell_copied
    )
    before = f", {there} had been moved before" if there else ""
    say(f"{moved} runs moved{before}, {left} left where they were")
    return FOUND_PROBLEMS if left else DONE


def _tell_copied(what: str, run: str, why: str) -> None:
    if what == "found":
        say(f"{run} runs found")
    elif what == "stays":
        print(f"treadle: run {run} stays: {why}", file=sys.stderr)
    else:
        say(f"run {run} {what}")
    sys.stdout.flush()


def cancel(url: str, run_id: str) -> int:
    """Request that the owner of a run cancels it."""

    async def work(engine: Engine) -> int:
        await engine.cancel(run_id)
        say(f"run {run_id} is cancelled by the process that executes it")
        return DONE

    return engine_with(url, work)


def retry(url: str, run_id: str) -> int:
    """Continue a failed run from where it failed."""

    async def work(engine: Engine) -> int:
        await engine.retry(run_id)
        say(f"run {run_id} goes on wherever an engine executes its workflow")
        return DONE

    return engine_with(url, work)


def redeliver(url: str, run_id: str) -> int:
    """Send the messages to a run again that could not be read."""

    async def work(engine: Engine) -> int:
        count = await engine.redeliver(run_id)
        say(f"{count} dead letters of run {run_id} are sent again")
        return DONE

    return engine_with(url, work)


def sql(schema: str, since: int) -> int:
    """Print the statements that lead from a version of the tables in PostgreSQL to the newest."""
    statements = postgres_statements(schema, since)
    print(statements, end="")
    return DONE


def worker(target: str, grace: float) -> int:
    """Execute runs until SIGTERM or SIGINT, then hand them back."""
    engine = load(target)
    if not isinstance(engine, Engine):
        raise WrongUse(f"{target} is not an Engine, but {engine!r}")
    if engine.url.startswith("memory:"):
        raise WrongUse(f"{target} is an Engine in memory: no other process can ask it for anything")
    if not engine._settings.workflows:
        raise WrongUse(f"{target} has no workflows: it would execute nothing")

    async def work() -> int:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        await engine.open()
        say(f"working on {engine.url}")
        try:
            await stopped.wait()
            say(f"stopping: steps that run have {grace:g} s")
        finally:
            await engine.close(grace=grace)
        return DONE

    return asyncio.run(work())


def engine_with(url: str, work: Callable[[Engine], Awaitable[int]]) -> int:
    """Do something with an engine that executes nothing, on a journal that is there."""

    async def main() -> int:
        async with _engine(url) as engine:
            return await work(engine)

    return asyncio.run(main())


def looking_at(url: str, work: Callable[[Engine], Awaitable[int]]) -> int:
    """Do something with a journal that makes and changes no file."""

    async def main() -> int:
        async with _engine(url)._looking() as engine:
            return await work(engine)

    return asyncio.run(main())


def _engine(url: str) -> Engine:
    engine = _engine_of(url)
    _check_journal(engine)
    return engine


def _engine_of(url: str) -> Engine:
    if ":" not in url and url.endswith(".treadle"):
        url = f"archive:///{url}"
    try:
        return Engine(url)
    except ValueError as error:
        if ":" not in url:
            raise WrongUse(f"a URL is expected, not a path: sqlite:///{url}") from error
        raise


def _check_journal(engine: Engine) -> None:
    if engine.url.startswith("memory:"):
        raise WrongUse('"memory:" is the journal of one process: no other can look into it')
    path = engine._settings.path
    if path is not None and not os.path.exists(path):
        raise WrongUse(f"there is no journal {path}")


def load(target: str) -> Any:
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise WrongUse(f"MODULE:NAME expected, not {target!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = import_module(module_name)
    except ImportError as error:
        raise WrongUse(f"module {module_name!r} cannot be imported: {error}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise WrongUse(f"module {module_name!r} has no {name!r}")
        found = getattr(found, part)
    is_other_class = isinstance(found, type) and not issubclass(found, (Workflow, Engine))
    if isinstance(found, (Workflow, Engine)) or not callable(found) or is_other_class:
        return found
    return _made(target, found)


def _made(target: str, factory: Callable[[], Any]) -> Any:
    try:
        inspect_module.signature(factory).bind()
    except TypeError as error:
        raise WrongUse(f"{target} cannot be called without arguments: {error}") from error
    except ValueError:
        # Not every callable has a signature.
        pass
    made = factory()
    if asyncio.iscoroutine(made):
        made.close()
        raise WrongUse(f"{target} is an async function: name an Engine, or a plain function")
    return made


def _read(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read()
    except OSError as error:
        raise WrongUse(f"{file}: {error.strerror}") from error


def carry_out(command: Callable[..., int], **options: Any) -> int:
    """Run a command; say what is wrong in one line, and give the exit code."""
    try:
        return command(**options)
    except WrongUse as error:
        print(f"treadle: {error}", file=sys.stderr)
        return WRONG_USE
    except TreadleError as error:
        print(f"treadle: {error} (see {error.docs})", file=sys.stderr)
        return FOUND_PROBLEMS
    except ValueError as error:
        print(f"treadle: {error}", file=sys.stderr)
        return WRONG_USE

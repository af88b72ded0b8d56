"""What the command line does with snapshots and journals."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable
from importlib import import_module
from typing import Any

from .engine import Engine
from .exceptions import TreadleError
from .inspection import inspect, lines_of, moment, shown
from .workflow import Workflow

DONE, FOUND_PROBLEMS, WRONG_USE = 0, 1, 2


class WrongUse(Exception):
    """The command cannot be carried out as it was given."""


def inspect_file(file: str, as_json: bool) -> int:
    """Show what is in a snapshot."""
    inspection = inspect(_read(file))
    print(_json(vars(inspection)) if as_json else inspection)
    return DONE


def check(target: str, files: list[str], as_json: bool) -> int:
    """Say everything because of which snapshots, or the runs of an engine, could not go on."""
    found = _load(target)
    if isinstance(found, Workflow):
        if not files:
            raise WrongUse(f"{target} is a workflow: name files with snapshots to check")
        problems = {file: found.check(_read(file)) for file in files}
    elif isinstance(found, Engine):
        problems = asyncio.run(_check_runs(found))
    else:
        raise WrongUse(f"{target} is neither a Workflow nor an Engine, but {found!r}")
    if as_json:
        print(_json(problems))
    for name, lines in () if as_json else problems.items():
        print(f"{name}: {'fits' if not lines else 'does not fit'}")
        for line in lines:
            print(f"  - {line}")
    return FOUND_PROBLEMS if any(problems.values()) else DONE


async def _check_runs(engine: Engine) -> dict[str, list[str]]:
    problems = {}
    async with _reader(engine.url) as reader:
        for status in ("ready", "waiting", "paused"):
            after = None
            while page := await reader.runs(status=status, after=after):
                after = page[-1].id
                for info in page:
                    problems[info.id] = await engine._problems(reader, info)
    return problems


def runs(url: str, as_json: bool, **filters: Any) -> int:
    """List the runs of a journal."""

    async def work(engine: Engine) -> int:
        infos = await engine.runs(**filters)
        if as_json:
            print(_json([vars(info) for info in infos]))
            return DONE
        rows = [
            (info.id, info.workflow, info.key or "", info.status, moment(info.created), info.seq)
            for info in infos
        ]
        _table(("run", "workflow", "key", "status", "created", "records"), rows)
        return DONE

    return _with(url, work)


def show(url: str, run_id: str, as_json: bool) -> int:
    """Show one run: its course, its state, what is pending, how it ended."""

    async def work(engine: Engine) -> int:
        handle = engine.get(run_id)
        info, history = await handle.info(), await handle.history()
        image, outcome = await engine._inspect(run_id)
        if as_json:
            print(_json({**vars(info), "history": history, "now": image, "outcome": outcome}))
            return DONE
        print(f"run {info.id} of workflow {info.workflow!r}: {info.status}")
        print(f"created {moment(info.created)}, updated {moment(info.updated)}")
        _table(("delivery", "step", "event", "attempt", "seconds", "end"), list(_course(history)))
        print("\n".join(lines_of(image)))
        if outcome is not None:
            print(f"outcome: {outcome['class']}")
            for name, value in outcome.get("fields", {}).items():
                print(f"  {name}: {shown(value)}")
        return DONE

    return _with(url, work)


def _course(history: list[dict[str, Any]]) -> Iterable[tuple[Any, ...]]:
    """Put the records of each attempt into one row."""
    queued: dict[int, tuple[str, str]] = {}
    started: dict[int, tuple[int, float]] = {}
    for record in history:
        delivery = record.get("delivery", 0)
        if record["what"] == "queued":
            queued[delivery] = (record["step"], record["event"])
        elif record["what"] == "started":
            attempt = started.get(delivery, (0, 0.0))[0] + 1
            started[delivery] = (attempt, record["at"])
        elif record["what"] in ("finished", "retried"):
            attempt, at = started.get(delivery, (1, 0.0))
            took = f"{record['at'] - at:.3f}" if record.get("at") and at else ""
            end = record.get("failure", "finished")
            yield (delivery, *queued.get(delivery, ("", "")), attempt, took, end)
    for delivery, (step, event) in queued.items():
        if not any(r.get("delivery") == delivery and r["what"] == "finished" for r in history):
            attempt = started.get(delivery, (0, 0.0))[0]
            is_over = any(record["what"] == "ended" for record in history)
            end = "until the run ended" if is_over and attempt else "not done"
            yield (delivery, step, event, attempt, "", end)


def tail(url: str, run_id: str, after: int, as_json: bool) -> int:
    """Follow what a run publishes, until it is over."""

    async def work(engine: Engine) -> int:
        async for number, event in engine._peek_stream(run_id, after):
            if as_json:
                print(json.dumps({"number": number, **event}), flush=True)
            else:
                fields = event.get("fields", {})
                parts = ", ".join(f"{name}: {shown(value)}" for name, value in fields.items())
                print(f"{number}: {event['class']}({parts})", flush=True)
        return DONE

    return _with(url, work)


def cancel(url: str, run_id: str) -> int:
    """Have a run cancelled by whoever executes it."""

    async def work(engine: Engine) -> int:
        await engine.cancel(run_id)
        return DONE

    return _with(url, work)


def retry(url: str, run_id: str) -> int:
    """Have a run that failed go on from where it failed."""

    async def work(engine: Engine) -> int:
        await engine.retry(run_id)
        return DONE

    return _with(url, work)


def fork(url: str, run_id: str, at: int | None) -> int:
    """Make a new run that goes on from where another one was; print its id."""

    async def work(engine: Engine) -> int:
        print((await engine.fork(run_id, at=at)).id)
        return DONE

    return _with(url, work)


def worker(target: str, grace: float) -> int:
    """Execute runs until SIGTERM or SIGINT, then hand them back."""
    engine = _load(target)
    if not isinstance(engine, Engine):
        raise WrongUse(f"{target} is not an Engine, but {engine!r}")

    async def work() -> int:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        await engine.open()
        print(f"working on {engine.url}", flush=True)
        try:
            await stopped.wait()
        finally:
            await engine.close(grace=grace)
        return DONE

    return asyncio.run(work())


def _with(url: str, work: Callable[[Engine], Awaitable[int]]) -> int:
    async def main() -> int:
        async with _reader(url) as engine:
            return await work(engine)

    return asyncio.run(main())


def _reader(url: str) -> Engine:
    """An engine that executes nothing, on a journal that is there."""
    engine = Engine(url)
    if engine._path is None:
        raise WrongUse('"memory:" is the journal of one process: nobody else can look into it')
    if not os.path.exists(engine._path):
        raise WrongUse(f"there is no journal {engine._path}")
    return engine


def _load(target: str) -> Any:
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise WrongUse(f"MODULE:NAME expected, not {target!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise WrongUse(f"module {module_name!r} cannot be imported: {error}") from error
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise WrongUse(f"{module_name!r} has no {name!r}")
        found = getattr(found, part)
    if not isinstance(found, (Workflow, Engine)) and callable(found):
        try:
            found = found()
        except TypeError as error:
            raise WrongUse(f"{target} gives neither a Workflow nor an Engine: {error}") from error
    return found


def _read(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read()
    except OSError as error:
        raise WrongUse(f"{file}: {error.strerror}") from error


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, default=str)


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        _plain_table(head, rows)
        return
    table = Table(*head)
    for row in rows:
        table.add_row(*map(str, row))
    console = Console()
    if not console.is_terminal:
        _plain_table(head, rows)
    else:
        console.print(table)


def _plain_table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    texts = [head, *(tuple(map(str, row)) for row in rows)]
    widths = [max(len(text[at]) for text in texts) for at in range(len(head))]
    for text in texts:
        cells = (part.ljust(width) for part, width in zip(text, widths, strict=True))
        print("  ".join(cells).rstrip())


def carry_out(command: Callable[..., int], **options: Any) -> int:
    """Run a command; say what is wrong in one line, and give the exit code."""
    try:
        return command(**options)
    except WrongUse as error:
        print(f"treadle: {error}", file=sys.stderr)
        return WRONG_USE
    except TreadleError as error:
        print(f"treadle: {error}", file=sys.stderr)
        return FOUND_PROBLEMS
    except ValueError as error:
        print(f"treadle: {error}", file=sys.stderr)
        return WRONG_USE

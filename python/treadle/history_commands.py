"""What the command line does with the history of a run."""

import base64
import os
import tempfile
from pathlib import Path
from typing import Any

from .commands import DONE, WrongUse, looking_at, show_run
from .engine import Engine
from .inspection import lines_of, shown
from .tables import print_json, say


def history(url: str, run_id: str, after: int, limit: int | None, as_json: bool) -> int:
    """Show every record of a run."""

    async def work(engine: Engine) -> int:
        lines = await engine.get(run_id).history(after=after, limit=limit)
        if as_json:
            print_json(as_text(lines))
            return DONE
        for line in lines:
            say(f"{line['seq']}: {line['what']}{_facts(line)}")
        return DONE

    return looking_at(url, work)


def state(url: str, run_id: str, at: int | None, as_json: bool) -> int:
    """Show a run as it was behind a record."""

    async def work(engine: Engine) -> int:
        return _show_state(await engine.get(run_id).inspect(at=at), as_json)

    return looking_at(url, work)


def _show_state(found: dict[str, Any], as_json: bool) -> int:
    if as_json:
        print_json(as_text(found))
        return DONE
    say(f"run {found['run']} behind record {found['record']}: {found['status']}")
    for line in lines_of(found):
        say(line)
    return DONE


def diff(url: str, run_id: str, a: int, b: int, as_json: bool) -> int:
    """Show what differs between two records of a run."""

    async def work(engine: Engine) -> int:
        found = await engine.get(run_id).diff(a, b)
        if as_json:
            print_json(as_text(found))
            return DONE
        lines = list(_differences(found))
        for line in lines or [f"records {a} and {b}: nothing differs"]:
            say(line)
        return DONE

    return looking_at(url, work)


def why(url: str, run_id: str, as_json: bool) -> int:
    """Say why a run waits, or does not continue."""

    async def work(engine: Engine) -> int:
        reasons = await engine.get(run_id).why()
        if as_json:
            print_json(reasons)
            return DONE
        for reason in reasons:
            say(reason["text"])
        if not reasons:
            say("nothing is known that it waits for")
        return DONE

    return looking_at(url, work)


def export(url: str, run_id: str, file: str, force: bool) -> int:
    """Write all that the journal has of a run into a file."""
    path = Path(file)
    if path.exists() and not force:
        raise WrongUse(f"{file} is there already: --force writes over it")

    async def work(engine: Engine) -> int:
        archive = await engine.export(run_id)
        _write(path, archive)
        say(f"run {run_id} is in {file}, {len(archive)} bytes")
        return DONE

    return looking_at(url, work)


def open_file(file: str, at: int | None, as_json: bool) -> int:
    """Show the run of an archive."""

    async def work(engine: Engine) -> int:
        (info,) = await engine.runs(limit=1)
        if at is not None:
            return _show_state(await engine.get(info.id).inspect(at=at), as_json)
        return await show_run(engine, info.id, as_json)

    return looking_at(f"archive:///{file}", work)


def _write(path: Path, archive: bytes) -> None:
    """Write a file as a whole or not at all."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(archive)
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, path)
    except OSError as error:
        raise WrongUse(f"{path}: {error.strerror}") from error


def _facts(line: dict[str, Any]) -> str:
    left_out = ("seq", "what", "fields", "whole", "value", "event")
    there = {name: it for name, it in line.items() if it not in (None, []) and name not in left_out}
    facts = [f"{name} {it}" for name, it in there.items()]
    if "event" in line:
        inside = ", ".join(f"{name}={shown(it)}" for name, it in line.get("fields", {}).items())
        inside = shown(line["whole"]) if "whole" in line else inside
        facts.append(f"{line['event']}({inside})")
    if line.get("value") is not None:
        facts.append(shown(line["value"]))
    return f" {', '.join(facts)}" if facts else ""


def _differences(found: dict[str, Any]) -> Any:
    if found["status"]:
        yield "status: {} -> {}".format(*found["status"])
    if found["published"]:
        yield "published: {} -> {} events".format(*found["published"])
    for it in found["state"]:
        before, after = (None if one is None else shown(one) for one in (it["before"], it["after"]))
        if before is None:
            yield f"+ {it['key']}: {after}"
        elif after is None:
            yield f"- {it['key']}: {before}"
        else:
            yield f"  {it['key']}: {before} -> {after}"
    for name, number in (
        ("pending", "delivery"),
        ("waits", "wait"),
        ("groups", "group"),
        ("kept", "number"),
        ("held", None),
        ("children", "child"),
    ):
        for it in found[name]:
            sign = "+" if it["before"] is None else "-" if it["after"] is None else " "
            what = it["before"] if it["after"] is None else it["after"]
            label = "" if number is None else f" {it[number]}"
            yield f"{sign} {name}{label}: {_what(what)}"


def _what(it: Any) -> str:
    if not isinstance(it, dict):
        return f"delivery {it}"
    names = ("class", "step", "attempt", "due", "delivery", "key", "collected", "expected")
    return ", ".join(f"{name} {it[name]}" for name in names if it.get(name) is not None)


def as_text(value: Any) -> Any:
    """Return the same with bytes as base64, for JSON."""
    if isinstance(value, dict):
        return {name: as_text(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_text(one) for one in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value

"""The command line: `treadle`, or `python -m treadle`."""

import argparse
import os
import sys
from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from . import __version__, checks, demo

INTERRUPTED = 130

_EXIT_CODES = """exit codes: 0 success, 1 the answer is no (a snapshot does not fit, there is no
such run, the journal cannot be read), 2 wrong use, 130 interrupted"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog=_program(),
        description="treadle: a workflow engine for async Python",
        epilog=_EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"treadle {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    _add_demo(commands)
    _add_snapshots(commands)
    _add_journals(commands)
    _add_history(commands)
    _add_acts(commands)
    _add_ui(commands)
    _add_sql(commands)
    _add_copy(commands)
    options = vars(parser.parse_args(arguments))
    run = options.pop("command", None)
    if run is None:
        parser.print_help()
        return 2
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code: int = run(**options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has gone. Python would report it again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _program() -> str:
    return "treadle" if Path(sys.argv[0]).stem == "treadle" else "python -m treadle"


def _add_demo(commands: Any) -> None:
    command = commands.add_parser(
        "demo",
        help="measure a tree of Python files, in one run that fans out over them",
        description="Measures a tree of Python files, in one run that fans out over them.",
    )
    demo.add_arguments(command)
    command.set_defaults(command=demo.main)


def _add_snapshots(commands: Any) -> None:
    command = _add(commands, "inspect", "inspect_file", "show the contents of a snapshot")
    command.add_argument("file", metavar="FILE")
    _add_json(command)
    command = _add(commands, "check", "check", "say why snapshots or runs cannot continue")
    command.add_argument("target", metavar="MODULE:NAME", help="a Workflow, or an Engine")
    command.add_argument("files", metavar="FILE", nargs="*", help="snapshots")
    _add_json(command)


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"a date or a time expected, such as 2026-01-31 or 2026-01-31T12:00, not {text!r}"
        ) from error


def _number(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        try:
            return checks.whole("number", int(text), least=least)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"a number from {least} on expected, not {text!r}"
            ) from None

    return number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"seconds expected, not {text!r}")
    return seconds


def _add_journals(commands: Any) -> None:
    command = _add(commands, "runs", "runs", "list the runs of a journal")
    command.add_argument("url", metavar="URL", help=_URL)
    command.add_argument("--workflow", help="only runs of this workflow")
    command.add_argument(
        "--status",
        help="only ready, waiting, paused, completed, failed, cancelled or stranded runs",
    )
    command.add_argument("--since", type=_moment, help="only runs created then or later (a date)")
    command.add_argument(
        "--limit", type=_number(1), default=100, help="the largest number of runs (100)"
    )
    command.add_argument("--after", metavar="RUN", help="only runs behind this one")
    _add_json(command)
    _add_json(_add_run(commands, "show", "show", "show one run"))
    command = _add_run(commands, "tail", "tail", "follow the stream of a run")
    command.add_argument(
        "--after", type=_number(0), default=0, help="only events behind this number (0)"
    )
    _add_json(command)
    _add_run(commands, "cancel", "cancel", "request the cancellation of a run")
    _add_run(commands, "retry", "retry", "continue a failed run from where it failed")
    _add_run(commands, "redeliver", "redeliver", "send its dead letters again")
    command = _add(commands, "worker", "worker", "execute the runs of an engine until stopped")
    command.add_argument("target", metavar="MODULE:NAME", help="an Engine")
    command.add_argument(
        "--grace", type=_seconds, default=10.0, help="seconds for steps to finish (10)"
    )


_HISTORY = "history_commands"
_ACTS = "acting_commands"


def _add_history(commands: Any) -> None:
    command = _add_run(commands, "history", "history", "show every record of a run", _HISTORY)
    command.add_argument("--after", type=_number(0), default=0, help="only behind this record (0)")
    command.add_argument("--limit", type=_number(1), help="the largest number of records")
    _add_json(command)
    text = "show the state of a run, now or behind a record"
    command = _add_run(commands, "state", "state", text, _HISTORY)
    command.add_argument("--at", type=_number(0), metavar="RECORD", help="behind this record")
    _add_json(command)
    text = "show what differs between two records of a run"
    command = _add_run(commands, "diff", "diff", text, _HISTORY)
    command.add_argument("a", type=_number(0), metavar="FROM", help="behind this record")
    command.add_argument("b", type=_number(0), metavar="TO", help="and behind this one")
    _add_json(command)
    text = "say why a run waits, or does not continue"
    _add_json(_add_run(commands, "why", "why", text, _HISTORY))
    text = "write all that a journal has of a run into a file"
    command = _add_run(commands, "export", "export", text, _HISTORY)
    command.add_argument("file", metavar="FILE.treadle")
    command.add_argument("--force", action="store_true", help="write over a file that is there")
    command = _add(commands, "open", "open_file", "show the run of an exported file", _HISTORY)
    command.add_argument("file", metavar="FILE.treadle")
    command.add_argument("--at", type=_number(0), metavar="RECORD", help="as behind this record")
    _add_json(command)


def _add_acts(commands: Any) -> None:
    text = "create a run that any process of the journal executes"
    command = _add(commands, "start", "start", text, _ACTS)
    command.add_argument("url", metavar="URL", help=_URL)
    command.add_argument("target", metavar="MODULE:NAME", help="a Workflow")
    command.add_argument("fields", metavar="FIELD=VALUE", nargs="*", help=_VALUE)
    command.add_argument("--key", help="another name of the run: the same key is the same run")
    command = _add_run(commands, "send", "send", "send an event to a run", _ACTS)
    command.add_argument("target", metavar="MODULE:NAME", help="the class of the event")
    command.add_argument("fields", metavar="FIELD=VALUE", nargs="*", help=_VALUE)
    command.add_argument("--id", help="a name: the same name is delivered once")
    _add_run(commands, "pause", "pause", "request that a run starts no more steps", _ACTS)
    _add_run(commands, "resume", "resume", "request that a paused run continues", _ACTS)
    _add_run(commands, "delete", "delete", "delete a run that no process executes", _ACTS)
    text = "create a new run from a point of another one"
    command = _add_run(commands, "fork", "fork", text, _ACTS)
    command.add_argument(
        "--at",
        type=_number(0),
        metavar="RECORD",
        help="behind this record; 0 is the creation of the run (the last one)",
    )
    command.add_argument(
        "--set", action="append", default=[], dest="set_keys", metavar="KEY=VALUE", help=_VALUE
    )
    command.add_argument(
        "--remove", action="append", default=[], metavar="KEY", help="a key that it does not have"
    )
    command.add_argument(
        "--event",
        action="append",
        default=[],
        dest="set_fields",
        metavar="DELIVERY.FIELD=VALUE",
        help="a field of the pending event of a delivery",
    )
    command = _add(commands, "graph", "graph", "print the graph of a workflow (Mermaid)", _ACTS)
    command.add_argument("target", metavar="MODULE:NAME", help="a Workflow")


def _add_ui(commands: Any) -> None:
    text = "show the runs of a journal in a browser"
    command = _add(commands, "ui", "ui", text, "ui.command")
    command.add_argument("url", metavar="URL", help=f"{_URL}, or an exported FILE.treadle")
    command.add_argument(
        "--actions", action="store_true", help="allow to cancel, retry, fork and delete runs"
    )
    command.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    command.add_argument(
        "--port", type=_port, default=0, help="the port to listen on; 0 is any that is free (0)"
    )
    command.add_argument(
        "--open", action="store_true", dest="opens", help="open the page in a browser"
    )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"a port from 0 to 65535 expected, not {text!r}")
    return int(text)


def _add_sql(commands: Any) -> None:
    command = _add(
        commands, "sql", "sql", "print the statements that make the tables in PostgreSQL"
    )
    command.add_argument("--schema", default="treadle", help="the name of the schema (treadle)")
    command.add_argument(
        "--from",
        type=_number(0),
        default=0,
        dest="since",
        metavar="VERSION",
        help="the version that is there; 0 is none (0)",
    )


def _add_copy(commands: Any) -> None:
    command = _add(commands, "copy", "copy", "move runs from one journal to another")
    command.add_argument("source", metavar="FROM", help="sqlite:///PATH or postgresql://...")
    command.add_argument("destination", metavar="TO", help="sqlite:///PATH or postgresql://...")
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", metavar="RUN", help="this run and its family")
    which.add_argument("--all", action="store_true", dest="is_all", help="every run")
    command.add_argument(
        "--wait",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="how long to wait for runs that are executed (0)",
    )


_URL = "sqlite:///PATH or postgresql://..."
_VALUE = "a value is JSON, or else a text as it stands"


def _add_run(commands: Any, name: str, function: str, text: str, module: str = "commands") -> Any:
    command = _add(commands, name, function, text, module)
    command.add_argument("url", metavar="URL", help=f"{_URL}, or an exported FILE.treadle")
    command.add_argument("run_id", metavar="RUN")
    return command


def _add_json(command: Any) -> None:
    command.add_argument("--json", action="store_true", dest="as_json", help="print JSON")


def _add(commands: Any, name: str, function: str, text: str, module: str = "commands") -> Any:
    command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")

    def carry_out(**options: Any) -> int:
        from . import commands as found

        # Nothing is imported that the command does not need.
        chosen = found if module == "commands" else import_module(f"{__package__}.{module}")
        return found.carry_out(getattr(chosen, function), **options)

    command.set_defaults(command=carry_out)
    return command

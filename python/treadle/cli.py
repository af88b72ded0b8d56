"""The command line: `python -m treadle`."""

import argparse
import os
import sys
from datetime import datetime
from typing import Any

from . import __version__, demo

INTERRUPTED = 130

_EXIT_CODES = """exit codes: 0 success, 1 the answer is no (a snapshot does not fit, there is no
such run, the journal cannot be read), 2 wrong use, 130 interrupted"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m treadle",
        description="treadle: a workflow engine for async Python",
        epilog=_EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"treadle {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    _add_demo(commands)
    _add_snapshots(commands)
    _add_journals(commands)
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
        # Whoever read the output has gone. Python would complain once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _add_demo(commands: Any) -> None:
    command = commands.add_parser(
        "demo",
        help="measure a tree of Python files, in one run that fans out over them",
        description="Measures a tree of Python files, in one run that fans out over them.",
    )
    demo.add_arguments(command)
    command.set_defaults(command=demo.main)


def _add_snapshots(commands: Any) -> None:
    command = _add(commands, "inspect", "inspect_file", "show what is in a snapshot")
    command.add_argument("file", metavar="FILE")
    _add_json(command)
    command = _add(commands, "check", "check", "say why snapshots or runs could not go on")
    command.add_argument("target", metavar="MODULE:NAME", help="a Workflow, or an Engine")
    command.add_argument("files", metavar="FILE", nargs="*", help="snapshots")
    _add_json(command)


def _add_journals(commands: Any) -> None:
    command = _add(commands, "runs", "runs", "list the runs of a journal")
    command.add_argument("url", metavar="URL", help="sqlite:///PATH")
    command.add_argument("--workflow", help="only those of this workflow")
    command.add_argument("--status", help="only those with this status")
    command.add_argument("--since", type=datetime.fromisoformat, help="only those made since")
    command.add_argument("--limit", type=int, default=100, help="at most so many (100)")
    command.add_argument("--after", metavar="RUN", help="only those behind this one")
    _add_json(command)
    _add_json(_add_run(commands, "show", "show", "show one run"))
    command = _add_run(commands, "tail", "tail", "follow what a run publishes")
    command.add_argument("--after", type=int, default=0, help="from behind this number (0)")
    _add_json(command)
    _add_run(commands, "cancel", "cancel", "have a run cancelled")
    _add_run(commands, "retry", "retry", "have a run go on from where it failed")
    command = _add_run(commands, "fork", "fork", "make a new run from a point of another one")
    command.add_argument("--at", type=int, metavar="RECORD", help="behind this record")
    command = _add(commands, "worker", "worker", "execute the runs of an engine until stopped")
    command.add_argument("target", metavar="MODULE:NAME", help="an Engine")
    command.add_argument("--grace", type=float, default=10.0, help="seconds for steps to finish")


def _add_run(commands: Any, name: str, function: str, text: str) -> Any:
    command = _add(commands, name, function, text)
    command.add_argument("url", metavar="URL", help="sqlite:///PATH")
    command.add_argument("run_id", metavar="RUN")
    return command


def _add_json(command: Any) -> None:
    command.add_argument("--json", action="store_true", dest="as_json", help="print JSON")


def _add(commands: Any, name: str, function: str, text: str) -> Any:
    command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")

    def carry_out(**options: Any) -> int:
        from . import commands as found

        return found.carry_out(getattr(found, function), **options)

    command.set_defaults(command=carry_out)
    return command

"""The command line: `python -m treadle`."""

import argparse
import os
import sys

from . import __version__, demo

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Returns the exit code: 0 for success, 2 for wrong use, 130 if interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m treadle", description="treadle: a workflow engine for async Python"
    )
    parser.add_argument("--version", action="version", version=f"treadle {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    command = commands.add_parser(
        "demo",
        help="measure a tree of Python files, in one run that fans out over them",
        description="Measures a tree of Python files, in one run that fans out over them.",
    )
    demo.add_arguments(command)
    command.set_defaults(command=demo.main)
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

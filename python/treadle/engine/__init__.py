"""Engines: many runs, and a journal from which they continue after a crash.

- `engine`: what users call: opening, closing, starting runs; `known`: runs that the journal has.
- `settings`: what an engine is given, checked.
- `session`: an engine that is open: its journal, its runs, opening and closing.
- `executing`: the runs that this process executes, by id and by key.
- `host`: what the core's engine decides, carried out on the event loop.
- `followers`: waiting for the ends of runs, whichever processes execute them.
- `opening`, `closing`, `whole`: the two ends, in spite of cancellation.
- `history`: the records of runs, and runs behind any of them.
- `edits`: what a fork changes of the run that it comes from.
- `exporting`: archives, files of one run.
- `looking`: facts about runs, for people.
- `reader`: the stream of a run that any process may execute.
- `background`: tasks that belong to an engine.
"""

from . import looking
from .engine import Engine

__all__ = ["Engine", "looking"]

"""Engines: many runs, and a journal from which they go on after a crash.

- `engine`: what users call.
- `settings`: what an engine is given, checked.
- `session`: an engine that is open: its journal, its tasks, opening and closing.
- `executing`: the runs that this process executes, by id and by key.
- `takeover`: claiming runs that no process executes, loading them and going on with them.
- `inboxes`: the messages to the runs of this process.
- `lease`: by which other processes know that this one lives.
- `looking`: what a journal tells of runs to people.
- `background`: tasks that belong to an engine.
"""

from . import looking
from .engine import Engine

__all__ = ["Engine", "looking"]

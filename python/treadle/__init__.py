"""treadle: a workflow engine for async Python with its core in Rust."""

from ._treadle import Context, Run, StreamReader, __version__
from .events import Event, Lagged, StartEvent, StopEvent
from .exceptions import (
    EventLoopError,
    InternalError,
    RunEnded,
    RunStalled,
    StepCancelled,
    StepTimeout,
    TreadleError,
    UnreadableValue,
    UnroutedEvent,
    UnstorableValue,
    WaitTimeout,
    WorkflowDefinitionError,
    WorkflowTimeout,
)
from .log import logger as _logger  # noqa: F401  (adds the NullHandler)
from .steps import step
from .workflow import Workflow

__all__ = [
    "Context",
    "Event",
    "EventLoopError",
    "InternalError",
    "Lagged",
    "Run",
    "RunEnded",
    "RunStalled",
    "StartEvent",
    "StepCancelled",
    "StepTimeout",
    "StopEvent",
    "StreamReader",
    "TreadleError",
    "UnreadableValue",
    "UnroutedEvent",
    "UnstorableValue",
    "WaitTimeout",
    "Workflow",
    "WorkflowDefinitionError",
    "WorkflowTimeout",
    "__version__",
    "step",
]


def _show_public_names() -> None:
    """Give the public classes the name by which users import them."""
    for name in __all__:
        public = globals()[name]
        if isinstance(public, type) and public.__module__.startswith("treadle."):
            public.__module__ = "treadle"


_show_public_names()

"""treadle: a workflow engine for async Python with its core in Rust."""

import logging as _logging

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

_logging.getLogger("treadle").addHandler(_logging.NullHandler())

"""treadle: a workflow engine for async Python with its core in Rust."""

from ._treadle import ChildRun, Context, Run, StreamReader, __version__, current_context
from .events import Event, Lagged, StartEvent, StepFailed, StopEvent
from .exceptions import (
    DamagedRun,
    EngineClosed,
    EventLoopError,
    FamilyTooDeep,
    IncompatibleSnapshot,
    InternalError,
    InvalidSignature,
    JournalConflict,
    JournalError,
    KeyConflict,
    MemoTimeout,
    NonRetryable,
    OutsideStep,
    RetryFailed,
    RunCancelled,
    RunEnded,
    RunStalled,
    RunStranded,
    SnapshotError,
    StepCancelled,
    StepProcessDied,
    StepTimeout,
    StoredError,
    TransactionError,
    TreadleError,
    UnknownRun,
    UnreadableValue,
    UnroutedEvent,
    UnsignedValue,
    UnstorableValue,
    WaitTimeout,
    WorkflowDefinitionError,
    WorkflowTimeout,
    WorkflowWarning,
)
from .log import logger as _logger  # noqa: F401  (adds the NullHandler)
from .resources import Resource, close_resources
from .retry import Retry
from .steps import step
from .workflow import Workflow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .engine import Engine
    from .failure_info import FailureInfo, failure_of
    from .inspection import Inspection
    from .inspection import inspect as inspect
    from .lifecycle import LifecycleEvent
    from .memos import once
    from .runs import RunHandle, RunInfo

__all__ = [
    "ChildRun",
    "Context",
    "DamagedRun",
    "Engine",
    "EngineClosed",
    "Event",
    "EventLoopError",
    "FailureInfo",
    "FamilyTooDeep",
    "IncompatibleSnapshot",
    "Inspection",
    "InternalError",
    "InvalidSignature",
    "JournalConflict",
    "JournalError",
    "KeyConflict",
    "Lagged",
    "LifecycleEvent",
    "MemoTimeout",
    "NonRetryable",
    "OutsideStep",
    "Resource",
    "Retry",
    "RetryFailed",
    "Run",
    "RunCancelled",
    "RunEnded",
    "RunHandle",
    "RunInfo",
    "RunStalled",
    "RunStranded",
    "SnapshotError",
    "StartEvent",
    "StepCancelled",
    "StepFailed",
    "StepProcessDied",
    "StepTimeout",
    "StopEvent",
    "StoredError",
    "StreamReader",
    "TransactionError",
    "TreadleError",
    "UnknownRun",
    "UnreadableValue",
    "UnroutedEvent",
    "UnsignedValue",
    "UnstorableValue",
    "WaitTimeout",
    "Workflow",
    "WorkflowDefinitionError",
    "WorkflowTimeout",
    "WorkflowWarning",
    "__version__",
    "close_resources",
    "current_context",
    "failure_of",
    "once",
    "step",
]
# `inspect` is not among them: `import *` would hide the module of the standard library.


# Imported when they are asked for: they bring along asyncio and more, which a program that only
# runs workflows in memory does not need at its start.
_LATER = {
    "Engine": "engine",
    "FailureInfo": "failure_info",
    "Inspection": "inspection",
    "LifecycleEvent": "lifecycle",
    "RunHandle": "runs",
    "RunInfo": "runs",
    "failure_of": "failure_info",
    "inspect": "inspection",
    "once": "memos",
}


def __getattr__(name: str) -> object:
    module = _LATER.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def _show_public_names() -> None:
    """Give the public classes the name by which users import them."""
    for name in __all__:
        public = globals().get(name)
        if isinstance(public, type) and public.__module__.startswith("treadle."):
            public.__module__ = "treadle"


_show_public_names()

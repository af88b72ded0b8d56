"""The exceptions of treadle itself. All of them are subclasses of `TreadleError`.

`await run` raises the exception of a step unchanged.
"""

PAGE = "docs/errors.md"


class TreadleError(Exception):
    """The base class of all exceptions of treadle.

    `docs` is the place of each class in the documentation: cause and remedy. It is a note of the
    exception as well, which tracebacks show.
    """

    docs: str = f"{PAGE}#treadleerror"

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        # The page of a base class says nothing about a class of users.
        if "docs" in vars(type(self)):
            self.add_note(f"see {self.docs}")

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # A class of users has the place of its base, unless it names another one.
        if cls.__module__ == __name__:
            cls.docs = f"{PAGE}#{cls.__name__.lower()}"


class WorkflowDefinitionError(TreadleError, ValueError):
    """A workflow's graph is wrong. `problems` lists everything that is."""

    problems: list[str]

    def __init__(self, workflow: str, problems: list[str]) -> None:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"workflow {workflow!r}:{lines}")
        self.workflow = workflow
        self.problems = problems

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.workflow, self.problems)


class WorkflowWarning(UserWarning):
    """A workflow works, but is seldom intended in this form."""

    docs: str = f"{PAGE}#workflowwarning"


class UnroutedEvent(TreadleError):
    """An event was emitted that no step of the workflow accepts."""


class RunStalled(TreadleError):
    """A run cannot continue: nothing is queued, running or waited for."""


class RunEnded(TreadleError, RuntimeError):
    """An event or a change of state was requested of a run that is over.

    `run_id` is that run's.
    """

    run_id: str | None = None


class RunCancelled(TreadleError):
    """A run that is awaited was cancelled, and the awaiter was not.

    An awaiter that was cancelled itself gets `asyncio.CancelledError`.
    """


class WorkflowTimeout(TreadleError, TimeoutError):
    """A run took longer than its workflow's `timeout`, or was not over by its `deadline`."""


class StepTimeout(TreadleError, TimeoutError):
    """A step took longer than its `timeout`."""


class NonRetryable(TreadleError):
    """Raised by a step for which no further attempt will do, whatever its `Retry` says.

    Raise it, `raise NonRetryable("no such card") from error`, or make it a base of exceptions of
    your own: `class CardDeclined(NonRetryable, ValueError)`. It reaches the awaiter as it is, or
    the step that deals with the failure.
    """


class RetryFailed(TreadleError, RuntimeError):
    """The `delay` of a `Retry` raised something, or returned what is no time.

    What it raised is the cause, and the failure of the step the cause of that.
    """


class WaitTimeout(TreadleError, TimeoutError):
    """No event that matches came within the `timeout` of `Context.wait_for_event`."""


class MemoTimeout(TreadleError, TimeoutError):
    """A call of `Context.once` took longer than its `timeout`."""


class FamilyTooDeep(TreadleError, RuntimeError):
    """A child would have more runs above it than its `max_depth`: children start children."""


class TransactionError(TreadleError, RuntimeError):
    """A transaction of a step cannot be carried out over this connection, or in this journal."""


class OutsideStep(TreadleError, RuntimeError):
    """Something was called that only code below a step may call, and while its body runs."""


class StepCancelled(TreadleError, RuntimeError):
    """A step used its `Context` after it was cancelled; its thread had continued.

    `run_id` is its run's.
    """

    run_id: str | None = None


class StepProcessDied(TreadleError, RuntimeError):
    """The process of a step with `process=True` ended before the step did.

    `step` is the step's name. `exit_code` is that of the process; negative is the number of the
    signal that killed it.
    """

    def __init__(self, step: str, exit_code: int | None) -> None:
        how = f"with exit code {exit_code}"
        if exit_code is not None and exit_code < 0:
            how = f"by signal {-exit_code}"
        super().__init__(
            f"step {step!r}: its process was ended {how}; a process that cannot be started at all "
            f"needs a program with `if __name__ == '__main__':`"
        )
        self.step = step
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.step, self.exit_code)


class UnstorableValue(TreadleError, TypeError):
    """A value cannot be stored, or sent to another process, because it cannot be pickled.

    A key of the state keeps its old value.
    """


class UnreadableValue(TreadleError, ValueError):
    """A stored value cannot be read back: its class has changed, or its unpickling raised."""


class UnsignedValue(TreadleError, ValueError):
    """An opaque value would leave or enter the process, and there is no secret to sign it."""


class SnapshotError(TreadleError, ValueError):
    """A snapshot cannot be read: other data, damaged, or of an unknown version."""


class InvalidSignature(SnapshotError):
    """A snapshot was changed, or was signed with none of the given secrets."""


class IncompatibleSnapshot(SnapshotError):
    """This workflow cannot continue a snapshot. `problems` lists the reasons."""

    problems: list[str]

    def __init__(self, problems: list[str]) -> None:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"the snapshot cannot go on with this workflow:{lines}")
        self.problems = problems

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.problems,)


class StoredError(TreadleError):
    """Replaces an exception that could not be stored: the name of its type and its text."""

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(f"{type_name}: {text}")
        self.type_name = type_name
        self.text = text

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.type_name, self.text)


class JournalError(TreadleError, OSError):
    """A journal cannot be opened, read or written. Nothing is acknowledged after it."""


class JournalConflict(JournalError):
    """Another process owns the run: a commit of this process was refused."""


class UnknownRun(TreadleError, LookupError):
    """There is no such run in the journal."""


class DamagedRun(TreadleError, ValueError):
    """The data of a run in a journal is incomplete or inconsistent. Other runs are not affected."""


class RunStranded(TreadleError, RuntimeError):
    """No process continues a run until `Engine.retry` restarts it. `reason` is the reason.

    Its processes ended too often without progress; or its data is damaged; or no process could
    continue it.
    """

    def __init__(self, run_id: str, reason: str) -> None:
        super().__init__(f"run {run_id} is stranded: {reason}; `Engine.retry` restarts it")
        self.run_id = run_id
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.run_id, self.reason)


class KeyConflict(TreadleError, ValueError):
    """A run of this key was started with another input."""


class EngineClosed(TreadleError, RuntimeError):
    """The engine was closed: the run continues when an engine is opened on its journal again."""


class EventLoopError(TreadleError, RuntimeError):
    """No event loop is running, or that of a run was closed before the run ended."""


class InternalError(TreadleError, RuntimeError):
    """A defect of the engine. The run is over, the process continues; please report it."""

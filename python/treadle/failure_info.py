"""Where a step failed, as users ask for it."""

from dataclasses import dataclass, fields

from .failures import members_of, record_of


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureInfo:
    """Where an exception was raised: `treadle.failure_of(error)` returns it.

    Attributes:
        run_id: the run's UUID as a string.
        workflow: the workflow's name.
        step: the step's name.
        attempt: which attempt of the step it was, from 1.
        event: the name of the class of the event that the step was given, with its module.
    """

    run_id: str
    workflow: str
    step: str
    attempt: int
    event: str


def failure_of(error: BaseException) -> FailureInfo | None:
    """Return where an exception was raised; `None` if it is not from a step.

    It is known in every process: of an exception that `await run` raised, of one that was read from
    a journal, of the `StoredError` that stands for one, of `StepFailed.error`, and of each member
    of an exception group. If steps of several runs raised it, as one that awaits another run does,
    the step is that of the run that was awaited last. Of a group that is not from a step, such as
    one of a `TaskGroup` that awaits runs, it is what its members have in common.

    Raises:
        TypeError: it is no exception.
    """
    if not isinstance(error, BaseException):
        raise TypeError(f"failure_of: an exception expected, not {error!r}")
    own = _info(error)
    if own is not None:
        return own
    leaves = [one for one in members_of(error) if not isinstance(one, BaseExceptionGroup)]
    found = {_info(leaf) for leaf in leaves}
    return found.pop() if len(found) == 1 else None


def _info(error: BaseException) -> FailureInfo | None:
    record = record_of(error)
    if record is None or not _is_whole(record):
        return None
    return FailureInfo(**record)


def _is_whole(record: dict[str, object]) -> bool:
    """Tell whether a record, which may have been read from anywhere, is one of this version."""
    types = {field.name: int if field.name == "attempt" else str for field in fields(FailureInfo)}
    return record.keys() == types.keys() and all(
        isinstance(record[name], cls) for name, cls in types.items()
    )

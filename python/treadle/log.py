"""The logger `treadle`. Without a handler of users it prints nothing (`NullHandler`)."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from logging import Logger

_logger: "Logger | None" = None


def logger() -> "Logger":
    """Return the logger `treadle`. Imports `logging`, which takes longer than treadle itself."""
    global _logger
    if _logger is None:
        import logging

        _logger = logging.getLogger("treadle")
        _logger.addHandler(logging.NullHandler())
    return _logger


def log_exception(text: str, error: BaseException) -> None:
    """Log an exception that is reported nowhere else."""
    logger().error(text, exc_info=error)


class Unretrieved:
    """Reports the failure of a run when it is dropped, unless `error` was set to `None` before.

    It is a Python object with a `__del__` because the garbage collector calls those while
    everything that they refer to is whole.
    """

    def __init__(self, text: str, error: BaseException, loop: "AbstractEventLoop") -> None:
        self.text = text
        self.error: BaseException | None = error
        self.loop = loop

    def __del__(self) -> None:
        if self.error is None:
            return
        if sys.is_finalizing():
            # Nothing can be imported any more, and the handlers of `logging` may be closed.
            if sys.stderr is not None:
                print(f"{self.text}: {type(self.error).__name__}: {self.error}", file=sys.stderr)
            return
        report(self.text, self.error, self.loop)


def report(text: str, error: BaseException, loop: "AbstractEventLoop") -> None:
    """Log an exception without an awaiter; without a handler, pass it to the event loop's."""
    if _is_listened_to() or loop.is_closed():
        log_exception(text, error)
    else:
        # As asyncio does for a task.
        loop.call_exception_handler({"message": text, "exception": error})


def warn(text: str, loop: "AbstractEventLoop") -> None:
    """Log a warning; without a handler, pass it to the handler of the event loop."""
    if _is_listened_to() or loop.is_closed():
        logger().warning(text)
    else:
        loop.call_exception_handler({"message": text})


def _is_listened_to() -> bool:
    import logging

    current: logging.Logger | None = logger()
    while current is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in current.handlers):
            return True
        current = current.parent if current.propagate else None
    return False


if "logging" in sys.modules:
    logger()

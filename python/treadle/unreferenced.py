"""What becomes of a run in memory that nothing refers to any more."""

import sys

from .log import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from ._treadle import Run


class Guard:
    """Stops its run when both become garbage, unless `run` was set to `None` before.

    It is a Python object with a `__del__` because the garbage collector calls those while
    everything that they refer to is whole.
    """

    __slots__ = ("loop", "run")

    def __init__(self, run: "Run", loop: "AbstractEventLoop") -> None:
        self.run: Run | None = run
        self.loop = loop

    def __del__(self) -> None:
        run, self.run = self.run, None
        if run is None or sys.is_finalizing():
            return
        text = run._stop_unreferenced()
        if text is not None:
            warn(text, self.loop)

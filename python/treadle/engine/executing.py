"""The runs of this process, by the ids that they were made with."""

from .._treadle import Run


class ExecutedRuns:
    """The runs of one open engine."""

    def __init__(self) -> None:
        self.live: dict[str, Run] = {}
        # Runs that are not executed: the journal has other runs of their keys, or has these for any
        # process.
        self.standing: dict[str, Run] = {}
        # The events that were sent to a run before that was known.
        self._sent: dict[str, list[object]] = {}

    def add(self, run: Run) -> Run:
        """A run is executed here from now on."""
        self.live[run.id] = run
        return run

    def execute(self, run: Run) -> None:
        """A run that was claimed is executed here; perhaps it stood for itself until now."""
        self.live[run._made_as] = run
        self.standing.pop(run._made_as, None)

    def made_as(self, run_id: str) -> Run:
        """Return the run of this process that was made with an id."""
        return self.live.get(run_id) or self.standing[run_id]

    def stand(self, run_id: str, events: list[object]) -> None:
        """A run is no longer executed here; the journal has another run of its key."""
        self.standing[run_id] = self.live.pop(run_id)
        self._sent[run_id] = events

    def sent(self, run_id: str) -> list[object]:
        """Return the events for another run that were sent to the one that stands for it, once."""
        return self._sent.pop(run_id, [])

    def drop(self, run: Run) -> bool:
        """A run is over here; return whether it was not known before."""
        run_id = run._made_as
        self._sent.pop(run_id, None)
        for runs in (self.live, self.standing):
            if runs.get(run_id) is run:
                del runs[run_id]
                return True
        return False

    def abandon(self) -> None:
        """The engine is closed."""
        self.live.clear()
        self.standing.clear()
        self._sent.clear()

"""The runs that this process executes, by id and by key."""

from .._treadle import Run


class ExecutedRuns:
    """The runs of one open engine."""

    def __init__(self) -> None:
        self.live: dict[str, Run] = {}
        self._keyed: dict[tuple[str, str], Run] = {}
        # The key and the input of each run that has a key, and the id that it was made with.
        self._given: dict[Run, tuple[str, bytes, str]] = {}

    def add(self, run: Run) -> Run:
        """A run is executed here from now on."""
        self.live[run.id] = run
        return run

    def add_keyed(self, run: Run, key: str, given: bytes) -> None:
        """A run that was made here with a key and an input."""
        self._given[run] = (key, given, run.id)
        self._keyed.setdefault((run.workflow, key), run)

    def of_key(self, workflow: str, key: str, given: bytes) -> Run | None:
        """Return the run of this process that has the key and the input."""
        run = self._keyed.get((workflow, key))
        return run if run is not None and self._given[run][1] == given else None

    def given(self, run: Run) -> tuple[str, bytes, str] | None:
        """Return the key and the input of a run, and the id that it was made with."""
        return self._given.get(run)

    def drop(self, run_id: str) -> None:
        """A run is no longer executed here."""
        del self.live[run_id]

    def forget_key(self, run: Run) -> None:
        """Requests for the key of a run ask the journal from now on."""
        given = self._given.pop(run, None)
        if given is not None and self._keyed.get((run.workflow, given[0])) is run:
            del self._keyed[run.workflow, given[0]]

    def abandon(self) -> None:
        """The engine is closed."""
        self.live.clear()
        self._keyed.clear()
        self._given.clear()

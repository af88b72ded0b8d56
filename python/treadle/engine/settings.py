"""What an engine is given."""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Literal

from .. import checks
from .._treadle import journal_path, journal_shown, journal_takes_password
from ..lifecycle import observers_of
from ..signing import secrets_of
from ..workflow import Workflow

if TYPE_CHECKING:
    from ..lifecycle import Observer

Durability = Literal["step", "pipelined"]
Sign = Literal["opaque", "all"]
History = Literal["full", "folded"]


class Settings:
    """The arguments of an `Engine`, checked. They do not change."""

    def __init__(
        self,
        url: str,
        *,
        workflows: Iterable[Workflow],
        durability: Durability,
        password: Callable[[], str] | None,
        secret: str | bytes | Sequence[str | bytes] | None,
        sign: Sign,
        history: History,
        lease: float | timedelta,
        concurrency: int | None,
        keep: float | timedelta | None,
        max_recoveries: int | None,
        observers: "Iterable[Observer]",
    ) -> None:
        if not isinstance(url, str):
            raise TypeError(f"url: a str expected, not {url!r}")
        self.path = journal_path(url)
        self.url = url
        # The URL as it is shown: without a password.
        self.shown = journal_shown(url)
        self.password = _checked(password, url)
        if durability not in ("step", "pipelined"):
            raise ValueError(f'durability: "step" or "pipelined" expected, not {durability!r}')
        if sign not in ("opaque", "all"):
            raise ValueError(f'sign: "opaque" or "all" expected, not {sign!r}')
        if history not in ("full", "folded"):
            raise ValueError(f'history: "full" or "folded" expected, not {history!r}')
        # With a lease without end no process would take over the runs of a dead one.
        self.lease = checks.duration("lease", lease, most=checks.A_YEAR)
        self.concurrency = None if concurrency is None else checks.whole("concurrency", concurrency)
        self.keep = None if keep is None else checks.duration("keep", keep, zero=True)
        self.max_recoveries = (
            None
            if max_recoveries is None
            else checks.whole("max_recoveries", max_recoveries, least=0, most=1_000_000)
        )
        self.workflows = _by_name(workflows)
        self.classes = {name: wf._classes() for name, wf in self.workflows.items()}
        limits = {name: wf._max_runs for name, wf in self.workflows.items()}
        self.max_runs = {name: most for name, most in limits.items() if most is not None}
        self.is_pipelined = durability == "pipelined"
        # An archive is only looked into, and those of this process were not asked for by it.
        self.is_archive = url.startswith("archive:")
        self.secrets = secrets_of(() if self.is_archive and secret is None else secret)
        self.signs_all = sign == "all"
        self.keeps_history = history == "full"
        self.observers = observers_of(observers)

    def check_known(self, workflow: Workflow) -> None:
        """Refuse a workflow that the engine does not have."""
        if self.workflows.get(workflow.name) is not workflow:
            names = ", ".join(map(repr, self.workflows)) or "none"
            raise ValueError(
                f"workflow {workflow.name!r} is not one of the engine's workflows ({names}): give "
                f"it to Engine(workflows=[...]), so that its runs can go on after a restart"
            )


def _checked(password: Callable[[], str] | None, url: str) -> Callable[[], str] | None:
    if password is None:
        return None
    if not callable(password) or iscoroutinefunction(password):
        raise TypeError("password: a function that returns a str is expected")
    journal_takes_password(url)
    return password


def _by_name(workflows: Iterable[Workflow]) -> dict[str, Workflow]:
    named: dict[str, Workflow] = {}
    for workflow in workflows:
        if not isinstance(workflow, Workflow):
            raise TypeError(f"workflows: Workflows expected, not {workflow!r}")
        if named.setdefault(workflow.name, workflow) is not workflow:
            raise ValueError(f"workflows: two of them have the name {workflow.name!r}")
    return named

"""The figures of one comparison, and their form on disk."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Cell:
    """What one engine did with one workload: the figures of each round, or why there are none."""

    rounds: list[dict[str, float]] = field(default_factory=list)
    reason: str | None = None

    def median(self, key: str = "seconds") -> float:
        return statistics.median(each[key] for each in self.rounds)

    def multiple(self, base: Cell, key: str = "seconds") -> float:
        """The median over the rounds of this figure divided by `base`'s of the same round.

        What slows the whole machine for a while slows both, and drops out.
        """
        pairs = zip(self.rounds, base.rounds, strict=False)
        return statistics.median(mine[key] / theirs[key] for mine, theirs in pairs)

    def __bool__(self) -> bool:
        return bool(self.rounds)


NOTHING = Cell()


@dataclass(frozen=True)
class Figures:
    """Everything that the page shows."""

    results: dict[str, dict[str, Cell]]  # by workload, by engine
    imports: dict[str, dict[str, float]]
    facts: dict[str, str]
    rounds: int

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Figures:
        raw = json.loads(path.read_text())
        results = {
            name: {engine: Cell(**cell) for engine, cell in row.items()}
            for name, row in raw["results"].items()
        }
        return cls(results, raw["imports"], raw["facts"], raw["rounds"])

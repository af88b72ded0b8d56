"""What a step is given: the `Context` itself is compiled; its mapping view is here."""

from collections.abc import Iterator, Mapping, MutableMapping

from ._treadle import Context, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Context", "RunState", "State"]

_MISSING = object()


class State(MutableMapping[str, "Any"]):
    """The keys and values of a run as a mutable mapping; a missing key is a `KeyError`.

    What it gives is a snapshot: change it, and set it again to store the change.
    """

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    def __getitem__(self, key: str) -> "Any":
        value = self._context.get(key, _MISSING)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: "Any") -> None:
        self._context.set(key, value)

    def __delitem__(self, key: str) -> None:
        if not self._context.delete(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in self._context

    def __iter__(self) -> Iterator[str]:
        return iter(self._context.keys())

    def __len__(self) -> int:
        return len(self._context)

    def __repr__(self) -> str:
        return f"State({dict(self)!r})"


class RunState(Mapping[str, "Any"]):
    """The keys and values of a run in this process, read from outside; it changes with the run.

    What it gives is a snapshot of a value: changing it changes nothing.
    """

    __slots__ = ("_run",)

    def __init__(self, run: Run) -> None:
        self._run = run

    def __getitem__(self, key: str) -> "Any":
        value = self._run._value(key, _MISSING)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in self._run._keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self._run._keys())

    def __len__(self) -> int:
        return len(self._run._keys())

    def __repr__(self) -> str:
        return f"RunState({dict(self)!r})"

"""Why a figure is missing: numbered reasons, each given once."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Note:
    label: str
    reason: str
    titles: list[str] = field(default_factory=list)


class Notes:
    """The reasons met so far, in order."""

    def __init__(self) -> None:
        self.notes: list[Note] = []

    def number(self, label: str, title: str, reason: str) -> str:
        """The mark that stands in the table where `label` has no figure for `title`."""
        if reason.startswith("cannot be imported"):
            title = "everything"
        known = [(note.label, note.reason) for note in self.notes]
        if (label, reason) not in known:
            known.append((label, reason))
            self.notes.append(Note(label, reason))
        at = known.index((label, reason))
        if title not in self.notes[at].titles:
            self.notes[at].titles.append(title)
        return f"[{at + 1}]"

    def __str__(self) -> str:
        lines = [
            f"- [{at}] {note.label}, {'; '.join(note.titles)}: {note.reason}"
            for at, note in enumerate(self.notes, 1)
        ]
        return "\n".join(lines) or "None is missing."

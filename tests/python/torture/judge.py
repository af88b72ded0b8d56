"""Compares what was promised, and what bodies did, with what has become of the runs.

It only reads: so tests can show it a log or an end that is false, and see that it notices.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from .flows import expected, precedes
from .promises import Line

OVER = ("completed", "failed", "cancelled")


@dataclass
class Found:
    """What has become of a run."""

    status: str
    value: Any
    stream: list[str]


class Promises:
    """The lines of a log about runs, by what they say."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._of: dict[str, dict[str, list[tuple[Any, ...]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        # Of each run that was started: its workflow, and of how many jobs it is.
        self.runs: dict[str, tuple[str, int]] = {}
        for line in lines:
            if line.rest and line.word != "passed":
                self._of[line.word][line.rest[0]].append(line.rest[1:])
            if line.word in ("started", "submitted"):
                self.runs[line.rest[0]] = line.rest[1:]

    def of(self, word: str) -> dict[str, list[tuple[Any, ...]]]:
        """Return what was said with this word, by run."""
        return self._of[word]

    def sent(self, run_id: str) -> set[str]:
        """Return the names of the events that were sent to a run, and acknowledged."""
        return {name for (name,) in self.of("sent").get(run_id, ())}

    def is_acknowledged(self, run_id: str) -> bool:
        """Whether it was promised that there is such a run."""
        words = ("submitted", "sent", "ended", "read", "retried", "cancelled")
        return any(run_id in self.of(word) for word in words)


@dataclass
class Verdict:
    """What is wrong, a text for each thing."""

    # Something that was acknowledged is not there.
    lost: list[str] = field(default_factory=list)
    # A run ended otherwise than it must.
    wrong: list[str] = field(default_factory=list)
    # An event was delivered twice.
    doubled: list[str] = field(default_factory=list)
    # An event was not delivered, and the run ended without it.
    missing: list[str] = field(default_factory=list)
    # A run does not end.
    stuck: list[str] = field(default_factory=list)
    # A body began again without a reason.
    often: list[str] = field(default_factory=list)
    runs: int = 0
    promises: int = 0
    bodies: int = 0
    begun_again: int = 0

    def faults(self) -> dict[str, list[str]]:
        """Return the kinds of faults that there are, and some of each."""
        lists = {it.name: getattr(self, it.name) for it in fields(self)}
        return {name: it[:5] for name, it in lists.items() if isinstance(it, list) and it}

    def __str__(self) -> str:
        counts = [(it.name, getattr(self, it.name)) for it in fields(self)]
        return ", ".join(f"{name} {len(it) if isinstance(it, list) else it}" for name, it in counts)


def judge(
    lines: list[Line],
    found: dict[str, Found | None],
    *,
    waits_for_disk: bool = True,
    forgets: bool = False,
) -> Verdict:
    """Judge.

    Args:
        lines: the log.
        found: what has become of the runs that it names; None of one that is unknown.
        waits_for_disk: whether steps started only when what led to them was on disk.
        forgets: whether processes forgot runs that were over.
    """
    promises = Promises(lines)
    verdict = Verdict(runs=len(found))
    for run_id, end in found.items():
        if end is None:
            if not forgets:
                _judge_unknown(verdict, promises, run_id)
        elif end.status not in OVER:
            verdict.stuck.append(f"{run_id} is {end.status}")
        else:
            _judge_end(verdict, promises, run_id, end)
    # Once the run of a key is forgotten, the key makes another one.
    known = {run_id for run_id, end in found.items() if end is not None or not forgets}
    _judge_keys(verdict, promises, known)
    _judge_children(verdict, promises)
    _judge_bodies(verdict, lines, waits_for_disk)
    words = ("submitted", "sent", "ended", "read", "retried", "cancelled", "deleted")
    verdict.promises = sum(len(it) for word in words for it in promises.of(word).values())
    return verdict


def _judge_unknown(verdict: Verdict, promises: Promises, run_id: str) -> None:
    is_deleted = run_id in promises.of("deleting")
    if promises.is_acknowledged(run_id) and not is_deleted:
        verdict.lost.append(f"{run_id} is unknown")


def _judge_end(verdict: Verdict, promises: Promises, run_id: str, end: Found) -> None:
    if run_id in promises.of("deleted"):
        verdict.lost.append(f"{run_id} was deleted and is there")
    for told in promises.of("ended").get(run_id, ()):
        if told != (end.status, end.value):
            verdict.lost.append(f"{run_id} had ended with {told}, not {end}")
    if run_id in promises.of("retried") and end.status == "failed":
        verdict.lost.append(f"{run_id} was retried and is where it was")
    for place, what in promises.of("read").get(run_id, ()):
        if end.stream[place : place + 1] != [what]:
            verdict.lost.append(f"{run_id} had published {what!r} as number {place}")
    workflow, count = promises.runs[run_id]
    if (end.status, end.value) != expected(workflow, count):
        verdict.wrong.append(f"{run_id} of {workflow} {count} ended with {end}")
    if workflow == "mailbox" and end.status == "completed":
        got = Counter(end.value)
        sent = Counter(range(count))
        verdict.doubled += [f"{run_id} got letter {it}" for it, times in got.items() if times > 1]
        verdict.missing += [f"{run_id} did not get letter {it}" for it in sent - got]
    if workflow == "jobs" and end.status == "completed":
        _judge_events(verdict, run_id, count, end)


def _judge_events(verdict: Verdict, run_id: str, count: int, end: Found) -> None:
    account = expected("jobs", count)[1]
    counted = Counter(end.value["seen"])
    counted.update(f"Answer {number}" for number in end.value["answers"])
    all_of_them = Counter(account["seen"])
    all_of_them.update(f"Answer {number}" for number in account["answers"])
    for seen, source in ((counted, all_of_them), (Counter(end.stream), Counter(account["seen"]))):
        verdict.doubled += [f"{run_id} got {what}" for what, times in seen.items() if times > 1]
        verdict.missing += [f"{run_id} did not get {what}" for what in source - seen]


def _judge_keys(verdict: Verdict, promises: Promises, known: set[str]) -> None:
    runs_of = defaultdict(set)
    for run_id, keys in promises.of("shared").items():
        for (key,) in keys if run_id in known else ():
            runs_of[key].add(run_id)
    verdict.doubled += [f"key {key}: {runs}" for key, runs in runs_of.items() if len(runs) > 1]


def _judge_children(verdict: Verdict, promises: Promises) -> None:
    for parent, children in promises.of("child").items():
        runs_of = defaultdict(set)
        for number, run_id in children:
            runs_of[number].add(run_id)
        verdict.doubled += [
            f"child {number} of {parent}: {runs}"
            for number, runs in runs_of.items()
            if len(runs) > 1
        ]


@dataclass
class _Body:
    """What is known of a body: by whom it was begun last, and whether that try is over."""

    by: str
    has_raised: bool = False


def _judge_bodies(verdict: Verdict, lines: list[Line], waits_for_disk: bool) -> None:
    bodies: dict[str, dict[str, _Body]] = defaultdict(dict)
    # Of a process that has lost its lease it is not known when.
    gone = {line.rest[0] for line in lines if line.word == "over" and any(line.rest[1:])}
    for line in lines:
        # Others have its runs as soon as it is killed, before it is known here to be over.
        if line.word in ("killing", "over"):
            gone.add(line.rest[0])
        elif line.word in ("begins", "raises"):
            run_id, name = line.rest
            last = bodies[run_id].get(name)
            if line.word == "raises":
                assert last is not None
                last.has_raised = True
                continue
            verdict.bodies += 1
            bodies[run_id][name] = _Body(line.by)
            if last is None:
                continue
            verdict.begun_again += 1
            # It had failed, or the process that had begun it is no more.
            if not last.has_raised and last.by not in gone:
                verdict.often.append(f"{run_id}: {name} begins in {line.by}, and had in {last.by}")
            # What comes behind it has begun: its end was on disk.
            after = [other for other in bodies[run_id] if precedes(name, other)]
            if waits_for_disk and after:
                verdict.often.append(f"{run_id}: {name} begins after {after}")

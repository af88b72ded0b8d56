"""The judge notices what is wrong: it is shown a true log and true ends, and then false ones."""

import asyncio
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest

from torture.harness import Journal, over, settle, start, torture
from torture.judge import Found, Promises, Verdict, judge
from torture.promises import Line


class Case:
    """A log, and what has become of its runs."""

    def __init__(self, lines: list[Line], found: dict[str, Found | None]) -> None:
        self.lines = lines
        self.found = found

    def judged(self) -> Verdict:
        return judge(self.lines, self.found)

    def run(self, workflow: str, *words: str) -> str:
        """Return a run of this workflow of which all of this was said, and which is there."""
        promises = Promises(self.lines)
        return next(
            run_id
            for run_id, (name, _) in promises.runs.items()
            if name == workflow
            and self.found.get(run_id) is not None
            and all(run_id in promises.of(word) for word in words)
        )

    def end(self, workflow: str, *words: str) -> Found:
        found = self.found[self.run(workflow, *words)]
        assert found is not None
        return found

    def says(self, by: str, word: str, *rest: object) -> None:
        self.lines.append(Line(self.lines[-1].at, by, word, rest))


@pytest.fixture(scope="module")
def true(tmp_path_factory: pytest.TempPathFactory) -> Case:
    journal = Journal.below(tmp_path_factory.mktemp("judge"))
    torture(journal, 4, seed=1)
    # On a busy machine the others may have been killed before they came to everything.
    code, errors = over(journal, "whole", start(journal.task("whole")))
    assert code == 0, errors
    found = asyncio.run(settle(journal))
    return Case(journal.log.lines(), found)


def promise_a_run(case: Case) -> None:
    run_id = "00000000-0000-7000-8000-000000000000"
    case.says("p1", "submitted", run_id, "jobs", 1)
    case.found[run_id] = None


def lose_a_run(case: Case) -> None:
    case.found[case.run("jobs", "sent")] = None


def change_a_result(case: Case) -> None:
    run_id = case.run("jobs", "submitted")
    case.says("p1", "ended", run_id, "completed", {"joined": 5})


def bring_back_a_run(case: Case) -> None:
    case.says("p1", "deleted", case.run("jobs"))


def lose_what_a_reader_got(case: Case) -> None:
    run_id = case.run("jobs")
    case.says("p1", "read", run_id, len(case.end("jobs").stream), "Done 7")


def lose_a_retry(case: Case) -> None:
    case.says("p1", "retried", case.run("doomed"))
    end = case.end("doomed")
    end.status, end.value = "failed", "ValueError"


def lose_a_cancellation(case: Case) -> None:
    case.end("endless", "cancelled").status = "completed"


def deliver_twice_to_a_step(case: Case) -> None:
    case.end("jobs").value["seen"]["Done 0"] = 2


def deliver_twice_to_a_waiter(case: Case) -> None:
    case.end("jobs").value["answers"] = [0, 0, 1]


def publish_twice(case: Case) -> None:
    case.end("jobs").stream.append("Done 0")


def make_a_key_twice(case: Case) -> None:
    case.says("p1", "shared", case.run("jobs"), "one key")
    case.says("p1", "shared", case.run("endless"), "one key")


def deliver_nothing(case: Case) -> None:
    del case.end("jobs").value["seen"]["Poke 1"]


def deliver_a_letter_twice(case: Case) -> None:
    case.end("mailbox").value[1] = 0


def deliver_no_letter(case: Case) -> None:
    del case.end("mailbox").value[0]


def leave_a_run_unfinished(case: Case) -> None:
    case.end("jobs").status = "waiting"


def begin_twice_in_one_process(case: Case) -> None:
    run_id = case.run("endless")
    case.says("p77", "begins", run_id, "other")
    case.says("p77", "begins", run_id, "other")


def begin_twice_for_one_failure(case: Case) -> None:
    run_id = case.run("endless")
    case.says("p77", "begins", run_id, "other")
    case.says("p77", "raises", run_id, "other")
    case.says("p77", "begins", run_id, "other")
    case.says("p77", "begins", run_id, "other")


def begin_what_had_ended(case: Case) -> None:
    run_id = case.run("jobs")
    case.says("p78", "begins", run_id, "work 9")
    case.says("p78", "begins", run_id, "join Done 9")
    case.says("harness", "over", "p78")
    case.says("p79", "begins", run_id, "work 9")


def start_a_child_twice(case: Case) -> None:
    case.says("p77", "child", case.run("leading"), 1, "another run")


def call_again_what_was_kept(case: Case) -> None:
    run_id = case.run("leading")
    case.says("p78", "begins", run_id, "call")
    case.says("p78", "begins", run_id, "behind call")
    case.says("harness", "over", "p78")
    case.says("p79", "begins", run_id, "call")


FALSE = [
    (promise_a_run, "lost"),
    (lose_a_run, "lost"),
    (change_a_result, "lost"),
    (bring_back_a_run, "lost"),
    (lose_what_a_reader_got, "lost"),
    (lose_a_retry, "lost"),
    (lose_a_cancellation, "wrong"),
    (deliver_twice_to_a_step, "doubled"),
    (deliver_twice_to_a_waiter, "doubled"),
    (publish_twice, "doubled"),
    (make_a_key_twice, "doubled"),
    (deliver_nothing, "missing"),
    (deliver_a_letter_twice, "doubled"),
    (deliver_no_letter, "missing"),
    (leave_a_run_unfinished, "stuck"),
    (begin_twice_in_one_process, "often"),
    (begin_twice_for_one_failure, "often"),
    (begin_what_had_ended, "often"),
    (start_a_child_twice, "doubled"),
    (call_again_what_was_kept, "often"),
]


def test_what_is_true_has_no_fault(true: Case):
    assert true.judged().faults() == {}


@pytest.mark.parametrize(("falsify", "fault"), FALSE, ids=lambda it: getattr(it, "__name__", it))
def test_what_is_false_is_noticed(true: Case, falsify: Callable[[Case], None], fault: str):
    case = deepcopy(true)
    falsify(case)
    assert fault in case.judged().faults()


def test_a_promise_that_was_never_kept_is_noticed(tmp_path: Path):
    journal = Journal.below(tmp_path)
    torture(journal, 1, seed=1)
    journal.log("submitted", "00000000-0000-7000-8000-000000000000", "jobs", 1)
    found = asyncio.run(settle(journal))
    assert len(judge(journal.log.lines(), found).lost) == 1


def test_a_process_that_is_over_is_a_reason_to_begin_again(true: Case):
    case = deepcopy(true)
    run_id = case.run("endless")
    case.says("p77", "begins", run_id, "other")
    case.says("harness", "over", "p77")
    case.says("p78", "begins", run_id, "other")
    assert case.judged().faults() == {}


def test_a_run_that_was_never_acknowledged_may_be_unknown(true: Case):
    case = deepcopy(true)
    case.says("p77", "started", "00000000-0000-7000-8000-000000000001", "jobs", 1)
    case.found["00000000-0000-7000-8000-000000000001"] = None
    assert case.judged().faults() == {}

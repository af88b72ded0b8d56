"""The course of a run as `show` tells it."""

from typing import Any

from treadle.course import attempts, others


def story(*history: dict[str, Any], status: str = "waiting", finished: float | None = None):
    return {"history": list(history), "status": status, "finished": finished}


def queued(seq: int, delivery: int = 1, **more: Any) -> dict[str, Any]:
    common = {"seq": seq, "delivery": delivery, "step": "look", "event": "Page", "what": "queued"}
    return {**common, **more}


def record(seq: int, what: str, delivery: int = 1, **more: Any) -> dict[str, Any]:
    return {"seq": seq, "what": what, "delivery": delivery, **more}


def rows(of: dict[str, Any]) -> list[tuple[object, ...]]:
    """Return record, attempt, began, seconds and end."""
    return [
        (row[0], row[4], row[5], row[6], row[7])
        for row in (it.row(created=100.0) for it in attempts(of))
    ]


def test_each_attempt_has_a_row_and_its_duration():
    failed = record(3, "retried", at=102.5, failure="attempt 1: ValueError: no", due=103.0)
    history = [queued(1), record(2, "started", at=101.0), failed]
    history += [record(4, "started", at=103.0), record(5, "finished", at=103.25)]
    assert rows(story(*history)) == [
        (1, 1, "+1.000", "1.500", "ValueError: no"),
        (4, 2, "+3.000", "0.250", "finished"),
    ]


def test_a_body_that_was_lost_with_its_process_begins_again_as_the_same_attempt():
    history = [queued(1), record(2, "started", at=101.0), record(3, "started", at=105.0)]
    assert rows(story(*history)) == [
        (1, 1, "+1.000", "", "begun again"),
        (3, 1, "+5.000", "", "running"),
    ]


def test_what_was_folded_keeps_the_number_of_its_attempt():
    history = [queued(9, attempt=3, since=101.0), record(10, "started", at=120.0)]
    assert rows(story(*history)) == [(9, 3, "+20.000", "", "running")]
    first = queued(9, attempt=1, since=101.0)
    assert rows(story(first, record(10, "finished", at=102.0))) == [
        (9, 1, "+1.000", "1.000", "finished")
    ]


def test_a_time_that_nobody_knows_is_not_shown():
    failed = record(3, "retried", at=0.0, failure="attempt 1: ValueError: no", due=103.0)
    assert rows(story(queued(1), record(2, "started", at=101.0), failed)) == [
        (1, 1, "+1.000", "", "ValueError: no")
    ]


def test_the_step_that_completed_the_run_has_ended_it():
    history = [queued(1), record(2, "started", at=101.0), queued(3, 2), record(4, "ended", 0)]
    assert rows(story(*history, status="completed", finished=104.0)) == [
        (1, 1, "+1.000", "3.000", "ended the run"),
        (3, 1, "", "", "queued when the run ended"),
    ]
    assert [row[4] for row in rows(story(*history, status="cancelled", finished=104.0))] == [
        "running when the run ended",
        "queued when the run ended",
    ]


def test_what_happened_to_the_run_itself_is_told():
    history = [queued(1), record(2, "received", event="Go"), {"seq": 3, "what": "paused"}]
    assert list(others([*history, {"seq": 4, "what": "resumed"}])) == [
        (2, "delivery 1 received Go"),
        (3, "the run was paused"),
        (4, "the run was resumed"),
    ]

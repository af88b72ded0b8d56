"""Processes are killed at random moments: what was acknowledged is there, and every run ends."""

import asyncio
import os
from pathlib import Path

import pytest
from journals import POSTGRES, journal_url

from torture.harness import Journal, settle, torture
from torture.judge import judge

# `make torture` kills ten times as often. A part of the kills is one journal's.
KILLS = int(os.environ.get("KILLS", "300"))
KILLS_AT_A_TIME = 30


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["sqlite", POSTGRES])
@pytest.mark.parametrize("part", range(KILLS // KILLS_AT_A_TIME))
def test_nothing_that_was_acknowledged_is_lost_or_done_twice(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, part: int
):
    journal = Journal.below(tmp_path, journal_url(kind, request, tmp_path))
    is_pipelined = part % 3 == 2
    durability = "pipelined" if is_pipelined else "step"
    options = {"at_once": 2, "lease": 3, "runs": 40} if part % 2 else {}
    killed = torture(journal, KILLS_AT_A_TIME, seed=part, durability=durability, **options)
    found = asyncio.run(settle(journal))
    verdict = judge(journal.log.lines(), found, waits_for_disk=not is_pipelined)
    print(f"{durability}, {options}: {killed} kills, {verdict}")
    assert killed >= KILLS_AT_A_TIME
    assert verdict.promises > killed
    assert verdict.begun_again > 0
    assert verdict.faults() == {}

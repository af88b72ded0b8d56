"""The demo as a durable run: whatever kills it, the report is the same."""

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from treadle import demo
from treadle.testing import crash_points


def tree(folder: Path, modules: int) -> Path:
    """Make a folder of modules, one in ten of which cannot be parsed."""
    folder.mkdir()
    for number in range(modules):
        source = f"import os, m{number % 7}\n\ndef f{number}():\n" + "    pass\n" * (
            number % 40 + 1
        )
        (folder / f"m{number}.py").write_text("def (:\n" if number % 10 == 9 else source)
    return folder


async def test_a_body_that_runs_again_counts_no_file_twice(tmp_path: Path):
    measure = demo.Measure(root=str(tree(tmp_path / "tree", 10)))
    report = await crash_points(demo.workflow(2), measure)
    assert len(report.points) > 40
    report.check()


def start(root: Path, journal: Path, cwd: Path | None = None) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "treadle", "demo", "--path", root, "--journal", journal]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=cwd)


def report(said: str) -> list[str]:
    """Return what is the same each time: all but the id and the times."""
    assert "\nTotals" in said
    steps = re.findall(r"([\d,]+) steps in", said)
    return said[said.index("\nLargest") : said.index("\nRun ")].splitlines() + steps


@pytest.mark.parametrize("seed", range(5))
def test_killed_at_any_moment_it_gives_the_same_report(tmp_path: Path, seed: int):
    root = tree(tmp_path / "tree", 300)
    whole = start(root, tmp_path / "whole.db").communicate(timeout=30)[0]
    kills = random.Random(seed)
    for _ in range(3):
        process = start(root, tmp_path / "killed.db")
        try:
            process.communicate(timeout=kills.uniform(0.1, 0.5))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    again = start(root, tmp_path / "killed.db").communicate(timeout=30)[0]
    assert report(again) == report(whole)


def test_a_journal_that_cannot_be_is_told_in_a_line(tmp_path: Path):
    (tmp_path / "no.db").write_text("no database")
    for journal, text in (("no.db", "not an SQLite database"), ("no/x.db", "does not exist")):
        command = ["-m", "treadle", "demo", "--path", tmp_path, "--journal", tmp_path / journal]
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 1
        assert text in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_another_folder_is_no_other_tree(tmp_path: Path):
    root = tree(tmp_path / "tree", 10)
    whole = start(Path("tree"), tmp_path / "demo.db", cwd=tmp_path).communicate(timeout=30)[0]
    again = start(Path("."), tmp_path / "demo.db", cwd=root).communicate(timeout=30)[0]
    assert "Going on: 10 files need not be read again" in again
    assert report(again) == report(whole)

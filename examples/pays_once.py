"""Memos: a step asks a model five times, is killed in the middle, and pays for no answer twice."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from treadle import Context, Engine, StartEvent, StopEvent, Workflow, step

QUESTIONS = ["who", "what", "where", "when", "why"]
JOURNAL = Path(os.environ.get("JOURNAL", Path(tempfile.mkdtemp()) / "runs.db"))
BILL = JOURNAL.with_suffix(".bill")
DIES = "--dies" in sys.argv


async def model(question: str) -> str:
    """Stand for a model that bills each call."""
    with BILL.open("a") as bill:
        bill.write(f"{question}\n")
    return f"because of {question}"


@step
async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
    """Ask one question after the other; each answer is on disk before the next question."""
    answers = []
    for number, question in enumerate(QUESTIONS):
        if DIES and number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        answers.append(await ctx.once("ask", model, question))
    return StopEvent(result=len(answers))


async def main() -> None:
    """Go on with the run of the key, or begin it."""
    workflow = Workflow("ask", [ask])
    async with Engine(f"sqlite:///{JOURNAL}", workflows=[workflow]) as engine:
        print(await engine.run(workflow, key="survey"), "answers")


if __name__ == "__main__":
    if not DIES:
        environment = {**os.environ, "JOURNAL": str(JOURNAL)}
        killed = subprocess.run([sys.executable, __file__, "--dies"], env=environment, check=False)
        paid = len(BILL.read_text().split())
        print(f"the first process was killed ({-killed.returncode}) after {paid} calls")
    asyncio.run(main())
    print(len(BILL.read_text().split()), "calls paid")

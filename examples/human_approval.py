"""A human in the loop: an order waits for an approval, for days and across restarts.

    python examples/human_approval.py order order-42
    python examples/human_approval.py approve order-42
    python examples/human_approval.py refuse order-42

The first command asks and waits. Kill it, answer while no process waits, and start it again. The
key names the run: the same command finds the same run again. `id=` names the answer: sent twice,
it is delivered once. If no answer comes within three days, the order expires.
"""

import argparse
import asyncio
from datetime import timedelta

from treadle import Context, Engine, Event, StartEvent, StopEvent, WaitTimeout, Workflow, step


class Asked(Event):
    order: str


class Answer(Event):
    order: str
    approved: bool


@step
async def ask(ev: StartEvent) -> Asked:
    """Ask a person. In a real program this sends a mail with a link."""
    print(f"Ship {ev.order}? (approve or refuse)", flush=True)
    return Asked(order=ev.order)


@step
async def ship(ctx: Context, ev: Asked) -> StopEvent:
    """Wait for the answer. It costs no CPU, and nothing at all while no process runs."""
    print("waiting", flush=True)
    try:
        answer = await ctx.wait_for_event(Answer, timeout=timedelta(days=3))
    except WaitTimeout:
        return StopEvent(result="expired")
    return StopEvent(result="shipped" if answer.approved else "refused")


approval = Workflow("approval", [ask, ship])


async def order(journal: str, name: str) -> None:
    """Start the run of an order, or continue it, and print its result."""
    async with Engine(f"sqlite:///{journal}", workflows=[approval]) as engine:
        print(await engine.run(approval, order=name, key=name))


async def answer(journal: str, name: str, approved: bool) -> None:
    """Send the answer to the run of an order. This engine executes no runs."""
    async with Engine(f"sqlite:///{journal}") as engine:
        for info in await engine.runs(workflow="approval"):
            if info.key == name and info.finished is None:
                event = Answer(order=name, approved=approved)
                await engine.send_event(info.id, event, id=f"answer to {name}")
                print("sent")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Orders that wait for an approval.")
    arguments.add_argument("action", choices=["order", "approve", "refuse"])
    arguments.add_argument("name")
    arguments.add_argument("--journal", default="approval.db")
    given = arguments.parse_args()
    if given.action == "order":
        asyncio.run(order(given.journal, given.name))
    else:
        asyncio.run(answer(given.journal, given.name, given.action == "approve"))

"""A human in the loop: a step waits, where it stands, for an event that is sent from outside."""

import asyncio

from treadle import Context, Event, Run, StartEvent, StopEvent, Workflow, step


class Question(Event):
    text: str


class Answer(Event):
    order: str
    approved: bool


@step
async def ship(ctx: Context, ev: StartEvent) -> StopEvent:
    """Ask, and go on with the answer. While it waits, the run costs a little memory and no CPU."""
    ctx.write_event_to_stream(Question(text=f"Ship order {ev.order}?"))
    answer = await ctx.wait_for_event(Answer, match={"order": ev.order}, timeout=3 * 24 * 3600)
    return StopEvent(result="shipped" if answer.approved else "refused")


async def human(run: Run) -> None:
    """Stand in for somebody who reads the questions and answers them."""
    async for ev in run.stream_events():
        if isinstance(ev, Question):
            print(ev.text)
            await asyncio.sleep(0.1)
            # The answer for another order does not match: the step waits on.
            run.send_event(Answer(order="order-41", approved=False))
            run.send_event(Answer(order="order-42", approved=True))


async def main() -> None:
    """Start a run, let the human answer, take the result."""
    run = Workflow("approval", [ship]).run(order="order-42")
    await human(run)
    print(await run)


if __name__ == "__main__":
    asyncio.run(main())

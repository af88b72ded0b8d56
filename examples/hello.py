"""The smallest workflow: an event starts it, two steps run, an event ends it."""

import asyncio

from treadle import Context, Event, StartEvent, StopEvent, Workflow, step


class Greeting(Event):
    text: str


@step
async def greet(ctx: Context, ev: StartEvent) -> Greeting:
    """Take the run's first event, and return the next one."""
    ctx.set("name", ev.name)
    return Greeting(text=f"Hello, {ev.name}!")


@step
async def shout(ctx: Context, ev: Greeting) -> StopEvent:
    """End the run; what the StopEvent holds is the run's result."""
    return StopEvent(result=f"{ev.text.upper()} (to {ctx.get('name')})")


async def main() -> None:
    """Run the workflow once."""
    workflow = Workflow("hello", [greet, shout])
    print(await workflow.run(name="Ada"))


if __name__ == "__main__":
    asyncio.run(main())

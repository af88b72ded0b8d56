"""Workflows of which one sends events to runs of the other."""

import os
import signal
from pathlib import Path

from treadle import Context, Event, Retry, StartEvent, StopEvent, Workflow, step


class Post(Event):
    text: str


class Ask(StartEvent):
    count: int = 1


class Tell(StartEvent):
    to: str
    texts: list[str]
    missing: str | None = None
    # What its first attempt does before it returns: "fail", or "die" if this file is not there.
    first: str = ""
    mark: str = ""


def die_once(mark: Path) -> None:
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


@step
async def gather(ctx: Context, event: Ask) -> StopEvent:
    got = []
    while len(got) < event.count:
        got.append((await ctx.wait_for_event(Post)).text)
    return StopEvent(result=got)


@step(retry=Retry(3, initial=0.01))
async def tell(ctx: Context, event: Tell) -> StopEvent:
    given = {} if event.missing is None else {"missing": event.missing}
    for text in event.texts:
        ctx.send_event(Post(text=text), to=event.to, **given)
    if event.first == "fail" and ctx.attempt == 1:
        ctx.send_event(Post(text="of the attempt that failed"), to=event.to)
        raise ValueError("the first attempt")
    if event.first == "die":
        die_once(Path(event.mark))
    return StopEvent(result="told")


class Raised(Event):
    pass


@step
async def answer(ctx: Context, event: StartEvent) -> StopEvent:
    heard = (await ctx.wait_for_event(Post)).text
    assert ctx.parent is not None
    ctx.send_event(Post(text=f"{heard} and up"), to=ctx.parent)
    return StopEvent()


@step
async def bring_up(ctx: Context, event: StartEvent) -> Raised:
    child = ctx.run(answering)
    ctx.send_event(Post(text="down"), to=child)
    return Raised()


@step
async def listen(ctx: Context, event: Raised) -> StopEvent:
    return StopEvent(result=(await ctx.wait_for_event(Post)).text)


answering = Workflow("answering", [answer])
family = Workflow("family", [bring_up, listen])
gathering = Workflow("gathering", [gather])
telling = Workflow("telling", [tell])
ALL = [gathering, telling, answering, family]

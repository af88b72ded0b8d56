"""An agent whose tools run at the same time, each as a child: a run of its own.

    python examples/research_agent.py

Kill it at any moment and start it again: each tool is called once, and tools that had answered are
not asked again.
"""

import asyncio
from pathlib import Path

from treadle import Context, Engine, Event, Retry, StartEvent, StopEvent, Workflow, step

CALLS = Path("calls.txt")


class Question(StartEvent):
    text: str


class Ask(StartEvent):
    tool: str
    query: str


class Plan(Event):
    calls: list[tuple[str, str]]


def bill(line: str) -> None:
    with CALLS.open("a") as calls:
        calls.write(line + "\n")


async def call(tool: str, query: str) -> str:
    """Stand for a tool that takes a while, and bills each call."""
    await asyncio.to_thread(bill, f"{tool}: {query}")
    await asyncio.sleep(0.2)
    return f"{tool} knows about {query}"


@step(retry=Retry(attempts=3, initial=0.05))
async def use_tool(ctx: Context, ev: Ask) -> StopEvent:
    """The only step of a child. The call is a memo: it is paid for once."""
    answer = await ctx.once("call", call, ev.tool, ev.query)
    print("answered", ev.tool, flush=True)
    return StopEvent(result=answer)


tool = Workflow("tool", [use_tool])


@step
async def plan(ctx: Context, ev: Question) -> Plan:
    """Stands for a model that chooses tools."""
    return Plan(calls=[(name, ev.text) for name in ("search", "papers", "news", "wiki")])


@step
async def research(ctx: Context, ev: Plan) -> StopEvent:
    """Ask all tools at the same time; a body that runs again finds the same children."""
    children = [ctx.run(tool, Ask(tool=name, query=query)) for name, query in ev.calls]
    print("asking", len(children), "tools", flush=True)
    answers = await asyncio.gather(*children)
    return StopEvent(result="; ".join(answers))


agent = Workflow("agent", [plan, research])


async def main() -> None:
    """Begin the research, or continue it."""
    async with Engine("sqlite:///agent.db", workflows=[agent, tool]) as engine:
        print(await engine.run(agent, Question(text="tea"), key="tea"))


if __name__ == "__main__":
    asyncio.run(main())

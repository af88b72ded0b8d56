"""An agent: a language model that calls tools in a loop until it has an answer. Durable.

    python examples/agent.py "What is the area of a room of 4 by 5 metres, in square feet?"

Each call of the model and of a tool is a step: after a crash, finished calls are not paid for
again. `Model` stands in for a real one and needs no network; put a client in its place, as a
resource.
"""

import argparse
import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from treadle import Context, Engine, Event, Resource, Retry, StartEvent, StopEvent, Workflow, step

Message = dict[str, Any]


class Question(StartEvent):
    text: str


class Think(Event):
    turn: int


class ToolCall(Event):
    turn: int
    tool: str
    arguments: list[float]


def multiply(first: float, second: float) -> float:
    """Multiply two numbers."""
    return first * second


def square_feet(square_metres: float) -> float:
    """Convert square metres."""
    return round(square_metres * 10.7639, 1)


TOOLS: dict[str, Callable[..., float]] = {"multiply": multiply, "square_feet": square_feet}


class Model:
    """Answers as a language model would, from what the tools have said."""

    async def next(self, messages: list[Message]) -> Message:
        """Return the next message: a call of a tool, or the answer."""
        await asyncio.sleep(0.2)
        results = [message["content"] for message in messages if message["role"] == "tool"]
        if not results:
            return {"role": "assistant", "tool": "multiply", "arguments": [4, 5]}
        if len(results) == 1:
            return {"role": "assistant", "tool": "square_feet", "arguments": results}
        return {"role": "assistant", "content": f"The room has {results[-1]} square feet."}


async def make_model() -> Model:
    """Make the model once for all runs of the process."""
    return Model()


@step
async def begin(ctx: Context, ev: Question) -> Think:
    """Put the question first."""
    ctx.set("message 0", {"role": "user", "content": ev.text})
    return Think(turn=1)


@step(retry=Retry(attempts=5, on=(ConnectionError, TimeoutError)), timeout=60)
async def think(
    ctx: Context, ev: Think, model: Annotated[Model, Resource(make_model, scope="process")]
) -> ToolCall | StopEvent:
    """Ask the model. Each message has a key of its own, so that a repeated body adds none."""
    messages = [ctx.get(f"message {number}") for number in range(ev.turn)]
    message = await model.next(messages)
    ctx.set(f"message {ev.turn}", message)
    if "tool" not in message:
        return StopEvent(result=message["content"])
    print("the model calls", message["tool"], flush=True)
    return ToolCall(turn=ev.turn, tool=message["tool"], arguments=message["arguments"])


@step(timeout=60)
async def use_tool(ctx: Context, ev: ToolCall) -> Think:
    """Call a tool; what it says, also an error, is for the model."""
    await asyncio.sleep(0.2)
    try:
        content: object = TOOLS[ev.tool](*ev.arguments)
    except Exception as error:
        content = f"error: {error!r}"
    print(ev.tool, *ev.arguments, "=", content, flush=True)
    ctx.set(f"message {ev.turn + 1}", {"role": "tool", "content": content})
    return Think(turn=ev.turn + 2)


agent = Workflow("agent", [begin, think, use_tool], timeout=3600)


async def main(question: str, journal: str) -> None:
    """Answer a question, or continue with it."""
    async with Engine(f"sqlite:///{journal}", workflows=[agent]) as engine:
        print(await engine.run(agent, text=question, key=question))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="An agent with tools.")
    arguments.add_argument("question")
    arguments.add_argument("--journal", default="agent.db")
    asyncio.run(main(**vars(arguments.parse_args())))

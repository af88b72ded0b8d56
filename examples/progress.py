"""Progress: a step publishes events while it works, and the caller draws a bar from them."""

import asyncio
from collections.abc import AsyncIterator

from treadle import Context, Event, StartEvent, StopEvent, Workflow, step


class Part(Event):
    number: int


class Progress(Event):
    done: int
    total: int


class Copy(Workflow):
    """Steps can be methods, too."""

    @step
    async def split(self, ctx: Context, ev: StartEvent) -> AsyncIterator[Part]:
        """Yield events one by one: each is routed as soon as it is there."""
        ctx.set("total", ev.parts)
        for number in range(ev.parts):
            yield Part(number=number)

    @step(concurrency=4)
    async def copy(self, ctx: Context, ev: Part) -> StopEvent | None:
        """Work, and tell whoever reads the run's stream."""
        await asyncio.sleep(0.01)
        done, total = ctx.increment("done"), ctx.get("total")
        ctx.write_event_to_stream(Progress(done=done, total=total))
        return StopEvent(result=f"copied {total} parts") if done == total else None


async def main() -> None:
    """Start a run, read its stream until it ends, then take its result."""
    run = Copy(timeout=60).run(parts=40)
    async for ev in run.stream_events():
        if isinstance(ev, Progress):
            bar = "#" * (30 * ev.done // ev.total)
            print(f"\r[{bar:<30}] {ev.done}/{ev.total}", end="", flush=True)
    print()
    print(await run)


if __name__ == "__main__":
    asyncio.run(main())

"""Families under torture: parents of ten children, each of which calls a server that counts.

python -m torture.families serve             prints its port, and counts the calls of each name
python -m torture.families work URL PORT N   executes N parents, by their keys, until it is killed
"""

import asyncio
import json
import random
import sys
import threading
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from treadle import Context, Engine, StartEvent, StopEvent, Workflow, step

CHILDREN = 10


class Counting(BaseHTTPRequestHandler):
    """Counts the requests for each path but the root, which tells the counts."""

    counts: ClassVar[Counter[str]] = Counter()
    lock = threading.Lock()

    def do_GET(self) -> None:
        with self.lock:
            if self.path != "/":
                self.counts[self.path] += 1
            body = json.dumps(self.counts).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def call(port: int, name: str) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=30) as answer:
        return len(answer.read())


@step
async def ask(ctx: Context, ev: StartEvent) -> StopEvent:
    await ctx.once("call", call, ev.port, ev.name)
    await asyncio.sleep(random.random() / 50)
    await ctx.once("call", call, ev.port, f"{ev.name}/again")
    return StopEvent(result=ev.n)


asking = Workflow("asking", [ask])


@step
async def lead(ctx: Context, ev: StartEvent) -> StopEvent:
    names = [f"{ev.name}/{n}" for n in range(CHILDREN)]
    found = [ctx.run(asking, port=ev.port, name=name, n=n) for n, name in enumerate(names)]
    return StopEvent(result=sum(await asyncio.gather(*found)))


leading = Workflow("leading", [lead])

ALL = [asking, leading]


async def work(url: str, port: int, parents: int) -> None:
    """Execute the parents, and whatever others have left."""
    async with Engine(url, workflows=ALL, lease=0.5) as engine:
        runs = [
            engine.run(leading, key=str(n), port=port, name=f"parent-{n}") for n in range(parents)
        ]
        print("working", flush=True)
        results = await asyncio.gather(*runs)
        assert results == [sum(range(CHILDREN))] * parents
        print("done", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
        print(server.server_port, flush=True)
        server.serve_forever()
    asyncio.run(work(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))

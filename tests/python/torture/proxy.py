"""A proxy between processes and a server that cuts connections and swallows answers."""

import asyncio
import threading
from typing import Literal

Fault = Literal["before", "after", "swallow"]


class Proxy:
    """A proxy of a thread of its own. A fault befalls the next statement of any connection."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._fault: Fault | None = None
        self.befell = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._is_open = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()
        assert self._is_open.wait(10)

    def fault(self, fault: Fault) -> None:
        """Cut the next statement before or after it arrives, or swallow its answer."""
        self._loop.call_soon_threadsafe(setattr, self, "_fault", fault)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._is_open.set()
        self._loop.run_forever()
        server.close()
        for task in self._tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._connect(reader, writer)
        except OSError:
            # The server is away, or one of the two has gone.
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, server = await asyncio.open_connection("127.0.0.1", self._to)
        is_swallowing = asyncio.Event()
        back = asyncio.ensure_future(self._back(answers, writer, is_swallowing))
        try:
            await self._forth(reader, server, is_swallowing)
        finally:
            server.close()
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)

    async def _forth(
        self,
        reader: asyncio.StreamReader,
        server: asyncio.StreamWriter,
        is_swallowing: asyncio.Event,
    ) -> None:
        while data := await reader.read(65536):
            fault, self._fault = self._fault, None
            if fault is not None:
                self.befell += 1
            if fault == "before":
                return
            if fault is not None:
                is_swallowing.set()
            server.write(data)
            await server.drain()
            if fault == "after":
                # The server carries it out, and finds nobody to tell.
                await asyncio.sleep(0.05)
                return

    async def _back(
        self,
        answers: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        is_swallowing: asyncio.Event,
    ) -> None:
        while data := await answers.read(65536):
            if not is_swallowing.is_set():
                writer.write(data)
                await writer.drain()
        writer.close()

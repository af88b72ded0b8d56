"""A server for one person on this machine: just enough of HTTP/1.1 for an ASGI application.

What it does not understand it refuses: it is no server for a network.
"""

import asyncio
import contextlib
import socket
from typing import Any
from urllib.parse import unquote

from ..log import log_exception
from .app import App
from .http import MOST_BODY, Message, Scope

_MOST_HEAD = 32_768
_MOST_HEADERS = 100
_MOST_CONNECTIONS = 128
# Seconds: until a head has come, and for a part of an answer to be taken.
_HEAD_WITHIN, _TAKEN_WITHIN = 30.0, 30.0

_REASONS = {
    200: "OK",
    307: "Temporary Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


class BadRequest(Exception):
    """What has come is no request that is understood."""

    def __init__(self, status: int) -> None:
        super().__init__(_REASONS[status])
        self.status = status


class Bridge:
    """Hands requests to an ASGI application."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def listen(self, listening: socket.socket) -> None:
        """Answer what comes to a socket that is listened on."""
        self._server = await asyncio.start_server(self._accept, sock=listening, limit=_MOST_HEAD)

    async def close(self) -> None:
        """Listen no more, and end the connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= _MOST_CONNECTIONS:
            writer.close()
            return
        self._connections.add(task)
        try:
            while await self._serve_one(reader, writer):
                pass
        except BadRequest as error:
            with contextlib.suppress(OSError):
                await _refuse(writer, error.status)
        except (OSError, EOFError, TimeoutError, asyncio.CancelledError):
            # The tab has gone, or the server goes.
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer a request; tell whether another one may come."""
        async with asyncio.timeout(_HEAD_WITHIN):
            head = await _head(reader)
        if head is None:
            return False
        scope, length = _scope(head, writer)
        exchange = _Exchange(reader, writer, length, is_head=scope["method"] == "HEAD")
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except OSError:
            raise
        except Exception as error:
            log_exception("the page of runs has failed", error)
            if exchange.has_begun:
                return False
            raise BadRequest(500) from None
        finally:
            await exchange.end()
        asked = [value for name, value in scope["headers"] if name == b"connection"]
        return exchange.is_whole and b"close" not in asked


class _Exchange:
    """One request and its answer."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        length: int,
        *,
        is_head: bool,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._left = length
        self._has_body = not is_head
        self._is_chunked = False
        self._is_read = False
        self.has_begun = False
        self.is_whole = False

    async def receive(self) -> Message:
        if not self._is_read:
            self._is_read = True
            async with asyncio.timeout(_HEAD_WITHIN):
                body = await self._reader.readexactly(self._left)
            self._left = 0
            return {"type": "http.request", "body": body, "more_body": False}
        # Nothing more comes of this request: what does is the next one, or the end.
        while not self.is_whole and not self._reader.at_eof() and not self._writer.is_closing():
            await asyncio.sleep(0.2)
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message["headers"])
            self._is_chunked = not any(name == b"content-length" for name, _ in headers)
            if self._is_chunked:
                headers.append((b"transfer-encoding", b"chunked"))
            status = message["status"]
            lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}".encode()]
            lines += [name + b": " + value for name, value in headers]
            self._writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
            self.has_begun = True
            return
        body: bytes = message.get("body", b"") if self._has_body else b""
        if body:
            self._writer.write(b"%x\r\n%b\r\n" % (len(body), body) if self._is_chunked else body)
        if not message.get("more_body"):
            if self._is_chunked and self._has_body:
                self._writer.write(b"0\r\n\r\n")
            self.is_whole = True
        # A tab that takes nothing keeps nothing waiting.
        async with asyncio.timeout(_TAKEN_WITHIN):
            await self._writer.drain()

    async def end(self) -> None:
        """Read what is left of the body, so that the next request comes behind it."""
        if self._left and self.is_whole:
            async with asyncio.timeout(_HEAD_WITHIN):
                await self._reader.readexactly(self._left)
            self._left = 0


async def _head(reader: asyncio.StreamReader) -> list[bytes] | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial.strip():
            raise BadRequest(400) from None
        return None
    except asyncio.LimitOverrunError:
        raise BadRequest(431) from None
    return head[:-4].split(b"\r\n")


def _scope(head: list[bytes], writer: asyncio.StreamWriter) -> tuple[Scope, int]:
    method, path, query = _request_line(head[0])
    headers = _headers(head[1:])
    if any(name == b"transfer-encoding" for name, _ in headers):
        raise BadRequest(501)
    if sum(name == b"host" for name, _ in headers) != 1:
        raise BadRequest(400)
    server = writer.get_extra_info("sockname")
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": (writer.get_extra_info("peername") or ("", 0))[:2],
        "server": server[:2],
    }
    return scope, _length(headers)


def _request_line(line: bytes) -> tuple[str, str, str]:
    try:
        method, target, version = line.decode("ascii").split(" ")
    except ValueError:
        raise BadRequest(400) from None
    if version not in ("HTTP/1.1", "HTTP/1.0") or not target.startswith("/"):
        raise BadRequest(400)
    if not (method.isalpha() and method.isupper()):
        raise BadRequest(400)
    path, _, query = target.partition("?")
    return method, path, query


def _headers(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    if len(lines) > _MOST_HEADERS:
        raise BadRequest(431)
    headers = []
    for line in lines:
        name, colon, value = line.partition(b":")
        # A line that continues the one before, or a blank before the colon, is read in two ways.
        if not colon or not name or name != name.strip() or b" " in name or b"\0" in line:
            raise BadRequest(400)
        headers.append((name.lower(), value.strip()))
    return headers


def _length(headers: list[tuple[bytes, bytes]]) -> int:
    lengths = [value for name, value in headers if name == b"content-length"]
    if not lengths:
        return 0
    if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > 12:
        raise BadRequest(400)
    length = int(lengths[0])
    if length > MOST_BODY:
        raise BadRequest(413)
    return length


async def _refuse(writer: asyncio.StreamWriter, status: int) -> None:
    line = f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    writer.write(line.encode())
    await writer.drain()

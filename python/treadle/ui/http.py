"""Requests and responses of the ASGI application."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MOST_BODY = 1 << 20

# Of the page: nothing comes from elsewhere, and nobody may frame it. Only texts and attributes
# are set, which trusted types enforce.
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "trusted-types 'none'; require-trusted-types-for 'script'"
)
_HEADERS = (
    (b"content-security-policy", _CSP.encode()),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Refused(Exception):
    """A request that is not answered as it was asked."""

    def __init__(self, status: int, text: str, **facts: Any) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.facts = facts


@dataclass
class Response:
    """What a request is answered with: bytes, or what comes bit by bit."""

    body: bytes | AsyncIterator[bytes]
    kind: str = "application/json"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    async def send(self, send: Send, *, with_body: bool) -> None:
        """Send it."""
        headers = [(b"content-type", self.kind.encode()), *_HEADERS]
        headers += [(name.encode(), value.encode()) for name, value in self.headers.items()]
        if isinstance(self.body, bytes):
            headers.append((b"content-length", str(len(self.body)).encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        if isinstance(self.body, bytes):
            body = self.body if with_body else b""
            await send({"type": "http.response.body", "body": body})
            return
        if with_body:
            async for part in self.body:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def json_of(value: Any, status: int = 200) -> Response:
    """Answer with JSON."""
    return Response(
        json.dumps(value, separators=(",", ":"), allow_nan=False).encode(), status=status
    )


class Request:
    """A request, and what it says."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.receive = receive
        self.method: str = scope["method"]
        self.headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            self.headers.setdefault(name.decode("latin-1").lower(), []).append(
                value.decode("latin-1")
            )
        # What comes behind the place at which the application is mounted.
        root = scope.get("root_path", "")
        path: str = scope["path"]
        self.path = path[len(root) :] if root and path.startswith(root) else path

    def header(self, name: str) -> str | None:
        """Return the value of a header; nothing if it is not there.

        Raises:
            Refused: it is there several times.
        """
        values = self.headers.get(name, [])
        if len(values) > 1:
            raise Refused(400, f"the header {name!r} is given {len(values)} times")
        return values[0] if values else None

    def query(self) -> dict[str, str]:
        """Return the parameters of the URL."""
        text = self.scope.get("query_string", b"").decode("latin-1")
        try:
            return dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=20))
        except ValueError as error:
            raise Refused(400, f"the parameters of the URL cannot be read: {error}") from None

    def number(self, name: str, default: int, least: int = 0, most: int = 2**63 - 1) -> int:
        """Return a parameter that is a number.

        Raises:
            Refused: it is none, or out of range.
        """
        text = self.query().get(name, "")
        if not text:
            return default
        if not (text.isascii() and text.isdecimal() and len(text) < 20):
            raise Refused(400, f"{name}: a number expected, not {text!r}")
        number = int(text)
        if not least <= number <= most:
            raise Refused(400, f"{name}: a number from {least} to {most} expected, not {number}")
        return number

    async def json(self) -> dict[str, Any]:
        """Return the body, an object of JSON.

        Raises:
            Refused: it is something else, or too long.
        """
        kind = (self.header("content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/json":
            # A form of another page could send other kinds without being asked for leave.
            raise Refused(415, "a body of application/json expected")
        body = bytearray()
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Refused(400, "the body is incomplete")
            body += message.get("body", b"")
            if len(body) > MOST_BODY:
                raise Refused(413, f"a body of at most {MOST_BODY} bytes expected")
            if not message.get("more_body"):
                break
        try:
            found = json.loads(bytes(body))
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"the body is no JSON: {error}") from None
        if not isinstance(found, dict):
            raise Refused(400, "the body: an object of JSON expected")
        return found

"""The ASGI application."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..exceptions import (
    EngineClosed,
    InvalidSignature,
    JournalConflict,
    JournalError,
    RunEnded,
    TreadleError,
    UnknownRun,
)
from ..log import log_exception
from .guard import AccessOf, Guard
from .http import Receive, Refused, Request, Response, Scope, Send, json_of
from .routes import Routes
from .showing import Redact

if TYPE_CHECKING:
    from ..engine import Engine

App = Callable[[Scope, Receive, Send], Awaitable[None]]


def app(
    engine: "Engine",
    *,
    access: AccessOf | None = None,
    redact: Redact | None = None,
    hosts: Iterable[str] = (),
) -> App:
    """Return an ASGI application that shows the runs of an engine, to be mounted in another one.

    It reads, and changes nothing unless `access` allows that. The engine is opened and closed by
    whoever made it, on the event loop on which the application is called.

    Args:
        engine: the engine of which the runs are shown.
        access: called with the ASGI scope of each request; it may be `async`. It returns `None` for
            somebody who may not look, `"read"`, or a set of the actions that they may take:
            "cancel", "pause", "resume", "retry", "fork", "send", "delete". Without it, whoever
            reaches the application may read.
        redact: called with the name of a workflow and of a value, such as `"state.card"`,
            `"Payment.number"`, `"memo.token"` or `"failure"`; true leaves the value out, and its
            type and size stay. A value for which it raises is left out.
        hosts: the names by which the page is reached, such as `"runs.example.org"`, with or without
            a port. Without any, only `localhost` and addresses are answered.

    Raises:
        TypeError: an argument is of a wrong type.
    """
    return _app(engine, access, redact, hosts, None)


def _app(
    engine: "Engine",
    access: AccessOf | None,
    redact: Redact | None,
    hosts: Iterable[str],
    token: str | None,
) -> App:
    from ..engine import Engine

    if not isinstance(engine, Engine):
        raise TypeError(f"engine: an Engine expected, not {engine!r}")
    for name, function in (("access", access), ("redact", redact)):
        if function is not None and not callable(function):
            raise TypeError(f"{name}: a function expected, not {function!r}")
    named = [hosts] if isinstance(hosts, str) else list(hosts)
    if not all(isinstance(host, str) and host for host in named):
        raise TypeError(f"hosts: a list of names expected, not {hosts!r}")
    guard = Guard(access, named, token)
    routes = Routes(engine, redact, needs_token=token is not None)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "http":
            request = Request(scope, receive)
            response = await _answer(guard, routes, request)
            await response.send(send, with_body=request.method != "HEAD")

    return application


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _answer(guard: Guard, routes: Routes, request: Request) -> Response:
    try:
        guard.check_host(request)
        is_page = not request.path.startswith("/api/")
        if is_page:
            # The page itself has nothing of any run.
            await guard.allowed(request)
            return routes.page(request)
        guard.check_origin(request)
        guard.check_token(request)
        return await routes.answer(request, await guard.allowed(request))
    except Exception as error:
        return _refusal(error)


# The first that fits.
_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (UnknownRun, 404),
    (RunEnded, 409),
    (JournalConflict, 409),
    (EngineClosed, 503),
    (InvalidSignature, 422),
    (JournalError, 503),
    (TreadleError, 422),
    (TypeError, 400),
    (ValueError, 400),
)


def _refusal(error: Exception) -> Response:
    if isinstance(error, Refused):
        return _problem(error.status, error.text, error.facts)
    if isinstance(error, TreadleError) or type(error) in (TypeError, ValueError):
        status = next(code for cls, code in _STATUSES if isinstance(error, cls))
        return _problem(status, str(error), {"error": type(error).__name__})
    log_exception("the page of runs cannot answer a request", error)
    return _problem(500, "this cannot be answered; the log of the server says why", {})


def _problem(status: int, text: str, facts: dict[str, Any]) -> Response:
    return json_of({"status": status, "text": text, **facts}, status)

"""`python -m treadle ui`: the page of the runs of a journal, for one person on this machine."""

import asyncio
import contextlib
import secrets
import signal
import socket
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ..commands import DONE, WrongUse, _engine
from ..engine import Engine
from ..tables import say
from .app import _app
from .bridge import Bridge
from .guard import ACTIONS, Access
from .http import Scope

_LOCAL = ("127.0.0.1", "localhost", "[::1]")
_ANY = ("0.0.0.0", "::", "")


def ui(url: str, actions: bool, host: str, port: int, opens: bool) -> int:
    """Serve the page of the runs of a journal until it is interrupted."""

    async def main() -> int:
        async with _opened(_engine(url), actions) as engine:
            return await _serve(engine, actions, _listening(host, port), opens)

    return asyncio.run(main())


@asynccontextmanager
async def _opened(engine: Engine, actions: bool) -> AsyncIterator[Engine]:
    # Who only looks makes and changes no file.
    async with engine if actions else engine._looking():
        yield engine


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host.strip("[]"), port), family=family)
    except (OSError, OverflowError) as error:
        raise WrongUse(f"{host}, port {port}, cannot be listened on: {error}") from error


async def _serve(engine: Engine, actions: bool, listening: socket.socket, opens: bool) -> int:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    # Of a server for every address only the names of this machine and addresses are known.
    hosts = [] if host in _ANY else [f"{name}:{port}" for name in (shown, *_LOCAL)]
    token = secrets.token_urlsafe(24)

    def access(_scope: Scope) -> Access:
        return ACTIONS if actions else "read"

    bridge = Bridge(_app(engine, access, None, hosts, token))
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await bridge.listen(listening)
    try:
        # What comes behind the # is never sent to a server.
        url = f"http://{'localhost' if host in _ANY else shown}:{port}/#token={token}"
        what = "with actions" if actions else "read only; --actions allows changes"
        say(f"the runs of {engine.url} ({what}):")
        say(url)
        if opens:
            with contextlib.suppress(webbrowser.Error):
                await loop.run_in_executor(None, webbrowser.open, url)
        await stopped.wait()
    finally:
        await bridge.close()
    return DONE

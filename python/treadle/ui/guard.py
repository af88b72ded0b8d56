"""Who may ask: by which host, from which page, with which token, and with whose access."""

import hmac
import inspect
import ipaddress
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, Literal
from urllib.parse import urlsplit

from ..log import log_exception
from .http import Refused, Request, Scope

ACTIONS = frozenset({"cancel", "pause", "resume", "retry", "fork", "send", "delete"})

Access = Literal["read"] | Collection[str] | None
AccessOf = Callable[[Scope], Access | Awaitable[Access]]

_SAFE = ("GET", "HEAD")


class Guard:
    """Decides whether a request is answered, and what it may do.

    `hosts` are the names by which the page is reached. Without any, these are `localhost` and
    addresses: a name of somebody else that leads to this machine (DNS rebinding) is none of them.
    With a `token`, a request has to bring it.
    """

    def __init__(self, access: AccessOf | None, hosts: Iterable[str], token: str | None) -> None:
        self._access = access
        self._hosts = frozenset(host.lower() for host in hosts)
        self._token = token

    def check_host(self, request: Request) -> None:
        """Refuse a name that is not this server's, whatever the method.

        Raises:
            Refused: always then.
        """
        host = (request.header("host") or "").lower()
        if self._hosts:
            is_known = host in self._hosts or _name_of(host) in self._hosts
        else:
            is_known = _is_local_or_address(_name_of(host))
        if not is_known:
            raise Refused(
                403,
                f"the host {host!r} is not one of this page; if it is meant, give "
                f"treadle.ui.app(..., hosts=[{_name_of(host)!r}])",
            )

    def check_origin(self, request: Request) -> None:
        """Refuse what another page asks for.

        Raises:
            Refused: always then.
        """
        site, origin = request.header("sec-fetch-site"), request.header("origin")
        is_unsafe = request.method not in _SAFE
        if site is not None and site.lower() != "same-origin":
            # A page that a person opens by hand has no site.
            if is_unsafe or site.lower() != "none":
                raise Refused(403, "another page has asked for this")
        elif site is None and origin is not None and not self._is_own(request, origin):
            raise Refused(403, "a page of another origin has asked for this")
        elif site is None and origin is None and is_unsafe and self._token is None:
            raise Refused(403, "a request that changes something has to say its origin")

    def _is_own(self, request: Request, origin: str) -> bool:
        return urlsplit(origin).netloc.lower() == (request.header("host") or "").lower() != ""

    def check_token(self, request: Request) -> None:
        """Refuse who does not have the token.

        Raises:
            Refused: always then.
        """
        if self._token is None:
            return
        kind, _, given = (request.header("authorization") or "").partition(" ")
        # Compared as bytes: a text may hold anything.
        is_given = hmac.compare_digest(given.strip().encode(), self._token.encode())
        if kind.lower() != "bearer" or not is_given:
            raise Refused(
                401, "the token is missing, or is another one: open the URL that was printed"
            )

    async def allowed(self, request: Request) -> frozenset[str]:
        """Return the actions that whoever asks may take; none of them for one who may read.

        Raises:
            Refused: they may not even read, or nobody can tell.
        """
        if self._access is None:
            return frozenset()
        try:
            given: Any = self._access(request.scope)
            if inspect.isawaitable(given):
                given = await given
            allowed = None if given is None else _actions(given)
        except Exception as error:
            # Whoever may not be known is nobody.
            log_exception("access to the page of runs cannot be decided", error)
            raise Refused(500, "access cannot be decided; the log of the server says why") from None
        if allowed is None:
            raise Refused(403, "you may not look at this")
        return allowed


def _actions(given: Any) -> frozenset[str]:
    if given == "read":
        return frozenset()
    if isinstance(given, (str, bytes)):
        raise ValueError(f"access: None, 'read' or a set of actions expected, not {given!r}")
    actions = frozenset(given)
    if unknown := sorted(map(repr, actions - ACTIONS)):
        names = ", ".join(sorted(ACTIONS))
        raise ValueError(f"access: {unknown[0]} is no action; these are: {names}")
    return actions


def _name_of(host: str) -> str:
    if any(mark in host for mark in "@/?#\\"):
        return ""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_local_or_address(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

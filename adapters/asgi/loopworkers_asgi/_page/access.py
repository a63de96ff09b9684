"""Who may see the page: this machine, or who has the token."""

from __future__ import annotations

import hashlib
import hmac
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from .query import in_query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._types import Scope

_SHORTEST_TOKEN = 16
_BY_PROXIES = (b"forwarded", b"via", b"x-real-ip")  # and what begins with x-forwarded-
_NEEDS_TOKEN = "Give the page a token: Page(token=...)."


class Refusal(NamedTuple):
    status: int
    why: str


class Access:
    """Decides about each request.

    Args:
        token: what requests have to bring along. None: those of this machine are let in.
    """

    def __init__(self, token: str | None) -> None:
        if token is not None and len(token) < _SHORTEST_TOKEN:
            # An environment variable that is empty must not open the page to all.
            raise ValueError(
                f"the token of the page needs {_SHORTEST_TOKEN} characters or more, not "
                f"{len(token)}: make one by `python -c 'import secrets; "
                "print(secrets.token_urlsafe())'`, or give None to show the page to this machine"
            )
        if token is not None and not token.isascii():
            raise ValueError("the token of the page has to be ASCII: headers carry nothing else")
        self._token = token
        # Browsers keep the cookie: the token cannot be had from it. All ports of a host share
        # their cookies, so two pages need two names.
        key = hmac.digest((token or "").encode(), b"loopworkers page", hashlib.sha256).hex()
        self._cookie = (f"loopworkers_{key[:8]}", key[8:])

    def refusal(self, scope: Scope) -> Refusal | None:
        """Why this request is not answered, or None if it is."""
        return _not_local(scope) if self._token is None else self._without_token(scope)

    def cookie_for(self, scope: Scope) -> str | None:
        """The cookie to set for a request with the token in its query; None without one."""
        if not self._is_token(in_query(scope, "token")):
            return None
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        return "{}={}; HttpOnly; SameSite=Strict".format(*self._cookie) + secure

    def _without_token(self, scope: Scope) -> Refusal | None:
        for value in _headers(scope, b"authorization"):
            scheme, _, given = value.partition(" ")
            if scheme.lower() == "bearer" and self._is_token(given.strip()):
                return None
        name, expected = self._cookie
        for value in _headers(scope, b"cookie"):
            for pair in value.split(";"):
                key, _, given = pair.strip().partition("=")
                if key == name and _equal(given, expected):
                    return None
        if self._is_token(in_query(scope, "token")):
            return None
        return Refusal(
            401,
            "This page needs its token: open it with ?token=..., or send the header "
            "Authorization: Bearer ...",
        )

    def _is_token(self, given: str | None) -> bool:
        return given is not None and self._token is not None and _equal(given, self._token)


def _not_local(scope: Scope) -> Refusal | None:
    for name, _ in scope["headers"]:
        name = name.lower()
        if name in _BY_PROXIES or name.startswith(b"x-forwarded-"):
            # Behind a proxy on this machine everybody comes from this machine.
            return Refusal(
                403,
                "This page is shown to this machine only, and the request came by a proxy "
                f"(it has {name.decode('latin-1')}). {_NEEDS_TOKEN}",
            )
    if scope.get("http_version") in ("1.0", "0.9"):
        # nginx, unless it is told to, adds no header and gives the host's name as it calls it
        # itself: as if it were a browser here. But it speaks HTTP/1.0, and browsers do not.
        return Refusal(
            403,
            "This page is shown to this machine only, and the request came by HTTP/1.0, as those "
            f"of some proxies do. {_NEEDS_TOKEN}",
        )
    client = scope.get("client")
    if not client:
        return Refusal(
            403,
            "This page is shown to this machine only, and the request came by a Unix socket, "
            f"whose clients have no address. {_NEEDS_TOKEN}",
        )
    if not _is_loopback(str(client[0])):
        return Refusal(403, f"This page is shown to this machine only. {_NEEDS_TOKEN}")
    hosts = list(_headers(scope, b"host"))
    if len(hosts) != 1 or not _is_local_name(hosts[0]):
        # Any web site may give its own name this machine's address, and have a browser here ask.
        return Refusal(
            403,
            "This page is shown under localhost or a loopback address only, and was asked for "
            f"under another name. {_NEEDS_TOKEN}",
        )
    return None


def _is_loopback(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped.is_loopback
    return found.is_loopback


def _is_local_name(host: str) -> bool:
    if any(character in host for character in "@/?#\\"):
        return False  # of which a URL has its name elsewhere
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or name.endswith(".localhost") or _is_loopback(name)


def _headers(scope: Scope, wanted: bytes) -> Iterator[str]:
    for name, value in scope["headers"]:
        if name.lower() == wanted:
            yield value.decode("latin-1")


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())

"""`Page`: the live page as ASGI applications."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING

import anyio

from loopworkers import PoolClosed, loop_delay

from .._disconnect import CancelOnDisconnect
from .._respond import respond
from .access import Access
from .query import in_query
from .recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from loopworkers import LoopDelay

    from .._types import ASGIApp, Receive, Scope, Send
    from .._workers import Workers

    Headers = list[tuple[bytes, bytes]]

_TEXT = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_EVENT_STREAM = "text/event-stream; charset=utf-8"
_FILES = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_PATH = re.compile(r"(/[\w.~-]+)+", re.ASCII)
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'"
)
_GO_ON = """<!doctype html>
<title>loopworkers</title>
<link rel="icon" href="{page}/icon.svg">
<a href="{page}">Go on</a>
"""
_EVERY = 1.0  # seconds between two events
# Servers wait for responses that have begun before they tell the application that they stop, and
# uvicorn does so without an end. So none goes on for long: the page asks again at once.
_EVENTS = 3


class Page:
    """A live page about `Workers`, for people: queue, workers, calls, loop delay, failures.

    Off unless it is asked for: ``with_workers(app, workers, page=Page())``; the adapters have
    the same option.

    Args:
        path: where it is.
        token: who brings it along sees the page; 16 characters or more. A browser is given it
            once, as ``?token=``, and has a cookie from then on; programs send
            ``Authorization: Bearer``. None: the page is shown to this machine only, and to nobody
            behind a Unix socket or a proxy that shows itself, where it cannot be told who asks.
            Needed behind any other proxy.
        max_watchers: how many may look at the same time; one more is answered 503.

    It shows names of functions and what they raised, with tracebacks; never arguments or
    results. While nobody looks it costs what it takes to note the times of the last 1,000
    calls and the text of the last 50 failures.
    """

    def __init__(
        self, path: str = "/loopworkers", *, token: str | None = None, max_watchers: int = 8
    ) -> None:
        if not _PATH.fullmatch(path):
            raise ValueError(
                f"the path of the page must be like '/loopworkers' or '/in/pool', not {path!r}"
            )
        if max_watchers < 1:
            raise ValueError(f"max_watchers must be 1 or more, not {max_watchers}")
        self.path = path
        self._access = Access(token)
        self._max_watchers = max_watchers

    def apps(self, workers: Workers) -> dict[str, ASGIApp]:
        """ASGI applications that make up the page about ``workers``, by the path of each."""
        folder = files("loopworkers_asgi").joinpath("_page")
        # Links are relative: the page does not know the prefix that a proxy may have taken away.
        name = self.path.rpartition("/")[2]
        html = folder.joinpath("page.html").read_text("utf-8").replace("{page}", name)
        events = CancelOnDisconnect(_Events(Recorder(workers), self._max_watchers))
        apps: dict[str, ASGIApp] = {
            self.path: _Guarded(self._access, _Html(self._access, html, name)),
            f"{self.path}/events": _Guarded(self._access, events),
        }
        for file, content_type in _FILES.items():
            content = folder.joinpath(file).read_bytes()
            answer = _Content(content, content_type)
            apps[f"{self.path}/{file}"] = _Guarded(self._access, answer)
        return apps


class _Guarded:
    """Answers those who may see the page; an object, as frameworks take functions for handlers."""

    def __init__(
        self, access: Access, answer: Callable[[Scope, Receive, Send], Awaitable[None]]
    ) -> None:
        self._access = access
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._access.refusal(scope)
        if scope["method"] not in ("GET", "HEAD"):
            await _respond(scope, send, 405, _TEXT, b"", [(b"allow", b"GET, HEAD")])
        elif refusal is not None:
            more = [(b"www-authenticate", b"Bearer")] if refusal.status == 401 else []
            await _respond(scope, send, refusal.status, _TEXT, f"{refusal.why}\n".encode(), more)
        else:
            await self._answer(scope, receive, send)


class _Content:
    def __init__(self, content: bytes, content_type: str) -> None:
        self._content = content
        self._content_type = content_type

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _respond(scope, send, 200, self._content_type, self._content)


class _Html:
    def __init__(self, access: Access, html: str, name: str) -> None:
        self._access = access
        self._html = html.encode()
        self._go_on = _GO_ON.replace("{page}", name).encode()
        self._refresh = f"0;url={name}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cookie = self._access.cookie_for(scope)
        if cookie is None:
            await _respond(scope, send, 200, _HTML, self._html)
            return
        # Not a redirect: after a link from elsewhere it would come without a strict cookie. This
        # document's own navigation has it, and takes the token's place in the history.
        more = [(b"set-cookie", cookie.encode()), (b"refresh", self._refresh)]
        await _respond(scope, send, 200, _HTML, self._go_on, more)


class _Events:
    """The figures as server-sent events."""

    def __init__(self, recorder: Recorder, max_watchers: int) -> None:
        self._recorder = recorder
        self._max_watchers = max_watchers
        self._watchers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._watchers >= self._max_watchers:
            await _unavailable(scope, send, f"{self._watchers} are looking, no more are allowed.")
        elif not self._recorder.is_open:
            await _unavailable(scope, send, "The workers are not open.")
        elif scope["method"] == "HEAD":
            await _respond(scope, send, 200, _EVENT_STREAM, b"")
        else:
            self._watchers += 1
            try:
                await self._tell(in_query(scope, "after"), send)
            except OSError:
                pass  # the client is gone
            finally:
                self._watchers -= 1

    async def _tell(self, mark: str | None, send: Send) -> None:
        """An event at once, unless there was one with this ``mark`` before, and a few more."""
        # nginx would collect them.
        headers = [*_headers(_EVENT_STREAM), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            with loop_delay() as delay:
                if mark is None:
                    mark = await self._send_event(send, delay, mark)
                for _ in range(_EVENTS):
                    await anyio.sleep(_EVERY)
                    mark = await self._send_event(send, delay, mark)
                    delay.reset()
        except PoolClosed:
            pass
        await send({"type": "http.response.body", "body": b"event: again\ndata:\n\n"})

    async def _send_event(self, send: Send, delay: LoopDelay, mark: str | None) -> str:
        event = self._recorder.event(delay, mark)
        body = b"data: %b\n\n" % json.dumps(event).encode()
        await send({"type": "http.response.body", "body": body, "more_body": True})
        new_mark: str = event["mark"]
        return new_mark


def _headers(content_type: str) -> Headers:
    return [
        (b"content-type", content_type.encode()),
        (b"cache-control", b"no-store"),
        (b"content-security-policy", _POLICY),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"referrer-policy", b"no-referrer"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
    ]


async def _respond(
    scope: Scope,
    send: Send,
    status: int,
    content_type: str,
    body: bytes,
    more: Headers | None = None,
) -> None:
    length = (b"content-length", b"%d" % len(body))
    await respond(scope, send, status, [*_headers(content_type), length, *(more or [])], body)


async def _unavailable(scope: Scope, send: Send, why: str) -> None:
    retry_after = (b"retry-after", b"5")
    await _respond(scope, send, 503, _TEXT, f"{why}\n".encode(), [retry_after])

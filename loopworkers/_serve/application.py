"""Loads an ASGI application in a worker, and watches how it starts and what it is asked."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._cluster.member import Member

    Scope = dict[str, Any]
    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class ApplicationError(Exception):
    """The application cannot be served; the message is one line."""


def load(name: str, *, factory: bool) -> Application:
    """The application named ``module:attribute``, or what it returns if it is a factory.

    Raises ApplicationError, from what the application raised.
    """
    module_name, _, path = name.partition(":")
    path = path or "app"
    if not module_name:
        raise ApplicationError(f"{name!r} names no application; write it as module:attribute")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _import_failed(module_name, error) from error
        raise ApplicationError(
            f"there is no module {error.name!r}, looked for in {', '.join(sys.path[:3])} and on"
        ) from error
    except BaseException as error:  # SystemExit too: a script without a main guard
        raise _import_failed(module_name, error) from error
    for attribute in path.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError as error:
            raise ApplicationError(f"the module {module_name!r} has no {path!r}") from error
    if factory:
        try:
            found = found()
        except Exception as error:
            raise ApplicationError(f"the factory {name!r} failed: {_line_of(error)}") from error
    if not callable(found):
        raise ApplicationError(f"{name!r} is no ASGI application but {found!r}")
    return found  # type: ignore[no-any-return]


def _import_failed(module_name: str, error: BaseException) -> ApplicationError:
    return ApplicationError(f"importing {module_name!r} failed: {_line_of(error)}")


def _line_of(error: BaseException) -> str:
    """What was raised and where, in one line."""
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if isinstance(error, SyntaxError):
        return f"{text}"
    if traceback is None:
        return text
    return f"{text} ({traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno})"


class Watched:
    """The application as the server sees it.

    Counts requests for recycling, has connections closed after a response once the worker drains,
    and keeps the error of a start-up that failed, which servers only print.
    """

    def __init__(self, app: Application, member: Member, *, needs_lifespan: bool) -> None:
        self._app = app
        self._needs_lifespan = needs_lifespan
        self._member = member
        self._is_stopping = member.stopping.is_set
        self.error: ApplicationError | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._live(scope, receive, send)
            return
        self._member.served()
        # HTTP/2 has no such header: its servers say goodbye by themselves.
        if kind == "http" and scope.get("http_version", "1.1").startswith("1"):
            send = self._closing_if_stopping(send)
        await self._app(scope, receive, send)

    def _closing_if_stopping(self, send: Send) -> Send:
        is_stopping = self._is_stopping

        # Not async, which would be one more coroutine for each message.
        def send_checked(message: dict[str, Any]) -> Awaitable[None]:
            if message["type"] == "http.response.start" and is_stopping():
                message = _with_close(message)
            return send(message)

        return send_checked

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_watched(message: dict[str, Any]) -> None:
            nonlocal started
            started = True
            if message["type"] == "lifespan.startup.failed":
                lines = str(message.get("message") or "it gave no reason").strip().splitlines()
                self.error = ApplicationError(f"the application's start-up failed: {lines[-1]}")
                message = {"type": "lifespan.startup.failed", "message": ""}
            await send(message)

        try:
            await self._app(scope, receive, send_watched)
        except Exception as error:
            # Else it is taken for an application that knows no lifespan.
            if started or not self._needs_lifespan:
                raise
            await send_watched({"type": "lifespan.startup.failed", "message": _line_of(error)})


def _with_close(message: dict[str, Any]) -> dict[str, Any]:
    headers = [h for h in message.get("headers", ()) if bytes(h[0]).lower() != b"connection"]
    return {**message, "headers": [*headers, (b"connection", b"close")]}

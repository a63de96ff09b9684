"""Serves an application by hypercorn, inside a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.run import worker_serve
from hypercorn.config import Config, Sockets
from hypercorn.utils import LifespanFailureError

from .application import ApplicationError

if TYPE_CHECKING:
    from .._cluster.member import Member
    from .application import Watched


async def serve(member: Member, app: Watched, options: dict[str, Any]) -> None:
    """Returns when the worker was asked to finish and has."""
    config = Config()
    config.keep_alive_timeout = options["keep_alive"]
    config.graceful_timeout = options["grace"]
    config.root_path = options["root_path"]
    config.certfile = options["certfile"]
    # It serves without TLS if it has one file only, which may well hold both.
    config.keyfile = options["keyfile"] or options["certfile"]
    config.accesslog = "-" if options["access_log"] else None
    config.errorlog = None
    config.backlog = options["backlog"]
    secure = config.ssl_enabled
    sockets = Sockets(
        secure_sockets=member.listeners if secure else [],
        insecure_sockets=[] if secure else member.listeners,
        quic_sockets=[],
    )

    async def until_stopping() -> None:
        # Called when it is about to listen, so this is when the worker serves.
        await member.ready()
        await member.stopping.wait()

    try:
        as_hypercorn_calls_it: Any = app
        wrapped = ASGIWrapper(as_hypercorn_calls_it)
        await worker_serve(wrapped, config, sockets=sockets, shutdown_trigger=until_stopping)
    except LifespanFailureError:
        raise app.error or ApplicationError("the application's start-up failed") from None

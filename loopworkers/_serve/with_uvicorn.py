"""Serves an application by uvicorn, inside a worker."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import anyio
import uvicorn

from .application import ApplicationError

if TYPE_CHECKING:
    from .._cluster.member import Member
    from .application import Watched

# uvicorn has no event for this, and looks ten times a second itself.
_LOOK_EVERY = 0.02
# How often it is looked, rather than for how long: where nobody gets a processor for a second, no
# client can send anything either. Clients that send one request after the other are told to close
# with a response; what stays silent for a second is closed without one.
_LINGER = 50
# What has connected gets so much more to send its first request.
_FIRST_REQUEST = 50


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, member: Member) -> None:
        super().__init__(config)
        self._member = member

    def capture_signals(self) -> Any:
        return nullcontext()  # the primary hears them

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        await self._member.ready()

    async def drain(self) -> None:
        """Let connections end, where uvicorn would close those whose request is on its way."""
        await self._member.stopping.wait()
        if self.started:
            for server in self.servers:
                server.close()
            await self._let_finish()
        self.should_exit = True

    async def _let_finish(self) -> None:
        # What was just accepted is not among its connections yet.
        await anyio.sleep(_LOOK_EVERY)
        connections = self.server_state.connections
        for _ in range(_LINGER):
            if not connections:
                return
            await anyio.sleep(_LOOK_EVERY)
        for _ in range(_FIRST_REQUEST):
            if not any(getattr(each, "cycle", self) is None for each in connections):
                return
            await anyio.sleep(_LOOK_EVERY)


async def serve(member: Member, app: Watched, options: dict[str, Any]) -> None:
    """Returns when the worker was asked to finish and has."""
    config = uvicorn.Config(
        app,
        lifespan=options["lifespan"],
        http=options["http"],
        access_log=options["access_log"],
        log_config=None,
        proxy_headers=options["proxy_headers"],
        forwarded_allow_ips=options["forwarded_allow_ips"],
        root_path=options["root_path"],
        timeout_keep_alive=options["keep_alive"],
        ssl_certfile=options["certfile"],
        ssl_keyfile=options["keyfile"],
        backlog=options["backlog"],
    )
    server = _Server(config, member)
    async with anyio.create_task_group() as group:
        group.start_soon(server.drain)
        try:
            await server.serve(sockets=member.listeners)
        except SystemExit:  # how it tells that the application did not start
            raise app.error or ApplicationError("the application's start-up failed") from None
        group.cancel_scope.cancel()

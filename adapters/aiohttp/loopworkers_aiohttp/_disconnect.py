"""Middleware: when the client is gone, nobody works for it any more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from ._connection import Connection

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler


@web.middleware
async def cancel_on_disconnect(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Cancel the handler of a request whose client disconnects, and its worker calls with it.

    As aiohttp's own ``handler_cancellation=True`` does, but for this application only, also a
    sub-application, and not for WebSockets: they are told by aiohttp. Both together cancel once.
    What has to go on without the client needs ``asyncio.shield`` around it.

    Until the handler has read a body larger than aiohttp's buffer, no disconnect is noticed.
    """
    if request.headers.get(hdrs.UPGRADE, "").lower() != "websocket":
        # The task also sends the response, after all middleware, and may stream from workers then.
        task = asyncio.current_task()
        assert task is not None
        if request.transport is None:  # gone while the request waited for the one before it
            task.cancel()
        else:
            Connection.of(request.transport).cancel_at_end(task)
    return await handler(request)

"""What the benchmarks serve: an ASGI application in pure Python, without a framework."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

# Of processor time, for /work: so much that serving a request costs little beside it.
_WORK = 20_000
# How long /stuck holds up the event loop of its worker: longer than a round.
_STUCK = 5.0


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    path = scope["path"]
    if path == "/work":
        sum(number * number for number in range(_WORK))
    elif path == "/stuck":
        # Its response has begun, so that whoever asked knows which worker it is.
        await _begin(send, b"%d" % os.getpid())
        await asyncio.sleep(0.05)
        time.sleep(_STUCK)  # noqa: ASYNC251 - that is the point
        await send({"type": "http.response.body", "body": b""})
        return
    await _begin(send, b"hello")
    await send({"type": "http.response.body", "body": b""})


async def _begin(send: Any, body: bytes) -> None:
    length = str(len(body)).encode()
    headers = [(b"content-length", length), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})

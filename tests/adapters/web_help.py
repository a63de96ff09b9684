"""Real servers in the test's own loop, and a client that can leave at any moment."""

from __future__ import annotations

import socket
import struct
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import h11
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

needs_uvloop = pytest.mark.skipif(find_spec("uvloop") is None, reason="uvloop has no wheel here")
SERVERS = [
    "uvicorn-asyncio",
    pytest.param("uvicorn-uvloop", marks=needs_uvloop),
    "hypercorn-asyncio",
    "hypercorn-trio",
]
# Starlette does not close the generators of responses that are cancelled; trio warns of it.
GENERATORS_ARE_DROPPED = [
    pytest.mark.filterwarnings(f"ignore:{warning}")
    for warning in (
        ".*Async generator:ResourceWarning",
        ".*finalizing generator:pytest.PytestUnraisableExceptionWarning",
    )
]


@asynccontextmanager
async def serving(app: Any, server: str, *, port: int = 0, **options: Any) -> AsyncIterator[int]:
    """Serve ``app`` on a port of 127.0.0.1, which is given; leaving it shuts the server down."""
    listener = socket.create_server(("127.0.0.1", port))
    listener.setblocking(False)
    serve = _uvicorn if server.startswith("uvicorn") else _hypercorn
    port = listener.getsockname()[1]
    async with anyio.create_task_group() as group:
        stop = await group.start(serve, app, listener, server, options)
        try:
            yield port
        finally:
            stop()


@asynccontextmanager
async def serving_aiohttp(app: Any, **options: Any) -> AsyncIterator[int]:
    """The same for an application of aiohttp, by its own server, with options of its AppRunner."""
    from aiohttp import web

    runner = web.AppRunner(app, **{"access_log": None, "shutdown_timeout": 5, **options})
    await runner.setup()
    try:
        # Not a TCPSite: uvloop would resolve its address in libuv's threads, which stay.
        listener = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(runner, listener).start()
        yield listener.getsockname()[1]
    finally:
        await runner.cleanup()


async def _uvicorn(
    app: Any, listener: socket.socket, server: str, options: Any, *, task_status: Any
) -> None:
    import uvicorn

    config = uvicorn.Config(app, ws="wsproto", lifespan="on", log_config=None, **options)
    running = uvicorn.Server(config)

    def stop() -> None:
        running.should_exit = True

    async with anyio.create_task_group() as group:
        group.start_soon(running.serve, [listener])
        while not running.started:
            assert not running.should_exit
            await anyio.sleep(0.005)
        task_status.started(stop)


async def _hypercorn(
    app: Any, listener: socket.socket, server: str, options: Any, *, task_status: Any
) -> None:
    from hypercorn.config import Config

    if server.endswith("trio"):
        from hypercorn.trio import serve
    else:
        from hypercorn.asyncio import serve  # type: ignore[assignment]

    config = Config()
    config.bind = [f"fd://{listener.detach()}"]  # which closes it in the end, as uvicorn does
    config.graceful_timeout = 5
    for name, value in options.items():
        setattr(config, name, value)
    ended, started = anyio.Event(), anyio.Event()

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        async def send_on(message: Any) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                started.set()

        await app(scope, receive, send_on if scope["type"] == "lifespan" else send)

    async with anyio.create_task_group() as group:

        async def run() -> None:
            await serve(watched, config, shutdown_trigger=ended.wait, mode="asgi")  # type: ignore

        group.start_soon(run)
        await started.wait()
        task_status.started(ended.set)


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection of HTTP/1.1."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._http = h11.Connection(h11.CLIENT)

    async def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Response:
        await self.send(method, path, body, **headers)
        return await self.response()

    async def get(self, path: str, **headers: str) -> Response:
        return await self.ask("GET", path, **headers)

    async def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        """The whole request."""
        await self.begin(method, path, len(body), **headers)
        if body:
            await self.send_data(body)
        self._http.send(h11.EndOfMessage())

    async def begin(self, method: str, path: str, length: int, **headers: str) -> None:
        """Its head only."""
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        named = {"host": "localhost", "content-length": str(length), **headers}
        given = [(name.replace("_", "-"), value) for name, value in named.items()]
        await self.stream.send(
            self._http.send(h11.Request(method=method, target=path, headers=given))
        )

    async def send_data(self, data: bytes) -> None:
        await self.stream.send(self._http.send(h11.Data(data=data)))

    async def event(self) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            try:
                data = await self.stream.receive()
            except anyio.EndOfStream:
                data = b""
            self._http.receive_data(data)
        return event

    async def response(self) -> Response:
        head = await self.event()
        assert isinstance(head, h11.Response), head
        body = b""
        while isinstance(event := await self.event(), h11.Data):
            body += event.data
        assert isinstance(event, h11.EndOfMessage), event
        headers = {name.decode(): value.decode() for name, value in head.headers}
        return Response(head.status_code, headers, body)

    async def leave(self, *, reset: bool = False) -> None:
        """Close the connection; or abort it, as a client that is killed."""
        if reset:
            raw = self.stream.extra(anyio.abc.SocketAttribute.raw_socket)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.stream.aclose()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        yield Client(stream)


async def get(port: int, path: str) -> Response:
    async with connected(port) as client:
        return await client.get(path, connection="close")


async def come_and_go(
    port: int, paths: Sequence[str], *, reset_each: int, count: int = 200
) -> None:
    """Clients, twenty at a time, that leave: of the first path while its handler is busy, of the
    others once the response has begun. One in ``reset_each`` resets its connection.
    """
    limit = anyio.CapacityLimiter(20)

    async def one(number: int) -> None:
        async with limit, connected(port) as client:
            await client.send("GET", paths[number % len(paths)])
            if number % len(paths):
                await client.event()
            await client.leave(reset=number % reset_each == 0)

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(one, number)


def task_count() -> int:
    try:
        import asyncio

        return len(asyncio.all_tasks())
    except RuntimeError:
        import trio

        return int(trio.lowlevel.current_statistics().tasks_living)


async def answer(send: Any, body: bytes = b"", status: int = 200) -> None:
    """From an ASGI handler."""
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def body_of(receive: Any) -> bytes:
    """What an ASGI handler is sent."""
    parts = []
    while (message := await receive())["type"] == "http.request":
        parts.append(message["body"])
        if not message["more_body"]:
            return b"".join(parts)
    raise AssertionError(message)

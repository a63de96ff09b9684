"""Starlette, with its own middleware, responses and background tasks, over real servers."""

from __future__ import annotations

import logging
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import contract_work as work
import pytest
from contract_help import Gate, eventually
from loopworkers_starlette import (
    Workers,
    WorkersMiddleware,
    exception_handlers,
    install,
    lifespan,
    routes,
)
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect
from web_help import GENERATORS_ARE_DROPPED, come_and_go, connected, get, serving
from web_socket import Socket
from wsproto.events import CloseConnection, TextMessage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.websockets import WebSocket

pytestmark = [pytest.mark.anyio, *GENERATORS_ARE_DROPPED]


class Shop:
    """An application and what it has seen."""

    def __init__(self, gate: Gate, **options: Any) -> None:
        self.gate = gate
        self.workers = Workers(**{"max_workers": 1, "measure_loop": False, **options})
        self.events: list[str] = []
        self.routes = [
            Route("/plain", self.plain),
            Route("/busy", self.busy),
            Route("/upload", self.upload, methods=["POST"]),
            Route("/streamed", self.streamed),
            Route("/background", self.background),
            Route("/late", self.late),
            Route("/dead", self.dead),
            WebSocketRoute("/socket", self.socket),
        ]

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncGenerator[dict[str, str], None]:
        self.events.append(await self.workers.run(work.echo, "start"))
        yield {"own": "state"}
        self.events.append(await self.workers.run(work.echo, "stop"))

    async def plain(self, request: Request) -> Any:
        assert request.state.own == "state"
        return PlainTextResponse(str(await request.state.workers.run(work.echo, 5)))

    async def busy(self, request: Request) -> Any:
        try:
            await request.state.workers.run(work.busy, str(self.gate))
        except anyio.get_cancelled_exc_class():
            self.events.append("cancelled")
            raise

    async def upload(self, request: Request) -> Any:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
        return PlainTextResponse(str(await request.state.workers.run(work.echo, size)))

    async def streamed(self, request: Request) -> Any:
        async def rows() -> AsyncGenerator[str, None]:
            async with request.state.workers.stream(work.numbers, 10**9) as numbers:
                async for number in numbers:
                    yield f"{number}\n"

        return StreamingResponse(rows())

    async def background(self, request: Request) -> Any:
        async def later() -> None:
            self.events.append(
                await request.state.workers.run(work.hold, str(self.gate), "background")
            )

        return PlainTextResponse("done", background=BackgroundTask(later))

    async def late(self, request: Request) -> Any:
        await request.state.workers.options(timeout=0.05).run(work.busy, str(self.gate))

    async def dead(self, request: Request) -> Any:
        await request.state.workers.run(os._exit, 77)

    async def socket(self, socket: WebSocket) -> None:
        await socket.accept()
        try:
            while text := await socket.receive_text():
                if text == "late":
                    await socket.state.workers.options(timeout=0.05).run(work.busy, str(self.gate))
                await socket.send_text(await socket.state.workers.run(work.echo, text))
        except WebSocketDisconnect:
            self.events.append("left")

    def is_free(self) -> bool:
        return self.workers.stats().running == 0


def installed(shop: Shop, **options: Any) -> Starlette:
    app = Starlette(routes=shop.routes, lifespan=shop.lifespan, **options)
    install(app, shop.workers)
    return app


def assembled(shop: Shop) -> Starlette:
    return Starlette(
        routes=[*routes(shop.workers), *shop.routes],
        lifespan=lifespan(shop.workers, shop.lifespan),
        middleware=[Middleware(WorkersMiddleware, workers=shop.workers)],
        exception_handlers=exception_handlers(),
    )


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Any:
        return await call_next(request)


def wrapped(shop: Shop) -> Starlette:
    """With middleware that has tasks and receive channels of its own."""
    return installed(shop, middleware=[Middleware(Passing), Middleware(GZipMiddleware)])


@pytest.mark.parametrize("make", [installed, assembled, wrapped])
async def test_one_day_of_an_application(gate: Gate, server: str, make: Any) -> None:
    shop = Shop(gate)
    async with serving(make(shop), server) as port:
        assert shop.events == ["start"]
        async with connected(port) as client:
            assert (await client.get("/plain")).body == b"5"
            assert (await client.ask("POST", "/upload", bytes(3_000_000))).body == b"3000000"
        assert (await get(port, "/health/ready")).body == b"ready\n"
        assert b'outcome="completed"} 3\n' in (await get(port, "/metrics")).body
        async with connected(port) as client:
            await client.send("GET", "/busy")
            await gate.begun()
            await client.leave()
        await eventually(lambda: shop.is_free() and "cancelled" in shop.events)
        assert (await get(port, "/plain")).body == b"5"
    assert shop.events == ["start", "cancelled", "stop"]
    assert shop.workers.readiness().why == "not open"


@pytest.mark.parametrize("make", [installed, wrapped])
async def test_a_streamed_response_is_stopped(gate: Gate, server: str, make: Any) -> None:
    shop = Shop(gate)
    async with serving(make(shop), server) as port:
        async with connected(port) as client:
            await client.send("GET", "/streamed")
            for _ in range(3):
                await client.event()
            assert not shop.is_free()
            await client.leave()
        await eventually(shop.is_free)


@pytest.mark.parametrize("make", [installed, wrapped])
async def test_a_background_task_outlives_its_client(gate: Gate, server: str, make: Any) -> None:
    shop = Shop(gate)
    async with serving(make(shop), server) as port:
        async with connected(port) as client:
            assert (await client.get("/background")).body == b"done"
            await gate.begun()
            await client.leave(reset=True)
        assert (await get(port, "/health/live")).status == 200
        gate.open()
        await eventually(lambda: "background" in shop.events)
    assert shop.events == ["start", "background", "stop"]


async def test_errors_are_answers(
    gate: Gate, server: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(gate, max_pending=0)
    async with serving(installed(shop), server) as port:
        late = await get(port, "/late")
        assert (late.status, late.body) == (504, b"the work took too long\n")
        with caplog.at_level(logging.ERROR, "loopworkers"):
            dead = await get(port, "/dead")
        assert (dead.status, dead.body) == (500, b"the work failed\n")
        assert "exit code 77" in caplog.text
        async with connected(port) as client:
            began = gate.count("begun")
            await client.send("GET", "/busy")
            await gate.begun(began + 1)
            full = await get(port, "/plain")
            assert (full.status, full.headers["retry-after"]) == (503, "1")


async def test_errors_have_the_form_of_the_applications_own(gate: Gate, server: str) -> None:
    async def own(request: Request, error: HTTPException) -> Any:
        return JSONResponse({"wrong": error.detail}, error.status_code, error.headers)

    handlers: Any = {HTTPException: own}
    async with serving(installed(Shop(gate), exception_handlers=handlers), server) as port:
        late = await get(port, "/late")
        assert (late.status, late.body) == (504, b'{"wrong":"the work took too long"}')


async def test_websockets(gate: Gate, server: str) -> None:
    shop = Shop(gate)
    async with serving(installed(shop), server) as port:
        async with connected(port) as client:
            socket = Socket(client)
            await socket.connect("/socket")
            assert await socket.ask("one") == "one"
            await socket.send(CloseConnection(code=1000))
            await eventually(lambda: "left" in shop.events)
        async with connected(port) as client:
            socket = Socket(client)
            await socket.connect("/socket")
            await socket.send(TextMessage("late"))
            closed = await socket.event()
            assert (type(closed), closed.code) == (CloseConnection, 1011)
        await eventually(shop.is_free)


@pytest.mark.parametrize("server", ["uvicorn-asyncio", "hypercorn-trio"])
async def test_many_disconnects_leave_nothing(gate: Gate, server: str) -> None:
    shop = Shop(gate, max_workers=2)
    async with serving(wrapped(shop), server) as port:
        await come_and_go(port, ("/busy", "/streamed"), reset_each=3)
        await eventually(shop.is_free)
        assert (await get(port, "/plain")).body == b"5"
        stats = shop.workers.stats()
        assert (stats.waiting, stats.running, stats.died) == (0, 0, 0)


def test_an_application_without_workers_says_so() -> None:
    from loopworkers_starlette import workers_of

    with pytest.raises(RuntimeError, match="install"):
        workers_of(Request({"type": "http"}))

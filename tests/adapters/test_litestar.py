"""Litestar: the plugin, over real HTTP."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any, cast

import anyio
import contract_work as work
import pytest
from contract_help import Gate, eventually
from litestar import Litestar, MediaType, Request, Response, WebSocket, get, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.di import Provide
from litestar.exceptions import ImproperlyConfiguredException, WebSocketDisconnect
from litestar.middleware import DefineMiddleware
from litestar.response import Stream
from loopworkers_litestar import CancelOnDisconnect, Workers, WorkersDep, WorkersPlugin
from web_help import come_and_go, connected, serving
from web_help import get as fetch
from web_socket import Socket
from wsproto.events import CloseConnection, TextMessage

from loopworkers import PoolClosed, PoolFull

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.anyio

# For what does not differ between servers.
on_two_servers = pytest.mark.parametrize(
    "server", ["uvicorn-asyncio", "hypercorn-trio"], indirect=True
)

FREE_WITHIN = 2.0  # seconds; 0.1 is the aim, and other tests run beside this one


class Unpicklable:
    def __reduce__(self) -> Any:
        raise AssertionError("it was pickled")


class App:
    """An application with a worker of its own."""

    def __init__(self, gate: Gate, *, plugin: Any = None, **options: Any) -> None:
        self.gate = str(gate)
        self.workers = Workers(max_workers=1, max_pending=options.pop("max_pending", None))
        self.events: list[str] = []
        self.asgi = Litestar(
            self.handlers(),
            plugins=[WorkersPlugin(self.workers, retry_after=7, **(plugin or {}))],
            openapi_config=None,
            logging_config=None,  # the usual one keeps a thread
            **options,
        )

    def handlers(self) -> list[Any]:
        gate = self.gate

        def rows(count: int = 10**9) -> Iterator[bytes]:  # local, so that it goes by value
            for number in range(count):
                yield b"%d\n" % number

        @get("/plain")
        async def plain(workers: WorkersDep) -> int:
            return await workers.run(work.echo, 5)

        @get("/busy")
        async def busy(workers: WorkersDep) -> None:
            try:
                await workers.run(work.busy, gate)
            except anyio.get_cancelled_exc_class():
                self.events.append("cancelled")
                raise

        @get("/hold")
        async def hold(workers: WorkersDep) -> str:
            return await workers.run(work.hold, gate, "held")

        @get("/more")
        async def more(workers: WorkersDep) -> Any:
            return await workers.run(work.echo, Unpicklable())

        @get("/late")
        async def late(workers: WorkersDep) -> None:
            await workers.options(timeout=0.05).run(work.busy, gate)

        @get("/dead", media_type=MediaType.TEXT)
        async def dead(workers: WorkersDep) -> None:
            await workers.run(os._exit, 77)

        @post("/upload", media_type=MediaType.TEXT)
        async def upload(request: Request[Any, Any, Any], workers: WorkersDep) -> str:
            return await workers.run(work.digest, await request.body())

        @get("/streamed")
        async def streamed(workers: WorkersDep) -> Stream:
            return Stream(workers.stream(rows))

        @get("/ends")
        async def ends(workers: WorkersDep) -> Stream:
            return Stream(workers.stream(rows, 3))

        @get("/begun")
        async def begun(workers: WorkersDep) -> Stream:
            async def rows() -> AsyncIterator[bytes]:
                yield b"first"
                await workers.run(work.busy, gate)

            return Stream(rows())

        @get("/background")
        async def background(workers: WorkersDep) -> Response[str]:
            async def after() -> None:
                self.events.append(await workers.run(work.hold, gate, "ran"))

            return Response("done", background=BackgroundTask(after))

        @websocket("/talk")
        async def talk(socket: WebSocket[Any, Any, Any], workers: WorkersDep) -> None:
            await socket.accept()
            try:
                while (text := await socket.receive_text()) != "busy":
                    await socket.send_text(await workers.run(work.echo, text))
                await workers.run(work.busy, gate)
            except WebSocketDisconnect:
                self.events.append("disconnected")
            except anyio.get_cancelled_exc_class():
                self.events.append("cancelled")
                raise

        return [
            plain, busy, hold, more, late, dead, upload, streamed, ends, begun, background, talk,
        ]  # fmt: skip

    def is_free(self) -> bool:
        stats = self.workers.stats()
        return (stats.running, stats.waiting) == (0, 0)


@pytest.fixture
def app(gate: Gate) -> App:
    return App(gate)


async def test_the_workers_live_as_long_as_the_application(gate: Gate, server: str) -> None:
    seen: list[str] = []

    async def note(app: Litestar) -> None:
        workers = app.plugins.get(WorkersPlugin).workers
        seen.append(str(await workers.run(work.echo, "started")))

    app = App(gate, on_startup=[note])
    with pytest.raises(PoolClosed):
        app.workers.run(work.echo, 1)
    for _ in range(2):  # it can be started again
        async with serving(app.asgi, server) as port:
            assert (await fetch(port, "/plain")).body == b"5"
            assert app.workers.stats().workers == 1
        with pytest.raises(PoolClosed):
            app.workers.run(work.echo, 1)
    assert seen == ["started", "started"]


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_disconnect_frees_the_worker(
    app: App, gate: Gate, server: str, reset: bool, record_property: Any
) -> None:
    async with serving(app.asgi, server) as port:
        async with connected(port) as client:
            await client.send("GET", "/busy")
            await gate.begun()
            left_at = time.perf_counter()
            await client.leave(reset=reset)
        await eventually(app.is_free, within=FREE_WITHIN)
        record_property("freed_after_ms", round(1000 * (time.perf_counter() - left_at), 1))
        await eventually(lambda: app.events == ["cancelled"])
        assert (await fetch(port, "/plain")).body == b"5"


@pytest.mark.parametrize("path", ["/begun", "/streamed"])
async def test_a_streamed_response_is_stopped(app: App, server: str, path: str) -> None:
    async with serving(app.asgi, server) as port:
        async with connected(port) as client:
            await client.send("GET", path)
            for _ in range(2):
                await client.event()
            await eventually(lambda: app.workers.stats().running == 1)
            await client.leave()
        await eventually(app.is_free, within=FREE_WITHIN)
        assert (await fetch(port, "/plain")).body == b"5"


async def test_who_stays_gets_the_answer(app: App, server: str) -> None:
    async with serving(app.asgi, server) as port, connected(port) as client:
        for _ in range(3):  # on one connection
            assert (await client.get("/plain")).body == b"5"
            assert (await client.get("/ends")).body == b"0\n1\n2\n"
        body = bytes(range(256)) * 20_000
        assert (await client.ask("POST", "/upload", body)).body.decode() == work.digest(body)
        assert (await client.get("/plain")).body == b"5"


async def test_what_runs_after_the_response_goes_on(app: App, gate: Gate, server: str) -> None:
    async with serving(app.asgi, server) as port:
        async with connected(port) as client:
            assert (await client.get("/background")).body == b"done"
            await gate.begun()
            await client.leave(reset=True)
        gate.open()
        await eventually(lambda: app.events)
    assert app.events == ["ran"]


async def test_a_websocket_is_left_to_its_handler(app: App, server: str) -> None:
    async with serving(app.asgi, server) as port, connected(port) as client:
        socket = Socket(client)
        await socket.connect("/talk")
        for word in ("one", "two"):
            assert await socket.ask(word) == word
        await socket.send(CloseConnection(code=1000))
        await eventually(lambda: app.events)
    assert app.events == ["disconnected"]


async def test_a_busy_websocket_is_cancelled_on_demand(gate: Gate, server: str) -> None:
    cancel: Any = DefineMiddleware(cast("Any", CancelOnDisconnect), websockets=True)
    app = App(gate, plugin={"cancel_on_disconnect": False}, middleware=[cancel])
    async with serving(app.asgi, server) as port:
        async with connected(port) as client:
            socket = Socket(client)
            await socket.connect("/talk")
            await socket.send(TextMessage("busy"))
            await gate.begun()
        await eventually(app.is_free, within=FREE_WITHIN)
        await eventually(lambda: app.events == ["cancelled"])


async def test_many_disconnects_leave_nothing(gate: Gate, server: str) -> None:
    """Descriptors, threads and processes are looked at after every test."""
    app = App(gate)
    count = int(os.environ.get("DISCONNECTS", "200"))
    async with serving(app.asgi, server) as port:
        await come_and_go(port, ("/busy", "/begun", "/streamed"), reset_each=2, count=count)
        await eventually(app.is_free)
        assert (await fetch(port, "/plain")).body == b"5"
        stats = app.workers.stats()
        assert stats.died == 0
        assert stats.workers <= 2  # one may be on its way out


@on_two_servers
async def test_full_is_503_before_anything_is_pickled(gate: Gate, server: str) -> None:
    app = App(gate, max_pending=0)
    async with serving(app.asgi, server) as port, connected(port) as client:
        await client.send("GET", "/hold")
        await gate.begun()
        refused = await fetch(port, "/more")
        assert (refused.status, refused.headers["retry-after"]) == (503, "7")
        assert refused.headers["content-type"] == "application/json"
        assert b'"detail":"all workers are busy, try again later"' in refused.body
        gate.open()
        assert (await client.response()).body == b"held"
        assert 'outcome="refused"} 1\n' in app.workers.metrics()


@on_two_servers
async def test_a_timeout_is_504(app: App, server: str) -> None:
    async with serving(app.asgi, server) as port:
        late = await fetch(port, "/late")
        assert late.status == 504
        assert b"the work took too long" in late.body
        await eventually(app.is_free)


@on_two_servers
@pytest.mark.parametrize("debug", [False, True])
async def test_a_dead_worker_is_500_and_told_in_the_log_only(
    gate: Gate, server: str, debug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(gate, debug=debug)
    with caplog.at_level(logging.ERROR, "loopworkers"):
        async with serving(app.asgi, server) as port:
            dead = await fetch(port, "/dead")
    assert dead.status == 500
    assert b"Internal Server Error" in dead.body
    for word in (b"Traceback", b"WorkerDied", b"77"):
        assert word not in dead.body
    assert any("77" in record.getMessage() for record in caplog.records)


@on_two_servers
async def test_handlers_of_the_application_come_first(gate: Gate, server: str) -> None:
    def answer(request: Request[Any, Any, Any], error: Exception) -> Response[str]:
        return Response("come back tomorrow", status_code=429)

    app = App(gate, max_pending=0, exception_handlers={PoolFull: answer})
    async with serving(app.asgi, server) as port, connected(port) as client:
        await client.send("GET", "/hold")
        await gate.begun()
        assert (await fetch(port, "/plain")).status == 429
        gate.open()
        await client.response()


@on_two_servers
async def test_health_and_metrics(app: App, server: str) -> None:
    async with serving(app.asgi, server) as port, connected(port) as client:
        assert (await client.get("/health/live")).status == 200
        await eventually(lambda: app.workers.readiness().is_ready)
        assert (await client.get("/health/ready")).body == b"ready\n"
        await client.get("/plain")
        metrics = await client.get("/metrics")
        assert metrics.headers["content-type"].startswith("text/plain; version=")
        assert 'outcome="completed"} 1\n' in metrics.body.decode()
        assert (await client.ask("POST", "/metrics")).status == 405
        app.workers.drain()
        assert (await client.get("/health/ready")).status == 503


async def test_parts_can_be_left_out(gate: Gate) -> None:
    app = App(gate, plugin={"serve_endpoints": False, "cancel_on_disconnect": False})
    assert not [route for route in app.asgi.routes if "health" in route.path]
    assert not app.asgi.middleware


async def test_a_name_that_is_taken_is_told(gate: Gate) -> None:
    taken = {"workers": Provide(lambda: 1, sync_to_thread=False)}
    with pytest.raises(ImproperlyConfiguredException, match="dependency_key"):
        App(gate, dependencies=taken)
    app = Litestar(
        plugins=[WorkersPlugin(dependency_key="pool")], dependencies=taken, logging_config=None
    )
    assert {"pool", "workers"} <= set(app.dependencies)

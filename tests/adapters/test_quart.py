"""Quart and Quart-Trio applications with workers, on the servers that serve them."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any

import anyio
import contract_work as work
import pytest
from contract_help import Gate, eventually
from web_help import come_and_go, connected, get, serving, task_count
from web_socket import Socket
from wsproto.events import CloseConnection, TextMessage

pytest.importorskip("quart")

import anyio.lowlevel
from loopworkers_quart import QuartWorkers
from quart import Quart, request, websocket

from loopworkers import PoolClosed, WorkerDied

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

FREE_WITHIN = 2.0  # seconds; 0.1 is the aim, and other tests run beside this one


class Unpicklable:
    def __reduce__(self) -> Any:
        raise AssertionError("it was pickled")


class App:
    """A handler for each path, and one worker."""

    def __init__(self, server: str, gate: Gate, **options: Any) -> None:
        self.gate = gate
        self.quart = new_quart(server)
        self.workers = QuartWorkers(
            **{"max_workers": 1, "measure_loop": False, "retry_after": 7, **options}
        )
        self.workers.init_app(self.quart)
        self.events: list[str] = []
        self.entered = self.left = 0
        self.quart.add_url_rule("/<name>", view_func=self.handle, methods=["GET", "POST"])
        self.quart.add_websocket("/socket", view_func=self.socket)
        self.quart.add_websocket("/socket_dead", view_func=self.socket_dead)

    async def handle(self, name: str) -> Any:
        self.entered += 1
        try:
            return await getattr(self, name)()
        except anyio.get_cancelled_exc_class():
            self.events.append("cancelled")
            raise
        finally:
            self.left += 1

    def is_free(self) -> bool:
        return self.workers.stats().running == 0 and self.left == self.entered

    async def plain(self) -> Any:
        return str(await self.workers.run(work.echo, 5))

    async def busy(self) -> Any:
        await self.workers.run(work.busy, str(self.gate))

    async def upload(self) -> Any:
        return await self.workers.run(work.digest, await request.get_data())

    async def begun(self) -> Any:
        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            await self.workers.run(work.busy, str(self.gate))

        return body()

    async def streamed(self) -> Any:
        count = int(request.args["count"])

        async def rows() -> AsyncIterator[bytes]:
            async with self.workers.stream(work.numbers, count) as numbers:
                async for number in numbers:
                    yield b"%d\n" % number

        return rows()

    async def socket(self) -> None:
        self.entered += 1
        try:
            while True:
                text = await websocket.receive()
                if text == "busy":
                    await self.workers.run(work.busy, str(self.gate))
                await websocket.send(str(await self.workers.run(int, text)))
        finally:
            self.left += 1

    async def socket_dead(self) -> None:
        await websocket.accept()
        await self.workers.run(os._exit, 77)

    async def more(self) -> Any:
        return await self.workers.run(work.echo, Unpicklable())

    async def hold(self) -> Any:
        return await self.workers.run(work.hold, str(self.gate), b"held")

    async def late(self) -> Any:
        await self.workers.options(timeout=0.05).run(work.busy, str(self.gate))

    async def dead(self) -> Any:
        await self.workers.run(os._exit, 77)

    async def failing(self) -> Any:
        await self.workers.run(int, "secret")


def new_quart(server: str) -> Quart:
    if not server.endswith("trio"):
        return Quart(__name__)
    pytest.importorskip("quart_trio")
    from quart_trio import QuartTrio

    return QuartTrio(__name__)


@pytest.fixture
def app(server: str, gate: Gate) -> App:
    return App(server, gate)


# --- lifetime ------------------------------------------------------------------------------------


async def test_workers_live_as_long_as_the_application(app: App, server: str) -> None:
    assert app.workers.readiness().why == "not open"
    assert app.quart.extensions["loopworkers"] is app.workers
    seen: list[Any] = []

    @app.quart.while_serving
    async def other() -> AsyncIterator[None]:
        seen.append(await app.workers.run(work.echo, "open already"))
        yield

    async with serving(app.quart, server) as port:
        assert (await get(port, "/plain")).body == b"5"
    assert seen == ["open already"]
    with pytest.raises(PoolClosed):
        app.workers.stats()


async def test_it_is_open_in_tests_of_the_application(app: App, server: str) -> None:
    async with app.quart.test_app() as test_app:
        response = await test_app.test_client().get("/plain")
        assert await response.get_data() == b"5"
        assert (await test_app.test_client().get("/health/live")).status_code == 200
    with pytest.raises(PoolClosed):
        app.workers.stats()


@pytest.mark.parametrize("limit", [0.1, None])
async def test_calls_may_take_their_grace_at_the_end(
    app: App, server: str, limit: float | None
) -> None:
    """Quart-Trio cancels by ``limit`` what the application does in its shutdown."""
    app.quart.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = limit
    ended: list[Any] = []

    async def open_later() -> None:
        await eventually(lambda: app.workers.readiness().why == "not open")
        await anyio.sleep(0.3)
        app.gate.open()

    async with anyio.create_task_group() as group, serving(app.quart, server):
        call = app.workers.run(work.hold, str(app.gate), "ended")
        call.add_done_callback(lambda call: ended.append(call.result()))
        await app.gate.begun()
        group.start_soon(open_later)
        await anyio.lowlevel.checkpoint()
    assert ended == ["ended"]


# --- client gone ---------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_disconnect_frees_the_worker(
    app: App, server: str, reset: bool, record_property: Any
) -> None:
    async with serving(app.quart, server) as port:
        async with connected(port) as client:
            await client.send("GET", "/busy")
            await app.gate.begun()
            left_at = time.perf_counter()
            await client.leave(reset=reset)
        await eventually(app.is_free, within=FREE_WITHIN)
        record_property("freed_after_ms", round(1000 * (time.perf_counter() - left_at), 1))
        assert app.events == ["cancelled"]
        assert (await get(port, "/plain")).body == b"5"
        assert app.workers.stats().cancelled == 1


async def test_a_disconnect_drops_a_waiting_call(app: App, server: str) -> None:
    async with serving(app.quart, server) as port:
        async with connected(port) as first, connected(port) as second:
            await first.send("GET", "/busy")
            await app.gate.begun()
            await second.send("GET", "/busy")
            await eventually(lambda: app.workers.stats().waiting == 1)
            await second.leave()
            await eventually(lambda: app.left == 1)
            stats = app.workers.stats()
            assert (stats.waiting, stats.running, stats.killed) == (0, 1, 0)
            await first.leave()
        await eventually(app.is_free)


async def test_who_stays_gets_the_answer(app: App, server: str) -> None:
    async with serving(app.quart, server) as port, connected(port) as client:
        for _ in range(3):  # on one connection
            assert (await client.get("/plain")).body == b"5"
        body = bytes(range(256)) * 3_000
        assert (await client.ask("POST", "/upload", body)).body.decode() == work.digest(body)
        assert (await client.get("/plain")).body == b"5"
    assert app.events == []


@pytest.mark.parametrize("path", ["/begun", "/streamed?count=1000000000"])
async def test_a_response_that_has_begun_is_stopped(app: App, server: str, path: str) -> None:
    async with serving(app.quart, server) as port:
        async with connected(port) as client:
            await client.send("GET", path)
            for _ in range(2):
                await client.event()
            await eventually(lambda: app.workers.stats().running == 1)
        await eventually(app.is_free, within=FREE_WITHIN)
        assert (await get(port, "/plain")).body == b"5"


async def test_a_stream_arrives_whole(app: App, server: str) -> None:
    async with serving(app.quart, server) as port:
        rows = (await get(port, "/streamed?count=1000")).body.split()
    assert rows == [b"%d" % number for number in range(1000)]


async def test_many_disconnects_leave_nothing(server: str, gate: Gate) -> None:
    """Descriptors, threads and processes are looked at after every test."""
    app = App(server, gate, max_workers=2)
    paths = ("/busy", "/begun", "/streamed?count=1000000000")
    async with serving(app.quart, server) as port:
        await get(port, "/plain")
        tasks = task_count()
        await come_and_go(port, paths, reset_each=2)
        await eventually(app.is_free)
        assert (await get(port, "/plain")).body == b"5"
        stats = app.workers.stats()
        assert (stats.waiting, stats.running, stats.died) == (0, 0, 0)
        assert stats.workers <= 3  # one may be on its way out
        await eventually(lambda: task_count() <= tasks + 2, "tasks have ended")


# --- WebSockets ----------------------------------------------------------------------------------


async def test_a_websocket_that_is_left_frees_its_worker(app: App, server: str) -> None:
    async with serving(app.quart, server) as port:
        async with connected(port) as client:
            connection = Socket(client)
            await connection.connect("/socket")
            for number in range(3):
                assert await connection.ask(str(number)) == str(number)
            await connection.send(TextMessage("busy"))
            await app.gate.begun()
            await client.leave()
        await eventually(app.is_free, within=FREE_WITHIN)


async def test_an_error_in_a_websocket_closes_it(
    app: App, server: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(app.quart, server) as port, connected(port) as client:
        connection = Socket(client)
        await connection.connect("/socket_dead")
        try:
            event = await connection.event()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass
        else:
            assert isinstance(event, CloseConnection)
            assert "exit code" not in (event.reason or "")
    assert any(r.exc_info and r.exc_info[0] is WorkerDied for r in caplog.records)


# --- errors --------------------------------------------------------------------------------------


async def test_full_is_503_before_anything_is_pickled(server: str, gate: Gate) -> None:
    app = App(server, gate, max_pending=0)
    async with serving(app.quart, server) as port, connected(port) as client:
        await client.send("GET", "/hold")
        await gate.begun()
        refused = await get(port, "/more")
        assert (refused.status, refused.headers["retry-after"]) == (503, "7")
        assert refused.body == b"all workers are busy, try again later\n"
        gate.open()
        assert (await client.response()).body == b"held"
        assert 'outcome="refused"} 1\n' in app.workers.metrics()


async def test_a_timeout_is_504(app: App, server: str) -> None:
    async with serving(app.quart, server) as port:
        late = await get(port, "/late")
        assert (late.status, late.body) == (504, b"the work took too long\n")
        await eventually(lambda: app.workers.stats().running == 0)


async def test_a_dead_worker_is_500_and_told_in_the_log_only(
    app: App, server: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "loopworkers"):
        async with serving(app.quart, server) as port:
            dead = await get(port, "/dead")
    assert (dead.status, dead.body) == (500, b"the work failed\n")
    (record,) = [r for r in caplog.records if r.name == "loopworkers"]
    assert "exit code 77" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[0] is WorkerDied


async def test_what_the_function_raised_is_not_in_the_answer(app: App, server: str) -> None:
    async with serving(app.quart, server) as port:
        failed = await get(port, "/failing")
    assert failed.status == 500
    assert b"secret" not in failed.body


# --- health and metrics --------------------------------------------------------------------------


async def test_health_and_metrics(server: str, gate: Gate) -> None:
    app = App(server, gate, name="shop", measure_loop=True)

    @app.quart.before_request
    async def log_in() -> Any:
        return "who are you?", 401

    async with serving(app.quart, server) as port:
        assert (await get(port, "/health/live")).body == b"alive\n"
        await eventually(lambda: app.workers.stats().ready)
        assert (await get(port, "/health/ready")).body == b"ready\n"
        assert (await get(port, "/plain")).status == 401
        await app.workers.run(work.echo, 5)
        metrics = (await get(port, "/metrics")).body
        assert b'loopworkers_call_run_seconds_count{pool="shop",kind="process"} 1\n' in metrics
        assert b"loopworkers_loop_delay_seconds" in metrics
        app.workers.drain()
        not_ready = await get(port, "/health/ready")
        assert (not_ready.status, not_ready.body) == (503, b"draining\n")


async def test_endpoints_can_be_left_out(server: str, gate: Gate) -> None:
    app = App(server, gate, serve_endpoints=False)
    async with serving(app.quart, server) as port:
        assert (await get(port, "/health/live")).status == 404

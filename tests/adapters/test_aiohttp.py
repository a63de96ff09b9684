"""An aiohttp server with workers, over real connections."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import anyio
import contract_work as work
import h11
import pytest
from contract_help import Gate, eventually, on_both_asyncios
from web_help import come_and_go, connected, get
from web_help import serving_aiohttp as serving
from web_socket import Socket

pytest.importorskip("aiohttp")

from aiohttp import WSMsgType, web
from loopworkers_aiohttp import WORKERS, Workers, routes, setup

from loopworkers import PoolClosed, WorkerDied

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.anyio, on_both_asyncios]

FREE_WITHIN = 2.0  # seconds; 0.1 is the aim, and other tests run beside this one


class Unpicklable:
    def __reduce__(self) -> Any:
        raise AssertionError("it was pickled")


class App:
    """A handler for each path, and one worker."""

    def __init__(self, gate: Gate, *, setup_options: Any = None, **options: Any) -> None:
        self.gate = gate
        self.workers = Workers(**{"max_workers": 1, "measure_loop": False, **options})
        self.events: list[str] = []
        self.entered = self.left = 0
        self.web = web.Application()
        self.web.add_routes([web.route("*", "/{name}", self.handle)])
        setup(self.web, self.workers, retry_after=7, **(setup_options or {}))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.config_dict[WORKERS] is self.workers
        self.entered += 1
        try:
            return await getattr(self, request.match_info["name"])(request)  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise
        finally:
            self.left += 1

    def is_free(self) -> bool:
        return self.workers.stats().running == 0 and self.left == self.entered

    async def plain(self, request: web.Request) -> web.Response:
        return web.Response(text=str(await self.workers.run(work.echo, 5)))

    async def busy(self, request: web.Request) -> web.Response:
        await self.workers.run(work.busy, str(self.gate))
        return web.Response()

    async def upload(self, request: web.Request) -> web.Response:
        return web.Response(text=await self.workers.run(work.digest, await request.read()))

    async def begun(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        await self.workers.run(work.busy, str(self.gate))
        return response

    async def streamed(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async with self.workers.stream(work.numbers, int(request.query["count"])) as numbers:
            async for number in numbers:
                await response.write(b"%d\n" % number)
        return response

    async def body(self, request: web.Request) -> web.Response:
        """Sent after the handler and all middleware."""

        async def rows() -> AsyncIterator[bytes]:
            yield b"first"
            yield await self.workers.run(work.hold, str(self.gate), b"last")

        return web.Response(body=rows())

    async def rows(self, request: web.Request) -> web.Response:
        """As `body`, from a generator that nobody closes."""

        async def rows() -> AsyncIterator[bytes]:
            async for number in self.workers.stream(work.numbers, 10**9):
                yield b"%d\n" % number

        return web.Response(body=rows())

    async def socket(self, request: web.Request) -> web.StreamResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        async for message in response:
            assert message.type is WSMsgType.TEXT
            await response.send_str(str(await self.workers.run(int, message.data)))
        self.events.append(f"closed {response.closed}")
        return response

    async def socket_dead(self, request: web.Request) -> web.StreamResponse:
        await web.WebSocketResponse().prepare(request)
        await self.workers.run(os._exit, 77)
        raise AssertionError

    async def cleans_up(self, request: web.Request) -> web.Response:
        try:
            await self.workers.run(work.busy, str(self.gate))
        finally:
            async with asyncio.timeout(30):
                self.events.append(await self.workers.run(work.echo, "cleaned up"))
            task = asyncio.current_task()
            assert task is not None
            self.events.append(f"cancelling {task.cancelling()}")
        raise AssertionError

    async def shielded(self, request: web.Request) -> web.Response:
        call = self.workers.run(work.hold, str(self.gate), "shielded")
        call.add_done_callback(lambda call: self.events.append(call.result()))
        await asyncio.shield(call)
        raise AssertionError

    async def more(self, request: web.Request) -> web.Response:
        return web.Response(text=await self.workers.run(work.echo, Unpicklable()))

    async def hold(self, request: web.Request) -> web.Response:
        return web.Response(body=await self.workers.run(work.hold, str(self.gate), b"held"))

    async def late(self, request: web.Request) -> web.Response:
        await self.workers.options(timeout=0.05).run(work.busy, str(self.gate))
        raise AssertionError

    async def late_begun(self, request: web.Request) -> web.Response:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        return await self.late(request)

    async def dead(self, request: web.Request) -> web.Response:
        await self.workers.run(os._exit, 77)
        raise AssertionError

    async def failing(self, request: web.Request) -> web.Response:
        await self.workers.run(int, "secret")
        raise AssertionError


@pytest.fixture
def app(gate: Gate) -> App:
    return App(gate)


# --- lifetime ------------------------------------------------------------------------------------


async def test_workers_live_as_long_as_the_application(app: App) -> None:
    assert app.workers.readiness().why == "not open"
    async with serving(app.web) as port:
        assert (await get(port, "/plain")).body == b"5"
        assert app.web[WORKERS] is app.workers
    with pytest.raises(PoolClosed):
        app.workers.stats()


async def test_what_is_cleaned_up_may_still_use_workers() -> None:
    cleaned: list[Any] = []

    async def other(app: web.Application) -> AsyncIterator[None]:
        yield
        cleaned.append(await app[WORKERS].run(work.echo, "still open"))

    app = web.Application()
    app.cleanup_ctx.append(other)
    setup(app, Workers(measure_loop=False))
    async with serving(app):
        pass
    assert cleaned == ["still open"]


async def test_a_sub_application_has_workers(app: App) -> None:
    parent = web.Application()
    parent.add_subapp("/sub", app.web)
    async with serving(parent) as port:
        assert (await get(port, "/sub/plain")).body == b"5"
        assert (await get(port, "/sub/health/live")).status == 200
        async with connected(port) as client:
            await client.send("GET", "/sub/busy")
            await app.gate.begun()
        await eventually(app.is_free)
    assert app.events == ["cancelled"]


async def test_a_server_that_stops_lets_requests_finish(app: App) -> None:
    async def finish(client: Any) -> None:
        await eventually(lambda: app.workers.readiness().why == "draining")
        app.gate.open()
        assert (await client.response()).body == b"held"

    async with (
        AsyncExitStack() as after,
        anyio.create_task_group() as group,
        serving(app.web) as port,
    ):
        client = await after.enter_async_context(connected(port))
        await client.send("GET", "/hold")
        await app.gate.begun()
        group.start_soon(finish, client)


# --- client gone ---------------------------------------------------------------------------------

BOTH = pytest.mark.parametrize("handler_cancellation", [False, True], ids=["ours", "aiohttp's too"])


@BOTH
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_disconnect_frees_the_worker(
    app: App, reset: bool, handler_cancellation: bool, record_property: Any
) -> None:
    async with serving(app.web, handler_cancellation=handler_cancellation) as port:
        async with connected(port) as client:
            assert (await client.get("/plain")).body == b"5"
            await client.send("GET", "/busy")
            await app.gate.begun()
            left_at = time.perf_counter()
            await client.leave(reset=reset)
        await eventually(app.is_free, within=FREE_WITHIN)
        record_property("freed_after_ms", round(1000 * (time.perf_counter() - left_at), 1))
        assert app.events == ["cancelled"]
        assert (await get(port, "/plain")).body == b"5"
        assert app.workers.stats().cancelled == 1


@BOTH
async def test_a_handler_is_cancelled_once(app: App, handler_cancellation: bool) -> None:
    async with serving(app.web, handler_cancellation=handler_cancellation) as port:
        async with connected(port) as client:
            await client.send("GET", "/cleans_up")
            await app.gate.begun()
        await eventually(app.is_free)
    assert app.events == ["cleaned up", "cancelling 1", "cancelled"]


async def test_a_disconnect_drops_a_waiting_call(app: App) -> None:
    async with serving(app.web) as port:
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


async def test_who_stays_gets_the_answer(app: App) -> None:
    async with serving(app.web) as port, connected(port) as client:
        for _ in range(3):  # on one connection
            assert (await client.get("/plain")).body == b"5"
        body = bytes(range(256)) * 3_000
        assert (await client.ask("POST", "/upload", body)).body.decode() == work.digest(body)
        assert (await client.get("/plain")).body == b"5"
    assert app.events == []


async def test_pipelined_requests_are_dropped_with_their_connection(app: App) -> None:
    async with serving(app.web) as port:
        async with connected(port) as client:
            await client.stream.send(b"GET /busy HTTP/1.1\r\nhost: x\r\n\r\n" * 3)
            await app.gate.begun()
        await eventually(app.is_free)
        assert app.entered == 1


async def test_a_disconnect_in_the_middle_of_an_upload(app: App) -> None:
    async with serving(app.web) as port:
        async with connected(port) as client:
            await client.begin("POST", "/upload", 1000)
            await client.send_data(b"x" * 500)
            await eventually(lambda: app.entered == 1)
        await eventually(app.is_free)


@pytest.mark.parametrize("path", ["/begun", "/body", "/rows", "/streamed?count=1000000000"])
async def test_a_response_that_has_begun_is_stopped(app: App, path: str) -> None:
    async with serving(app.web) as port:
        async with connected(port) as client:
            await client.send("GET", path)
            for _ in range(2):
                await client.event()
            await eventually(lambda: app.workers.stats().running == 1)
        await eventually(app.is_free, within=FREE_WITHIN)
        assert (await get(port, "/plain")).body == b"5"


async def test_a_stream_arrives_whole(app: App) -> None:
    async with serving(app.web) as port:
        rows = (await get(port, "/streamed?count=1000")).body.split()
    assert rows == [b"%d" % number for number in range(1000)]


async def test_what_is_shielded_goes_on(app: App) -> None:
    async with serving(app.web) as port:
        async with connected(port) as client:
            await client.send("GET", "/shielded")
            await app.gate.begun()
        await eventually(lambda: app.events == ["cancelled"])
        app.gate.open()
        await eventually(lambda: app.events == ["cancelled", "shielded"])


async def test_it_can_be_left_to_aiohttp(gate: Gate) -> None:
    app = App(gate, setup_options={"cancel_on_disconnect": False})
    async with serving(app.web) as port:
        async with connected(port) as client:
            await client.send("GET", "/hold")
            await gate.begun()
        await anyio.sleep(0.2)
        assert app.workers.stats().running == 1
        gate.open()
        await eventually(app.is_free)
    assert app.events == []


async def test_many_disconnects_leave_nothing(gate: Gate) -> None:
    """Descriptors, threads and processes are looked at after every test."""
    app = App(gate, max_workers=2)
    paths = ("/busy", "/begun", "/body", "/rows", "/streamed?count=1000000000")
    async with serving(app.web) as port:
        await get(port, "/plain")
        tasks = len(asyncio.all_tasks())
        await come_and_go(port, paths, reset_each=3)
        await eventually(app.is_free)
        assert (await get(port, "/plain")).body == b"5"
        stats = app.workers.stats()
        assert (stats.waiting, stats.running, stats.died) == (0, 0, 0)
        assert stats.workers <= 3  # one may be on its way out
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks + 2, "tasks have ended")


# --- WebSockets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_websocket_uses_workers_and_is_told_of_its_end(app: App, reset: bool) -> None:
    async with serving(app.web) as port, connected(port) as client:
        connection = Socket(client)
        await connection.connect("/socket")
        for number in range(3):
            assert await connection.ask(str(number)) == str(number)
        await client.leave(reset=reset)
        await eventually(lambda: app.left == 1)
    assert app.events == ["closed True"]


async def test_an_error_in_a_websocket_ends_it(app: App) -> None:
    async with serving(app.web) as port, connected(port) as client:
        await Socket(client).connect("/socket_dead")
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await client.stream.receive()


# --- errors --------------------------------------------------------------------------------------


async def test_full_is_503_before_anything_is_pickled(gate: Gate) -> None:
    app = App(gate, max_pending=0)
    async with serving(app.web) as port, connected(port) as client:
        await client.send("GET", "/hold")
        await gate.begun()
        refused = await get(port, "/more")
        assert (refused.status, refused.headers["retry-after"]) == (503, "7")
        assert refused.body == b"all workers are busy, try again later\n"
        gate.open()
        assert (await client.response()).body == b"held"
        assert 'outcome="refused"} 1\n' in app.workers.metrics()


async def test_a_timeout_is_504(app: App) -> None:
    async with serving(app.web) as port:
        late = await get(port, "/late")
        assert (late.status, late.body) == (504, b"the work took too long\n")
        await eventually(lambda: app.workers.stats().running == 0)


async def test_a_dead_worker_is_500_and_told_in_the_log_only(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "loopworkers"):
        async with serving(app.web) as port:
            dead = await get(port, "/dead")
    assert (dead.status, dead.body) == (500, b"the work failed\n")
    (record,) = [r for r in caplog.records if r.name == "loopworkers"]
    assert "exit code 77" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[0] is WorkerDied


async def test_what_the_function_raised_is_in_the_log_only(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(app.web) as port:
        failed = await get(port, "/failing")
    assert failed.status == 500
    assert b"secret" not in failed.body
    (record,) = [r for r in caplog.records if r.name == "aiohttp.server"]
    assert record.exc_info
    assert record.exc_info[0] is ValueError


async def test_a_response_that_has_begun_is_cut_off(app: App) -> None:
    async with serving(app.web) as port, connected(port) as client:
        await client.send("GET", "/late_begun")
        await client.event()
        assert (await client.event()).data == b"begun"
        with pytest.raises((h11.RemoteProtocolError, anyio.BrokenResourceError)):
            await client.event()


async def test_middleware_around_it_may_give_errors_its_own_form(gate: Gate) -> None:
    @web.middleware
    async def in_json(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            return await handler(request)  # type: ignore[no-any-return]
        except web.HTTPException as error:
            return web.json_response({"error": error.text}, status=error.status)

    app = App(gate)
    app.web.middlewares.insert(0, in_json)
    async with serving(app.web) as port:
        late = await get(port, "/late")
    assert (late.status, late.body) == (504, b'{"error": "the work took too long\\n"}')


# --- health and metrics --------------------------------------------------------------------------


async def test_health_and_metrics(gate: Gate) -> None:
    app = App(gate, name="shop", measure_loop=True)
    async with serving(app.web) as port:
        assert (await get(port, "/health/live")).body == b"alive\n"
        await eventually(lambda: app.workers.stats().ready)
        assert (await get(port, "/health/ready")).body == b"ready\n"
        await get(port, "/plain")
        metrics = await get(port, "/metrics")
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert b'loopworkers_call_run_seconds_count{pool="shop",kind="process"} 1\n' in metrics.body
        assert b"loopworkers_loop_delay_seconds" in metrics.body
        app.workers.drain()
        not_ready = await get(port, "/health/ready")
        assert (not_ready.status, not_ready.body) == (503, b"draining\n")


async def test_routes_may_be_elsewhere(gate: Gate) -> None:
    app = App(gate, setup_options={"serve_endpoints": False})
    app.web.add_routes(routes(app.workers, live="/in/live", ready="/in/ready", metrics="/in/m"))
    async with serving(app.web) as port:
        assert (await get(port, "/in/live")).status == 200
        assert (await get(port, "/in/m")).status == 200
        assert (await get(port, "/health/live")).status == 404
        async with connected(port) as client:
            head = await client.ask("POST", "/in/live")
            assert head.status == 405

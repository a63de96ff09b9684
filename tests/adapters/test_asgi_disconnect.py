"""When the client is gone its worker is free, and nobody else notices."""

from __future__ import annotations

import logging
import time
from typing import Any

import anyio
import anyio.lowlevel
import contract_work as work
import pytest
from contract_help import Gate, eventually
from loopworkers_asgi import Workers, with_workers
from web_help import answer, body_of, come_and_go, connected, get, serving, task_count

pytestmark = pytest.mark.anyio

FREE_WITHIN = 2.0  # seconds; 0.1 is the aim, and other tests run beside this one


class App:
    """A handler for each path; a worker of its own."""

    def __init__(self, gate: Gate, **options: Any) -> None:
        self.gate = gate
        self.workers = Workers(**{"max_workers": 1, "measure_loop": False, **options})
        self.asgi = with_workers(self, self.workers)
        self.events: list[str] = []
        self.entered = self.left = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise ValueError("no lifespan here")
        self.entered += 1
        try:
            await getattr(self, scope["path"].strip("/"))(scope, receive, send)
        except anyio.get_cancelled_exc_class():
            self.events.append("cancelled")
            raise
        finally:
            self.left += 1

    async def plain(self, scope: Any, receive: Any, send: Any) -> None:
        await answer(send, str(await self.workers.run(work.echo, 5)).encode())

    async def busy(self, scope: Any, receive: Any, send: Any) -> None:
        await self.workers.run(work.busy, str(self.gate))

    async def upload(self, scope: Any, receive: Any, send: Any) -> None:
        body = await body_of(receive)
        await answer(send, (await self.workers.run(work.digest, body)).encode())

    async def begun(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await self.workers.run(work.busy, str(self.gate))

    async def streamed(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async with self.workers.stream(work.numbers, 10**9) as numbers:
            async for number in numbers:
                row = b"%d\n" % number
                await send({"type": "http.response.body", "body": row, "more_body": True})

    async def background(self, scope: Any, receive: Any, send: Any) -> None:
        await body_of(receive)
        await answer(send, b"done")
        call = self.workers.run(work.hold, str(self.gate), "ran")
        self.events.append((await receive())["type"])
        self.events.append(await call)

    async def shielded(self, scope: Any, receive: Any, send: Any) -> None:
        with anyio.CancelScope(shield=True):
            self.events.append(await self.workers.run(work.hold, str(self.gate), "shielded"))
        await anyio.lowlevel.checkpoint()
        self.events.append("not reached")

    async def kept(self, scope: Any, receive: Any, send: Any) -> None:
        """What frameworks do with the generator of a response: nobody closes it."""
        self.numbers = self.workers.stream(work.numbers, 10**9)
        await anext(self.numbers)
        self.held = self.workers.map(work.hold, [str(self.gate)])
        await anext(self.held)

    async def failing(self, scope: Any, receive: Any, send: Any) -> None:
        await self.workers.run(int, "seven")

    def is_free(self) -> bool:
        return self.workers.stats().running == 0 and self.left == self.entered


@pytest.fixture
def app(gate: Gate) -> App:
    return App(gate)


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_disconnect_frees_the_worker(
    app: App, server: str, reset: bool, record_property: Any
) -> None:
    async with serving(app.asgi, server) as port:
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
    async with serving(app.asgi, server) as port:
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
    async with serving(app.asgi, server) as port, connected(port) as client:
        for _ in range(3):  # on one connection
            assert (await client.get("/plain")).body == b"5"
        body = bytes(range(256)) * 20_000
        assert (await client.ask("POST", "/upload", body)).body.decode() == work.digest(body)
        assert (await client.get("/plain")).body == b"5"
    assert app.events == []


async def test_a_body_waits_until_it_is_read(app: App, server: str) -> None:
    """Most of it with the client, however large it is."""
    sent = 0

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await app.workers.run(work.hold, str(app.gate))
        await app.upload(scope, receive, send)

    app.slow = slow  # type: ignore[attr-defined]
    piece, pieces = bytes(1 << 16), 512
    async with serving(app.asgi, server) as port, connected(port) as client:
        await client.begin("POST", "/slow", len(piece) * pieces)
        async with anyio.create_task_group() as group:

            async def upload() -> None:
                nonlocal sent
                for _ in range(pieces):
                    await client.send_data(piece)
                    sent += 1

            group.start_soon(upload)
            await app.gate.begun()
            before = -1
            while sent != before:  # until nothing moves any more
                before = sent
                await anyio.sleep(0.3)
            assert sent < pieces * 3 // 4
            app.gate.open()
        assert (await client.response()).body.decode() == work.digest(piece * pieces)


async def test_a_disconnect_in_the_middle_of_an_upload(app: App, server: str) -> None:
    async with serving(app.asgi, server) as port:
        async with connected(port) as client:
            await client.begin("POST", "/upload", 1000)
            await client.send_data(b"x" * 500)
            await eventually(lambda: app.entered == 1)
            await client.leave()
        await eventually(app.is_free)
        assert app.events == ["cancelled"]


async def test_a_response_that_has_begun_is_stopped(app: App, server: str) -> None:
    async with serving(app.asgi, server) as port:
        async with connected(port) as client:
            await client.send("GET", "/begun")
            await client.event()
            await app.gate.begun()
            await client.leave()
        await eventually(app.is_free, within=FREE_WITHIN)
        assert app.events == ["cancelled"]


async def test_a_streamed_response_is_stopped(app: App, server: str) -> None:
    async with serving(app.asgi, server) as port:
        async with connected(port) as client:
            await client.send("GET", "/streamed")
            for _ in range(5):
                await client.event()
            assert app.workers.stats().running == 1
            await client.leave()
        await eventually(app.is_free)
        assert (await get(port, "/plain")).body == b"5"


async def test_streams_and_maps_end_though_somebody_keeps_them(gate: Gate, server: str) -> None:
    app = App(gate, max_workers=2)
    async with serving(app.asgi, server) as port:
        async with connected(port) as client:
            await client.send("GET", "/kept")
            await app.gate.begun()
            await client.leave()
        await eventually(app.is_free)
        assert [number async for number in app.held] == []


async def test_what_runs_after_the_response_goes_on(app: App, server: str) -> None:
    async with serving(app.asgi, server) as port:
        async with connected(port) as client:
            assert (await client.get("/background")).body == b"done"
            await app.gate.begun()
            await client.leave(reset=True)
        await eventually(lambda: app.events)
        app.gate.open()
        await eventually(app.is_free)
        assert app.events == ["http.disconnect", "ran"]


async def test_a_shield_holds(app: App, server: str) -> None:
    async with serving(app.asgi, server) as port:
        async with connected(port) as client:
            await client.send("GET", "/shielded")
            await app.gate.begun()
            await client.leave()
        app.gate.open()
        await eventually(app.is_free)
    assert app.events == ["shielded", "cancelled"]


async def test_what_a_handler_raises_arrives_as_it_is(
    app: App, server: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        async with serving(app.asgi, server) as port:
            assert (await get(port, "/failing")).status == 500
    told = [record.exc_info for record in caplog.records if record.exc_info]
    if server.startswith("uvicorn"):  # hypercorn logs by a logger that does not propagate
        assert [type(info[1]) for info in told] == [ValueError]  # type: ignore[index]


async def test_many_disconnects_leave_nothing(gate: Gate, server: str) -> None:
    """Descriptors, threads and processes are looked at after every test."""
    app = App(gate, max_workers=2)
    tasks = 0
    async with serving(app.asgi, server) as port:
        await get(port, "/plain")
        tasks = task_count()
        await come_and_go(port, ("/busy", "/begun", "/streamed"), reset_each=2)
        await eventually(app.is_free)
        assert (await get(port, "/plain")).body == b"5"
        stats = app.workers.stats()
        assert (stats.waiting, stats.running, stats.died) == (0, 0, 0)
        assert stats.workers <= 3  # one may be on its way out
        await eventually(lambda: task_count() <= tasks + 2, "tasks have ended")

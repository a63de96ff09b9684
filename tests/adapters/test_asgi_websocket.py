"""WebSockets of real servers, with `CancelOnDisconnect` around them."""

from __future__ import annotations

from typing import Any

import anyio
import contract_work as work
import pytest
from contract_help import Gate, eventually
from loopworkers_asgi import CancelOnDisconnect, Lifespan, Workers
from web_help import connected, serving
from web_socket import Socket
from wsproto.events import CloseConnection, TextMessage

pytestmark = pytest.mark.anyio


class App:
    def __init__(self, gate: Gate, **options: Any) -> None:
        self.gate = gate
        self.workers = Workers(max_workers=1, measure_loop=False)
        self.asgi = Lifespan(CancelOnDisconnect(self, **options), self.workers)
        self.events: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            raise ValueError("websockets only")
        try:
            await self.talk(receive, send)
        except anyio.get_cancelled_exc_class():
            self.events.append("cancelled")
            raise

    async def talk(self, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            if message["text"] == "busy":
                await self.workers.run(work.busy, str(self.gate))
            said = await self.workers.run(work.echo, message["text"])
            await send({"type": "websocket.send", "text": said})
        self.events.append(message["type"])


@pytest.mark.parametrize("attended", [False, True])
async def test_talk_and_leave(gate: Gate, server: str, attended: bool) -> None:
    app = App(gate, websockets=attended)
    async with serving(app.asgi, server) as port, connected(port) as client:
        socket = Socket(client)
        await socket.connect()
        for word in ("one", "two", "three"):
            assert await socket.ask(word) == word
        await socket.send(CloseConnection(code=1000))
        await eventually(lambda: app.events)
    assert app.events == ["websocket.disconnect"]


async def test_a_busy_handler_is_cancelled(gate: Gate, server: str) -> None:
    app = App(gate, websockets=True)
    async with serving(app.asgi, server) as port:
        async with connected(port) as client:
            socket = Socket(client)
            await socket.connect()
            await socket.send(TextMessage("busy"))
            await gate.begun()
        await eventually(lambda: app.workers.stats().running == 0)
        await eventually(lambda: app.events)
    assert app.events == ["cancelled"]

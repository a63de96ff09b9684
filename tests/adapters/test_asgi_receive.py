"""What `CancelOnDisconnect` does with the messages of a server: a server that the test plays."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest
from loopworkers_asgi import CancelOnDisconnect

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])]

GONE = {"type": "http.disconnect"}


def body(data: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


class Server:
    """Gives the application what the test puts; finds two readers at a time."""

    def __init__(self, kind: str = "http", **headers: str) -> None:
        self.scope: dict[str, Any] = {
            "type": kind,
            "method": "POST",
            "path": "/",
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        }
        self.put, self._messages = anyio.create_memory_object_stream[Any](100)
        self.sent: list[Any] = []
        self.received = 0
        self._reading = False

    async def receive(self) -> Any:
        assert not self._reading, "two readers at a time"
        self._reading = True
        try:
            message = await self._messages.receive()
        finally:
            self._reading = False
        self.received += 1
        if isinstance(message, Exception):
            raise message
        return message

    async def send(self, message: Any) -> None:
        self.sent.append(message["type"])

    async def run(self, handler: Any, **options: Any) -> None:
        with self.put, self._messages:
            await CancelOnDisconnect(handler, **options)(self.scope, self.receive, self.send)


async def test_several_readers_in_a_handler_share_the_messages() -> None:
    server, got = Server(), []

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        async def read() -> None:
            got.append(await receive())

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            for message in (body(b"1", True), body(b"2", True), body(b"3")):
                server.put.send_nowait(message)

    await server.run(handler)
    assert sorted(m["body"] for m in got) == [b"1", b"2", b"3"]


async def test_a_reader_that_is_cancelled_takes_nothing() -> None:
    """A look whether the client is still there, as Starlette's ``is_disconnected``."""
    server, got = Server(), []

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(3):
            with anyio.CancelScope() as scope:
                scope.cancel()
                got.append(await receive())
        assert got == []
        server.put.send_nowait(body(b"all"))
        got.append(await receive())

    await server.run(handler)
    assert got == [body(b"all")]


async def test_no_more_is_read_than_fits() -> None:
    server = Server()

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(10):
            server.put.send_nowait(body(b"x" * 40, True))
        server.put.send_nowait(body())
        await anyio.wait_all_tasks_blocked()
        assert server.received == 3  # that is where it has 100
        size = 0
        while (message := await receive())["more_body"]:
            size += len(message["body"])
        assert size == 400

    await server.run(handler, buffer_size=100)


async def test_nothing_is_read_that_the_client_was_not_told_to_send() -> None:
    server = Server(Expect="100-Continue")

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        server.put.send_nowait(body(b"large"))
        await anyio.wait_all_tasks_blocked()
        assert server.received == 0
        assert (await receive())["body"] == b"large"
        server.put.send_nowait(GONE)
        await anyio.sleep_forever()

    await server.run(handler)


async def test_a_failing_receive_fails_the_handler_that_reads() -> None:
    server = Server()
    server.put.send_nowait(body(b"x", True))
    server.put.send_nowait(ValueError("too large"))

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == b"x"
        await receive()

    with pytest.raises(ValueError, match="too large"):
        await server.run(handler)


async def test_a_body_that_is_repeated_for_ever_is_not() -> None:
    async def receive() -> Any:
        return body(b"again")

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        assert await receive() == body(b"again")
        await anyio.sleep(0.01)

    server = Server()
    server.receive = receive  # type: ignore[method-assign]
    await server.run(handler)


async def test_both_cancel() -> None:
    """The server's cancellation is not taken for ours, whichever comes first."""
    for client_first in (True, False):
        server, ended = Server(), []

        async def handler(scope: Any, receive: Any, send: Any, ended: Any = ended) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                ended.append("handler")

        with anyio.CancelScope() as around:
            async with anyio.create_task_group() as group:

                async def serve(server: Any = server, handler: Any = handler) -> None:
                    await server.run(handler)
                    ended.append("server went on")  # noqa: B023

                group.start_soon(serve)
                await anyio.wait_all_tasks_blocked()
                server.put.send_nowait(GONE)
                if client_first:
                    await anyio.wait_all_tasks_blocked()
                around.cancel()
        assert ended == (["handler", "server went on"] if client_first else ["handler"])


async def test_a_handler_may_cancel_itself_too() -> None:
    server, ended = Server(), []

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        async with anyio.create_task_group() as group:

            async def listen() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()

            group.start_soon(listen)
            await anyio.wait_all_tasks_blocked()
            server.put.send_nowait(GONE)
            try:
                await anyio.sleep_forever()
            finally:
                ended.append("handler")

    await server.run(handler)
    assert ended == ["handler"]


async def test_a_shielded_handler_is_told() -> None:
    server, told = Server(), []

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        with anyio.CancelScope(shield=True):
            server.put.send_nowait(body(b"rest"))
            server.put.send_nowait(GONE)
            await anyio.wait_all_tasks_blocked()
            told.extend([(await receive())["type"] for _ in range(3)])
        await anyio.lowlevel.checkpoint()
        told.append("not reached")

    await server.run(handler)
    assert told == ["http.request", "http.disconnect", "http.disconnect"]


@pytest.mark.parametrize(
    "response",
    [
        [{"type": "http.response.start"}, {"type": "http.response.body"}],
        [{"type": "http.response.start"}, {"type": "http.response.pathsend", "path": "/x"}],
        [
            {"type": "http.response.start", "trailers": True},
            {"type": "http.response.body"},
            {"type": "http.response.trailers"},
        ],
    ],
    ids=["body", "pathsend", "trailers"],
)
async def test_a_response_is_complete_at_its_last_message(response: list[Any]) -> None:
    for sent in range(len(response) + 1):
        server, ended = Server(), []

        async def handler(
            scope: Any, receive: Any, send: Any, sent: int = sent, ended: Any = ended
        ) -> None:
            for message in response[:sent]:
                await send(message)
            server.put.send_nowait(GONE)  # noqa: B023
            await anyio.wait_all_tasks_blocked()
            await anyio.lowlevel.checkpoint()
            ended.append("after the response")

        await server.run(handler)
        assert bool(ended) is (sent == len(response))


async def test_a_group_or_a_wrapped_error_is_not_made_of_an_error() -> None:
    async def handler(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        await Server().run(handler)


# --- websockets -----------------------------------------------------------------------------------


async def test_websockets_are_passed_through() -> None:
    server, given = Server("websocket"), []

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        given.extend([receive, send])

    await server.run(handler)
    assert given == [server.receive, server.send]


async def test_a_websocket_handler_that_listens_is_told() -> None:
    server, told = Server("websocket"), []

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        told.append((await receive())["type"])
        await anyio.wait_all_tasks_blocked()
        server.put.send_nowait({"type": "websocket.disconnect", "code": 1001})
        told.append((await receive())["code"])
        await anyio.lowlevel.checkpoint()
        told.append("cleaned up")

    server.put.send_nowait({"type": "websocket.connect"})
    await server.run(handler, websockets=True)
    assert told == ["websocket.connect", 1001, "cleaned up"]


async def test_a_websocket_handler_that_is_busy_is_cancelled() -> None:
    server, ended = Server("websocket"), []

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        server.put.send_nowait({"type": "websocket.disconnect", "code": 1001})
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("cancelled")

    await server.run(handler, websockets=True)
    assert ended == ["cancelled"]

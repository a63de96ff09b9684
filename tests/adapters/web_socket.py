"""A client of WebSockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import wsproto
from wsproto.events import AcceptConnection, Request, TextMessage

if TYPE_CHECKING:
    from web_help import Client


class Socket:
    def __init__(self, client: Client) -> None:
        self._stream = client.stream
        self._protocol = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)

    async def send(self, event: Any) -> None:
        await self._stream.send(self._protocol.send(event))

    async def event(self) -> Any:
        while (event := next(iter(self._protocol.events()), None)) is None:
            self._protocol.receive_data(await self._stream.receive())
        return event

    async def connect(self, path: str = "/") -> None:
        await self.send(Request(host="localhost", target=path))
        assert isinstance(await self.event(), AcceptConnection)

    async def ask(self, text: str) -> str:
        await self.send(TextMessage(text))
        event = await self.event()
        assert isinstance(event, TextMessage), event
        return event.data

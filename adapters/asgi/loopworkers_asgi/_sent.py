"""How far an application is with its response."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._types import Message


class Sent:
    """Is told of every message that the application sends."""

    def __init__(self) -> None:
        self.is_complete = False  # nothing more will come
        self._has_trailers = False

    def note(self, message: Message) -> None:
        self.is_complete = self.is_complete or self._completes(message)

    def _completes(self, message: Message) -> bool:
        kind: str = message["type"]
        if kind == "http.response.start":
            self._has_trailers = message.get("trailers", False)
            return False
        if kind in ("http.response.body", "http.response.zerocopysend"):
            return not message.get("more_body", False) and not self._has_trailers
        if kind == "http.response.pathsend":
            return not self._has_trailers
        if kind == "http.response.trailers":
            return not message.get("more_trailers", False)
        return kind == "websocket.close"

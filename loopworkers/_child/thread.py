"""A worker thread: the same loop, with objects passed by reference instead of bytes."""

from __future__ import annotations

from _contextvars import Context

from .._wire.frames import ERROR, EXITING, ITEM, PACKET_MAX, RESULT, SETUP_FAILED, Frame
from .link import Link, Torn
from .serve import serve
from .setup import Setup

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections import deque
    from typing import Any

    from .link import Call


class ThreadLink(Link):
    """Calls lie in ``handed`` by id; answers are put into ``answers`` before their frame."""

    def __init__(
        self,
        calls: _socket.socket,
        replies: _socket.socket,
        handed: dict[int, Any],
        answers: deque[Any],
        settings: dict[str, Any],
    ) -> None:
        super().__init__(calls, replies)
        # A thread that looks instead of sleeping would take the GIL from the loop.
        self._wait = lambda: calls.recv(PACKET_MAX)
        self._handed = handed
        self._answers = answers
        self._settings = settings

    def settings(self, frame: Frame) -> dict[str, Any]:
        return self._settings

    def call(self, frame: Frame) -> Call:
        function, args, kwargs, context = self._handed.pop(frame.id)
        assert isinstance(context, Context)
        return function, args, kwargs, context

    def send_value(self, kind: int, id: int, value: Any, extra: int, call_flags: int) -> None:
        self._answers.append(value)
        self.send(kind, id, b"", 0, extra)

    def send_failure(self, kind: int, id: int, error: BaseException, extra: int = 0) -> None:
        self._answers.append(error)
        self.send(kind, id, b"", 0, extra)


HAS_ANSWER = frozenset((RESULT, ERROR, ITEM, SETUP_FAILED, EXITING))


def run(
    calls: _socket.socket,
    replies: _socket.socket,
    handed: dict[int, Any],
    answers: deque[Any],
    settings: dict[str, Any],
) -> None:
    """Be a worker in this thread until told to leave, or until the loop's ends are closed."""
    try:
        link = ThreadLink(calls, replies, handed, answers, settings)
        serve(link, Setup(own_folder=False, own_streams=False))
    except (OSError, Torn):
        pass  # written off: nobody listens any more
    finally:
        calls.close()
        replies.close()

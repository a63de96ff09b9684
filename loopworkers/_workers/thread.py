"""A worker that is a thread: for code that releases the GIL, and free-threaded builds.

A thread cannot be stopped. When it would have to be, it is abandoned: its call is given up
at once, it runs to its end unheard, and a new thread takes its place.
"""

from __future__ import annotations

import _thread
import logging
from collections import deque
from threading import Thread
from typing import TYPE_CHECKING, Any

from .._child.thread import HAS_ANSWER, run
from .._wire.frames import CALL, Frame, ProtocolError, pack
from .base import Exit, Worker, thread_clock
from .sender import Sender

if TYPE_CHECKING:
    from .channel import Channel
    from .settings import Settings

_logger = logging.getLogger("loopworkers")


class _HandingSender(Sender):
    """Puts calls where the thread finds them by id; nothing is pickled."""

    def __init__(self, channel: Channel, settings: Settings, handed: dict[int, Any]) -> None:
        super().__init__(channel, None, settings)
        self._handed = handed

    def send_call(self, call: Any, flags: int, extra: int, *, alone: bool) -> None:
        self._handed[call.id] = call.body
        packet = pack(CALL, call.id, flags=flags, extra=extra)
        if alone:
            self._channel.send(packet)
        else:
            self._channel.post(packet)


class ThreadWorker(Worker):
    kind = "thread"
    uses_slab = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._handed: dict[int, Any] = {}
        self._answers: deque[Any] = deque()
        super().__init__(*args, **kwargs)

    def _make_sender(self) -> Sender:
        return _HandingSender(self._channel, self.settings, self._handed)

    def start(self) -> None:
        self._thread = Thread(
            target=run,
            args=(
                self._channel.calls,
                self._channel.replies,
                self._handed,
                self._answers,
                {"depth": 0, **self.settings.for_thread()},
            ),
            name=f"loopworkers thread {self.id}",
            daemon=may_be_daemon(),
        )
        self._thread.start()

    def _reclaim(self, call: Any) -> Any:
        self._handed.pop(call.id, None)
        return super()._reclaim(call)

    def _body(self, frame: Frame) -> Any:
        return self._answers.popleft() if frame.kind in HAS_ANSWER else frame.payload

    def value(self, frame: Frame, body: Any) -> Any:
        return body

    def failure(self, body: Any) -> Exception:
        from .._wire.failures import raisable

        return raisable(body, skip_frames=2)

    def _on_end(self, error: ProtocolError | None) -> None:
        self._thread.join(1.0)  # closing its ends was its last act
        self._end(self.exit_request or Exit(code=0))

    def stop(self) -> None:
        if self.gone:
            return
        names = ", ".join(call.name for call in self.calls.values()) or "nothing"
        _logger.warning(
            "a thread cannot be stopped: the one that runs %s goes on unheard to its end; "
            'use kind="process" for calls that may have to be stopped',
            names,
        )
        self.leaving = True
        self._end(Exit(stuck=True))

    def cpu_clock(self) -> int | None:
        return thread_clock(self._thread.native_id)

    def kill_now(self) -> None:
        self.gone = True
        # The thread's own ends are left to it: it may be about to use them.
        self._channel.abandon()


def may_be_daemon() -> bool:
    """Not in an isolate, which waits for its threads, or stops them when it is stopped."""
    ask = getattr(_thread, "daemon_threads_allowed", None)  # from Python 3.12
    return ask is None or ask()

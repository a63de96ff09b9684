"""A worker that is a subinterpreter with its own GIL, on a thread of this process.

Needs CPython 3.14. It starts in a few milliseconds and borrows this process's memory, but
shares its fate: C code that crashes takes everything down, and C code that never returns
cannot be stopped, only written off.
"""

# Only loaded where isolates are, on 3.14 and newer; checkers read it for 3.11 as well.
# mypy: disable-error-code="attr-defined,import-not-found,unused-ignore,call-arg"
# pyright: reportAttributeAccessIssue=false, reportMissingImports=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportCallIssue=false

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Any

import _interpqueues

from .._child.stop import HARD, SOFT
from .._wire.frames import CALL, LENT, ProtocolError, pack
from ..errors import WorkerStuck
from . import exit_guard, isolate_host
from .base import Exit, Worker, thread_clock
from .sender import Sender

if TYPE_CHECKING:
    from .._wire.slab import Slab
    from .._wire.values import Encoded
    from .channel import Channel
    from .settings import Settings

_logger = logging.getLogger("loopworkers")

# Stage 1 lets `finally` blocks run; how long before stage 2 stops those as well.
_SOFT_GRACE = 0.1
# Stage 2 takes effect at the next bytecode; what has not stopped then sits in C code or in a
# system call, and one second is beyond any that is about to return.
_HARD_GRACE = 1.0
# What has stopped tidies up: its own isolates need a second, its forkserver two if it is starting.
_TIDY_GRACE = 5.0

_BOOT = "run({calls}, {replies}, {control}, {slab}, {queue})"


class _LendingSender(Sender):
    """Lends large payloads through a queue: the isolate's views keep our objects alive."""

    def __init__(self, channel: Channel, slab: Slab | None, settings: Settings, queue: int) -> None:
        super().__init__(channel, slab, settings)
        self._queue = queue

    def send_large(self, call: Any, body: Encoded, flags: int, extra: int, *, alone: bool) -> bytes:
        body.freeze()
        views = tuple(memoryview(chunk).cast("B") for chunk in body.chunks)
        # The stubs describe an older, private signature.
        _interpqueues.put(self._queue, views)  # type: ignore[call-arg]
        self.torn_by = call.id  # the queue and the socket must not get out of step
        return pack(CALL, call.id, b"", flags | LENT, extra)


class IsolateWorker(Worker):
    kind = "isolate"

    _stopping = False
    _timer: Any = None
    _queue: int
    _why: str | None = None

    @classmethod
    def prepare(cls, settings: Settings) -> None:
        exit_guard.install()
        if settings.identity is not None:
            isolate_host.acquire()

    @classmethod
    def release(cls, settings: Settings) -> None:
        if settings.identity is not None:
            isolate_host.release()

    def _make_sender(self) -> Sender:
        self._queue = _interpqueues.create(0, 1, 1)
        return _LendingSender(self._channel, self._slab, self.settings, self._queue)

    def start(self) -> None:
        self._control, self._hosts = socket.socketpair()
        self._control.setblocking(False)
        boot = _BOOT.format(
            calls=self._channel.calls.fileno(),
            replies=self._channel.replies.fileno(),
            control=self._hosts.fileno(),
            slab=self._slab.fd if self._slab is not None else None,
            queue=self._queue,
        )
        alone = self.settings.identity is None
        try:
            with exit_guard.starting(self):
                self._host = isolate_host.Host([]) if alone else isolate_host.take()
                self._host.work(boot, self._at_host_end)
        except RuntimeError:  # also when the system has no thread left
            self._control.close()
            self._hosts.close()
            raise
        self.loop.add_reader(self._control.fileno(), self._on_host_end)

    def discard(self) -> None:
        super().discard()
        self._destroy_queue()

    def _at_host_end(self, why: str | None) -> None:
        if not self._stopping:
            self._why = why
        self._channel.close_worker_ends()
        self._hosts.shutdown(socket.SHUT_RDWR)  # tells the loop
        self._hosts.close()

    # --- on the loop -------------------------------------------------------------------------

    def _on_ready(self) -> None:
        super()._on_ready()
        if self.settings.identity is not None:
            isolate_host.refill(is_async=self.settings.identity.is_async)

    def _on_host_end(self) -> None:
        try:
            if self._control.recv(1):
                self._on_unwound()
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        failed = self._why is not None
        self._finish(self.exit_request or Exit(code=None if failed else 0, reason=self._why))

    def _on_end(self, error: ProtocolError | None) -> None:
        if error is not None:
            self._why = f"sent what is no message ({error})"
            self.stop()
        # Otherwise the host thread is on its way to its end, and says so there.

    def stop(self) -> None:
        if self._stopping or self.gone:
            return
        self._stopping = True
        self.leaving = True
        self._order(SOFT)
        # What stops is answered for as a failed call; back in its loop it must not wait for more,
        # because no order reaches it there.
        self._channel.end_calls()
        self._timer = self.loop.call_later(_SOFT_GRACE, self._stop_hard)

    def _stop_hard(self) -> None:
        self._order(HARD)
        self._timer = self.loop.call_later(_HARD_GRACE, self._write_off)

    def _on_unwound(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self.loop.call_later(_TIDY_GRACE, self._write_off)

    def _order(self, order: bytes) -> None:
        try:
            self._control.send(order)
        except OSError:
            pass  # it has just ended

    def _write_off(self) -> None:
        names = ", ".join(call.name for call in self.calls.values()) or "a call that was cancelled"
        _logger.error(
            "%s", WorkerStuck(f"the isolate that ran {names} did not stop and was written off")
        )
        exit_guard.written_off()
        self._finish(Exit(stuck=True))

    def _finish(self, exit: Exit) -> None:
        if self.gone:
            return
        if self._timer is not None:
            self._timer.cancel()
        self.loop.remove_reader(self._control.fileno())
        self._control.close()
        if not exit.stuck:
            self.wait_finished(1.0)  # it has told that it ends, and closes its last descriptor
            exit_guard.discard(self)
            self._destroy_queue()
        self._end(exit)

    def _destroy_queue(self) -> None:
        try:
            _interpqueues.destroy(self._queue)
        except _interpqueues.QueueNotFoundError:
            pass  # its loop, in a daemon thread, has come before the end of the program

    def cpu_clock(self) -> int | None:
        return thread_clock(self._host.native_id)

    # --- without the loop --------------------------------------------------------------------

    def order_stop(self, hard: bool) -> None:
        self._stopping = True
        self._order(HARD if hard else SOFT)
        self._channel.end_calls()  # as in stop()

    def wait_finished(self, timeout: float) -> bool:
        return self._host.wait_ended(timeout)

    def kill_now(self) -> None:
        self.gone = True
        if exit_guard.stop_all([self]):
            exit_guard.discard(self)
            self.let_go()

    def let_go(self) -> None:
        """What the loop would have done at the end."""
        self._destroy_queue()
        self._control.close()
        self._channel.abandon()
        if self._slab is not None:
            self._slab.close()

"""A worker that is a process of its own: can always be stopped, and takes nothing down."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from .._child.forkserver import ENDED, KILL, REPORT, STARTED, TERMINATE
from . import forkserver, spawn
from .base import Exit, Worker

if TYPE_CHECKING:
    import socket

    from .._wire.frames import ProtocolError
    from .settings import Settings

starter = forkserver if hasattr(os, "fork") else spawn

# How long a worker that handles SIGTERM itself may take before it is killed.
_TERMINATION_GRACE = 0.5


class ProcessWorker(Worker):
    kind = "process"
    pid: int | None = None

    _control: socket.socket | None = None
    _error: ProtocolError | None = None
    _stopping = False
    _timer: Any = None

    @classmethod
    def prepare(cls, settings: Settings) -> None:
        starter.acquire(settings.preload)

    @classmethod
    def release(cls, settings: Settings) -> None:
        starter.release(settings.preload)

    def start(self) -> None:
        try:
            self._control = starter.start_worker(
                self.settings.preload,
                self._channel.calls,
                self._channel.replies,
                self._slab.fd if self._slab is not None else None,
                self.settings.identity,
            )
        finally:
            self._channel.close_worker_ends()
        self._control.setblocking(False)
        self.loop.add_reader(self._control.fileno(), self._on_control)

    def stop(self) -> None:
        if self._stopping or self.gone:
            return
        self._stopping = True
        self.leaving = True
        self._order(TERMINATE)
        self._timer = self.loop.call_later(_TERMINATION_GRACE, self._kill)

    def _kill(self) -> None:
        self._order(KILL)

    def _order(self, number: int) -> None:
        # Sent by its parent, the forkserver: only that can know that the id is still its.
        if self._control is not None:
            try:
                self._control.send(bytes((number,)))
            except OSError:
                pass  # the forkserver is gone; `_on_control` sees it

    def kill_now(self) -> None:
        if self._control is not None:
            self._order(KILL)  # a fork of this program may hold a copy of the socket open
            self._control.close()
            self._control = None
        self._channel.abandon()
        if self._slab is not None:
            self._slab.close()
        self.gone = True

    def cpu_clock(self) -> int | None:
        return None if self.pid is None or sys.platform != "linux" else (~self.pid << 3) | 2

    def _on_control(self) -> None:
        if self._control is None:
            return
        try:
            data = self._control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._on_lost_forkserver()
        for what, value in REPORT.iter_unpack(data):
            if what == STARTED:
                self.pid = value
            elif what == ENDED:
                self._finish(_exit_of(value))

    def _on_end(self, error: ProtocolError | None) -> None:
        # The forkserver's report, with the exit status, follows; a worker that lives on without
        # its channel, or sends garbage on it, is of no use and ended.
        self._error = error
        self._order(KILL)

    def _on_lost_forkserver(self) -> None:
        # Somebody killed the forkserver. Its workers have a new parent that will reap them; this
        # one is ended by hand, while its open channel proves that the id is still its own.
        if self.pid is not None:
            try:
                os.kill(self.pid, KILL)
            except ProcessLookupError:
                pass
        self._finish(Exit(reason="lost the forkserver that looked after it"))

    def _finish(self, exit: Exit) -> None:
        if self._control is not None:
            self.loop.remove_reader(self._control.fileno())
            self._control.close()
            self._control = None
            if self._timer is not None:
                self._timer.cancel()
            if self._error is not None:
                exit = Exit(reason=f"sent what is no message ({self._error})")
            self._end(exit)


def _exit_of(status: int) -> Exit:
    number = status & 0x7F  # os.WTERMSIG(), which Windows does not have
    return Exit(signal=number) if number else Exit(code=status >> 8)

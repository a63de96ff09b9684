"""A small process with one thread that forks workers, reports their ends, and kills them.

Forking it takes a millisecond where starting Python takes twenty, and what it has imported
every worker has. It is the parent of all workers, so it alone may wait for them and signal
them without a race on their process ids. When its own parent is gone, by whatever end, it
kills all workers, busy or not, and leaves.

Each worker has a control socket between this process and the loop: out go the worker's
process id and, when it has ended, its wait status; in come signal numbers to send to it. Its
end of file means that nobody wants the worker any more.
"""

from __future__ import annotations

import _socket
import gc
import os
import resource
import select
import signal
from _pickle import loads
from _struct import Struct

from .process import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REPORT = Struct("<iq")
STARTED, ENDED = 1, 2
# The orders are signal numbers; by value, since Windows has no SIGKILL to name.
TERMINATE, KILL = 15, 9
REQUEST = Struct("<I")
_DESCRIPTORS = 6

# Loaded while there is nothing else to do, for the workers to come.
_LOAD_WHEN_IDLE = ["cloudpickle", "asyncio", "traceback", "loopworkers._wire.failures"]
_IDLE_MS = 100
_STARTS_BUSY = 8


def main(requests_fd: int, preload: list[str]) -> None:
    for module in preload:
        try:
            __import__(module)
        except Exception:  # the worker's own attempt fails and tells the caller
            pass
    gc.collect()
    gc.freeze()  # collections in the workers then leave these pages shared
    server = _ForkServer(_socket.socket(fileno=requests_fd))
    server.run()
    os._exit(0)  # what was preloaded has nothing to tear down here


def _wake(number: int, frame: Any) -> None:
    """SIGCHLD must have a handler to be written to the wake-up descriptor."""


class _ForkServer:
    def __init__(self, requests: _socket.socket) -> None:
        self._requests = requests
        self._workers: dict[int, tuple[_socket.socket, int]] = {}  # by control descriptor
        self._started = 0
        # It holds a descriptor for each worker: a low limit, meant for the program and given
        # back to its workers, must not end the forkserver and them with it.
        self._limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._limit[1], self._limit[1]))
        self._poll = select.poll()
        self._child_ended, self._wakeup = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(self._child_ended, False)
        signal.signal(signal.SIGCHLD, _wake)
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        self._poll.register(requests.fileno(), select.POLLIN)
        self._poll.register(self._child_ended, select.POLLIN)

    def run(self) -> None:
        to_load = list(_LOAD_WHEN_IDLE)
        while True:
            ready = self._poll.poll(_IDLE_MS if to_load else None)
            # A server that is kept busy by workers that die needs the head start the most.
            if to_load and (not ready or self._started % _STARTS_BUSY == _STARTS_BUSY - 1):
                self._load(to_load.pop())
            for fd, _ in ready:
                if fd == self._requests.fileno():
                    if not self._start_worker():
                        self._kill_all()
                        return
                elif fd == self._child_ended:
                    self._reap()
                elif fd in self._workers:
                    self._obey(fd)

    def _load(self, module: str) -> None:
        try:
            __import__(module)
        except Exception:  # only a head start: who needs it will see the error
            pass
        gc.freeze()

    # --- starting ------------------------------------------------------------------------

    def _start_worker(self) -> bool:
        received = self._receive_request()
        if received is None:
            return False
        environ, (calls, replies, control, slab, stdout, stderr) = received
        try:
            pid = os.fork()
        except OSError:  # no room for another process now
            pid = -1
        if pid == 0:
            self._leave_server(control)
            if environ is not None:
                os.environ.clear()
                os.environ.update(environ)
            for fd, standard in ((stdout, 1), (stderr, 2)):
                os.dup2(fd, standard)
                os.close(fd)
            calls_end, replies_end = (_socket.socket(fileno=fd) for fd in (calls, replies))
            run(calls_end, replies_end, slab if slab >= 0 else None)
        for fd in (calls, replies, slab, stdout, stderr):
            if fd >= 0:
                os.close(fd)
        socket = _socket.socket(fileno=control)
        if pid < 0:
            self._report(socket, ENDED, 1 << 8)
            socket.close()
            return True
        self._workers[control] = (socket, pid)
        self._started += 1
        self._poll.register(control, select.POLLIN)
        self._report(socket, STARTED, pid)
        return True

    def _receive_request(self) -> tuple[dict[str, str] | None, list[int]] | None:
        size_of_rights = _DESCRIPTORS * 4
        head, ancillary, _, _ = self._requests.recvmsg(
            REQUEST.size, _socket.CMSG_SPACE(size_of_rights)
        )
        if not head:
            return None
        while len(head) < REQUEST.size:
            head += self._requests.recv(REQUEST.size - len(head))
        (size,) = REQUEST.unpack(head)
        body = bytearray()
        while len(body) < size:
            piece = self._requests.recv(size - len(body))
            if not piece:
                return None
            body += piece
        fds = list(Struct(f"{len(ancillary[0][2]) // 4}i").unpack(ancillary[0][2]))
        environ, has_slab = loads(body)
        if not has_slab:
            fds.insert(3, -1)
        return environ, fds

    def _leave_server(self, control: int) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limit)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(control)
        os.close(self._child_ended)
        os.close(self._wakeup)
        self._requests.close()
        for socket, _ in self._workers.values():
            socket.close()
        self._workers.clear()

    # --- ending --------------------------------------------------------------------------

    def _obey(self, fd: int) -> None:
        socket, pid = self._workers[fd]
        try:
            orders = socket.recv(16)
        except OSError:
            orders = b""
        if not orders:
            self._poll.unregister(fd)
            del self._workers[fd]
            socket.close()
            orders = bytes((KILL,))
        for number in orders:
            # Not reaped yet, or it would not be in the table: the id is still this worker's.
            os.kill(pid, number)

    def _reap(self) -> None:
        try:
            while os.read(self._child_ended, 4096):
                pass
        except BlockingIOError:  # the pipe is empty
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for fd, (socket, worker) in list(self._workers.items()):
                if worker == pid:
                    self._poll.unregister(fd)
                    del self._workers[fd]
                    self._report(socket, ENDED, status)
                    socket.close()

    def _kill_all(self) -> None:
        for _, pid in self._workers.values():
            os.kill(pid, signal.SIGKILL)

    def _report(self, socket: _socket.socket, what: int, value: int) -> None:
        try:
            socket.send(REPORT.pack(what, value))
        except OSError:
            pass  # nobody wants to know any more; poll will say so

"""The worker's side of a `Cluster`: what its function is given, and how it is run."""

from __future__ import annotations

import threading
from inspect import isawaitable

from .._child.resident import current_worker
from .._loop import is_running
from .listeners import CountedListener, HandedListener

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from typing import Any

    from .._ports.port import MessagePort
    from .ledger import Ledger


# Of the loop, until asyncio has made known to its server what that has accepted: two tasks, one
# after the other, and some more for those that other servers put in between.
_TURNS = 8


class Stopping:
    """Set when the worker is to finish: close its listeners, end what is under way, return."""

    def __init__(self, listeners: Sequence[socket.socket]) -> None:
        self._listeners = [each for each in listeners if isinstance(each, CountedListener)]
        self._event = threading.Event()
        self._wakers: set[Callable[[], None]] = set()
        self._lock = threading.Lock()

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> Any:
        """Wait until it is set: awaited where an event loop runs, blocking elsewhere.

        Returns whether it is set; False when ``timeout`` seconds have passed before.
        """
        if is_running():
            return self._wait_on_loop(timeout)
        return self._event.wait(timeout)

    async def _wait_on_loop(self, timeout: float | None) -> bool:
        import anyio.lowlevel

        from .._loop import current

        loop, signal = current(), anyio.Event()

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(signal.set)
            except RuntimeError:
                pass  # that loop has ended

        with self._lock:
            self._wakers.add(wake)
            if self._event.is_set():
                signal.set()
        try:
            with anyio.move_on_after(timeout):
                await signal.wait()
        finally:
            self._wakers.discard(wake)
        if not self._event.is_set():
            return False
        for _ in range(_TURNS):
            await anyio.lowlevel.checkpoint()
        return True

    def _set(self) -> None:
        for listener in self._listeners:
            listener.is_over = True
        with self._lock:
            self._event.set()
            for wake in list(self._wakers):
                wake()


class Member:
    """What the function of a `Cluster` is given.

    Attributes:
        id: the worker's number, as `ClusterWorker.id`.
        kind: "process" or "isolate".
        listeners: the cluster's listening sockets, in the order of ``listen``. They are for
            ``asyncio.start_server(..., sock=...)``, uvicorn and hypercorn, and look the same
            whatever the policy; `trio_listeners` are for trio.
        port: messages from and to the primary's `ClusterWorker`.
        stopping: set when the worker is to finish; see `Stopping`.
    """

    def __init__(
        self,
        id: int,
        kind: str,
        listeners: list[socket.socket],
        port: MessagePort,
        control: MessagePort,
        ledger: Ledger,
    ) -> None:
        self.id = id
        self.kind = kind
        self.listeners = listeners
        self.port = port
        self.stopping = Stopping(listeners)
        self._control = control
        self._ledger = ledger
        self._loop: Any = None
        self._closed: Any = None
        for each in listeners:
            if isinstance(each, CountedListener):
                each.count_in(ledger, self._on_closed)

    def __repr__(self) -> str:
        return f"<Member {self.id}, {self.kind}>"

    def ready(self) -> Any:
        """Tell the primary that this worker serves: connections are handed to it from now on.

        Awaited where an event loop runs.
        """
        if is_running():
            return self._ready_on_loop()
        self._tell("ready")
        return None

    async def _ready_on_loop(self) -> None:
        import anyio.lowlevel

        from .._loop import current

        self._loop = current()
        # Loads what `Stopping.wait` needs: it would hold up the first connections for that long.
        await anyio.lowlevel.checkpoint()
        self._tell("ready")

    def served(self, requests: int = 1) -> None:
        """Count requests for ``recycle``; where none are counted, connections are."""
        self._ledger.count(requests)

    @property
    def connections(self) -> int:
        """Those that its listeners have accepted and that are open."""
        return self._ledger.open

    async def drained(self) -> None:
        """Return when none of the `connections` is open.

        To be awaited after the listeners were closed: what they had just accepted counts, which
        the server may not know of yet.
        """
        import anyio

        while self._ledger.open:
            self._closed = anyio.Event()
            await self._closed.wait()

    def _on_closed(self) -> None:
        # By whoever drops the last reference, which is the loop's thread where it matters.
        if self._closed is not None:
            self._closed.set()

    def trio_listeners(self) -> list[Any]:
        """The listeners as `trio.abc.Listener`, for ``trio.serve_listeners``."""
        from .trio_listener import listener_for

        return [listener_for(each) for each in self.listeners]

    # --- the thread that hears the primary -------------------------------------------------

    def _tell(self, *what: Any) -> None:
        self._control._send_now(what, ())

    def _hear(self) -> None:
        for what in self._control:
            if what == "drain":
                self.stopping._set()
            elif what == "ping":
                self._answer_ping()
            elif what == "stacks":
                _write_stacks()
                self._tell("stacks")
        # The primary is gone, or has done with this worker.
        self.stopping._set()

    def _answer_ping(self) -> None:
        """By the loop: it is its delay that is asked for."""
        if self._loop is None:
            self._pong()
            return
        try:
            self._loop.call_soon_threadsafe(self._pong)
        except RuntimeError:
            pass  # it has ended, and so will the worker

    def _pong(self) -> None:
        from ..errors import PortClosed

        try:
            self._tell("pong")
        except PortClosed:
            pass


def _write_stacks() -> None:
    """Not by faulthandler, which isolates cannot load."""
    import sys
    import traceback

    names = {thread.ident: thread.name for thread in threading.enumerate()}
    try:
        for id, frame in sys._current_frames().items():
            if id != threading.get_ident():
                print(f"Thread {names.get(id, id)} (oldest call first):", file=sys.stderr)
                traceback.print_stack(frame, file=sys.stderr)
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        pass  # closed


def _listener(what: Any) -> socket.socket:
    """From what the primary has sent: a socket, or the end of a hand-over."""
    import socket

    if not isinstance(what, socket.socket):
        return HandedListener(what)
    if what.type != socket.SOCK_STREAM:
        return what
    return CountedListener(what.family, what.type, what.proto, what.detach())


def run(
    port: MessagePort,
    target: Callable[..., Any],
    args: tuple[Any, ...],
    backend: str,
    listeners: list[Any],
    control: MessagePort,
    ledger: Ledger,
) -> None:
    """The function of the `Worker` behind a cluster's worker."""
    worker = current_worker()
    assert worker is not None
    sockets = [_listener(each) for each in listeners]
    member = Member(worker.id, worker.kind, sockets, port, control, ledger)
    # Not a daemon: isolates have none. It ends with the port, or as the isolate is stopped.
    hearing = threading.Thread(target=member._hear, name="loopworkers control")
    hearing.start()
    try:
        result = target(member, *args)
        if isawaitable(result):
            from .running import run_on

            run_on(backend, result)
    finally:
        # Closing is what ends the thread, and an isolate waits for its threads.
        control.close()
        hearing.join()
        for each in sockets:
            each.close()

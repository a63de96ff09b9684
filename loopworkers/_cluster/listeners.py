"""The listening sockets of a worker: what asyncio, uvicorn and hypercorn call ``accept`` on."""

from __future__ import annotations

import select
import socket
from errno import EAGAIN
from functools import partial
from weakref import ref

from .._wire.values import _reduce_socket, travellers
from .handover import PACKETS, receive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .ledger import Ledger


def arrivals(listener: socket.socket) -> Callable[[], object]:
    """Something to ask whether a connection waits there.

    ``accept`` makes a socket before it looks for what to put into it. To learn from it that there
    is nothing, as servers do after each connection, takes five times as long as asking.
    """
    poll = select.poll()
    poll.register(listener.fileno(), select.POLLIN)
    return partial(poll.poll, 0)


class Connection(socket.socket):
    """Tells when it is closed, where the end of the object would tell late.

    The transports of asyncio up to 3.11 are part of a cycle, and keep it until the garbage is
    collected.
    """

    listener: CountedListener | None = None  # None of a `dup()`

    def _real_close(self) -> None:
        super()._real_close()  # type: ignore[misc]
        self._tell()

    def detach(self) -> int:
        fd = super().detach()
        self._tell()
        return fd

    def _tell(self) -> None:
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.closed(self)


travellers[Connection] = _reduce_socket  # inside messages it is a socket like others


class CountedListener(socket.socket):
    """A listening socket that counts what it has accepted in the worker's ledger.

    Attributes:
        on_closed: called whenever a connection has been closed.
        is_over: set when the worker is to finish. asyncio loses a connection that it accepts in
            the turn of the loop in which the server is closed, so none is accepted before that.
        connection_class: of what it accepts.
    """

    is_over = False
    connection_class: type[socket.socket] = Connection

    _ledger: Ledger
    _open: set[ref[socket.socket]]
    _arrived: Callable[[], object]
    on_closed: Callable[[], None]

    def count_in(self, ledger: Ledger, on_closed: Callable[[], None]) -> None:
        self._ledger = ledger
        self._open = set()
        self._arrived = self._make_arrived()
        self.on_closed = on_closed

    def _make_arrived(self) -> Callable[[], object]:
        return arrivals(self)

    def accept(self) -> tuple[socket.socket, Any]:
        if self.is_over or self._ledger.over:
            self._refuse()
        if self.gettimeout() == 0 and not self._arrived():
            raise BlockingIOError(EAGAIN, "no connection waits here")
        unknown_to_typeshed: Any = self
        fd, peer = unknown_to_typeshed._accept()
        connection = self.connection_class(self.family, self.type, self.proto, fd)
        if socket.getdefaulttimeout() is None and self.gettimeout():
            connection.setblocking(True)
        self._count(connection)
        return connection, peer

    def _refuse(self) -> None:
        if self._ledger.over or self.gettimeout() == 0:
            raise BlockingIOError(EAGAIN, "this worker accepts no more connections")

    def _count(self, connection: socket.socket) -> None:
        self._ledger.took()
        # Counted as closed when the object goes, at the latest: servers drop it when they close it.
        self._open.add(ref(connection, self._gone))
        if isinstance(connection, Connection):
            connection.listener = self

    def closed(self, connection: socket.socket) -> None:
        """For servers that keep a closed one: it counts now, whoever still refers to it."""
        if (found := ref(connection)) in self._open:
            self._gone(found)

    def _gone(self, connection: ref[socket.socket]) -> None:
        self._open.discard(connection)
        self._ledger.closed()
        self.on_closed()


class HandedListener(CountedListener):
    """Looks like the listening socket from which its connections come."""

    def __init__(self, ends: tuple[socket.socket, int, int, int, Any]) -> None:
        end, family, type, proto, self._address = ends
        # The base class hands its own view of these to whoever asks C code.
        super().__init__(socket.AF_UNIX, PACKETS, 0, end.detach())
        self._like = socket.AddressFamily(family), socket.SocketKind(type), proto

    @property
    def family(self) -> socket.AddressFamily:
        return self._like[0]

    @property
    def type(self) -> socket.SocketKind:
        return self._like[1]

    @property
    def proto(self) -> int:
        return self._like[2]

    def getsockname(self) -> Any:
        return self._address

    def listen(self, backlog: int = 0, /) -> None:
        """It does already."""

    def getsockopt(self, level: int, name: int, size: int = 0, /) -> Any:
        if (level, name) == (socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return 1
        return super().getsockopt(level, name, size) if size else super().getsockopt(level, name)

    def _make_arrived(self) -> Callable[[], object]:
        return partial(getattr, self._ledger, "untaken")

    def _accept(self) -> tuple[int, Any]:  # what `accept` calls
        try:
            return receive(self, 0)
        except ConnectionAbortedError as error:
            # It has left the queue: who only saw that it was not taken would find us late for ever.
            self._ledger.took()
            self._ledger.closed()
            self._tell_if_wanted()
            _log_lost(error)
            raise

    def _count(self, connection: socket.socket) -> None:
        super()._count(connection)
        self._tell_if_wanted()

    def _gone(self, connection: ref[socket.socket]) -> None:
        super()._gone(connection)
        self._tell_if_wanted()

    def _tell_if_wanted(self) -> None:
        if self._ledger.wanted:
            self._ledger.wanted = False
            try:
                self.send(b"t", socket.MSG_DONTWAIT)
            except OSError:
                pass  # it is told enough, or gone


def _log_lost(error: OSError) -> None:
    import logging

    logging.getLogger("loopworkers").error(
        "a connection is lost, this worker may open no more files: %s", error
    )

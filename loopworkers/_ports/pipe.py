"""One end of a channel: messages out of and into a stream socket, without ever blocking.

The socket gives all that a channel promises: its buffer bounds what is under way and so slows a
fast writer, what was sent before a close arrives, and the end of either side, however it came, is
seen at the other. Who waits for room or for messages, a thread or a task, is the caller's business.
"""

from __future__ import annotations

import _socket
import errno
import os
from _thread import RLock, allocate_lock
from collections import deque

from .._wire.frames import (
    HEADER,
    IN_PARTS,
    INLINE_MAX,
    MESSAGE,
    PART,
    PART_SIZE,
    FrameReader,
    ProtocolError,
)
from .._wire.handles import MOST, Handles, pack_rights, unpack_files
from .._wire.shield import unbroken
from ..errors import PortClosed
from .waiting import READABLE, has_hung_up, until_ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._wire.file import File

    Message = tuple[int, Any, list[File]]  # flags, body, descriptors

_ALLOWED = frozenset((PART, MESSAGE))
# Small enough to keep a loop responsive while its peer floods it.
_READ_SIZE = 128 * 1024
_ENDS = frozenset((errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF))
_MANY_WAITING = 16  # messages for one port, a power of two
_MOST_BUFFERS = 512  # half of what the kernel takes in one call
_DONTWAIT: int = getattr(_socket, "MSG_DONTWAIT", 0)
_RECEIVE_FLAGS: int = _DONTWAIT | getattr(_socket, "MSG_CMSG_CLOEXEC", 0)
_RIGHTS_SPACE: int = _socket.CMSG_SPACE(MOST * 4) if hasattr(_socket, "CMSG_SPACE") else 0


class Outgoing:
    """A message that the socket has not taken whole."""

    __slots__ = ("chunks", "handles", "optional", "sent")

    def __init__(self, chunks: list[Any], handles: Handles | None) -> None:
        self.chunks = chunks
        self.handles = handles
        self.optional = False  # in vain once the other end of the port in it is closed
        self.sent = False


class Pipe:
    """Thread-safe; ``end`` is a connected socket and belongs to this object."""

    def __init__(self, end: Any) -> None:
        self.socket = end
        self.inbox: deque[Message] = deque()
        self.ended = False  # nothing more will come in
        self.broken = False  # nothing more can be sent
        self.closed = False
        self.closing = False  # it will be closed by the thread that waits for it
        self.error: ProtocolError | None = None
        self.missed = 0  # messages that the sender left out, see `Broadcast`
        self._pid = os.getpid()
        self._reader = FrameReader(_ALLOWED)
        self._parts = bytearray()
        self._files: deque[File] = deque()
        self._out: deque[Outgoing] = deque()
        self._sending = False
        self._lock = RLock()
        self.turn = allocate_lock()  # of the thread that waits for messages

    @property
    def is_forked(self) -> bool:
        return self._pid != os.getpid()

    # --- out -----------------------------------------------------------------------------

    def send(
        self, flags: int, chunks: list[Any], handles: Handles | None, missed: int = 0
    ) -> Outgoing | None:
        """Send the message as far as there is room; None if that was all of it.

        ``missed`` tells the receiver how many messages before it were left out.

        Raises BrokenPipeError, having sent nothing, if nobody can receive it any more.
        """
        size = len(chunks[0]) if len(chunks) == 1 else sum(map(len, chunks))
        count = len(handles.files) if handles is not None else 0
        if size <= INLINE_MAX:
            parts = [HEADER.pack(MESSAGE, flags, size, count, missed) + b"".join(chunks)]
        else:
            parts = _in_parts(flags, chunks, count, missed)
        with self._lock:
            if self.broken:
                raise BrokenPipeError
            outgoing = Outgoing(parts, handles)
            self._out.append(outgoing)
            if len(self._out) == 1:
                self.flush()
            if self.broken:
                raise BrokenPipeError
        return None if outgoing.sent else outgoing

    def flush(self) -> None:
        """Send what there is room for."""
        with self._lock:
            if self._sending:
                # An exception came between the sending and the books: nobody knows where the
                # stream stands, and the peer must not read the next message as the rest of one.
                self.close()
            self._sending = True
            while self._out and not self.broken:
                first = self._out[0]
                if not self._send_some(first):
                    break
                if not first.chunks:
                    first.sent = True
                    self._out.popleft()
            self._sending = False

    def _send_some(self, outgoing: Outgoing) -> bool:
        chunks = outgoing.chunks
        try:
            if outgoing.handles is not None:
                rights = pack_rights(outgoing.handles.fds)
                ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)]
                sent = self.socket.sendmsg(chunks[:_MOST_BUFFERS], ancillary, _DONTWAIT)
                outgoing.handles.close()
                outgoing.handles = None
            elif len(chunks) == 1:
                sent = self.socket.send(chunks[0], _DONTWAIT)
            else:
                sent = self.socket.sendmsg(chunks[:_MOST_BUFFERS], [], _DONTWAIT)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _ENDS:
                self._out.popleft()
                self._sending = False
                raise  # too many descriptors under way, for example
            self._break()
            return False
        done = 0
        while done < len(chunks) and sent >= len(chunks[done]):
            sent -= len(chunks[done])
            done += 1
        del chunks[:done]
        if sent:
            chunks[0] = memoryview(chunks[0])[sent:]
        return True

    def _break(self) -> None:
        self.broken = True
        self._out.clear()

    def drop_unwanted(self) -> None:
        """Drop what is optional and waits for room in vain, now and then as there is more."""
        waiting = len(self._out)
        if waiting < _MANY_WAITING or waiting & (waiting - 1):  # looked at when that doubles
            return
        with self._lock:
            # The first may be half-way out.
            wanted = [each for n, each in enumerate(self._out) if n == 0 or not _is_in_vain(each)]
            self._out = deque(wanted)

    @property
    def is_sending(self) -> bool:
        return bool(self._out)

    @property
    def unsent(self) -> int:
        """How many messages the socket has not taken whole."""
        return len(self._out)

    # --- in ------------------------------------------------------------------------------

    @unbroken
    def fill(self) -> None:
        """Take in what has arrived, at most one read of it."""
        with self._lock:
            if self.ended:
                return
            try:
                data, ancillary, _, _ = self.socket.recvmsg(
                    _READ_SIZE, _RIGHTS_SPACE, _RECEIVE_FLAGS
                )
            except BlockingIOError:
                return
            except OSError:
                data, ancillary = b"", []
            if ancillary:
                self._files.extend(unpack_files(ancillary))
            if not data:
                self.ended = True
                return
            self.feed(data)

    def feed(self, data: bytes) -> None:
        try:
            for kind, flags, extra, missed, payload in self._reader.feed(data):
                if kind == PART:
                    self._parts += payload
                    continue
                self.missed += missed
                body: Any = payload
                if flags & IN_PARTS:
                    body, self._parts = self._parts, bytearray()
                if extra > len(self._files):
                    raise ProtocolError(
                        f"{extra} descriptors belong to a message and {len(self._files)} came: "
                        "this process may have reached its limit of open files"
                    )
                self.inbox.append((flags, body, [self._files.popleft() for _ in range(extra)]))
        except ProtocolError as error:
            self.error = error
            self.ended = True
            self.shut_down()  # that the other end does not wait for somebody to read

    def end_of_messages(self) -> PortClosed:
        """What `receive` raises after the last one."""
        closed = PortClosed("the port is closed, and all its messages have been received")
        if self.error is not None:
            closed = PortClosed(f"the port was given up: {self.error}")
        closed.__cause__ = self.error
        return closed

    def look(self, _size: int, dont_wait: int = 0) -> bytes:
        """For the spinner: a look at the socket, or a wait for it."""
        if not dont_wait:
            until_ready(self.socket.fileno(), READABLE)
        self.fill()
        if dont_wait and not self.inbox and not self.ended:
            raise BlockingIOError
        return b""

    # --- the end -------------------------------------------------------------------------

    def unread(self) -> tuple[bytes, list[File]]:
        """What was received and not taken, for `take_over` elsewhere."""
        with self._lock:
            data = bytearray()
            files: list[File] = []
            for flags, body, own in self.inbox:
                data += b"".join(_in_parts(flags & ~IN_PARTS, [body], len(own)))
                files += own
            if self._parts:
                data += b"".join(_in_parts(0, [self._parts], 0)[:-1])
            return bytes(data + self._reader.rest), [*files, *self._files]

    def take_over(self, unread: bytes, files: list[File]) -> None:
        self._files.extend(files)
        self.feed(unread)

    def detach(self) -> None:
        """The socket is another pipe's now, by a copy of its descriptor."""
        with self._lock:
            self._close(shut_down=False)

    def close(self) -> None:
        with self._lock:
            # Seen at the other end at once, also where a fork has kept a copy of the socket.
            self._close(shut_down=True)

    def _close(self, shut_down: bool) -> None:
        if self.closed:
            return
        self.closed = self.ended = self.broken = True
        self.inbox.clear()
        self._files.clear()
        self._out.clear()
        if shut_down:
            self.shut_down()
        self.socket.close()

    def shut_down(self) -> None:
        if self.is_forked:
            return  # the connection is the parent's
        try:
            self.socket.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass  # it is at its end


def _is_in_vain(outgoing: Outgoing) -> bool:
    return (
        outgoing.optional
        and outgoing.handles is not None
        and has_hung_up(outgoing.handles.files[0].fileno())
    )


def _in_parts(flags: int, chunks: list[Any], count: int, missed: int = 0) -> list[Any]:
    """The frames of a large message, to be sent one after the other; the data is not copied."""
    parts: list[Any] = []
    for chunk in chunks:
        view = memoryview(chunk).cast("B")
        for at in range(0, len(view), PART_SIZE):
            piece = view[at : at + PART_SIZE]
            parts += (HEADER.pack(PART, 0, len(piece), 0, 0), piece)
    parts.append(HEADER.pack(MESSAGE, flags | IN_PARTS, 0, count, missed))
    return parts


@unbroken
def socket_pair(capacity: int | None) -> tuple[Any, Any]:
    """Two connected sockets that hold about ``capacity`` bytes each way."""
    if hasattr(_socket, "socketpair"):
        first, second = _socket.socketpair()
    else:  # Windows
        import socket

        first, second = [_socket.socket(fileno=end.detach()) for end in socket.socketpair()]
    if capacity is not None:
        for end in (first, second):
            end.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, capacity)
    return first, second

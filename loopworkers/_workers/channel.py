"""The loop's end of one worker's channel: packets out, frames in, and packets taken back.

Calls go out on a socket that keeps packet boundaries, of which this side holds *both* ends.
The worker receives from one end, and so can the loop: the kernel gives each packet to exactly
one of them. That is how a call that was sent ahead and not begun is taken back, from a worker
that is busy, stuck or dead, without its help and without a doubt who has it.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from .._wire.frames import TO_LOOP, Frame, FrameReader, ProtocolError

if TYPE_CHECKING:
    from .._loop import Loop

Packet = Sequence[Any]  # buffers that make up one packet

# Small enough to keep the loop responsive while a worker floods it.
_READ_SIZE = 128 * 1024


def _keeps_packets() -> bool:
    if not hasattr(socket, "SOCK_SEQPACKET"):
        return False
    try:
        for end in socket.socketpair(type=socket.SOCK_SEQPACKET):
            end.close()
    except OSError:  # macOS has the name but not the socket
        return False
    return True


KEEPS_PACKETS = _keeps_packets()


class Channel:
    """Both sockets of a worker. ``calls`` and ``replies`` are the ends to give to it.

    Args:
        on_frames: called with the frames that have arrived.
        on_end: called once when no more will arrive, with the ProtocolError if the worker
            sent what is no frame.
    """

    def __init__(
        self,
        loop: Loop,
        on_frames: Callable[[list[Frame]], None],
        on_end: Callable[[ProtocolError | None], None],
    ) -> None:
        kind = socket.SOCK_SEQPACKET if KEEPS_PACKETS else socket.SOCK_STREAM
        with ExitStack() as undo:  # descriptors may run out half way
            self._out, self.calls = map(undo.enter_context, socket.socketpair(type=kind))
            self._in, self.replies = map(undo.enter_context, socket.socketpair())
            # Of its own, so that the worker's end can be closed: in a thread or an isolate both
            # are descriptors of this process.
            self._kept = undo.enter_context(self.calls.dup()) if KEEPS_PACKETS else None
            undo.pop_all()
        self._out.setblocking(False)
        self._in.setblocking(False)
        self._loop = loop
        self._on_frames = on_frames
        self._on_end = on_end
        self._reader = FrameReader(TO_LOOP)
        self._waiting: deque[Packet] = deque()
        self._full = False  # the socket took no more: its writability is watched
        self._ended = False
        self._closed = False
        loop.add_reader(self._in.fileno(), self.read)

    # --- out -----------------------------------------------------------------------------

    def send(self, *packet: Any) -> None:
        """Send the buffers as one packet; never blocks, what does not fit waits here."""
        self._waiting.append(packet)
        if len(self._waiting) == 1:
            self._send_waiting()

    def post(self, packet: bytes) -> None:
        """Send the packet in the loop's next turn, together with what else is posted by then.

        The first packet wakes the worker, which costs five times as much as the sending; by the
        time it runs it finds all of them.
        """
        self._waiting.append((packet,))
        if len(self._waiting) == 1:
            self._loop.call_soon(self._send_waiting)

    def send_handles(self, fds: list[int]) -> bool:
        """Send descriptors, which the worker takes when it receives the call they belong to.

        Gives False if the worker is gone: `on_end` says what becomes of its calls.
        """
        # On the socket for replies, whose way there is unused: what is taken back from the other
        # one would lose them.
        try:
            socket.send_fds(self._in, [b"h"], fds)
        except OSError:
            try:
                # Too many are under way, perhaps. A worker that waited for them would wait for
                # ever; one that finds none fails the call and says why.
                self._in.send(b"h")
            except OSError:
                return False
        return True

    def _send_waiting(self) -> None:
        waiting = self._waiting
        while waiting:
            packet = waiting[0]
            try:
                sent = _send(self._out, packet)
            except BlockingIOError:
                if not self._full:
                    self._full = True
                    self._loop.add_writer(self._out.fileno(), self._send_waiting)
                return
            except OSError:
                waiting.clear()  # the worker is gone; `on_end` says what becomes of its calls
                break
            rest = _unsent(packet, sent)
            if rest:
                waiting[0] = rest
            else:
                waiting.popleft()
        self._not_full()

    def _not_full(self) -> None:
        if self._full:
            self._full = False
            self._loop.remove_writer(self._out.fileno())

    def take_back(self) -> bytes | None:
        """The oldest packet that the worker has not received, or None."""
        if self._kept is None:
            return None
        try:
            packet = self._kept.recv(1 << 16, socket.MSG_DONTWAIT)
            if packet:
                return packet
        except OSError:
            pass
        return b"".join(self._waiting.popleft()) if self._waiting else None

    # --- in ------------------------------------------------------------------------------

    def read(self) -> None:
        """Handle what has arrived, if anything."""
        if self._ended:
            return
        try:
            data = self._in.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end(None)
            return
        try:
            frames = self._reader.feed(data)
            if frames:
                self._on_frames(frames)
        except ProtocolError as error:
            self._end(error)

    def read_all(self) -> None:
        """Handle everything that has arrived."""
        while not self._ended:
            try:
                if not self._in.recv(1, socket.MSG_PEEK):
                    return  # the end itself is left to the loop's next turn
            except OSError:
                return
            self.read()

    def _end(self, error: ProtocolError | None) -> None:
        self._ended = True
        self._loop.remove_reader(self._in.fileno())
        self._on_end(error)

    # --- closing -------------------------------------------------------------------------

    def end_calls(self) -> None:
        """The worker that asks for its next call is told that there is none."""
        try:
            self._out.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it is gone already

    def close_worker_ends(self) -> None:
        """Once the worker has its own copies."""
        self.calls.close()
        self.replies.close()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if not self._ended:
            self._ended = True
            self._loop.remove_reader(self._in.fileno())
        self._waiting.clear()
        self._not_full()
        self.abandon()

    def abandon(self) -> None:
        """Close the descriptors without the loop, which may be closed already."""
        # The worker's ends are not touched: in this process they may be in use by its thread.
        self._closed = True
        for end in (self._out, self._kept, self._in):
            if end is not None:
                end.close()


def _send(out: socket.socket, packet: Packet) -> int:
    if len(packet) == 1 or not hasattr(out, "sendmsg"):  # Windows
        return out.send(b"".join(packet) if len(packet) > 1 else packet[0])
    return out.sendmsg(packet)


def _unsent(packet: Packet, sent: int) -> Packet:
    """What is left of a packet; more than nothing and less than all only on a stream."""
    total = sum(map(len, packet))
    if sent == total:
        return ()
    return (b"".join(packet)[sent:],)

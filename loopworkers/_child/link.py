"""The worker's end of its channel: packets in, frames out."""

from __future__ import annotations

import _socket
from _contextvars import Context
from _thread import RLock

from .._wire import frames, values
from .._wire.context import restore
from .._wire.definitions import forget, receive
from .._wire.frames import (
    HANDLES,
    HEADER,
    HEADER_SIZE,
    IN_PARTS,
    IN_SLAB,
    INLINE_MAX,
    LENT,
    PACKET_MAX,
    PART_SIZE,
    RETIRE,
    SLAB_FREE,
    Frame,
    pack,
    unpack_packet,
)
from .._wire.handles import MOST, receiving, unpack_files
from .._wire.shield import unbroken
from .._wire.slab import SIZE as SLAB_SIZE
from .._wire.slab import Slab
from .._wire.spin import Spinner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from .._wire.file import File

    Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Context]

_DONTWAIT = getattr(_socket, "MSG_DONTWAIT", 0)


class Torn(Exception):
    """A message was interrupted half-way: whatever followed would be read as its rest."""


class _TornSocket:
    # Kept open: its end of file is to come with the worker's own end, and its exit code.
    def __init__(self, socket: Any) -> None:
        self._socket = socket

    def sendall(self, data: bytes) -> None:
        raise Torn("an earlier message was interrupted half-way")

    def recvmsg(self, *args: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        return self._socket.recvmsg(*args)  # type: ignore[no-any-return]


class Link:
    """How a worker receives calls and answers them; threads replace the two codec methods."""

    def __init__(
        self,
        calls: _socket.socket,
        replies: _socket.socket,
        slab: Slab | None = None,
        lent: Callable[[], Sequence[memoryview]] | None = None,
    ) -> None:
        self._calls = calls
        self._replies = replies
        self._slab = slab
        self._lent = lent
        self._parts = bytearray()
        self._functions: dict[str, Callable[..., Any]] = {}
        self._wait: Callable[[], bytes] = Spinner(calls.recv, _DONTWAIT).receive
        # Log records and progress may come from any thread of the worker.
        self._lock = RLock()
        self._deferred: list[bytes] = []
        if calls.type == _socket.SOCK_STREAM:
            self.receive = self._receive_from_stream  # type: ignore[method-assign]

    # --- in ---------------------------------------------------------------------------

    def receive(self, wait: bool = True) -> list[Frame]:
        """The frames of the next packet; none if there is none and ``wait`` is false.

        Raises EOFError when the loop's side is gone.
        """
        if wait:
            packet = self._wait()
        else:
            try:
                packet = self._calls.recv(PACKET_MAX, _DONTWAIT)
            except BlockingIOError:
                return []
        if not packet:
            raise EOFError
        return unpack_packet(packet)

    def _receive_from_stream(self, wait: bool = True) -> list[Frame]:
        # Where sockets keep no packet boundaries every packet is read frame by frame.
        if not wait:
            self._calls.setblocking(False)
            try:
                first = self._calls.recv(1)
            except BlockingIOError:
                return []
            finally:
                self._calls.setblocking(True)
            header = first + self._exactly(HEADER_SIZE - 1) if first else b""
        else:
            header = self._exactly(HEADER_SIZE)
        if not header:
            raise EOFError
        size = HEADER.unpack(header)[2]
        return unpack_packet(header + self._exactly(size))

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self._calls.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    def take_part(self, frame: Frame) -> None:
        self._parts += frame.payload

    def define(self, frame: Frame) -> None:
        key, blob = values.loads(self._body(frame))
        receive(key, blob)

    def forget(self, frame: Frame) -> None:
        forget(frame.payload.decode())

    def _body(self, frame: Frame) -> Any:
        flags = frame.flags
        if flags & IN_SLAB:
            assert self._slab is not None
            (size,) = frames.SIZE.unpack(frame.payload)
            return self._slab.view(size)
        if flags & IN_PARTS:
            body, self._parts = self._parts, bytearray()
            return body
        return frame.payload

    def settings(self, frame: Frame) -> dict[str, Any]:
        settings: dict[str, Any] = values.decode(self._body(frame), frame.flags)
        return settings

    def call(self, frame: Frame) -> Call:
        """What to call; raises whatever unpickling it raises."""
        with receiving(self._take_handles() if frame.flags & HANDLES else []):
            if frame.flags & LENT:
                assert self._lent is not None
                value = values.decode_lent(self._lent(), frame.flags)
            else:
                value = values.decode(self._body(frame), frame.flags)
        target, args, kwargs, pairs = value
        if type(target) is str:
            target = self._functions.get(target) or self._import(target)
        return target, args, kwargs, Context() if pairs is None else restore(pairs)

    @unbroken
    def _take_handles(self) -> list[File]:
        flags = getattr(_socket, "MSG_CMSG_CLOEXEC", 0)
        _, ancillary, _, _ = self._replies.recvmsg(1, _socket.CMSG_SPACE(MOST * 4), flags)
        return unpack_files(ancillary)

    def _import(self, name: str) -> Callable[..., Any]:
        target = import_target(name)
        self._functions[name] = target
        return target

    # --- out --------------------------------------------------------------------------

    def send(
        self, kind: int, id: int = 0, payload: bytes = b"", flags: int = 0, extra: int = 0
    ) -> None:
        self._write((pack(kind, id, payload, flags, extra),))

    def _write(self, messages: Iterable[bytes]) -> None:
        if self._lock._is_owned():  # type: ignore[attr-defined]
            # A signal handler or finalizer that logs, in the middle of this very method.
            self._deferred += messages
            return
        with self._lock:
            try:
                for message in messages:
                    self._replies.sendall(message)
                while self._deferred:
                    self._replies.sendall(self._deferred.pop(0))
            except BaseException:  # a signal handler's, for example
                self._replies = _TornSocket(self._replies)  # type: ignore[assignment]
                raise

    def send_value(self, kind: int, id: int, value: Any, extra: int, call_flags: int) -> None:
        """Send a result or an item; raises what pickling raises, having sent nothing."""
        if values.is_plain(value):
            payload = values.dumps(value, 5)
            if len(payload) <= INLINE_MAX:  # an int can be as large as anything
                self.send(kind, id, payload, call_flags & RETIRE, extra)
                return
        encoded = values.encode(value)
        if encoded.handles is not None:
            raise TypeError("ports, sockets and shared memory are sent by ports, not returned")
        flags = encoded.flags | (call_flags & RETIRE)
        if encoded.size <= INLINE_MAX:
            self.send(kind, id, b"".join(encoded.chunks), flags, extra)
            return
        if call_flags & SLAB_FREE and self._slab is not None and encoded.size <= SLAB_SIZE:
            size = self._slab.write(encoded.chunks)
            self.send(kind, id, frames.SIZE.pack(size), flags | IN_SLAB, extra)
            return
        self._send_parts(kind, id, encoded.chunks, flags, extra)

    def _send_parts(
        self, kind: int, id: int, chunks: Sequence[Any], flags: int, extra: int
    ) -> None:
        def messages() -> Iterator[bytes]:
            for chunk in chunks:
                view = memoryview(chunk)
                for at in range(0, len(view), PART_SIZE):
                    yield pack(frames.PART, id, view[at : at + PART_SIZE].tobytes())
            yield pack(kind, id, b"", flags | IN_PARTS, extra)

        self._write(messages())

    def send_failure(self, kind: int, id: int, error: BaseException, extra: int = 0) -> None:
        from .._wire.failures import encode_failure

        payload = encode_failure(error, skip_frames=2)
        if len(payload) <= INLINE_MAX:
            self.send(kind, id, payload, 0, extra)
        else:
            self._send_parts(kind, id, [payload], 0, extra)


def import_target(name: str) -> Callable[..., Any]:
    """The function that travels as "module:qualified name"."""
    module, _, path = name.partition(":")
    import sys

    __import__(module)
    target: Any = sys.modules[module]
    for part in path.split("."):
        target = getattr(target, part)
    return target  # type: ignore[no-any-return]

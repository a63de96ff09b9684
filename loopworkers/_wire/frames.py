"""The kinds of messages between the loop and a worker, and their framing in bytes.

A frame is a fixed header and a payload; a packet is one or more frames sent in one system
call. Towards the worker a packet keeps its boundaries (SOCK_SEQPACKET), which is what lets
the loop take back a packet that the worker has not received yet. Towards the loop frames
flow in a stream.
"""

from __future__ import annotations

from _collections import _tuplegetter  # type: ignore[import-not-found]
from _struct import Struct  # the C module: `struct` and `socket` cost a worker milliseconds

# Here and in `_child`: `typing` and its like would double the start of an isolate, for names
# that only a type checker reads. It takes a variable of this name as true.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple

# kind, flags, payload size, extra, id
HEADER = Struct("<BBxxIIQ")
HEADER_SIZE = HEADER.size

# --- to the worker -------------------------------------------------------------------
SETUP = 1  # payload: pickled settings; before the first call and when they have changed
DEFINE = 2  # payload: a pickled definition (see definitions.py); id unused
CALL = 3  # payload: an encoded call; id: the call
PART = 4  # payload: the next piece of a payload too large for one frame
GRANT = 5  # extra: how many more items the stream `id` may send
CLOSE = 6  # stop the stream `id` at its next item
EXIT = 7  # finish: no more calls will come
FORGET = 8  # payload: the key of a definition no longer needed

# --- to the loop ---------------------------------------------------------------------
READY = 16  # the worker is set up and waits for calls
RESULT = 17  # payload: an encoded value; extra: how long the call ran, microseconds
ERROR = 18  # payload: an encoded failure; extra: as above
ITEM = 19  # payload: the next encoded value of a stream
PROGRESS = 20  # payload: a pickled (done, total, message)
LOG = 21  # payload: a pickled LogRecord's __dict__
WARN = 22  # payload: a pickled warning
SETUP_FAILED = 23  # payload: an encoded failure of the preload or initializer
EXITING = 24  # the worker ends itself; extra: its exit code; payload: an encoded failure
BEGUN = 25  # the function of a `Worker` is about to run

# --- between ports -------------------------------------------------------------------
MESSAGE = 32  # payload: an encoded value; extra: how many descriptors come with it

TO_LOOP = frozenset(
    (PART, READY, RESULT, ERROR, ITEM, PROGRESS, LOG, WARN, SETUP_FAILED, EXITING, BEGUN)
)

# --- flags: where the payload is, and what the call is ----------------------------------
BUFFERS = 1  # the body starts with a table of out-of-band buffers
IN_SLAB = 2  # the body lies in the shared slab; the payload is its size
IN_PARTS = 4  # the body came in the PART frames before this frame
LENT = 8  # the body's buffers wait in the isolate's queue
SLAB_FREE = 16  # on a call: its result may be put into the slab
STREAM = 32  # on a call: a generator, whose items are sent one by one
RETIRE = 64  # on a result: the worker has reached its memory limit
HANDLES = 128  # on a call: descriptors wait for it on the socket for replies

# recv() allocates its argument before it knows the size; above 128 KiB glibc would map and
# unmap memory for each packet, so packets stay below half of that.
PACKET_MAX = 64 * 1024
PART_SIZE = 60 * 1024
INLINE_MAX = 48 * 1024
SIZE = Struct("<Q")


class ProtocolError(Exception):
    """The bytes on a channel are not frames: the peer is broken and must be given up."""


if TYPE_CHECKING:

    class Frame(NamedTuple):
        kind: int
        flags: int
        extra: int
        id: int
        payload: bytes

else:

    class Frame(tuple):
        """(kind, flags, extra, id, payload): a named tuple without what making one imports."""

        __slots__ = ()
        kind, flags, extra, id, payload = (_tuplegetter(i, None) for i in range(5))


_new: Any = tuple.__new__  # pyright: ignore[reportUnknownMemberType]  # Frame's own constructor takes three times as long, for every message


def pack(kind: int, id: int = 0, payload: bytes = b"", flags: int = 0, extra: int = 0) -> bytes:
    return HEADER.pack(kind, flags, len(payload), extra, id) + payload


def unpack_packet(packet: bytes) -> list[Frame]:
    """The frames of one whole packet."""
    frames: list[Frame] = []
    at, end = 0, len(packet)
    while at < end:
        if end - at < HEADER_SIZE:
            raise ProtocolError(f"{end - at} bytes left of a packet, too few for a header")
        kind, flags, size, extra, id = HEADER.unpack_from(packet, at)
        at += HEADER_SIZE
        if size > end - at:
            raise ProtocolError(f"a frame of {size} bytes in a packet with {end - at} left")
        frames.append(_new(Frame, (kind, flags, extra, id, packet[at : at + size])))
        at += size
    return frames


class FrameReader:
    """Cuts a stream of bytes into frames.

    Holds at most one incomplete frame, and a frame is at most `PACKET_MAX` bytes: a length
    field can announce more, but then it is refused and nothing is allocated for it.
    """

    def __init__(self, allowed: frozenset[int]) -> None:
        self._allowed = allowed
        self.rest = b""  # the beginning of a frame

    def feed(self, data: bytes) -> list[Frame]:
        """The frames completed by ``data``; raises ProtocolError on anything else."""
        if self.rest:
            data = self.rest + data
        frames: list[Frame] = []
        at, end = 0, len(data)
        while end - at >= HEADER_SIZE:
            kind, flags, size, extra, id = HEADER.unpack_from(data, at)
            if kind not in self._allowed:
                raise ProtocolError(f"unknown message kind {kind}")
            if size > PACKET_MAX:
                raise ProtocolError(f"a frame announces {size} bytes, {PACKET_MAX} are allowed")
            start = at + HEADER_SIZE
            if end - start < size:
                break
            at = start + size
            frames.append(_new(Frame, (kind, flags, extra, id, data[start:at])))
        self.rest = data[at:]
        return frames

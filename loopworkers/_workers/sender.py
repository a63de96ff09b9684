"""How one worker is sent its calls, and before them what it must know to run them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._wire.frames import (
    CALL,
    DEFINE,
    FORGET,
    HANDLES,
    HEADER,
    IN_PARTS,
    IN_SLAB,
    INLINE_MAX,
    PACKET_MAX,
    PART,
    PART_SIZE,
    SETUP,
    SIZE,
    SLAB_FREE,
    pack,
)
from .._wire.slab import SIZE as SLAB_SIZE
from .._wire.slab import Slab
from .._wire.values import Encoded, dumps, loads

if TYPE_CHECKING:
    from .._call import Call
    from .._wire.definitions import Definition
    from .channel import Channel
    from .settings import Settings, Surroundings

_MOST_DEFINITIONS = 256  # per worker; the oldest is forgotten there and sent again if needed

News = list[tuple[int, bytes, int]]  # kind, payload and flags of what must come before a call


class Sender:
    """Keeps what the worker has been told: definitions, import path, working folder.

    What a call needs to be known goes into the packet of the call, with every call until one
    has been answered. Sent by itself it could be taken back from the worker while the call that
    relies on it was being received.

    ``torn_by`` is the id of a call that is under way in several packets. Until it is answered
    nothing may be taken back from the worker: half of it would be left.
    """

    def __init__(self, channel: Channel, slab: Slab | None, settings: Settings) -> None:
        self.torn_by: int | None = None
        self._channel = channel
        self._slab = slab
        self._settings = settings
        # What the worker has received for certain, and what unanswered calls have with them.
        self._known: dict[str, None] = {}
        self._surroundings: Surroundings | None = None
        self._told: Surroundings | None = None  # last, received or not
        self._unanswered: dict[int, tuple[list[str], list[str], Surroundings]] = {}
        self._to_forget: list[str] = []

    def set_up(self, surroundings: Surroundings) -> None:
        """The first message; the worker is sent nothing else before it is ready."""
        body = self._settings.encoded(surroundings, first=True)
        news: News = []
        for definition in body.needs:
            self._define(definition, news)
        news.append((SETUP, b"".join(body.chunks), body.flags))
        self._send_one_by_one(news, 0)
        self._known.update(dict.fromkeys(d.key for d in body.needs))
        self._told = self._surroundings = surroundings

    def send_call(self, call: Call, flags: int, extra: int, *, alone: bool) -> None:
        """Send the call; ``alone`` if the worker has no other, and so nothing else to do."""
        body: Encoded = call.body
        flags |= body.flags
        if alone:
            # Nothing else can be in the slab now, so this call's result may use it.
            flags |= SLAB_FREE
        if body.handles is not None:
            sent = self._channel.send_handles(body.handles.fds)
            if sent and not call.retries:
                body.handles.close()
            flags |= HANDLES
            self.torn_by = call.id  # what is sent twice would take another one's descriptors
        if body.size > INLINE_MAX:
            packet = self.send_large(call, body, flags, extra, alone=alone)
        else:
            packet = HEADER.pack(CALL, flags, body.size, extra, call.id) + body.chunks[0]
        news = self._news_for(call)
        if news:
            packet = self._with_news(news, packet, call.id)
        if alone:
            self._channel.send(packet)  # wake it now
        else:
            self._channel.post(packet)

    def send_large(
        self, call: Call, body: Encoded, flags: int, extra: int, *, alone: bool
    ) -> bytes:
        """Send the body on its way; the packet that announces it."""
        if self._slab is not None and body.size <= SLAB_SIZE and alone:
            size = self._slab.write(body.chunks)
            return pack(CALL, call.id, SIZE.pack(size), flags | IN_SLAB, extra)
        body.freeze()  # parts that the socket has no room for wait here
        # Before the parts: the worker collects the parts of one body at a time.
        self._send_one_by_one(self._news_for(call), call.id)
        self._send_parts(body.chunks, call.id)
        return pack(CALL, call.id, b"", flags | IN_PARTS, extra)

    def answered(self, id: int) -> None:
        """The worker has received this call, and so all that came before it."""
        if self.torn_by in (0, id):  # 0: its settings
            self.torn_by = None
        entry = self._unanswered.pop(id, None)
        if entry is None:
            return
        defined, forgotten, self._surroundings = entry
        for key in forgotten:
            if key in self._to_forget:
                self._to_forget.remove(key)
        for key in defined:
            self._known[key] = None
            if len(self._known) > _MOST_DEFINITIONS:
                oldest = next(iter(self._known))
                del self._known[oldest]
                self._to_forget.append(oldest)

    def taken_back(self, id: int) -> None:
        """The worker has not received this call, nor what went along with it."""
        self._unanswered.pop(id, None)

    # --- what goes along -------------------------------------------------------------------

    def _news_for(self, call: Call) -> News:
        news: News = []
        if call.id in self._unanswered:
            return news  # sent already, ahead of the parts
        now = call.surroundings
        if now is not self._surroundings or now is not self._told:
            body = self._settings.encoded(now, first=False)
            news.append((SETUP, b"".join(body.chunks), body.flags))
            self._told = now
        for definition in call.body.needs:
            self._define(definition, news)
        defined = [loads(payload)[0] for kind, payload, _ in news if kind == DEFINE]
        if news:
            forgotten = [key for key in self._to_forget if key not in defined]
            self._to_forget = list(forgotten)  # it grows; what this call carries does not
            news += [(FORGET, key.encode(), 0) for key in forgotten]
            self._unanswered[call.id] = defined, forgotten, now
        return news

    def _define(self, definition: Definition, news: News) -> None:
        for needed in definition.needs:
            self._define(needed, news)
        if definition.key not in self._known:
            news.append((DEFINE, dumps((definition.key, definition.blob), 5), 0))

    def _with_news(self, news: News, packet: bytes, id: int) -> bytes:
        whole = b"".join(pack(kind, 0, payload, flags) for kind, payload, flags in news) + packet
        if len(whole) <= PACKET_MAX:
            return whole
        self._send_one_by_one(news, id)
        return packet

    def _send_one_by_one(self, news: News, id: int) -> None:
        self.torn_by = id
        for kind, payload, flags in news:
            if len(payload) <= INLINE_MAX:
                self._channel.send(pack(kind, 0, payload, flags))
            else:
                self._send_parts([payload], id)
                self._channel.send(pack(kind, 0, b"", flags | IN_PARTS))

    def _send_parts(self, chunks: list[Any], id: int) -> None:
        self.torn_by = id
        for chunk in chunks:
            view = memoryview(chunk).cast("B")
            for at in range(0, len(view), PART_SIZE):
                piece = view[at : at + PART_SIZE]
                self._channel.send(HEADER.pack(PART, 0, len(piece), 0, id), piece)

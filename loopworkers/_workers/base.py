"""What a pool relies on of every worker, whatever its kind.

A worker answers its calls one at a time in the order they were sent. `Worker` keeps the books
of that: which calls it has, which of them it cannot have begun, what it knows already. A kind
adds how one is started and how it is stopped for certain.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .._wire.frames import (
    BEGUN,
    CALL,
    CLOSE,
    ERROR,
    EXIT,
    EXITING,
    GRANT,
    IN_PARTS,
    IN_SLAB,
    ITEM,
    LOG,
    PART,
    PROGRESS,
    READY,
    RESULT,
    SETUP_FAILED,
    SIZE,
    STREAM,
    WARN,
    Frame,
    ProtocolError,
    pack,
    unpack_packet,
)
from .._wire.slab import SIZE as SLAB_SIZE
from .._wire.slab import create as create_slab
from .._wire.values import decode
from .channel import KEEPS_PACKETS, Channel
from .sender import Sender

if TYPE_CHECKING:
    from .._call import Call
    from .._loop import Loop
    from .settings import Settings

_STREAM_CREDIT = 16  # items a stream may be ahead of its consumer


@dataclass(frozen=True, slots=True)
class Exit:
    """How a worker ended."""

    code: int | None = None
    signal: int | None = None
    reason: str | None = None
    stuck: bool = False  # it has not ended: it was written off


class Listener(ABC):
    """What a worker tells its pool; all called on the loop's thread."""

    @abstractmethod
    def on_ready(self, worker: Worker) -> None: ...

    def on_begun(self, worker: Worker) -> None:  # noqa: B027 - pools have no use for it
        """The function of a `Worker` is about to run."""

    @abstractmethod
    def on_answer(self, worker: Worker, call: Call, frame: Frame, body: Any) -> None:
        """The call is answered and no longer the worker's; ``frame`` is RESULT or ERROR."""

    @abstractmethod
    def on_setup_failed(self, worker: Worker, error: Exception) -> None: ...

    @abstractmethod
    def on_gone(self, worker: Worker, exit: Exit, untouched: list[Call]) -> None:
        """The worker has ended: ``untouched`` calls it never received, oldest first, and
        ``worker.calls`` is what it had."""


class Worker(ABC):
    """One worker, from its start to its end."""

    kind: str
    uses_slab = True

    def __init__(self, loop: Loop, id: int, settings: Settings, listener: Listener) -> None:
        self.id = id
        self.loop = loop
        self.settings = settings
        self.calls: dict[int, Call] = {}
        self.ready = False
        self.leaving = False  # it was told to end, or is about to: it takes no more calls
        self.on_hold = False  # see `Dispatcher.withdraw`
        self.gone = False
        self.answered = 0
        self.moved_at = perf_counter()  # when it last began a call or fell idle
        self.was_busy = 0.0  # seconds with the calls that it has answered
        self.setup_error: Exception | None = None
        self.exit_request: Exit | None = None
        self._listener = listener
        self._slab = create_slab() if self.uses_slab else None
        try:
            self._channel = Channel(loop, self._on_frames, self._on_end)
        except OSError:  # no descriptors left
            if self._slab is not None:
                self._slab.close()
            raise
        self._sender = self._make_sender()
        self._early: list[Call] = []
        self._streaming = False  # a stream receives grants, which must not wait behind calls
        self._parts = bytearray()
        self._sender.set_up(settings.surroundings())

    def _make_sender(self) -> Sender:
        return Sender(self._channel, self._slab, self.settings)

    # --- what a kind adds ------------------------------------------------------------------

    @classmethod  # noqa: B027 - most kinds need nothing
    def prepare(cls, settings: Settings) -> None:
        """Before the first worker of a pool: get ready what its workers share."""

    @classmethod  # noqa: B027 - as above
    def release(cls, settings: Settings) -> None:
        """After the last worker of a pool."""

    @abstractmethod
    def start(self) -> None:
        """Begin to start; `Listener.on_ready` or `Listener.on_gone` tells how it went."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it for certain, whatever it does; `Listener.on_gone` follows within a bound."""

    @abstractmethod
    def kill_now(self) -> None:
        """Stop it without the loop (which may be closed) and free what it holds here."""

    def cpu_clock(self) -> int | None:
        """The clock of the processor time that it uses, for `time.clock_gettime`, if known."""
        return None

    def busy_for(self) -> float:
        """Seconds in which it had a call, its own start included if one waited for that."""
        return self.was_busy + (perf_counter() - self.moved_at if self.calls else 0.0)

    # --- sending ---------------------------------------------------------------------------

    @property
    def takes_calls(self) -> bool:
        return not (self.gone or self.leaving or self.on_hold)

    @property
    def can_take_ahead(self) -> bool:
        """Whether a call may be sent while another runs: only if it can be taken back."""
        return (
            KEEPS_PACKETS
            and self._sender.torn_by is None
            and not self._streaming
            and self.takes_calls
        )

    def send(self, call: Call) -> None:
        self.calls[call.id] = call
        call.worker = self
        call.sent_at = now = perf_counter()
        if len(self.calls) == 1:
            self.moved_at = now
        self._streaming = call.is_stream
        if self.ready:
            self._transmit(call, alone=len(self.calls) == 1)
        else:
            # What a starting worker has not been sent it cannot have received.
            call.freeze()
            self._early.append(call)

    def _transmit(self, call: Call, *, alone: bool) -> None:
        flags, extra = (STREAM, _STREAM_CREDIT) if call.is_stream else (0, 0)
        self._sender.send_call(call, flags, extra, alone=alone)

    def grant(self, call: Call, items: int) -> None:
        self._channel.send(pack(GRANT, call.id, extra=items))

    def runs(self, call: Call) -> bool:
        """Whether this is what it runs, if it runs anything: it answers in order."""
        return next(iter(self.calls), None) == call.id

    def close_stream(self, call: Call) -> None:
        self._channel.send(pack(CLOSE, call.id))

    def leave(self) -> None:
        """Let it finish what it has and end."""
        self.leaving = True
        self._channel.send(pack(EXIT))

    # --- taking back -------------------------------------------------------------------------

    def take_back_one(self) -> Call | None:
        """The oldest call that the worker has not received, which is now nobody's; or None."""
        if self._early:
            return self._reclaim(self._early.pop(0))
        if self._sender.torn_by is not None:
            return None
        packet = self._channel.take_back()
        if packet is None:
            return None
        call = self._call_in(packet)
        if call is None:
            self._channel.send(packet)  # that it may leave; nothing comes after that
        return call

    def take_back(self) -> list[Call]:
        """All calls that the worker has not received, oldest first; they are nobody's now."""
        if self._early:
            early, self._early = self._early, []
            return [self._reclaim(call) for call in early]
        if self._sender.torn_by is not None and not self.gone:
            return []
        calls: list[Call] = []
        others: list[bytes] = []
        packet = self._channel.take_back()
        while packet is not None:
            call = self._call_in(packet)
            if call is not None:
                calls.append(call)
            else:
                others.append(packet)
            packet = self._channel.take_back()
        if not self.gone:
            for other in others:
                self._channel.send(other)
        return calls

    def _call_in(self, packet: bytes) -> Call | None:
        for frame in unpack_packet(packet):
            if frame.kind == CALL:
                call = self.calls.get(frame.id)
                if call is not None:
                    if frame.flags & IN_SLAB and self._slab is not None:
                        # Written to the slab straight from buffers that its owner may have
                        # changed since: what the slab holds is the call as it was made. In one
                        # piece, for where the old ones ended cannot be told any more.
                        (size,) = SIZE.unpack(frame.payload)
                        call.body.chunks = [bytes(self._slab.view(size))]
                    self._sender.taken_back(call.id)
                    return self._reclaim(call)
        return None

    def _reclaim(self, call: Call) -> Call:
        self.calls.pop(call.id, None)
        call.worker = None
        call.sent_at = 0.0
        self._streaming = False
        return call

    # --- receiving -----------------------------------------------------------------------------

    def read_answers(self) -> None:
        """Handle the answers that have arrived already."""
        self._channel.read_all()

    def _on_frames(self, frames: list[Frame]) -> None:
        for frame in frames:
            kind = frame.kind
            if kind in (RESULT, ERROR):
                self._answer(frame)
            elif kind == PART:
                self._parts += frame.payload
            elif kind == ITEM:
                call = self.calls.get(frame.id)
                body = self._body(frame)
                stream = call.stream() if call is not None and call.stream is not None else None
                if call is not None:
                    call.retries = 0  # its consumer has had items that would come again
                if stream is not None:
                    stream.on_item(self, frame, body)
            elif kind == READY:
                self._on_ready()
            elif kind == BEGUN:
                self._listener.on_begun(self)
            elif kind == PROGRESS:
                self._progress(frame)
            elif kind in (LOG, WARN):
                from .reports import relay

                relay(kind, frame.payload)
            elif kind == SETUP_FAILED:
                self._listener.on_setup_failed(self, self.failure(self._body(frame)))
            elif kind == EXITING:
                self._body(frame)
                self.exit_request = Exit(
                    code=frame.extra, reason=f"ended itself by sys.exit({frame.extra})"
                )

    def _on_ready(self) -> None:
        self.ready = True
        self._sender.answered(0)
        early, self._early = self._early, []
        for number, call in enumerate(early):
            self._transmit(call, alone=number == 0)
        self._listener.on_ready(self)

    def _answer(self, frame: Frame) -> None:
        body = self._body(frame)  # may find that the frame is none: then the call is not answered
        call = self.calls.pop(frame.id, None)
        if call is None:
            return
        self._sender.answered(frame.id)
        self.answered += 1
        now = perf_counter()
        self.was_busy += now - self.moved_at
        self.moved_at = now
        self._streaming = False
        call.worker = None
        self._listener.on_answer(self, call, frame, body)

    def _body(self, frame: Frame) -> Any:
        if frame.flags & IN_PARTS:
            body, self._parts = self._parts, bytearray()
            return body
        if frame.flags & IN_SLAB and self._slab is not None:
            if len(frame.payload) != SIZE.size:
                raise ProtocolError("a message in shared memory tells no size")
            (size,) = SIZE.unpack(frame.payload)
            return self._slab.view(min(size, SLAB_SIZE))
        return frame.payload

    def value(self, frame: Frame, body: Any) -> Any:
        """The value of a RESULT or ITEM; raises whatever unpickling it raises."""
        return decode(body, frame.flags)

    def failure(self, body: Any) -> Exception:
        """The exception of an ERROR or SETUP_FAILED, ready to be raised."""
        from .._wire.failures import decode_failure

        return decode_failure(bytes(body))

    def _progress(self, frame: Frame) -> None:
        call = self.calls.get(frame.id)
        if call is not None and call.future is not None:
            from .reports import set_progress

            set_progress(call, frame.payload)

    def _on_end(self, error: ProtocolError | None) -> None:
        """No more answers will come; a kind that can tell why overrides this."""
        self._end(Exit(reason=f"sent what is no message ({error})" if error else None))

    def discard(self) -> None:
        """It could not be started: free what it holds."""
        self.gone = True
        self._channel.close()
        self._channel.close_worker_ends()
        if self._slab is not None:
            self._slab.close()

    # --- ending ----------------------------------------------------------------------------

    def _end(self, exit: Exit) -> None:
        if self.gone:
            return
        self._channel.read_all()
        self.gone = True
        untouched = self.take_back()
        self._channel.close()
        if self._slab is not None:
            self._slab.close()
        self._listener.on_gone(self, exit, untouched)

    @property
    def holds_memory(self) -> bool:
        return self._slab is not None and self._slab.dirty

    def give_back_memory(self) -> None:
        if self._slab is not None and not self.calls:
            self._slab.give_back()


def thread_clock(native_id: int | None) -> int | None:
    """The processor clock of a thread of this process; Linux makes their numbers like this."""
    return None if native_id is None or sys.platform != "linux" else (~native_id << 3) | 6

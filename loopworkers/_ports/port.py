"""`MessagePort`: the public end of a channel, awaited where a loop runs and blocking elsewhere."""

from __future__ import annotations

from _weakref import ref

from .._loop import is_running
from .._wire.handles import receiving, refuse, take, take_file
from .._wire.shield import unbroken
from .._wire.values import decode, is_plain, travellers
from .._wire.values import dumps as _dumps
from ..errors import PortClosed
from . import waiting
from .pipe import Pipe, socket_pair
from .waiting import READABLE, WRITABLE, Deadline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from typing import Any

    from .._wire.handles import Handles
    from .on_loop import LoopSide
    from .pipe import Outgoing


class MessagePort:
    """One end of a channel; what is sent into it is received at the other end, in order.

    Where an event loop runs, that is in the main program and in ``async def`` functions, `send`
    and `receive` are awaited and ``async for`` iterates. Elsewhere, in a plain ``def`` function of
    a worker or in a helper thread, the same methods block and ``for`` iterates (type checkers see
    that side as `BlockingPort`).

    Messages are pickled when they are sent, so later changes are not seen at the other end, and
    instances keep their class. Ports, shared memory and sockets may be parts of a message; a port
    moves, that is, it can no longer be used where it was.

    What was sent before a close arrives. When the other end has been closed, or the worker that
    had it has died, `receive` raises `PortClosed` after the last message and `send` does at once.
    """

    _may_move = True  # ports and sockets inside its messages
    _carries = False  # a message is just being made for it
    _peer: Callable[[], MessagePort | None] | None = None  # where it was made in this program

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._side: LoopSide | None = None
        self._spin: Any = waiting.new_spinner(pipe.look)

    def __init_subclass__(cls) -> None:
        travellers[cls] = MessagePort._reduce

    def __repr__(self) -> str:
        state = "closed" if self._pipe.closed else f"on descriptor {self._pipe.socket.fileno()}"
        return f"<{type(self).__name__} {state}>"

    # --- sending -------------------------------------------------------------------------

    def send(self, value: Any, *, transfer: Sequence[Any] = ()) -> Any:
        """Send ``value``; waits while the other end is slow and the channel full.

        Args:
            transfer: `SharedBuffer` and `memoryview` objects, `bytearray` objects and sockets
                inside ``value`` that are handed over: the sender can use them no more.

        Raises, at once:
            PortClosed: this end or the other one is closed.
            NotTransferable: a part of ``value`` cannot be sent; nothing was sent or moved.

        Cancelling it while it waits for room does not take the message back.
        """
        outgoing = self._send_now(value, transfer)
        if is_running():
            return self._loop_side().sent(outgoing)
        return self._until_sent(outgoing, Deadline(None))

    def _until_sent(self, outgoing: Outgoing | None, deadline: Deadline) -> None:
        while outgoing is not None and not outgoing.sent:
            if self._pipe.broken:
                raise PortClosed("the other end of the port was closed before it took the message")
            if not waiting.until(self._pipe.socket.fileno(), WRITABLE, deadline.left()):
                raise TimeoutError(f"there was no room for the message in {self!r} in time")
            self._pipe.flush()

    def _post(
        self, value: Any, deadline: Deadline | None = None, *, optional: bool = False
    ) -> None:
        """`send` for those who cannot wait on a loop: it sends later what finds no room now.

        ``optional``: unless the other end of the first port in it is closed by then.
        """
        outgoing = self._send_now(value, ())
        if outgoing is None:
            return
        outgoing.optional = optional
        self._pipe.drop_unwanted()
        if is_running():
            self._loop_side().flush_later()
        else:
            self._until_sent(outgoing, deadline or Deadline(None))

    def _send_now(self, value: Any, transfer: Sequence[Any]) -> Outgoing | None:
        pipe = self._pipe
        if pipe.closed:
            raise PortClosed("this port is closed, or was moved elsewhere")
        if not transfer and is_plain(value):
            flags, chunks, handles = 0, [_dumps(value, 5)], None
        else:
            from .transfer import encode_message

            self._carries = True
            try:
                encoded = encode_message(value, transfer, self._may_move)
            finally:
                self._carries = False
            flags, chunks, handles = encoded.flags, encoded.chunks, encoded.handles
        moves = handles.take_moves() if handles is not None else ()
        try:
            outgoing: Outgoing | None = pipe.send(flags, chunks, handles)
        except BrokenPipeError:
            raise PortClosed("the other end of the port is closed") from None
        for move in moves:
            move()
        if transfer:
            from .transfer import hand_over

            hand_over(transfer)
        return outgoing

    # --- receiving -----------------------------------------------------------------------

    def receive(self, timeout: float | None = None) -> Any:
        """The next message.

        Args:
            timeout: seconds after which TimeoutError is raised; None waits for ever.

        Raises PortClosed when the other end is closed and all it sent was received. An exception
        that unpickling a message raises is raised here, and the next message can be received.
        Cancelling it loses no message.
        """
        if self._pipe.closed:
            raise PortClosed("this port is closed, or was moved elsewhere")
        if is_running():
            return self._receive_on_loop(timeout)
        return _decode(self._take(Deadline(timeout)))

    async def _receive_on_loop(self, timeout: float | None) -> Any:
        side = self._loop_side()
        if timeout is None:
            return _decode(await side.receive())
        from anyio import fail_after

        with fail_after(timeout):
            message = await side.receive()
        return _decode(message)

    def _take(self, deadline: Deadline) -> Any:
        # One thread at a time waits for the socket: another would sleep on, in poll, beside a
        # message that the first one has taken out of it together with its own.
        left = deadline.left()
        if not self._pipe.turn.acquire(timeout=-1 if left is None else left):
            raise TimeoutError(f"no message came to {self!r} in time")
        try:
            return self._take_next(deadline)
        finally:
            self._pipe.turn.release()
            if self._pipe.closing:
                self._pipe.close()

    def _take_next(self, deadline: Deadline) -> Any:
        pipe = self._pipe
        while not pipe.inbox:
            pipe.fill()
            if pipe.inbox:
                break
            if pipe.ended:
                raise pipe.end_of_messages()
            timeout = deadline.left()
            if timeout is None and self._spin is not None:
                waiting.counted(self._spin.receive)
            elif not waiting.until(pipe.socket.fileno(), READABLE, timeout):
                raise TimeoutError(f"no message came to {self!r} in time")
        message = pipe.inbox.popleft()
        side = self._side
        if pipe.inbox and side is not None and side.is_waited_for and not side.is_here():
            side.call_soon_threadsafe(side.wake_reader)
        return message

    def receive_nowait(self) -> Any:
        """The next message if it is there; raises `BlockingIOError` if none is."""
        pipe = self._pipe
        if not pipe.inbox:
            if pipe.closed:
                raise PortClosed("this port is closed, or was moved elsewhere")
            pipe.fill()
        if not pipe.inbox:
            if pipe.ended:
                raise pipe.end_of_messages()
            raise BlockingIOError("no message has come")
        return _decode(pipe.inbox.popleft())

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except PortClosed:
            raise StopAsyncIteration from None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return _decode(self._take(Deadline(None)))
        except PortClosed:
            raise StopIteration from None

    # --- the end -------------------------------------------------------------------------

    def close(self) -> None:
        """Close this end; what it has sent still arrives. Closing it again does nothing."""
        side = self._side
        if side is not None and not side.is_here() and not self._pipe.is_forked:
            # Its loop runs in another thread, or has ended: who waits there is told by that loop.
            self._pipe.shut_down()
            try:
                side.call_soon_threadsafe(self._close)
                return
            except RuntimeError:  # trio.RunFinishedError is one, too
                pass
        self._close()

    def _close(self) -> None:
        self._leave_loop()
        self._pipe.closing = True
        self._pipe.shut_down()
        if not self._pipe.turn.locked():
            self._pipe.close()
        # Else a thread is about to wait for the descriptor, whose number must not be used again
        # before it has woken; it closes.

    def __enter__(self) -> MessagePort:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> MessagePort:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            self.close()
        except Exception:  # the loop is over
            pass

    @property
    def closed(self) -> bool:
        """Whether this end was closed or moved."""
        return self._pipe.closed or self._pipe.closing

    # --- the loop it is used on ----------------------------------------------------------

    def _loop_side(self) -> LoopSide:
        side = self._side
        if side is None or not side.is_here():
            from .on_loop import LoopSide

            if side is not None and side.is_waited_for:
                raise RuntimeError(f"{self!r} is in use by tasks of another event loop")
            self._leave_loop()
            side = self._side = LoopSide(self._pipe)
        return side

    def _leave_loop(self) -> None:
        side, self._side = self._side, None
        if side is not None and not self._pipe.is_forked:  # the loop's epoll is the parent's too
            try:
                side.close()
            except Exception:  # that loop is closed
                pass

    # --- moving --------------------------------------------------------------------------

    def _reduce(self, handles: Handles) -> Any:
        pipe = self._pipe
        if pipe.closed:
            raise PortClosed("a port that is closed, or was moved elsewhere, cannot be sent")
        if self._carries or (self._peer is not None and getattr(self._peer(), "_carries", False)):
            raise ValueError("a port cannot be sent through its own channel")
        waited_for = self._side is not None and self._side.is_waited_for
        if waited_for or pipe.turn.locked():
            raise ValueError(f"{self!r} cannot be moved while somebody waits for it")
        if pipe.is_sending:
            raise ValueError(f"{self!r} cannot be moved: messages still wait for room in it")
        number = handles.add(pipe.socket.fileno(), self._moved)
        unread, files = pipe.unread()
        numbers = [handles.add(file.fileno()) for file in files]
        return _rebuild, (type(self), self._state(), number, unread, numbers)

    def _state(self) -> dict[str, Any]:
        """The attributes, beside its messages, that it has where it arrives."""
        return {}

    def _moved(self) -> None:
        self._leave_loop()
        self._pipe.detach()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return refuse(self)


travellers[MessagePort] = MessagePort._reduce


if TYPE_CHECKING:

    class BlockingPort(MessagePort):
        """A `MessagePort` as it is where no event loop runs."""

        def send(self, value: Any, *, transfer: Sequence[Any] = ()) -> None: ...
        def receive(self, timeout: float | None = None) -> Any: ...

else:
    BlockingPort = MessagePort


@unbroken
def _rebuild(
    cls: type[MessagePort], state: dict[str, Any], number: int, unread: bytes, numbers: list[int]
) -> MessagePort:
    import _socket

    pipe = Pipe(_socket.socket(fileno=take(number)))
    pipe.take_over(unread, [take_file(each) for each in numbers])
    port = cls.__new__(cls)
    MessagePort.__init__(port, pipe)
    port.__dict__.update(state)
    return port


def _decode(message: Any) -> Any:
    flags, body, files = message
    if files:
        with receiving(files):
            return decode(body, flags)
    return decode(body, flags)


def channel(capacity: int | None = None) -> tuple[MessagePort, MessagePort]:
    """Two ports, connected to each other; either can be sent to a worker.

    Args:
        capacity: about how many bytes may be under way in each direction before `send` waits;
            None leaves it to the system (some 200 KiB on Linux). A message may be larger than
            that: it is then sent while it is received.
    """
    if capacity is not None and not 1 <= capacity < 1 << 31:
        raise ValueError(f"capacity must be from 1 byte to 2 GiB, not {capacity}")
    first, second = (MessagePort(Pipe(end)) for end in socket_pair(capacity))
    first._peer, second._peer = ref(second), ref(first)
    return first, second

"""`SharedLock`: one holder at a time, among all kinds of workers, that outlives its holders.

The lock is one packet, kept in a pair of sockets that all its users have: FREE, or HELD with a
descriptor of the holder's lifeline. A lifeline is at its end when the holder has released the lock
or is gone, and that is what the others wait for. The packet is only taken and put back under a
`Guard`; if it is missing, somebody died in between.
"""

from __future__ import annotations

import _socket

from .._loop import is_running
from .._ports.waiting import Deadline
from .._wire.handles import refuse, take, take_file
from .._wire.shield import unbroken
from .._wire.values import travellers
from .guard import Guard, anonymous_file, tell_of_fork
from .sockets import PEEK, Socket, at_end, get, pair, put, wait_readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._wire.file import File
    from .._wire.handles import Handles

_FREE, _HELD = b"free", b"held"


class SharedLock:
    """A lock as `threading.Lock`, usable by the main program and every kind of worker at once.

    Sent to a worker it is the same lock there. ``with`` blocks; where a loop runs use ``async
    with`` and ``await lock.acquire()``. It is not reentrant, and not fair.

    A holder that dies, or whose call is stopped, gives the lock up. Who gets it then finds
    ``torn`` true: what the lock protects may be half changed. A child that the program forks
    does not hold what its parent does.

    Acquiring and releasing take some ten microseconds each; for single numbers `AtomicInt64` is
    faster.
    """

    def __init__(self) -> None:
        file = anonymous_file()
        self._open(file, pair(_socket.SOCK_SEQPACKET))
        put(self._ends[0], _FREE)

    def _open(self, file: File, ends: tuple[Socket, Socket]) -> None:
        self._file = file
        self._ends = ends
        self._guard = Guard(file.fileno())
        self._lifeline: Socket | None = None
        #: For the holder: the one before died with the lock in its hands.
        self.torn = False
        tell_of_fork(self)

    def _forked(self) -> None:
        # Not even a copy is kept: the lock ends with its holder, not with the holder's children.
        if self._lifeline is not None:
            self._lifeline.close()
            self._lifeline = None
            self.torn = False

    def acquire(self, timeout: float | None = None) -> Any:
        """Get the lock; awaited where a loop runs.

        Gives False when ``timeout`` seconds have passed; 0 tries once. Cancelling it leaves the
        lock to others.
        """
        if is_running():
            return self._acquire_on_loop(Deadline(timeout))
        deadline = Deadline(timeout)
        while (holder := self._try()) is not None:
            if not wait_readable(holder, deadline.left()):
                return False
        return True

    async def _acquire_on_loop(self, deadline: Deadline) -> bool:
        while (holder := self._try()) is not None:
            if not await wait_readable(holder, deadline.left()):
                return False
        return True

    def _try(self) -> Socket | None:
        """Take the lock, or give the lifeline of who has it."""
        with self._guard:
            # It stays there while somebody holds the lock: who looks and is killed takes nothing.
            packet = get(self._ends[1], PEEK)
            lifeline = packet[1] if packet is not None else None
            if lifeline is not None and not at_end(lifeline):
                return lifeline
            torn = packet is None or packet[0] == _HELD
            ours, others = pair()
            get(self._ends[1])
            # First: from here on it is ours whatever happens, and can be seen to end.
            self._lifeline, self.torn = ours, torn
            put(self._ends[0], _HELD, others)
        return None

    def release(self) -> None:
        """Give the lock up; RuntimeError if this object does not hold it."""
        with self._guard:
            if self._lifeline is None:
                raise RuntimeError("release of a SharedLock that was not acquired by this object")
            lifeline, self._lifeline = self._lifeline, None
            get(self._ends[1])
            put(self._ends[0], _FREE)
            self.torn = False
        lifeline.shutdown(_socket.SHUT_RDWR)  # a fork may have kept a copy
        lifeline.close()

    def locked(self) -> bool:
        """Whether somebody holds it at this moment."""
        with self._guard:
            packet = get(self._ends[1], PEEK)
            if packet is None:
                return False
            lifeline = packet[1]
        return lifeline is not None and not at_end(lifeline)

    def __enter__(self) -> SharedLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    async def __aenter__(self) -> SharedLock:
        await self.acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()

    def _reduce(self, handles: Handles) -> Any:
        ends = [handles.add(end.fileno()) for end in self._ends]
        return _rebuild, (handles.add(self._file.fileno()), *ends)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return refuse(self)


travellers[SharedLock] = SharedLock._reduce


@unbroken
def _rebuild(number: int, *ends: int) -> SharedLock:
    lock = SharedLock.__new__(SharedLock)
    first, second = [Socket(fileno=take(end)) for end in ends]
    lock._open(take_file(number), (first, second))
    return lock

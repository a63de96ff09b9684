"""`AtomicInt64`: one number in shared memory, changed by one worker at a time."""

from __future__ import annotations

from .._loop import is_running
from ..errors import LoopworkersError
from .sockets import DONTWAIT, Socket, get, pair, put, wait_readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .buffer import SharedBuffer


class AtomicInt64:
    """The ``index``-th 64-bit signed integer of a `SharedBuffer`, in the machine's byte order.

    Args:
        buffer: the memory; everybody who has it can make an `AtomicInt64` on the same place.
        index: which integer; its bytes are ``8 * index`` to ``8 * index + 7``.

    Every method is one step for all that use these methods, and takes 1 to 2 microseconds. Sums
    wrap around. A worker that is killed in the middle of one leaves the old value or the new one,
    and keeps nobody out.
    """

    def __init__(self, buffer: SharedBuffer, index: int = 0) -> None:
        if not 0 <= index < len(buffer._cells):
            raise IndexError(f"a buffer of {buffer.size} bytes has no integer number {index}")
        self._buffer = buffer
        self._index = index
        self._guard = buffer.guard

    def load(self) -> int:
        """The value."""
        return self._buffer._cells[self._index]

    def store(self, value: int) -> None:
        """Set the value."""
        with self._guard:
            self._buffer._cells[self._index] = value

    def add(self, number: int = 1) -> int:
        """Add ``number``; the value before."""
        with self._guard:
            old = self._buffer._cells[self._index]
            self._buffer._cells[self._index] = (old + number + (1 << 63)) % (1 << 64) - (1 << 63)
        return old

    def exchange(self, value: int) -> int:
        """Set the value; the one before."""
        with self._guard:
            old = self._buffer._cells[self._index]
            self._buffer._cells[self._index] = value
        return old

    def compare_exchange(self, expected: int, new: int) -> bool:
        """Set the value to ``new`` if it is ``expected``; whether it was."""
        with self._guard:
            if self._buffer._cells[self._index] != expected:
                return False
            self._buffer._cells[self._index] = new
        return True

    # --- waiting ---------------------------------------------------------------------------

    def wait(self, value: int, timeout: float | None = None) -> Any:
        """Wait for a `notify` as long as the value is ``value``; awaited where a loop runs.

        Gives True when it was notified, or at once when the value is another; False when
        ``timeout`` seconds have passed.
        """
        bell = self._enqueue(value)
        if is_running():
            return self._wait_on_loop(bell, timeout)
        return bell is None or wait_readable(bell, timeout) or self._rang(bell)

    async def _wait_on_loop(self, bell: Socket | None, timeout: float | None) -> bool:
        if bell is None:
            return True
        try:
            return await wait_readable(bell, timeout) or self._rang(bell)
        except BaseException:
            # Cancelled in the moment it was notified: the notification is the next one's.
            if self._rang(bell):
                bell.close()
                self.notify(1)
            raise

    def _enqueue(self, value: int) -> Socket | None:
        with self._guard:
            if self._buffer._cells[self._index] != value:
                return None
            bell, button = pair()
            name = str(self._index).encode()
            try:
                put(self._buffer._waiters[0], name, button)
            except BlockingIOError:
                # Full: mostly of waiters that gave up or died.
                self._requeue([w for w in self._dequeue() if not _is_dead(w[1])])
                try:
                    put(self._buffer._waiters[0], name, button)
                except BlockingIOError:
                    raise LoopworkersError(
                        "too many wait for the numbers of one SharedBuffer (some 270 can)"
                    ) from None
        return bell

    def _rang(self, bell: Socket) -> bool:
        # Under the guard nobody is about to notify it: what is not there now will not come.
        with self._guard:
            try:
                return bool(bell.recv(1, DONTWAIT))
            except BlockingIOError:
                bell.close()
                return False

    def notify(self, number: int | None = None) -> int:
        """Wake ``number`` of those who wait (None: all), the longest waiting first; how many."""
        woken = 0
        with self._guard:
            others: list[tuple[bytes, Socket]] = []
            for name, button in self._dequeue():
                if int(name) != self._index or (number is not None and woken >= number):
                    others.append((name, button))
                    continue
                try:
                    button.send(b"!", DONTWAIT)
                    woken += 1
                except OSError:
                    pass  # it has given up, or died
            self._requeue(others)
        return woken

    def _dequeue(self) -> list[tuple[bytes, Socket]]:
        found: list[tuple[bytes, Socket]] = []
        while (packet := get(self._buffer._waiters[1])) is not None:
            name, button = packet
            if button is not None:
                found.append((name, button))
        return found

    def _requeue(self, waiters: list[tuple[bytes, Socket]]) -> None:
        for name, button in waiters:
            put(self._buffer._waiters[0], name, button)


def _is_dead(button: Socket) -> bool:
    try:
        return not button.recv(1, DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True

"""`SharedEvent`: a flag that many wait for."""

from __future__ import annotations

from .._loop import is_running
from .._wire.handles import refuse, take
from .._wire.shield import unbroken
from .._wire.values import travellers
from .sockets import DONTWAIT, PEEK, Socket, copy_of, pair, wait_readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._wire.handles import Handles


class SharedEvent:
    """A flag as `threading.Event`, usable by the main program and every kind of worker at once.

    Sent to a worker it is the same flag there. It is a byte in a socket: set while there is one.
    """

    def __init__(self) -> None:
        self._ends = pair()

    def set(self) -> None:
        """Set the flag and wake all who wait for it."""
        if not self.is_set():
            self._ends[0].send(b"!", DONTWAIT)

    def clear(self) -> None:
        """Take the flag down."""
        try:
            while self._ends[1].recv(4096, DONTWAIT):
                pass
        except BlockingIOError:  # nothing is left in it
            pass

    def is_set(self) -> bool:
        try:
            return bool(self._ends[1].recv(1, PEEK | DONTWAIT))
        except BlockingIOError:
            return False

    def wait(self, timeout: float | None = None) -> Any:
        """Wait until the flag is set; awaited where a loop runs.

        Gives False when ``timeout`` seconds have passed and it was not.
        """
        end = self._ends[1]
        if is_running():
            # Of its own: a loop lets one task wait for a descriptor.
            end = copy_of(end)
        return wait_readable(end, timeout)

    def _reduce(self, handles: Handles) -> Any:
        return _rebuild, tuple(handles.add(end.fileno()) for end in self._ends)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return refuse(self)


travellers[SharedEvent] = SharedEvent._reduce


@unbroken
def _rebuild(*ends: int) -> SharedEvent:
    event = SharedEvent.__new__(SharedEvent)
    first, second = [Socket(fileno=take(end)) for end in ends]
    event._ends = (first, second)
    return event

"""`Broadcast`: from one to all others of a name, wherever they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._child.resident import post_to_parent
from ._ports.pipe import Pipe, socket_pair
from ._ports.port import MessagePort

if TYPE_CHECKING:
    from collections.abc import Sequence


class Broadcast(MessagePort):
    """A member of a name: what it sends all other members receive, and it never does.

    Args:
        name: any text; the program, its `Worker`s and their workers are one family, in which those
            who use the same name are members.

    Used as a `MessagePort`, awaited where an event loop runs and blocking elsewhere. It hears what
    is sent after it was made; in a worker's worker a little later. A member that does not read
    misses messages, counted in ``missed``, rather than holding up the others. A message can carry
    shared memory; ports and sockets, which move, are refused.

    In the main program it belongs to the event loop that runs, and RuntimeError is raised where
    none does.
    """

    _may_move = False
    _missed_before = 0  # it was moved

    def __init__(self, name: str) -> None:
        ours, theirs = socket_pair(None)
        super().__init__(Pipe(ours))
        self.name = name
        member = MessagePort(Pipe(theirs))
        post = post_to_parent()
        if post is not None:
            post._post(("join", name, member))
        else:
            from ._hub import hub_here

            hub_here().join(name, member)

    @property
    def missed(self) -> int:
        """How many messages it has missed because it did not read in time."""
        return self._missed_before + self._pipe.missed

    def send(self, value: Any, *, transfer: Sequence[Any] = ()) -> Any:
        """Send ``value`` to all other members; see `MessagePort.send`."""
        return super().send(value, transfer=transfer)

    def _state(self) -> dict[str, Any]:
        return {"name": self.name, "_missed_before": self.missed}

    def __repr__(self) -> str:
        return f"<Broadcast {self.name!r}{', closed' if self.closed else ''}>"

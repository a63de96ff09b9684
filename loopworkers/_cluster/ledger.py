"""Numbers that a worker keeps in shared memory, where its primary reads them without asking.

One writer each, so nothing has to be locked: a reader sees an old value or the new one.
"""

from __future__ import annotations

from .._shared.buffer import SharedBuffer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_GIVEN, _TAKEN, _CLOSED, _SERVED, _WANTED, _OVER = range(6)


class Ledger:
    """Made by the primary, sent to the worker.

    Attributes:
        given: connections that the primary has handed over to it. Counted before they are, so that
            there are never more of them than this tells.
        taken: connections that the worker has accepted from those handed over to it.
        closed: how many of them it has closed again.
        served: requests that it has told of.
        wanted: set by the primary, which waits for a change; the worker tells it and unsets it.
        over: set by the primary when it ends the worker by force, which takes some time where it is
            done by an exception: whatever is accepted meanwhile would be lost.
    """

    def __init__(self, buffer: SharedBuffer | None = None) -> None:
        self.buffer = buffer or SharedBuffer(6 * 8)
        self._cells: Any = self.buffer._cells

    @property
    def given(self) -> int:
        return self._cells[_GIVEN]  # type: ignore[no-any-return]

    @given.setter
    def given(self, value: int) -> None:
        self._cells[_GIVEN] = value

    @property
    def untaken(self) -> int:
        return self._cells[_GIVEN] - self._cells[_TAKEN]  # type: ignore[no-any-return]

    @property
    def taken(self) -> int:
        return self._cells[_TAKEN]  # type: ignore[no-any-return]

    @property
    def open(self) -> int:
        return self._cells[_TAKEN] - self._cells[_CLOSED]  # type: ignore[no-any-return]

    @property
    def load(self) -> int:
        """Connections that it has, taken or not."""
        return self._cells[_GIVEN] - self._cells[_CLOSED]  # type: ignore[no-any-return]

    def has_room(self, credit: int, most: int) -> bool:
        """For one more, with at most ``credit`` untaken and ``most`` in all."""
        cells = self._cells
        given = cells[_GIVEN]
        return bool(given - cells[_TAKEN] < credit and given - cells[_CLOSED] < most)

    @property
    def served(self) -> int:
        return self._cells[_SERVED]  # type: ignore[no-any-return]

    @property
    def wanted(self) -> bool:
        return bool(self._cells[_WANTED])

    @wanted.setter
    def wanted(self, value: bool) -> None:
        self._cells[_WANTED] = value

    @property
    def over(self) -> bool:
        return bool(self._cells[_OVER])

    @over.setter
    def over(self, value: bool) -> None:
        self._cells[_OVER] = value

    def took(self) -> None:
        self._cells[_TAKEN] += 1

    def closed(self) -> None:
        self._cells[_CLOSED] += 1

    def count(self, requests: int) -> None:
        self._cells[_SERVED] += requests

    def close(self) -> None:
        """Keep what was last read, and let go of the memory."""
        self._cells = self._cells.tolist()
        self.buffer.close()

    def __reduce__(self) -> Any:
        return Ledger, (self.buffer,)

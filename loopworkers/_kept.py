"""What workers are started from stays, once there was one, until its loop ends.

To start the forkserver takes longer than to start the process from it, and to make an isolate
longer than to put it to work. A pool keeps that as long as it is open; a program that has one
`Worker` after the other would start from nothing each time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ._registry import register

if TYPE_CHECKING:
    from ._loop import Loop
    from ._workers.base import Worker
    from ._workers.settings import Settings

_kept: WeakKeyDictionary[Any, dict[type[Worker], Settings]] = WeakKeyDictionary()


def keep(loop: Loop, type: type[Worker], settings: Settings) -> None:
    """Have what workers of this type and settings share ready until the loop ends.

    Raises what starting it raises.
    """
    kept = _kept.get(loop.key)
    if kept is None:
        kept = _kept[loop.key] = {}
        register(loop, _Keeper(kept))
    if type not in kept:
        type.prepare(settings)
        kept[type] = settings


class _Keeper:
    def __init__(self, kept: dict[type[Worker], Settings]) -> None:
        self._kept = kept
        self._pid = os.getpid()

    def _abort(self) -> None:
        while self._kept:
            type, settings = self._kept.popitem()
            if self._pid == os.getpid():
                type.release(settings)

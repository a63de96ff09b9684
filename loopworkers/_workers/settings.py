"""What a worker is told about its parent: import path, folder, log level, initializer."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from .._child import setup as _own_setup
from .._wire.values import Encoded, by_value, encode, find_culprit
from ..errors import NotTransferable

if TYPE_CHECKING:
    from .identity import Identity


Surroundings = tuple[tuple[str, ...], str | None]


class Settings:
    """The surroundings of a pool's workers, and how each is set up.

    A call carries the surroundings it was made in, and a worker is told of them before it
    when they are not those it knows.
    """

    def __init__(
        self,
        *,
        kind: str,
        initializer: Any,
        initargs: tuple[Any, ...],
        preload: tuple[str, ...],
        memory_limit: int | None,
        identity: Identity | None = None,
    ) -> None:
        self._fixed = {
            "initializer": initializer,
            "initargs": initargs,
            "preload": preload,
            "memory_limit": memory_limit,
            "identity": None if identity is None else identity.told(),
        }
        self.identity = identity
        self.preload = preload
        # Isolates share the folder of this process, threads its path as well.
        self._watches_folder = kind == "process"
        self._watches_path = kind != "thread"
        self._path: list[str] = []
        self._now: Surroundings = ((), None)

    def surroundings(self) -> Surroundings:
        """``sys.path`` and the working folder now; the same object while they do not change."""
        folder = None
        if self._watches_folder:
            try:
                folder = os.getcwd()
            except OSError:
                pass  # it was removed
        if folder != self._now[1] or (self._watches_path and sys.path != self._path):
            self._path = list(sys.path)
            self._now = (tuple(self._path), folder)
        return self._now

    def encoded(self, surroundings: Surroundings, first: bool) -> Encoded:
        told: dict[str, Any] = {}
        if self._watches_path:
            told["path"], told["folder"] = surroundings
        if first and self._watches_path:
            told |= self._fixed
            told["depth"] = _own_setup.depth + 1
            told["log_level"] = _lowest_log_level()
        return encode(told, by_value)

    def check(self) -> None:
        """Raise NotTransferable, when the pool opens, if the initializer cannot be sent."""
        if self._fixed["initializer"] is None or not self._watches_path:
            return
        for name in ("initializer", "initargs"):
            try:
                encode(self._fixed[name], by_value)
            except Exception as error:
                culprit = find_culprit(self._fixed[name], name)
                raise NotTransferable(
                    f"cannot send the pool's {culprit} to a worker: {error!r}"
                ) from error

    def for_thread(self) -> dict[str, Any]:
        return self._fixed


def _lowest_log_level() -> int:
    """The least severe record that any logger of this program would take."""
    logging = sys.modules.get("logging")
    if logging is None:
        return 30  # WARNING, logging's own default
    levels: list[int] = [logging.root.level]
    for logger in list(logging.root.manager.loggerDict.values()):
        level = getattr(logger, "level", 0)
        if level:
            levels.append(level)
    return min(levels)

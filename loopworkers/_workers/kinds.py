"""The worker type of each kind."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ..errors import IsolateUnsupported

if TYPE_CHECKING:
    from .base import Worker


def worker_type(kind: str) -> type[Worker]:
    """Raises ValueError for an unknown kind, IsolateUnsupported where there are no isolates."""
    if kind == "process":
        from .process import ProcessWorker

        return ProcessWorker
    if kind == "isolate":
        _require_isolates()
        from .isolate import IsolateWorker

        return IsolateWorker
    if kind == "thread":
        from .thread import ThreadWorker

        return ThreadWorker
    raise ValueError(f'kind must be "process", "isolate" or "thread", not {kind!r}')


def _require_isolates() -> None:
    if sys.version_info < (3, 14) or sys.implementation.name != "cpython":
        version = ".".join(map(str, sys.version_info[:3]))
        raise IsolateUnsupported(
            f"isolates need CPython 3.14 or newer, this is {sys.implementation.name} {version}; "
            'use kind="process"'
        )

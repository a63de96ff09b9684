"""Tells which source file changed, for ``--reload``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

# Editors save at human speed, and a look at a thousand files takes some milliseconds.
_LOOK_EVERY = 0.5
_SKIPPED = {"__pycache__", "node_modules", "site-packages"}


def _stamps(folders: Sequence[str]) -> dict[str, int]:
    stamps: dict[str, int] = {}
    for folder in folders:
        for root, names, files in os.walk(folder):
            names[:] = [n for n in names if n not in _SKIPPED and not n.startswith(".")]
            for file in files:
                if file.endswith(".py"):
                    path = os.path.join(root, file)
                    try:
                        stamps[path] = os.stat(path).st_mtime_ns
                    except OSError:
                        pass  # just removed
    return stamps


async def changes(folders: Sequence[str]) -> AsyncIterator[str]:
    """Yields a path whenever a Python file below ``folders`` was written, added or removed."""
    before = await anyio.to_thread.run_sync(_stamps, folders)
    while True:
        await anyio.sleep(_LOOK_EVERY)
        now = await anyio.to_thread.run_sync(_stamps, folders)
        changed = sorted(path for path, _ in now.items() ^ before.items())
        before = now
        if changed:
            yield changed[0]

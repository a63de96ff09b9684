"""Makes a worker look like its parent: import path, folder, logs; preload and initializer."""

from __future__ import annotations

import os
import sys

from .reports import forward_logs, forward_warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

depth = 0  # how many pools this interpreter is inside of


class Setup:
    """Applies SETUP messages. The first one readies the worker, later ones adjust it."""

    def __init__(self, *, own_folder: bool, own_streams: bool) -> None:
        self._own_folder = own_folder  # an isolate shares its process's working folder
        self._own_streams = own_streams  # a thread shares everything
        self.done = False
        self._memory_limit: int | None = None

    def apply(self, link: Any, settings: dict[str, Any]) -> None:
        if "path" in settings:
            sys.path[:] = settings["path"]
            sys.path_importer_cache.clear()
        if self._own_folder and settings.get("folder") is not None:
            try:
                os.chdir(settings["folder"])
            except OSError:
                # The parent's folder may be gone by now; it is where the parent still is.
                pass
        if self.done:
            return
        if self._own_streams:
            global depth
            depth = settings["depth"]
            _line_buffered(sys.stdout)
            _line_buffered(sys.stderr)
            forward_logs(link, settings["log_level"])
            forward_warnings(link)
        identity = settings.get("identity")
        if identity is not None and self._own_streams:
            from .resident import introduce

            introduce(identity)
        self._memory_limit = settings["memory_limit"]
        for module in settings["preload"]:
            __import__(module)
        initializer = settings["initializer"]
        if initializer is not None:
            initializer(*settings["initargs"])
        self.done = True

    def is_over_memory_limit(self) -> bool:
        return self._memory_limit is not None and resident_memory() > self._memory_limit

    def flush(self) -> None:
        # What a call printed is out before its caller goes on.
        if self._own_streams:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except (AttributeError, OSError, ValueError):
                    pass  # closed, replaced or gone: printing is not worth failing a call


def _line_buffered(stream: Any) -> None:
    # Block buffering would lose the last lines of a worker that is killed.
    if hasattr(stream, "reconfigure"):
        # Unbuffered, the pieces of one print() would mix with those of other workers.
        stream.reconfigure(line_buffering=True, write_through=False)


def resident_memory(pid: int | None = None) -> int:
    """Bytes a process, by default this one, holds in memory.

    Where that cannot be read, the most that this one ever held.
    """
    try:
        with open(f"/proc/{pid or 'self'}/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        try:
            import resource
        except ImportError:  # Windows tells only by ctypes, and no worker is worth that
            return 0
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

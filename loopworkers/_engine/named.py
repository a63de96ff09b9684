"""The engine that the ``kind`` of a pool means."""

from __future__ import annotations

from concurrent.futures import Executor
from importlib.metadata import entry_points
from typing import Any

from .engine import Engine

GROUP = "loopworkers.engines"


def engine_of(kind: Any) -> Engine:
    """The engine itself, or a new one of the package that is installed for this name."""
    if isinstance(kind, Engine):
        return kind
    if isinstance(kind, Executor):
        raise TypeError(f"an executor becomes an engine by ExecutorEngine(executor): {kind!r}")
    installed = {entry.name: entry for entry in entry_points(group=GROUP)}
    if kind in installed:
        engine = installed[kind].load()()
        if not isinstance(engine, Engine):
            raise TypeError(f"what is installed as engine {kind!r} made {engine!r}, which is none")
        return engine
    known = f"the installed {', '.join(sorted(installed))}" if installed else "none is installed"
    raise ValueError(
        f'kind must be "process", "isolate" or "thread", or an engine ({known}), not {kind!r}'
        + ("; pip install loopworkers-dask" if kind == "dask" else "")
    )
